"""The data sets of MMEB: their names, where they are read from, their candidates, and the averages over them."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from zoo import data
from zoo.core.errors import DataError, ZooError
from zoo.evaluation.mmeb_sets import METAS, SETS
from zoo.evaluation.tasks import mmeb
from zoo.evaluation.tasks.mmeb import Mmeb, average

IN_DISTRIBUTION = """
    ImageNet-1K N24News HatefulMemes VOC2007 SUN397 OK-VQA A-OKVQA DocVQA InfographicsVQA ChartQA Visual7W VisDial CIRR
    VisualNews_t2i VisualNews_i2t MSCOCO_t2i MSCOCO_i2t NIGHTS WebQA MSCOCO
"""
OUT_OF_DISTRIBUTION = """
    Place365 ImageNet-A ImageNet-R ObjectNet Country211 ScienceQA VizWiz GQA TextVQA FashionIQ Wiki-SS-NQ OVEN EDIS RefCOCO
    RefCOCO-Matching Visual7W-Pointing
"""


def test_the_sets_have_the_names_of_the_hubs_configs():
    assert [name for name, group in SETS.items() if group.trained] == IN_DISTRIBUTION.split()
    assert [name for name, group in SETS.items() if not group.trained] == OUT_OF_DISTRIBUTION.split()
    assert METAS == ("Classification", "VQA", "Retrieval", "Grounding")


def test_a_section_stands_for_one_task_a_set():
    tasks = Mmeb(task="mmeb", sets=("GQA", "CIRR"), limit=3, name="Mine").expand()
    assert [(task.name, task.sets, task.limit) for task in tasks] == [
        ("Mine GQA", ("GQA",), 3),
        ("Mine CIRR", ("CIRR",), 3),
    ]
    assert [task.name for task in Mmeb(task="mmeb").expand()] == [f"MMEB {name}" for name in SETS]


def test_the_data_comes_from_the_hub_at_the_revision_of_the_recipe(monkeypatch, tmp_path):
    sources = []
    monkeypatch.setattr(data, "read", lambda source, *roles, folder: sources.append((source, *roles, folder)))
    (task,) = Mmeb(task="mmeb", sets=("GQA",), revision="c0ffee", limit=5, images="elsewhere").expand()
    assert list(task.read_tables(tmp_path)) == ["data"]
    ((source, required, optional, folder),) = sources
    assert (source.source, source.name, source.config, source.split) == ("hub", "TIGER-Lab/MMEB-eval", "GQA", "test")
    assert (source.revision, source.limit, source.images, folder) == ("c0ffee", 5, "elsewhere", tmp_path)
    assert required == {"tgt_text": "captions"}
    assert optional == {
        "qry_text": "caption",
        "qry_inst": "caption",
        "tgt_inst": "caption",
        "qry_img_path": "pictures",
        "tgt_img_path": "pictures",
    }


@pytest.mark.parametrize("has_images", [True, False])
def test_a_folder_holds_a_table_or_a_folder_of_each_set_and_the_images(monkeypatch, tmp_path, has_images):
    sources = []
    monkeypatch.setattr(data, "read", lambda source, *roles, folder: sources.append(source))
    base = tmp_path / "mmeb"
    (base / "CIRR").mkdir(parents=True)
    for name in ("GQA.parquet", "GQA.txt", "EDIS.csv", "EDIS.jsonl"):
        (base / name).touch()
    if has_images:
        (base / "images").mkdir()
    for task in Mmeb(task="mmeb", sets=("GQA", "CIRR"), folder="mmeb", limit=2).expand():
        task.read_tables(tmp_path)
    assert [source.path for source in sources] == [str(base / "GQA.parquet"), str(base / "CIRR")]
    assert {source.images for source in sources} == {str(base / "images" if has_images else base)}
    assert {source.limit for source in sources} == {2}
    Mmeb(task="mmeb", sets=("GQA",), folder=str(base), images="mine").read_tables(tmp_path)
    assert sources[-1].images == "mine"
    for name, words in (
        ("EDIS", r"holds EDIS\.csv and EDIS\.jsonl for EDIS"),
        ("OVEN", "holds no table or folder for OVEN"),
    ):
        with pytest.raises(ZooError, match=f"mmeb: {base} {words}; name fewer `sets`"):
            Mmeb(task="mmeb", sets=(name,), folder="mmeb").read_tables(tmp_path)


def read(folder, *rows):
    (folder / "GQA.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (task,) = Mmeb(task="mmeb", sets=("GQA",), folder=str(folder)).expand()
    return task, task.read_tables(folder)


def test_each_query_chooses_among_candidates_of_its_own_and_the_first_is_right(tmp_path):
    rows = [
        {"qry_inst": "Find:", "qry_text": "dog", "tgt_inst": "This:", "tgt_text": ["z", "a", "z"]},
        {"qry_inst": "", "qry_text": "dog", "tgt_inst": "", "tgt_text": ["a", "", "b"]},
    ]
    task, tables = read(tmp_path, *rows)
    shaped = task.shape(tables)
    split = shaped["default"]["test"]
    texts = {row["id"]: row["text"] for row in split["corpus"]}
    assert [(row["id"], row["text"]) for row in split["queries"]] == [("q1", "Find: dog"), ("q2", "dog")]
    assert {q: sorted(texts[name] for name in names) for q, names in split["top_ranked"].items()} == {
        "q1": ["This: a", "This: z"],
        "q2": ["a", "b"],
    }
    assert all(names == sorted(names) for names in split["top_ranked"].values())
    right = {q: {texts[name]: grade for name, grade in grades.items()} for q, grades in split["relevant_docs"].items()}
    assert right == {"q1": {"This: z": 1}, "q2": {"a": 1}}
    described = task.describe_mteb_task(shaped)
    assert (described.type, described.main_score, described.category) == ("Any2AnyRetrieval", "strict_hit_at_1", "t2t")
    assert (described.modalities, task.list_modalities(tables, shaped)) == (["text"], frozenset({"text"}))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"qry_text": "", "tgt_text": ["a", "b"]}, r"row 1 of .*GQA\.jsonl has no query"),
        ({"qry_text": "q", "tgt_text": ["a", ""]}, r"row 1 of .* has no candidates, the first of which is right"),
        ({"qry_text": "q", "tgt_text": ["", "a", "b"]}, ".* has no candidates, the first of which is right"),
    ],
)
def test_a_row_without_a_query_or_a_right_candidate_is_named(tmp_path, row, message):
    task, tables = read(tmp_path, row)
    with pytest.raises(DataError, match=f"MMEB GQA: {message}"):
        task.shape(tables)


def test_as_many_texts_as_images_of_candidates_are_needed_if_there_are_both():
    image = {"bytes": b"1", "path": None}
    assert mmeb._read_candidates({"tgt_text": [], "tgt_img_path": [image] * 2}, 1, "T") == [("", (image,))] * 2
    assert mmeb._read_candidates({"tgt_text": ["a"], "tgt_img_path": None}, 1, "T") == [("a", ())]
    assert mmeb._read_candidates({"tgt_text": ["a", "b"], "tgt_img_path": [image] * 2}, 1, "T") == [
        ("a", (image,)),
        ("b", (image,)),
    ]
    bad = {"qry_text": "q", "tgt_text": ["a"], "tgt_img_path": [image] * 2}
    with pytest.raises(DataError, match="T: row 4 has 1 texts and 2 images of candidates"):
        mmeb._read_candidates(bad, 4, "T")
    table = SimpleNamespace(rows=[{"qry_text": "q", "tgt_text": ["a", "b"]}, bad])
    with pytest.raises(DataError, match="T: row 2 has 1 texts and 2 images of candidates"):
        mmeb.shape_rows(table, "T")


def test_averages_take_each_set_once_and_have_no_count_if_all_were_measured():
    def entry(name, value):
        (task,) = Mmeb(task="mmeb", sets=(name,)).expand()
        return {"details": task.describe_result({"candidates": 4.0, "chance": 0.25}), "value": value}

    assert entry("GQA", 1)["details"]["mmeb"] == {
        "set": "GQA",
        "meta": "VQA",
        "distribution": "out",
        "candidates": 4.0,
        "chance": 0.25,
    }
    values = {name: i / 36 for i, name in enumerate(SETS)}
    results = [entry(name, value) for name, value in values.items()]
    later_views = [entry(name, 9.0) for name in SETS]
    averages = average([{"value": 5.0}, *results, *later_views, {"value": 7.0, "details": None}])

    def mean(names):
        return pytest.approx(sum(values[name] for name in names) / len(names))

    assert averages == {
        "overall": mean(list(SETS)),
        **{meta: mean([name for name in SETS if SETS[name].meta == meta]) for meta in METAS},
        "in distribution": mean(IN_DISTRIBUTION.split()),
        "out of distribution": mean(OUT_OF_DISTRIBUTION.split()),
    }
    assert average(results[:1]) == {
        "overall (1 of 36)": 0,
        "Classification (1 of 10)": 0,
        "in distribution (1 of 20)": 0,
    }
    assert Mmeb.summarise_results(results) == {"averages": averages}
    assert average([]) == {}

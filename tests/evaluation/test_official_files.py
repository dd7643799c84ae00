"""Official tasks on local files: which files are found, how their columns are named, and what is refused."""

from __future__ import annotations

import json
from types import SimpleNamespace

import mteb
import pytest
from datasets import Dataset, DatasetDict

from zoo.core.errors import DataError, ZooError
from zoo.evaluation import mteb_catalogue, official, tasks
from zoo.evaluation.spec import Official

PAIRS = ("sentence1", "sentence2", "score")
TOKENISED = ("sentence1_tok", "sentence2_tok", "score")


@pytest.fixture
def find(tmp_path):
    """Create empty files and return the paths and columns that are found for a task."""

    def find_sources(name, *files):
        for file in files:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).touch()
        known = mteb_catalogue.get_task(name)
        sources, missing = official._find_sources(name, known, tmp_path, official._find_section(known), False)
        found = {
            part: (source.path.removeprefix(f"{tmp_path}/"), dict(source.columns)) for part, source in sources.items()
        }
        return found, missing

    return find_sources


@pytest.mark.parametrize(
    ("name", "files", "columns"),
    [
        ("STSBenchmark", {"data": "stsb/test.csv"}, PAIRS),
        ("STS12", {"data": "sts12/test.jsonl.gz"}, TOKENISED),
        ("STS13", {"data": "sts13/test.parquet"}, TOKENISED),
        ("STS14", {"data": "sts14/test.tsv"}, TOKENISED),
        ("SICK-R", {"data": "sick/test.jsonl"}, PAIRS),
        ("Banking77Classification", {"train": "banking77/train.csv", "data": "banking77/test.csv"}, ()),
        (
            "MNIST",
            {"train": "mnist/train-images-idx3-ubyte.gz", "data": "mnist/t10k-images-idx3-ubyte.gz"},
            (),
        ),
        ("CIFAR10", {"train": "cifar10_jpg/train.parquet", "data": "cifar10_jpg/test.parquet"}, ()),
    ],
)
def test_the_folders_of_the_data_sets_own_sites_are_found(find, name, files, columns):
    expected = dict(zip(PAIRS, columns, strict=False))
    assert find(name, *files.values()) == ({part: (file, expected) for part, file in files.items()}, [])


def test_the_three_files_of_sick_are_one_data_set(find, tmp_path):
    files = [f"sick/{name}.jsonl" for name in ("train", "trial", "test")]
    (source, _) = find("SICK-R", *files, "sick/notes.txt")[0]["data"]
    assert source == "sick/t*.jsonl*"


def test_a_folder_with_the_name_of_the_task_has_the_official_split(find):
    assert find("STS16", "STS16/test.csv") == ({"data": ("STS16/test.csv", {})}, [])
    files = {"train": "EmotionClassification/train.csv", "data": "EmotionClassification/test.csv"}
    assert find("EmotionClassification", *files.values())[0] == {part: (file, {}) for part, file in files.items()}
    assert find("STSBenchmark", "STSBenchmark/test.csv")[0] == {"data": ("STSBenchmark/test.csv", {})}


@pytest.mark.parametrize(("splits", "split"), [(["dev", "devtest"], "dev"), (["dev", "test"], "test")])
def test_a_task_without_a_test_split_uses_its_first_one(tmp_path, splits, split):
    known = SimpleNamespace(metadata=SimpleNamespace(eval_splits=splits))
    asked = []
    section = SimpleNamespace(model_fields={"data": None}, find_sources=lambda *inputs: asked.append(inputs))
    (tmp_path / "T").mkdir()
    (tmp_path / "T" / f"{split}.csv").touch()
    sources, _ = official._find_sources("T", known, tmp_path, section, False)
    assert sources["data"].path == str(tmp_path / "T" / f"{split}.csv")
    assert asked == [(tmp_path / "t", split)], "a folder that holds the split's table has no layout of its own"


def test_a_folder_in_a_layout_of_its_own_is_looked_for_by_the_name_of_the_task(tmp_path):
    known = SimpleNamespace(metadata=SimpleNamespace(eval_splits=["test"]))

    def find(is_own_folder, *places):
        def find_sources(place, split):
            if place in places:
                return {"data": place}
            raise DataError(f"{place}: nothing")

        section = SimpleNamespace(model_fields={"data": None}, find_sources=find_sources)
        return official._find_sources("Task", known, tmp_path, section, is_own_folder)

    for place in (tmp_path / "Task", tmp_path / "task"):
        assert find(False, place, tmp_path) == ({"data": place}, [])
    assert find(True, tmp_path) == ({"data": tmp_path}, [])
    missing = ["corpus, queries and qrels in the layout of BEIR or mteb"]
    assert find(False, tmp_path) == ({}, missing), "a folder of many tasks is not that of one"
    (tmp_path / "Task").mkdir()
    (tmp_path / "Task" / "test.csv").touch()
    assert find(False)[0]["data"].path == str(tmp_path / "Task" / "test.csv")


def test_every_missing_file_is_named(find, tmp_path):
    missing = [
        "banking77/train.*",
        "banking77/test.*",
        "Banking77Classification/train.*",
        "Banking77Classification/test.*",
    ]
    sources, patterns = find("Banking77Classification")
    assert (sources, sorted(patterns)) == ({}, sorted(missing))
    with pytest.raises(ZooError, match=rf"STS12: {tmp_path} holds no sts12/test\.\* and STS12/test\.\* for it"):
        Official(task="STS12", folder=str(tmp_path)).prepare(tmp_path, {})


def test_two_files_that_could_be_meant_are_refused(find, tmp_path):
    with pytest.raises(ZooError, match=rf"STS12: {tmp_path}/sts12 holds test\.csv and test\.jsonl; keep one of them"):
        find("STS12", "sts12/test.csv", "sts12/test.jsonl")


@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("STSBenchmark", "sts"),
        ("SprintDuplicateQuestions", "pair-classification"),
        ("Banking77Classification", "classification"),
        ("CIFAR10", "image-classification"),
        ("SciFact", "retrieval"),
        ("TwentyNewsgroupsClustering", None),
    ],
)
def test_official_tasks_of_one_plain_table_have_the_form_of_an_own_task(name, section):
    found = official._find_section(mteb_catalogue.get_task(name))
    assert (tasks.name_of(found) if found else None) == section


def test_a_task_that_mteb_cross_validates_is_not_run_on_local_files():
    known = mteb_catalogue.get_task("Banking77Classification")
    known.is_cross_validation = True
    assert official._find_section(known) is None


def test_local_files_come_from_the_recipes_folder_then_from_zoo_data_and_then_from_the_hub(tmp_path, monkeypatch):
    monkeypatch.delenv("ZOO_DATA", raising=False)
    rows = [{"sentence1": "a", "sentence2": "b", "score": score} for score in (1, 2)]
    for place in ("recipe", "data"):
        (tmp_path / place / "STS16").mkdir(parents=True)
        text = "".join(json.dumps(row) + "\n" for row in rows * (2 if place == "data" else 1))
        (tmp_path / place / "STS16" / "test.jsonl").write_text(text)
    loaded = []
    monkeypatch.setattr(mteb_catalogue, "load_data", loaded.append)
    monkeypatch.setattr(mteb_catalogue, "make_lock_entry", lambda known: {"rows": 0})
    monkeypatch.setattr(mteb_catalogue, "list_test_tables", lambda known: {})

    def prepare(**fields):
        lock = {}
        ready = Official(task="STS16", **fields).prepare(tmp_path, lock)
        return ready.name, ready.is_official, {name: entry["rows"] for name, entry in lock.items()}

    assert prepare() == ("STS16", True, {"STS16": 0})
    assert [known.metadata.name for known in loaded] == ["STS16"]
    monkeypatch.setenv("ZOO_DATA", str(tmp_path / "data"))
    assert prepare() == ("STS16 (local)", False, {"STS16 (local)": 4})
    assert prepare(folder="recipe") == ("STS16 (local)", False, {"STS16 (local)": 2})
    assert prepare(folder="recipe", name="mine") == ("mine", False, {"mine": 2})
    assert prepare(folder="recipe", name="STS12")[0] == "STS12 (local)", "never the name of an official task"
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    assert prepare() == ("STS16", True, {"STS16": 0})
    ready = Official(task="STS16", folder="recipe", at_least=0.5, views=({}, {"dim": 8})).prepare(tmp_path, {})
    assert (ready.spec.at_least, ready.spec.views) == (0.5, ({}, {"dim": 8}))
    assert isinstance(ready.make(), type(mteb.get_task("STS16")))


def test_a_task_that_is_not_one_table_comes_from_the_hub_unless_the_recipe_names_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    assert Official(task="SciFact")._read_local(tmp_path, {}) is None
    with pytest.raises(ZooError, match="SciFact: .* holds no corpus, queries and qrels"):
        Official(task="SciFact", folder=".").prepare(tmp_path, {})
    assert Official(task="SciFct").find_mistakes(tmp_path)[0][0] == ("task",)
    assert Official(task="SciFact").find_mistakes(tmp_path) == []


# -- the data of official tasks ----------------------------------------------------------------------------------------


def make_table(count, *columns):
    return Dataset.from_dict({column: [f"{column} {i}" for i in range(count)] for column in columns})


def make_known(rows, **metadata):
    fields = {"name": "T", "dataset": {"path": "me/t", "revision": "c0ffee"}, "eval_splits": ["test"]}
    fields |= {"license": None, "reference": None, "bibtex_citation": None}
    return SimpleNamespace(metadata=SimpleNamespace(**fields | metadata), dataset=rows)


def test_the_lock_names_data_set_and_revision_and_counts_all_rows():
    data = {"en": DatasetDict(train=make_table(3, "text"), test=make_table(2, "text")), "qrels": {"a": {"b": 1}}}
    known = make_known(data, license="mit", reference="https://x.y", bibtex_citation="@a")
    entry = mteb_catalogue.make_lock_entry(known)
    assert (entry["rows"], entry["skipped"], len(entry["fingerprint"])) == (5, 0, 64)
    origin = {"name": "me/t", "revision": "c0ffee", "licence": "mit", "url": "https://x.y", "citation": "@a"}
    assert entry["origin"] == origin
    assert mteb_catalogue.make_lock_entry(make_known(data))["origin"] == origin | dict.fromkeys(
        ("licence", "url", "citation"), ""
    )
    other = make_known(data, dataset={"path": "me/t", "revision": "c0ffef"})
    assert mteb_catalogue.make_lock_entry(other)["fingerprint"] != entry["fingerprint"]
    aggregate = make_known(None, tasks=[known, other])
    assert mteb_catalogue.list_parts(aggregate) == [known, other]
    assert mteb_catalogue.make_lock_entry(aggregate)["rows"] == 10


def test_the_inputs_of_the_test_rows_are_listed_without_documents():
    data = {
        "train": make_table(4, "text"),
        "test": {
            "en": make_table(2, "sentence1", "sentence2", "score"),
            "de": make_table(1, "query", "positive", "text"),
        },
        "default": {
            "test": {
                "queries": make_table(3, "id", "text"),
                "corpus": make_table(9, "text"),
                "relevant_docs": {"q": {}},
            }
        },
        "other": make_table(1, "text"),
    }
    tables = mteb_catalogue.list_test_tables(make_known(data))
    assert {name: (len(table.rows), table.inputs) for name, table in tables.items()} == {
        "data": (2, ("sentence1", "sentence2")),
        "data 2": (1, ("query", "positive")),
        "data 3": (3, ("text",)),
    }
    assert {table.origin.name for table in tables.values()} == {"T"}
    assert tables["data"].roles == ("sentence1", "sentence2")
    assert {table.fingerprint for table in tables.values()} == {""}, "the lock has that of the whole task"
    assert mteb_catalogue.list_test_tables(make_known({"test": make_table(2, "score")})) == {}


@pytest.mark.parametrize(
    ("error", "reason"),
    [(OSError("no\nnet"), "no"), (ValueError(), "ValueError"), (RuntimeError("x" * 200), "x" * 120)],
)
def test_data_that_cannot_be_had_is_one_line_with_advice(error, reason):
    def fail():
        raise error

    known = make_known(None, tasks=[SimpleNamespace(load_data=fail)])
    with pytest.raises(ZooError, match=rf"T: its data cannot be had \({reason}\); connect to the Hub, .*ZOO_DATA"):
        mteb_catalogue.load_data(known)


def test_a_task_that_mteb_declares_but_cannot_run_is_an_error(monkeypatch):
    monkeypatch.setattr(mteb_catalogue, "list_names", lambda: frozenset({"Gone"}))
    with pytest.raises(ZooError, match="'Gone' is in mteb's statistics, but no task that it can run"):
        mteb_catalogue.get_task("Gone")
    with pytest.raises(ZooError, match="'Gon' is not a task of mteb or of zoo.*Gone"):
        mteb_catalogue.get_task("Gon")

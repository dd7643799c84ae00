"""What `zoo init` writes and says, and what it refuses, each with place and cure."""

from __future__ import annotations

import json
import shutil

import pytest
import shapes_of_data
import tiny

import zoo
from zoo.cli.main import main
from zoo.core import located_yaml
from zoo.core.errors import DataError, ZooError
from zoo.families import starters
from zoo.starter import draft
from zoo.starter.materials import split_keywords
from zoo.starter.recipe_writer import write_recipe
from zoo.starter.template import WIDTH, render

ROW = b"How do I reset it?,Open Settings and choose Security to set it.\n"


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(starters, "find_backbone", lambda: tiny.backbone(tmp_path / "backbone", layers=1, hidden=16))
    return tmp_path


def write(files, out, **options):
    said = []
    write_recipe(files, out, times_steps=False, say=said.append, **options)
    return zoo.load_recipe(out), said


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("none.csv", None, r"none\.csv: there is no such file or folder; .*good\.csv"),
        ("empty.csv", b"", r"empty\.csv: is empty; give a file with rows"),
        ("header.csv", b"question,answer\n", r"header\.csv: has a header but no rows; add rows below it"),
        ("bare.csv", ROW * 3, r"bare\.csv:1: has no header: .*write a line of names"),
        ("numbers.csv", b"1,where is it\n2,how long does it take\n", r"numbers\.csv:1: has no header: '1' looks like a value"),
        ("junk.csv", bytes(range(256)) * 40, r"junk\.csv: the header holds bytes that are not text, .*; save it as csv"),
        ("junk.txt", b"\x00\xff\xfe" * 100, r"junk\.txt:row 1: holds bytes that are not UTF-8; save the file as UTF-8"),
        ("junk.parquet", b"\x00\xff\xfe" * 100, r"junk\.parquet: "),
        ("sheet.xlsx", b"PK\x03\x04" + b"\x00" * 60, r"sheet\.xlsx: files of this kind cannot be read; there are: \.csv"),
        ("semicolons.csv", b"frage;antwort\nwas;das\nwo;hier\n", r"\.csv: .*separated by semicolons; save the file with commas"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_named_with_a_cure(workplace, name, content, what):
    (workplace / "good.csv").write_text("a,b\n1,2\n")
    if content is not None:
        (workplace / name).write_bytes(content)
    with pytest.raises(ZooError, match=what):
        write_recipe([workplace / name], workplace / "recipe.yaml", times_steps=False)
    assert not (workplace / "recipe.yaml").exists()


def test_a_recipe_is_not_overwritten_without_force(workplace, capsys):
    shapes_of_data.make_pairs(workplace)
    (workplace / "recipe.yaml").write_text("mine")
    assert main(["init", "pairs.csv", "--no-timing"]) == 1
    assert "recipe.yaml is there already; give --force" in capsys.readouterr().err
    assert (workplace / "recipe.yaml").read_text() == "mine"
    assert main(["init", "pairs.csv", "--no-timing", "--force"]) == 0
    assert zoo.load_recipe("recipe.yaml").name == "pairs"


def test_pairs_of_retrieval_data_are_not_overwritten_without_force(workplace):
    files = shapes_of_data.make_retrieval_folder(workplace)
    (workplace / "recipe-pairs.jsonl").write_text("mine")
    with pytest.raises(ZooError, match=r"recipe-pairs\.jsonl is there already"):
        write(files, workplace / "recipe.yaml")
    assert (workplace / "recipe-pairs.jsonl").read_text() == "mine"


def test_what_is_unsure_is_said_and_written(workplace, capsys):
    rows = [{"a": tiny.SENTENCES[i], "b": tiny.SENTENCES[i + 30]} for i in range(30)]
    shapes_of_data.write_csv(workplace / "t.csv", rows)
    assert main(["init", "t.csv", "--no-timing"]) == 0
    doubt = "a is read as the query and b as its answer"
    assert f"not sure: {doubt}" in capsys.readouterr().err
    assert f"# - {doubt}" in (workplace / "recipe.yaml").read_text()


def test_no_anchor_is_on_both_sides(workplace):
    from zoo import data

    rows = [{"question": tiny.SENTENCES[i // 3], "answer": tiny.SENTENCES[i + 20]} for i in range(90)]
    shapes_of_data.write_csv(workplace / "t.csv", rows)
    recipe, _ = write([workplace / "t.csv"], workplace / "recipe.yaml")
    train = data.read(recipe.data, {"anchor": "text"}, folder=workplace).rows["anchor"]
    test = data.read(recipe.evaluation[0].data, {"query": "text"}, folder=workplace).rows["query"]
    assert len(train) + len(test) == 90
    assert set(train).isdisjoint(test)


def test_each_class_of_the_test_has_a_training_row(workplace):
    from zoo import data

    labels = ["rare"] * 2 + ["often", "common"] * 29
    rows = [{"text": tiny.SENTENCES[i], "label": label} for i, label in enumerate(labels)]
    shapes_of_data.write_csv(workplace / "t.csv", rows)
    recipe, _ = write([workplace / "t.csv"], workplace / "recipe.yaml")
    roles = {"text": "text", "label": "label"}
    train, test = (
        data.read(d, roles, folder=workplace).rows["label"] for d in (recipe.data, recipe.evaluation[0].data)
    )
    assert set(test) <= set(train)


def test_rows_that_cannot_be_used_are_skipped_and_said(workplace):
    shapes_of_data.make_pairs(workplace)
    text = (workplace / "pairs.csv").read_text().splitlines()
    (workplace / "pairs.csv").write_text("\n".join([*text[:5], "9,,", *text[5:]]) + "\n")
    recipe, said = write([workplace / "pairs.csv"], workplace / "recipe.yaml")
    assert (
        recipe.data.on_bad_row
        == recipe.evaluation[0].data.on_bad_row
        == recipe.evaluation[0].corpus.on_bad_row
        == "skip"
    )
    assert any("rows that cannot be used are left out" in line and "row 5" in line for line in said)
    assert main(["check", "--rows", str(workplace / "recipe.yaml")]) == 0


def test_few_rows_are_not_held_out(workplace):
    rows = [{"question": tiny.SENTENCES[i], "answer": tiny.SENTENCES[i + 9]} for i in range(5)]
    shapes_of_data.write_csv(workplace / "t.csv", rows)
    recipe, said = write([workplace / "t.csv"], workplace / "recipe.yaml")
    assert (recipe.data.holdout, recipe.evaluation) == (None, ())
    assert any("5 rows are too few" in line for line in said)


def test_a_second_file_holds_the_test_rows(workplace):
    shapes_of_data.make_pairs(workplace)
    shutil.copy("pairs.csv", "pairs-test.csv")
    recipe, _ = write([workplace / "pairs.csv", workplace / "pairs-test.csv"], workplace / "recipe.yaml")
    assert (recipe.data.path, recipe.data.holdout) == ("pairs.csv", None)
    assert (recipe.evaluation[0].data.path, recipe.evaluation[0].data.holdout) == ("pairs-test.csv", None)
    with pytest.raises(ZooError, match=r"pairs\.csv: is given twice"):
        write([workplace / "pairs.csv", workplace / "pairs.csv"], workplace / "other.yaml")
    shutil.copy("pairs.csv", "pairs-dev.csv")
    with pytest.raises(ZooError, match="which of them are training rows"):
        write([workplace / "pairs-dev.csv", workplace / "pairs-test.csv"], workplace / "other.yaml")


def test_several_files_are_a_list_with_a_loss_a_hold_out_and_a_task_for_each(workplace):
    makers = (shapes_of_data.make_pairs, shapes_of_data.make_scored_pairs, shapes_of_data.make_triplets)
    files = [path for make in makers for path in make(workplace)]
    recipe, said = write(files, workplace / "recipe.yaml")
    assert list(recipe.sources) == ["pairs", "sts", "triplets"]
    assert [source.loss for source in recipe.sources.values()] == [None, "cosent", None]
    assert [entry.holdout.side for entry in recipe.data] == ["train"] * 3
    assert [task.name for task in recipe.evaluation] == ["retrieval-pairs", "sts-sts", "retrieval-triplets"]
    assert all(task.data.holdout.side == "test" for task in recipe.evaluation)
    assert "90 rows of pairs.csv, sts.csv, triplets.jsonl: pairs of texts that belong together" in said
    assert any(line.startswith("not sure: triplets.jsonl: ") for line in said)
    assert recipe.training.batch_size == 16
    text = (workplace / "recipe.yaml").read_text()
    assert text.count("these rows are trained on, the others are the test") == 3
    assert main(["check", "--rows", str(workplace / "recipe.yaml")]) == 0


def test_files_of_one_name_get_an_alias_and_a_test_file_serves_those_that_fit_it(workplace):
    for folder in ("a", "b"):
        (workplace / folder).mkdir()
        shapes_of_data.make_pairs(workplace / folder)
    shutil.copy("a/pairs.csv", "test.csv")
    files = [workplace / "a" / "pairs.csv", workplace / "b" / "pairs.csv", workplace / "test.csv"]
    recipe, _ = write(files, workplace / "recipe.yaml")
    assert list(recipe.sources) == ["pairs-1", "pairs-2"]
    assert [(task.name, task.data.path) for task in recipe.evaluation] == [
        ("retrieval-pairs-1", "test.csv"),
    ]


def test_files_of_two_kinds_are_refused(workplace):
    pairs, labels = shapes_of_data.make_pairs(workplace)[0], shapes_of_data.make_labels(workplace)[0]
    with pytest.raises(ZooError, match=r"need two encoders, dense and equiangular; give files of one kind"):
        write([pairs, labels], workplace / "recipe.yaml")
    vectors = shapes_of_data.SHAPES["vectors"](workplace)[0]
    with pytest.raises(ZooError, match=r"holds vectors, and several files can hold pairs, triplets"):
        write([pairs, vectors], workplace / "recipe.yaml")


def test_one_split_of_judgements_is_divided_by_query(workplace):
    from zoo import data

    (base,) = shapes_of_data.make_retrieval_folder(workplace)
    (base / "qrels" / "test.tsv").unlink()
    recipe, _ = write([base], workplace / "recipe.yaml")
    task = recipe.evaluation[0]
    train = data.read(recipe.data, {"query_id": "id"}, folder=workplace).rows["query_id"]
    test = data.read(task.qrels, {"query_id": "id", "document_id": "id"}, folder=workplace).rows["query_id"]
    assert sorted([*train, *test]) == sorted(f"q{i}" for i in range(20))
    assert set(train).isdisjoint(test)
    pairs = [json.loads(line) for line in (workplace / "recipe-pairs.jsonl").read_text().splitlines()]
    assert pairs[0]["document"] == f"{tiny.SENTENCES[0]} {tiny.SENTENCES[30]}"
    assert main(["check", "--rows", str(workplace / "recipe.yaml")]) == 0


def test_paths_start_at_the_folder_of_the_recipe(workplace, monkeypatch):
    files = shapes_of_data.make_pairs(workplace)
    recipe, _ = write(files, workplace / "recipes" / "a.yaml")
    assert recipe.data.path == "../pairs.csv"
    monkeypatch.setenv("ZOO_DATA", str(workplace))
    recipe, _ = write(files, workplace / "recipes" / "b.yaml")
    assert recipe.data.path == "$ZOO_DATA/pairs.csv"


def test_keywords_without_a_file_are_the_names_of_the_labels(workplace):
    shapes_of_data.make_labels(workplace)
    recipe, said = write([workplace / "labels.csv"], workplace / "recipe.yaml", goal="topics")
    assert recipe.encoder.labels == {"care": ("care",), "music": ("music",), "pets": ("pets",)}
    assert any("the keywords are the names" in line for line in said)
    (workplace / "lines.txt").write_text("a red dog\na blue cat\n")
    with pytest.raises(DataError, match=r"lines\.txt: --goal topics needs keywords; give a second file"):
        write([workplace / "lines.txt"], workplace / "other.yaml", goal="topics")


def test_topics_need_texts_and_a_fitting_goal(workplace):
    texts, topics = shapes_of_data.make_topics(workplace)
    with pytest.raises(ZooError, match=r"give the file of texts as well: zoo init texts\.csv"):
        write([topics], workplace / "recipe.yaml")
    with pytest.raises(DataError, match="--goal sts does not fit topics"):
        write([texts, topics], workplace / "recipe.yaml", goal="sts")


def test_images_of_one_class_are_refused(workplace):
    shapes_of_data.write_image(workplace / "photos" / "all" / "a.png", "red", 0)
    shapes_of_data.write_image(workplace / "photos" / "all" / "b.png", "blue", 1)
    with pytest.raises(DataError, match=r"all images are in the folder 'all'.*a folder of its own"):
        write([workplace / "photos"], workplace / "recipe.yaml")


def test_images_may_stand_in_a_folder_of_their_own(workplace):
    shapes_of_data.make_captions(workplace)
    (workplace / "elsewhere").mkdir()
    shutil.move(workplace / "images", workplace / "elsewhere" / "images")
    recipe, _ = write([workplace / "captions.csv", workplace / "elsewhere"], workplace / "recipe.yaml")
    assert recipe.data.images == "elsewhere"
    assert main(["check", "--rows", str(workplace / "recipe.yaml")]) == 0


def test_names_of_columns_may_hold_any_character(workplace):
    question, answer = "what:\n# is", "an {answer}, 'or' \"two\""
    rows = [{question: tiny.SENTENCES[i], answer: tiny.SENTENCES[i + 40]} for i in range(30)]
    shapes_of_data.write_jsonl(workplace / "odd name #1.jsonl", rows)
    recipe, _ = write([workplace / "odd name #1.jsonl"], workplace / "recipe.yaml")
    assert recipe.data.columns == {"anchor": question, "positive": answer}
    assert recipe.data.holdout.by == question
    assert recipe.name == "odd-name-1"


def test_of_very_many_rows_the_first_are_looked_at(workplace, monkeypatch):
    monkeypatch.setattr(draft, "FULLY_READ", 20)
    files = shapes_of_data.make_pairs(workplace)
    assert main(["init", str(files[0])]) == 0
    text = (workplace / "recipe.yaml").read_text()
    assert "only the first rows of 30 were looked at" in text
    assert "of training on this machine" in text.replace("\n# ", " ")
    assert zoo.load_recipe("recipe.yaml").data.holdout.by == "question"


@pytest.mark.parametrize("cell", ["a, b;c", '["a", "b", "c"]', "['a', 'b', 'c']", ["a", "b", "c"], "a|b| c"])
def test_keywords_are_split(cell):
    assert split_keywords(cell) == ["a", "b", "c"]


def test_a_rendered_recipe_is_read_back():
    values = {
        "name": "x",
        "encoder": {
            "labels": {"it's: #1": ["a, b", "1e-3", "no"], "line\nbreak": ["ü"]},
            "n": 1,
            "on": True,
            "none": None,
        },
        "evaluation": [{"task": "sts", "data": {"path": "y" * WIDTH, "columns": {"a b": "c: d"}}}],
    }
    comments = {("encoder", "n"): "one", ("evaluation", 0, "task"): "long " * 60, ("evaluation", 0, "data"): "data"}
    text = render(["a comment", ""], values, comments)
    assert located_yaml.parse(text).value == values
    assert "n: 1  # one" in text
    assert max(len(line) for line in text.splitlines() if line.lstrip().startswith("#")) <= WIDTH


def test_without_timing_no_torch_is_imported(workplace):
    import subprocess
    import sys

    shapes_of_data.make_vectors(workplace)
    code = (
        "import sys; from zoo.cli.main import main; "
        "status = main(['init', 'vectors.npy', '--no-timing']); sys.exit(status or 'torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=workplace, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_a_few_steps_are_timed(workplace, capsys):
    shapes_of_data.make_pairs(workplace)
    assert main(["init", "pairs.csv"]) == 0
    text = (workplace / "recipe.yaml").read_text().replace("\n# ", " ")
    assert "of training on this machine" in text
    assert "steps of" in text
    assert "Memory: " in text
    assert "of training on this machine" in capsys.readouterr().err


def test_a_family_without_steps_is_timed_by_rows(workplace):
    shapes_of_data.make_texts(workplace)
    assert main(["init", "lines.txt"]) == 0
    assert ", by 120 rows." in (workplace / "recipe.yaml").read_text().replace("\n# ", " ")

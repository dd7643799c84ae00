"""Rows that training shares with validation or evaluation are counted, dropped or refused."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import tiny

import cards
import zoo
from zoo import evaluation
from zoo.build import builder, overlap, training_data
from zoo.cli import main
from zoo.core import atomic_files
from zoo.core.errors import DataError
from zoo.evaluation import mteb_catalogue

WORDS = tiny.SENTENCES
RECIPE = """\
name: tiny
encoder: {family: static, backbone: backbone, dim: 8}
data: {source: file, path: train.jsonl}
validation: {source: file, path: validation.jsonl}
training: {max_steps: 1, batch_size: 8}
evaluation:
  - task: retrieval
    name: find
    data: {source: file, path: test.jsonl, columns: {query: anchor, document: positive}}
    corpus: {source: file, path: train.jsonl, columns: {text: positive}}
"""


def write_rows(path, numbers):
    rows = ({"anchor": WORDS[i], "positive": WORDS[i + 1]} for i in numbers)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return tiny.backbone(tmp_path_factory.mktemp("backbone") / "bert")


@pytest.fixture
def place(tmp_path, backbone):
    (tmp_path / "backbone").symlink_to(backbone)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    write_rows(tmp_path / "train.jsonl", range(20))
    write_rows(tmp_path / "validation.jsonl", range(18, 22))
    test = [{"anchor": WORDS[i].upper(), "positive": WORDS[i + 1]} for i in (0, 1, 2, 19, 30, 31)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in test))
    return tmp_path


def settle(place, *overrides):
    recipe = zoo.load_recipe(place / "recipe.yaml", *overrides)
    tasks = evaluation.prepare(recipe.evaluation, recipe.folder)
    return overlap.settle(recipe, training_data.read_tables(recipe), tasks)


def test_shared_rows_of_validation_and_of_every_evaluation_set_are_counted(place):
    tables, overlaps, lines = settle(place)
    counts = {(entry.name, entry.among): (entry.shared, entry.rows) for entry in overlaps}
    assert counts == {
        ("validation", "train"): (2, 4),
        ("find", "train"): (4, 6),
        ("find", "validation"): (1, 6),
    }, "the corpus is no test set"
    assert "4 of 6 rows of find are also rows of train" in lines
    assert len(tables["train"].rows) == 20


def test_the_advice_depends_on_the_share_of_the_rows(place):
    assert settle(place)[2][-1].startswith("if both read the same file, give both the same where and the same holdout")
    write_rows(place / "test.jsonl", [0, *range(25, 35)])
    assert settle(place, "validation=null")[2] == [
        "1 of 11 rows of find are also rows of train",
        "set on_overlap: drop to train without these rows, or holdout.by to keep equal values on one side",
    ]
    write_rows(place / "test.jsonl", range(25, 35))
    assert settle(place, "validation=null")[2] == ["no row of validation or evaluation is a training row"]


def test_drop_takes_the_shared_rows_out_of_training_and_of_validation(place):
    tables, overlaps, lines = settle(place, "on_overlap=drop")
    assert [len(tables[name].rows) for name in ("train", "validation")] == [15, 3]
    assert not any(entry.shared for entry in overlaps)
    assert lines[-2:] == ["dropped 5 rows of train", "dropped 1 rows of validation"]


def test_error_stops_before_training_and_names_the_sets(place):
    with pytest.raises(DataError, match=r"4 of 6 rows of find are also rows of train(.|\n)*on_overlap: drop or report"):
        settle(place, "on_overlap=error")


def test_drop_that_leaves_nothing_is_an_error(place):
    (place / "train.jsonl").write_text((place / "test.jsonl").read_text())
    with pytest.raises(DataError, match="on_overlap: drop leaves no rows of train"):
        settle(place, "on_overlap=drop", "validation=null")


def test_a_task_whose_own_training_rows_are_test_rows_is_counted(place):
    rows = [{"text": text, "label": i % 2} for i, text in enumerate(WORDS[60:70])]
    (place / "labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = "{source: file, path: labelled.jsonl}"
    _, overlaps, _ = settle(place, f"evaluation=[{{task: classification, train: {source}, data: {source}}}]")
    assert [str(entry) for entry in overlaps if "/" in entry.among] == [
        "10 of 10 rows of classification are also rows of classification/train"
    ]


def test_the_run_says_what_is_shared_and_the_card_and_the_lock_keep_it(place):
    lines = []
    builder.run(zoo.load_recipe(place / "recipe.yaml"), place / "run", say=lines.append)
    assert "4 of 6 rows of find are also rows of train" in lines
    assert {"name": "find", "among": "train", "shared": 4, "rows": 6} in atomic_files.read_json(
        place / "run" / "model" / "lock.json"
    )["overlaps"]
    text = cards.render(place / "run" / "model")
    assert "- 4 of 6 rows of find are also rows of train.\n" in text
    assert "- 4 of 6 rows of find are rows of train, so its score says little about new rows.\n" in text
    lock = atomic_files.read_json(place / "run" / "model" / "lock.json")
    clean = [entry | {"shared": 0} for entry in lock["overlaps"]]
    atomic_files.write_json(place / "run" / "model" / "lock.json", lock | {"overlaps": clean})
    text = cards.render(place / "run" / "model")
    assert "No row of validation and find is a row of train and validation." in text
    assert "so its score says little" not in text


def test_the_test_rows_of_an_official_task_are_found_without_its_documents():
    from datasets import Dataset

    texts = Dataset.from_dict({"id": ["1"], "text": ["a"]})
    metadata = SimpleNamespace(name="T", tasks=None, eval_splits=["test"])
    retrieval = {"default": {"test": {"corpus": texts, "queries": texts, "relevant_docs": texts}, "train": texts}}
    tables = mteb_catalogue.list_test_tables(SimpleNamespace(metadata=metadata, dataset=retrieval))
    assert {name: table.inputs for name, table in tables.items()} == {"data": ("text",)}
    pairs = Dataset.from_dict({"sentence1": ["a"], "sentence2": ["b"], "score": [1.0]})
    tables = mteb_catalogue.list_test_tables(
        SimpleNamespace(metadata=metadata, dataset={"test": pairs, "train": pairs})
    )
    assert [table.inputs for table in tables.values()] == [("sentence1", "sentence2")]


def test_every_part_of_test_rows_is_looked_for_in_every_data_set_that_training_reads():
    from datasets import Dataset

    from zoo.data import Origin
    from zoo.data.table import Table
    from zoo.spec import ExtraDataset

    def table(*texts):
        return Table(Dataset.from_dict({"text": list(texts)}), "", Origin("o"), roles=("text",), inputs=("text",))

    uses = {"teacher": "training", "held_out": "evaluation", "concepts": "neither"}
    extra = {("encoder", name): ExtraDataset(None, {}, use=use) for name, use in uses.items()}
    recipe = SimpleNamespace(encoder=SimpleNamespace(extra_datasets=lambda: extra), on_overlap="report")
    tables = {"train": table("a", "b"), "teacher": table("c"), "held_out": table("c", "x"), "concepts": table("a")}
    parts = {"data": table("a", "y"), "data 2": table("b"), "corpus": table("a"), "train": table("y")}
    spec = SimpleNamespace(test_fields=("data",))
    tasks = SimpleNamespace(tasks=[SimpleNamespace(name="T", tables=parts, spec=spec)])
    _, overlaps, lines = overlap.settle(recipe, tables, tasks)
    counts = {(entry.name, entry.among): (entry.shared, entry.rows) for entry in overlaps}
    assert counts == {
        ("held_out", "train"): (0, 2),
        ("held_out", "teacher"): (1, 2),
        ("T", "train"): (1, 2),
        ("T", "teacher"): (0, 2),
        ("T", "T/train"): (1, 2),
        ("T/data 2", "train"): (1, 1),
        ("T/data 2", "teacher"): (0, 1),
        ("T/data 2", "T/train"): (0, 1),
    }
    assert len(lines) == 5, "four counts and the advice"
    del parts["data"], parts["data 2"], tables["held_out"]
    assert overlap.settle(recipe, tables, tasks)[1:] == ([], [])
    parts["data"] = table("z")
    assert overlap.settle(recipe, tables, tasks)[2] == ["no row of validation or evaluation is a training row"]


def test_a_run_that_drops_shared_rows_locks_and_trains_on_the_others(place):
    builder.run(zoo.load_recipe(place / "recipe.yaml", "on_overlap=drop", "evaluation.0.views=[{}]"), place / "run")
    lock = atomic_files.read_json(place / "run" / "lock.json")
    assert {name: lock["data"][name]["rows"] for name in ("train", "validation")} == {"train": 15, "validation": 3}
    assert not any(entry["shared"] for entry in lock["overlaps"])


def test_zoo_check_reads_the_rows_if_asked(place, capsys):
    assert main.main(["check", "--rows", str(place / "recipe.yaml")]) == 0
    assert "4 of 6 rows of find are also rows of train\n" in capsys.readouterr().out
    (place / "train.jsonl").write_text('{"anchor": "a", "positive": "b"}\n' * 4)
    assert main.main(["check", str(place / "recipe.yaml")]) == 0
    assert main.main(["check", "--rows", str(place / "recipe.yaml")]) == 1
    assert "every row has the same anchor" in capsys.readouterr().err


def test_rows_that_were_left_out_are_counted_for_every_data_set(place, capsys):
    with (place / "train.jsonl").open("a") as file:
        file.write('{"anchor": "", "positive": "b"}\n')
    with (place / "test.jsonl").open("a") as file:
        file.write('{"anchor": "", "positive": "b"}\n{"anchor": "a", "positive": ""}\n')
    recipe = RECIPE.replace("train.jsonl}", "train.jsonl, on_bad_row: skip}").replace(
        "test.jsonl,", "test.jsonl, on_bad_row: skip,"
    )
    (place / "recipe.yaml").write_text(recipe)
    assert main.main(["check", "--rows", str(place / "recipe.yaml")]) == 0
    expected = ["left out 1 bad row of train", "left out 2 bad rows of find"]
    assert capsys.readouterr().out.splitlines()[:2] == expected
    lines = []
    builder.run(zoo.load_recipe(place / "recipe.yaml"), place / "run", say=lines.append)
    assert lines[1:3] == expected

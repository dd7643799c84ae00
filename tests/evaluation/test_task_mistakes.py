"""What `zoo check` finds about a task over the user's own data without reading rows, and how tasks are found by name."""

from __future__ import annotations

import json

import pytest
from pydantic import TypeAdapter

from zoo.core.errors import ZooError
from zoo.evaluation.spec import OFFICIAL, Official, Task, _find_tag
from zoo.evaluation.task import LocalTask, OwnDataTask, TaskSpec, describe_claim


def load(**fields):
    return TypeAdapter(Task).validate_python(fields)


def write(folder, name, row):
    (folder / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    return {"source": "file", "path": f"{name}.jsonl"}


def test_every_part_that_lacks_a_column_is_named_with_its_path(tmp_path):
    good, bad = write(tmp_path, "good", {"text": "a", "label": "x"}), write(tmp_path, "bad", {"words": "a"})
    task = load(task="classification", data=bad, train=bad)
    places = [(path, "needs a column" in message) for path, message in task.find_mistakes(tmp_path)]
    assert places == [((part, "columns"), True) for part in ("train", "data") for _ in ("text", "label")]
    assert load(task="classification", data=good, train=good).find_mistakes(tmp_path) == []
    assert {path[0] for path, _ in load(task="classification", data=good, train=bad).find_mistakes(tmp_path)} == {
        "train"
    }


def test_columns_that_are_not_known_yet_are_not_checked_but_files_are(tmp_path):
    bad = write(tmp_path, "bad", {"words": "a"})
    task = load(task="classification", data=bad, train=bad)
    assert {path[0] for path, _ in task.find_mistakes(tmp_path, ("data",))} == {"train"}
    assert task.find_mistakes(tmp_path, ("data", "train")) == []
    (tmp_path / "bad.jsonl").unlink()
    assert {path[0] for path, _ in task.find_mistakes(tmp_path, ("data", "train"))} == {"data", "train"}


def test_an_official_name_and_further_mistakes_are_told_together(tmp_path):
    bad = write(tmp_path, "bad", {"words": "a"})
    task = load(task="zero-shot", name="STSBenchmark", data=bad)
    first, *others = task.find_mistakes(tmp_path)
    message = "'STSBenchmark' is an official mteb task; call a task over your own data something else"
    assert first == (("name",), message) == (("name",), describe_claim("STSBenchmark"))
    assert len(others) == 2
    with pytest.raises(ZooError, match=message):
        task.prepare(tmp_path, {})
    folder = load(task="retrieval", name="STSBenchmark", folder="gone")
    assert [path for path, _ in folder.find_mistakes(tmp_path)] == [("name",), ("folder",)]


@pytest.mark.parametrize(
    ("value", "tag"),
    [
        ({"task": "sts"}, "sts"),
        ({"task": "STSBenchmark"}, OFFICIAL),
        ({"task": "zero_shot"}, OFFICIAL),
        ({}, OFFICIAL),
        ("sts", OFFICIAL),
        (Official(task="STS12"), OFFICIAL),
    ],
)
def test_the_name_of_a_task_decides_its_section(value, tag):
    assert _find_tag(value) == tag
    assert OFFICIAL == "official"


def test_a_section_is_found_again_from_its_object(tmp_path):
    task = load(task="sts", data=write(tmp_path, "a", {}))
    assert _find_tag(task) == "sts"
    assert load(task="STSBenchmark").folder is None
    assert isinstance(load(task="STSBenchmark"), Official)


def test_a_task_has_the_whole_encoder_and_its_own_name_by_default():
    task = TaskSpec(task="kind")
    assert (task.title, task.views, task.at_least) == ("kind", ({},), None)
    assert TaskSpec(task="kind", name="mine").title == "mine"
    assert (task.find_mistakes("folder"), task.expand(), task.compute_chance({})) == ([], [task], 0)
    assert (task.describe_result({}), TaskSpec.summarise_results([])) == ({}, {})
    assert TaskSpec.test_fields == ("data", "queries", "unknown")
    flags = (TaskSpec.needs_own_classes, TaskSpec.shows_answers, LocalTask.official_type)
    assert flags == (False, False, None)
    assert LocalTask.find_sources("folder", "test") is None
    assert OwnDataTask(task="kind").resolve("folder").task == "kind"


def test_the_optional_columns_of_a_recognition_are_those_of_every_part(tmp_path):
    rows = write(tmp_path, "a", {"text": "a", "label": "x"})
    unknown = write(tmp_path, "b", {"text": "b"})
    ready = load(task="recognition", data=rows, train=rows, unknown=unknown).prepare(tmp_path, {})
    assert ready.modalities == {"text"}
    assert {part: table.roles for part, table in ready.tables.items()} == {
        "data": ("label", "text"),
        "train": ("label", "text"),
        "unknown": ("text",),
    }
    assert ready.spec.needs_own_classes
    assert ready.chance == 1

"""Entries of the report, names of result files, and checks before anything is scored."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
from datasets import Dataset

from zoo import evaluation
from zoo.core.errors import DataError, ZooError
from zoo.data import Origin
from zoo.data.table import Table
from zoo.evaluation import mteb_build, scoring
from zoo.evaluation.prepare import Prepared, name_file
from zoo.evaluation.task import ReadyTask, TaskSpec
from zoo.evaluation.tasks.clustering import Clustering
from zoo.evaluation.tasks.recognition import Recognition


class Numbers:
    """An encoder whose score is the option `dim` of its view."""

    modalities = ("text",)
    name, revision, bytes_per_vector = "numbers", "c0ffee", 12

    def __init__(self, dim=1, untrained=None):
        self.dim, self.untrained = dim, untrained
        self.view_options = {} if dim == 1 else {"dim": dim}
        self.spec = SimpleNamespace(
            recognises=False, family="numbers", free_baselines=(), suggest_when_worse=lambda facts: "train longer"
        )

    def view(self, dim=1):
        return Numbers(dim)

    def baseline(self):
        return self.untrained

    def views_sharing_a_pass(self, views):
        return [self.view(view.get("dim", 1) + 100) for view in views]


def make_ready(name, *views, measure=None, rows=4, spec=TaskSpec, **fields):
    def measure_dim(encoder, tables):
        assert [len(table) for table in tables.values()] == [rows, rows]
        return {"figure": float(encoder.dim), "other": 0.5}, {"details": name}

    tables = {part: Table(Dataset.from_dict({"text": ["a"] * rows}), part, Origin("o")) for part in ("data", "more")}
    section = spec(task="kind", name=name, views=views or ({},), **fields)
    return ReadyTask(section, lambda: None, is_official=False, tables=tables, measure=measure or measure_dim)


def test_a_report_has_an_entry_for_every_view_and_the_baseline_at_the_same_views(tmp_path, monkeypatch):
    clock = iter(np.arange(0, 100, 0.25))
    monkeypatch.setattr(scoring.time, "perf_counter", lambda: float(next(clock)))
    lock = {"a": {"skipped": 2}, "b": {"skipped": 0}}
    ready = [make_ready("a", {}, {"dim": 3}, at_least=2.0), make_ready("b", {"dim": 5})]
    report = evaluation.evaluate(Numbers(untrained=Numbers()), Prepared(ready, lock), results_folder=tmp_path)
    assert [(r["task"], r["view"], r["value"], r["baseline"], r["at_least"]) for r in report["results"]] == [
        ("a", {}, 1.0, 101.0, 2.0),
        ("a", {"dim": 3}, 3.0, 103.0, 2.0),
        ("b", {"dim": 5}, 5.0, 105.0, None),
    ]
    entry = report["results"][0]
    assert (entry["type"], entry["official"], entry["metric"], entry["bytes_per_vector"]) == (
        "kind",
        False,
        "figure",
        12,
    )
    assert (entry["seconds"], entry["sentences_per_second"]) == (0.25, 32.0)
    assert entry["data_revision"] == mteb_build.compute_revision(ready[0].tables)
    assert entry["unit"] == "texts"
    assert entry["figures"] == {"figure": 1.0, "other": 0.5}
    assert entry["details"] == {"details": "a"}
    assert 10 < entry["peak_memory_mb"] < 1e6
    assert (report["format"], report["model"], report["revision"]) == (1, "numbers", "c0ffee")
    assert report["skipped_rows"] == {"a": 2}
    assert "cpu" in report["host"]
    names = ["a__dim3.json", "a__whole.json", "b__dim5.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert (tmp_path / "a__whole.json").read_text().startswith('{\n  "task"'), "people read it"
    saved = json.loads((tmp_path / "a__whole.json").read_text())
    later = ("view", "baseline", "at_least", "verdict")
    assert saved == {name: value for name, value in entry.items() if name not in later}


def test_a_task_of_texts_and_images_counts_inputs():
    ready = dataclasses.replace(make_ready("a"), modalities=frozenset({"text", "image"}))
    assert scoring._name_unit(ready) == "inputs"


def test_rows_of_a_recognition_are_texts_or_images_in_every_part():
    kinds = {"text": "text", "image": "image"}
    assert Recognition.optional == {"data": kinds, "train": kinds, "unknown": kinds}


def test_a_clustering_of_a_single_class_is_refused_by_name():
    rows = Dataset.from_dict({"text": ["a", "b"], "label": ["x", "x"]})
    task = Clustering(task="clustering", name="mine", data={"source": "file", "path": "x.csv"})
    with pytest.raises(DataError, match="^mine: every label is 'x'; it takes two classes"):
        task.shape({"data": Table(rows, "f", Origin("o"))})


def test_a_baseline_is_scored_only_if_it_is_wanted_and_there_is_one():
    prepared = Prepared([make_ready("a")])
    for encoder, baseline in ((Numbers(), True), (Numbers(untrained=Numbers()), False)):
        assert evaluation.evaluate(encoder, prepared, baseline=baseline)["results"][0]["baseline"] is None
    assert evaluation.evaluate(Numbers(untrained=Numbers()), Prepared([]))["results"] == []


def test_a_task_adds_its_own_entries_to_the_report_once():
    class Summed(TaskSpec):
        @classmethod
        def summarise_results(cls, results):
            return {"sum": sum(result["value"] for result in results)}

    ready = [make_ready("a", {"dim": 2}, {"dim": 4}, spec=Summed), make_ready("b", spec=Summed)]
    assert evaluation.evaluate(Numbers(), Prepared(ready))["sum"] == 7


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_figure_that_is_not_finite_is_an_error(value):
    ready = make_ready("a", measure=lambda encoder, tables: ({"x": 1.0, "y": value, "z": value}, {}))
    with pytest.raises(ZooError, match="^a: y, z is not finite"):
        evaluation.evaluate(Numbers(), Prepared([ready]))


def test_details_that_json_cannot_hold_are_an_error_before_they_are_written():
    ready = make_ready("a", measure=lambda encoder, tables: ({"x": 1.0}, {"y": float("nan")}))
    with pytest.raises(ValueError, match="not JSON compliant"):
        evaluation.evaluate(Numbers(), Prepared([ready]))


def test_scores_below_their_limit_are_listed():
    results = [
        {"task": "a", "view": {}, "metric": "ap", "value": 0.12345, "at_least": 0.2},
        {"task": "b", "view": {"dim": 8}, "metric": "ap", "value": 0.1, "at_least": 0.2},
        {"task": "c", "view": {}, "metric": "ap", "value": 0.2, "at_least": 0.2},
        {"task": "d", "view": {}, "metric": "ap", "value": 0.0, "at_least": None},
        {"task": "e", "view": {}, "at_least": "baseline", "verdict": {"outcome": "worse", "sentence": "WORSE than x."}},
        {"task": "f", "view": {}, "at_least": "baseline", "verdict": {"outcome": "level", "sentence": "Level with x."}},
        {"task": "g", "view": {}, "at_least": "baseline"},
    ]
    assert evaluation.list_missed({"results": results}) == [
        "a at the whole encoder: ap is 0.1235, below the 0.2 asked for",
        "b at {'dim': 8}: ap is 0.1000, below the 0.2 asked for",
        "e at the whole encoder: WORSE than x.",
    ]


def test_tasks_that_an_encoder_cannot_compute_are_named():
    ready = make_ready("a")
    evaluation.check_encoder(Numbers(), Prepared([ready]))
    pictures = ReadyTask(ready.spec, lambda: None, is_official=False, modalities=frozenset({"text", "video", "image"}))
    with pytest.raises(ZooError, match="a: holds image, video, which numbers does not read"):
        evaluation.check_encoder(Numbers(), Prepared([pictures]))

    class Recognised(TaskSpec):
        needs_own_classes = True

    ready = make_ready("a", spec=Recognised)
    with pytest.raises(ZooError, match="a: the family numbers has no classes of its own"):
        evaluation.check_encoder(Numbers(), Prepared([ready]))
    encoder = Numbers()
    encoder.spec.recognises = True
    evaluation.check_encoder(encoder, Prepared([ready]))


def test_a_result_has_a_file_by_task_and_view_also_if_the_view_is_long():
    ready = make_ready("My task: a/b")
    assert name_file(ready, {}) == "My-task-a-b__whole.json"
    assert name_file(ready, {"layers": 3, "dim": 64}) == "My-task-a-b__layers3-dim64.json"
    assert name_file(ready, {"x": "y" * 79}) == f"My-task-a-b__x{'y' * 79}.json"
    names = [name_file(ready, {"x": "y" * 80 + end}) for end in "ab"]
    assert names[0] != names[1]
    assert {len(name) for name in names} == {len("My-task-a-b__.json") + 80 + 1 + 8}
    assert mteb_build.slug("--a  b_c.d-é--") == "a-b_c.d"


def test_two_tasks_whose_files_would_have_one_name_are_refused():
    first, second = Prepared([make_ready("a b")], {"a b": 1}), Prepared([make_ready("a/b")], {"a/b": 2})
    with pytest.raises(ZooError, match="two tasks are called 'a/b'; give one a `name`"):
        first.join(second)
    other = Prepared([make_ready("c")], {"c": 3})
    both = first.join(other)
    assert ([task.name for task in both.tasks], both.lock) == (["a b", "c"], {"a b": 1, "c": 3})

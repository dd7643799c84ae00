"""An entry of the report about a task of mteb: score, costs and answers; and remarks on scores that say nothing."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from zoo.core.errors import DataWarning, ZooError
from zoo.evaluation import multimodal_retrieval, scoring
from zoo.evaluation.evaluate import _remark_on_chance
from zoo.evaluation.task import ReadyTask, TaskSpec

TASK_DATA = {"default": {"test": {"queries": ["q"], "corpus": ["d", "e"]}}}


class FakeTask:
    """A task of mteb that records what happens to it."""

    def __init__(self, events):
        self.events = events
        dataset = {"path": "me/t", "revision": "c0ffee"}
        self.metadata = SimpleNamespace(name="T", type="STS", main_score="cosine", dataset=dataset, tasks=None)

    def load_data(self):
        self.events.append("load")
        self.dataset = TASK_DATA

    def unload_data(self):
        self.events.append("unload")


@pytest.fixture
def score(monkeypatch):
    """Score a task with a model and an mteb that only record their calls. Return entry, JSON and events."""

    def score_task(value=0.5, is_official=False, vectors=None, **attributes):
        events = []
        monkeypatch.setattr(scoring.time, "perf_counter", iter([10.0, 14.0006]).__next__)

        class FakeModel:
            input_count, seconds = 30, 1.5

            def __init__(self, *inputs, **options):
                self.vectors = vectors or {}
                self.bytes_per_vector = inputs[0].bytes_per_vector
                events.append((inputs, options))

        class FakeMemory:
            megabytes = 12.34

            def __enter__(self):
                return self

            def __exit__(self, *_):
                events.append("memory")

        def evaluate_with_mteb(model, tasks, **options):
            events.append((tasks[0].metadata.name, options))
            scores = {"test": [{"main": value, "candidates": 4}]}
            return SimpleNamespace(
                task_results=[
                    SimpleNamespace(
                        get_score=lambda: value, scores=scores, model_dump_json=lambda indent: f"json {indent}"
                    )
                ]
            )

        monkeypatch.setattr(scoring, "MtebModel", FakeModel)
        monkeypatch.setattr(scoring, "PeakMemory", FakeMemory)
        monkeypatch.setattr(scoring.mteb, "evaluate", evaluate_with_mteb)
        spec = type("Spec", (TaskSpec,), attributes)(task="kind", name="mine")
        ready = ReadyTask(spec, lambda: FakeTask(events), is_official=is_official)
        encoder = SimpleNamespace(bytes_per_vector=16, view_options={})
        scored = scoring.score(encoder, ready, "bf16", True)
        return scored.entry, scored.saved, events, encoder

    return score_task


def test_a_score_of_mteb_has_its_costs_and_the_data_is_loaded_before_and_freed_after(score):
    entry, saved, events, encoder = score()
    assert entry == {
        "task": "mine",
        "type": "kind",
        "official": False,
        "data_revision": "c0ffee",
        "metric": "cosine",
        "value": 0.5,
        "seconds": 4.001,
        "peak_memory_mb": 12.3,
        "bytes_per_vector": 16,
        "sentences_per_second": 20.0,
        "unit": "texts",
    }
    assert saved == "json 2"
    options = {
        "cache": None,
        "overwrite_strategy": "always",
        "co2_tracker": False,
        "prediction_folder": Path(),
        "show_progress_bar": False,
        "encode_kwargs": {"show_progress_bar": False},
    }
    model = ((encoder, "bf16"), {"show_progress": True, "keep_vectors": False, "kept": None})
    assert events == [model, "load", ("T", options), "memory", "unload"]
    assert score(is_official=True)[0]["type"] == "STS"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_is_an_error(score, value):
    with pytest.raises(ZooError, match=f"mine at the whole encoder: the score is {value}"):
        score(value)


def test_answers_are_listed_from_the_vectors_of_the_score(score, monkeypatch):
    listed = []
    monkeypatch.setattr(
        multimodal_retrieval, "list_answers", lambda *inputs: listed.append(inputs) or [{"query": {"text": "q"}}]
    )
    queries, documents = np.ones((1, 2)), np.zeros((2, 2))
    vectors = {"query": [queries], "document": [documents]}
    describe = {"describe_result": lambda self, scores: {"seen": scores["candidates"]}}
    entry, _, events, _ = score(vectors=vectors, shows_answers=True, **describe)
    assert entry["details"] == {"retrieved": [{"query": {"text": "q"}}], "seen": 4}
    ((data, shown_queries, shown_documents),) = listed
    assert data is TASK_DATA
    assert (shown_queries is queries, shown_documents is documents) == (True, True)
    assert events[0][1]["keep_vectors"] is True
    for missing in ("query", "document"):
        some = {name: blocks for name, blocks in vectors.items() if name != missing}
        assert score(vectors=some, shows_answers=True)[0]["details"] == {"retrieved": []}


# -- remarks -----------------------------------------------------------------------------------------------------------


def remark(value, chance):
    ready = ReadyTask(TaskSpec(task="kind", name="mine"), lambda: None, is_official=False, chance=chance)
    return _remark_on_chance({"metric": "ap", "value": value}, ready)


@pytest.mark.parametrize(("value", "chance"), [(0.0021, 0.0), (0.5121, 0.5), (1.0, 0.5), (0.2061, 0.2)])
def test_a_score_above_chance_has_no_remark(value, chance):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert remark(value, chance) == {}


@pytest.mark.parametrize(
    ("value", "chance", "words"),
    [
        (
            0.0019,
            0.0,
            "ap is 0.0019, and 0 is the score of vectors that say nothing; check what each column is read as",
        ),
        (-0.3, 0.0, "ap is -0.3000, and 0 is the score of vectors that say nothing; check what each column is read as"),
        (0.5119, 0.5, "ap is 0.5119, and chance is 0.5000; check what each column is read as"),
        (0.2059, 0.2, "ap is 0.2059, and chance is 0.2000; check what each column is read as"),
    ],
)
def test_a_score_at_chance_is_remarked_on(value, chance, words):
    with pytest.warns(DataWarning, match=f"^mine: {words}$"):
        assert remark(value, chance) == {"remark": words}


@pytest.mark.parametrize(("value", "rows", "is_remarked"), [(0.55, 100, True), (0.65, 100, False), (0.9, 4, False)])
def test_chance_has_the_noise_of_the_number_of_rows(value, rows, is_remarked):
    """Two standard errors are .1 for 100 rows at .5. A high score of few rows is no remark's business."""
    spec = TaskSpec(task="kind", name="mine")
    tables = {"data": SimpleNamespace(rows=range(rows))}
    ready = ReadyTask(spec, lambda: None, is_official=False, tables=tables, chance=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert bool(_remark_on_chance({"metric": "ap", "value": value}, ready)) is is_remarked


LABELLED = [{"text": "a", "label": label} for label in ("x", "y", "z", "x")]
PAIRS = [{"sentence1": "a", "sentence2": "b", "label": label} for label in (1, 0, 0, 0)]


@pytest.mark.parametrize(
    ("task", "tables", "chance"),
    [
        ("classification", {"data": LABELLED[:2], "train": LABELLED}, 1 / 2),
        ("zero-shot", {"data": LABELLED}, 1 / 3),
        ("pair-classification", {"data": PAIRS}, 1 / 4),
        ("recognition", {"data": LABELLED}, 1 / 3),
        ("clustering", {"data": LABELLED}, 0),
    ],
)
def test_chance_is_the_score_of_vectors_that_say_nothing(tmp_path, task, tables, chance):
    from pydantic import TypeAdapter

    from zoo.evaluation.spec import Task

    sections = {}
    for part, rows in tables.items():
        (tmp_path / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        sections[part] = {"source": "file", "path": f"{part}.jsonl"}
    ready = TypeAdapter(Task).validate_python({"task": task, **sections}).prepare(tmp_path, {})
    assert ready.chance == chance

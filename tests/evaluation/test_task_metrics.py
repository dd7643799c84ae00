"""The list of metrics by task is that of the scores that a run gives, and the first is the main score."""

from __future__ import annotations

import json

import pytest
import tiny
from pydantic import TypeAdapter
from tiny_matryoshka import build

from zoo.evaluation import prepare, scoring, task_metrics, tasks, watching
from zoo.evaluation.spec import ValidationTask

TEXTS = tiny.SENTENCES[:24]
ROWS = [
    {
        "text": text,
        "label": "abc"[i % 3],
        "same": i % 2,
        "a": text,
        "b": tiny.SENTENCES[i // 2],
        "n": i % 5,
        "bs": [tiny.SENTENCES[i // 2]],
        "cs": [tiny.SENTENCES[60 + i]],
    }
    for i, text in enumerate(TEXTS)
]
PAIR = {"sentence1": "a", "sentence2": "b"}
SECTIONS = {
    "retrieval": {"data": {"query": "a", "document": "b"}},
    "any-retrieval": {"data": {"query": "a", "document": "b"}},
    "reranking": {"data": {"query": "a", "positive": "bs", "negative": "cs"}},
    "sts": {"data": PAIR | {"score": "n"}},
    "classification": {"data": {}, "train": {}},
    "zero-shot": {"data": {}},
    "pair-classification": {"data": PAIR | {"label": "same"}},
    "clustering": {"data": {}},
    "infomec": {"data": {}, "sources": ["label", "n"]},
    "geometry": {"data": {}, "train": {}},
    "diagnose": {"data": {}},
    "few-shot": {"data": {}, "ways": 3, "shots": [1, 3], "queries": 2, "episodes": 20},
}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return build(tmp_path_factory.mktemp("encoder"))


def make_task(folder, name, **fields):
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    source = {"source": "file", "path": str(folder / "rows.jsonl")}
    parts = {
        key: source | {"columns": value} if isinstance(value, dict) else value for key, value in SECTIONS[name].items()
    }
    return TypeAdapter(ValidationTask).validate_python({"task": name, **parts, **fields})


@pytest.mark.parametrize("name", SECTIONS)
def test_every_listed_metric_is_a_score_and_the_first_is_the_main_score(name, encoder, tmp_path):
    (task,) = prepare([make_task(tmp_path, name)]).tasks
    figures = scoring.compute_figures(encoder, task)
    metrics = task_metrics.list_metrics(name)
    assert set(metrics) <= set(figures)
    assert metrics[0] == scoring.score(encoder, task, "fp32", show_progress=False).entry["metric"]
    for metric in metrics[:4]:
        watch = watching.prepare_watch([make_task(tmp_path, name, metric=metric)], tmp_path)
        assert watch.score(encoder) == {name: pytest.approx(figures[metric])}


def test_every_task_has_metrics():
    assert {name: bool(task_metrics.list_metrics(name)) for name in tasks.names()} == dict.fromkeys(tasks.names(), True)


def test_the_score_of_a_task_is_the_mean_over_its_views_and_leaves_the_random_state(encoder, tmp_path):
    import torch

    views = [{"dim": 8}, {"dim": 16}]
    watch = watching.prepare_watch([make_task(tmp_path, "sts", views=views)], tmp_path)
    before = torch.get_rng_state()
    score = watch.score(encoder)["sts"]
    assert torch.equal(torch.get_rng_state(), before)
    each = [watching.prepare_watch([make_task(tmp_path, "sts", views=[v])], tmp_path).score(encoder) for v in views]
    assert score == pytest.approx(sum(entry["sts"] for entry in each) / 2)
    assert watching.prepare_watch([], tmp_path) is None

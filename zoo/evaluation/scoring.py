"""One encoder on one task: the report's entry, by mteb, or by what computes a task that mteb has not."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, Any

import mteb

from zoo.core.errors import ZooError
from zoo.evaluation import any_retrieval, mmeb, mteb_tasks
from zoo.evaluation.local_tasks import revision
from zoo.evaluation.mteb_model import Adapter, PeakMemory
from zoo.evaluation.spec import AnyRetrieval, Mmeb

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask

    from zoo.encoder import Encoder
    from zoo.evaluation import Ready


def score(encoder: Encoder, ready: Ready, precision: str, show_progress: bool) -> tuple[dict[str, Any], str]:
    """The entry of `encoder`, a view, and mteb's TaskResult as JSON, or the figures of what computes the task. Raises ZooError
    for a score that is not finite."""
    return _measured(encoder, ready) if ready.measure else _scored(encoder, ready, precision, show_progress)


def _scored(encoder: Encoder, ready: Ready, precision: str, show_progress: bool) -> tuple[dict[str, Any], str]:
    task = ready.make()
    shown = isinstance(ready.spec, AnyRetrieval | Mmeb)
    mteb_tasks.load(task)  # beforehand, so that a download does not count as time of the encoder
    adapter: Any = Adapter(encoder, precision, show_progress=show_progress, keep=shown)
    with PeakMemory() as memory:
        began = time.perf_counter()
        found = mteb.evaluate(
            adapter,
            [task],
            cache=None,
            overwrite_strategy="always",
            co2_tracker=False,
            show_progress_bar=False,
            encode_kwargs={"show_progress_bar": False},  # the encoder has a bar of its own
        )
        seconds = time.perf_counter() - began
    for part in mteb_tasks.parts(task):
        part.unload_data()  # the parts of an aggregate live as long as its class
    result = found.task_results[0]
    value = float(result.get_score())
    if not math.isfinite(value):
        raise ZooError(f"{ready.name} at {encoder.view_options or 'the whole encoder'}: the score is {value}")
    entry = _entry(
        encoder,
        ready,
        task.metadata.type if ready.official else ready.spec.task,
        task.metadata.dataset["revision"],
        (task.metadata.main_score, value),
        (seconds, memory.megabytes),
        adapter.texts / max(adapter.seconds, 1e-9),
    )
    if shown:
        entry["details"] = {"retrieved": _retrieved(adapter, ready.make())}
    if isinstance(ready.spec, Mmeb):
        entry["details"]["mmeb"] = mmeb.about(ready.spec, result.scores["test"][0])
    return entry, result.model_dump_json(indent=2)


def _retrieved(adapter: Any, task: AbsTask) -> list[dict[str, Any]]:
    """Some answers, from the vectors that were made for the score."""
    task.load_data()
    held = task.dataset["default"]["test"]  # type: ignore[index]
    queries = any_retrieval.kept(adapter.vectors, "query", len(held["queries"]))
    documents = any_retrieval.kept(adapter.vectors, "document", len(held["corpus"]))
    return [] if queries is None or documents is None else any_retrieval.examples(task.dataset, queries, documents)


def _measured(encoder: Encoder, ready: Ready) -> tuple[dict[str, Any], str]:
    assert ready.tables is not None
    assert ready.measure is not None
    with PeakMemory() as memory:
        began = time.perf_counter()
        figures, details = ready.measure(encoder, {part: table.rows for part, table in ready.tables.items()})
        seconds = time.perf_counter() - began
    if lost := [name for name, value in figures.items() if not math.isfinite(value)]:
        raise ZooError(f"{ready.name}: {', '.join(lost)} is not finite")
    entry = _entry(
        encoder,
        ready,
        ready.spec.task,
        revision(dict(ready.tables)),
        next(iter(figures.items())),
        (seconds, memory.megabytes),
        sum(len(table.rows) for table in ready.tables.values()) / max(seconds, 1e-9),
    )
    entry |= {"figures": figures, "details": details}
    return entry, json.dumps(entry, indent=2, allow_nan=False)


def _entry(
    encoder: Encoder,
    ready: Ready,
    kind: str,
    data: str,
    main: tuple[str, float],
    cost: tuple[float, float],
    speed: float,
) -> dict[str, Any]:
    """What every task's entry holds; `cost` is in seconds and in MB, `speed` in inputs a second."""
    return {
        "task": ready.name,
        "type": kind,
        "official": ready.official,
        "data_revision": data,
        "metric": main[0],
        "value": main[1],
        "seconds": round(cost[0], 3),
        "peak_memory_mb": round(cost[1], 1),
        "bytes_per_vector": encoder.bytes_per_vector,
        "sentences_per_second": round(speed, 1),
    }

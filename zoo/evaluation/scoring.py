"""Scores one encoder on one task: an entry of the report, by mteb or by the task itself."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import mteb
import numpy as np

from zoo.core.errors import ZooError
from zoo.encoder import Encoder
from zoo.evaluation import mteb_catalogue, multimodal_retrieval
from zoo.evaluation.mteb_build import compute_revision
from zoo.evaluation.mteb_model import MtebModel, PeakMemory
from zoo.evaluation.recording import Recorder
from zoo.evaluation.task import HITS, ReadyTask
from zoo.metrics.outcomes import Outcomes

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask

    from zoo.evaluation.kept_vectors import KeptVectors


class Scored(NamedTuple):
    """A view of an encoder, scored on a task.

    Attributes:
        entry: the report's entry.
        saved: the full result as JSON.
        outcomes: what the score is made of, or None if it is not a plain statistic of rows or queries.
    """

    entry: dict[str, Any]
    saved: str
    outcomes: Outcomes | None


class MtebRun(NamedTuple):
    """The result of a task that mteb ran: the task, its result, the main score, its outcomes, and its costs."""

    task: AbsTask
    result: Any
    value: float
    outcomes: Outcomes | None
    seconds: float
    megabytes: float


def score(
    encoder: Encoder, task: ReadyTask, precision: str, show_progress: bool, kept: KeptVectors | None = None
) -> Scored:
    """Score a view of an encoder on a task, and keep its vectors in `kept`. Raises ZooError for a score that is not finite."""
    if task.measure:
        return _score_here(encoder, task)
    return _score_with_mteb(encoder, task, precision, show_progress, kept)


def run_mteb(model: Any, task: ReadyTask) -> MtebRun:
    """Let mteb score `model`, any model that it takes, on a task."""
    mteb_task = task.make()
    mteb_catalogue.load_data(mteb_task)  # now, so that a download does not count as the encoder's time
    recorder = Recorder(mteb_task)
    with PeakMemory() as memory:
        began = time.perf_counter()
        evaluation = mteb.evaluate(
            model,
            [mteb_task],
            cache=None,
            overwrite_strategy="always",
            co2_tracker=False,
            prediction_folder=Path(),  # nothing is written there: the recorder keeps the predictions
            show_progress_bar=False,
            encode_kwargs={"show_progress_bar": False},  # the encoder has a progress bar of its own
        )
        seconds = time.perf_counter() - began
    result = evaluation.task_results[0]
    value = float(result.get_score())
    outcomes = recorder.find_outcomes(next(iter(result.scores.values()))[0], value)
    for part in mteb_catalogue.list_parts(mteb_task):
        part.unload_data()  # the parts of an aggregate task live as long as its class
    return MtebRun(mteb_task, result, value, outcomes, seconds, memory.megabytes)


def compute_figures(encoder: Encoder, task: ReadyTask) -> dict[str, float]:
    """Compute all metrics of a view of an encoder on a task, by name. Metrics that are not finite are left out.

    Raises ZooError if the main score is not finite.
    """
    if task.measure:
        assert task.tables is not None
        scores, _ = task.measure(encoder, {part: table.rows for part, table in task.tables.items()})
        main = next(iter(scores.values()))
    else:
        run = run_mteb(MtebModel(encoder, "fp32"), task)
        scores, main = run.result.scores["test"][0], run.value
    if not math.isfinite(main):
        raise ZooError(f"{task.name} at {encoder.view_options or 'the whole encoder'}: the score is {main}")
    numbers = {name: float(value) for name, value in scores.items() if isinstance(value, int | float)}
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def _score_with_mteb(
    encoder: Encoder, task: ReadyTask, precision: str, show_progress: bool, kept: KeptVectors | None
) -> Scored:
    shows_answers = task.spec.shows_answers
    model: Any = MtebModel(encoder, precision, show_progress=show_progress, keep_vectors=shows_answers, kept=kept)
    run = run_mteb(model, task)
    if not math.isfinite(run.value):
        raise ZooError(f"{task.name} at {encoder.view_options or 'the whole encoder'}: the score is {run.value}")
    metadata = run.task.metadata
    entry = _make_entry(
        task,
        kind=metadata.type if task.is_official else task.spec.task,
        revision=metadata.dataset["revision"],
        main_score=(metadata.main_score, run.value),
        seconds=run.seconds,
        megabytes=run.megabytes,
        speed=model.input_count / max(model.seconds, 1e-9),
        bytes_per_vector=model.bytes_per_vector,
    )
    if task.spec.shows_answers:
        details = {"retrieved": _list_answers(model, task.make())}
        entry["details"] = details | task.spec.describe_result(run.result.scores["test"][0])
    return Scored(entry, run.result.model_dump_json(indent=2), run.outcomes)


def _list_answers(model: MtebModel, task: AbsTask) -> list[dict[str, Any]]:
    """Some answers, from the vectors that were computed for the score."""
    task.load_data()
    split: Any = task.dataset["default"]["test"]  # type: ignore[index]
    queries = multimodal_retrieval.find_vectors(model.vectors, "query", len(split["queries"]))
    documents = multimodal_retrieval.find_vectors(model.vectors, "document", len(split["corpus"]))
    if queries is None or documents is None:
        return []
    return multimodal_retrieval.list_answers(task.dataset, queries, documents)


def _score_here(encoder: Encoder, task: ReadyTask) -> Scored:
    assert task.tables is not None
    assert task.measure is not None
    with PeakMemory() as memory:
        began = time.perf_counter()
        scores, details = task.measure(encoder, {part: table.rows for part, table in task.tables.items()})
        seconds = time.perf_counter() - began
    lost = [name for name, value in scores.items() if not math.isfinite(value)]
    if lost:
        raise ZooError(f"{task.name}: {', '.join(lost)} is not finite")
    entry = _make_entry(
        task,
        kind=task.spec.task,
        revision=compute_revision(task.tables),
        main_score=next(iter(scores.items())),
        seconds=seconds,
        megabytes=memory.megabytes,
        speed=sum(len(table.rows) for table in task.tables.values()) / max(seconds, 1e-9),
        bytes_per_vector=encoder.bytes_per_vector,
    )
    hits = details.pop(HITS, None)
    outcomes = None if hits is None else Outcomes(task.spec.outcome_unit, "mean", np.asarray(hits, dtype=float))
    entry |= {"figures": scores, "details": details}
    return Scored(entry, json.dumps(entry, indent=2, allow_nan=False), outcomes)


def _name_unit(task: ReadyTask) -> str:
    """Return the name of the task's inputs: texts, images or vectors; inputs if it has several kinds."""
    return f"{next(iter(task.modalities))}s" if len(task.modalities) == 1 else "inputs"


def _make_entry(
    task: ReadyTask,
    *,
    kind: str,
    revision: str,
    main_score: tuple[str, float],
    seconds: float,
    megabytes: float,
    speed: float,
    bytes_per_vector: int,
) -> dict[str, Any]:
    """The fields that every entry of the report has. `speed` is in inputs per second."""
    return {
        "task": task.name,
        "type": kind,
        "official": task.is_official,
        "data_revision": revision,
        "metric": main_score[0],
        "value": main_score[1],
        "seconds": round(seconds, 3),
        "peak_memory_mb": round(megabytes, 1),
        "bytes_per_vector": bytes_per_vector,
        "sentences_per_second": round(speed, 1),
        "unit": _name_unit(task),
    }

"""Evaluation through mteb: official tasks and the user's own, at any number of views, beside the untrained backbone."""

from __future__ import annotations

import math
import os
import platform
import random
import re
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import data, files
from zoo.data import Table
from zoo.errors import ZooError
from zoo.evaluation import official
from zoo.evaluation.spec import Official, TaskSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mteb.abstasks.abstask import AbsTask

    from zoo.families import Encoder

__all__ = ["Prepared", "evaluate", "host", "missed", "prepare", "problems"]


@dataclass(frozen=True)
class Ready:
    """A task whose data is read: `make` gives a fresh mteb task."""

    spec: TaskSpec
    make: Callable[[], AbsTask]
    official: bool


@dataclass(frozen=True)
class Prepared:
    """Tasks whose data was read and found good, and what of it goes into lock.json."""

    tasks: list[Ready]
    lock: dict[str, Any] = field(default_factory=dict)


def problems(task: TaskSpec, *, folder: Path) -> list[tuple[tuple[str | int, ...], str]]:
    """What can be said against a task without reading its rows: (path below the task, message)."""
    if isinstance(task, Official):
        wrong = official.problem(task.task)
        return [(("task",), wrong)] if wrong else []
    found: list[tuple[tuple[str | int, ...], str]] = []
    for name, roles in task.roles.items():
        source = getattr(task, name)
        if source is not None:
            found += [((name, *below), text) for below, text in data.problems(source, roles, folder=folder)]
    return found


def prepare(tasks: Sequence[TaskSpec], folder: Path = Path()) -> Prepared:
    """Read all the tasks' own data, so that what is wrong with it is found before any training. Raises DataError."""
    out = Prepared([])
    for task in tasks:
        given: tuple[TaskSpec, dict[str, Table]] | None
        if isinstance(task, Official):
            if wrong := official.problem(task.task):
                raise ZooError(wrong)
            given = official.local(task, folder)
        else:
            parts = {n: (getattr(task, n), roles) for n, roles in task.roles.items() if getattr(task, n) is not None}
            extra = task.optional
            given = task, {n: data.read(d, r, extra.get(n, {}), folder=folder) for n, (d, r) in parts.items()}
        if given is None:
            out.tasks.append(Ready(task, _from_hub(task), official=True))
            continue
        own, tables = given
        out.tasks.append(Ready(own, _own(own, tables), official=False))
        for part, table in tables.items():
            name = own.name or own.task
            out.lock[name if part == "data" else f"{name}/{part}"] = {
                "fingerprint": table.fingerprint,
                "rows": len(table.rows),
                "skipped": len(table.skipped),
                "origin": vars(table.origin),
            }
    return out


def _own(task: TaskSpec, tables: dict[str, Table]) -> Callable[[], AbsTask]:
    from zoo.evaluation import tasks as own

    with _random_state():
        shaped = own.shape(task, tables)
    return lambda: own.build(task, tables, shaped)


def _from_hub(task: TaskSpec) -> Callable[[], AbsTask]:
    def make() -> AbsTask:
        import mteb

        return mteb.get_task(task.task)

    return make


def evaluate(
    encoder: Encoder,
    tasks: Prepared | Sequence[TaskSpec],
    *,
    folder: Path = Path(),
    baseline: bool = True,
    results_folder: Path | None = None,
    show_progress: bool = False,
    precision: str = "fp32",
) -> dict[str, Any]:
    """Score `encoder` on every task at every view.

    Args:
        baseline: also score what the encoder was before training, at the same view.
        results_folder: receives mteb's own TaskResult of each run as JSON.
        precision: of `encode`; fp32 unless asked otherwise, so that scores compare.

    Returns the report: `results` holds for each task and view the main score, the baseline's, seconds (encoding and
    scoring), peak memory of the process in MB, bytes per vector and sentences per second of `encode`.
    Raises ZooError when a task's data cannot be had or a vector is not finite.
    """
    prepared = tasks if isinstance(tasks, Prepared) else prepare(tasks, folder)
    before = encoder.baseline() if baseline and prepared.tasks else None
    results: list[dict[str, Any]] = []
    with _quiet(show_progress):
        for ready in prepared.tasks:
            for view in ready.spec.views:
                score = _score(encoder.view(**view), ready, precision)
                untrained = None
                if before is not None:
                    untrained = _score(before.view(**view), ready, precision)["value"]
                if results_folder is not None:
                    name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{score['task']}__{_label(view)}")
                    files.write_text(results_folder / f"{name}.json", score.pop("json"))
                score.pop("json", None)
                score |= {"view": dict(view), "baseline": untrained, "at_least": ready.spec.at_least}
                results.append(score)
    skipped = {name: entry["skipped"] for name, entry in prepared.lock.items() if entry["skipped"]}
    report = {"format": 1, "model": encoder.name, "revision": encoder.revision, "host": host(), "results": results}
    return report | {"skipped_rows": skipped}


def _label(view: dict[str, Any]) -> str:
    return "-".join(f"{k}{v}" for k, v in view.items()) or "whole"


def _score(encoder: Encoder, ready: Ready, precision: str) -> dict[str, Any]:
    import mteb

    from zoo.evaluation.adapter import Adapter, PeakMemory

    with _random_state(), PeakMemory() as memory:
        task = ready.make()
        adapter: Any = Adapter(encoder, precision)
        began = time.perf_counter()
        try:
            found = mteb.evaluate(
                adapter, [task], cache=None, overwrite_strategy="always", co2_tracker=False, show_progress_bar=False
            )
        except (OSError, ConnectionError) as error:
            if not ready.official:
                raise
            raise ZooError(
                f"{ready.spec.task}: its data cannot be had ({str(error).splitlines()[0][:120]}); connect to the Hub, or name a "
                "local copy with `folder:` or ZOO_DATA"
            ) from None
        seconds = time.perf_counter() - began
    result = found.task_results[0]
    value = float(result.get_score())
    if not math.isfinite(value):
        raise ZooError(f"{ready.spec.name or ready.spec.task} at {encoder.view_options}: the score is {value}")
    return {
        "task": ready.spec.name or ready.spec.task,
        "type": ready.spec.task if not ready.official else task.metadata.type,
        "official": ready.official,
        "data_revision": task.metadata.dataset["revision"],
        "metric": task.metadata.main_score,
        "value": value,
        "seconds": round(seconds, 3),
        "peak_memory_mb": round(memory.megabytes, 1),
        "bytes_per_vector": encoder.bytes_per_vector,
        "sentences_per_second": round(adapter.texts / max(adapter.seconds, 1e-9), 1),
        "json": result.model_dump_json(indent=2),
    }


def missed(report: dict[str, Any]) -> list[str]:
    """One line for each result below its `at_least`."""
    return [
        f"{r['task']} at {r['view'] or 'the whole encoder'}: {r['metric']} is {r['value']:.4f}, "
        f"below the {r['at_least']} asked for"
        for r in report["results"]
        if r["at_least"] is not None and r["value"] < r["at_least"]
    ]


def host() -> dict[str, Any]:
    """The machine, as reports and lock.json name it."""
    import psutil
    import torch

    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


@contextmanager
def _random_state() -> Iterator[None]:
    """mteb seeds the global generators when it makes a task; give them back as they were."""
    import numpy as np
    import torch

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


@contextmanager
def _quiet(show_progress: bool) -> Iterator[None]:
    import datasets

    was = datasets.is_progress_bar_enabled()
    if not show_progress:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if was:
            datasets.enable_progress_bars()

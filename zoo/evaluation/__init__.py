"""Evaluation through mteb: official tasks and the user's own, at any number of views, beside the untrained backbone."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import data
from zoo.core import atomic_files
from zoo.core.errors import DataError, ZooError
from zoo.data import Table
from zoo.evaluation import mteb_tasks
from zoo.evaluation.spec import Infomec, Mmeb, Official, Recognition, TaskSpec
from zoo.metrics.disentanglement import infomec

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask

    from zoo.encoder import Encoder

INPUTS = ("text", "image", "vector")
LABEL = 80  # characters of a view in the name of a file
__all__ = ["Prepared", "evaluate", "fitting", "host", "infomec", "missed", "prepare", "problems"]


Measure = Callable[["Encoder", Mapping[str, Any]], tuple[dict[str, float], dict[str, Any]]]


@dataclass(frozen=True)
class Ready:
    """A task whose data is known to be good: `make` gives a fresh mteb task."""

    spec: TaskSpec
    make: Callable[[], AbsTask]
    official: bool
    modalities: frozenset[str] = frozenset({"text"})
    tables: Mapping[str, Table] | None = None  # of a task that is not mteb's, and what computes it
    measure: Measure | None = None

    @property
    def name(self) -> str:
        return self.spec.name or self.spec.task


@dataclass(frozen=True)
class Prepared:
    """Tasks whose data was read and found good, and what of it goes into lock.json."""

    tasks: list[Ready]
    lock: dict[str, Any] = field(default_factory=dict)

    def joined(self, other: Prepared) -> Prepared:
        """Both together. Raises ZooError for two tasks of one name."""
        taken = {_file(ready, {}) for ready in self.tasks}
        for ready in other.tasks:
            if _file(ready, {}) in taken:
                raise ZooError(f"two tasks are called {ready.name!r}; give one a `name`")
        return Prepared([*self.tasks, *other.tasks], self.lock | other.lock)


def problems(task: TaskSpec, *, folder: Path, unsure: Container[str] = ()) -> list[tuple[tuple[str | int, ...], str]]:
    """What can be said against a task without reading its rows: (path below the task, message). Of its parts that are `unsure`
    nobody knows yet which columns they have."""
    if isinstance(task, Official):
        wrong = mteb_tasks.problem(task.task)
        return [(("task",), wrong)] if wrong else []
    found: list[tuple[tuple[str | int, ...], str]] = []
    if task.name in mteb_tasks.names():
        found.append((("name",), _claims(task.name)))
    for name, roles in task.roles.items():
        source = getattr(task, name)
        if source is not None:
            need = {} if name in unsure else roles
            found += [((name, *below), text) for below, text in data.problems(source, need, folder=folder)]
    return found


def _claims(name: str | None) -> str:
    return f"{name!r} is an official mteb task; call a task over your own data something else"


def prepare(tasks: Sequence[TaskSpec], folder: Path = Path()) -> Prepared:
    """Read all the tasks' data, their own and the Hub's, so that what is wrong with it is found before any training.

    Raises DataError for data that no task can be made of, ZooError for an official task that mteb does not know or whose
    data cannot be had, and for two tasks of one name.
    """
    from zoo.evaluation.mteb_isolation import quiet, random_state

    out = Prepared([])
    with random_state(), quiet():
        for task in tasks:
            if isinstance(task, Official):
                if found := mteb_tasks.local(task, folder):
                    ready = _own(found.spec, found.tables, out.lock, found.parent)
                else:
                    ready = _from_hub(task, out.lock)
            elif isinstance(task, Mmeb):
                from zoo.evaluation import mmeb

                several = [_own(each, {"data": mmeb.read(each, folder)}, out.lock) for each in mmeb.expanded(task)]
                out = out.joined(Prepared(several))
                continue
            else:
                if task.name in mteb_tasks.names():
                    raise ZooError(_claims(task.name))
                parts = {n: (getattr(task, n), need) for n, need in task.roles.items() if getattr(task, n) is not None}
                extra = task.optional
                tables = {n: data.read(d, need, extra.get(n, {}), folder=folder) for n, (d, need) in parts.items()}
                ready = _own(task, tables, out.lock)
            out = out.joined(Prepared([ready]))
    return out


def _own(task: TaskSpec, tables: dict[str, Table], lock: dict[str, Any], parent: type[AbsTask] | None = None) -> Ready:
    from zoo.evaluation import local_tasks as own
    from zoo.metrics import infomec_of_encoder

    for part, table in tables.items():
        name = task.name or task.task
        lock[name if part == "data" else f"{name}/{part}"] = {
            "fingerprint": table.fingerprint,
            "rows": len(table.rows),
            "skipped": len(table.skipped),
            "origin": vars(table.origin),
        }
    modalities = frozenset(role for table in tables.values() for role in table.roles if role in INPUTS)
    if isinstance(task, Recognition | Infomec):
        if len(modalities) != 1 or not all(modalities <= set(table.roles) for table in tables.values()):
            raise DataError(
                f"{task.name or task.task}: every part needs a column `text`, or every part a column `image`, or `vector`"
            )
        measure = (
            partial(infomec_of_encoder.measure, sources=task.sources) if isinstance(task, Infomec) else _by_the_family
        )
        return Ready(task, _no_task, official=False, modalities=modalities, tables=tables, measure=measure)
    shaped, revision = own.shape(task, tables), own.revision(tables)
    image = frozenset({"image"}) & modalities
    held = image or frozenset({"text"})
    if task.task in own.ANY:
        held = frozenset(own.modalities(task.task, shaped))
    return Ready(task, lambda: own.build(task, shaped, revision, parent), official=False, modalities=held)


def _by_the_family(encoder: Encoder, rows: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, Any]]:
    return encoder.evaluate_recognition(rows)


def _no_task() -> AbsTask:
    raise ZooError("a task that is computed here is none of mteb's")


def _from_hub(task: TaskSpec, lock: dict[str, Any]) -> Ready:
    known = mteb_tasks.get(task.task)
    mteb_tasks.load(known)
    lock[task.name or task.task] = mteb_tasks.lock_entry(known)
    modalities = frozenset(known.metadata.modalities)
    return Ready(task, lambda: mteb_tasks.get(task.task), official=True, modalities=modalities)


def fitting(encoder: Encoder, prepared: Prepared) -> None:
    """Raises ZooError for a task of a modality that `encoder` does not read, or that its family cannot compute."""
    for ready in prepared.tasks:
        if unread := ready.modalities - set(encoder.modalities):
            raise ZooError(f"{ready.name}: holds {', '.join(sorted(unread))}, which {encoder.name} does not read")
        if isinstance(ready.spec, Recognition) and not encoder.spec.recognises:
            raise ZooError(f"{ready.name}: the family {encoder.spec.family} has no classes of its own to recognise")


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
    from zoo.evaluation.mteb_isolation import quiet, random_state

    prepared = tasks if isinstance(tasks, Prepared) else prepare(tasks, folder)
    fitting(encoder, prepared)
    results: list[dict[str, Any]] = []
    with random_state(), quiet():
        from zoo.evaluation import scoring  # not before: the import of mteb speaks and draws

        for ready in prepared.tasks:
            for view in ready.spec.views:
                score, saved = scoring.score(encoder.view(**view), ready, precision, show_progress)
                if results_folder is not None:
                    atomic_files.write_text(results_folder / _file(ready, view), saved)
                results.append(score | {"view": dict(view), "baseline": None, "at_least": ready.spec.at_least})
        # afterwards, so that it does not stand in the memory that the encoder's own views are said to take
        before = encoder.baseline() if baseline and prepared.tasks else None
        if before is not None:
            rest = iter(results)
            for ready in prepared.tasks:
                for twin in before.views_sharing_a_pass(ready.spec.views):
                    next(rest)["baseline"] = scoring.score(twin, ready, precision, show_progress)[0]["value"]
    skipped = {name: entry["skipped"] for name, entry in prepared.lock.items() if entry["skipped"]}
    report = {"format": 1, "model": encoder.name, "revision": encoder.revision, "host": host(), "results": results}
    if any(isinstance(ready.spec, Mmeb) for ready in prepared.tasks):
        from zoo.evaluation import mmeb

        report["averages"] = mmeb.averages(results)
    return report | {"skipped_rows": skipped}


def _file(ready: Ready, view: dict[str, Any]) -> str:
    from zoo.evaluation.local_tasks import slug

    label = "-".join(f"{k}{v}" for k, v in view.items()) or "whole"
    short = slug(label) if len(label) <= LABEL else f"{slug(label[:LABEL])}-{atomic_files.digest(label)[:8]}"
    return f"{slug(ready.name)}__{short}.json"


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

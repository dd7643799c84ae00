"""Scores an encoder on tasks at any number of views, beside the encoder before training."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.core import atomic_files
from zoo.core.errors import DataWarning
from zoo.core.host import describe_host
from zoo.evaluation.mteb_isolation import preserve_random_state, silence_mteb
from zoo.evaluation.prepare import Prepared, check_encoder, name_file, prepare
from zoo.evaluation.task import ReadyTask, TaskSpec

if TYPE_CHECKING:
    from zoo.encoder import Encoder


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

    An encoder that is a view itself, for example a cut one, is reported as that view, and the baseline is the same view of the
    encoder before training.

    Args:
        folder: where relative paths of the tasks' data start.
        baseline: also score the encoder before training, at the same views.
        results_folder: receives mteb's own TaskResult of each run as JSON.
        precision: of `encode`; with fp32 scores compare between machines.

    Returns the report. Its `results` hold for each task and view the main score, the baseline's score, seconds (encoding and
    scoring), peak memory of the process in MB, bytes per vector and inputs per second of `encode`. Raises ZooError if a task's
    data cannot be read or a vector is not finite.
    """
    prepared = tasks if isinstance(tasks, Prepared) else prepare(tasks, folder)
    check_encoder(encoder, prepared)
    results: list[dict[str, Any]] = []
    with preserve_random_state(), silence_mteb():
        from zoo.evaluation import scoring  # only now: importing mteb prints and draws random numbers

        for task in prepared.tasks:
            for view in list_views(encoder, task):
                entry, saved = scoring.score(encoder.view(**view), task, precision, show_progress)
                entry |= _remark_on_chance(entry, task)
                if results_folder is not None:
                    atomic_files.write_text(results_folder / name_file(task, view), saved)
                results.append(entry | {"view": dict(view), "baseline": None, "at_least": task.spec.at_least})
        # The baseline comes last, so that its memory is not counted in the peak memory of the encoder's views.
        untrained = encoder.baseline() if baseline and prepared.tasks else None
        if untrained is not None:
            entries = iter(results)
            for task in prepared.tasks:
                for view_of_baseline in untrained.views_sharing_a_pass(list_views(encoder, task)):
                    score = scoring.score(view_of_baseline, task, precision, show_progress)[0]["value"]
                    next(entries)["baseline"] = score
    report: dict[str, Any] = {
        "format": 1,
        "model": encoder.name,
        "revision": encoder.revision,
        "host": describe_host(),
        "results": results,
    }
    for section in dict.fromkeys(type(task.spec) for task in prepared.tasks):
        report |= section.summarise_results(results)
    skipped = {name: entry["skipped"] for name, entry in prepared.lock.items() if entry["skipped"]}
    return report | {"skipped_rows": skipped}


def list_views(encoder: Encoder, task: ReadyTask) -> list[dict[str, Any]]:
    """List the options of each view to score: those of `encoder` itself, replaced by those of the task."""
    return [{**encoder.view_options, **view} for view in task.spec.views]


def _remark_on_chance(entry: Mapping[str, Any], task: ReadyTask) -> dict[str, Any]:
    """Return a remark, and warn, if a score is not better than that of vectors that say nothing."""
    if entry["value"] > task.chance + _estimate_noise_of_chance(task):
        return {}
    level = f"chance is {task.chance:.4f}" if task.chance else "0 is the score of vectors that say nothing"
    remark = f"{entry['metric']} is {entry['value']:.4f}, and {level}; check what each column is read as"
    warnings.warn(f"{task.name}: {remark}", DataWarning, stacklevel=3)
    return {"remark": remark}


def _estimate_noise_of_chance(task: ReadyTask) -> float:
    """Return how far above chance a score of vectors that say nothing can be: two standard errors of a share of the rows.

    The most is half of what is above chance, so that a perfect score of few rows is not remarked on.
    """
    tested = (table for part, table in (task.tables or {}).items() if part in task.spec.test_fields)
    rows = max((len(table.rows) for table in tested), default=0)
    variance = task.chance * (1 - task.chance) / rows if rows else 0.0
    return max(0.02 * task.chance + 0.002, min(2 * math.sqrt(variance), (1 - task.chance) / 2))


def list_missed(report: Mapping[str, Any]) -> list[str]:
    """One line for each result below its `at_least`."""
    return [
        f"{r['task']} at {r['view'] or 'the whole encoder'}: {r['metric']} is {r['value']:.4f}, "
        f"below the {r['at_least']} asked for"
        for r in report["results"]
        if r["at_least"] is not None and r["value"] < r["at_least"]
    ]

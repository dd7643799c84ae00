"""Scores an encoder on tasks at any number of views, beside the encoder before training and free baselines."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.core import atomic_files
from zoo.core.errors import DataWarning
from zoo.core.host import describe_host
from zoo.evaluation import comparison
from zoo.evaluation.mteb_isolation import preserve_random_state, silence_mteb
from zoo.evaluation.prepare import Prepared, check_encoder, name_file, prepare
from zoo.evaluation.task import ReadyTask, TaskSpec
from zoo.schema import Baselines, Training

if TYPE_CHECKING:
    from zoo.encoder import Encoder
    from zoo.evaluation.baselines import Baseline, BaselineScore
    from zoo.evaluation.kept_vectors import KeptVectors
    from zoo.metrics.outcomes import Outcomes


def evaluate(
    encoder: Encoder,
    tasks: Prepared | Sequence[TaskSpec],
    *,
    folder: Path = Path(),
    baseline: bool = True,
    free_baselines: Baselines = "cheap",
    training_rows: Any = None,
    training: Training | None = None,
    shared_baselines: Sequence[type[Baseline]] = (),
    results_folder: Path | None = None,
    show_progress: bool = False,
    precision: str = "fp32",
    kept: KeptVectors | None = None,
) -> dict[str, Any]:
    """Score `encoder` on every task at every view.

    An encoder that is a view itself, for example a cut one, is reported as that view, and the baseline is the same view of the
    encoder before training.

    Args:
        folder: where relative paths of the tasks' data start.
        baseline: also score the encoder before training, at the same views, and the free baselines.
        free_baselines: which free baselines are scored; see `zoo.evaluation.baselines`.
        training_rows, training: rows and settings that free baselines learn with; without rows, only those that learn nothing
            are scored.
        shared_baselines: further free baselines, beside those that the encoder's family names.
        results_folder: receives mteb's own TaskResult of each run as JSON.
        precision: of `encode`; with fp32 scores compare between machines.
        kept: receives the vectors of the whole encoder, for `zoo.evaluation.coded.score_codes`.

    Returns the report. Its `results` hold for each task and view the main score, the baseline's score, seconds (encoding and
    scoring), peak memory of the process in MB, bytes per vector and inputs per second of `encode`, and a `verdict` beside the
    best baseline. `free_baselines` holds their scores by task. Raises ZooError if a task's data cannot be read or a vector is
    not finite.
    """
    prepared = tasks if isinstance(tasks, Prepared) else prepare(tasks, folder)
    check_encoder(encoder, prepared)
    free_scores: Mapping[str, list[BaselineScore]] = {}
    with preserve_random_state(), silence_mteb():
        from zoo.evaluation import baselines  # only now: importing mteb prints and draws random numbers

        results, outcomes = _score_views(encoder, prepared, results_folder, precision, show_progress, kept)
        if baseline:
            # They come last, so that their memory is not counted in the peak memory of the encoder's views.
            untrained_scores = _score_untrained(encoder, prepared, precision, show_progress)
            compared = [task for task in prepared.tasks if task.spec.compares_models]
            free_scores = baselines.measure(
                encoder, compared, training_rows, free_baselines, training, shared_baselines
            )
            facts = comparison.describe_rows(encoder, training_rows)
            specs = {task.name: task.spec for task in prepared.tasks}
            for number, entry in enumerate(results):
                entry["baseline"] = untrained_scores[number].value if untrained_scores else None
                if entry["task"] not in free_scores:  # no score that could be better or worse
                    continue
                others = [*untrained_scores[number : number + 1], *free_scores[entry["task"]]]
                caveat = specs[entry["task"]].find_caveat(entry.get("details", {}))
                entry |= comparison.judge_entry(entry, outcomes[number], others, encoder.spec, facts, caveat)
    return _assemble(encoder, prepared, results, free_scores)


def _assemble(
    encoder: Encoder,
    prepared: Prepared,
    results: list[dict[str, Any]],
    free_scores: Mapping[str, list[BaselineScore]],
) -> dict[str, Any]:
    """Return the report of these results."""
    report: dict[str, Any] = {
        "format": 1,
        "model": encoder.name,
        "revision": encoder.revision,
        "host": describe_host(),
        "results": results,
        "free_baselines": {
            name: [entry.as_json() for entry in entries] for name, entries in free_scores.items() if entries
        },
    }
    for section in dict.fromkeys(type(task.spec) for task in prepared.tasks):
        report |= section.summarise_results(results)
    skipped = {name: entry["skipped"] for name, entry in prepared.lock.items() if entry["skipped"]}
    return report | {"skipped_rows": skipped}


def _score_views(
    encoder: Encoder,
    prepared: Prepared,
    results_folder: Path | None,
    precision: str,
    show_progress: bool,
    kept: KeptVectors | None,
) -> tuple[list[dict[str, Any]], list[Outcomes | None]]:
    """Return the report's entry of every task and view, and what each score is made of."""
    from zoo.evaluation import scoring

    results: list[dict[str, Any]] = []
    outcomes: list[Outcomes | None] = []
    for task in prepared.tasks:
        for view in list_views(encoder, task):
            one = encoder.view(**view)
            is_whole = one.view_options == encoder.view().view_options
            scored = scoring.score(one, task, precision, show_progress, kept if is_whole else None)
            entry = scored.entry | _remark_on_chance(scored.entry, task)
            if results_folder is not None:
                atomic_files.write_text(results_folder / name_file(task, view), scored.saved)
            results.append(entry | {"view": dict(view), "baseline": None, "at_least": task.spec.at_least})
            outcomes.append(scored.outcomes)
    return results, outcomes


def _score_untrained(encoder: Encoder, prepared: Prepared, precision: str, show_progress: bool) -> list[BaselineScore]:
    """Score the encoder before training at the same views, in the order of the results. Return nothing if there is none."""
    from zoo.evaluation import scoring
    from zoo.evaluation.baselines import BaselineScore

    untrained = encoder.baseline() if prepared.tasks else None
    if untrained is None:
        return []
    scored = [
        scoring.score(view, task, precision, show_progress)
        for task in prepared.tasks
        for view in untrained.views_sharing_a_pass(list_views(encoder, task))
    ]
    name = "the encoder before training"
    return [BaselineScore(name, each.entry["value"], each.outcomes, each.entry["seconds"]) for each in scored]


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

    The most is half of the range above chance, so that a perfect score of few rows is not remarked on.
    """
    tested = (table for part, table in (task.tables or {}).items() if part in task.spec.test_fields)
    rows = max((len(table.rows) for table in tested), default=0)
    variance = task.chance * (1 - task.chance) / rows if rows else 0.0
    return max(0.02 * task.chance + 0.002, min(2 * math.sqrt(variance), (1 - task.chance) / 2))


def list_missed(report: Mapping[str, Any]) -> list[str]:
    """One line for each result that is below its `at_least`, or worse than a free baseline if it asks for `baseline`."""
    missed = []
    for result in report["results"]:
        place, bar = f"{result['task']} at {result['view'] or 'the whole encoder'}", result["at_least"]
        if bar == "baseline":
            verdict = result.get("verdict") or {}
            if verdict.get("outcome") == "worse":
                missed.append(f"{place}: {verdict['sentence']}")
        elif bar is not None and result["value"] < bar:
            missed.append(f"{place}: {result['metric']} is {result['value']:.4f}, below the {bar} asked for")
    return missed

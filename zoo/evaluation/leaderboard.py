"""Results of official tasks in the form that the Hub's leaderboards read: `.eval_results/zoo-TASK.yaml` beside the card.

Only what mteb ran on the data set of the task at the revision that mteb pins, of the whole model. What was measured on the
user's own data, on a cut, or under another name goes into the card alone.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from zoo.artefact import allowed_files
from zoo.card import run_record
from zoo.card.run_record import Task
from zoo.core import atomic_files
from zoo.evaluation import mteb_catalogue


def write(folder: Path) -> list[Path]:
    """Write the files for a model folder from its report.json, in the place of older ones; returns them. Scores are in per
    cent, as mteb publishes them."""
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    for old in folder.glob(allowed_files.RESULTS):
        old.unlink()
    out = []
    for task in run_record.read(folder).tasks:
        value = _whole(task)
        if not task.official or value is None or task.name not in mteb_catalogue.names():
            continue
        about = mteb_catalogue.get(task.name).metadata
        if task.revision != about.dataset["revision"]:
            continue  # measured with an mteb that pinned other data
        entry = EvalResultEntry(
            dataset_id=about.dataset["path"],
            task_id=about.name,
            dataset_revision=about.dataset["revision"],
            value=round(100 * value, 5),
            notes=f"{about.main_score}, {', '.join(about.eval_splits)}",
        )
        path = folder / allowed_files.RESULTS.replace("*", about.name)
        atomic_files.write_text(path, yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False))
        out.append(path)
    return out


def _whole(task: Task) -> float | None:
    """The score of the model as it is loaded: no cut."""
    return next((result.value for result in task.results if not result.view), None)

"""Write results of official tasks for the leaderboards of the Hub: `.eval_results/zoo-TASK.yaml` beside the card.

Only results of the whole model count that mteb measured on the official data set, at the revision that mteb pins. Results on
the user's own data, on a cut, or under another name appear in the card alone.
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
    """Write the result files of a model folder from its report.json and return their paths.

    Files of an older report are removed. Scores are in per cent, as mteb publishes them.
    """
    for old_file in folder.glob(allowed_files.RESULTS):
        old_file.unlink()
    paths = []
    for task in run_record.read(folder).tasks:
        text = _make_entry(task)
        if text is not None:
            path = folder / allowed_files.RESULTS.replace("*", task.name)
            atomic_files.write_text(path, text)
            paths.append(path)
    return paths


def _make_entry(task: Task) -> str | None:
    """Return the YAML of an official result. Return None if the result is not official."""
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    score = _find_whole_score(task)
    if not task.official or score is None or task.name not in mteb_catalogue.list_names():
        return None
    metadata = mteb_catalogue.get_task(task.name).metadata
    if task.revision != metadata.dataset["revision"]:
        return None  # measured with an mteb that pinned other data
    entry = EvalResultEntry(
        dataset_id=metadata.dataset["path"],
        task_id=metadata.name,
        dataset_revision=metadata.dataset["revision"],
        value=round(100 * score, 5),
        notes=f"{metadata.main_score}, {', '.join(metadata.eval_splits)}",
    )
    return yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False)


def _find_whole_score(task: Task) -> float | None:
    """Return the score of the model as it is loaded, without a cut."""
    return next((result.value for result in task.results if not result.view), None)

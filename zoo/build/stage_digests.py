"""The digests of the inputs of each stage of a run. A stage whose digest was noted is not run again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from zoo.build.run_folder import CHANGEABLE, RunFolder
from zoo.build.steps import PreparedSteps
from zoo.core import atomic_files
from zoo.evaluation import Prepared
from zoo.recipe.recipe import Recipe


class StageDigests(NamedTuple):
    """Digests of the inputs of the training, of each step after it, of the report, of the scores of codes, and of the model."""

    trained: str
    steps: list[str]
    report: str
    codes: str
    model: str


def compute(
    recipe: Recipe[Any],
    folder: RunFolder,
    locked: Mapping[str, Any],
    tasks: Prepared,
    steps: PreparedSteps,
    *,
    finish: bool,
) -> StageDigests:
    """Compute the digests of a run.

    Args:
        recipe, folder: the run.
        locked: lock.json's entries of the training data.
        tasks, steps: the tasks of the evaluation and the steps after training, with the entries of their data.
        finish: whether the newest checkpoint is taken for the end of the training.
    """
    sections = recipe.dump_values()
    fixed_sections = {name: section for name, section in sections.items() if name not in CHANGEABLE}
    fixed_sections["after"] = []  # versions without steps wrote it, and their finished runs stay finished
    fixed_sections["training"] = {n: v for n, v in sections["training"].items() if n != "keep_checkpoints"}
    trained = atomic_files.digest([fixed_sections, locked])
    if finish and not folder.is_made_from("trained", trained):
        checkpoints = sorted(path.name for path in (folder.path / "checkpoints").glob("checkpoint-*"))
        trained = atomic_files.digest([trained, "finished early", checkpoints])
    measured = {name: sections[name] for name in ("evaluation", "baselines")}
    report = atomic_files.digest([trained, measured, tasks.lock])
    fitted = steps.compute_digests(trained, recipe.training.seed)
    model = atomic_files.digest([report, sections, *([fitted] if fitted else [])])
    return StageDigests(trained, fitted, report, atomic_files.digest([report, fitted]), model)

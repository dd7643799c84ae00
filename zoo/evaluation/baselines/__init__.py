"""Free baselines: what a user would do in a few lines instead of training, scored on the same tasks.

One file each. A file that is added here is a baseline that every family can name in `free_baselines`; a family's own baseline
is a class in the family's folder, named as `module:Class`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo.evaluation.baselines.baseline import Baseline, BaselineScore, TrainingRows
from zoo.evaluation.task import ReadyTask
from zoo.schema import Baselines, Training

if TYPE_CHECKING:
    from zoo.encoder import Encoder

__all__ = ["Baseline", "BaselineScore", "TrainingRows", "load", "measure"]


def load(name: str) -> type[Baseline]:
    """Load a baseline of this folder: the file `most_frequent_class.py` defines the class `MostFrequentClass`."""
    class_name = "".join(part.capitalize() for part in name.split("_"))
    baseline: type[Baseline] = getattr(importlib.import_module(f"{__name__}.{name}"), class_name)
    return baseline


def measure(
    encoder: Encoder,
    tasks: Sequence[ReadyTask],
    rows: Any,
    level: Baselines,
    settings: Training | None = None,
    shared: Sequence[type[Baseline]] = (),
) -> Mapping[str, list[BaselineScore]]:
    """Score the free baselines of the encoder's family on each task; return the scores by the task's name.

    Args:
        encoder: the trained encoder, for its spec and sizes.
        rows: the training rows, or None if they are not at hand; baselines that learn from them are then left out.
        settings: those of the training, which baselines that train a network share.
        shared: further baselines, beside those that the family names.
        level: "cheap" leaves out the baselines that train a network; "none" leaves out all.
    """
    training = TrainingRows(encoder, rows, settings)
    scores: dict[str, list[BaselineScore]] = {task.name: [] for task in tasks}
    names = encoder.spec.free_baselines
    classes = [encoder.spec.load_family_attribute(name) if ":" in name else load(name) for name in names]
    for baseline_class in [*classes, *shared] if level != "none" else ():
        if (baseline_class.needs_rows and rows is None) or (level == "cheap" and not baseline_class.is_cheap):
            continue
        baseline: Baseline = baseline_class(training)
        for task in tasks:
            if baseline.suits(task):
                scores[task.name] += baseline.measure(task)
    return scores

"""Whether a training had come to its end, by its plan and its losses, and how far the space moved between checkpoints."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from zoo.bridge.recall import normalise
from zoo.core.findings import Finding
from zoo.diagnosis.two_spaces import measure_mutual_neighbours

MIN_LOSSES = 20
"""Fewer losses say nothing."""
HIGH_RATE = 0.5
"""Share of the highest learning rate. A rate below it, at the end, was lowered by the schedule."""
CLEAR_ERRORS, CLEAR_SHARE = 3.0, 0.05
"""A fall of the loss is clear if it is so many standard errors, and this share of the whole fall."""


class Progress(NamedTuple):
    """How far a training is.

    Attributes:
        step: optimiser steps that were made.
        planned: optimiser steps of the whole training.
        has_ended: whether it made them all, or an early stop ended it.
    """

    step: int
    planned: int
    has_ended: bool

    def __str__(self) -> str:
        return f"step {self.step} of {self.planned}"


def judge_progress(progress: Progress) -> list[Finding]:
    """Return a finding for weights from the middle of a training."""
    if progress.has_ended:
        return []
    share = 100 * progress.step / progress.planned
    message = f"the training has not ended: this is {progress}, {share:.0f} %"
    return [Finding("warning", message, "train on with the same command, and look again at the end")]


def judge_losses(lines: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Return a finding if a training ended while its loss fell and its learning rate was still high.

    A schedule that lowers the rate to 0 brings any loss to a halt, so its end says nothing. Validation losses count if there
    are as many as MIN_LOSSES, else the losses of the training.

    Args:
        lines: the lines of metrics.jsonl, in order.
    """
    rates = [line["learning_rate"] for line in lines if "learning_rate" in line]
    validated = [line["validation_loss"] for line in lines if "validation_loss" in line]
    losses = validated if len(validated) >= MIN_LOSSES else [line["loss"] for line in lines if "loss" in line]
    is_in_phases = any("phase" in line for line in lines)
    if is_in_phases or len(losses) < MIN_LOSSES or not rates or rates[-1] < HIGH_RATE * max(rates):
        return []
    quarter = len(losses) // 4
    first, before, last = losses[:quarter], losses[-2 * quarter : -quarter], losses[-quarter:]
    fall = statistics.fmean(before) - statistics.fmean(last)
    error = ((statistics.variance(before) + statistics.variance(last)) / quarter) ** 0.5
    whole = statistics.fmean(first) - statistics.fmean(last)
    if fall <= CLEAR_ERRORS * error or fall <= CLEAR_SHARE * whole:
        return []
    figures = f"{statistics.fmean(before):.4f} in its third quarter, {statistics.fmean(last):.4f} in its last"
    message = f"the training ended while its loss fell ({figures}) at a high learning rate"
    return [Finding("warning", message, "raise `training.epochs`, or let `training.schedule` lower the rate")]


def measure_move(before: Any, after: Any) -> float:
    """Return the share of the ten nearest inputs that changed between vectors (n, d) and (n, e) of the same n inputs."""
    return 1.0 - measure_mutual_neighbours(normalise(before), normalise(after))

"""Choose the values of `auto` in `training:` and `validation:` from the data. Imports no torch, for `zoo check`."""

from __future__ import annotations

import math
from typing import Any

from zoo.core.training_log import Say
from zoo.schema import Training
from zoo.spec import EncoderSpec

PATIENCE = 5
"""Validations without a better loss before a training stops. A run has ten: a schedule that ends low may still gain late."""
VALIDATION_SHARE, MOST_VALIDATION_ROWS, LEAST_TRAINING_ROWS = 0.05, 256, 2000


def choose_validation_size(spec: EncoderSpec, training: Training, row_count: int) -> int | None:
    """Return how many of `row_count` training rows are held out to watch the training; None for few rows.

    Nothing is held out if the recipe says how long to train, because the curve then decides nothing.
    """
    is_length_open = training.epochs == "auto" and training.max_steps is None
    if not (spec.uses_validation and is_length_open and row_count >= LEAST_TRAINING_ROWS):
        return None
    return min(MOST_VALIDATION_ROWS, math.ceil(VALIDATION_SHARE * row_count))


def choose_length(
    spec: EncoderSpec, training: Training, row_count: int, *, has_validation: bool, say: Say | None = None
) -> dict[str, Any]:
    """Return values for `epochs` and `early_stop` where they are `auto`, and say the epochs."""
    chosen: dict[str, Any] = {}
    if training.epochs == "auto" and training.max_steps is None and spec.epoch_rule is not None:
        chosen["epochs"] = float(spec.epoch_rule.choose(row_count))
        if say is not None:
            say(f"training.epochs is not set: {chosen['epochs']:g} epochs for {row_count:,} rows")
    if training.early_stop == "auto":
        chosen["early_stop"] = PATIENCE if has_validation and training.keep_best else None
    return chosen

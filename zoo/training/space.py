"""Figures of the encoder's space along a training, in metrics.jsonl. `zoo.diagnosis.space_watch` computes them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import transformers

from zoo.training.compiling import call_uncompiled

SPACE = "space_"
"""Begins the name of such a figure in the Trainer's log."""


class Space(Protocol):
    """Figures that need inputs alone."""

    def measure(self, encoder: Any) -> Mapping[str, float]:
        """Return the figures by name. Leaves the random state as it was."""
        ...


class SpaceFollower(transformers.TrainerCallback):
    """Measures the space before the first step, as often as a validation would come, and after the last step."""

    def __init__(self, trainer: Any, space: Space) -> None:
        self.trainer, self.space = trainer, space

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Measure the encoder before training. A training that goes on from a checkpoint has done so."""
        if state.global_step == 0:
            self._measure()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Measure if it is time."""
        if state.global_step % max(1, int(args.eval_steps)) == 0 or state.global_step >= state.max_steps:
            self._measure()

    def _measure(self) -> None:
        module = self.trainer.loss_module
        module.eval()
        module.encoder.use_trained_weights()
        with call_uncompiled(module):
            figures = self.space.measure(module.encoder)
        module.encoder.use_trained_weights()  # frees the copies
        module.train()
        if figures:
            self.trainer.log({f"{SPACE}{name}": value for name, value in figures.items()})


def read_space(logs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of a log as metrics.jsonl has them: {"space": figures}. {} for another log."""
    figures = {
        name.removeprefix(SPACE): float(value)
        for name, value in logs.items()
        if name.startswith(SPACE) and math.isfinite(value)
    }
    return {"space": figures} if figures else {}

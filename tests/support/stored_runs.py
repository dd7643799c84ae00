"""A run whose tables are on disk although they are small, in a process of its own, which may be killed in a step."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from zoo.build import builder
from zoo.data import stored
from zoo.families.static.encoder import Encoder
from zoo.recipe import recipe


def main(path: Path, out: Path, killed_at: int | None = None) -> int:
    """Train the recipe `path` of the family `static`. In step `killed_at`, the process is killed."""
    stored.MEMORY_ROWS, stored.BLOCK = 16, 4
    true_loss = Encoder.loss

    def compute_loss(encoder: Encoder, batch: dict) -> object:
        if encoder.step == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return true_loss(encoder, batch)

    Encoder.loss = compute_loss  # type: ignore[method-assign, assignment]
    try:
        builder.run(recipe.load(path), out)
    finally:
        Encoder.loss = true_loss  # type: ignore[method-assign]
    return 0

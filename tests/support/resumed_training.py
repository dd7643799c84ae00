"""A training in any number of processes that is interrupted at a step, or goes on from its last checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from tiny_matryoshka import build, rows
from train_contracts import take_turns

from zoo.schema import Training
from zoo.training import distributed, trainer

SETTINGS = Training(epochs=3, batch_size=16, learning_rate=1e-3, checkpoint_every=4, precision="fp32")


class InterruptionError(Exception):
    """Ends a training in all processes at the same step."""


def main(folder: Path, interrupt_at: int | None) -> None:
    """Train in `folder`. A training that is not interrupted leaves its weights in weights.safetensors."""
    torch.set_num_threads(1)
    for _ in take_turns():
        encoder = build(folder, dropout=0.0)
    true_loss = encoder.loss

    def loss(batch):  # type: ignore[no-untyped-def]
        if encoder.step == interrupt_at:
            raise InterruptionError
        return true_loss(batch)

    encoder.loss = loss  # type: ignore[method-assign]
    try:
        trainer.fit(encoder, rows(), SETTINGS, folder / "run")
    except InterruptionError:
        return
    if distributed.is_main_process():
        weights = {name: tensor.contiguous() for name, tensor in encoder.module.state_dict().items()}
        save_file(weights, folder / "weights.safetensors")

"""A training in any number of processes that is interrupted at a step, or goes on from its last checkpoint."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny_dense
import tiny_matryoshka
import torch
from safetensors.torch import save_file
from train_contracts import take_turns

from zoo.schema import Training
from zoo.training import distributed, trainer

SETTINGS = Training(epochs=3, batch_size=16, learning_rate=1e-3, checkpoint_every=4, precision="fp32")
DIVIDED = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}
"""What `accelerate launch` makes of the configuration file in docs/guides/distributed-training.md."""
ENCODERS: dict[str, Callable[[Path], Any]] = {
    "matryoshka-2d": lambda folder: tiny_matryoshka.build(folder, dropout=0.0),
    "adapter": lambda folder: tiny_dense.build(folder, "qwen3", dropout=0.0, lora={"rank": 4, "targets": "auto"}),
}


class InterruptionError(Exception):
    """Ends a training in all processes at the same step."""


def divide_weights_on_cpu() -> None:
    """Let accelerate divide weights in CPU processes too, where it ignores its configuration."""
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedType

    initialise = AcceleratorState.__init__

    def initialise_divided(self: Any, *args: Any, fsdp_plugin: Any = None, **kwargs: Any) -> None:
        initialise(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        if fsdp_plugin is not None:
            self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin

    AcceleratorState.__init__ = initialise_divided  # type: ignore[method-assign]


def main(
    folder: Path,
    interrupt_at: int | None,
    kind: str = "matryoshka-2d",
    *,
    is_divided: bool = False,
    validates: bool = False,
) -> None:
    """Train in `folder`. A training that is not interrupted leaves its weights in weights.safetensors.

    With `is_divided` the weights are divided over the processes, and a layer of each half is checked to be a unit.
    """
    torch.set_num_threads(1)
    if is_divided:
        os.environ.update(DIVIDED)
        divide_weights_on_cpu()
    for _ in take_turns():
        encoder = ENCODERS[kind](folder)
    rows = tiny_matryoshka.rows(80)
    train, validation = rows.select(range(64)), rows.select(range(64, 80)) if validates else None
    encoder.prepare(train, folder / "cache")
    true_loss = type(encoder).loss
    counts: list[tuple[int, int]] = []

    def loss(self: Any, batch: Any) -> torch.Tensor:
        if self.step == interrupt_at:
            raise InterruptionError
        counts.append(count_parameters(self.module))
        return true_loss(self, batch)

    type(encoder).loss = loss  # type: ignore[method-assign]
    try:
        trainer.fit(encoder, train, SETTINGS, folder / "run", validation=validation)
    except InterruptionError:
        return
    if is_divided:
        held, whole = counts[-1]
        assert held < 0.75 * whole, f"this process holds {held} of {whole} weights of layers"
    if distributed.is_main_process():
        weights = {name: tensor.contiguous() for name, tensor in encoder.module.state_dict().items()}
        save_file(weights, folder / "weights.safetensors")


def count_parameters(module: torch.nn.Module) -> tuple[int, int]:
    """Count the weights that this process holds, and those of the module, in all layers that are divided."""
    from torch.distributed.tensor import DTensor

    divided = [parameter for parameter in module.parameters() if isinstance(parameter, DTensor)]
    return sum(parameter.to_local().numel() for parameter in divided), sum(parameter.numel() for parameter in divided)

"""Divide the weights of an encoder over processes (FSDP2), as accelerate's configuration file asks for it.

`accelerate launch --config_file FILE` sets environment variables, and the Trainer's accelerate divides the module in place. The
rest of zoo works on whole weights. So a copy of the encoder is trained, and at the end its weights are gathered into the
encoder, one tensor after the other.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from zoo.core.errors import ZooError
from zoo.schema import Training

VERSION = "2"
STATE_DICT_TYPE = "SHARDED_STATE_DICT"
DIVIDED_WEIGHTS = "pytorch_model_fsdp_0"
"""The folder of a checkpoint in which accelerate keeps the shards of the weights."""


def is_asked() -> bool:
    """Return whether accelerate's configuration asks for FSDP."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("true", "1")


def check_request(settings: Training, spec: Any, *, scores: bool, follows_space: bool) -> None:
    """Raise ZooError if divided weights are asked for, but cannot be trained as the recipe says.

    Args:
        spec: the encoder's section of the recipe.
        scores: whether tasks are scored while the encoder trains.
        follows_space: whether figures of its space are followed.
    """
    if not is_asked():
        return
    version = os.environ.get("FSDP_VERSION", "1")
    if version != VERSION:
        raise ZooError(
            f"accelerate's configuration asks for FSDP {version}, and zoo uses FSDP 2: write `fsdp_version: 2` into fsdp_config"
        )
    kind = os.environ.get("FSDP_STATE_DICT_TYPE", STATE_DICT_TYPE)
    if kind != STATE_DICT_TYPE:
        raise ZooError(
            f"accelerate's configuration asks for checkpoints of {kind}, and zoo keeps shards: write `fsdp_state_dict_type: "
            f"{STATE_DICT_TYPE}` into fsdp_config"
        )
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        raise ZooError("accelerate's configuration asks for FSDP in one process: start several with accelerate launch")
    if not spec.can_divide_weights:
        raise ZooError(
            f"accelerate's configuration asks for FSDP, and {spec.family} keeps whole weights in each process: start zoo train "
            "with torchrun"
        )
    fields = [
        ("encoder.chunk", bool(getattr(spec, "chunk", None)), "leave it out, or start zoo train with torchrun"),
        ("validation: a task", scores, "use validation rows, whose loss is computed on divided weights"),
        ("training.watch", follows_space, "leave it out"),
        ("training.optimizer: muon", settings.optimizer == "muon", "use adamw; Muon needs whole matrices"),
    ]
    for name, is_given, cure in fields:
        if is_given:
            raise ZooError(f"{name} needs whole weights, and accelerate's configuration divides them (FSDP): {cure}")


def check_checkpoint(checkpoint: Path | None) -> None:
    """Raise ZooError for a checkpoint of whole weights if they are to be divided, and for the contrary. None is none."""
    if checkpoint is None:
        return
    is_divided = (checkpoint / DIVIDED_WEIGHTS).exists()
    if is_divided and not is_asked():
        raise ZooError(f"{checkpoint}: holds divided weights (FSDP): go on with accelerate launch, as the run began")
    if is_asked() and not is_divided:
        raise ZooError(
            f"{checkpoint}: holds whole weights, and accelerate's configuration divides them (FSDP): go on without it, or train "
            "in another folder with --out"
        )


@contextmanager
def divide_weights(encoder: Any) -> Iterator[Any]:
    """Yield the encoder that is trained: a copy if its weights are to be divided, whose weights are gathered at the end."""
    if not is_asked():
        yield encoder
        return
    copied = copy.deepcopy(encoder)
    yield copied
    whole = encoder.module.state_dict()
    with torch.no_grad():
        for name, tensor in copied.module.state_dict().items():
            whole[name].copy_(gather(tensor))


def gather(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor as a whole. Every process must call this for the same tensors in the same order."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def require_divided(module: torch.nn.Module) -> None:
    """Raise ZooError if FSDP was asked for and accelerate left the weights whole."""
    if is_asked() and not any(isinstance(parameter, DTensor) for parameter in module.parameters()):
        raise ZooError(
            "accelerate's configuration asks for FSDP, but accelerate leaves the weights whole: it divides them on GPUs and "
            "other accelerators only; leave FSDP out on a CPU"
        )


def list_layer_classes(module: torch.nn.Module) -> list[str]:
    """Return the names of the layer classes of the transformers in a module. Each layer is gathered as a unit."""
    names = {
        name
        for part in module.modules()
        for name in getattr(part, "_no_split_modules", None) or ()
        if any(type(layer).__name__ == name for layer in part.modules())
    }
    return sorted(names)

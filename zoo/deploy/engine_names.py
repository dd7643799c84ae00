"""Engines that encode texts, the precisions that they have, and whether they are installed."""

from __future__ import annotations

from importlib import util
from typing import Any

import torch

from zoo.core import hardware
from zoo.core.errors import ZooError
from zoo.core.suggest import suggest
from zoo.deploy.engine_choice import Candidate
from zoo.text.text_encoder import TextEncoder

ENGINES = ("torch", "onnx", "openvino", "auto")
MODULES = {"onnx": "onnxruntime", "openvino": "openvino"}
MAX_LOSS = 0.001
PRECISIONS = {"torch": ("fp32", "bf16", "int8"), "onnx": ("fp32", "int8"), "openvino": ("fp32", "bf16", "int8")}
"""Precisions in which an engine computes on a CPU."""


def check_engine(engine: Any, max_loss: Any = MAX_LOSS) -> None:
    """Raise ZooError for an unknown engine, for one that is not installed, and for a loss that is not in [0, 1)."""
    if engine not in ENGINES:
        known = [str(name) for name in ENGINES]
        raise ZooError(f"engine: {engine!r} is not one of {', '.join(known)}{suggest(str(engine), known, listing='')}")
    if not isinstance(max_loss, int | float) or not 0 <= max_loss < 1:
        raise ZooError(f"max_loss: {max_loss!r} is not a number from 0 to 1, for example 0.001")
    if engine in MODULES and not is_installed(engine):
        raise ZooError(
            f"engine: {engine} needs {MODULES[engine]}, which is not installed: pip install 'embedding-zoo[{engine}]'"
        )


def is_installed(engine: str) -> bool:
    """Return whether the package of an engine is installed. It is not imported."""
    return engine not in MODULES or util.find_spec(MODULES[engine]) is not None


def read_precision(engine: str, precision: str) -> str:
    """Return the precision in which an engine computes. Raises ZooError for one that it does not have."""
    if precision == "auto":
        dtype = hardware.resolve_precision("auto", torch.device("cpu"))
        return "bf16" if engine == "openvino" and dtype == torch.bfloat16 else "fp32"
    if precision not in PRECISIONS[engine]:
        raise ZooError(f"precision: {precision!r}: the engine {engine} has {', '.join(PRECISIONS[engine])} and auto")
    return precision


def list_candidates(encoder: TextEncoder, precision: str) -> list[Candidate]:
    """Return what `auto` chooses from: exact torch first. A precision other than auto leaves only its own candidates."""
    torch_engine = encoder.get_torch_engine()
    has_bf16 = hardware.resolve_precision("auto", torch.device("cpu")) == torch.bfloat16
    found = []
    for engine, precisions in PRECISIONS.items():
        for name in precisions:
            is_wanted = precision in ("auto", name) and is_installed(engine)
            is_fast = name == "fp32" or (
                has_bf16 if name == "bf16" else engine != "torch" or torch_engine.can_use_int8()
            )
            if is_wanted and (is_fast or precision == name):
                found.append(Candidate(engine, name))
    if not found:
        raise ZooError(f"precision: {precision!r} is not one of auto, fp32, bf16, int8 with engine auto")
    return found

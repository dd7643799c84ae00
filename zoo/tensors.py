"""Tensors from safetensors files into a module, strictly: nothing missing, extra, mis-shaped or not finite."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import ArtefactError
from zoo.lazy import lazy

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch")


def read(folder: Path, stem: str = "model") -> dict[str, torch.Tensor]:
    """Every tensor of `stem`.safetensors or of its shards. Raises ArtefactError for files that are not safetensors."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    index = folder / f"{stem}.safetensors.index.json"
    names = [f"{stem}.safetensors"]
    if index.exists():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    tensors: dict[str, torch.Tensor] = {}
    for name in names:
        if Path(name).name != name:
            raise ArtefactError(f"{folder}: the weight index names {name!r}, which is not a file of this folder")
        try:
            tensors |= load_file(folder / name)
        except (OSError, SafetensorError) as error:
            raise ArtefactError(f"{folder / name}: cannot be read as safetensors: {str(error)[:120]}") from None
    return tensors


def fill(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor], origin: Path) -> None:
    """Put `tensors` into `module`; names and shapes must be exactly the module's, values finite. Raises ArtefactError."""
    expected = module.state_dict()
    problems = [f"missing tensor {name}" for name in expected if name not in tensors]
    problems += [f"extra tensor {name}" for name in tensors if name not in expected]
    for name in expected.keys() & tensors.keys():
        want, have = tuple(expected[name].shape), tuple(tensors[name].shape)
        if want != have:
            problems.append(f"tensor {name} has shape {have}, not {want}")
        elif tensors[name].is_floating_point() and not torch.isfinite(tensors[name]).all():
            problems.append(f"tensor {name} holds NaN or infinity")
    if problems:
        more = f" (and {len(problems) - 4} more)" if len(problems) > 4 else ""
        raise ArtefactError(f"{origin}: weights do not fit config.json: {'; '.join(sorted(problems)[:4])}{more}")
    module.load_state_dict(dict(tensors), strict=True)

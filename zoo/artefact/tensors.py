"""Tensors from safetensors files into a module, strictly: nothing missing, extra, mis-shaped or not finite."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.core.errors import ArtefactError
from zoo.core.lazy import lazy

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch")


def read(folder: Path, stem: str = "model") -> dict[str, torch.Tensor]:
    """Every tensor of `stem`.safetensors or of its shards. Raises ArtefactError for files that are not safetensors."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    tensors: dict[str, torch.Tensor] = {}
    for name in parts(folder, stem):
        try:
            tensors |= load_file(folder / name)
        except (OSError, SafetensorError) as error:
            raise ArtefactError(f"{folder / name}: cannot be read as safetensors: {str(error)[:120]}") from None
    return tensors


def parts(folder: Path, stem: str = "model") -> list[str]:
    """The files that hold the tensors: `stem`.safetensors, or the shards that its index lists. Raises ArtefactError for an
    index that is none."""
    index = folder / f"{stem}.safetensors.index.json"
    if not index.exists():
        return [f"{stem}.safetensors"]
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtefactError(f"{index}: cannot be read as JSON: {str(error)[:120]}") from None
    where = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(where, dict) or not where or not all(isinstance(name, str) for name in where.values()):
        raise ArtefactError(f"{index}: has no weight_map of tensor names to file names")
    for name in where.values():
        if Path(name).name != name:
            raise ArtefactError(f"{index}: names {name[:80]!r}, which is not a file of this folder")
    return sorted(set(where.values()))


def split(folder: Path, largest: int, stem: str = "model") -> None:
    """Replace `stem`.safetensors, if it has more than `largest` bytes, by shards and their index, as transformers does it; a
    tensor is never cut in two."""
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import load_file, save_file

    path = folder / f"{stem}.safetensors"
    if not path.exists() or path.stat().st_size <= largest:
        return
    held, pattern = load_file(path), f"{stem}{{suffix}}.safetensors"
    plan = split_torch_state_dict_into_shards(held, filename_pattern=pattern, max_shard_size=largest)
    if not plan.is_sharded:
        return
    for name, inside in plan.filename_to_tensors.items():
        save_file({each: held[each] for each in inside}, folder / name, metadata={"format": "pt"})
    index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    path.unlink()


def plain(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of `module` as safetensors takes them."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}


def shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Shapes by name of the tensors of `module`."""
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


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

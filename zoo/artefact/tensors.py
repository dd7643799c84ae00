"""Read tensors from safetensors files and load them into a module. The names and shapes must be exactly the module's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.artefact import references
from zoo.core import atomic_files, strict_json
from zoo.core.errors import ArtefactError

if TYPE_CHECKING:
    import torch


def read(folder: Path, stem: str = "model") -> dict[str, torch.Tensor]:
    """Read every tensor of `stem`.safetensors or of its shards.

    Raises ArtefactError if a file is missing or is not a safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    tensors: dict[str, torch.Tensor] = {}
    for name in list_files(folder, stem):
        try:
            tensors |= load_file(folder / name)
        except (OSError, SafetensorError) as error:
            raise ArtefactError(
                f"{folder / name}: cannot be read as safetensors: {str(error)[:120]}; download the model again"
            ) from None
    return tensors


def list_files(folder: Path, stem: str = "model") -> list[str]:
    """List the names of the files that hold the tensors: `stem`.safetensors, or the shards that its index names.

    Raises ArtefactError if the index is malformed or names a file of another folder.
    """
    index_file = folder / f"{stem}.safetensors.index.json"
    if not index_file.exists():
        return [f"{stem}.safetensors"]
    try:
        index = strict_json.read(index_file)
    except (OSError, ValueError, RecursionError) as error:
        raise ArtefactError(
            f"{index_file}: cannot be read as JSON: {str(error)[:120]}; download the model again"
        ) from None
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if (
        not isinstance(weight_map, dict)
        or not weight_map
        or not all(isinstance(name, str) for name in weight_map.values())
    ):
        raise ArtefactError(f"{index_file}: has no weight_map of tensor names to file names; download the model again")
    for name in weight_map.values():
        references.check_relative(index_file, name)
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ArtefactError(
                f"{index_file}: names {name[:80]!r}, which is not a safetensors file of this folder; do not open this model"
            )
    return sorted(set(weight_map.values()))


def list_pretrained_files(folder: Path) -> list[Path]:
    """List the weights that transformers reads in `folder`: model.safetensors, or the shards that the index names."""
    whole = folder / "model.safetensors"
    paths = [whole] if whole.exists() else [folder / name for name in list_files(folder)]
    for path in paths:
        if not path.is_file():
            raise ArtefactError(f"{folder}: has no {path.name}; download the model again")
    return paths


def compute_digest(folder: Path) -> str:
    """Return the sha256 of the weights that transformers reads in `folder`: of the file, or of the hashes of its shards."""
    hashes = [atomic_files.sha256(path) for path in list_pretrained_files(folder)]
    return hashes[0] if len(hashes) == 1 else atomic_files.digest(hashes)


def hash_tensors(tensors: Mapping[str, Any]) -> str:
    """Return the hex sha256 of arrays or tensors with their names. It does not depend on the device or on file formats."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        values = torch.as_tensor(tensors[name]).detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        if values.numel():
            digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def split(folder: Path, max_shard_size: int, stem: str = "model") -> None:
    """Replace `stem`.safetensors by shards and their index if it has more than `max_shard_size` bytes.

    The names and the index are those of transformers. A tensor is never divided, so a shard with one large tensor can have
    more than `max_shard_size` bytes.
    """
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import load_file, save_file

    path = folder / f"{stem}.safetensors"
    if not path.exists() or path.stat().st_size <= max_shard_size:
        return
    tensors = load_file(path)
    plan = split_torch_state_dict_into_shards(
        tensors, filename_pattern=f"{stem}{{suffix}}.safetensors", max_shard_size=max_shard_size
    )
    if not plan.is_sharded:
        return
    for file_name, tensor_names in plan.filename_to_tensors.items():
        save_file({name: tensors[name] for name in tensor_names}, folder / file_name, metadata={"format": "pt"})
    index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    path.unlink()


def extract(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors of `module` by name, on the CPU and contiguous, as safetensors requires."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}


def get_shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors of `module` by name."""
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def fill(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor], origin: Path) -> None:
    """Load `tensors` into `module`.

    Raises ArtefactError, which names the folder `origin`, if a tensor is missing, extra, has another shape than the module's,
    holds integers instead of floats, or contains NaN or infinity.
    """
    import torch

    module_tensors = module.state_dict()
    problems = [f"missing tensor {name}" for name in module_tensors if name not in tensors]
    problems += [f"extra tensor {name}" for name in tensors if name not in module_tensors]
    for name in module_tensors.keys() & set(tensors):
        module_shape, shape = tuple(module_tensors[name].shape), tuple(tensors[name].shape)
        if shape != module_shape:
            problems.append(f"tensor {name} has shape {shape}, not {module_shape}")
        elif tensors[name].is_floating_point() != module_tensors[name].is_floating_point():
            problems.append(f"tensor {name} is stored as {tensors[name].dtype}, not {module_tensors[name].dtype}")
        elif tensors[name].is_floating_point() and not torch.isfinite(tensors[name]).all():
            problems.append(f"tensor {name} holds NaN or infinity")
    if problems:
        listed = "; ".join(sorted(problems)[:4])
        more = f" (and {len(problems) - 4} more)" if len(problems) > 4 else ""
        raise ArtefactError(
            f"{origin}: weights do not fit config.json: {listed}{more}; download the model again or retrain it"
        )
    module.load_state_dict(dict(tensors), strict=True)

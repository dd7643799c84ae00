"""Write and read a backbone with linear heads in the sentence-transformers format, which opens without zoo.

The modules are Transformer, Pooling, Dense and Normalize. Dense is the last layer's head, or takes the first `dim` components;
it is left out if it would change nothing. Heads of shallower layers are in heads.safetensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import sentence_transformers
import sentence_transformers.models as st_modules
import torch
from safetensors.torch import save_file

from zoo.artefact import tensors
from zoo.core import atomic_files
from zoo.core.errors import ArtefactError
from zoo.text.backbone import Backbone, hide_progress_bars
from zoo.text.heads import make_head, narrow_head

DENSE_FOLDER = "2_Dense"
SHALLOW_HEADS = "heads.safetensors"


def write(folder: Path, backbone: Backbone, heads: Mapping[int, torch.nn.Linear], dim: int) -> None:
    """Write `backbone` with its first `dim` components into an empty `folder`.

    `heads` are by layer; heads of layers that `backbone` does not have are left out.
    """
    modules = [backbone.build_transformer_module(), backbone.pooling]
    last_head = None
    if backbone.depth in heads:
        last_head = narrow_head(heads[backbone.depth], dim)
    elif dim < backbone.width:
        last_head = make_head(torch.eye(dim, backbone.width), None)
    if last_head is not None:
        modules.append(_make_dense(last_head))
    modules.append(st_modules.Normalize())
    model = sentence_transformers.SentenceTransformer(modules=modules, device="cpu", prompts=dict(backbone.prompts))
    with hide_progress_bars():
        model.save_pretrained(str(folder), create_model_card=False)
    _keep_lower_case(folder, backbone.transformer)
    shallow_heads = {n: narrow_head(head, dim).state_dict() for n, head in heads.items() if n < backbone.depth}
    if shallow_heads:
        flat = {f"{n}.{name}": tensor for n, state in shallow_heads.items() for name, tensor in state.items()}
        save_file(flat, folder / SHALLOW_HEADS, metadata={"format": "pt"})


def _keep_lower_case(folder: Path, transformer: torch.nn.Module) -> None:
    """Write the setting `do_lower_case`, which sentence-transformers reads but does not save."""
    if getattr(transformer, "do_lower_case", False):
        path = folder / "sentence_bert_config.json"
        atomic_files.write_json(path, atomic_files.read_json_object(path) | {"do_lower_case": True})


def _make_dense(head: torch.nn.Linear) -> torch.nn.Module:
    dense: Any = st_modules.Dense(
        head.in_features, head.out_features, bias=head.bias is not None, activation_function=torch.nn.Identity()
    )
    dense.linear = head
    return cast("torch.nn.Module", dense)


def read_heads(folder: Path, backbone: Backbone, dim: int) -> dict[int, torch.nn.Linear]:
    """Read the heads that `write` stored, by layer. Raise ArtefactError for one that does not fit `backbone` and `dim`."""
    stored: dict[str, torch.Tensor] = {}
    if (folder / DENSE_FOLDER).is_dir():
        dense = tensors.read(folder / DENSE_FOLDER)
        stored = {f"{backbone.depth}.{name.split('.')[-1]}": tensor for name, tensor in dense.items()}
    if (folder / SHALLOW_HEADS).is_file():
        stored |= tensors.read(folder, SHALLOW_HEADS.split(".")[0])
    heads = {}
    for layer in sorted({name.split(".")[0] for name in stored}):
        if not layer.isdecimal() or not 1 <= int(layer) <= backbone.depth:
            raise ArtefactError(f"{folder}: a head for layer {layer!r}, but the model has {backbone.depth} layers")
        weight = stored.get(f"{layer}.weight")
        if weight is None or tuple(weight.shape) != (dim, backbone.width):  # checked before memory is allocated
            raise ArtefactError(f"{folder}: the head of layer {layer} is not {dim} × {backbone.width}")
        head = torch.nn.Linear(backbone.width, dim, bias=f"{layer}.bias" in stored)
        head_tensors = {name.split(".", 1)[1]: tensor for name, tensor in stored.items() if name.split(".")[0] == layer}
        tensors.fill(head, head_tensors, folder)
        heads[int(layer)] = head
    return heads

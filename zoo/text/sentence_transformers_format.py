"""A backbone with linear heads as stock sentence-transformers modules, which open without zoo: Transformer, Pooling, Dense for
the last layer's head or for a cut in dimensions, Normalize. Heads of shallower layers lie beside them in heads.safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.artefact import tensors
from zoo.core.errors import ArtefactError
from zoo.core.lazy import lazy
from zoo.text import backbone
from zoo.text import heads as headfit
from zoo.text.backbone import Backbone

if TYPE_CHECKING:
    import sentence_transformers
    import sentence_transformers.models as st_modules
    import torch
else:
    torch = lazy("torch")
    sentence_transformers, st_modules = lazy("sentence_transformers"), lazy("sentence_transformers.models")

BESIDE = "heads.safetensors"


def write(folder: Path, body: Backbone, heads: Mapping[int, torch.nn.Linear], dim: int) -> None:
    """Write `body` cut to its first `dim` components into an empty `folder`; heads of layers that it lacks are left out."""
    from safetensors.torch import save_file

    modules = [body.transformer_module(), body.pooling]
    top = None
    if body.depth in heads:
        top = headfit.narrowed(heads[body.depth], dim)
    elif dim < body.width:
        top = headfit.linear(torch.eye(dim, body.width), None)
    if top is not None:
        dense: Any = st_modules.Dense(
            top.in_features, top.out_features, bias=top.bias is not None, activation_function=torch.nn.Identity()
        )
        dense.linear = top
        modules.append(dense)
    modules.append(st_modules.Normalize())
    model = sentence_transformers.SentenceTransformer(modules=modules, device="cpu", prompts=dict(body.prompts))
    with backbone.without_bars():
        model.save_pretrained(str(folder), create_model_card=False)
    below = {n: headfit.narrowed(head, dim).state_dict() for n, head in heads.items() if n < body.depth}
    if below:
        flat = {f"{n}.{part}": tensor for n, parts in below.items() for part, tensor in parts.items()}
        save_file(flat, folder / BESIDE, metadata={"format": "pt"})


def read_heads(folder: Path, body: Backbone, dim: int) -> dict[int, torch.nn.Linear]:
    """The heads that `write` put there, by layer. Raises ArtefactError for one that does not fit `body` and `dim`."""
    found: dict[str, torch.Tensor] = {}
    if (folder / "2_Dense").is_dir():
        found = {f"{body.depth}.{n.split('.')[-1]}": t for n, t in tensors.read(folder / "2_Dense").items()}
    if (folder / BESIDE).is_file():
        found |= tensors.read(folder, BESIDE.split(".")[0])
    heads = {}
    for name in sorted({name.split(".")[0] for name in found}):
        if not name.isdigit() or not 1 <= int(name) <= body.depth:
            raise ArtefactError(f"{folder}: a head for layer {name!r}, where there are {body.depth} layers")
        weight = found.get(f"{name}.weight")
        if weight is None or tuple(weight.shape) != (dim, body.width):  # before anything of that size is made
            raise ArtefactError(f"{folder}: the head of layer {name} is not {dim} × {body.width}")
        head = torch.nn.Linear(body.width, dim, bias=f"{name}.bias" in found)
        tensors.fill(head, {n.split(".", 1)[1]: t for n, t in found.items() if n.split(".")[0] == name}, folder)
        heads[int(name)] = head
    return heads

"""Write and read a backbone with linear heads in the sentence-transformers format, which opens without zoo.

The modules are Transformer, Pooling, Dense and Normalize. Dense is the last layer's head, or takes the first `dim` components;
it is left out if it would change nothing. Heads of shallower layers are in heads.safetensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file

from zoo.artefact import tensors
from zoo.core import atomic_files
from zoo.core.errors import ArtefactError
from zoo.text import coded_folder
from zoo.text.backbone import Backbone, hide_progress_bars
from zoo.text.deferred import DeferredBackbone
from zoo.text.heads import make_head, narrow_head

DENSE_FOLDER = "2_Dense"
SHALLOW_HEADS = "heads.safetensors"


def write(
    folder: Path,
    backbone: Backbone,
    heads: Mapping[int, torch.nn.Linear],
    dim: int,
    *,
    normalizes: bool = True,
    similarity: str | None = None,
) -> None:
    """Write `backbone` with its first `dim` components into an empty `folder`.

    A backbone with a coded token table is written in a form that zoo alone opens; see `coded_folder`.

    Args:
        heads: linear heads by layer; heads of layers that `backbone` does not have are left out.
        normalizes: whether the vectors have unit norm.
        similarity: what the library compares vectors with; None for its default, the cosine.
    """
    import sentence_transformers

    last_head = narrow_head(heads[backbone.depth], dim) if backbone.depth in heads else None
    modules = [backbone.build_transformer_module(), *_list_later_modules(backbone, last_head, dim, normalizes)]
    model = sentence_transformers.SentenceTransformer(
        modules=modules,
        device="cpu",
        prompts={**backbone.named_prompts, **backbone.prompts},
        default_prompt_name=backbone.default_prompt,
        similarity_fn_name=similarity,  # type: ignore[arg-type]
    )
    with hide_progress_bars():
        model.save_pretrained(str(folder), create_model_card=False)
    _keep_lower_case(folder, backbone.transformer)
    shallow_heads = {n: narrow_head(head, dim).state_dict() for n, head in heads.items() if n < backbone.depth}
    if shallow_heads:
        flat = {f"{n}.{name}": tensor for n, state in shallow_heads.items() for name, tensor in state.items()}
        save_file(flat, folder / SHALLOW_HEADS, metadata={"format": "pt"})
    coded_folder.pack(folder, backbone.model)


def write_modules(folder: Path, transformer_path: str, backbone: Backbone, dim: int, *, normalizes: bool) -> None:
    """Write every file of sentence-transformers but the weights and the tokenizer, which lie in `transformer_path`."""
    transformer: Any = backbone.transformer
    transformer.save_config(str(folder / transformer_path))
    entries = [{"idx": 0, "name": "0", "path": transformer_path, "type": _name_class(transformer)}]
    for number, module in enumerate(_list_later_modules(backbone, None, dim, normalizes), 1):
        path = f"{number}_{type(module).__name__}"
        (folder / path).mkdir()
        cast("Any", module).save(str(folder / path))
        entries.append({"idx": number, "name": str(number), "path": path, "type": _name_class(module)})
    (folder / "modules.json").write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
    settings = {
        "model_type": "SentenceTransformer",
        "prompts": {**backbone.named_prompts, **backbone.prompts},
        "default_prompt_name": backbone.default_prompt,
        "similarity_fn_name": "cosine",
    }
    path_of_settings = folder / "config_sentence_transformers.json"
    path_of_settings.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _name_class(module: Any) -> str:
    return f"{type(module).__module__}.{type(module).__name__}"


def _list_later_modules(
    backbone: Backbone, head: torch.nn.Linear | None, dim: int, normalizes: bool
) -> list[torch.nn.Module]:
    """Return what follows the Transformer: pooling, linear maps, a head or a cut to `dim` components, normalisation."""
    from sentence_transformers.models import Normalize

    if head is None and dim < backbone.width:
        head = make_head(torch.eye(dim, backbone.width), None)
    last = ([] if head is None else [_make_dense(head)]) + ([Normalize()] if normalizes else [])
    return [backbone.pooling, *backbone.linear_maps, *last]


def _keep_lower_case(folder: Path, transformer: torch.nn.Module) -> None:
    """Write the setting `do_lower_case`, which sentence-transformers reads but does not save."""
    if getattr(transformer, "do_lower_case", False):
        path = folder / "sentence_bert_config.json"
        atomic_files.write_json(path, atomic_files.read_json_object(path) | {"do_lower_case": True})


def _make_dense(head: torch.nn.Linear) -> torch.nn.Module:
    from sentence_transformers.models import Dense

    module: Any = Dense(
        head.in_features, head.out_features, bias=head.bias is not None, activation_function=torch.nn.Identity()
    )
    module.linear = head
    return cast("torch.nn.Module", module)


def read_heads(folder: Path, backbone: Backbone | DeferredBackbone, dim: int) -> dict[int, torch.nn.Linear]:
    """Read the heads that `write` stored, by layer. Raise ArtefactError for one that does not fit `backbone` and `dim`."""
    stored: dict[str, torch.Tensor] = {}
    if (folder / DENSE_FOLDER).is_dir():
        linear = tensors.read(folder / DENSE_FOLDER)
        stored = {f"{backbone.depth}.{name.split('.')[-1]}": tensor for name, tensor in linear.items()}
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

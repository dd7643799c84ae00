"""Write and open a model folder that holds an adapter instead of all weights, and pins the backbone that it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from zoo.core.errors import ArtefactError
from zoo.families.dense import backbone_options
from zoo.families.dense.spec import ADAPTER_FOLDER, Spec
from zoo.hub.fetch import fetch
from zoo.hub.model_references import locate
from zoo.hub.pinned_base import find_base
from zoo.text import backbone as backbones
from zoo.text import lora, sentence_transformers_format, trained_parts
from zoo.text.backbone import Backbone


def write(folder: Path, backbone: Backbone, dim: int, normalizes: bool) -> None:
    """Write the adapter without the weights of the backbone, into a folder of its own inside `folder`.

    transformers looks for weights in any folder with a config.json, so the adapter cannot lie beside the config.json of the
    model folder.
    """
    adapter = folder / ADAPTER_FOLDER
    adapter.mkdir()
    lora.write_adapter(adapter, backbone.model, backbone.name, backbone.revision)
    backbone.tokenizer.save_pretrained(adapter)
    sentence_transformers_format.write_modules(folder, ADAPTER_FOLDER, backbone, dim, normalizes=normalizes)


def describe_base(backbone: Backbone, spec: Spec, folder: Path) -> dict[str, Any]:
    """Return name, revision and sha256 of the backbone. A relative path in `spec` starts at `folder`."""
    local = locate(spec.backbone, folder)
    weights = local or fetch(spec.backbone, backbone.revision)
    return {"revision": backbone.revision, "sha256": backbones.compute_weights_digest(weights)}


def load(spec: Spec, folder: Path, state: Mapping[str, Any]) -> tuple[Backbone, int]:
    """Open the backbone and add the adapter that `write` wrote. Return it, and the number of components of a vector.

    Raises ArtefactError if the backbone is not the one that the adapter was trained on, or if the adapter does not fit.
    """
    assert spec.lora is not None  # the caller has checked it
    revision = str(state.get("revision") or "")
    find_base(spec.backbone, folder, revision, str(state.get("sha256")), backbones.compute_weights_digest)
    limits = {name: state.get(name) for name in ("max_length", "dim")}
    for name, value in limits.items():
        if type(value) is not int or not 1 <= value <= 1 << 20:
            raise ArtefactError(
                f"{folder / 'config.json'}: {name} {str(value)[:20]} is not a number from 1 to {1 << 20}"
            )
    with torch.random.fork_rng(devices=[]):
        backbone = backbones.load(
            spec.backbone,
            revision=None if locate(spec.backbone) else revision,
            max_length=limits["max_length"],
            can_be_cut=False,
        )
        backbone = backbone_options.choose_pooling(backbone, spec)
        trained_parts.insert_adapter(backbone, spec.lora)
    lora.load_adapter_weights(folder / ADAPTER_FOLDER, backbone.model)
    return backbone, min(int(limits["dim"] or 1), backbone.width)

"""Write and open a model folder that holds an adapter instead of all weights, and pins the backbone that it was trained on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from zoo.core.errors import ArtefactError
from zoo.families.dense import backbone_options
from zoo.families.dense.spec import ADAPTER_FOLDER, Spec
from zoo.hub.fetch import fetch
from zoo.hub.model_references import locate
from zoo.text import backbone as backbones
from zoo.text import lora, sentence_transformers_format
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
    local = locate(spec.backbone)
    if local is None and not re.fullmatch("[0-9a-f]{40}", revision):
        raise ArtefactError(
            f"{folder / 'config.json'}: names the revision {revision[:40]!r} of its backbone {spec.backbone[:80]}, which is not "
            "a commit, so its weights could change; do not open this model"
        )
    digest = backbones.compute_weights_digest(local or fetch(spec.backbone, revision))
    if digest != state.get("sha256"):
        raise ArtefactError(
            f"{folder}: the adapter was trained on another version of its backbone {spec.backbone}: "
            f"{str(state.get('sha256'))[:12]}, not {digest[:12]}; restore that version or train the adapter again"
        )
    limits = {name: state.get(name) for name in ("max_length", "dim")}
    for name, value in limits.items():
        if type(value) is not int or not 1 <= value <= 1 << 20:
            raise ArtefactError(
                f"{folder / 'config.json'}: {name} {str(value)[:20]} is not a number from 1 to {1 << 20}"
            )
    with torch.random.fork_rng(devices=[]):
        backbone = backbones.load(
            spec.backbone,
            revision=revision if local is None else None,
            max_length=limits["max_length"],
            can_be_cut=False,
        )
        backbone = backbone_options.choose_pooling(backbone, spec)
        backbone_options.insert_adapter(backbone, spec)
    lora.load_adapter_weights(folder / ADAPTER_FOLDER, backbone.model)
    return backbone, min(int(limits["dim"] or 1), backbone.width)

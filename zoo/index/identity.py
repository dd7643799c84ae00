"""Which encoder an index belongs to: its record in model.json, and the comparison with the encoder that opens the index.

Vectors of another encoder have the same shape, and their scores look right. So an index is opened only with the encoder that
built it: the same weights and tokens by hash, the same view, prompts and code, and nearly the same vector for a probe.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.artefact import tensors
from zoo.bridge import encoder_record
from zoo.core import atomic_files
from zoo.core.errors import ArtefactError, ZooError

if TYPE_CHECKING:
    from zoo.after.step import Step
    from zoo.bridge.bridge import Bridge
    from zoo.encoder import Encoder

PROBE_COMPONENTS = 16
PROBE_TOLERANCE = 0.02
"""Largest difference of a component, relative to the largest: arithmetic differs between processors and precisions."""
MEANINGS = {
    **encoder_record.MEANINGS,
    "tokens": "its tokenizer is another",
    "similarity": "its vectors are compared otherwise",
    "prompts": "the prompts are others",
}
"""The parts of an encoder that are compared, and what a difference means."""


def describe_encoder(encoder: Encoder, reference: str | None, commit: str | None = None) -> dict[str, Any]:
    """Return the JSON-able record of an encoder.

    Args:
        reference: the name by which `zoo.from_pretrained` opens it again; None if it is not known.
        commit: the commit on the Hub that `reference` names.
    """
    return {
        **encoder_record.describe_encoder(encoder, reference),
        "commit": commit,
        "revision": encoder.backbone_revision or encoder.revision,
        "family": encoder.spec.family,
        "tokens": _hash_tokens(encoder),
        "prompts": find_prompts(encoder),
        "probe": _encode_probe(encoder),
    }


def find_commit(reference: str, revision: str | None) -> str | None:
    """Return the commit of a model on the Hub, which is in its cache; None for a local model."""
    from zoo.hub import model_references
    from zoo.hub.fetch import fetch

    if model_references.locate(reference) is not None:
        return None
    name = fetch(reference, revision).name
    return name if re.fullmatch(r"[0-9a-f]{40}", name) else revision


def find_prompts(encoder: Encoder) -> dict[str, str]:
    """Return the texts that the encoder puts before queries and documents, by role."""
    return {role: encoder_record.find_prompt(encoder, role) for role in ("query", "document")}


def hash_step(step: Step) -> str:
    """Return the sha256 of a step after training."""
    spec = step.spec.model_dump(mode="json") if hasattr(step.spec, "model_dump") else str(step.spec)
    return atomic_files.digest([spec, step.state(), tensors.hash_tensors(step.tensors())])


def _hash_tokens(encoder: Encoder) -> str:
    from zoo.artefact import reopening

    tokens = encoder.list_token_ids(list(reopening.TEXTS)) if "text" in encoder.modalities else None
    return "" if tokens is None else atomic_files.digest([list(map(int, ids)) for ids in tokens])


def _encode_probe(encoder: Encoder) -> list[float]:
    """Return the first components of the vector of a probe."""
    vector = np.asarray(encoder.encode_document(encoder.make_probes()[:1]))[0]
    return [round(float(value), 6) for value in vector[:PROBE_COMPONENTS]]


def require_same_encoder(folder: Any, record: Mapping[str, Any], encoder: Encoder) -> None:
    """Raise ArtefactError, in one line, unless `encoder` is the one of the record."""
    own = describe_encoder(encoder, None)
    for part, meaning in MEANINGS.items():
        if own[part] != record.get(part):
            shown = "" if part in ("weights", "tokens") else f" ({own[part]!r}, not {record.get(part)!r})"
            raise ArtefactError(
                f"{folder}: was built with {record.get('reference') or 'another encoder'}, and {meaning}{shown[:160]}; open it "
                "with that encoder, or build the index again"
            )
    probe, before = np.asarray(own["probe"]), np.asarray(record.get("probe"))
    if probe.shape != before.shape or np.abs(probe - before).max() > PROBE_TOLERANCE * np.abs(before).max():
        raise ArtefactError(
            f"{folder}: the encoder has the same weights as {record.get('reference') or 'before'} but encodes otherwise, for "
            "example with another pooling; open the index with that encoder, or build it again"
        )


def open_bridged_encoder(path: Any, record: Mapping[str, Any], bridge: Bridge, model: Any = None) -> Encoder:
    """Open the new encoder of a bridge, whose queries search the index of the record.

    Args:
        path: the folder of the index, for messages.
        model: the new encoder, or a reference; None for the reference in the bridge.

    Raise ArtefactError if the bridge leads to another encoder than that of the index, or from another one than `model`.
    """
    from zoo import pretrained
    from zoo.encoder import Encoder as AnyEncoder

    for part in ("weights", "dim", "view"):
        if bridge.old.get(part) != record.get(part):
            raise ArtefactError(
                f"{path}: was built with {record.get('reference') or 'another model'}, and the bridge leads to "
                f"{bridge.old.get('name')}; fit a bridge to the model of the index"
            )
    encoder = model
    if not isinstance(encoder, AnyEncoder):
        reference = model if model is not None else bridge.new.get("reference")
        if reference is None:
            raise ZooError(f"{path}: the bridge does not say where its new model is; name it with --model")
        encoder = pretrained.from_pretrained(reference)
        if bridge.new.get("view"):
            encoder = encoder.view(**bridge.new["view"])
    bridge.require_encoders(new=encoder)
    return encoder


def open_recorded_encoder(folder: Any, record: Mapping[str, Any], model: Any = None) -> Encoder:
    """Open the encoder of an index at its view, or `model` in its place, and compare it with the record.

    Args:
        model: an encoder, which must be at the right view, or a reference; None for the recorded reference.

    Raise ZooError if the reference is not known, and ArtefactError for another encoder.
    """
    from zoo import pretrained
    from zoo.encoder import Encoder as AnyEncoder

    if isinstance(model, AnyEncoder):
        require_same_encoder(folder, record, model)
        return model
    reference = model if model is not None else record.get("reference")
    if reference is None:
        raise ZooError(
            f"{folder}: does not say where its model is, because it was built from an encoder; name it with --model"
        )
    encoder = pretrained.from_pretrained(reference, record.get("commit") if model is None else None)
    if record.get("view"):
        encoder = encoder.view(**record["view"])
    require_same_encoder(folder, record, encoder)
    return encoder

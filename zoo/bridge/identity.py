"""Which encoders a bridge joins: a record of each, and the comparison with an encoder that is used with the bridge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zoo.artefact import tensors
from zoo.core.errors import ArtefactError

if TYPE_CHECKING:
    from zoo.encoder import Encoder

PARTS = {
    "weights": "the weights are others",
    "dim": "its vectors have another number of components",
    "view": "the view is another",
    "prompt": "the prompt of queries is another",
}
"""The parts of an encoder that are compared, and what a difference means."""


def describe_encoder(encoder: Encoder, reference: str | None) -> dict[str, Any]:
    """Return the JSON-able record of an encoder. `reference` is the name by which it is opened again, if that is known."""
    find_prompt = getattr(encoder, "find_prompt", None)
    return {
        "reference": reference,
        "name": encoder.name,
        "weights": hash_weights(encoder),
        "dim": encoder.dim,
        "similarity": encoder.similarity_fn_name,
        "view": dict(encoder.view_options),
        "prompt": str(find_prompt("query")) if find_prompt else "",
    }


def hash_weights(encoder: Encoder) -> str:
    """Return the sha256 of all tensors of an encoder with their names. It does not depend on the device or on file formats."""
    return tensors.hash_tensors(encoder.module.state_dict())


def require_encoder(place: Any, side: str, record: Mapping[str, Any], encoder: Encoder) -> None:
    """Raise ArtefactError unless `encoder` is the one of the record. `side` is "old" or "new"."""
    own = describe_encoder(encoder, None)
    for part, meaning in PARTS.items():
        if own[part] != record.get(part):
            name = record.get("reference") or record.get("name")
            raise ArtefactError(
                f"{place}: its {side} model is {str(name)[:80]}, and {meaning}; open that model, or fit another bridge with "
                "`zoo bridge`"
            )

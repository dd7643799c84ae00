"""Which encoder this is: the part of its record that indexes and bridges keep alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.artefact import tensors

if TYPE_CHECKING:
    from zoo.encoder import Encoder

MEANINGS = {
    "weights": "the weights are others",
    "dim": "its vectors have another number of components",
    "view": "the view is another",
}
"""The parts that are always compared, and what a difference means."""


def describe_encoder(encoder: Encoder, reference: str | None) -> dict[str, Any]:
    """Return the JSON-able record of an encoder. `reference` is the name by which it is opened again, if that is known."""
    return {
        "reference": reference,
        "weights": hash_weights(encoder),
        "dim": encoder.dim,
        "similarity": encoder.similarity_fn_name,
        "view": dict(encoder.view_options),
    }


def hash_weights(encoder: Encoder) -> str:
    """Return the sha256 of all tensors of an encoder with their names. It does not depend on the device or on file formats."""
    return tensors.hash_tensors(encoder.module.state_dict())


def find_prompt(encoder: Encoder, role: str) -> str:
    """Return the text that the encoder puts before inputs of a role, query or document. Empty if it knows no prompts."""
    find = getattr(encoder, "find_prompt", None)
    return str(find(role)) if find else ""

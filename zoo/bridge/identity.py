"""Which encoders a bridge joins: a record of each, and the comparison with an encoder that is used with the bridge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zoo.bridge import encoder_record
from zoo.core.errors import ArtefactError

if TYPE_CHECKING:
    from zoo.encoder import Encoder

MEANINGS = {**encoder_record.MEANINGS, "prompt": "the prompt of queries is another"}
"""The parts of an encoder that are compared, and what a difference means."""


def describe_encoder(encoder: Encoder, reference: str | None) -> dict[str, Any]:
    """Return the JSON-able record of an encoder. `reference` is the name by which it is opened again, if that is known."""
    record = encoder_record.describe_encoder(encoder, reference)
    return {**record, "name": encoder.name, "prompt": encoder_record.find_prompt(encoder, "query")}


def require_encoder(place: Any, side: str, record: Mapping[str, Any], encoder: Encoder) -> None:
    """Raise ArtefactError unless `encoder` is the one of the record. `side` is "old" or "new"."""
    own = describe_encoder(encoder, None)
    for part, meaning in MEANINGS.items():
        if own[part] != record.get(part):
            name = record.get("reference") or record.get("name")
            raise ArtefactError(
                f"{place}: its {side} model is {str(name)[:80]}, and {meaning}; open that model, or fit another bridge with "
                "`zoo bridge`"
            )

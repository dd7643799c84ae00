"""Transformer architectures whose depth can be cut, and what their config.json says of their size.

They differ in where the blocks stand, in what follows the last one and in which entries count or list the blocks; `ADAPTERS`
says so for each that was verified, and any other architecture is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zoo.core.errors import ZooError


@dataclass(frozen=True)
class Depth:
    """How an architecture is cut: `blocks` is the path of its ModuleList, `norm` a module that every cut applies after its
    last block, `count` the config entry with the number of blocks, `lists` entries with one item a block."""

    blocks: str = "encoder.layer"
    norm: str | None = None
    count: str = "num_hidden_layers"
    lists: tuple[str, ...] = ()


ADAPTERS: dict[str, Depth] = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "electra", "mpnet"), Depth()),
    "distilbert": Depth(blocks="transformer.layer", count="n_layers"),
    "modernbert": Depth(blocks="layers", norm="final_norm", lists=("layer_types",)),
}


_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")  # count their positions from behind the padding's


def depth_of(config: Mapping[str, Any]) -> tuple[int, int]:
    """(blocks, hidden size) of a config.json. Raises ZooError for an architecture without an adapter."""
    found = adapter(str(config.get("model_type")))
    size = config.get("hidden_size", config.get("dim"))
    return int(config[found.count]), int(size or 0)


def longest(config: Mapping[str, Any]) -> int | None:
    """Tokens that a config.json has positions for; None where it does not say."""
    positions = config.get("max_position_embeddings")
    kind = config.get("model_type")
    padding = 1 if kind == "mpnet" else int(config.get("pad_token_id") or 0)  # MPNet's does not follow the config
    taken = padding + 1 if kind in _AFTER_PADDING else 0
    return int(positions) - taken if positions else None


def adapter(model_type: str) -> Depth:
    if model_type not in ADAPTERS:
        known = ", ".join(sorted(ADAPTERS))
        raise ZooError(
            f"the architecture {model_type!r} has no depth adapter, so its layers cannot be cut; there are: {known}"
        )
    return ADAPTERS[model_type]

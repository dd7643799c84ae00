"""Transformer architectures whose depth can be cut, and what their config.json says about their size.

Architectures differ in where the blocks are, what follows the last block, and which config entries count or list the blocks.
`DEPTH_ADAPTERS` describes the architectures that were verified; all others are refused. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zoo.core.errors import ZooError


@dataclass(frozen=True)
class DepthAdapter:
    """How the depth of an architecture is cut.

    Attributes:
        blocks: path of the ModuleList with the blocks.
        norm: path of a module that follows the last block at every depth, if any.
        count: config entry with the number of blocks.
        lists: config entries with one item per block.
    """

    blocks: str = "encoder.layer"
    norm: str | None = None
    count: str = "num_hidden_layers"
    lists: tuple[str, ...] = ()


DEPTH_ADAPTERS: dict[str, DepthAdapter] = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "electra", "mpnet"), DepthAdapter()),
    "distilbert": DepthAdapter(blocks="transformer.layer", count="n_layers"),
    "modernbert": DepthAdapter(blocks="layers", norm="final_norm", lists=("layer_types",)),
}

# their first position is the one after the padding token's id
_OFFSET_BY_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")


def get_depth_adapter(model_type: str) -> DepthAdapter:
    """Return the adapter of an architecture. Raise ZooError if it has none."""
    if model_type not in DEPTH_ADAPTERS:
        supported = ", ".join(sorted(DEPTH_ADAPTERS))
        raise ZooError(
            f"the architecture {model_type!r} has no depth adapter, so its layers cannot be cut; there are: {supported}"
        )
    return DEPTH_ADAPTERS[model_type]


def read_depth_and_width(config: Mapping[str, Any]) -> tuple[int, int]:
    """Return (number of blocks, hidden size) of a config.json. Raise ZooError for an architecture without an adapter."""
    adapter = get_depth_adapter(str(config.get("model_type")))
    width = config.get("hidden_size", config.get("dim"))
    return int(config[adapter.count]), int(width or 0)


def compute_max_length(config: Mapping[str, Any]) -> int | None:
    """Return the number of tokens that the position table of a config.json allows; None if it does not say."""
    positions = config.get("max_position_embeddings")
    if not positions:
        return None
    model_type = config.get("model_type")
    # MPNet's padding position is 1 whatever its config says
    padding_id = 1 if model_type == "mpnet" else int(config.get("pad_token_id") or 0)
    unused_positions = padding_id + 1 if model_type in _OFFSET_BY_PADDING else 0
    return int(positions) - unused_positions

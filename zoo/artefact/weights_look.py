"""Look for obvious gaps in the weights of any model of transformers, without torch and without knowing its architecture.

`zoo check` uses this for image and vision-language models. Opening a model compares every name with the architecture's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from zoo.artefact import headers, tensors, weight_names
from zoo.core.errors import ArtefactError

SMALLEST_BLOCK = 4
"""Least number of tensors of a Transformer block."""
ROOTS = frozenset(
    (
        *(
            "embeddings",
            "embedder",
            "encoder",
            "layernorm",
            "layers",
            "layer",
            "blocks",
            "stages",
            "stem",
            "norm",
            "pooler",
        ),
        *(
            "vision_model",
            "vision_tower",
            "visual",
            "text_model",
            "language_model",
            "connector",
            "multi_modal_projector",
        ),
    )
)
"""First parts of names of tensors in image and vision-language models."""


def check(reference: str, folder: Path, config: Mapping[str, Any]) -> None:
    """Raise ArtefactError for weights that no model of transformers can be opened from as they are.

    Args:
        reference: the model's name, for the warning about a prefix that is removed.
        folder: the model's folder.
        config: its config.json.
    """
    entries = headers.read_all(tensors.list_pretrained_files(folder))
    weight_names.check_dtypes(folder, entries)
    prefix = next((w for w in weight_names.WRAPPERS[:-1] if all(name.startswith(w) for name in entries)), "")
    weight_names.tell(reference, weight_names.Names(prefix, ()))
    names = [name.removeprefix(prefix) for name in entries]
    gaps = find_gaps(names)
    if gaps:
        raise ArtefactError(weight_names.describe_missing(folder, gaps, entries))
    wrapper = _find_unknown_wrapper(names, str(config.get("model_type")))
    if wrapper:
        raise ArtefactError(
            f"{folder}: the names of all tensors begin with {wrapper!r}, which does not belong to the model; save the model "
            "under its usual names, or download it again"
        )
    for section in ("text_config", "vision_config"):
        layers = (config.get(section) or {}).get("num_hidden_layers")
        lengths = {len(blocks) for _, blocks in _list_blocks(names)}
        if type(layers) is int and layers not in lengths:
            raise ArtefactError(
                f"{folder}: config.json: {section}.num_hidden_layers: {layers}, but the weights hold "
                f"{' and '.join(map(str, sorted(lengths))) or 'no'} blocks; use the config.json that belongs to the weights"
            )


def _find_unknown_wrapper(names: Iterable[str], model_type: str) -> str | None:
    """Return the first part that all names share, if it is neither a part of the model nor the name of its architecture."""
    parts = [name.split(".") for name in names]
    first = {path[0] for path in parts}
    inner = {path[1] for path in parts if len(path) > 1}
    if len(first) != 1 or not inner & ROOTS:
        return None
    part = first.pop()
    plain_part, plain_type = part.replace("_", ""), model_type.replace("_", "").replace("-", "")
    belongs = part in ROOTS or part in ("model", "vit") or plain_part in plain_type or plain_type in plain_part
    return None if belongs else part


def find_gaps(names: Iterable[str]) -> list[str]:
    """Return what a checkpoint obviously lacks.

    A gap is a block that is left out of a numbered list, or a tensor that every block of a list has except one in the middle.
    Small blocks do not count: a sequence of layers may hold some without tensors.
    """
    gaps = []
    for path, blocks in _list_blocks(names):
        if max(blocks) >= len(blocks):
            gaps.append(f"{path}.{next(number for number in count() if number not in blocks)}")
        for number in sorted(blocks)[1:-1]:
            others = [block for other, block in blocks.items() if other != number]
            lacking = set.intersection(*others) - blocks[number]
            gaps += [f"{path}.{number}.{name}" for name in sorted(lacking)]
    return gaps


def _list_blocks(names: Iterable[str]) -> Iterator[tuple[str, dict[int, set[str]]]]:
    """Yield each numbered list of modules: its path, and the names inside each of its blocks by number."""
    lists: dict[str, dict[int, set[str]]] = {}
    for name in names:
        parts = name.split(".")
        for place, part in enumerate(parts):
            if part.isdecimal() and place:
                blocks = lists.setdefault(".".join(parts[:place]), {})
                blocks.setdefault(int(part), set()).add(".".join(parts[place + 1 :]))
    for path, blocks in lists.items():
        if min(map(len, blocks.values())) >= SMALLEST_BLOCK:
            yield path, blocks

"""Compare the tensors of a checkpoint with those of the model that its config describes. Needs no torch.

A checkpoint may hold its tensors under other names than the model: a wrapper put a prefix before each of them, for example
`module.`. A prefix on the list WRAPPERS is removed. Any tensor that is missing after that is an error, because the libraries
would draw it at random.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from zoo.artefact import headers
from zoo.artefact.headers import Entry, Shape
from zoo.core.errors import ArtefactError, WeightsWarning

WRAPPERS = ("module.", "_orig_mod.", "0.auto_model.", "0.model.", "auto_model.", "model.")
"""Prefixes that DataParallel, torch.compile and sentence-transformers put before the name of every tensor."""
UNUSED = ("pooler", "mask_token")
"""Parts of names of tensors that no encoder uses. A checkpoint may lack them."""
BUFFERS = ("position_ids",)
"""Last parts of names of tensors that older versions of transformers stored and that follow from the config."""
LISTED = 4
"""Most names in one message."""
_OLD_NAMES = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))


class Names(NamedTuple):
    """How the names of a checkpoint become those of its model.

    Attributes:
        prefix: what a wrapper put before the names; "" for nothing.
        unexpected: names that the model does not have.
    """

    prefix: str
    unexpected: tuple[str, ...]

    @property
    def key_mapping(self) -> dict[str, str]:
        """The argument `key_mapping` of transformers that removes the prefix."""
        return {f"^{re.escape(self.prefix)}": ""} if self.prefix else {}


def check(
    place: Path, stored: Mapping[str, Entry], expected: Mapping[str, Shape | None], base_prefix: str = ""
) -> Names:
    """Raise ArtefactError unless a checkpoint holds every tensor that its model uses, in the right shape and as floats.

    Args:
        place: the folder, for the message.
        stored: the tensors of the checkpoint.
        expected: the shapes of the model's parameters by name; None for a shape that the config does not give.
        base_prefix: what transformers itself removes from the names, for example `bert.`.
    """
    check_dtypes(place, stored)
    prefix = find_prefix(stored, expected, base_prefix)
    entries = {_rename(name, prefix, base_prefix, expected): entry for name, entry in stored.items()}
    missing = [name for name in expected if name not in entries and not is_unused(name)]
    if missing:
        raise ArtefactError(describe_missing(place, missing, stored))
    for name, shape in expected.items():
        if shape is not None and name in entries and entries[name].shape != shape:
            raise ArtefactError(
                f"{place}: the tensor {name} has shape {entries[name].shape}, but config.json describes {shape}; "
                "use the config.json that belongs to the weights"
            )
    unexpected = [
        name
        for name in stored
        if _rename(name, prefix, base_prefix, expected) not in expected and not name.endswith(BUFFERS)
    ]
    return Names(prefix, tuple(unexpected))


def check_dtypes(place: Path, stored: Mapping[str, Entry]) -> None:
    """Raise ArtefactError for weights that are not floats: read as floats, integers would be other weights."""
    for name, entry in stored.items():
        is_weight = name.rpartition(".")[2] in ("weight", "bias", "gamma", "beta")
        if entry.dtype not in headers.FLOATS and (is_weight or entry.dtype not in headers.INTEGERS):
            raise ArtefactError(
                f"{place}: the tensor {name[:80]} is stored as {entry.dtype}, but weights must be one of "
                f"{', '.join(headers.FLOATS)}; use the model before it was quantised"
            )


def find_prefix(stored: Iterable[str], expected: Iterable[str], base_prefix: str = "") -> str:
    """Return the wrapper's prefix whose removal gives the most names of `expected`; "" if no removal gives more."""
    names, wanted = list(stored), set(expected)
    doubled = (first + second for first, second in product(WRAPPERS, WRAPPERS))
    present = [prefix for prefix in (*WRAPPERS, *doubled) if any(name.startswith(prefix) for name in names)]

    def count_matches(prefix: str) -> int:
        return sum(_rename(name, prefix, base_prefix, wanted) in wanted for name in names)

    return max(["", *present], key=lambda prefix: (count_matches(prefix), -len(prefix)))


def is_unused(name: str) -> bool:
    """Return whether no encoder uses the tensor."""
    return any(part in UNUSED for part in name.split("."))


def describe_missing(place: Path, missing: Iterable[str], stored: Iterable[str]) -> str:
    """Describe which tensors are not there, and which names are there instead."""
    names, others = list(missing), sorted(stored)
    return (
        f"{place}: the weights lack {len(names)} tensor{'s' if len(names) > 1 else ''} of the model that config.json "
        f"describes: {_list(names)}; they hold names such as {_list(others[:1])}: save the model under its usual names, or "
        "download it again"
    )


def tell(reference: str, names: Names) -> None:
    """Warn of a prefix that is removed and of tensors that are ignored."""
    if names.prefix:
        warnings.warn(
            f"backbone {reference}: the names of its tensors begin with `{names.prefix}`, which is removed",
            WeightsWarning,
            stacklevel=2,
        )
    if names.unexpected:
        count = len(names.unexpected)
        warnings.warn(
            f"backbone {reference}: {count} tensor{'s are' if count > 1 else ' is'} not part of the model and ignored: "
            f"{_list(names.unexpected)}",
            WeightsWarning,
            stacklevel=2,
        )


def _list(names: Iterable[str]) -> str:
    shown = [name[:100] for name in names]
    more = f" and {len(shown) - LISTED} more" if len(shown) > LISTED else ""
    return ", ".join(shown[:LISTED]) + more


def _rename(name: str, prefix: str, base_prefix: str, expected: Any) -> str:
    """Return the name that the model has for a tensor of the checkpoint."""
    name = name.removeprefix(prefix)
    for old, new in _OLD_NAMES:
        name = name.replace(old, new)
    short = name.removeprefix(base_prefix)
    return short if short in expected else name

"""Keep the converted copies of modules that encoding uses, one for each precision and view, in bounded memory.

A copy is converted once and used until the weights change. Whenever the copies together need more than the limit, those that
were not used for longest are dropped. The newest copy always stays, whatever its size.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

DEFAULT_LIMIT_MB = 2048
VARIABLE = "ZOO_CONVERSIONS_MB"
"""The environment variable that sets another limit, in MiB."""


@dataclass(frozen=True)
class Conversion:
    """A converted copy.

    Attributes:
        value: what encodes.
        stamp: describes the weights that it was made of.
        parts: bytes of each tensor that it does not share with its original, by an id that copies with this tensor share.
    """

    value: Any
    stamp: Any
    parts: Mapping[int, int]


class ConversionCache:
    """Converted copies by owner and key, the least recently used first. All methods may be called from several threads.

    Args:
        limit: bytes of all copies together.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = threading.RLock()
        self._entries: OrderedDict[tuple[int, Hashable], Conversion] = OrderedDict()
        self._owners: dict[int, weakref.ref[Any]] = {}

    def get(self, owner: Any, key: Hashable, stamp: Any, convert: Callable[[], tuple[Any, Mapping[int, int]]]) -> Any:
        """Return the copy of `owner` for `key`. It is made by `convert` if there is none with this stamp.

        Args:
            owner: an object; its copies are dropped when it is deleted.
            key: the precision, for example.
            stamp: a value that changes when the weights do.
            convert: returns the copy and its `parts`.
        """
        with self._lock:
            place = (id(owner), key)
            entry = self._entries.get(place)
            if entry is None or entry.stamp != stamp:
                self._entries.pop(place, None)  # frees the memory of the old copy before the new one is made
                del entry
                value, parts = convert()
                entry = Conversion(value, stamp, parts)
                self._watch(owner)
                self._entries[place] = entry
                self._drop_oldest()
            self._entries.move_to_end(place)
            return entry.value

    def forget(self, owner: Any) -> None:
        """Drop every copy of `owner`."""
        self._forget_id(id(owner))

    def count_bytes(self, *owners: Any) -> int:
        """Return the bytes of the copies of these owners, or of all; what copies share counts once."""
        with self._lock:
            ids = {id(owner) for owner in owners} or self._owners.keys()
            entries = [entry for (owner, _), entry in self._entries.items() if owner in ids]
        return sum({part: size for entry in entries for part, size in entry.parts.items()}.values())

    def list_keys(self, owner: Any) -> list[Hashable]:
        """Return the keys of the copies of `owner`, the least recently used first."""
        with self._lock:
            return [key for place, key in self._entries if place == id(owner)]

    def _watch(self, owner: Any) -> None:
        number = id(owner)
        if number not in self._owners:
            self._owners[number] = weakref.ref(owner, lambda _: self._forget_id(number))

    def _forget_id(self, number: int) -> None:
        with self._lock:
            self._owners.pop(number, None)
            for place in [place for place in self._entries if place[0] == number]:
                del self._entries[place]

    def _drop_oldest(self) -> None:
        while len(self._entries) > 1 and self.count_bytes() > self.limit:
            self._entries.popitem(last=False)


def read_limit() -> int:
    """Return the limit in bytes: that of the environment, if it is a whole number, or the default."""
    text = os.environ.get(VARIABLE, "")
    return (int(text) if text.isdecimal() else DEFAULT_LIMIT_MB) << 20


CACHE = ConversionCache(read_limit())

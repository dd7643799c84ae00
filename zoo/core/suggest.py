"""The end of an error about a word nobody knows: the nearest one, or a list of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggest(word: str, known: Iterable[str], *, listing: str = "there are") -> str:
    """`; did you mean X?` for a close name, else `; there are: …`, or nothing when there is nothing to list, or `listing`
    is empty."""
    names = [name if name.isprintable() else ascii(name) for name in known]
    if close := difflib.get_close_matches(word, names, 1, 0.5):
        return f"; did you mean {close[0]}?"
    more = ", …" if len(names) > 20 else ""
    return f"; {listing}: {', '.join(names[:20])}{more}" if names and listing else ""

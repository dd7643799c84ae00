"""The end of an error message about an unknown name: the nearest known name, or a list of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MAX_LISTED = 20


def suggest(word: str, names: Iterable[str], *, listing: str = "there are") -> str:
    """Return `; did you mean X?` if one of `names` is close to `word`, else `; there are: …`.

    The result is empty if there is no close name and either `names` or `listing` is empty.
    """
    printable = [name if name.isprintable() else ascii(name) for name in names]
    close_names = difflib.get_close_matches(word, printable, n=1, cutoff=0.5)
    if close_names:
        return f"; did you mean {close_names[0]}?"
    if not printable or not listing:
        return ""
    more = ", …" if len(printable) > MAX_LISTED else ""
    return f"; {listing}: {', '.join(printable[:MAX_LISTED])}{more}"

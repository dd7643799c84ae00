"""Show text of strangers without letting it act: no character moves the cursor, colours the screen or reorders a line.

A model folder, a data set, the Hub's answer or a file name may hold any character. `escape` is for screens and logs, where a
reader should see that the character is there. `remove_invisible` is for cards, whose text is read by everybody.
"""

from __future__ import annotations

import unicodedata

_INVISIBLE_CATEGORIES = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
"""Control characters; format characters, for example zero-width and bidirectional ones; surrogates; line separators."""
_INVISIBLE_LETTERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and marks that are drawn as nothing, although their category says otherwise."""
_JOINERS = frozenset("\u200c\u200d")
"""Zero-width (non-)joiners. Persian, Indic scripts and emoji are spelled with them between two visible characters."""


def is_invisible(character: str) -> bool:
    """Return whether a character has no shape of its own. A plain space, a tab and a newline are not such characters."""
    if character in "\t\n":
        return False
    return unicodedata.category(character) in _INVISIBLE_CATEGORIES or character in _INVISIBLE_LETTERS


def escape(text: str) -> str:
    r"""Return `text` with every invisible character as \uXXXX. Tabs and newlines stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_write_escape(char) if is_invisible(char) else char for char in text)


def escape_line(text: str) -> str:
    r"""Return `text` as one line, with every invisible character as \uXXXX, a newline as \n and a tab as \t."""
    return escape(text).replace("\n", "\\n").replace("\t", "\\t")


def _write_escape(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def remove_invisible(text: str) -> str:
    """Return `text` without invisible characters. Tabs, newlines and joiners inside a word stay."""
    kept = []
    for position, char in enumerate(text):
        if not is_invisible(char) or (char in _JOINERS and _joins(text, position)):
            kept.append(char)
    return "".join(kept)


def _joins(text: str, position: int) -> bool:
    """Return whether the joiner at `position` stands between two visible characters outside ASCII."""
    neighbours = text[position - 1 : position] + text[position + 1 : position + 2]
    return len(neighbours) == 2 and not any(char.isascii() or is_invisible(char) for char in neighbours)

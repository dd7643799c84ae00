"""Text to Markdown that shows exactly that text: no HTML, no table, no heading, no code begins inside a value.

`Markup` marks what is Markdown already; everything else that a template prints goes through `escape`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup

NOTHING = Markup("\N{EN DASH}")

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"}
_ACTIVE = re.compile(r"[\\`*\[\]~$]|(?<![^\W_])_|_(?![^\W_])|[&<>|]")
_OPENING = re.compile(r"^(?:[-+#=]|\d{1,9}(?=[.)]))")
_REORDERING = set("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_URL = re.compile(r"https?://[^\s<>()\[\]\"'`\\|{}]+")


def line(value: Any) -> str:
    """`value` as one line: without control characters, lone surrogates and marks that reorder what is seen."""
    kept = (
        " " if char.isspace() else char
        for char in str(value)
        if char.isspace() or not (char in _REORDERING or unicodedata.category(char) in ("Cc", "Cs"))
    )
    return re.sub(r" {2,}", " ", "".join(kept)).strip()


def escape(value: Any) -> Markup:
    """`value` as one line of running text, safe in a paragraph, a heading and a table cell.

    Markup passes as it is; None becomes a dash.
    """
    if value is None or isinstance(value, Markup):
        return NOTHING if value is None else value
    text = _ACTIVE.sub(lambda found: _ENTITIES.get(found[0], f"\\{found[0]}"), line(value))
    # Nothing may begin a list, a rule or a heading. A digit cannot be escaped, but the full stop behind it can.
    return Markup(_OPENING.sub(lambda found: f"{found[0]}\\" if found[0].isdigit() else f"\\{found[0]}", text))


def paragraphs(value: Any) -> Markup:
    """`escape` for prose: blank lines stay, so that paragraphs stay apart."""
    return Markup("\n\n").join(escape(each) for each in re.split(r"\n\s*\n", str(value)) if line(each))


def code(value: Any) -> Markup:
    """`value` as inline code; as escaped text where backticks, pipes or backslashes would depend on the renderer."""
    text = line(value)
    if not text:
        return NOTHING
    return escape(text) if re.search(r"[`|\\]", text) else Markup(f"`{text}`")


def fence(value: Any, language: str = "") -> Markup:
    """`value` as a fenced block; the fence is longer than every run of backticks inside."""
    text = "".join(c for c in str(value) if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs"))
    marks = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
    return Markup(f"{marks}{language}\n{text.strip(chr(10))}\n{marks}")


def link(text: Any, url: Any) -> Markup:
    """A link to an http(s) address; the escaped text alone for any other."""
    return Markup(f"[{escape(text)}]({url})") if _URL.fullmatch(str(url or "")) else escape(text)


def table(header: Sequence[Any], rows: Iterable[Sequence[Any]], *, left: int = 1) -> Markup:
    """A table: its first `left` columns aligned to the left, the others, figures, to the right. Cells are escaped."""
    rule = "|".join(":---" if index < left else "---:" for index in range(len(header)))
    return Markup("\n".join([row(*header), f"|{rule}|", *(row(*cells) for cells in rows)]))


def row(*cells: Any) -> Markup:
    """One row of a table, escaped; empty cells show a dash."""
    return Markup("| {} |").format(Markup(" | ").join(escape(cell) or NOTHING for cell in cells))

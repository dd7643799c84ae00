"""Turn text into Markdown that shows exactly that text: no value can begin HTML, a table, a heading or code.

`Markup` marks text that is Markdown already. Everything else that a template prints goes through `escape`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup

from zoo.core import visible

DASH = Markup("\N{EN DASH}")
"""What a cell without a value shows."""

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"}
_ACTIVE = re.compile(r"[\\`*\[\]~$]|(?<![^\W_])_|_(?![^\W_])|[&<>|]")
_BLOCK_START = re.compile(r"^(?:[-+#=]|\d{1,9}(?=[.)]))")
_ESCAPED_FIELD = re.compile(r"\\`([a-z_]+(?:\.[a-z_]+)*(?:: \{?[a-z_]+(?:: …\})?|:)?)\\`")
"""A field of a recipe between backticks, perhaps with a value, after `escape`: `training.epochs`, `backbone: {model: …}`."""
_URL = re.compile(r"https?://[^\s<>()\[\]\"'`\\|{}]+")


def as_line(value: Any) -> str:
    """Return `value` as one line without invisible characters, for example controls and marks that change the reading order."""
    characters = (" " if char.isspace() else char for char in str(value))
    return re.sub(r" {2,}", " ", visible.remove_invisible("".join(characters))).strip()


def escape(value: Any) -> Markup:
    """Return `value` as one line of text that is safe in a paragraph, a heading and a table cell.

    Markup is returned unchanged. None becomes a dash.
    """
    if value is None:
        return DASH
    if isinstance(value, Markup):
        return value
    text = _ACTIVE.sub(lambda match: _ENTITIES.get(match[0], f"\\{match[0]}"), as_line(value))
    # No text may begin a list, a rule or a heading. A digit cannot be escaped, but the full stop after it can.
    return Markup(_BLOCK_START.sub(lambda match: f"{match[0]}\\" if match[0].isdigit() else f"\\{match[0]}", text))


def escape_paragraphs(value: Any) -> Markup:
    """Escape prose. Blank lines stay, so that paragraphs stay apart."""
    blocks = re.split(r"\n\s*\n", str(value))
    return Markup("\n\n").join(escape(block) for block in blocks if as_line(block))


def format_advice(value: Any) -> Markup:
    """Escape a sentence that zoo wrote itself. Fields of a recipe between backticks stay code.

    Use `escape` for any text that quotes a user.
    """
    return Markup(_ESCAPED_FIELD.sub(r"`\1`", escape(value)))


def format_code(value: Any) -> Markup:
    """Return `value` as inline code.

    Text with backticks, pipes or backslashes is escaped instead, because renderers disagree about these inside code.
    """
    text = as_line(value)
    if not text:
        return DASH
    return escape(text) if re.search(r"[`|\\]", text) else Markup(f"`{text}`")


def format_fence(value: Any, language: str = "") -> Markup:
    """Return `value` as a fenced block. The fence is longer than every run of backticks inside."""
    text = visible.remove_invisible(str(value))
    longest_run = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest_run + 1)
    stripped = text.strip("\n")
    return Markup(f"{fence}{language}\n{stripped}\n{fence}")


def format_link(text: Any, url: Any) -> Markup:
    """Return a link to an http(s) address. Return the escaped text alone for any other address."""
    return Markup(f"[{escape(text)}]({url})") if _URL.fullmatch(str(url or "")) else escape(text)


def format_table(header: Sequence[Any], rows: Iterable[Sequence[Any]], *, left: int = 1) -> Markup:
    """Return a table with escaped cells.

    The first `left` columns are aligned to the left. The other columns hold figures and are aligned to the right.
    """
    rule = "|".join(":---" if index < left else "---:" for index in range(len(header)))
    return Markup("\n".join([format_row(*header), f"|{rule}|", *(format_row(*cells) for cells in rows)]))


def format_row(*cells: Any) -> Markup:
    """Return one row of a table with escaped cells. An empty cell shows a dash."""
    return Markup("| {} |").format(Markup(" | ").join(escape(cell) or DASH for cell in cells))

"""Write a recipe as YAML with comments, so that a reader sees why each choice was made."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from zoo.core import located_yaml, visible

WIDTH = 118
Loc = tuple[str | int, ...]
Comments = Mapping[Loc, str]


def render(header: Sequence[str], values: Mapping[str, Any], comments: Comments) -> str:
    """Return the text of a recipe: the header as comments, then each value with its comment.

    `located_yaml.parse` reads the text back to `values`.
    """
    lines = [f"# {visible.escape_line(line)}".rstrip() for line in header]
    for key, value in values.items():
        lines += _render_entry(key, value, (key,), comments, indent=0)
    return "\n".join(lines) + "\n"


def _render_entry(key: str, value: Any, loc: Loc, comments: Comments, indent: int) -> list[str]:
    start = f"{' ' * indent}{located_yaml.dump_in_line(key)}:"
    in_line = f"{start} {located_yaml.dump_in_line(value)}"
    is_section = isinstance(value, dict | list) and bool(value)
    comment = comments.get(loc)
    if not is_section or (indent > 0 and len(in_line) <= WIDTH and not _has_comments(loc, comments)):
        return _add_comment(in_line, comment, indent)
    if isinstance(value, dict):
        inner = [
            line
            for name, item in value.items()
            for line in _render_entry(name, item, (*loc, name), comments, indent + 2)
        ]
    else:
        inner = [
            line
            for number, item in enumerate(value)
            for line in _render_item(item, (*loc, number), comments, indent + 2)
        ]
    return [*_add_comment(start, comment, indent), *inner]


def _render_item(value: Any, loc: Loc, comments: Comments, indent: int) -> list[str]:
    if not isinstance(value, dict) or not value:
        return [f"{' ' * indent}- {located_yaml.dump_in_line(value)}"]
    lines = [
        line for name, item in value.items() for line in _render_entry(name, item, (*loc, name), comments, indent + 2)
    ]
    first = next(number for number, line in enumerate(lines) if not line.lstrip().startswith("#"))
    lines[first] = f"{' ' * indent}- {lines[first].lstrip()}"
    return lines


def _has_comments(loc: Loc, comments: Comments) -> bool:
    return any(len(other) > len(loc) and other[: len(loc)] == loc for other in comments)


def _add_comment(line: str, comment: str | None, indent: int) -> list[str]:
    """Put a comment behind a line, or above it if the line would be too long."""
    if not comment:
        return [line]
    comment = visible.escape_line(comment)  # a name of a column may hold a line break
    together = f"{line}  # {comment}"
    if len(together) <= WIDTH:
        return [together]
    start = f"{' ' * indent}# "
    return [*textwrap.wrap(comment, WIDTH, initial_indent=start, subsequent_indent=start), line]

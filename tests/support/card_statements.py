"""The statements of the card templates: every literal sentence, label and caption, and whether it has a condition."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

import jinja2
from jinja2 import nodes

CARDS = Path(__file__).parents[2] / "cards"
CODE = "```"
PRINTING = ("row", "table")
"""Functions of the templates that print the words they get. Others get names of attributes and languages."""


@dataclass(frozen=True)
class Statement:
    """A literal part of a template. `is_conditional`: whether the template itself shows it only under a condition."""

    template: str
    text: str
    is_conditional: bool


@functools.cache
def list_statements(template: str) -> list[Statement]:
    """Return the statements of a template, without headings, code blocks and comments."""
    tree = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).parse(
        (CARDS / template).read_text(encoding="utf-8")
    )
    parts: list[tuple[str, bool]] = []
    _collect(tree, False, parts)
    statements, is_code = [], False
    for text, is_conditional in parts:
        for index, piece in enumerate(text.split(CODE)):
            is_code ^= index > 0
            if not is_code:
                sentences = map(normalise, re.split(r"(?<=[.;:!?])\s|\n\n|\n(?=[-#|])", piece))
                statements += [Statement(template, s, is_conditional) for s in sentences if _says_something(s)]
    return list(dict.fromkeys(statements))


def normalise(text: str) -> str:
    """Return the text with single spaces."""
    return " ".join(text.split())


def _says_something(text: str) -> bool:
    is_markup = text.startswith(("#", "<!--", "<details", "</details", "|:"))
    return bool(re.search(r"[a-z]{2}", text)) and not is_markup


def _collect(node: nodes.Node, is_conditional: bool, parts: list[tuple[str, bool]]) -> None:
    """Add the texts that a node prints, in order. Text inside an expression is set apart by blank lines."""
    if isinstance(node, nodes.TemplateData):
        parts.append((node.data, is_conditional))
    elif isinstance(node, nodes.If):
        for child in (*node.body, *node.elif_, *node.else_):
            _collect(child, True, parts)
    elif isinstance(node, nodes.For):
        for child in (*node.body, *node.else_):
            _collect(child, True, parts)
    elif isinstance(node, nodes.CondExpr | nodes.Or):
        for child in node.iter_child_nodes(exclude=("test",)):
            _collect(child, True, parts)
    elif isinstance(node, nodes.Const):
        if isinstance(node.value, str):
            parts.append((f"\n\n{node.value}\n\n", is_conditional))
    elif isinstance(node, nodes.Call) and not (isinstance(node.node, nodes.Name) and node.node.name in PRINTING):
        return
    else:
        for child in node.iter_child_nodes(only=("body", "nodes", "args", "left", "right")):
            _collect(child, is_conditional, parts)

"""YAML text to plain values that remember where they stood, by the YAML 1.2 core rules.

PyYAML alone reads `1e-3` as text, `no` as False, `010` as 8 and `1:30` as 90, and lets the last of two equal keys win. It
also expands aliases without end and recurses as deep as a file asks. A recipe may come from a stranger, so all of this is
decided here, before any value is built.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

Path = tuple[str | int, ...]
MAX_BYTES, MAX_DEPTH, MAX_NODES = 1 << 18, 40, 10_000  # read in less than a second on a small machine


@dataclass
class Tree:
    """`value` is made of dict, list, str, int, float, bool, None; `where` gives (line, column), from 1, by path."""

    value: Any
    where: dict[Path, tuple[int, int]]
    problems: list[tuple[int, int, str]] = field(default_factory=list)


class YamlError(Exception):
    """Not YAML, or YAML beyond the limits: (line, column, message)."""

    def __init__(self, line: int, column: int, message: str) -> None:
        super().__init__(message)
        self.line, self.column, self.message = line, column, message


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
_Loader.yaml_implicit_resolvers[""] = _Loader.yaml_implicit_resolvers.pop("\0")


class _Dumper(yaml.SafeDumper):
    """Quotes every string that `parse` would read as a number, and escapes every line break that YAML would fold."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if any(character in text for character in "\x85\u2028\u2029\ufeff") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def dump(value: Any) -> str:
    """YAML that `parse` reads back to an equal value. PyYAML's own dumper leaves `0E0` plain, which is a number in YAML 1.2."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110))


def scalar(text: str) -> Any:
    """One value as it would stand in a recipe: `1e-3` is a float, `[1, 2]` a list, `no` a string."""
    return parse(text).value


def parse(text: str) -> Tree:
    """Read one YAML document. Duplicate keys and the like are collected in `problems`; raises YamlError when there is no
    tree at all."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise YamlError(1, 1, f"larger than {MAX_BYTES} bytes; a recipe is a page of text")
    try:
        _guard(text)
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        begun = error.context_mark if error.context_mark and error.context_mark.line + 1 < line else None
        where = f", {error.context} that begins at {begun.line + 1}:{begun.column + 1}" if begun else ""
        raise YamlError(line, column, f"not YAML: {error.problem or error.context}{where}") from None
    except yaml.YAMLError as error:
        raise YamlError(1, 1, f"not YAML: {str(error).splitlines()[0]}") from None
    tree = Tree(None, {(): (1, 1)})
    if node is not None:
        tree.value = _build(node, (), tree, _count(MAX_NODES))
    return tree


def _guard(text: str) -> None:
    """Walk the events, which costs no recursion, and stop at a document that is too deep or too large."""
    depth = 0
    for seen, event in enumerate(yaml.parse(text, Loader=_Loader)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH or seen > 2 * MAX_NODES:
            mark = event.start_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            raise YamlError(line, column, f"nested deeper than {MAX_DEPTH} levels or too many values")


def _count(limit: int) -> Iterator[int]:
    yield from range(limit)
    raise YamlError(1, 1, f"more than {limit} values once its aliases are written out")


def _build(node: yaml.Node, path: Path, tree: Tree, budget: Iterator[int]) -> Any:
    next(budget)
    position = (node.start_mark.line + 1, node.start_mark.column + 1)
    tree.where.setdefault(path, position)
    if len(path) > MAX_DEPTH:  # an alias of itself has no end
        raise YamlError(*position, f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, (*path, index), tree, budget) for index, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, tree, budget)
    kind = node.tag.rsplit(":", 1)[-1]
    if not node.tag.startswith("tag:yaml.org,2002:") or kind not in ("str", "int", "float", "bool", "null"):
        tree.problems.append((*position, f"the YAML tag {node.tag} is not allowed in a recipe"))
        return node.value
    try:
        return _scalar(kind, node.value)
    except ValueError:
        tree.problems.append((*position, f"{node.value[:40]!r} cannot be read as {kind}"))
        return node.value


def _scalar(kind: str, text: str) -> Any:
    if kind == "int":
        return int(text)
    if kind == "float":
        return float(re.sub(r"\.(inf|nan)$", r"\1", text.lower()))
    if kind == "bool":
        return text.lower() == "true"
    return None if kind == "null" else text


def _mapping(node: yaml.MappingNode, path: Path, tree: Tree, budget: Iterator[int]) -> dict[str, Any]:
    built: dict[str, Any] = {}
    first: dict[str, int] = {}
    for key_node, value_node in node.value:
        line, column = key_node.start_mark.line + 1, key_node.start_mark.column + 1
        if not isinstance(key_node, yaml.ScalarNode):
            tree.problems.append((line, column, "a key must be plain text"))
            continue
        key = key_node.value
        if key in first:
            tree.problems.append((line, column, f"{key}: given twice (first on line {first[key]}); keep one"))
            continue
        first[key] = line
        tree.where[(*path, key)] = (line, column)
        built[key] = _build(value_node, (*path, key), tree, budget)
    return built

"""Read YAML into plain values and remember the position of each, by the rules of the YAML 1.2 core schema.

PyYAML alone reads `1e-3` as text, `no` as False, `010` as 8 and `1:30` as 90, and the last of two equal keys wins. It also
expands aliases without limit and recurses as deep as the file is nested. A recipe may come from a stranger, so this module
checks size and depth before it builds any value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from zoo.core.errors import ZooError, first_line

Path = tuple[str | int, ...]
MAX_BYTES, MAX_DEPTH, MAX_NODES = 1 << 18, 40, 10_000  # a document of this size takes less than a second


@dataclass
class Tree:
    """A parsed document.

    Attributes:
        value: dict, list, str, int, float, bool and None, nested.
        positions: (line, column) of each value by its path. Both count from 1.
        problems: (line, column, message) of mistakes that did not stop the parser, such as duplicate keys.
    """

    value: Any
    positions: dict[Path, tuple[int, int]]
    problems: list[tuple[int, int, str]] = field(default_factory=list)


class YamlError(ZooError):
    """The text is not YAML, or it exceeds the limits. Line and column count from 1."""

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


class _LineDumper(_Dumper):
    """Escapes every line break, so that a value stays in its line."""


_LineDumper.add_representer(
    str,
    lambda dumper, text: (
        dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
        if "\n" in text
        else _represent_text(dumper, text)
    ),
)


def dump(value: Any) -> str:
    """YAML that `parse` reads back to an equal value. PyYAML's own dumper leaves `0E0` plain, which is a number in YAML 1.2."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110))


def dump_in_line(value: Any) -> str:
    """One line of YAML that `parse` reads back to an equal value: `[1, 2]`, `{size: 0.2, by: text}` or a scalar."""
    text = yaml.dump(
        value, Dumper=_LineDumper, sort_keys=False, allow_unicode=True, width=1 << 30, default_flow_style=True
    )
    return str(text).removesuffix("...\n").strip()


def parse_value(text: str) -> Any:
    """Parse one value as a recipe would hold it: `1e-3` is a float, `[1, 2]` a list, `no` a string."""
    return parse(text).value


def parse(text: str) -> Tree:
    """Parse one YAML document.

    Duplicate keys and forbidden tags are collected in `problems`. Raise YamlError if the text is not YAML or is too large.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise YamlError(1, 1, f"larger than {MAX_BYTES} bytes; a recipe is a page of text")
    try:
        _check_limits(text)
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise _to_yaml_error(error) from None
    except yaml.YAMLError as error:
        raise YamlError(1, 1, f"not YAML: {first_line(error)}") from None
    tree = Tree(None, {(): (1, 1)})
    if node is not None:
        tree.value = _build(node, (), tree, _count_nodes(MAX_NODES))
    return tree


def _position(mark: Any) -> tuple[int, int]:
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _to_yaml_error(error: yaml.MarkedYAMLError) -> YamlError:
    """Convert an error of PyYAML. The message also says where an unclosed list or mapping begins, if that is on another line."""
    line, column = _position(error.problem_mark or error.context_mark)
    begin_line, begin_column = _position(error.context_mark)
    context = ""
    if error.context_mark and begin_line < line:
        context = f", {error.context} that begins at {begin_line}:{begin_column}"
    return YamlError(line, column, f"not YAML: {error.problem or error.context}{context}")


def _check_limits(text: str) -> None:
    """Raise YamlError if the document is too deep or too large. Reading the parser's events needs no recursion."""
    depth = 0
    for index, event in enumerate(yaml.parse(text, Loader=_Loader)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH or index > 2 * MAX_NODES:
            message = f"nested deeper than {MAX_DEPTH} levels, or more than about {MAX_NODES} values; shorten the file"
            raise YamlError(*_position(event.start_mark), message)


def _count_nodes(limit: int) -> Iterator[int]:
    """Yield one number for each node. Raise YamlError after `limit` nodes, because aliases can multiply without end."""
    yield from range(limit)
    raise YamlError(1, 1, f"more than {limit} values after its aliases are expanded")


def _build(node: yaml.Node, path: Path, tree: Tree, budget: Iterator[int]) -> Any:
    """Return the value of a node, and record its position and its problems in `tree`."""
    next(budget)
    position = _position(node.start_mark)
    tree.positions.setdefault(path, position)
    if len(path) > MAX_DEPTH:  # an alias may contain itself
        raise YamlError(*position, f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, (*path, index), tree, budget) for index, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        return _build_mapping(node, path, tree, budget)
    kind = node.tag.rsplit(":", 1)[-1]
    if not node.tag.startswith("tag:yaml.org,2002:") or kind not in ("str", "int", "float", "bool", "null"):
        tree.problems.append((*position, f"the YAML tag {node.tag} is not allowed in a recipe"))
        return node.value
    try:
        return _convert_scalar(kind, node.value)
    except ValueError:
        tree.problems.append((*position, f"{node.value[:40]!r} cannot be read as {kind}"))
        return node.value


def _convert_scalar(kind: str, text: str) -> Any:
    if kind == "int":
        return int(text)
    if kind == "float":
        return float(re.sub(r"\.(inf|nan)$", r"\1", text.lower()))
    if kind == "bool":
        return text.lower() == "true"
    return None if kind == "null" else text


def _build_mapping(node: yaml.MappingNode, path: Path, tree: Tree, budget: Iterator[int]) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    line_of_key: dict[str, int] = {}
    for key_node, value_node in node.value:
        line, column = _position(key_node.start_mark)
        if not isinstance(key_node, yaml.ScalarNode):
            tree.problems.append((line, column, "a key must be plain text"))
            continue
        key = key_node.value
        if key in line_of_key:
            message = f"{key}: given twice (first on line {line_of_key[key]}); keep one"
            tree.problems.append((line, column, message))
            continue
        line_of_key[key] = line
        tree.positions[(*path, key)] = (line, column)
        mapping[key] = _build(value_node, (*path, key), tree, budget)
    return mapping

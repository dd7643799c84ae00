"""Mutants of a Python file: copies that each differ in one small change, made with the operators of mutmut.

mutmut's operators replace numbers, names, comparisons and arithmetic, drop arguments or pass None instead, and assign None.
Two more are added: a call whose result is not used is removed, and `x.detach()` becomes `x`, for every method without arguments.
Of the three changes of a string that mutmut makes, only `XX…XX` is used, because the tests that notice one notice all.

Changes that cannot alter what a program does on this machine, or that alter only a text for people, are left out:
annotations, docstrings, imports, `__all__`, decorators, type aliases, `if TYPE_CHECKING:`, assertions, the literals and
formatted parts of a text that is raised, `description=` of a field, `encoding="utf-8"`, which is the default here, and
`strict=` of `zip`, which guards against mistakes in the calling code.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import libcst as cst
from libcst.metadata import CodeRange, MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

GUARDS = ("encoding", "strict", "description")
TEXTS = (cst.SimpleString, cst.FormattedString, cst.ConcatenatedString)


class Mutant(NamedTuple):
    """One change of a file.

    Attributes:
        before, after: the lines that differ, without their indentation.
        lines: the first and the last line of the function around the change. They are those of the whole file for a function
            that caches its results, and None outside of functions.
        code: the whole file with the change.
    """

    file: str
    function: str
    line: int
    before: str
    after: str
    lines: tuple[int, int] | None
    code: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What names the change also after other lines of the file have moved."""
        return self.file, self.function, self.before, self.after


def drop_call(node: cst.Expr) -> Iterator[cst.Pass]:
    """`f(x)` on a line of its own becomes `pass`."""
    if isinstance(node.value, cst.Call):
        yield cst.Pass()


def drop_method(node: cst.Call) -> Iterator[cst.BaseExpression]:
    """`x.f()` becomes `x`."""
    if isinstance(node.func, cst.Attribute) and not node.args:
        yield node.func.value


Operator = tuple[type, Callable[[Any], Iterable[cst.CSTNode]]]
OPERATORS: list[Operator] = [*mutation_operators, (cst.Expr, drop_call), (cst.Call, drop_method)]


def list_mutants(root: Path, file: str) -> list[Mutant]:
    """Return all mutants of `file`, a path below `root`, in the order of the lines. No two mean the same."""
    source = (root / file).read_text(encoding="utf-8")
    wrapper = MetadataWrapper(cst.parse_module(source), unsafe_skip_copy=True)
    positions, lines = wrapper.resolve(PositionProvider), source.splitlines(keepends=True)
    visitor = _Visitor(positions, len(lines))
    wrapper.module.visit(visitor)
    mutants = []
    meanings = {ast.dump(ast.parse(source))}
    for scopes, node, changed in visitor.changes:
        text = wrapper.module.code_for_node(_without_parentheses(changed))
        start, before, after = _replace(lines, positions[node], text)
        code = "".join([*lines[:start], *after, *lines[start + len(before) :]])
        try:
            meaning = ast.dump(ast.parse(code))
        except SyntaxError:
            continue
        if meaning not in meanings:
            meanings.add(meaning)
            function = ".".join(scope.name for scope in scopes)
            line, *texts = _trim(start + 1, before, after)
            mutants.append(Mutant(file, function, line, *texts, scopes[-1].lines if scopes else None, code))
    return sorted(mutants, key=lambda mutant: mutant.line)


class _Scope(NamedTuple):
    name: str
    lines: tuple[int, int] | None


class _Visitor(cst.CSTVisitor):
    """Collects (scopes around the node, node, changed node)."""

    def __init__(self, positions: Any, line_count: int) -> None:
        super().__init__()
        self.positions, self.line_count = positions, line_count
        self.scopes: list[_Scope] = []
        self.raises = 0
        self.changes: list[tuple[tuple[_Scope, ...], cst.CSTNode, cst.CSTNode]] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if _is_left_out(node, at_top=not self.scopes) or (self.raises and isinstance(node, TEXTS)):
            return False
        if isinstance(node, cst.FunctionDef | cst.ClassDef):
            self.scopes.append(_Scope(node.name.value, self._find_lines(node)))
        self.raises += isinstance(node, cst.Raise)
        for kind, operator in OPERATORS:
            if isinstance(node, kind):
                for changed in operator(node):
                    if not _is_guard_change(node, changed):
                        self.changes.append((tuple(self.scopes), node, changed))
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if isinstance(original_node, cst.FunctionDef | cst.ClassDef) and not _is_left_out(original_node, at_top=False):
            self.scopes.pop()
        self.raises -= isinstance(original_node, cst.Raise)

    def _find_lines(self, node: cst.FunctionDef | cst.ClassDef) -> tuple[int, int] | None:
        if isinstance(node, cst.ClassDef):
            return None
        if any("cache" in cst.Module([]).code_for_node(decorator.decorator) for decorator in node.decorators):
            return 1, self.line_count
        return self.positions[node].start.line, self.positions[node].end.line


def _is_left_out(node: cst.CSTNode, *, at_top: bool) -> bool:
    match node:
        case cst.Annotation() | cst.Import() | cst.ImportFrom() | cst.Decorator() | cst.Assert():
            return True
        case cst.Expr(value=cst.SimpleString() | cst.ConcatenatedString() | cst.Ellipsis()):
            return True
        case cst.If(test=cst.Name(value="TYPE_CHECKING")):
            return True
        case cst.Assign(targets=[cst.AssignTarget(target=cst.Name(value="__all__"))]):
            return True
        case cst.Assign(value=cst.Subscript()):
            return at_top  # a type alias
        case cst.Arg(keyword=cst.Name(value=name)):
            return name in GUARDS
    return False


def _is_guard_change(node: cst.CSTNode, changed: cst.CSTNode) -> bool:
    """Return whether the change removes or replaces one of the arguments that are left out, or changes a string's case."""
    if isinstance(node, cst.SimpleString) and isinstance(changed, cst.SimpleString):
        return "XX" not in changed.value
    if not isinstance(node, cst.Call) or not isinstance(changed, cst.Call):
        return False
    kept = [argument for argument in changed.args if any(argument is other for other in node.args)]
    lost = [argument for argument in node.args if not any(argument is other for other in kept)]
    return any(argument.keyword is not None and argument.keyword.value in GUARDS for argument in lost)


def _without_parentheses(node: cst.CSTNode) -> cst.CSTNode:
    """The position of an expression excludes its parentheses, so they stay in the file."""
    return node.with_changes(lpar=(), rpar=()) if getattr(node, "lpar", ()) else node


def _replace(lines: list[str], position: CodeRange, text: str) -> tuple[int, list[str], list[str]]:
    """Return the index of the first line that changes, and the lines before and after."""
    start, end = position.start, position.end
    before = lines[start.line - 1 : end.line]
    after = before[0][: start.column] + text + before[-1][end.column :]
    return start.line - 1, before, after.splitlines(keepends=True)


def _trim(line: int, before: list[str], after: list[str]) -> tuple[int, str, str]:
    """Return the line at which the two differ first, and only the lines that differ, each in one line."""
    old, new = [text.strip() for text in before], [text.strip() for text in after]
    while old and new and old[0] == new[0]:
        old, new, line = old[1:], new[1:], line + 1
    while old and new and old[-1] == new[-1]:
        old, new = old[:-1], new[:-1]
    return line, " ".join(" ".join(old).split()), " ".join(" ".join(new).split())

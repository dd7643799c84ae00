"""Conditions of a search, such as `year >= 2020 and lang = "en"`: a small grammar, parsed strictly into pyarrow expressions.

    condition   = term { "or" term }
    term        = factor { "and" factor }
    factor      = "not" factor | "(" condition ")" | COLUMN test
    test        = ("=" | "==" | "!=" | "<" | "<=" | ">" | ">=") VALUE
                | ["not"] "in" "(" VALUE { "," VALUE } ")"
                | "is" ["not"] "null"

A VALUE is a number, a quoted text, true or false, and for a column of dates a quoted ISO date. A column name with spaces stands
in backquotes. A comparison with an empty cell is false, and so is its negation, as in SQL: `not year = 2020` leaves out rows
without a year.
"""

from __future__ import annotations

import datetime
import operator
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.core.errors import ZooError
from zoo.core.suggest import suggest
from zoo.index.column_kinds import ColumnKind

if TYPE_CHECKING:
    import pyarrow.compute as pc

COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
KEYWORDS = ("and", "or", "not", "in", "is", "null", "true", "false")
MAX_DEPTH = 100
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w.]))
    |(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<quoted>`[^`]+`)
    |(?P<name>[^\W\d][\w.-]*)
    |(?P<sign><=|>=|!=|==|=|<|>|\(|\)|,)
    )""",
    re.VERBOSE,
)


class Condition(NamedTuple):
    """A parsed condition: the pyarrow expression, and the columns that it reads."""

    expression: pc.Expression
    columns: tuple[str, ...]


class _Token(NamedTuple):
    kind: str
    text: str
    position: int


def parse(text: str, columns: Mapping[str, ColumnKind]) -> Condition:
    """Parse a condition over columns of these kinds.

    Raise ZooError that names the place of the mistake (characters count from 1), the column, and columns with a similar name.
    """
    parser = _Parser(text, columns)
    expression = parser.read_condition()
    if parser.token.kind != "end":
        parser.refuse("and, or, or the end", parser.token)
    return Condition(expression, tuple(parser.used))


def _split(text: str) -> list[_Token]:
    tokens, position = [], 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            start = position + len(text[position:]) - len(text[position:].lstrip())
            quote = "; close the quote" if text[start] in "\"'`" else ""
            raise ZooError(f"where: character {start + 1}: {text[start : start + 12]!r} cannot be read{quote}")
        token = match[match.lastgroup]
        kind = match.lastgroup
        if kind == "name" and token.lower() in KEYWORDS:
            kind, token = "keyword", token.lower()
        tokens.append(_Token(kind, token, match.start(match.lastgroup)))
        position = match.end()
    return [*tokens, _Token("end", "", len(text))]


class _Parser:
    """Reads one condition from left to right."""

    def __init__(self, text: str, columns: Mapping[str, ColumnKind]) -> None:
        self.tokens, self.columns = _split(text), columns
        self.place = self.depth = 0
        self.used: dict[str, None] = {}

    @property
    def token(self) -> _Token:
        return self.tokens[self.place]

    def refuse(self, expected: str, token: _Token) -> None:
        shown = f"{token.text!r} stands" if token.text else "the condition ends"
        raise ZooError(f"where: character {token.position + 1}: {shown} where {expected} should follow")

    def take(self, *texts: str) -> str | None:
        """Move past the current token if it is one of these keywords or signs."""
        token = self.token
        if token.kind in ("keyword", "sign") and token.text in texts:
            self.place += 1
            return token.text
        return None

    def require(self, text: str) -> None:
        if self.take(text) is None:
            self.refuse(repr(text), self.token)

    def read_condition(self) -> Any:
        expression = self.read_term()
        while self.take("or"):
            expression = expression | self.read_term()
        return expression

    def read_term(self) -> Any:
        expression = self.read_factor()
        while self.take("and"):
            expression = expression & self.read_factor()
        return expression

    def read_factor(self) -> Any:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ZooError(f"where: the condition is nested more than {MAX_DEPTH} levels deep; make it flatter")
        try:
            if self.take("not"):
                return ~self.read_factor()
            if self.take("("):
                expression = self.read_condition()
                self.require(")")
                return expression
            return self.read_test()
        finally:
            self.depth -= 1

    def read_test(self) -> Any:
        import pyarrow.compute as pc

        token = self.token
        if token.kind not in ("name", "quoted"):
            self.refuse("the name of a column", token)
        name = token.text.strip("`")
        if name not in self.columns:
            raise ZooError(
                f"where: character {token.position + 1}: there is no column {name!r}{suggest(name, self.columns)}"
            )
        self.place += 1
        self.used[name] = None
        column = pc.field(name)
        if self.take("is"):
            is_negated = self.take("not")
            self.require("null")
            return ~column.is_null() if is_negated else column.is_null()
        if self.take("not"):
            self.require("in")
            return ~self.read_list(name)
        if self.take("in"):
            return self.read_list(name)
        sign = self.take(*COMPARISONS)
        if sign is None:
            self.refuse("a comparison, in, or is null", self.token)
        return COMPARISONS[str(sign)](column, self.read_value(name))

    def read_list(self, name: str) -> Any:
        import pyarrow.compute as pc

        self.require("(")
        expression = pc.field(name) == self.read_value(name)
        while self.take(","):
            expression = expression | (pc.field(name) == self.read_value(name))
        self.require(")")
        return expression

    def read_value(self, name: str) -> Any:
        """Return the next token as a pyarrow scalar that can be compared with the column."""
        import pyarrow as pa

        token, kind = self.token, self.columns[name]
        if not (token.kind in ("number", "text") or token.text in ("true", "false")):
            advice = f'; quote it: "{token.text}"' if token.kind == "name" else ""
            if token.text == "null":
                advice = f"; write: {name} is null"
            raise ZooError(
                f"where: character {token.position + 1}: a value should follow, not {token.text or 'the end'!r}{advice}"
            )
        self.place += 1
        try:
            return pa.scalar(_convert(token, kind))
        except ValueError:
            raise ZooError(
                f"where: character {token.position + 1}: the column {name} holds {kind.noun}, and {token.text} is not one of them"
            ) from None


def _convert(token: _Token, kind: ColumnKind) -> Any:
    """Return the value of a token. Raise ValueError if a column of this kind cannot be compared with it."""
    if token.kind == "text":
        text = re.sub(r"\\(.)", r"\1", token.text[1:-1])
        if kind.name == "date":
            return datetime.date.fromisoformat(text)
        if kind.name == "time":
            value = datetime.datetime.fromisoformat(text)
            return (value.astimezone(datetime.UTC) if value.tzinfo else value).replace(tzinfo=None)
        if kind.name == "text":
            return text
    elif token.kind == "number" and kind.name in ("whole", "number"):
        return int(token.text) if re.fullmatch(r"-?\d{1,18}", token.text) else float(token.text)
    elif token.kind == "keyword" and kind.name == "flag":
        return token.text == "true"
    raise ValueError(token.text)

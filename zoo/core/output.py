"""Print to stdout and stderr. Everything passes `visible.escape`, because names and messages may come from a stranger."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from zoo.core import visible
from zoo.core.errors import ZooError

PIPE_WIDTH = 140  # columns of a table if stdout is not a terminal


def say(line: str) -> None:
    """Print a line to stderr. Nothing is printed if stderr is closed."""
    if sys.stderr is None or sys.stderr.closed:
        return
    sys.stderr.write(f"{_encodable(visible.escape_line(line), sys.stderr)}\n")
    sys.stderr.flush()


def has_terminal() -> bool:
    """Return whether stderr is a terminal."""
    return sys.stderr is not None and not sys.stderr.closed and sys.stderr.isatty()


def say_block(text: str) -> None:
    """Print a text of several lines, for example a traceback, to stderr."""
    for line in text.rstrip("\n").split("\n"):
        say(line)


def write(text: str) -> None:
    """Print a result to stdout, with a newline at the end. Raise ZooError if stdout is closed."""
    stream = get_stdout()
    text = _encodable(visible.escape(text), stream)
    stream.write(text if text.endswith("\n") else f"{text}\n")


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table as wide as the terminal. Cells are shown as they are: `[red]` in a cell is not markup."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    stream = get_stdout()
    table = Table(box=None)
    for cell in header:
        table.add_column(Text(_encodable(cell, stream)))
    for cells in rows:
        table.add_row(*(Text(_encodable(visible.escape_line(cell), stream)) for cell in cells))
    Console(file=stream, width=None if stream.isatty() else PIPE_WIDTH, markup=False, emoji=False).print(table)


def get_stdout() -> TextIO:
    """Return stdout. Raise ZooError if it is closed."""
    return _require_open(sys.stdout, "stdout")


def get_stdin() -> TextIO:
    """Return stdin. Raise ZooError if it is closed."""
    return _require_open(sys.stdin, "stdin")


def _require_open(stream: TextIO | None, name: str) -> TextIO:
    """Python sets a standard stream to None if the process was started without it."""
    if stream is None or stream.closed:
        raise ZooError(f"{name} is closed; start the command without closing it, or give --input and --out")
    return stream


def _encodable(text: str, stream: Any) -> str:
    """Escape the characters that the stream's encoding lacks, for example under LC_ALL=C."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)

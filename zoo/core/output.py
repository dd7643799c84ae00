"""Print to stdout and stderr. Everything passes `visible.escape`, because names and messages may come from a stranger."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, TextIO

from zoo.core import help_addresses, visible
from zoo.core.errors import ZooError


def say(line: str) -> None:
    """Print a line to stderr. Nothing is printed if stderr is closed."""
    if sys.stderr is None or sys.stderr.closed:
        return
    sys.stderr.write(f"{make_encodable(visible.escape_line(line), sys.stderr)}\n")
    sys.stderr.flush()


def say_errors(messages: Sequence[str]) -> None:
    """Print errors to stderr, each in one line, with the addresses of their sections in the troubleshooting page."""
    for line in help_addresses.add_addresses(messages):
        say(f"error: {line}")


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
    text = make_encodable(visible.escape(text), stream)
    stream.write(text if text.endswith("\n") else f"{text}\n")


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


def make_encodable(text: str, stream: Any) -> str:
    """Escape the characters that the stream's encoding lacks, for example under LC_ALL=C."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)

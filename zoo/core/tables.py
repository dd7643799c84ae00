"""Print tables and paragraphs to stdout. Text is shown as it is: `[red]` has no effect, and control characters are escaped.

A terminal gets a table that fits its width, with colours if it has them. A pipe or a file gets plain lines that do not depend
on any width, so that scripts can read them: one line per row, cells apart by at least two spaces, `-` for an empty cell.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from zoo.core import visible
from zoo.core.output import get_stdout, make_encodable

if TYPE_CHECKING:
    from rich.console import Console

READABLE_WIDTH = 10  # a column of text is not folded below this width
_NUMBER = re.compile(r"[-+]?\d[\d,]*(\.\d+)?( ?%)?|not finite|-?")

Rows = list[list[str]]


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "", gap: bool = False) -> None:
    """Print a table. `header` may be empty. With `gap`, a terminal gets an empty line before. Raise ZooError if stdout is closed.

    If a terminal is too narrow for readable columns, every row becomes a block of lines `heading: cell`.
    """
    stream = get_stdout()
    titles, cells = _clean([header]), _clean(rows)
    if not stream.isatty():
        lines = [*([title] if title else []), *_format_plain([*(titles if header else []), *cells], indent=bool(title))]
        stream.write("".join(f"{line}\n" for line in lines))
        return
    from rich.console import Console

    console = Console(file=stream, markup=False, emoji=False, highlight=False)
    if gap:
        console.print()
    if title:
        console.print(title, style="bold")
    _print_in_columns(console, titles[0], cells)


def print_text(text: str) -> None:
    """Print a paragraph. A terminal gets lines that break between words; a pipe gets one line."""
    stream = get_stdout()
    ((line,),) = _clean([[text]])
    if not stream.isatty():
        stream.write(f"{line}\n")
        return
    from rich.console import Console
    from rich.text import Text

    Console(file=stream, highlight=False).print(Text(line, overflow="fold"))


def _clean(rows: Iterable[Sequence[str]]) -> Rows:
    stream = get_stdout()
    return [[make_encodable(visible.escape_line(cell), stream) for cell in row] for row in rows]


def _format_plain(rows: Rows, *, indent: bool) -> list[str]:
    from rich.cells import cell_len  # Chinese characters take two columns

    widths = _measure(rows)
    lines = []
    for row in rows:
        padded = [
            (cell or "-") + " " * (width - cell_len(cell or "-")) for cell, width in zip(row, widths, strict=True)
        ]
        lines.append(f"{'  ' if indent else ''}{'  '.join(padded).rstrip()}")
    return lines


def _measure(rows: Rows) -> list[int]:
    from rich.cells import cell_len

    return [max(1, *map(cell_len, column)) for column in zip(*rows, strict=True)]


def _print_in_columns(console: Console, header: list[str], rows: Rows) -> None:
    from rich.table import Table
    from rich.text import Text

    are_numbers = [all(_NUMBER.fullmatch(cell) for cell in column) for column in zip(*rows, strict=True)]
    widths = _measure([header, *rows] if header else rows)
    least = [
        width if is_number else min(width, READABLE_WIDTH)
        for width, is_number in zip(widths, are_numbers, strict=False)
    ]
    gap = next((gap for gap in (2, 1) if sum(least) + gap * (len(least) - 1) <= console.width), None)
    if gap is None:
        _print_in_blocks(console, header, rows)
        return
    table = Table(box=None, show_header=bool(header), padding=(0, gap, 0, 0), pad_edge=False, header_style="bold")
    for index, (width, is_number) in enumerate(zip(least, are_numbers, strict=False)):
        table.add_column(
            Text(header[index]) if header else "",
            justify="right" if is_number else "left",
            min_width=width,
            no_wrap=is_number,
            overflow="fold",
            style="cyan" if index == 0 else "",
        )
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def _print_in_blocks(console: Console, header: list[str], rows: Rows) -> None:
    """Print the first cell of a row as a heading, and the others below it, each on a line of its own."""
    from rich.padding import Padding
    from rich.text import Text

    for heading, *cells in rows:
        console.print(Text(heading, style="cyan", overflow="fold"))
        for name, cell in zip(header[1:] or [""] * len(cells), cells, strict=True):
            if cell:
                line = Text.assemble((f"{name}: " if name else "", "bold"), cell, overflow="fold")
                console.print(Padding(line, (0, 0, 0, 2)))

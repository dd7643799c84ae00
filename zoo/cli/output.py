"""How the command line prints: lines to stderr, results to stdout, tables of scores."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any


def say(line: str) -> None:
    """Print a line to stderr."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def write(text: str) -> None:
    """Print a result to stdout, with a newline at the end."""
    sys.stdout.write(text if text.endswith("\n") else f"{text}\n")


def print_table(table: Any) -> None:
    """Print a rich table as wide as the terminal, or 140 characters wide into a file or a pipe."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 140).print(table)


def print_report(report: Mapping[str, Any]) -> None:
    """Print one line for each task and view of an evaluation report."""
    from rich.table import Table

    table = Table("task", "view", "metric", "score", "untrained", "texts/s", "bytes", box=None)
    for result in report["results"]:
        baseline = "" if result["baseline"] is None else f"{result['baseline']:.4f}"
        table.add_row(
            result["task"],
            format_view(result["view"]),
            result["metric"],
            f"{result['value']:.4f}",
            baseline,
            f"{result['sentences_per_second']:.0f}",
            str(result["bytes_per_vector"]),
        )
    print_table(table)


def format_view(view: Mapping[str, Any]) -> str:
    """`layers 3, dim 128`, or `whole` for the encoder without options."""
    return ", ".join(f"{name} {value}" for name, value in view.items()) or "whole"

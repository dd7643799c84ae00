"""The verb `zoo explain MODEL "text a" "text b"`, which shows why two texts score as they do."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from zoo.core.errors import ZooError
from zoo.families.sesa.explanation import Contribution, Explanation

PIPE_WIDTH = 140  # columns of the table if stdout is not a terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb to its parser."""
    parser.add_argument("a", help="the first text; with separate towers, the query")
    parser.add_argument("b", help="the second text; with separate towers, the document")
    parser.add_argument("--top", type=int, default=5, help="number of contributions to show (default: 5)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(encoder: Any, arguments: argparse.Namespace) -> None:
    """Print the explanation. Raise ZooError for an encoder whose components have no names."""
    if not hasattr(encoder, "explain"):
        raise ZooError(f"the family {encoder.spec.family} cannot explain a score: its components have no names")
    explanation = encoder.explain(arguments.a, arguments.b, arguments.top)
    if arguments.json:
        sys.stdout.write(json.dumps(asdict(explanation), indent=2, ensure_ascii=False) + "\n")
        return
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(format_table(explanation))


def format_table(explanation: Explanation) -> Table:
    """Format one line per contribution with its share of the score, then the rest, then the score."""
    table = Table("concept", "id", "adds", "share", box=None)
    totals = (Contribution("", "all others", explanation.rest), Contribution("", "score", explanation.score))
    for part in (*explanation.parts, *totals):
        share = f"{part.value / explanation.score:.1%}" if explanation.score else ""
        table.add_row(Text(part.name), Text(part.id), f"{part.value:.4f}", share)
    return table

"""The verb `zoo explain MODEL "text a" "text b"`, which shows why two texts score as they do."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from zoo.core import output, tables
from zoo.core.errors import ZooError
from zoo.families.sesa.explanation import Contribution, Explanation


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
        output.write(json.dumps(asdict(explanation), indent=2, ensure_ascii=False))
        return
    tables.print_table(("concept", "id", "adds", "share"), list_cells(explanation))


def list_cells(explanation: Explanation) -> list[tuple[str, str, str, str]]:
    """List the cells of one line per contribution with its share of the score, then the rest, then the score."""
    totals = (Contribution("", "all others", explanation.rest), Contribution("", "score", explanation.score))
    return [
        (part.name, part.id, f"{part.value:.4f}", f"{part.value / explanation.score:.1%}" if explanation.score else "")
        for part in (*explanation.parts, *totals)
    ]

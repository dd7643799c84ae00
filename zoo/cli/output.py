"""How the command line shows views and scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.core.output import print_table


def print_report(report: Mapping[str, Any]) -> None:
    """Print one line for each task and view of an evaluation report."""
    rows = [
        (
            result["task"],
            format_view(result["view"]),
            result["metric"],
            f"{result['value']:.4f}",
            "" if result["baseline"] is None else f"{result['baseline']:.4f}",
            f"{result['sentences_per_second']:.0f}",
            str(result["bytes_per_vector"]),
        )
        for result in report["results"]
    ]
    units = {result.get("unit", "texts") for result in report["results"]}
    unit = units.pop() if len(units) == 1 else "inputs"
    print_table(("task", "view", "metric", "score", "untrained", f"{unit}/s", "bytes"), rows)


def format_view(view: Mapping[str, Any]) -> str:
    """`layers 3, dim 128`, or `whole` for the encoder without options."""
    return ", ".join(f"{name} {value}" for name, value in view.items()) or "whole"

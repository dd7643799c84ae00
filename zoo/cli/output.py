"""How the command line shows views and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zoo.core.tables import print_table, print_text


def print_report(report: Mapping[str, Any]) -> None:
    """Print one line for each task and view of an evaluation report."""
    rows = [
        (
            result["task"],
            format_view(result["view"]),
            result["metric"],
            f"{result['value']:.4f}",
            "" if result["baseline"] is None else f"{result['baseline']:.4f}",
            _find_best_free(report, result["task"]),
            f"{result['sentences_per_second']:.0f}",
            str(result["bytes_per_vector"]),
        )
        for result in report["results"]
    ]
    units = {result.get("unit", "texts") for result in report["results"]}
    unit = units.pop() if len(units) == 1 else "inputs"
    print_table(("task", "view", "metric", "score", "untrained", "best other", f"{unit}/s", "bytes"), rows)
    for line in [*list_verdicts(report), *list_remarks(report)]:
        print_text(line)
    if report.get("codes"):
        print_codes(report["codes"])


def print_codes(entries: Sequence[Mapping[str, Any]]) -> None:
    """Print a line for each task that was scored with codes: both scores, their ratio, and the bytes of both."""
    rows = []
    for entry in entries:
        size, first = entry["bytes_per_vector"], entry["first_bytes"]
        share = f"{entry['value'] / entry['float_value']:.3f}" if entry["float_value"] > 0 else ""
        scores = (f"{entry['float_value']:.4f}", f"{entry['value']:.4f}", share)
        sizes = (str(entry["float_bytes"]), str(size), str(first))
        rows.append((entry["task"], entry["metric"], entry["step"], *scores, *sizes))
    header = ("task", "metric", "step", "float", "codes", "share", "float bytes", "bytes", "read first")
    print_table(header, rows, title="with codes of documents", gap=True)


def list_verdicts(report: Mapping[str, Any]) -> list[str]:
    """Return the sentence about the first view of every task, and those about other views that are worse than a baseline."""
    lines, seen = [], set()
    for result in report["results"]:
        verdict = result.get("verdict")
        if verdict and (result["task"] not in seen or verdict["outcome"] == "worse"):
            lines.append(f"{result['task']}, {format_view(result['view'])}: {verdict['sentence']}")
        seen.add(result["task"])
    return lines


def list_remarks(report: Mapping[str, Any]) -> list[str]:
    """Return the remarks that tasks make about their details, for the first view of each task."""
    lines, seen = [], set()
    for result in report["results"]:
        if result["task"] not in seen:
            lines += [f"{result['task']}: {remark}" for remark in result.get("details", {}).get("remarks", ())]
        seen.add(result["task"])
    return lines


def _find_best_free(report: Mapping[str, Any], task: str) -> str:
    """Return score and name of the best free baseline of a task, or nothing."""
    entries = [entry for entry in report.get("free_baselines", {}).get(task, []) if entry["value"] is not None]
    if not entries:
        return ""
    best = max(entries, key=lambda entry: entry["value"])
    return f"{best['value']:.4f} {best['name']}"


def format_view(view: Mapping[str, Any]) -> str:
    """`layers 3, dim 128`, or `whole` for the encoder without options."""
    return ", ".join(f"{name} {value}" for name, value in view.items()) or "whole"

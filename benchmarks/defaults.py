"""Every family trained with no setting but the data, beside its free baselines: wins, ties and losses.

    ZOO_DATA=… python benchmarks/defaults.py [--half development|reporting] [--only pairs labels] [--sizes 300 1000] [--seeds 3]
        [--quick] [--work FOLDER] [--write FILE]

Runs the benchmarks defaults_*.py one after another and counts their verdicts by family. Each says which sets it has, and which
half chose the defaults. The whole takes some hours on one core; --work continues an interrupted run, --quick takes half an hour.
--sizes goes to the benchmarks that have sizes, and leaves out those that have another one alone. A line says how many losses zoo
itself put into words.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import data_folder, finish, save_table

PARTS = ("pairs", "sesa", "labels", "text", "latent", "images", "vlm")
SIZES = ("300", "1000", "3000", "10000", "all")
SIZES_BY_PART = {
    **dict.fromkeys(("pairs", "sesa", "text"), ("300", "1000", "3000", "all")),
    "labels": ("300", "1000", "3000"),
    "latent": ("300", "1000", "3000", "10000"),
}
"""The sizes of the benchmarks that take them; images and vlm have sizes of their own."""
OUTCOMES = ("better", "level", "worse")
MOST_LOSSES, LEAST_WINS = 0.1, 0.6  # as shares of the sets


def run_part(name: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Run a benchmark of its own, and return its verdicts: family, data, outcome and sentence of each run."""
    folder = Path(__file__).parent
    command = [sys.executable, str(folder / f"defaults_{name}.py"), "--half", args.half, "--seeds", str(args.seeds)]
    sizes = [size for size in args.sizes or () if size in SIZES_BY_PART.get(name, ())]
    if args.sizes and name in SIZES_BY_PART and not sizes:
        return []
    command += ["--sizes", *sizes] if sizes else []
    command += ["--quick"] if args.quick else []
    command += ["--work", str(Path(args.work) / name)] if args.work else []
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        sys.exit(f"defaults_{name}.py failed")
    figures = json.loads(result.stdout.splitlines()[-1])
    verdicts: list[dict[str, Any]] = figures["verdicts"] if "verdicts" in figures else figures["runs"]
    return [{"family": name} | entry for entry in verdicts]


def format_table(verdicts: Sequence[dict[str, Any]]) -> list[str]:
    """One line for each family: its sets, its runs and their outcomes, and the shares of wins and of losses."""
    lines = [
        "| family | sets | runs | better | level | worse | losses said by zoo |",
        "|:---|---:|---:|---:|---:|---:|---:|",
    ]
    for family in [*dict.fromkeys(entry["family"] for entry in verdicts), "all"]:
        group = [entry for entry in verdicts if family in (entry["family"], "all")]
        counts = [sum(entry["outcome"] == outcome for entry in group) for outcome in OUTCOMES]
        shares = [f"{count} ({count / len(group):.0%})" for count in counts]
        said = sum(entry["outcome"] == "worse" and entry["sentence"].startswith("WORSE") for entry in group)
        sets = len({entry["data"] for entry in group})
        lines.append(f"| {family} | {sets} | {len(group)} | {' | '.join(shares)} | {said} of {counts[2]} |")
    return lines


def describe_goals(verdicts: Sequence[dict[str, Any]]) -> list[str]:
    """Name the families that lose more often, or win more rarely, than they should."""
    lines = []
    for family in dict.fromkeys(entry["family"] for entry in verdicts):
        outcomes = [entry["outcome"] for entry in verdicts if entry["family"] == family]
        wins, losses = (outcomes.count(name) / len(outcomes) for name in ("better", "worse"))
        if losses > MOST_LOSSES:
            lines.append(f"- {family} loses {losses:.0%} of its runs, which is more than one in ten.")
        if wins < LEAST_WINS:
            lines.append(f"- {family} wins {wins:.0%} of its runs, which is less than six in ten.")
    return lines or ["Every family loses at most one run in ten, and wins at least six in ten."]


def list_losses(verdicts: Sequence[dict[str, Any]]) -> list[str]:
    """Each loss in the words of zoo."""
    losses = [entry for entry in verdicts if entry["outcome"] == "worse"]
    return [
        f"- {entry['family']}, {entry['data']}, {entry.get('rows', '')} rows: {entry['sentence']}" for entry in losses
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--half", choices=("development", "reporting"), default="reporting")
    parser.add_argument("--only", nargs="*", choices=PARTS, help="benchmarks to run")
    parser.add_argument("--sizes", nargs="*", choices=SIZES, help="numbers of training rows")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one seed and few rows")
    parser.add_argument("--work", help="folder that keeps finished runs, so that an interrupted benchmark continues")
    parser.add_argument("--write", type=Path, help="write the tables as Markdown")
    args = parser.parse_args()
    data_folder()
    verdicts = [entry for name in PARTS if not args.only or name in args.only for entry in run_part(name, args)]
    if not verdicts:
        sys.exit("nothing was measured: --only and --sizes name no benchmark that has these sizes")
    lines = [*format_table(verdicts), "", *describe_goals(verdicts), "", "## Losses", "", *list_losses(verdicts)]
    print("\n".join(lines))
    if args.write:
        about = f"{args.half} half, {args.seeds} seeds at most."
        save_table(args.write, "Defaults beside free baselines", "benchmarks/defaults.py", about, lines)
    finish({"benchmark": "defaults", "half": args.half, "verdicts": verdicts})


if __name__ == "__main__":
    main()

"""How long the free baselines of a shipped recipe take, beside everything else that `zoo train` does.

    ZOO_DATA=… python benchmarks/baseline_time.py [--recipes quickstart equiangular-banking77] [--work FOLDER] [--write FILE]

Each recipe is trained once, in a process of its own. The report says how many seconds each baseline took; the rest of the wall
time is training, evaluation and card. The encoder before training is scored as often as the trained one, and is no part of the
figure. The default recipes take a quarter of an hour on a quiet core.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from common import Results, data_folder, finish, save_table

RECIPES = (
    "quickstart",
    "static-icd10cm",
    "lbl2vec-icd10cm",
    "binary-pv-icd10cm",
    "equiangular-digits",
    "equiangular-banking77",
)
LIMIT = 0.15  # of the time that zoo train takes without them


def measure(name: str) -> dict[str, float]:
    """Train a shipped recipe. Returns the seconds of the whole, and of its free baselines."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(__file__).parents[1] / "recipes" / f"{name}.yaml"
        command = [sys.executable, "-m", "zoo.cli.main", "train", str(recipe), "--out", f"{folder}/run"]
        start = time.perf_counter()
        subprocess.run(command, env=environment, stdout=sys.stderr, check=True)
        seconds = time.perf_counter() - start
        report: dict[str, Any] = json.loads(Path(folder, "run", "report.json").read_text(encoding="utf-8"))
    baselines = [entry for entries in report["free_baselines"].values() for entry in entries]
    return {"seconds": seconds, "baselines": sum(entry["seconds"] for entry in baselines)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES), help="names of shipped recipes")
    parser.add_argument("--work", help="folder that keeps finished measurements")
    parser.add_argument("--write", type=Path, help="write the table as Markdown")
    args = parser.parse_args()
    data_folder()
    results, figures = Results(args.work), {}
    lines = ["| recipe | seconds without baselines | of the free baselines | share |", "|:---|---:|---:|---:|"]
    for name in args.recipes:
        run = figures[name] = results.get(name, partial(measure, name))
        rest = run["seconds"] - run["baselines"]
        lines.append(f"| {name} | {rest:.0f} | {run['baselines']:.1f} | {run['baselines'] / rest:.1%} |")
    above = [name for name, run in figures.items() if run["baselines"] > LIMIT * (run["seconds"] - run["baselines"])]
    lines += ["", f"Above {LIMIT:.0%}: {', '.join(above) or 'none'}."]
    print("\n".join(lines))
    if args.write:
        about = "one run each, one thread, with the imports of the command."
        save_table(args.write, "The time of free baselines", "benchmarks/baseline_time.py", about, lines)
    finish({"benchmark": "baseline_time", "recipes": figures})


if __name__ == "__main__":
    main()

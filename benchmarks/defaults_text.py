"""The defaults of the two families that learn from raw text alone, on small collections and short texts.

    ZOO_DATA=… python benchmarks/defaults_text.py [--half development|reporting] [--only tweet r8] [--families lbl2vec]
        [--sizes 300 all] [--seeds 3] [--quick] [--work FOLDER] [--write FILE]

Each recipe names the data and the seed, and for lbl2vec labels with keywords; nothing else. Training rows are the first 300,
1,000 and 3,000 of a fixed random order, and all. Scores are those of the first 1,000 test rows of classes that occur in training.
Defaults were chosen on the development half. `verdict` of each report compares the encoder with the best free baseline: counting
the keywords for lbl2vec, and for binary-pv LSA and TF-IDF, or codes of LSA of as many bits.

The column `same kind` is counting the keywords for lbl2vec, LSA of 256 components for real vectors, and the better of signs of
LSA and LSA with ITQ for codes.

Keywords are those of the authors for ag_news and those of recipes/lbl2vec-news20.yaml for news20. Others are the five words of a
class with the highest chi-squared in a third of the training rows, among words that are more frequent in the class than outside.
A run takes about half a minute; --quick measures one seed and two sizes.
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from common import (
    Results,
    count_outcomes,
    count_said_losses,
    data_folder,
    finish,
    make_defaults_parser,
    rows,
    save_table,
)
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.feature_selection import chi2

import zoo
from zoo.build.builder import run
from zoo.paragraph_vectors.vocabulary import tokenise
from zoo.recipe import recipe, shipped

Rows = list[tuple[str, str]]

HALVES = {
    "development": ("searchsnippets", "r8", "tweet", "ag_news"),
    "reporting": ("biomedical_titles", "googlenews", "pascal_flickr", "movie_reviews", "news20"),
}
SPLITS = {
    "r8": ("train", "test"),
    "movie_reviews": ("train", "test"),
    "news20": ("train", "test"),
    "ag_news": ("train_subset", "test"),
    "trec": ("train", "test"),
    "banking77": ("train", "test"),
}
SIZES = {"300": 300, "1000": 1000, "3000": 3000, "all": None}
TEST_ROWS = 1000
TRAIN_SHARE = 0.7  # of data without a split
KEYWORDS = 5
VIEWS = {"codes": {}, "real": {"real": True}}


def read_rows(name: str) -> tuple[Rows, Rows]:
    """Training and test rows as (text, label), each in a fixed random order."""
    parts = [rows(f"{name}/{split}") for split in SPLITS.get(name, ("all",))]
    order = np.random.default_rng(0)
    pairs = []
    for part in parts:
        column = "label_text" if "label_text" in part[0] else "label"
        texts = [(row["text"], str(row[column])) for row in part if row["text"].strip()]
        pairs.append([texts[i] for i in order.permutation(len(texts))])
    if len(pairs) == 2:
        return pairs[0], pairs[1]
    size = int(len(pairs[0]) * TRAIN_SHARE)
    return pairs[0][:size], pairs[0][size:]


def choose_keywords(name: str, train: Rows) -> dict[str, list[str]]:
    """Keywords by label: those of authors, or words with the highest chi-squared in a third of the rows."""
    if name == "ag_news":
        with (data_folder() / "ag_news" / "labels.csv").open(encoding="utf-8") as file:
            entries = list(csv.DictReader(file, delimiter=";"))
        names = {"Science/Technology": "Sci/Tech"}
        return {names.get(r["class_name"], r["class_name"]): r["keywords"].lower().split() for r in entries}
    if name == "news20":
        labels = recipe.load(shipped.shipped()["lbl2vec-news20"]).encoder.labels
        return {label: list(words) for label, words in labels.items()}
    part = train[: len(train) // 3]
    vectorizer = CountVectorizer(analyzer=tokenise, binary=True)
    counts = vectorizer.fit_transform([text for text, _ in part])
    words, answers = vectorizer.get_feature_names_out(), np.array([label for _, label in part])
    keywords = {}
    for label in sorted({label for _, label in part}):
        is_label = answers == label
        inside, outside = (np.asarray(counts[mask].mean(0)).ravel() for mask in (is_label, ~is_label))
        scores = np.where(inside > outside, chi2(counts, is_label)[0], 0)
        best = [i for i in np.argsort(-scores, kind="stable")[:KEYWORDS] if scores[i] > 0]
        if best:
            keywords[label] = [str(words[i]) for i in best]
    return keywords


def make_recipe(family: str, keywords: dict[str, list[str]], seed: int) -> dict[str, Any]:
    """A recipe without any setting of its own; data are train.jsonl and test.jsonl beside it."""
    train, test = ({"source": "file", "path": f"{part}.jsonl"} for part in ("train", "test"))
    content: dict[str, Any] = {"name": "defaults", "data": train, "training": {"seed": seed}}
    if family == "lbl2vec":
        encoder: dict[str, Any] = {"family": "lbl2vec", "labels": keywords}
        return content | {"encoder": encoder, "evaluation": [{"task": "zero-shot", "data": test}]}
    views = list(VIEWS.values())
    tasks = [
        {"task": "clustering", "data": test, "views": views},
        {"task": "classification", "train": train, "data": test, "views": views},
    ]
    return content | {"encoder": {"family": "binary-pv", "variant": "real-binary"}, "evaluation": tasks}


def measure(family: str, name: str, size: int | None, seed: int) -> list[dict[str, Any]]:
    """Train and score; return one entry for each task and view."""
    train, test = read_rows(name)
    train = train[:size]
    keywords = choose_keywords(name, train) if family == "lbl2vec" else {}
    classes = set(keywords) if keywords else {label for _, label in train}
    test = [row for row in test if row[1] in classes][:TEST_ROWS]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for part, pairs in (("train", train), ("test", test)):
            lines = [json.dumps({"text": text, "label": label}) for text, label in pairs]
            (folder / f"{part}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        path = folder / "recipe.yaml"
        path.write_text(yaml.safe_dump(make_recipe(family, keywords, seed)), encoding="utf-8")
        run(zoo.load_recipe(path), folder / "run")
        report = json.loads((folder / "run" / "report.json").read_text(encoding="utf-8"))
    entries = []
    for result in report["results"]:
        view = "" if family == "lbl2vec" else "real" if result.get("view") else "codes"
        fields = {
            key: result["verdict"][key] for key in ("baseline", "difference", "low", "high", "outcome", "sentence")
        }
        fields["same kind"] = find_same_kind(report["free_baselines"], result, view)
        task = {"family": family, "task": f"{result['task']} {view}".strip(), "data": name, "rows": len(train)}
        entries.append(task | {"seed": seed, "value": result["value"], "best": result["verdict"]["value"]} | fields)
    return entries


def find_same_kind(baselines: Any, result: dict[str, Any], view: str) -> float | None:
    """The best score of the baselines that have the same kind of vector: LSA beside real vectors, codes beside codes."""
    prefixes = {"real": ("LSA of",), "codes": ("signs of LSA", "LSA with ITQ"), "": ("counting",)}[view]
    scores = [
        b["value"] for b in baselines[result["task"]] if b["name"].startswith(prefixes) and b["value"] is not None
    ]
    return max(scores, default=None)


def format_table(entries: Sequence[dict[str, Any]]) -> list[str]:
    """One line for each task, data set and size: the mean score, the best free baseline and the outcomes of the seeds."""
    lines = [
        "| family | task | data | rows | zoo | same kind | best free baseline | | outcomes |",
        "|:---|:---|:---|---:|---:|---:|---:|:---|:---|",
    ]
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for entry in entries:
        groups.setdefault(tuple(entry[key] for key in ("family", "task", "data", "rows")), []).append(entry)
    for key, group in groups.items():
        names = ("value", "same kind", "best")
        means = " | ".join(f"{np.mean([entry[name] for entry in group]):.3f}" for name in names)
        outcomes = ", ".join(entry["outcome"] for entry in group)
        lines.append(f"| {' | '.join(map(str, key))} | {means} | {group[0]['baseline']} | {outcomes} |")
    return lines


def format_counts(entries: Sequence[dict[str, Any]]) -> list[str]:
    """Wins, ties and losses of each family and task, and whether every loss was said in words."""
    lines = []
    for task in dict.fromkeys((entry["family"], entry["task"]) for entry in entries):
        group = [entry for entry in entries if (entry["family"], entry["task"]) == task]
        at_least = sum(entry["value"] >= entry["same kind"] for entry in group)
        counts = count_outcomes(group)
        lines.append(f"- {' '.join(task)}: {counts}; {at_least} of {len(group)} at least the score of the same kind")
    lines.append(count_said_losses(entries))
    return lines


def main() -> None:
    parser = make_defaults_parser(__doc__, HALVES, SIZES, quick="one seed, 300 and 1,000 rows")
    parser.add_argument("--families", nargs="*", choices=("lbl2vec", "binary-pv"), default=["lbl2vec", "binary-pv"])
    args = parser.parse_args()
    results = Results(args.work)
    entries: list[dict[str, Any]] = []
    for family in args.families:
        for name in [name for name in HALVES[args.half] if not args.only or name in args.only]:
            available = len(read_rows(name)[0])
            for size in map(SIZES.get, ("300", "1000") if args.quick else args.sizes):
                if size is not None and size >= available:
                    continue
                for seed in range(1, 2 if args.quick else args.seeds + 1):
                    key = f"{family}-{name}-{size or 'all'}-{seed}"
                    entries += results.get(key, partial(measure, family, name, size, seed))
    if not entries:
        sys.exit("nothing was measured: --only names no data set of this half")
    lines = [*format_table(entries), "", *format_counts(entries)]
    print("\n".join(lines))
    if args.write:
        about = f"{args.half} half, {1 if args.quick else args.seeds} seeds, {torch.get_num_threads()} threads."
        save_table(args.write, "Defaults on small and short texts", "benchmarks/defaults_text.py", about, lines)
    finish({"benchmark": "defaults_text", "half": args.half, "runs": entries})


if __name__ == "__main__":
    main()

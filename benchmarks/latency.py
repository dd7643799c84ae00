"""One short query, alternating views and precisions, bulk by precision, and the first vector of a fresh process.

    ZOO_DATA=… python benchmarks/latency.py [--quick] [--write FILE]

all-MiniLM-L6-v2 encodes queries of banking77, one at a time, with one thread, in one process. The sides take turns, first at
every query, so that each finds the caches filled by the others. Then each answers 30 queries in a row, as a server of one model
does. They are: zoo in each precision, as a view and with each engine that is installed, sentence-transformers in float32 and
bfloat16, and ONNX Runtime in float32 and int8 by hand if it is installed. Graphs are made before they are timed. Times are those
of the processor, in milliseconds, because wall times on a shared machine say little. The loss of each precision is that of the
cosine on mixed texts and of the rank correlation on the test pairs of STS-B.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import finish, rows, save_table
from encode import MODEL, draw_texts
from scipy.stats import spearmanr

import zoo
from zoo.deploy import engine_names
from zoo.hub.model_references import find_package_folder

Encode = Callable[[list[str]], np.ndarray]
WARM_UP = 10
IN_A_ROW, REPEATS = 30, 400
FIRST = {
    "zoo": f"import zoo; zoo.from_pretrained({MODEL!r}).encode(['How to choose a new password'])",
    "sentence-transformers": (
        "from sentence_transformers import SentenceTransformer; "
        "from zoo.hub.model_references import find_package_folder; "
        f"folder = find_package_folder({MODEL.removeprefix('package:')!r}); "
        "SentenceTransformer(str(folder), device='cpu').encode(['How to choose a new password'])"
    ),
}


def open_sides(folder: Path) -> dict[str, Encode]:
    """Return `encode` of each side by name."""
    from sentence_transformers import SentenceTransformer

    encoder: Any = zoo.from_pretrained(MODEL)
    source = str(find_package_folder(MODEL.removeprefix("package:")))
    stock = SentenceTransformer(source, device="cpu")
    half = SentenceTransformer(source, device="cpu", model_kwargs={"dtype": torch.bfloat16})
    sides: dict[str, Encode] = {
        f"zoo {precision}": lambda texts, precision=precision: encoder.encode(texts, precision=precision)
        for precision in ("fp32", "bf16", "int8")
    }
    sides["zoo 3 layers, 128 components"] = lambda texts: encoder.truncate(3, 128).encode(texts)
    sides |= open_engines()
    sides["sentence-transformers fp32"] = stock.encode
    sides["sentence-transformers bf16"] = lambda texts: half.encode(texts, convert_to_tensor=True).float().numpy()
    try:
        sides |= export_onnx(stock, encoder, folder)
    except ImportError:
        print("onnx and onnxruntime are not installed, so their lines are left out", file=sys.stderr)
    return sides


def open_engines() -> dict[str, Encode]:
    """Return `encode` of zoo with each engine that is installed in each of its precisions, and with the choice of auto."""
    sides: dict[str, Encode] = {}
    for engine in ("onnx", "openvino"):
        if not engine_names.is_installed(engine):
            continue
        encoder: Any = zoo.from_pretrained(MODEL, engine=engine)
        for precision in engine_names.PRECISIONS[engine]:
            sides[f"zoo {engine} {precision}"] = lambda texts, own=encoder, precision=precision: own.encode(
                texts, precision=precision
            )
    chosen: Any = zoo.from_pretrained(MODEL, engine="auto")
    sides["zoo engine auto"] = chosen.encode
    for encode in sides.values():
        encode(["How to choose a new password"])
    return sides


def export_onnx(stock: Any, encoder: Any, folder: Path) -> dict[str, Encode]:
    """Return ONNX Runtime in float32 and with dynamic int8, with the tokenizer and the batches of zoo."""
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    network = stock[0].auto_model

    class States(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return self.network(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    network.set_attn_implementation("eager")
    names = ["input_ids", "attention_mask"]
    sample = torch.ones(2, 7, dtype=torch.int64)
    axes = {name: {0: "texts", 1: "tokens"} for name in (*names, "states")}
    options = {
        "input_names": names,
        "output_names": ["states"],
        "dynamic_axes": axes,
        "opset_version": 17,
        "dynamo": False,
    }
    torch.onnx.export(States(), (sample, sample), str(folder / "fp32.onnx"), **options)
    network.set_attn_implementation("sdpa")
    quantize_dynamic(folder / "fp32.onnx", folder / "int8.onnx", weight_type=QuantType.QInt8, per_channel=True)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    light = encoder._deferred.light

    def make(name: str) -> Encode:
        session = onnxruntime.InferenceSession(
            str(folder / f"{name}.onnx"), settings, providers=["CPUExecutionProvider"]
        )

        def encode(texts: list[str]) -> np.ndarray:
            ids, vectors = light.tokenize(texts), np.empty((len(texts), 384), np.float32)
            order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
            for start in range(0, len(order), 32):
                places = order[start : start + 32]
                longest = max(len(ids[i]) for i in places)
                batch = np.zeros((len(places), longest), np.int64)
                for row, place in enumerate(places):
                    batch[row, : len(ids[place])] = ids[place]
                mask = (batch > 0).astype(np.int64)
                states = session.run(None, {"input_ids": batch, "attention_mask": mask})[0]
                sums = (states * mask[..., None]).sum(1)
                vectors[places] = sums / np.linalg.norm(sums, axis=1, keepdims=True)
            return vectors

        return encode

    return {"ONNX Runtime fp32": make("fp32"), "ONNX Runtime int8": make("int8")}


def time_queries(sides: dict[str, Encode], queries: list[str], turn: int = 1) -> dict[str, list[float]]:
    """Return the milliseconds of the processor for each query and side. The sides take turns after `turn` queries."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for first in range(0, len(queries), turn):
        for name, encode in sides.items():
            for number, query in enumerate(queries[first : first + turn], first):
                start = time.process_time()
                encode([query])
                if number >= WARM_UP:
                    times[name].append(1e3 * (time.process_time() - start))
    return times


def time_alternation(sides: dict[str, Encode], queries: list[str]) -> float:
    """Return the time of zoo's sides with torch in turns, relative to that of one side after another."""
    others = ("zoo onnx", "zoo openvino", "zoo engine")
    own = {name: encode for name, encode in sides.items() if name.startswith("zoo") and not name.startswith(others)}
    apart = [time_queries({name: encode}, queries)[name] for name, encode in own.items()]
    together = time_queries(own, queries)
    return sum(np.median(each) for each in together.values()) / sum(np.median(each) for each in apart)


def measure_first_vector(code: str, repeats: int) -> float:
    """Return the seconds of the processor that a fresh process needs for its first vector, the least of some."""
    seconds = []
    for _ in range(repeats):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(seconds)


def measure_loss(encode: Encode, exact: np.ndarray, texts: list[str], pairs: list[dict[str, Any]]) -> dict[str, float]:
    """Return the cosines with exact vectors, and the rank correlation on scored pairs."""
    vectors = encode(texts)
    cosines = (vectors * exact).sum(1) if vectors.shape == exact.shape else np.full(1, np.nan)
    sides = [encode([pair[name] for pair in pairs]) for name in ("sentence1", "sentence2")]
    score = spearmanr((sides[0] * sides[1]).sum(1), [pair["score"] for pair in pairs]).statistic
    return {"mean": float(cosines.mean()), "least": float(cosines.min()), "stsb": float(score)}


def time_bulk(sides: dict[str, Encode], texts: list[str], turns: int) -> dict[str, float]:
    """Return the texts for each second of the processor and each side, the best of some turns."""
    best = dict.fromkeys(sides, 0.0)
    for _ in range(turns):
        for name, encode in sides.items():
            start = time.process_time()
            encode(texts)
            best[name] = max(best[name], len(texts) / (time.process_time() - start))
    return best


BARS = (
    ("fp32", "fp32", 5.0, 1.0),
    ("bf16", "bf16", 3.5, None),
    ("int8", "int8", 2.3, 1.05),
    ("engine auto", "int8", 2.3, 1.05),
)
"""Sides of zoo, the precision of the side of ONNX Runtime, the most milliseconds, and the largest ratio.

The engine of `auto` is within a loss of .001, and it is int8 here.
"""


def compare(
    times: dict[str, list[float]], in_a_row: dict[str, list[float]], repeated: dict[str, list[float]]
) -> dict[str, tuple[float, float]]:
    """Return the figures of queries and their bars, by name; those beside ONNX Runtime only where it is installed.

    The 99th percentile of many queries is that of the longest ones, so the spread is that of one query that is repeated.
    """
    figures: dict[str, tuple[float, float]] = {}
    for label, measured in (("turns at every query", times), (f"{IN_A_ROW} in a row", in_a_row)):
        for name, precision, bar, most in BARS:
            own, peer = measured[f"zoo {name}"], measured.get(f"ONNX Runtime {precision}")
            figures[f"{name}, {label}, ms"] = (float(np.median(own)), bar)
            if most is not None and peer is not None:
                figures[f"{name}, {label} ÷ ONNX Runtime {precision}"] = (float(np.median(own) / np.median(peer)), most)
    for name, own in repeated.items():
        figures[f"{name}, one query repeated, p99 ÷ p50"] = (float(np.percentile(own, 99) / np.median(own)), 2.0)
    return figures


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="60 queries, 120 texts in bulk, 200 pairs")
    parser.add_argument("--write", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    query_count, text_count, pair_count = (60, 120, 200) if arguments.quick else (210, 1000, 1379)
    queries = list(dict.fromkeys(row["text"] for row in rows("banking77/test")))[:query_count]
    texts, pairs = draw_texts(1000)[:text_count], rows("stsb/test")[:pair_count]
    load = os.getloadavg()
    with tempfile.TemporaryDirectory() as folder:
        sides = open_sides(Path(folder))
        times = time_queries(sides, queries)
        in_a_row = time_queries(sides, queries, IN_A_ROW)
        usual = sorted(queries, key=len)[len(queries) // 2]
        own = {name: sides[f"zoo {name}"] for name in ("fp32", "bf16", "int8")}
        repeated = time_queries(own, [usual] * REPEATS, REPEATS)
        alternation = time_alternation(sides, queries[: query_count // 2])
        bulk = time_bulk(sides, texts, 1 if arguments.quick else 2)
        exact = sides["sentence-transformers fp32"](texts)
        losses = {name: measure_loss(encode, exact, texts, pairs) for name, encode in sides.items()}
    first = {name: measure_first_vector(code, 5) for name, code in FIRST.items()}
    lines = [
        f"| side | query p50, ms | p99 | {IN_A_ROW} in a row, p50 | p99 | texts/s in bulk | mean cosine | least | STS-B |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in times:
        loss = losses[name]
        spans = " | ".join(f"{np.percentile(side[name], q):.2f}" for side in (times, in_a_row) for q in (50, 99))
        cosines = " | ".join("" if np.isnan(loss[key]) else f"{loss[key]:.5f}" for key in ("mean", "least"))
        lines.append(f"| {name} | {spans} | {bulk[name]:.0f} | {cosines} | {loss['stsb']:.4f} |")
    figures = compare(times, in_a_row, repeated)
    figures["alternating views and precisions ÷ apart"] = (alternation, 1.1)
    figures["first vector, processor seconds"] = (first["zoo"], 2.0)
    lines += ["", "| figure | measured | bar |", "|---|---|---|"]
    lines += [f"| {name} | {figure:.2f} | ≤ {bar} |" for name, (figure, bar) in figures.items()]
    lines.append(f"| first vector of sentence-transformers | {first['sentence-transformers']:.2f} |  |")
    missed = [name for name, (figure, bar) in figures.items() if figure > bar]
    lines += ["", f"Missed: {'; '.join(missed)}." if missed else "No bar is missed."]
    print("\n".join(lines))
    about = (
        f"all-MiniLM-L6-v2, one thread, {query_count} queries, {text_count} texts in bulk, {pair_count} pairs of STS-B. Times "
        f"are of the processor. Other programs used the machine: its load average was {load[0]:.0f} at the start and "
        f"{os.getloadavg()[0]:.0f} at the end, on {os.cpu_count()} cores."
    )
    if arguments.write:
        save_table(
            arguments.write,
            "One query, and the first vector",
            "benchmarks/latency.py" + " --quick" * arguments.quick,
            about,
            lines,
        )
    finish(
        {"benchmark": "latency", "times": {name: float(np.median(own)) for name, own in times.items()}, "first": first}
    )


if __name__ == "__main__":
    main()

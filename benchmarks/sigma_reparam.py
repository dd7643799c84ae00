"""σReparam where it matters: networks that are trained from scratch without warm-up.

    python benchmarks/sigma_reparam.py [--parts sorter recipe] [--seeds 3] [--quick] [--work FOLDER] [--write FILE]

- Sorter: eight post-norm layers of width 48 and 4 heads sort 16 of 12 symbols: Adam, 160 batches of 32, no warm-up. The figure is
  the mean loss of the last 20 steps; chance is ln 12 = 2.485. A run takes some seconds.
- Recipe: 280 steps of the recipe vlm2vec-icons with batches of 64, at its own rate with warm-up and at five times that rate
  without. The figures are the mean loss of the last 20 steps, where chance is ln 64 = 4.159, and the score of its first task.
  Each run has a schedule of its own length, and takes a minute.

One thread. --quick: one seed at the higher rate, and 20 steps of the recipe.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoo.training.sigma_reparam import reparametrise

PARTS = ("sorter", "recipe")
RATES = (3e-2, 3e-3)
RECIPE, STEPS, BATCH, FASTER = "vlm2vec-icons", 280, 64, 5
SETTINGS = ((1, True), (FASTER, False))
"""Multiples of the recipe's learning rate, and whether there is its warm-up."""


class Sorter(torch.nn.Module):
    """A transformer of eight post-norm layers that sorts symbols."""

    def __init__(self, symbols: int = 12, length: int = 16, width: int = 48) -> None:
        super().__init__()
        self.embed, self.place = torch.nn.Embedding(symbols, width), torch.nn.Embedding(length, width)
        layer = torch.nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0, batch_first=True, norm_first=False)
        self.layers = torch.nn.TransformerEncoder(layer, 8, enable_nested_tensor=False)
        for one in self.layers.layers:
            one.self_attn = Attention(width)
        self.output = torch.nn.Linear(width, symbols)

    def forward(self, symbols: torch.Tensor) -> Any:
        hidden = self.embed(symbols) + self.place.weight
        for one in self.layers.layers:
            hidden = one.norm1(hidden + one.self_attn(hidden))
            hidden = one.norm2(hidden + one.linear2(torch.relu(one.linear1(hidden))))
        return self.output(hidden)


class Attention(torch.nn.Module):
    """Four heads from plain linear layers, as in the text backbones."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.join = (torch.nn.Linear(width, width) for _ in range(4))

    def forward(self, hidden: torch.Tensor) -> Any:
        heads = [part(hidden).unflatten(-1, (4, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)]
        mixed = torch.nn.functional.scaled_dot_product_attention(*heads)
        return self.join(mixed.transpose(1, 2).flatten(2))


def train_sorter(*, sigma: bool, seed: int, steps: int = 160, rate: float = RATES[0]) -> float:
    """The mean loss of the last 20 steps, without warm-up."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Sorter()
    generator, losses = torch.Generator().manual_seed(seed), []
    with reparametrise(network, wanted=sigma):
        optimizer = torch.optim.Adam(network.parameters(), rate)
        for _ in range(steps):
            symbols = torch.randint(0, 12, (32, 16), generator=generator)
            loss = torch.nn.functional.cross_entropy(network(symbols).flatten(0, 1), symbols.sort(1).values.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return sum(losses[-20:]) / 20


def measure(sigma: bool, seed: int, rate: float) -> dict[str, float]:
    """The final loss of a run, and its CPU seconds."""
    start = time.process_time()
    loss = train_sorter(sigma=sigma, seed=seed, rate=rate)
    return {"loss": loss, "cpu_seconds": time.process_time() - start}


def train_recipe(sigma: bool, factor: int, has_warmup: bool, steps: int) -> dict[str, float]:
    """Train the recipe by `zoo.train`, and return its last losses, its lowest and highest loss, its score and CPU seconds."""
    import json

    import zoo

    start = time.process_time()
    recipe = zoo.load_recipe(RECIPE)
    settings = recipe.training
    update = {
        "learning_rate": factor * settings.peak_learning_rate,
        "warmup": settings.warmup if has_warmup else 0.0,
        "max_steps": steps,
        "batch_size": BATCH,
        "sigma_reparam": sigma,
    }
    short = {"training": settings.model_copy(update=update), "evaluation": recipe.evaluation[:1], "baselines": "none"}
    recipe = recipe.model_copy(update=short)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        zoo.train(recipe, folder)
        lines = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
        losses = [line["loss"] for line in lines if "loss" in line]
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    last = losses[-max(1, len(losses) * 20 // steps) :]
    return {
        "loss": sum(last) / len(last),
        "score": report["results"][0]["value"],
        "metric": report["results"][0]["metric"],
        "cpu_seconds": time.process_time() - start,
    }


def write_sorter(results: Any, seeds: int, *, quick: bool) -> tuple[list[str], dict[str, Any]]:
    """Return the table of the network that sorts, and its figures."""
    lines = ["| rate | network | loss, by seed | CPU seconds |", "|---:|:---|:---|---:|"]
    figures = {}
    for rate in RATES[:1] if quick else RATES:
        for sigma in (False, True):
            name = "σReparam" if sigma else "plain"
            runs = [results.get(f"{rate}-{sigma}-{seed}", partial(measure, sigma, seed, rate)) for seed in range(seeds)]
            figures[f"{name} {rate}"] = runs
            losses = ", ".join(f"{run['loss']:.3f}" for run in runs)
            lines.append(f"| {rate:g} | {name} | {losses} | {np.mean([run['cpu_seconds'] for run in runs]):.1f} |")
    about = f"Sorting 16 symbols with eight post-norm layers, no warm-up, {seeds} seeds. Chance is 2.485."
    return ["## A deep network that sorts", "", about, "", *lines, ""], figures


def write_recipe(results: Any, *, quick: bool) -> tuple[list[str], dict[str, Any]]:
    """Return the table of the recipe, and its figures."""
    import zoo

    steps, rate = 20 if quick else STEPS, zoo.load_recipe(RECIPE).training.peak_learning_rate
    rows, figures, metric = [], {}, ""
    for factor, has_warmup in SETTINGS[1:] if quick else SETTINGS:
        for sigma in (False, True):
            name, warmup = "σReparam" if sigma else "plain", "yes" if has_warmup else "no"
            run = results.get(
                f"recipe-{steps}-{factor}-{sigma}", partial(train_recipe, sigma, factor, has_warmup, steps)
            )
            figures[f"{name} {factor}"], metric = run, run["metric"]
            cells = f"{run['loss']:.3f} | {run['score']:.3f} | {run['cpu_seconds']:.0f}"
            rows.append(f"| {factor * rate:g} | {warmup} | {name} | {cells} |")
    header = f"| rate | warm-up | network | loss | {metric} | CPU seconds |"
    about = (
        f"{steps} steps of {BATCH} rows of `{RECIPE}`, a vision-language model from scratch, one seed. Chance is 4.159. "
        "The score is that of the task `icons-held-out-terms`."
    )
    return ["## A recipe of zoo", "", about, "", header, "|---:|:---|:---|---:|---:|---:|", *rows, ""], figures


def main() -> None:
    from common import Results, finish, save_table

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one seed at the higher rate")
    parser.add_argument("--work", help="folder that keeps finished measurements")
    parser.add_argument("--write", type=Path, help="write the table as Markdown")
    args = parser.parse_args()
    torch.set_num_threads(1)
    results, seeds = Results(args.work), 1 if args.quick else args.seeds
    lines: list[str] = []
    figures: dict[str, Any] = {}
    if "sorter" in args.parts:
        part, figures["sorter"] = write_sorter(results, seeds, quick=args.quick)
        lines += part
    if "recipe" in args.parts:
        part, figures["recipe"] = write_recipe(results, quick=args.quick)
        lines += part
    print("\n".join(lines))
    if args.write:
        save_table(
            args.write,
            "σReparam",
            "benchmarks/sigma_reparam.py",
            "networks trained from scratch; one thread.",
            lines,
        )
    finish({"benchmark": "sigma_reparam", **figures})


if __name__ == "__main__":
    main()

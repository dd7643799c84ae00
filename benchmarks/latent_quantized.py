"""Latent quantization compared with a plain autoencoder, β-VAE and VQ-VAE of the same networks, on sprites and scenes.

    python benchmarks/latent_quantized.py [--only NAME…] [--quick] [--seeds 2] [--dev] [--work FOLDER] [--made] [--write FILE]

    check     this project's InfoMEC compared with its formulas on random codes; ideal and shuffled codes
    sprites   every kind of latent with the same number of steps and the same settings: InfoMEC on images outside the training
              set, reconstruction error, seconds, and images a second in training and in encoding
    scenes    the same for coloured scenes
    long      QLAE and the plain autoencoder on sprites, with `--longer` (6) times as many steps, one seed
    speed     images a second of both renderers, and the memory of a training in a process of its own

`--steps` is the number of steps of each model: 6000 of 64 images take about five minutes a model on one core, and half an hour
in `long`. `--quick` takes 200 steps and one seed; it shows that everything runs, not how good it is. Learning rates, weight
decays, networks and the number of scalars of a latent were chosen with `--dev`, which measures on images that are neither in
the training set nor in the tables; all kinds of latents of a set share one choice. With `--work` a finished model is not
trained again, and `--made` prints the tables of the finished models. The benchmark needs no download.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Made, Results, finish, peak_mb
from datasets import Dataset, Features, Image, Value
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, mutual_info_score

from zoo.data.sources.builtins import scenes, sprites
from zoo.families.latent_quantized import card_samples
from zoo.families.latent_quantized.encoder import Encoder
from zoo.families.latent_quantized.spec import PAPER_TRAINING, SMALL, Spec
from zoo.metrics import infomec_of_encoder
from zoo.metrics.disentanglement import infomec
from zoo.schema import Training

PARTS = ("check", "sprites", "scenes", "long", "speed")
KINDS = ("quantized", "continuous", "gaussian", "vector")
NAMES = {"quantized": "QLAE", "continuous": "AE", "gaussian": "β-VAE", "vector": "VQ-VAE"}
RENDERERS = {"sprites": sprites, "scenes": scenes}
ROWS, TESTS = 40_000, 10_000
TITLES = {"sprites": "Sprites", "scenes": "Scenes", "long": "Sprites, a longer training"}
FIGURES = ("infom", "infoe", "infoc", "active_latents", "mig", "sap", "dci_disentanglement", "error")
# The paper's learning rate of 0.001 and weight decay of 0.1 are for 200,000 steps. The total effect of a decay depends on
# decay × rate × steps, and the final size of the weights on decay / rate.
SETTINGS: dict[str, dict[str, float]] = {
    "sprites": {"learning_rate": 5e-3, "weight_decay": 1.0},
    "scenes": {"learning_rate": 5e-3, "weight_decay": 0.5},
}
# Fewer scalars than the paper's 10: with few scalars a latent that mixes two sources wastes capacity, with many it does not. This
# matters for sprites, because a mirrored decoder draws their x and y as well from x + y and x - y.
LEVELS = {"sprites": 4, "scenes": 6}
NETWORKS: dict[str, Any] = {"sprites": SMALL, "scenes": SMALL.model_copy(update={"decoder": "style"})}


# -- check -------------------------------------------------------------------------------------------------------------


def compute_by_formula(sources: np.ndarray, latents: np.ndarray) -> tuple[float, float, float]:
    """InfoM, InfoE and InfoC of discrete codes (n, latents), independent of the project's code."""
    nmi = np.array([[mutual_info_score(s, z) / mutual_info_score(s, s) for z in latents.T] for s in sources.T])
    nmi = nmi[:, np.ptp(latents, axis=0) > 0]
    n_sources, n_latents = nmi.shape
    infom = ((nmi.max(0) / nmi.sum(0)).mean() - 1 / n_sources) / (1 - 1 / n_sources)
    infoc = ((nmi.max(1) / nmi.sum(1)).mean() - 1 / n_latents) / (1 - 1 / n_latents)
    one_hot = np.concatenate([(z[:, None] == np.unique(z)).astype(float) for z in latents.T], axis=1)
    explicitness = []
    for source in sources.T:
        log_losses = []
        for features in (one_hot, np.zeros_like(one_hot)):
            model = LogisticRegression(C=np.inf, class_weight="balanced", max_iter=100, tol=1e-4).fit(features, source)
            log_losses.append(log_loss(source, model.predict_proba(features)))
        explicitness.append(1 - log_losses[0] / log_losses[1])
    return infom, float(np.mean(explicitness)), infoc


def run_check(results: Results) -> dict[str, Any]:
    def measure() -> dict[str, Any]:
        differences = []
        for seed in range(5):
            rng = np.random.default_rng(seed)
            sources = rng.integers(0, (3, 5, 4), (2000, 3))
            mixed = sources[:, [0, 1, 2, 0, 1]] * 2 + sources[:, [1, 2, 0, 2, 0]] + rng.integers(0, 3, (2000, 5))
            latents = mixed % np.array([4, 6, 3, 5, 7])
            scores = infomec(sources, latents)
            ours = (scores["infom"], scores["infoe"], scores["infoc"])
            differences.append(max(abs(a - b) for a, b in zip(ours, compute_by_formula(sources, latents), strict=True)))
        grid = np.stack(np.unravel_index(np.tile(np.arange(120), 50), (4, 5, 6)), axis=1)
        out: dict[str, Any] = {"largest_difference": max(differences)}
        for name, latents in (("ideal", grid), ("shuffled", np.random.default_rng(0).permutation(grid))):
            scores = infomec(grid, latents)
            out[name] = {k: float(scores[k]) for k in ("infom", "infoe", "infoc")} | {"nmi": float(scores["nmi"].max())}
        return out

    return results.get("check", measure)


# -- models ------------------------------------------------------------------------------------------------------------


def render_table(name: str, positions: np.ndarray) -> Dataset:
    module = RENDERERS[name]
    rows = list(module.read_rows_at(name, positions))
    features = Features({"image": Image(), **{source: Value("int64") for source in module.SOURCES}})
    images = [{**row, "image": {"bytes": row["image"], "path": None}} for row in rows]
    return Dataset.from_list(images, features=features)


def split_positions(name: str, dev: bool) -> tuple[np.ndarray, np.ndarray]:
    """Positions in the grid for training, and other positions for the measurements."""
    positions = np.random.default_rng(0).permutation(RENDERERS[name].COUNTS[name])
    train, tests, others = np.split(positions[: ROWS + 2 * TESTS], (ROWS, ROWS + TESTS))
    return np.sort(train), np.sort(others if dev else tests)


def train_and_measure(name: str, kind: str, seed: int, steps: int, dev: bool = False) -> dict[str, Any]:
    """Train one model, and measure it on images that it was not trained on."""
    train, tests = (render_table(name, positions) for positions in split_positions(name, dev))
    sources = tuple(RENDERERS[name].SOURCES)
    spec = Spec(
        family="latent-quantized",
        latent=kind,  # type: ignore[arg-type]
        latents=2 * len(sources),
        levels=LEVELS[name],
        channels=1 if name == "sprites" else 3,
        network=NETWORKS[name],
    )
    encoder = Encoder.build(spec, seed=seed)
    settings = {"batch_size": 64, "max_steps": steps, "checkpoint_every": steps, "seed": seed, **SETTINGS[name]}
    training = Training(**{**PAPER_TRAINING, **settings})
    with tempfile.TemporaryDirectory() as folder:
        encoder.prepare(train, Path(folder))
        start = time.process_time()
        seconds = encoder.fit(train, training, Path(folder))
        cpu_seconds = time.process_time() - start
    images = list(tests["image"])
    start = time.perf_counter()
    encoder.encode(images)
    encoding_seconds = time.perf_counter() - start
    figures, details = infomec_of_encoder.measure(encoder, {"data": tests}, sources)
    return {
        **figures,
        "error": card_samples.compute_error(encoder, images[:2000]),
        "best": dict(zip(sources, np.max(details["nmi"], axis=1).tolist(), strict=True)),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "encoded_a_second": len(images) / encoding_seconds,
        "memory_mb": peak_mb(),
    }


def run_models(
    name: str, kinds: tuple[str, ...], results: Results, seeds: int, steps: int, dev: bool
) -> list[dict[str, Any]]:
    out = []
    for seed in range(1, seeds + 1):
        for kind in kinds:
            key = f"{name}{'-dev' * dev}-{kind}-{seed}-{steps}"
            measurement = results.get(key, lambda k=kind, s=seed: train_and_measure(name, k, s, steps, dev))
            if measurement is not None:
                out.append({"set": name, "latent": kind, "seed": seed, "steps": steps, **measurement})
    return out


# -- speed -------------------------------------------------------------------------------------------------------------


def measure_rendering(name: str) -> float:
    """Images a second."""
    module = RENDERERS[name]
    positions = np.random.default_rng(0).integers(0, module.COUNTS[name], 20_000)
    blocks = [module.decode_positions(block) for block in np.array_split(positions, 20)]
    module.render_images(blocks[0])
    start = time.perf_counter()
    for block in blocks:
        module.render_images(block)
    return len(positions) / (time.perf_counter() - start)


def run_speed(results: Results) -> dict[str, Any]:
    def measure_in_a_new_process() -> dict[str, Any]:
        process = subprocess.run([sys.executable, __file__, "--alone"], capture_output=True, text=True, check=True)
        return json.loads(process.stdout.splitlines()[-1])

    return results.get("speed", measure_in_a_new_process)


# -- report ------------------------------------------------------------------------------------------------------------


def format_spread(values: list[float], digits: int = 3) -> str:
    return f"{np.mean(values):.{digits}f}" + (f" ± {np.std(values):.{digits}f}" if len(values) > 1 else "")


def format_comparison(title: str, runs: list[dict[str, Any]]) -> list[str]:
    """Tables with one row for each kind of latents, and the differences between the kinds."""
    kinds = [kind for kind in KINDS if any(run["latent"] == kind for run in runs)]
    lines = [f"\n## {title}\n", *format_figures(runs, kinds), *format_nmi(runs, kinds)]
    if len(runs) > len(kinds):
        infom = {kind: [f"{run['infom']:.3f}" for run in runs if run["latent"] == kind] for kind in kinds}
        parts = (f"{NAMES[kind]} {', '.join(values)}" for kind, values in infom.items())
        lines.append(f"\nInfoM by seed: {'; '.join(parts)}.")
    return lines + format_differences(runs, kinds)


def format_figures(runs: list[dict[str, Any]], kinds: list[str]) -> list[str]:
    first = runs[0]
    name, settings = first["set"], SETTINGS[first["set"]]
    header = " | ".join(figure.replace("_", " ") for figure in FIGURES)
    lines = [
        f"{first['steps']:,} steps of 64 of {ROWS:,} images, rate {settings['learning_rate']}, decay "
        f"{settings['weight_decay']}, {2 * len(first['best'])} latents, of QLAE of {LEVELS[name]} values; measured on "
        f"{TESTS:,} images.\n",
        f"| | runs | {header} | trained a second of a core | seconds of a core | encoded a second |",
        f"|:---|{'---:|' * (len(FIGURES) + 4)}",
    ]
    for kind in kinds:
        same = [run for run in runs if run["latent"] == kind]
        cells = [format_spread([run[f] for run in same], 4 if f == "error" else 3) for f in FIGURES]
        cpu_seconds = [run["cpu_seconds"] for run in same if "cpu_seconds" in run]  # older results lack them
        if cpu_seconds:
            cells.append(f"{64 * first['steps'] / np.mean(cpu_seconds):.0f} | {np.mean(cpu_seconds):.0f}")
        else:
            cells.append("– | –")
        cells.append(f"{np.mean([run['encoded_a_second'] for run in same]):.0f}")
        lines.append(f"| {NAMES[kind]} | {len(same)} | {' | '.join(cells)} |")
    return lines


def format_nmi(runs: list[dict[str, Any]], kinds: list[str]) -> list[str]:
    sources = list(runs[0]["best"])
    lines = [
        "\n| largest NMI with a single latent | " + " | ".join(source.replace("_", " ") for source in sources) + " |",
        f"|:---|{'---:|' * len(sources)}",
    ]
    for kind in kinds:
        same = [run for run in runs if run["latent"] == kind]
        cells = [f"{np.mean([run['best'][source] for run in same]):.2f}" for source in sources]
        lines.append(f"| {NAMES[kind]} | {' | '.join(cells)} |")
    return lines


def format_differences(runs: list[dict[str, Any]], kinds: list[str]) -> list[str]:
    if not {"quantized", "continuous"} <= set(kinds):
        return []

    def mean(kind: str, figure: str) -> float:
        return float(np.mean([run[figure] for run in runs if run["latent"] == kind]))

    others = [kind for kind in kinds if kind != "quantized"]
    best = max(others, key=lambda kind: mean(kind, "infom"))
    infom, infoe = mean("quantized", "infom"), mean("quantized", "infoe")
    return [
        f"\nInfoM of QLAE minus AE: {infom - mean('continuous', 'infom'):+.3f}; minus the best baseline, "
        f"{NAMES[best]}: {infom - mean(best, 'infom'):+.3f}. InfoE minus AE: {infoe - mean('continuous', 'infoe'):+.3f}."
    ]


def format_report(figures: dict[str, Any]) -> str:
    """The tables as Markdown."""
    lines = []
    check, speed = figures.get("check"), figures.get("speed")
    if check:
        lines += [
            "## The measure\n",
            f"Largest difference from the formulas over five random codes: {check['largest_difference']:.1e}.",
        ]
        for name in ("ideal", "shuffled"):
            scores = check[name]
            lines.append(
                f"{name.title()} codes: InfoM {scores['infom']:.3f}, InfoE {scores['infoe']:.3f}, "
                f"InfoC {scores['infoc']:.3f}; largest NMI {scores['nmi']:.3f}."
            )
    for part in ("sprites", "scenes", "long"):
        if figures.get(part):
            lines += format_comparison(TITLES[part], figures[part])
    if speed:
        lines += ["\n## Speed\n", *(f"{name}: {speed[name]:,.0f} images a second drawn." for name in RENDERERS)]
        lines.append(f"Memory of a training on sprites, at most: {speed['memory_mb']:,.0f} MB.")
    missing = [part for part in PARTS if not figures.get(part)]
    if missing:
        lines.append(f"\nNot run: `python benchmarks/latent_quantized.py --only {' '.join(missing)}`")
    return "\n".join(lines) + "\n"


def main() -> None:
    if sys.argv[1:2] == ["--alone"]:
        speeds: dict[str, Any] = {name: measure_rendering(name) for name in RENDERERS}
        train_and_measure("sprites", "quantized", 1, 20)
        print(json.dumps({**speeds, "memory_mb": peak_mb()}))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=PARTS)
    parser.add_argument("--quick", action="store_true", help="200 steps and one seed, to see that it runs")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="kinds of latents; default: all")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--longer", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", help="folder that keeps finished parts for the next run")
    parser.add_argument("--write", help="also write the tables to this file")
    parser.add_argument("--dev", action="store_true", help="measure on images that are in no table, to choose settings")
    parser.add_argument(
        "--made", action="store_true", help="print the tables of the results in --work; measure nothing"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results, figures = (Made if args.made else Results)(args.work), {}
    seeds, steps = (1, 200) if args.quick else (args.seeds, args.steps)
    for part in args.only or PARTS:
        if part == "check":
            figures[part] = run_check(results)
        elif part == "speed":
            figures[part] = run_speed(results)
        elif part == "long":
            figures[part] = run_models("sprites", KINDS[:2], results, 1, args.longer * steps, args.dev)
        else:
            figures[part] = run_models(part, tuple(args.kinds), results, seeds, steps, args.dev)
    text = format_report(figures)
    print(text)
    if args.write:
        command = (
            f"python benchmarks/latent_quantized.py --steps {args.steps} --seeds {args.seeds} --longer {args.longer}"
        )
        head = f"# Latent quantization beside its baselines\n\nPrinted by `{command}`, a kind of latents at a\n"
        head += "time (`--kinds`); a row says how many seeds it has. "
        head += f"Threads: {args.threads}, on a machine that was busy with other work, which all times feel. Rows: "
        head += (
            "neither those trained on nor the tables'.\n\n"
            if args.dev
            else "images that no model or setting has seen.\n\n"
        )
        Path(args.write).write_text(head + text, encoding="utf-8")
    finish({"benchmark": "latent_quantized", **figures})


if __name__ == "__main__":
    main()

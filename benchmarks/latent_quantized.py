"""Latent quantization beside a plain autoencoder, β-VAE and VQ-VAE of the same networks, on sprites and scenes drawn by code.

    python benchmarks/latent_quantized.py [--only NAME…] [--quick] [--seeds 2] [--work FOLDER] [--write docs/latent-quantized.md]

    check     InfoMEC of this project beside its formulas written down again, on random codes; ideal and shuffled codes
    sprites   every kind of latent at an equal number of steps with the same settings: InfoMEC on images that no model was
              trained on, error of reconstruction, seconds, and images a second in training and in encoding
    scenes    the same for coloured scenes
    speed     images a second of both renderers, and the memory of a training, in a process of its own

`--steps` are those of each model: 6000 of 64 images, some minutes a model on one core; `--quick` takes 200 and one seed, which
shows that everything runs, not how good it is. With `--work` a finished model is not trained again. Needs no download.
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
from common import Results, finish, peak_mb
from datasets import Dataset, Features, Image, Value
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, mutual_info_score

from zoo.data.builtins import scenes, sprites
from zoo.evaluation import factors, infomec
from zoo.families.latent_quantized import Encoder, Spec
from zoo.latents import samples
from zoo.schema import Training

PARTS = ("check", "sprites", "scenes", "speed")
KINDS = ("quantized", "continuous", "gaussian", "vector")
NAMES = {"quantized": "QLAE", "continuous": "AE", "gaussian": "β-VAE", "vector": "VQ-VAE"}
DRAWN = {"sprites": sprites, "scenes": scenes}
ROWS, TESTS = 40_000, 4_000
FIGURES = ("infom", "infoe", "infoc", "active_latents", "mig", "sap", "dci_disentanglement", "error")
DECAY = 1.0  # the paper's 0.1 is for 200,000 steps; what a decay does depends on decay × rate × steps


# -- check -------------------------------------------------------------------------------------------------------------


def by_formula(sources: np.ndarray, latents: np.ndarray) -> tuple[float, float, float]:
    """InfoM, InfoE and InfoC of discrete codes, without a line of the project's."""
    nmi = np.array([[mutual_info_score(s, z) / mutual_info_score(s, s) for z in latents.T] for s in sources.T])
    nmi = nmi[:, np.ptp(latents, axis=0) > 0]
    n_s, n_z = nmi.shape
    infom = ((nmi.max(0) / nmi.sum(0)).mean() - 1 / n_s) / (1 - 1 / n_s)
    infoc = ((nmi.max(1) / nmi.sum(1)).mean() - 1 / n_z) / (1 - 1 / n_z)
    hot = np.concatenate([(z[:, None] == np.unique(z)).astype(float) for z in latents.T], axis=1)
    told = []
    for source in sources.T:
        loss = []
        for x in (hot, np.zeros_like(hot)):
            model = LogisticRegression(C=np.inf, class_weight="balanced", max_iter=100, tol=1e-4).fit(x, source)
            loss.append(log_loss(source, model.predict_proba(x)))
        told.append(1 - loss[0] / loss[1])
    return infom, float(np.mean(told)), infoc


def part_check(results: Results) -> dict[str, Any]:
    def run() -> dict[str, Any]:
        apart = []
        for seed in range(5):
            draw = np.random.default_rng(seed)
            sources = draw.integers(0, (3, 5, 4), (2000, 3))
            mixed = sources[:, [0, 1, 2, 0, 1]] * 2 + sources[:, [1, 2, 0, 2, 0]] + draw.integers(0, 3, (2000, 5))
            latents = mixed % np.array([4, 6, 3, 5, 7])
            found = infomec(sources, latents)
            ours = (found["infom"], found["infoe"], found["infoc"])
            apart.append(max(abs(a - b) for a, b in zip(ours, by_formula(sources, latents), strict=True)))
        grid = np.stack(np.unravel_index(np.tile(np.arange(120), 50), (4, 5, 6)), axis=1)
        out: dict[str, Any] = {"largest_difference": max(apart)}
        for name, latents in (("ideal", grid), ("shuffled", np.random.default_rng(0).permutation(grid))):
            found = infomec(grid, latents)
            out[name] = {k: float(found[k]) for k in ("infom", "infoe", "infoc")} | {"nmi": float(found["nmi"].max())}
        return out

    return results.get("check", run)


# -- models ------------------------------------------------------------------------------------------------------------


def table(name: str, positions: np.ndarray) -> Dataset:
    module = DRAWN[name]
    rows = list(module.some(name, positions))
    features = Features({"image": Image(), **{source: Value("int64") for source in module.SOURCES}})
    held = [{**row, "image": {"bytes": row["image"], "path": None}} for row in rows]
    return Dataset.from_list(held, features=features)


def split(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Places in the grid for training and, none of them among these, for the figures."""
    drawn = np.random.default_rng(0).permutation(DRAWN[name].COUNTS[name])[: ROWS + TESTS]
    return np.sort(drawn[:ROWS]), np.sort(drawn[ROWS:])


def measured(name: str, kind: str, seed: int, steps: int) -> dict[str, float]:
    """Train one model and measure it."""
    train, tests = (table(name, places) for places in split(name))
    sources = tuple(DRAWN[name].SOURCES)
    spec = Spec(
        family="latent-quantized",
        latent=kind,  # type: ignore[arg-type]
        latents=2 * len(sources),
        channels=1 if name == "sprites" else 3,
        net="small",
    )
    encoder = Encoder.build(spec, seed=seed)
    settings = {"batch_size": 64, "max_steps": steps, "checkpoint_every": steps, "weight_decay": DECAY}
    training = Training(**{**Encoder.training, **settings, "seed": seed})
    with tempfile.TemporaryDirectory() as folder:
        encoder.prepare(train, Path(folder))
        seconds = encoder.fit(train, training, Path(folder))
    images = list(tests["image"])
    began = time.perf_counter()
    encoder.encode(images)
    encoding = time.perf_counter() - began
    figures, details = factors.measure(encoder, {"data": tests}, sources)
    return {
        **figures,
        "error": samples.error(encoder, images[:2000]),
        "best": dict(zip(sources, np.max(details["nmi"], axis=1).tolist(), strict=True)),
        "seconds": seconds,
        "trained_a_second": steps * 64 / seconds,
        "encoded_a_second": len(images) / encoding,
        "memory_mb": peak_mb(),
    }


def part_models(name: str, results: Results, seeds: int, steps: int) -> list[dict[str, Any]]:
    out = []
    for seed in range(1, seeds + 1):
        for kind in KINDS:
            key = f"{name}-{kind}-{seed}-{steps}"
            out.append({"set": name, "latent": kind, "seed": seed, "steps": steps})
            out[-1] |= results.get(key, lambda k=kind, s=seed: measured(name, k, s, steps))
    return out


# -- speed -------------------------------------------------------------------------------------------------------------


def drawn_a_second(name: str) -> float:
    module = DRAWN[name]
    places = np.random.default_rng(0).integers(0, module.COUNTS[name], 20_000)
    blocks = [module.sources(block) for block in np.array_split(places, 20)]
    module.images(blocks[0])
    began = time.perf_counter()
    for block in blocks:
        module.images(block)
    return len(places) / (time.perf_counter() - began)


def part_speed(results: Results) -> dict[str, Any]:
    def apart() -> dict[str, Any]:
        done = subprocess.run([sys.executable, __file__, "--alone"], capture_output=True, text=True, check=True)
        return json.loads(done.stdout.splitlines()[-1])

    return results.get("speed", apart)


# -- report ------------------------------------------------------------------------------------------------------------


def spread(values: list[float], digits: int = 3) -> str:
    return f"{np.mean(values):.{digits}f}" + (f" ± {np.std(values):.{digits}f}" if len(values) > 1 else "")


def shown(figures: dict[str, Any]) -> str:
    """The tables as Markdown."""
    lines = []
    if found := figures.get("check"):
        lines += [
            "## The measure\n",
            f"Largest difference from the formulas over five random codes: {found['largest_difference']:.1e}.",
            *(
                f"{name.title()} codes: InfoM {c['infom']:.3f}, InfoE {c['infoe']:.3f}, InfoC {c['infoc']:.3f}; "
                f"largest NMI {c['nmi']:.3f}."
                for name, c in ((n, found[n]) for n in ("ideal", "shuffled"))
            ),
        ]
    for name in DRAWN:
        if not (runs := figures.get(name)):
            continue
        words = " | ".join(f.replace("_", " ") for f in FIGURES)
        lines += [
            f"\n## {name.title()}\n",
            f"{runs[0]['steps']} steps of 64 images; seeds: {max(r['seed'] for r in runs)}.\n",
        ]
        lines += [f"| | {words} | trained/s | encoded/s | seconds |", f"|:---|{'---:|' * (len(FIGURES) + 3)}"]
        for kind in KINDS:
            same = [r for r in runs if r["latent"] == kind]
            cells = [spread([r[f] for r in same], 4 if f == "error" else 3) for f in FIGURES]
            cells += [
                f"{np.mean([r[f] for r in same]):.0f}" for f in ("trained_a_second", "encoded_a_second", "seconds")
            ]
            lines.append(f"| {NAMES[kind]} | {' | '.join(cells)} |")
        mean = {kind: np.mean([r["infom"] for r in runs if r["latent"] == kind]) for kind in KINDS}
        told = {kind: np.mean([r["infoe"] for r in runs if r["latent"] == kind]) for kind in KINDS}
        best = max(KINDS[1:], key=lambda kind: mean[kind])
        lines.append(
            f"\nInfoM of QLAE minus AE: {mean['quantized'] - mean['continuous']:+.3f}; minus the best baseline, {NAMES[best]}: "
            f"{mean['quantized'] - mean[best]:+.3f}. InfoE minus AE: {told['quantized'] - told['continuous']:+.3f}."
        )
    if found := figures.get("speed"):
        lines += ["\n## Speed\n", *(f"{name}: {found[name]:,.0f} images a second drawn." for name in DRAWN)]
        lines.append(f"Memory of a training on sprites, at most: {found['memory_mb']:,.0f} MB.")
    missing = [part for part in PARTS if part not in figures]
    if missing:
        lines.append(f"\nNot run: `python benchmarks/latent_quantized.py --only {' '.join(missing)}`")
    return "\n".join(lines) + "\n"


def main() -> None:
    if sys.argv[1:2] == ["--alone"]:
        told: dict[str, Any] = {name: drawn_a_second(name) for name in DRAWN}
        measured("sprites", "quantized", 1, 20)
        print(json.dumps({**told, "memory_mb": peak_mb()}))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=PARTS)
    parser.add_argument("--quick", action="store_true", help="200 steps and one seed: that it runs, not how good it is")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", help="folder where finished pieces are kept for the next run")
    parser.add_argument("--write", help="write the tables to this file as well")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    results, figures = Results(asked.work), {}
    for part in asked.only or PARTS:
        if part == "check":
            figures[part] = part_check(results)
        elif part == "speed":
            figures[part] = part_speed(results)
        else:
            seeds, steps = (1, 200) if asked.quick else (asked.seeds, asked.steps)
            figures[part] = part_models(part, results, seeds, steps)
    text = shown(figures)
    print(text)
    if asked.write:
        command = f"python benchmarks/latent_quantized.py --steps {asked.steps} --seeds {asked.seeds}"
        head = f"# Latent quantization beside its baselines\n\nPrinted by `{command}`,\n"
        head += "on a machine that was busy with other work, which all times feel.\n\n"
        Path(asked.write).write_text(head + text, encoding="utf-8")
    finish({"benchmark": "latent_quantized", **figures})


if __name__ == "__main__":
    main()

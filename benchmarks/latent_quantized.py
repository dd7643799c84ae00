"""Latent quantization beside a plain autoencoder, β-VAE and VQ-VAE of the same networks, on sprites and scenes drawn by code.

    python benchmarks/latent_quantized.py [--only NAME…] [--quick] [--seeds 2] [--dev] [--work FOLDER] [--made] [--write FILE]

    check     InfoMEC of this project beside its formulas written down again, on random codes; ideal and shuffled codes
    sprites   every kind of latent at an equal number of steps with the same settings: InfoMEC on images that no model was
              trained on, error of reconstruction, images a second in training and in encoding, seconds
    scenes    the same for coloured scenes
    long      QLAE and the plain autoencoder on sprites, `--longer` (6) times as many steps, one seed
    speed     images a second of both renderers, and the memory of a training, in a process of its own

`--steps` are those of each model, 6000 of 64 images: about five minutes a model on one core, and half an hour in `long`.
`--quick` takes 200 and one seed, which shows that everything runs, not how good it is. Rates, decays and networks, one choice
for all kinds of latents of a set, and how many values a latent of QLAE has were made with --dev, which measures on images that
are neither trained on nor in the tables. With `--work` a finished model is not trained again, and `--made` shows what there is.
Needs no download.
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
from zoo.families.latent_quantized.spec import SMALL, Spec
from zoo.metrics import infomec_of_encoder
from zoo.metrics.disentanglement import infomec
from zoo.schema import Training

PARTS = ("check", "sprites", "scenes", "long", "speed")
KINDS = ("quantized", "continuous", "gaussian", "vector")
NAMES = {"quantized": "QLAE", "continuous": "AE", "gaussian": "β-VAE", "vector": "VQ-VAE"}
DRAWN = {"sprites": sprites, "scenes": scenes}
ROWS, TESTS = 40_000, 10_000
TITLES = {"sprites": "Sprites", "scenes": "Scenes", "long": "Sprites, a longer training"}
FIGURES = ("infom", "infoe", "infoc", "active_latents", "mig", "sap", "dci_disentanglement", "error")
# The paper's rate of 0.001 and decay of 0.1 are for 200,000 steps. What a decay does by the end depends on decay × rate × steps,
# and how small weights become on decay / rate.
SETTINGS: dict[str, dict[str, float]] = {
    "sprites": {"learning_rate": 5e-3, "weight_decay": 1.0},
    "scenes": {"learning_rate": 5e-3, "weight_decay": 0.5},
}
# Fewer values than the paper's 10: a code that is tight is wasted by a latent that mixes two sources, and there is no such price
# on one with room to spare. Of sprites, whose x and y a mirrored decoder draws as well from x + y and x - y, it decides.
VALUES = {"sprites": 4, "scenes": 6}
NETS: dict[str, Any] = {"sprites": SMALL, "scenes": SMALL.model_copy(update={"decoder": "style"})}


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
    rows = list(module.read_rows_at(name, positions))
    features = Features({"image": Image(), **{source: Value("int64") for source in module.SOURCES}})
    held = [{**row, "image": {"bytes": row["image"], "path": None}} for row in rows]
    return Dataset.from_list(held, features=features)


def split(name: str, dev: bool) -> tuple[np.ndarray, np.ndarray]:
    """Places in the grid for training and, none of them among these, for the figures."""
    drawn = np.random.default_rng(0).permutation(DRAWN[name].COUNTS[name])
    train, tests, others = np.split(drawn[: ROWS + 2 * TESTS], (ROWS, ROWS + TESTS))
    return np.sort(train), np.sort(others if dev else tests)


def measured(name: str, kind: str, seed: int, steps: int, dev: bool = False) -> dict[str, Any]:
    """Train one model and measure it."""
    train, tests = (table(name, places) for places in split(name, dev))
    sources = tuple(DRAWN[name].SOURCES)
    spec = Spec(
        family="latent-quantized",
        latent=kind,  # type: ignore[arg-type]
        latents=2 * len(sources),
        levels=VALUES[name],
        channels=1 if name == "sprites" else 3,
        network=NETS[name],
    )
    encoder = Encoder.build(spec, seed=seed)
    settings = {"batch_size": 64, "max_steps": steps, "checkpoint_every": steps, "seed": seed, **SETTINGS[name]}
    training = Training(**{**Encoder.training, **settings})
    with tempfile.TemporaryDirectory() as folder:
        encoder.prepare(train, Path(folder))
        before = time.process_time()
        seconds = encoder.fit(train, training, Path(folder))
        computing = time.process_time() - before
    images = list(tests["image"])
    began = time.perf_counter()
    encoder.encode(images)
    encoding = time.perf_counter() - began
    figures, details = infomec_of_encoder.measure(encoder, {"data": tests}, sources)
    return {
        **figures,
        "error": card_samples.error(encoder, images[:2000]),
        "best": dict(zip(sources, np.max(details["nmi"], axis=1).tolist(), strict=True)),
        "seconds": seconds,
        "cpu_seconds": computing,
        "encoded_a_second": len(images) / encoding,
        "memory_mb": peak_mb(),
    }


def part_models(
    name: str, kinds: tuple[str, ...], results: Results, seeds: int, steps: int, dev: bool
) -> list[dict[str, Any]]:
    out = []
    for seed in range(1, seeds + 1):
        for kind in kinds:
            key = f"{name}{'-dev' * dev}-{kind}-{seed}-{steps}"
            made = results.get(key, lambda k=kind, s=seed: measured(name, k, s, steps, dev))
            if made is not None:
                out.append({"set": name, "latent": kind, "seed": seed, "steps": steps, **made})
    return out


# -- speed -------------------------------------------------------------------------------------------------------------


def drawn_a_second(name: str) -> float:
    module = DRAWN[name]
    places = np.random.default_rng(0).integers(0, module.COUNTS[name], 20_000)
    blocks = [module.decode_positions(block) for block in np.array_split(places, 20)]
    module.render_images(blocks[0])
    began = time.perf_counter()
    for block in blocks:
        module.render_images(block)
    return len(places) / (time.perf_counter() - began)


def part_speed(results: Results) -> dict[str, Any]:
    def apart() -> dict[str, Any]:
        done = subprocess.run([sys.executable, __file__, "--alone"], capture_output=True, text=True, check=True)
        return json.loads(done.stdout.splitlines()[-1])

    return results.get("speed", apart)


# -- report ------------------------------------------------------------------------------------------------------------


def spread(values: list[float], digits: int = 3) -> str:
    return f"{np.mean(values):.{digits}f}" + (f" ± {np.std(values):.{digits}f}" if len(values) > 1 else "")


def compared(title: str, runs: list[dict[str, Any]]) -> list[str]:
    """A table by kind of latents, and what the kinds differ by."""
    kinds = [kind for kind in KINDS if any(r["latent"] == kind for r in runs)]
    name, settings = runs[0]["set"], SETTINGS[runs[0]["set"]]
    words = " | ".join(f.replace("_", " ") for f in FIGURES)
    lines = [
        f"\n## {title}\n",
        f"{runs[0]['steps']:,} steps of 64 of {ROWS:,} images, rate {settings['learning_rate']}, decay "
        f"{settings['weight_decay']}, {2 * len(runs[0]['best'])} latents, of QLAE of {VALUES[name]} values; measured on "
        f"{TESTS:,} images.\n",
        f"| | runs | {words} | trained a second of a core | seconds of a core | encoded a second |",
        f"|:---|{'---:|' * (len(FIGURES) + 4)}",
    ]
    mean: dict[str, dict[str, float]] = {}
    for kind in kinds:
        same = [r for r in runs if r["latent"] == kind]
        mean[kind] = {f: float(np.mean([r[f] for r in same])) for f in ("infom", "infoe")}
        cells = [spread([r[f] for r in same], 4 if f == "error" else 3) for f in FIGURES]
        known = [r["cpu_seconds"] for r in same if "cpu_seconds" in r]  # which earlier runs do not tell
        cells += [f"{64 * runs[0]['steps'] / np.mean(known):.0f} | {np.mean(known):.0f}" if known else "– | –"]
        cells += [f"{np.mean([r['encoded_a_second'] for r in same]):.0f}"]
        lines.append(f"| {NAMES[kind]} | {len(same)} | {' | '.join(cells)} |")
    lines += [
        "\n| largest NMI with a single latent | " + " | ".join(s.replace("_", " ") for s in runs[0]["best"]) + " |"
    ]
    lines += [f"|:---|{'---:|' * len(runs[0]['best'])}"]
    for kind in kinds:
        same = [r for r in runs if r["latent"] == kind]
        cells = [f"{np.mean([r['best'][s] for r in same]):.2f}" for s in runs[0]["best"]]
        lines.append(f"| {NAMES[kind]} | {' | '.join(cells)} |")
    if len(runs) > len(kinds):
        found = {kind: [f"{r['infom']:.3f}" for r in runs if r["latent"] == kind] for kind in kinds}
        told = (f"{NAMES[kind]} {', '.join(each)}" for kind, each in found.items())
        lines.append(f"\nInfoM by seed: {'; '.join(told)}.")
    others = [kind for kind in kinds if kind != "quantized"]
    if "quantized" in mean and "continuous" in mean:
        ours, best = mean["quantized"], max(others, key=lambda kind: mean[kind]["infom"])
        lines.append(
            f"\nInfoM of QLAE minus AE: {ours['infom'] - mean['continuous']['infom']:+.3f}; minus the best baseline, "
            f"{NAMES[best]}: {ours['infom'] - mean[best]['infom']:+.3f}. "
            f"InfoE minus AE: {ours['infoe'] - mean['continuous']['infoe']:+.3f}."
        )
    return lines


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
    for part in ("sprites", "scenes", "long"):
        if runs := figures.get(part):
            lines += compared(TITLES[part], runs)
    if found := figures.get("speed"):
        lines += ["\n## Speed\n", *(f"{name}: {found[name]:,.0f} images a second drawn." for name in DRAWN)]
        lines.append(f"Memory of a training on sprites, at most: {found['memory_mb']:,.0f} MB.")
    missing = [part for part in PARTS if not figures.get(part)]
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
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="of latents; all by default")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--longer", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", help="folder where finished pieces are kept for the next run")
    parser.add_argument("--write", help="write the tables to this file as well")
    parser.add_argument("--dev", action="store_true", help="measure on training rows that are left out")
    parser.add_argument("--made", action="store_true", help="tables of what --work holds already; nothing is measured")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    results, figures = (Made if asked.made else Results)(asked.work), {}
    seeds, steps = (1, 200) if asked.quick else (asked.seeds, asked.steps)
    for part in asked.only or PARTS:
        if part == "check":
            figures[part] = part_check(results)
        elif part == "speed":
            figures[part] = part_speed(results)
        elif part == "long":
            figures[part] = part_models("sprites", KINDS[:2], results, 1, asked.longer * steps, asked.dev)
        else:
            figures[part] = part_models(part, tuple(asked.kinds), results, seeds, steps, asked.dev)
    text = shown(figures)
    print(text)
    if asked.write:
        command = (
            f"python benchmarks/latent_quantized.py --steps {asked.steps} --seeds {asked.seeds} --longer {asked.longer}"
        )
        head = f"# Latent quantization beside its baselines\n\nPrinted by `{command}`, a kind of latents at a\n"
        head += "time (`--kinds`); a row says how many seeds it has. "
        head += f"Threads: {asked.threads}, on a machine that was busy with other work, which all times feel. Rows: "
        head += (
            "neither those trained on nor the tables'.\n\n"
            if asked.dev
            else "images that no model or setting has seen.\n\n"
        )
        Path(asked.write).write_text(head + text, encoding="utf-8")
    finish({"benchmark": "latent_quantized", **figures})


if __name__ == "__main__":
    main()

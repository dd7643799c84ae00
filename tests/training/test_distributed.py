"""Two processes train as one does at the same global batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import tiny_run
from safetensors.torch import load_file

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
LAUNCHERS = {
    "one": [sys.executable],
    "two": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
}


def command(folder: Path, recipe: Path, name: str) -> list[str]:
    return [*LAUNCHERS[name], "-m", "zoo.cli", "train", str(recipe), "--out", str(folder / name)]


def both(folder: Path, recipe: Path) -> tuple[dict[str, list[float]], float]:
    """The loss curves of one process and of two, and how far their weights end apart."""
    curves, weights = {}, {}
    for name in LAUNCHERS:
        done = subprocess.run(
            command(folder, recipe, name), env=ENVIRONMENT, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-3000:]
        lines = [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
        curves[name] = [line["loss"] for line in lines if "loss" in line]
        weights[name] = load_file(folder / name / "trained" / "model.safetensors")
    one, two = weights["one"], weights["two"]
    return curves, max((one[key] - two[key]).abs().max().item() for key in one)


@pytest.mark.parametrize(
    ("accumulation", "precision", "loss", "weight"),
    [
        (1, "fp32", 1e-3, 2e-3),
        (2, "fp32", 1e-3, 2e-3),
        (1, "bf16", 2e-2, 2e-2),  # a text's vector depends on whom it is padded with, in the eighth bit
    ],
)
def test_two_processes_have_the_loss_curve_and_the_weights_of_one(tmp_path, accumulation, precision, loss, weight):
    tiny.backbone(tmp_path / "backbone")
    rows = [json.dumps({"anchor": t, "positive": tiny.SENTENCES[-i]}) for i, t in enumerate(tiny.SENTENCES)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    recipe = tiny_run.recipe(
        tmp_path,
        encoder={"family": "matryoshka-2d", "backbone": "backbone", "dims": [8, 16], "loss": "contrastive"},
        data={"source": "file", "path": "rows.jsonl"},
        training={
            "epochs": 3,
            "batch_size": 32,
            "gradient_accumulation": accumulation,
            "learning_rate": 1e-3,
            "precision": precision,
        },
        evaluation=[],
    )
    curves, apart = both(tmp_path, recipe)
    assert len(curves["one"]) == 9
    assert curves["two"] == pytest.approx(curves["one"], rel=loss)
    assert apart < weight
    again = subprocess.run(
        command(tmp_path, recipe, "two"), env=ENVIRONMENT, capture_output=True, text=True, timeout=120
    )
    assert again.returncode == 0, again.stderr[-3000:]
    assert "nothing to do" in again.stderr, "no process waits for a training that is over"


def test_two_processes_train_on_images_as_one_does(tmp_path):
    """Negatives are of both processes, whose rows need not have as many; chunks are run again, and one has no images at all."""
    from tiny_vlm2vec import COLOURS, TINY, draw_square, encode_png

    names = list(COLOURS)
    rows = []
    for i in range(16):
        (tmp_path / f"{i}.png").write_bytes(encode_png(draw_square(names[i % 4], i)))
        shown = {"positive_image": f"{i}.png"} if i % 2 else {"positive": f"{names[i % 4]} it is, number {i}"}
        rows.append({"query": f"a {names[i % 4]} square, {i}", **shown, "negative": ["nothing"] * (i % 3)})
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = tiny_run.recipe(
        tmp_path,
        encoder={"family": "vlm2vec", "backbone": TINY, "chunk": 3, "temperature": 0.2},
        data={"source": "file", "path": "rows.jsonl"},
        training={"max_steps": 4, "batch_size": 8, "learning_rate": 1e-3, "precision": "fp32"},
        validation=None,
        evaluation=[],
    )
    curves, apart = both(tmp_path, recipe)
    assert curves["two"] == pytest.approx(curves["one"], rel=1e-3)
    assert apart < 2e-3

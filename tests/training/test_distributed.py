"""Two processes train like one with the same global batch."""

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


def make_command(folder: Path, recipe: Path, name: str) -> list[str]:
    return [*LAUNCHERS[name], "-m", "zoo.cli", "train", str(recipe), "--out", str(folder / name)]


def train_with_both_launchers(folder: Path, recipe: Path) -> tuple[dict[str, list[float]], float]:
    """Return the loss curves of one and of two processes, and the largest difference between their final weights."""
    curves, weights = {}, {}
    for name in LAUNCHERS:
        process = subprocess.run(
            make_command(folder, recipe, name), env=ENVIRONMENT, capture_output=True, text=True, timeout=300
        )
        assert process.returncode == 0, process.stderr[-3000:]
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
        (1, "bf16", 2e-2, 2e-2),  # the padding of a text changes its bf16 vector in the eighth bit
    ],
)
def test_two_processes_have_the_loss_curve_and_the_weights_of_one_process(
    tmp_path, accumulation, precision, loss, weight
):
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
    curves, difference = train_with_both_launchers(tmp_path, recipe)
    assert len(curves["one"]) == 9
    assert curves["two"] == pytest.approx(curves["one"], rel=loss)
    assert difference < weight
    second_run = subprocess.run(
        make_command(tmp_path, recipe, "two"), env=ENVIRONMENT, capture_output=True, text=True, timeout=120
    )
    assert second_run.returncode == 0, second_run.stderr[-3000:]
    assert "nothing to do" in second_run.stderr, "no process waits for the other one"


def test_two_processes_train_on_images_like_one_process(tmp_path):
    """The processes have different numbers of negatives, chunks run twice, and one chunk has no images."""
    from tiny_vlm2vec import COLOURS, TINY, draw_square, encode_png

    names = list(COLOURS)
    rows = []
    for i in range(16):
        (tmp_path / f"{i}.png").write_bytes(encode_png(draw_square(names[i % 4], i)))
        positive = {"positive_image": f"{i}.png"} if i % 2 else {"positive": f"{names[i % 4]} it is, number {i}"}
        rows.append({"query": f"a {names[i % 4]} square, {i}", **positive, "negative": ["nothing"] * (i % 3)})
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = tiny_run.recipe(
        tmp_path,
        encoder={"family": "vlm2vec", "backbone": TINY, "chunk": 3, "temperature": 0.2},
        data={"source": "file", "path": "rows.jsonl"},
        training={"max_steps": 4, "batch_size": 8, "learning_rate": 1e-3, "precision": "fp32"},
        validation=None,
        evaluation=[],
    )
    curves, difference = train_with_both_launchers(tmp_path, recipe)
    assert curves["two"] == pytest.approx(curves["one"], rel=1e-3)
    assert difference < 2e-3

"""Two processes train as one does at the same global batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import test_builder
import tiny
from safetensors.torch import load_file


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
    recipe = test_builder.recipe(
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
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    launchers = {
        "one": [sys.executable],
        "two": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
    }
    for name, launcher in launchers.items():
        command = [*launcher, "-m", "zoo.cli", "train", str(recipe), "--out", str(tmp_path / name)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
    curves = {}
    for name in launchers:
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        curves[name] = [line["loss"] for line in lines if "loss" in line]
    assert len(curves["one"]) == 9
    assert curves["two"] == pytest.approx(curves["one"], rel=loss)
    one, two = (load_file(tmp_path / name / "trained" / "model.safetensors") for name in launchers)
    assert max((one[key] - two[key]).abs().max().item() for key in one) < weight
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr[-3000:]
    assert "nothing to do" in again.stderr, "no process waits for a training that is over"


def test_two_processes_train_on_images_as_one_does(tmp_path):
    """Negatives are of both processes, whose rows need not have as many; chunks are run again, and one has no images at all."""
    from test_vlm2vec import COLOURS, TINY, encoded, picture

    names = list(COLOURS)
    rows = []
    for i in range(16):
        (tmp_path / f"{i}.png").write_bytes(encoded(picture(names[i % 4], i)))
        shown = {"positive_image": f"{i}.png"} if i % 2 else {"positive": f"{names[i % 4]} it is, number {i}"}
        rows.append({"query": f"a {names[i % 4]} square, {i}", **shown, "negative": ["nothing"] * (i % 3)})
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = test_builder.recipe(
        tmp_path,
        encoder={"family": "vlm2vec", "backbone": TINY, "chunk": 3, "temperature": 0.2},
        data={"source": "file", "path": "rows.jsonl"},
        training={"max_steps": 4, "batch_size": 8, "learning_rate": 1e-3, "precision": "fp32"},
        validation=None,
        evaluation=[],
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    launchers = {
        "one": [sys.executable],
        "two": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
    }
    for name, launcher in launchers.items():
        command = [*launcher, "-m", "zoo.cli", "train", str(recipe), "--out", str(tmp_path / name)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
    curves = {}
    for name in launchers:
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        curves[name] = [line["loss"] for line in lines if "loss" in line]
    assert curves["two"] == pytest.approx(curves["one"], rel=1e-3)
    one, two = (load_file(tmp_path / name / "trained" / "model.safetensors") for name in launchers)
    assert max((one[key] - two[key]).abs().max().item() for key in one) < 2e-3

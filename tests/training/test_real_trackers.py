"""The real packages of the trackers, offline: losses, validations, final scores and pictures arrive, and no secret does.

A package that is not installed is skipped; `test_trackers.py` has doubles of all of them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import pytest

SECRET = "5ec7e7" * 7
KEYS = ("WANDB_API_KEY", "HF_TOKEN", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
BLOCK = 32768  # bytes of a block of the log of wandb


class Watch:
    greater_is_better = True

    def score(self, encoder):
        return {"dev": 0.5}


def train(name, folder):
    """Train with a tracker and report the results, in a process of its own: trackers keep their place when it is imported."""
    import matplotlib.image
    import numpy as np
    from tiny_matryoshka import build, rows

    from zoo.schema import Training
    from zoo.training import trackers, trainer

    encoder, picture = build(folder), folder / "loss.png"
    encoder.name = "tiny"
    settings = Training(
        max_steps=4, batch_size=16, learning_rate=1e-3, checkpoint_every=2, precision="fp32", report=(name,)
    )
    trainer.fit(encoder, rows(), settings, folder / "run", watch=Watch())
    matplotlib.image.imsave(picture, np.zeros((4, 5, 3)))
    result = {"task": "my task", "view": {"dim": 8}, "metric": "ndcg_at_10", "value": 0.25}
    trackers.report_results((name,), "tiny", folder / "run", {"results": [result]}, [picture])


@pytest.fixture
def run(tmp_path):
    """Return a function that trains with a tracker and returns the folder of the trackers."""

    def start(name):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("WANDB_", "MLFLOW_", "TRACKIO_"))
        }
        secrets = dict.fromkeys(KEYS, SECRET) | {"WANDB_MODE": "offline", "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, __file__, name, str(tmp_path)]
        done = subprocess.run(command, env=kept | secrets, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
        assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
        return tmp_path / "run" / "trackers"

    return start


def test_wandb_has_everything(run):
    folder = run("wandb")
    (log,) = folder.rglob("*.wandb")
    history, summary = read_wandb(log)
    assert len([step for step in history if step.get("train/loss", 0) > 0]) == 4
    assert [step["eval/score_of_dev"] for step in history if "eval/score" in step] == [0.5, 0.5]
    assert summary["final/my-task/dim8/ndcg_at_10"] == 0.25
    assert [path.parent.name for path in folder.rglob("loss_*.png")] == ["card"]


def read_wandb(log):
    """Return the steps and the summary of an offline run, whose records are in the format of LevelDB's log."""
    from wandb.proto import wandb_internal_pb2

    data, position, part, history, summary = log.read_bytes(), 7, b"", [], {}
    while position < len(data):
        if BLOCK - position % BLOCK < 7:
            position += BLOCK - position % BLOCK
            continue
        _, size, kind = struct.unpack("<IHB", data[position : position + 7])
        part += data[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(part)
            part = b""
            history += [read_items(record.history.item)] if record.WhichOneof("record_type") == "history" else []
            summary |= read_items(record.summary.update)
    return history, summary


def read_items(items):
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def test_trackio_has_everything_and_keeps_the_settings(run):
    folder = run("trackio")
    with sqlite3.connect(folder / "trackio" / "zoo.db") as database:
        history = [json.loads(values) for (values,) in database.execute("select metrics from metrics order by step")]
        (config,) = [json.loads(values) for (values,) in database.execute("select config from configs")]
    database.close()
    assert len([step for step in history if step.get("train/loss", 0) > 0]) == 4
    assert [step["eval/score_of_dev"] for step in history if "eval/score" in step] == [0.5, 0.5]
    assert [step["final/my-task/dim8/ndcg_at_10"] for step in history if "final/my-task/dim8/ndcg_at_10" in step] == [
        0.25
    ]
    (picture,) = [step["card/loss"]["file_path"] for step in history if "card/loss" in step]
    assert (folder / "trackio" / "media" / picture).is_file()
    assert config["max_steps"] == 4


def test_mlflow_has_everything(run):
    folder = run("mlflow")
    from mlflow.tracking import MlflowClient

    run_id = json.loads((folder / "runs.json").read_text())["mlflow"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        client = MlflowClient((folder / "mlflow").as_uri())
        data = client.get_run(run_id)
        losses = [point.value for point in client.get_metric_history(run_id, "loss")]
        assert len(losses) == 4
        assert min(losses) > 0
        assert [point.value for point in client.get_metric_history(run_id, "eval_score_of_dev")] == [0.5, 0.5]
        assert data.data.metrics["final/my-task/dim8/ndcg_at_10"] == 0.25
        assert data.data.params["max_steps"] == "4"
        assert data.info.status == "FINISHED"
        assert [file.path for file in client.list_artifacts(run_id, "card")] == ["card/loss.png"]


if __name__ == "__main__":
    train(sys.argv[1], Path(sys.argv[2]))

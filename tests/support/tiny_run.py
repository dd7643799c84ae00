"""A recipe whose whole run takes seconds, and the command that runs it."""

from __future__ import annotations

from pathlib import Path

import yaml
from forked_commands import Command, run_zoo


def recipe(folder: Path, name: str = "recipe.yaml", **changes) -> Path:
    data = {"source": "file", "path": "pairs.jsonl", "columns": {"sentence1": "a", "sentence2": "b", "score": "gold"}}
    whole = {
        "name": "tiny",
        "encoder": {"family": "matryoshka-2d", "backbone": "backbone", "dims": [8, 16], "loss": "cosent"},
        "data": {**data, "holdout": {"size": 24, "side": "train"}},
        "validation": 16,
        "training": {"epochs": 6, "batch_size": 16, "learning_rate": 1e-3, "checkpoint_every": 3},
        "evaluation": [
            {
                "task": "sts",
                "data": {**data, "holdout": {"size": 24, "side": "test"}},
                "views": [{"layers": 3, "dim": 32}, {"layers": 2, "dim": 8}],
            }
        ],
        "card": {"license": "mit", "summary": "A tiny one."},
    }
    path = folder / name
    path.write_text(yaml.safe_dump({**whole, **changes}))
    return path


def train(path: Path, out: Path, *more: str, clock: str = "right") -> Command:
    """Start `zoo train`."""
    return run_zoo("train", path, "--out", out, *more, clock=clock)


def finish(process: Command) -> str:
    """Wait for the end of a training that must succeed, and return what it wrote to stderr."""
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return err

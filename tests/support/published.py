"""What a model folder and a repo of the test Hub hold, for the tests of push and fetch."""

from __future__ import annotations

import shutil
import sys

import numpy as np
from safetensors.numpy import save_file

from zoo.artefact import manifest

PUSH = (
    sys.executable,
    "-c",
    "import sys, pathlib, zoo.hub.push; zoo.hub.push.push(pathlib.Path(sys.argv[1]), sys.argv[2])",
)
"""A push in a process of its own: then come the folder and the repo."""


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def on_hub(hub, repo, revision="main"):
    return {name: data for name, data in hub.files(repo, revision).items() if name != ".gitattributes"}


def other_version(folder, tmp_path, seed=0):
    """The next version of the model: one file more, one other, one gone."""
    other = shutil.copytree(folder, tmp_path / "next" / "model")
    (other / "notes.md").write_text("new")
    save_file({"weight": np.full((3, 4), seed, np.float32)}, other / "model.safetensors")
    (other / "metrics.jsonl").unlink()
    manifest.write(other)
    return other

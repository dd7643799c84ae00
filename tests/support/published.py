"""Read and change model folders and repositories of the test Hub, for the tests of push and fetch."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import hub_server
import numpy as np
from safetensors.numpy import save_file

from zoo.artefact import manifest

PUSH = (
    sys.executable,
    "-c",
    "import sys, pathlib, zoo.hub.push; zoo.hub.push.push(pathlib.Path(sys.argv[1]), sys.argv[2])",
)
"""The command of a push in a process of its own. Append the folder and the repository."""


def read_folder(folder: Path) -> dict[str, bytes]:
    """Return the content of every file in `folder` by relative path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read_repo(hub: hub_server.Hub, repo: str, revision: str = "main") -> dict[str, bytes]:
    """Return the content of every file of a repository, without the .gitattributes that the Hub itself writes."""
    return {name: content for name, content in hub.read_files(repo, revision).items() if name != ".gitattributes"}


def write_next_version(folder: Path, tmp_path: Path, seed: int = 0) -> Path:
    """Write the next version of a model: one file is new, one is changed and one is removed."""
    next_version = shutil.copytree(folder, tmp_path / "next" / "model")
    (next_version / "notes.md").write_text("new")
    save_file({"weight": np.full((3, 4), seed, np.float32)}, next_version / "model.safetensors")
    (next_version / "metrics.jsonl").unlink()
    manifest.write(next_version)
    return next_version

"""The run folder: one process at a time, whole files, and a note of the inputs of each stage.

    recipe.yaml  lock.json  metrics.jsonl  checkpoints/  trained/  after/  results/  report.json  model/

Each stage writes its output whole or not at all, and notes the digest of its inputs in stages.json. A stage is
skipped if its output exists and was made from the same inputs.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock

from zoo.core import atomic_files, located_yaml, output_paths
from zoo.core.errors import RecipeError, RenamedFieldWarning, UnreadFieldWarning, ZooError
from zoo.recipe import recipe as recipes
from zoo.recipe.recipe import Recipe

CHANGEABLE = ("evaluation", "baselines", "card", "publish", "on_overlap", "after")
"""Sections that may change between two runs in one folder. A change of anything else is another run."""


class RunFolder:
    """The files of one run at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Let one process at a time work in the folder. The system releases the lock if the process dies."""
        output_paths.check_folder(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise ZooError(f"{self.path}: another process is working in this run folder") from None
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def explain_disk_errors(self) -> Iterator[None]:
        """Turn a full or read-only disk into a ZooError, because the user can free space or choose another folder.

        Everything that was saved stays, because every file is whole or absent.
        """
        try:
            yield
        except ZooError:
            raise
        except Exception as error:
            problem = atomic_files.describe_disk_error(error)
            if problem:
                raise ZooError(
                    f"{self.path}: {problem}: make room there, or choose another --out; what was saved is kept, and the "
                    "same command goes on"
                ) from error
            raise

    def claim(self, recipe: Recipe[Any]) -> None:
        """Remove what a killed run left half written. Raise ZooError for a folder of another recipe, or of something else."""
        atomic_files.remove_partial_files(self.path)
        file = self.path / "recipe.yaml"
        if file.exists():
            before = _read_recipe(file, recipe.folder)
            now = recipe.dump_values()
            fixed = {*before, *now} - {*CHANGEABLE}
            differences = [line for key in sorted(fixed) for line in _compare(before.get(key), now.get(key), key)]
            if differences:
                raise ZooError(
                    f"{self.path} holds the run of another recipe ({differences[0]}); choose another --out, or remove the "
                    "folder"
                )
        elif any(path.name not in (".lock", "cache") for path in self.path.iterdir()):
            raise ZooError(f"{self.path} is not empty, and zoo did not make it; choose another --out")

    def check_data(self, locked: Mapping[str, Any]) -> None:
        """Keep the fingerprints of the data. Raise ZooError if the run began with other data."""
        path = self.path / "lock.json"
        if not path.exists():
            atomic_files.write_json(path, {"format": 1, "data": locked})
            return
        for name, entry in atomic_files.read_json(path)["data"].items():
            now = locked.get(name)
            if now is not None and now["fingerprint"] != entry["fingerprint"]:
                before, after = entry["fingerprint"][:12], now["fingerprint"][:12]
                raise ZooError(
                    f"{self.path}: the {name} data is not what this run began with (sha256 {before}…, now {after}…); "
                    "choose another --out"
                )

    def is_made_from(self, name: str, digest: str) -> bool:
        """Whether the output of a stage exists and was made from these inputs."""
        stages = self.path / "stages.json"
        return (self.path / name).exists() and stages.exists() and atomic_files.read_json(stages).get(name) == digest

    def note(self, name: str, digest: str) -> None:
        """Note that the output of a stage was made from these inputs."""
        stages = self.path / "stages.json"
        noted = atomic_files.read_json(stages) if stages.exists() else {}
        atomic_files.write_json(stages, noted | {name: digest})


def _read_recipe(file: Path, folder: Path) -> dict[str, Any]:
    """The recipe of the run, with the present names of its fields if an older version wrote it."""
    text = file.read_text(encoding="utf-8")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RenamedFieldWarning)
            warnings.simplefilter("ignore", UnreadFieldWarning)
            recipe = recipes.loads(text, folder=folder)
    except RecipeError:  # its data may be gone; the comparison then shows the first difference
        value: dict[str, Any] = located_yaml.parse(text).value
        return value
    return recipe.dump_values()


def _compare(before: Any, now: Any, path: str) -> Iterator[str]:
    """The differences of two sections, as `training.seed: 1 there, 2 here`."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            yield from _compare(before.get(key), now.get(key), f"{path}.{key}")
    elif before != now:
        yield f"{path}: {before!r} there, {now!r} here"


def link_weights(source: str, target: str) -> None:
    """Copy a file; link weights instead if the file system can, so that they lie on the disk once."""
    if source.endswith(".safetensors"):
        try:
            os.link(source, target)
            return
        except OSError:
            pass
    shutil.copy2(source, target)

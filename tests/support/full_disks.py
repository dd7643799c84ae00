"""Trainings whose file system is full or read-only. Run as `unshare -rm python full_disks.py RECIPE FOLDER`, for Linux.

The process has mounts of its own, so FOLDER can become a file system of any size. Prints a JSON object by scenario.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forked_commands import run_zoo

from zoo.core import atomic_files


class Disk:
    """A file system of a chosen size, and the run folder on it."""

    def __init__(self, folder: Path, recipe: Path) -> None:
        self.folder, self.recipe, self.run = folder, recipe, folder / "run"

    def resize(self, kilobytes: int) -> None:
        """Change the size of the file system."""
        subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", self.folder], check=True)

    def train(self, *overrides: str) -> dict[str, Any]:
        """Run `zoo train`, and return its exit status, what it wrote to stderr, and which files there are."""
        command = run_zoo("train", self.recipe, "--out", self.run, *overrides)
        errors = command.communicate()[1]
        names = sorted(path.relative_to(self.run).as_posix() for path in self.run.rglob("*"))
        return {"status": command.returncode, "errors": errors, "names": names}

    def compute_sum(self, name: str) -> str:
        """Return the sha256 of a file of the run folder."""
        return atomic_files.sha256(self.run / name)


@contextmanager
def mount(folder: Path, recipe: Path, options: str) -> Iterator[Disk]:
    """Mount a file system in memory on `folder`."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    yield Disk(folder, recipe)


def fill_at_a_checkpoint(recipe: Path, folder: Path) -> dict[str, Any]:
    """The disk holds one checkpoint but not the next ones. Then there is room."""
    with mount(folder, recipe, "size=1300k") as disk:
        full = disk.train()
        disk.resize(50_000)
        return {"full": full, "roomy": disk.train(), "sum": disk.compute_sum("model/model.safetensors")}


def fill_at_the_end(recipe: Path, folder: Path) -> dict[str, Any]:
    """The disk holds the last checkpoint but not the weights, and later the weights but not the model folder."""
    rarely = "training.checkpoint_every=1000"
    with mount(folder, recipe, "size=600k") as disk:
        steps = {"at the weights": disk.train(rarely)}
        disk.resize(50_000)
        steps["roomy"] = disk.train(rarely)
        subprocess.run(["rm", "-r", disk.run / "model"], check=True)
        used = int(subprocess.run(["du", "-sk", folder], capture_output=True, text=True, check=True).stdout.split()[0])
        disk.resize(used + 100)
        steps["at the model folder"] = disk.train(rarely)
        disk.resize(50_000)
        steps["roomy again"] = disk.train(rarely)
        sums = [disk.compute_sum("trained/model.safetensors"), disk.compute_sum("model/model.safetensors")]
        disk.run.rename(folder / "filled")
        steps["undisturbed"] = disk.train(rarely)
        return {"steps": steps, "sums": [*sums, disk.compute_sum("model/model.safetensors")]}


def write_read_only(recipe: Path, folder: Path) -> dict[str, Any]:
    """Nothing can be written."""
    with mount(folder, recipe, "ro") as disk:
        return disk.train()


SCENARIOS = {scenario.__name__: scenario for scenario in (fill_at_a_checkpoint, fill_at_the_end, write_read_only)}

if __name__ == "__main__":
    recipe, folder = map(Path, sys.argv[1:])
    results = {name: scenario(recipe, folder / name) for name, scenario in SCENARIOS.items()}
    sys.stdout.write(json.dumps(results))

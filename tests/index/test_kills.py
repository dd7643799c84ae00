"""A process that is killed while it changes an index leaves the old index or the new one, and nothing between."""

from __future__ import annotations

import random
import time
from pathlib import Path

import forked_commands
import tiny_rows

import zoo

KILLS, BATCH = 20, 40


def change_for_ever(backbone: str, path: str, started: str) -> None:
    """Add and remove whole batches, rewrite the index, and build it anew, until the process is killed."""
    encoder = zoo.from_pretrained(backbone)
    index = zoo.Index.open(path, encoder)
    rows = [row for row in tiny_rows.make_rows(5 * BATCH) if row["id"]]
    Path(started).touch()
    while True:
        for number in range(1, 5):
            index.add([{**row, "id": f"{number}-{row['id']}"} for row in rows[:BATCH]])
        index.remove([f"2-r{place}" for place in range(BATCH)])
        index.compact()
        index = zoo.Index.build(encoder, rows[:BATCH], path, id="id", replace=True)


def test_twenty_kills_leave_whole_batches(encoder, backbone, tmp_path):
    draw = random.Random(7)
    path = tmp_path / "index"
    rows = tiny_rows.make_rows(BATCH)
    zoo.Index.build(encoder, rows, path)
    generations = set()
    for kill in range(KILLS):
        started = tmp_path / f"started-{kill}"
        command = forked_commands.Command(change_for_ever, backbone, str(path), str(started))
        while not started.exists():
            assert command.poll() is None, command.communicate()
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.4))
        command.send_signal(9)
        command.wait()
        index = zoo.Index.open(path, encoder)
        (hits,) = index.search(["fever and cough"], 10 * BATCH)
        assert len(hits) == len(index)
        batches = {}
        for hit in hits:
            batches.setdefault(hit.id.rpartition("-")[0], set()).add(hit.id.rpartition("-")[2])
        assert all(batch == {row["id"] for row in rows} for batch in batches.values()), "a batch is not whole"
        assert "" in batches
        generations.add(index.manifest.generation)
        zoo.Index.build(encoder, rows, path, replace=True)  # what a killed process left is removed
        files = {file.name for file in path.iterdir()} - {"manifest.json", ".lock"}
        assert files == set(zoo.Index.open(path, encoder).manifest.files)
    assert len(generations) > KILLS // 2  # the kills struck different changes

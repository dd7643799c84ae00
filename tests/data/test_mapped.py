"""Readers of mapped files give the same rows as the data set, and leave no page of the file in the memory of the process."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pyarrow as pa
import pytest

from zoo.data import mapped

ROWS = 40_000
SMAPS = Path("/proc/self/smaps")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """A mapped file of about 10 MB."""
    path = tmp_path_factory.mktemp("mapped") / "rows-00000.arrow"
    table = pa.table({"text": [f"{number} " + "x" * 250 for number in range(ROWS)], "number": range(ROWS)})
    with pa.ipc.new_stream(str(path), table.schema) as stream:
        stream.write_table(table, max_chunksize=mapped.BLOCK)
    opened = mapped.open_file(path)
    opened.path = path
    return opened


def count_resident(rows):
    """Return how many bytes of the file are in the memory of this process."""
    parts = re.findall(rf"{re.escape(str(rows.path))}\n(?:.*\n)*?Rss:\s+(\d+) kB", SMAPS.read_text())
    return sum(map(int, parts)) * 1024


linux = pytest.mark.skipif(not SMAPS.exists(), reason="reads the memory of a process from /proc")


@linux
def test_pages_that_are_read_in_order_are_released_block_by_block(rows):
    most = 0
    for number, block in enumerate(mapped.iterate_batches(rows)):
        assert block.column("number")[0].as_py() == number * mapped.BLOCK
        assert block.column("text").to_pylist()[-1].startswith(f"{min((number + 1) * mapped.BLOCK, ROWS) - 1} ")
        most = max(most, count_resident(rows))
    assert 0 < most < 4e6
    assert count_resident(rows) == 0


@linux
def test_pages_of_scattered_rows_are_released_and_the_rows_are_those_of_the_data_set(rows):
    numbers = random.Random(0).sample(range(ROWS), 3000)
    plain = rows.__getitems__(numbers)
    assert count_resident(rows) > 5e6  # so that the next statement can fail
    assert mapped.FetchedRows(rows).__getitems__(numbers) == plain
    assert count_resident(rows) == 0


def test_a_block_stays_readable_after_its_pages_are_released(rows):
    blocks = list(mapped.iterate_batches(rows))
    mapped.release_pages()
    assert pa.concat_tables(blocks).column("number").to_pylist() == list(range(ROWS))
    assert list(mapped.read_column(rows, "number")) == list(range(ROWS))


def test_a_sequence_without_batches_is_fetched_row_by_row():
    assert mapped.fetch_rows("abcdef", [4, 0, 4]) == ["e", "a", "e"]
    assert mapped.FetchedRows("abc")[1] == "b"
    assert len(mapped.FetchedRows("abc")) == 3

"""Changed files of every format are read or refused, and never crash a reader. The benchmark runs the same for minutes."""

from __future__ import annotations

import os
import warnings

import fuzz_readers
import pytest

CASES = int(os.environ.get("ZOO_FUZZ_CASES", "300"))  # of each reader; continuous integration runs 5,000


@pytest.mark.parametrize("target", fuzz_readers.TARGETS)
def test_whatever_the_bytes_a_reader_raises_only_zoo_errors(target):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's and our own about odd files
        result = fuzz_readers.run(target, cases=CASES)
    assert result["crashes"] == []


@pytest.mark.parametrize("target", fuzz_readers.TARGETS)
def test_every_seed_can_be_read(target, tmp_path):
    """A seed that no reader accepts would make the changes to it worthless."""
    for number, (ending, content) in enumerate(fuzz_readers.TARGETS[target].seeds):
        path = tmp_path / f"x{number}{ending}"
        path.write_bytes(content)
        if (
            fuzz_readers.TARGETS[target].read is fuzz_readers.read_file
        ):  # which reads one column, not always one that fits
            assert fuzz_readers.data.peek(fuzz_readers.FileData(source="file", path=str(path)), folder=tmp_path)
        else:
            fuzz_readers.TARGETS[target].read(path)

"""Changed files of every format are read or refused, and never crash a reader. The benchmark runs the same for minutes."""

from __future__ import annotations

import warnings

import fuzz_readers
import pytest

CASES = {"images": 600}


@pytest.mark.parametrize("target", fuzz_readers.TARGETS)
def test_whatever_the_bytes_a_reader_raises_only_data_errors(target):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's and our own about odd files
        result = fuzz_readers.run(target, cases=CASES.get(target, 50))
    assert result["crashes"] == []


@pytest.mark.parametrize("target", fuzz_readers.TARGETS)
def test_every_seed_can_be_read(target, tmp_path):
    """A seed that no reader accepts would make the changes to it worthless."""
    for number, (ending, content) in enumerate(fuzz_readers.TARGETS[target].seeds):
        path = tmp_path / f"x{number}{ending}"
        path.write_bytes(content)
        if target == "images":
            fuzz_readers.kinds.convert_value("image", content, None)
        else:
            assert fuzz_readers.data.peek(fuzz_readers.FileData(source="file", path=str(path)), folder=tmp_path)

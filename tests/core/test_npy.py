"""Blocks of rows become one .npy file that numpy reads."""

from __future__ import annotations

import io

import numpy as np
import pytest

from zoo.core.errors import ZooError
from zoo.core.npy import write_npy


@pytest.mark.parametrize("row_counts", [[], [3], [4, 1, 250_000]])
def test_a_file_and_a_pipe_hold_the_concatenated_blocks(row_counts, tmp_path):
    blocks = [np.random.default_rng(n).random((n, 3), dtype=np.float32) for n in row_counts]
    expected = np.concatenate(blocks) if blocks else np.empty((0, 0), np.float32)
    pipe = io.BytesIO()
    assert write_npy(iter(blocks), pipe) == len(expected)
    assert write_npy(iter(blocks), str(tmp_path / "v.npy")) == len(expected)
    np.testing.assert_array_equal(np.load(io.BytesIO(pipe.getvalue()), allow_pickle=False), expected)
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy", mmap_mode="r"), expected)


def test_the_dtype_of_the_blocks_is_kept(tmp_path):
    codes = np.arange(12, dtype=np.uint8).reshape(4, 3)
    write_npy([codes], str(tmp_path / "codes.npy"))
    loaded = np.load(tmp_path / "codes.npy")
    assert loaded.dtype == np.uint8
    np.testing.assert_array_equal(loaded, codes)


def test_the_header_of_a_billion_rows_fits_into_the_same_bytes(tmp_path):
    from zoo.core import npy

    for rows in (0, 10**9):
        file = io.BytesIO()
        npy._write_header(file, np.empty((1, 1024), np.float32), rows)
        assert len(file.getvalue()) == npy.HEADER_BYTES == file.tell()


def test_blocks_that_fail_leave_no_file(tmp_path):
    def failing():
        yield np.ones((2, 3), np.float32)
        raise ZooError("input 5 is None, expected a string")

    with pytest.raises(ZooError, match="input 5 is None"):
        write_npy(failing(), str(tmp_path / "v.npy"))
    assert list(tmp_path.iterdir()) == []

"""A header of a safetensors file is read without torch, and is refused unless it describes the file to the byte."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from safetensors.numpy import save_file

from zoo.artefact import headers
from zoo.core.errors import ArtefactError

DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


def write(path, header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def describe(start, stop, dtype="U8", shape=None):
    return {"dtype": dtype, "shape": [stop - start] if shape is None else shape, "data_offsets": [start, stop]}


def test_every_dtype_of_safetensors_is_read_with_its_shape(tmp_path):
    arrays = {name: np.ones((2, 3), dtype) for name, dtype in DTYPES.items()} | {"scalar": np.ones(())}
    save_file(arrays, tmp_path / "a.safetensors", metadata={"format": "pt"})
    entries = headers.read_entries(tmp_path / "a.safetensors")
    assert {name: entry.dtype for name, entry in entries.items()} == {name: name for name in DTYPES} | {"scalar": "F64"}
    shapes = {name: array.shape for name, array in arrays.items()}
    assert headers.read_header(tmp_path / "a.safetensors") == shapes
    bfloat16 = write(tmp_path / "b.safetensors", {"b": describe(0, 6, "BF16", [3])}, bytes(6))
    assert headers.read_header(bfloat16) == {"b": (3,)}
    assert headers.read_all([tmp_path / "a.safetensors", bfloat16]) == {**entries, "b": ((3,), "BF16")}


def test_tensors_may_be_listed_in_any_order_and_come_in_the_order_of_their_bytes(tmp_path):
    header = {"b": describe(4, 6), "__metadata__": {}, "empty": describe(4, 4), "a": describe(0, 4)}
    assert list(headers.read_header(write(tmp_path / "a", header, bytes(6)))) == ["a", "empty", "b"]


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        ({"a": describe(1, 3)}, bytes(3), "tensor a has no place of its own"),
        ({"a": describe(0, 3), "b": describe(2, 4)}, bytes(4), "tensor b has no place of its own"),
        ({"a": describe(0, 3), "b": describe(4, 5)}, bytes(5), "tensor b has no place of its own"),
        ({"a": describe(0, 2, shape=[-1, -2])}, bytes(2), "tensor a has no place of its own"),
        ({"a": describe(0, 1, shape=[True])}, bytes(1), "tensor a has no place of its own"),
        ({"a": describe(0, 3, "F16", [2])}, bytes(3), r"tensor a of shape \(2,\) has 3 bytes"),
        ({"a": describe(0, 4, "F8_E5M2")}, bytes(4), "tensor a has the dtype F8_E5M2, which is not supported"),
        ({"a": describe(0, 3)}, bytes(4), r"it holds \d+ bytes and describes \d+"),
        ({"a": describe(0, 3)}, bytes(2), r"it holds \d+ bytes and describes \d+"),
        (b'{"a": 1, "a": 1}', b"", "its header holds a name twice"),
        ([], b"", "its header is not an object"),
        ({"a": 1}, b"", "cannot be read as safetensors"),
        (b"{", b"", "cannot be read as safetensors"),
    ],
)
def test_a_header_that_does_not_describe_the_file_is_refused(tmp_path, header, data, message):
    with pytest.raises(ArtefactError, match=message):
        headers.read_header(write(tmp_path / "a.safetensors", header, data))


def test_a_header_is_as_long_as_the_file_at_most(tmp_path):
    header = json.dumps({}).encode()
    assert headers.read_header(write(tmp_path / "a", header)) == {}
    with pytest.raises(ArtefactError, match="its header claims 3 bytes"):
        headers.read_header(write(tmp_path / "a", header, length=3))
    (tmp_path / "a").write_bytes(bytes(7))
    with pytest.raises(ArtefactError, match="cannot be read as safetensors"):
        headers.read_header(tmp_path / "a")
    with pytest.raises(ArtefactError, match="cannot be read as safetensors"):
        headers.read_header(tmp_path / "missing")


def test_a_header_is_refused_above_its_largest_length_and_number_of_tensors(tmp_path, monkeypatch):
    header = {"a": describe(0, 1), "b": describe(1, 2)}
    path = write(tmp_path / "a", header, bytes(2))
    length = len(json.dumps(header))
    monkeypatch.setattr(headers, "SIGNS_PER_TENSOR", 100)
    for name, limit, message in (("HEADER", length, "claims"), ("TENSORS", 2, "describes 2 tensors, more than 1")):
        with monkeypatch.context() as patch:
            patch.setattr(headers, name, limit)
            assert len(headers.read_header(path)) == 2
            patch.setattr(headers, name, limit - 1)
            with pytest.raises(ArtefactError, match=message):
                headers.read_header(path)


def test_the_signs_of_a_header_are_counted_before_it_is_parsed(tmp_path, monkeypatch):
    text = json.dumps({"a": describe(0, 1), "b": describe(1, 2)}).encode()
    signs = sum(text.count(sign) for sign in (b",", b":", b"["))
    path = write(tmp_path / "a", text, bytes(2))
    monkeypatch.setattr(headers, "SIGNS_PER_TENSOR", 1)
    monkeypatch.setattr(headers, "TENSORS", signs)
    assert len(headers.read_header(path)) == 2
    monkeypatch.setattr(headers, "TENSORS", signs - 1)
    with pytest.raises(ArtefactError, match=f"its header describes more than {signs - 1} tensors"):
        headers.read_header(path)

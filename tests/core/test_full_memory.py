"""A full memory is said as such. The file that was being read is not blamed."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest
from PIL import PpmImagePlugin
from pyarrow import parquet

import zoo
from zoo.core import faults
from zoo.core.errors import DataError, ZooError
from zoo.data.formats import array_files, csv_files, image_files, parquet_files, tabular
from zoo.text import backbone

FULL = "the memory is full; close other programs, or use a smaller model or fewer rows"
TORCH_MESSAGE = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."


def wrap(error):
    """Return an error of a library that was caused by `error`."""
    wrapper = RuntimeError("the weights cannot be read")
    wrapper.__cause__ = error
    return wrapper


def fail_with(error):
    def fail(*arguments, **options):
        raise error

    return fail


def raises(subject, error_class):
    return pytest.raises(error_class, match=re.escape(f"{subject}: {FULL}"))


@pytest.mark.parametrize("error", [MemoryError("9 bytes"), RuntimeError(TORCH_MESSAGE), wrap(MemoryError())])
def test_opening_a_model_folder_without_memory_does_not_blame_the_folder(model, monkeypatch, error):
    monkeypatch.setattr(type(zoo.from_pretrained(model)), "load", fail_with(error))
    with raises(model, ZooError) as caught:
        zoo.from_pretrained(model)
    assert type(caught.value) is ZooError  # not ArtefactError
    assert str(caught.value) == f"{model}: {FULL}"


def test_opening_a_backbone_without_memory_does_not_blame_it(tmp_path):
    with raises("backbone b", ZooError):
        backbone._open_sentence_transformer(fail_with(MemoryError()), tmp_path, "b", {}, {})


def test_a_file_is_not_blamed_for_a_full_memory():
    with raises("file.csv", DataError), faults.as_error_of_file("file.csv"):
        raise MemoryError


@pytest.mark.parametrize("method", ["read_column_names", "read_rows"])
def test_a_table_is_not_called_damaged_if_the_memory_is_full(tmp_path, monkeypatch, method):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n")
    monkeypatch.setattr(csv_files, method, fail_with(MemoryError()))
    with raises(path, DataError):
        list(getattr(tabular, method)(path))


def test_arrays_are_not_called_damaged_if_the_memory_is_full(tmp_path, monkeypatch):
    path = tmp_path / "t.npy"
    monkeypatch.setattr(array_files, "_NumpyFile", fail_with(MemoryError()))
    with raises(path, DataError), array_files.open_arrays(path):
        pass


def test_a_parquet_file_is_not_called_damaged_if_the_memory_is_full(tmp_path, monkeypatch):
    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"a": [1, 2]}), path)
    monkeypatch.setattr(parquet_files, "convert_batch", fail_with(pa.ArrowMemoryError("malloc of size 9 failed")))
    with raises(path, DataError):
        list(parquet_files.read_rows(path))


def test_an_image_is_not_called_damaged_if_the_memory_is_full(monkeypatch):
    monkeypatch.setattr(PpmImagePlugin.PpmImageFile, "load", fail_with(MemoryError()))
    with pytest.raises(ValueError, match=f"^cannot be decoded: {FULL}$"):
        image_files.decode_image(image_files.encode_pnm(b"\0", 1, 1))


def test_another_cause_is_not_a_full_memory():
    assert faults.describe_full_memory(wrap(ValueError("9"))) is None

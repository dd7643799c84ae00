"""Atomic files: a write is complete or changes nothing, and errors of the disk are recognised."""

from __future__ import annotations

import errno
import os

import pytest

from zoo.core import atomic_files


def test_a_file_is_replaced_only_if_the_block_succeeds(tmp_path):
    path = tmp_path / "new" / "file.txt"
    atomic_files.write_text(path, "old")
    with pytest.raises(TypeError, match="str"), atomic_files.replace_file(path) as partial, partial.open("w") as file:
        file.writelines(["half", None])
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old.txt").write_text("old")
    with pytest.raises(FileNotFoundError, match="missing"), atomic_files.replace_folder(path) as partial:
        (partial / "missing" / "new.txt").touch()
    assert [item.name for item in path.iterdir()] == ["old.txt"]
    with atomic_files.replace_folder(path) as partial:
        (partial / "new.txt").write_text("new")
    assert [item.name for item in path.iterdir()] == ["new.txt"]
    assert list(tmp_path.iterdir()) == [path]


def test_partial_files_are_removed_from_the_folder_but_not_from_its_subfolders(tmp_path):
    below = tmp_path / "below" / f"{atomic_files.TEMPORARY}1-x"
    outside = tmp_path / "outside"
    (tmp_path / f"{atomic_files.TEMPORARY}1-folder").mkdir()
    (tmp_path / f"{atomic_files.TEMPORARY}1-folder" / "x").touch()
    (tmp_path / f"{atomic_files.TEMPORARY}1-file").touch()
    below.parent.mkdir()
    outside.mkdir()
    below.touch()
    (tmp_path / f"{atomic_files.TEMPORARY}1-link").symlink_to(outside)
    atomic_files.remove_partial_files(tmp_path)
    assert sorted(tmp_path.iterdir()) == [below.parent, outside]
    assert below.exists()


def test_json_with_nan_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        atomic_files.write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [("[1]", "must be an object, not list"), ("{", "Expecting"), ('{"a":' * 100_000, "nested too deeply|Expecting")],
)
def test_a_json_file_without_an_object_is_refused(tmp_path, text, message):
    path = tmp_path / "x.json"
    atomic_files.write_json(path, {"a": "ü"})
    assert atomic_files.read_json_object(path) == {"a": "ü"}
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        atomic_files.read_json_object(path)


def test_errors_of_a_full_or_protected_disk_are_described():
    full = os.strerror(errno.ENOSPC)
    assert atomic_files.describe_disk_error(OSError(errno.ENOSPC, "any text")) == full
    assert atomic_files.describe_disk_error(RuntimeError("No space left on device (os error 28)")) == full
    assert atomic_files.describe_disk_error(RuntimeError("inline_container.cc:1 unexpected pos 64 vs 0")) == full
    wrapped = ValueError("a library's own message")
    wrapped.__cause__ = PermissionError(errno.EACCES, "denied")
    assert atomic_files.describe_disk_error(wrapped) == os.strerror(errno.EACCES)
    assert atomic_files.describe_disk_error(FileNotFoundError(errno.ENOENT, "missing")) is None
    assert atomic_files.describe_disk_error(RuntimeError("(os error 2)")) is None

"""Atomic files: a write is complete or changes nothing, and errors of the disk are recognised."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from devices import make_full_device

from zoo.core import atomic_files, output_paths
from zoo.core.errors import ZooError


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


def write(path, content="new"):
    with atomic_files.replace_file(path) as partial:
        partial.write_text(content)


def test_a_link_is_followed_and_its_target_keeps_its_permissions(tmp_path):
    target, link = tmp_path / "folder" / "target", tmp_path / "link"
    target.parent.mkdir()
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    write(link)
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o640
    (tmp_path / "dangling").symlink_to(tmp_path / "later")
    write(tmp_path / "dangling")
    assert (tmp_path / "later").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "folder", "later", "link"]


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()))
    reader.start()
    write(pipe)
    reader.join()
    assert received == ["new"]
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_device_stays_a_device(tmp_path):
    full = make_full_device(tmp_path)
    with pytest.raises(OSError, match="No space left") as error:
        write(full)
    assert error.value.filename == str(full)
    assert full.is_char_device()
    assert not list(full.parent.glob(f"{atomic_files.TEMPORARY}*"))


def test_an_open_stream_of_the_process_is_written_to(tmp_path):
    """/dev/stdout is a link to no path; what was written before stays, also in a file."""
    with (tmp_path / "out").open("w") as out:
        out.write("before ")
        out.flush()
        write(Path(f"/proc/self/fd/{out.fileno()}"))
    assert (tmp_path / "out").read_text() == "before new"


@pytest.mark.parametrize("name", [".", "folder", "link"])
def test_a_folder_is_no_place_for_a_file(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    with pytest.raises(IsADirectoryError):
        write(Path(name))
    with pytest.raises(ZooError, match="name a file, not a folder"):
        output_paths.check_file(Path(name))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link"]


def test_what_a_killed_process_left_is_removed_by_the_next_one_that_writes_there(tmp_path):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    stale = tmp_path / f"{atomic_files.TEMPORARY}{int(dead.stdout)}-out.npy"
    of_a_living_process = tmp_path / f"{atomic_files.TEMPORARY}{os.getppid()}-out.npy"
    of_another_file = tmp_path / f"{atomic_files.TEMPORARY}{int(dead.stdout)}-other.npy"
    for path in (stale, of_a_living_process, of_another_file):
        path.write_text("half")
    write(tmp_path / "out.npy")
    assert not stale.exists()
    assert of_a_living_process.exists()
    assert of_another_file.exists()
    old = tmp_path / f"{atomic_files.TEMPORARY}{int(dead.stdout)}-old-folder"
    old.mkdir()
    with pytest.raises(RuntimeError, match="stop"), atomic_files.replace_folder(tmp_path / "folder"):
        raise RuntimeError("stop")
    assert old.exists(), "the only copy of a folder was removed"


def test_an_error_names_the_output_and_not_its_temporary_file(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "x", tmp_path / ("n" * 300)):
        with pytest.raises(OSError, match=r".") as error:
            write(path)
        assert atomic_files.TEMPORARY not in str(error.value)


def test_a_name_that_just_fits_is_written(tmp_path):
    path = tmp_path / ("n" * 255)
    write(path)
    output_paths.check_file(path)
    assert list(tmp_path.iterdir()) == [path]


def test_files_of_a_folder_get_the_permissions_of_new_files(tmp_path):
    with atomic_files.replace_folder(tmp_path / "folder") as partial:
        (partial / "below").mkdir()
        for name in ("private", "below/private"):
            (partial / name).touch(mode=0o600)
    (tmp_path / "ordinary").touch()
    expected = (tmp_path / "ordinary").stat().st_mode
    assert {path.stat().st_mode for path in (tmp_path / "folder").rglob("private")} == {expected}


def test_checking_an_output_creates_nothing(tmp_path):
    output_paths.check_file(tmp_path / "a" / "b" / "c.npy")
    output_paths.check_folder(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())

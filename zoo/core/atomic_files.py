"""Files that are either complete or absent: write under a temporary name, flush to disk, rename. Also JSON and hashes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TEMPORARY = ".partial-"
MAX_NAME_BYTES = 255  # of one part of a path, on every common file system
DISK_ERRORS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM))


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_path(path: Path, prefix: str = "") -> Path:
    """Return the path beside `path` under which this process writes it."""
    name = f"{TEMPORARY}{os.getpid()}-{prefix}{path.name}"
    if len(os.fsencode(name)) > MAX_NAME_BYTES:  # the name itself may still fit
        name = f"{TEMPORARY}{os.getpid()}-{prefix}{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}"
    return path.with_name(name)


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path, and rename it to `path` when the block ends without an error.

    If the block raises, `path` stays as it was and the temporary file is removed. A link is followed, and a file that is
    replaced keeps its permissions. A device or a pipe is not replaced: the content is written to it. Raise IsADirectoryError
    for a folder.
    """
    target = find_target(path)
    with name_in_errors(path):
        if is_device(target):
            with tempfile.TemporaryDirectory(prefix=TEMPORARY) as folder:
                partial = Path(folder) / "content"
                yield partial
                _copy_to_device(partial, target)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(target)
        partial = temporary_path(target)
        try:
            yield partial
            if target.exists():
                shutil.copymode(target, partial)
            _flush_to_disk(partial)
            partial.replace(target)
            _flush_to_disk(target.parent)
        finally:
            partial.unlink(missing_ok=True)


def find_target(path: Path) -> Path:
    """Return the file, device or pipe that `path` names. Raise IsADirectoryError for a folder.

    A link to a file that exists or not is followed. A device keeps its name, because /dev/stdout is a link to no path.
    """
    if path.is_dir() or not path.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return path if is_device(path) or not path.is_symlink() else _resolve(path)


def is_device(path: Path) -> bool:
    """Return whether `path` is written to and never replaced: a device, a pipe, a socket, or /dev/stdout and its like."""
    if path.is_symlink() and any(name.parent.resolve().match("/proc/*/fd") for name in (path, path.readlink())):
        return True
    return path.exists() and not path.is_file() and not path.is_dir()


def _resolve(link: Path) -> Path:
    try:
        return link.resolve()
    except RuntimeError:  # up to Python 3.12, for a link to itself
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(link)) from None


def _copy_to_device(source: Path, target: Path) -> None:
    """Write a file to a device or a pipe. Earlier content from somebody else stays."""
    with source.open("rb") as file, os.fdopen(os.open(target, os.O_WRONLY | os.O_APPEND), "wb") as device:
        shutil.copyfileobj(file, device)


@contextmanager
def name_in_errors(path: Path) -> Iterator[None]:
    """Let an error of the system name `path` instead of the temporary file that stands for it. A full disk names no file."""
    try:
        yield
    except OSError as error:
        name, own = str(error.filename or ""), str(temporary_path(path)) if path.name else ""
        if own and own in name:
            error.filename = name.replace(own, str(path))
        elif error.errno is not None and (TEMPORARY in name or (not name and error.errno in DISK_ERRORS)):
            error.filename = str(path)
        raise


def _remove_stale(path: Path) -> None:
    """Remove the temporary files for `path` that processes left which are no longer alive."""
    import psutil

    own = temporary_path(path).name.removeprefix(f"{TEMPORARY}{os.getpid()}-")
    for stale in path.parent.glob(f"{TEMPORARY}*"):
        pid, _, name = stale.name.removeprefix(TEMPORARY).partition("-")
        is_ours = name == own or (name == f"old-{own}" and path.exists())  # else `old-` is the only copy
        if is_ours and pid.isdecimal() and not psutil.pid_exists(int(pid)):
            _remove(stale)


@contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder, and rename it to `path` when the block ends without an error.

    A folder that exists at `path` is replaced as a whole; a link is followed. If the block raises, `path` stays as it was. All
    files get the permissions that the user's umask gives to new files, because some libraries create theirs for one user only.
    """
    path = _resolve(path) if path.is_symlink() else path
    with name_in_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path)
        partial = temporary_path(path)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            yield partial
            _apply_umask(partial)
            for item in [*partial.rglob("*"), partial]:
                _flush_to_disk(item)
            old = temporary_path(path, "old-")
            if path.exists():
                path.replace(old)
            partial.replace(path)
            _flush_to_disk(path.parent)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _apply_umask(folder: Path) -> None:
    """Give every file and folder below `folder` the read and write permissions of `folder` itself, which is new.

    A file with several names is left alone, because its permissions are also those of its other names.
    """
    mode = folder.stat().st_mode & 0o666
    for item in folder.rglob("*"):
        if item.is_file() and not item.is_symlink() and item.stat().st_nlink == 1:
            item.chmod(item.stat().st_mode & 0o111 | mode)


def remove_partial_files(folder: Path) -> None:
    """Remove the temporary files and folders that interrupted writers left in `folder`, but not in its subfolders."""
    for path in folder.glob(f"{TEMPORARY}*"):
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def describe_disk_error(error: BaseException) -> str | None:
    """Return the system's message if `error` means that the disk is full or not writable, else None.

    Libraries wrap the system's error or keep only its text, so the chain of causes and the messages are searched too.
    """
    current: BaseException | None = error
    while current is not None:
        code = _disk_error_code(current)
        if code is not None:
            return os.strerror(code)
        current = current.__cause__ or current.__context__
    return None


def _disk_error_code(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return error.errno
    text = str(error)
    match = re.search(r"\(os error (\d+)\)", text)  # Rust libraries, for example safetensors
    if match and int(match[1]) in DISK_ERRORS:
        return int(match[1])
    if "inline_container.cc" in text and ("unexpected pos" in text or "write failed" in text):  # torch.save
        return errno.ENOSPC
    return None


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with replace_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON, atomically. Raise ValueError for NaN and infinity, which other JSON readers refuse."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a UTF-8 JSON file. Raise OSError, ValueError or RecursionError if it cannot be read."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object. Raise OSError or ValueError if it cannot be read or holds another value."""
    try:
        value = read_json(path)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"the JSON must be an object, not {type(value).__name__}")
    return value


def sha256(path: Path) -> str:
    """Return the hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """Return the hex sha256 of a JSON-able value with sorted keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False, default=str).encode()).hexdigest()

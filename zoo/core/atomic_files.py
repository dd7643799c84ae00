"""Files that are either complete or absent: write under a temporary name, flush to disk, rename. Also JSON and hashes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TEMPORARY = ".partial-"
DISK_ERRORS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM))


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary_path(path: Path, prefix: str = "") -> Path:
    return path.with_name(f"{TEMPORARY}{os.getpid()}-{prefix}{path.name}")


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path, and rename it to `path` when the block ends without an error.

    If the block raises, `path` stays as it was and the temporary file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _temporary_path(path)
    try:
        yield partial
        _flush_to_disk(partial)
        partial.replace(path)
        _flush_to_disk(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder, and rename it to `path` when the block ends without an error.

    A folder that exists at `path` is replaced as a whole. If the block raises, `path` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _temporary_path(path)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        for item in [*partial.rglob("*"), partial]:
            _flush_to_disk(item)
        old = _temporary_path(path, "old-")
        if path.exists():
            path.replace(old)
        partial.replace(path)
        _flush_to_disk(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def remove_partial_files(folder: Path) -> None:
    """Remove the temporary files and folders that interrupted writers left in `folder`, but not in its subfolders."""
    for path in folder.glob(f"{TEMPORARY}*"):
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

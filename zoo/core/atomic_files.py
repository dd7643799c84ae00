"""Files that are either whole or absent: write to a temporary name, fsync, rename."""

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
REFUSALS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM))


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the name `path` only when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    try:
        yield partial
        _fsync(partial)
        partial.replace(path)
        _fsync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """The same for a folder; a folder of that name that was there before is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        for item in [*partial.rglob("*"), partial]:
            _fsync(item)
        old = path.with_name(f"{TEMPORARY}{os.getpid()}-old-{path.name}")
        if path.exists():
            path.replace(old)
        partial.replace(path)
        _fsync(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what killed writers left behind in `folder` (not below it)."""
    for left in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink(missing_ok=True)


def refusal(error: BaseException) -> str | None:
    """What a disk says that takes no more, or takes nothing from this user; None for any other error. Libraries wrap the
    system's own error, or keep no more of it than the words."""
    at: BaseException | None = error
    while at is not None:
        if isinstance(at, OSError) and at.errno in REFUSALS:
            return os.strerror(at.errno)
        text = str(at)
        found = re.search(r"\(os error (\d+)\)", text)
        if found and int(found[1]) in REFUSALS:
            return os.strerror(int(found[1]))
        if "inline_container.cc" in text and ("unexpected pos" in text or "write failed" in text):  # torch.save
            return os.strerror(errno.ENOSPC)
        at = at.__cause__ or at.__context__
    return None


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON: a NaN is an error here, not a file that other readers refuse."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file that one of the writers above has made."""
    return json.loads(path.read_text(encoding="utf-8"))


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """Hex sha256 of a JSON-able value in canonical form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False, default=str).encode()).hexdigest()

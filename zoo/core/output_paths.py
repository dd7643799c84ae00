"""Find out before anything that takes long whether an output can be written where the user wants it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoo.core import atomic_files, faults
from zoo.core.errors import ZooError, first_line


def check_file(path: Path) -> None:
    """Raise ZooError unless a file can be written at `path`. Call this before anything that takes long."""
    with _as_output_error(path):
        target = atomic_files.find_target(path)
        if target.exists():
            if not os.access(target, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            if atomic_files.is_device(target):
                return
        _probe(target)


def check_folder(path: Path) -> None:
    """Raise ZooError unless files can be written into the folder `path`, which need not exist."""
    with _as_output_error(path):
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        _probe(path / "file")


def _probe(path: Path) -> None:
    """Create and remove a file in the nearest folder above `path` that exists. Nothing else is created."""
    ancestor = next(folder for folder in path.absolute().parents if folder.exists())
    if not ancestor.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(ancestor))
    for part in path.absolute().relative_to(ancestor).parts:
        if len(os.fsencode(part)) > atomic_files.MAX_NAME_BYTES:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(path))
    probe = atomic_files.temporary_path(ancestor / "probe")
    try:
        probe.touch()
    finally:
        probe.unlink(missing_ok=True)


@contextmanager
def _as_output_error(path: Path) -> Iterator[None]:
    try:
        with atomic_files.name_in_errors(path):
            yield
    except (OSError, ValueError) as error:
        message = faults.describe_os_error(error) if isinstance(error, OSError) else f"{path}: {first_line(error)}"
        raise ZooError(f"nothing can be written to {message}") from None

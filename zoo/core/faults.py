"""Tell the faults of users, files and machines from those of zoo, and put the former into words.

A library reports a bad file by whatever exception its author chose. `as_error_of_file` turns all of them into an error that
names the file. `describe_user_fault` does so for errors of the operating system. Any other exception is a fault of zoo.
"""

from __future__ import annotations

import errno
import platform
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from zoo.core.errors import DataError, ZooError, first_line

PACKAGES = (
    "embedding-zoo",
    "torch",
    "transformers",
    "sentence-transformers",
    "huggingface-hub",
    "mteb",
    "datasets",
    "numpy",
)
"""Packages whose versions a report of a fault needs."""
_OWN_FOLDER = str(Path(__file__).parents[1])
_PROGRAMMING_ERRORS = (AssertionError, AttributeError, ImportError, LookupError, NameError, TypeError)
"""Exceptions that, raised by a line of zoo itself, are mistakes in that line. Libraries also raise them for bad files."""
_CURES = {
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "a part of the path is a file; check the path",
    errno.EEXIST: "a file stands where a folder is needed; choose another path",
    errno.EISDIR: "name a file, not a folder",
    errno.EACCES: "check the permissions, or choose another path",
    errno.EPERM: "check the permissions, or choose another path",
    errno.EROFS: "choose a path on a disk that can be written to",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EINVAL: "check the path",
    errno.ELOOP: "a link points to itself; check the path",
    errno.ENOSPC: "make room there, or choose another disk (TMPDIR chooses the one for temporary files)",
    errno.EDQUOT: "make room there, or choose another disk",
    errno.EFBIG: "the limit for one file is reached; raise `ulimit -f`, or write to another disk",
    errno.EMFILE: "raise the number of open files with `ulimit -n`",
    errno.EBADF: "the stream is closed; do not close stdin, stdout or stderr",
    errno.EIO: "the disk or the device reports an error; try another one",
}


def describe_os_error(error: OSError) -> str:
    """Return path, reason and cure of an error of the operating system, in one line."""
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    reason = error.strerror or first_line(error)
    cure = _CURES.get(error.errno or 0)
    return f"{': '.join([*names[:1], reason])}{f'; {cure}' if cure else ''}"


def describe_user_fault(error: BaseException) -> str | None:
    """Return in one line what the user or the machine has to change, or None if the exception is a fault of zoo."""
    if isinstance(error, ZooError):
        return str(error)
    if isinstance(error, OSError):
        return describe_os_error(error)
    if isinstance(error, UnicodeEncodeError):
        text = str(error.object[error.start : error.end])[:8]
        return f"{text!r} cannot be written as {error.encoding}; remove the character, or set PYTHONIOENCODING=utf-8"
    return describe_full_memory(error)


def describe_full_memory(error: BaseException) -> str | None:
    """Return in one line what to do if an exception means that the memory is full, else None.

    Libraries wrap the error of the allocation, so the chain of causes is searched too.
    """
    current: BaseException | None = error
    while current is not None:
        if type(current).__name__ == "OutOfMemoryError":  # that of torch, which may not be imported
            return (
                "the memory of the GPU is full; lower `training.batch_size`, or raise `training.gradient_accumulation`, which "
                "runs a batch in parts"
            )
        if isinstance(current, MemoryError) or "DefaultCPUAllocator: can't allocate memory" in str(current):
            return "the memory is full; close other programs, or use a smaller model or fewer rows"
        current = current.__cause__ or current.__context__
    return None


def refuse_full_memory(error: BaseException, subject: object, error_class: type[ZooError] = ZooError) -> None:
    """Raise a ZooError that begins with `subject` if an exception means that the memory is full.

    Call it before an error that blames the file which was being read.
    """
    if problem := describe_full_memory(error):
        raise error_class(f"{subject}: {problem}") from error


def is_fault_of_zoo(error: BaseException) -> bool:
    """Return whether an exception, raised while a file was read, is a mistake in zoo's own code and not in the file."""
    if not isinstance(error, _PROGRAMMING_ERRORS):
        return False
    frames = traceback.extract_tb(error.__traceback__)
    return isinstance(error, ImportError) or (bool(frames) and frames[-1].filename.startswith(_OWN_FOLDER))


@contextmanager
def as_error_of_file(
    path: str | Path, what: str = "cannot be read", cure: str = "", error_class: type[ZooError] = DataError
) -> Iterator[None]:
    """Turn whatever a library raises inside the block, while it reads or writes `path`, into one error that names the file.

    Args:
        path: the file, which begins the message.
        what: what could not be done, for example "is not a parquet file".
        cure: what to do, which ends the message.
        error_class: class of the new error.

    A ZooError and a fault of zoo's own code pass unchanged.
    """
    try:
        yield
    except ZooError:
        raise
    except Exception as error:
        if is_fault_of_zoo(error):
            raise
        refuse_full_memory(error, path, error_class)
        reason = error.strerror or first_line(error) if isinstance(error, OSError) else first_line(error)
        advice = cure or (_CURES.get(error.errno or 0) if isinstance(error, OSError) else "")
        raise error_class(f"{path}: {what}: {reason}{f'; {advice}' if advice else ''}") from None


def describe_report() -> str:
    """Return what to do about a fault of zoo: report it, with the versions of Python and of the packages that matter."""
    versions = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    machine = f"Python {platform.python_version()} on {sys.platform} {platform.machine()}"
    return (
        "this is a fault in zoo, not in your files. Please report it to the project, with the lines above, the command and "
        f"these versions: {', '.join([*versions, machine])}"
    )

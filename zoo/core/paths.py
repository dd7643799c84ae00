"""Ask whether a path names a file or a folder. A name that the system cannot hold is the name of nothing."""

from __future__ import annotations

from pathlib import Path


def is_file(path: str | Path) -> bool:
    """Return whether `path` is a file. False for a name that is too long or holds a NUL."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: str | Path) -> bool:
    """Return whether `path` is a folder. False for a name that is too long or holds a NUL, and for an unknown `~user`."""
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):
        return False


def expand_user(path: str | Path) -> Path:
    """Return `path` with `~` as the home folder. The path of an unknown user stays as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)

"""A device that is always full. Root gets one of its own, because a fault could replace the system's."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest


def make_full_device(folder: Path) -> Path:
    """Return the path of a device like /dev/full."""
    if os.geteuid() != 0:
        return Path("/dev/full")
    path = folder / "full"
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 7))
        path.write_text("")
    except OSError:
        pytest.skip("devices cannot be made here")
    return path

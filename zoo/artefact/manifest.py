"""manifest.json: the sha256 and size of every other file of a model folder, checked whenever the folder is opened."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from zoo.core import atomic_files
from zoo.core.errors import ArtefactError

NAME = "manifest.json"
FORMAT = 1
IGNORED = (".git", ".cache", ".gitattributes", ".eval_results")
"""What the Hub, its client and its users put beside a model's own files."""
READERS = ("README.md", "LICENSE")
"""For people only: may be edited or added on the Hub, since nothing is loaded from them."""


def write(folder: Path) -> None:
    """Describe every file below `folder`."""
    entries = {}
    for path in _files(folder):
        entries[path] = {"sha256": atomic_files.sha256(folder / path), "size": (folder / path).stat().st_size}
    atomic_files.write_json(folder / NAME, {"format": FORMAT, "files": entries})


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Path → {sha256, size}. Raises ArtefactError when there is no manifest, or not one that this version reads."""
    try:
        content = atomic_files.read_json(folder / NAME)
    except FileNotFoundError:
        raise ArtefactError(f"{folder}: has no {NAME}, so nothing says what belongs to the model") from None
    except (ValueError, RecursionError, OSError) as error:
        raise ArtefactError(f"{folder / NAME}: cannot be read: {str(error)[:120]}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("files"), dict):
        known = content.get("format") if isinstance(content, dict) else None
        raise ArtefactError(
            f"{folder / NAME}: format {known!r} is not known to this version (it reads {FORMAT}); update embedding-zoo"
        )
    for path, entry in content["files"].items():
        if not isinstance(entry, dict) or entry.keys() != {"sha256", "size"}:
            raise ArtefactError(f"{folder / NAME}: {path}: an entry has `sha256` and `size`, nothing else")
    return content["files"]


def faults(folder: Path) -> dict[str, str]:
    """Path → what is wrong with it: missing, extra, another size, another sha256, or a path that leaves the folder."""
    listed, found = read(folder), {}
    there = set(_files(folder))
    for path in sorted(there - listed.keys() - set(READERS)):
        found[path] = "extra: the manifest does not list it"
    for path, entry in listed.items():
        if Path(path).is_absolute() or ".." in Path(path).parts:
            found[path] = "its path leaves the folder"
        elif path not in there:
            found[path] = "missing"
        elif path in READERS:
            continue
        elif (folder / path).stat().st_size != entry["size"]:
            found[path] = f"has {(folder / path).stat().st_size} bytes, not {entry['size']}"
        elif atomic_files.sha256(folder / path) != entry["sha256"]:
            found[path] = "its sha256 is not the manifest's: the file was altered or damaged"
    return found


def verify(folder: Path) -> None:
    """Raises ArtefactError that names what is missing, extra or altered."""
    found = faults(folder)
    if found:
        more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
        raise ArtefactError(f"{folder}: {'; '.join(f'{p}: {w}' for p, w in list(found.items())[:3])}{more}")


def _files(folder: Path) -> list[str]:
    out = []
    for base, inside, names in os.walk(folder):
        inside[:] = [name for name in inside if name not in IGNORED]
        here = Path(base).relative_to(folder)
        out += [(here / name).as_posix() for name in names if name not in IGNORED]
    return sorted(path for path in out if path != NAME)

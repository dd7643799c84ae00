"""Check a folder before anything in it is opened: only known kinds of files, each with the size and sha256 of the manifest."""

from __future__ import annotations

import hashlib
import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from .errors import PackError

MANIFEST = "manifest.json"
ALLOWED = ("*.onnx", "*.xml", "*.bin", "*.json", "*.safetensors", "README.md", "LICENSE", "NOTICE")
CANARIES = "canaries"
CANARY_FILES = (f"{CANARIES}/inputs.json", f"{CANARIES}/vectors.safetensors")
"""The one folder inside, and the files in it."""
EDITABLE = ("README.md", "LICENSE", "NOTICE")
"""Texts for people. Nothing is read from them, so they may differ from the manifest."""
LARGEST_JSON = 64 << 20
CHUNK = 1 << 20


def verify(folder: Path) -> None:
    """Raise PackError if a file is missing, extra, altered, a link, or of an unknown kind. Hidden files are ignored."""
    if not folder.is_dir():
        raise PackError(f"{folder}: there is no such folder; check the path")
    if not (folder / MANIFEST).is_file():
        raise PackError(f"{folder}: has no {MANIFEST}, so its files cannot be checked; write it again with zoo pack")
    entries = _read_entries(folder)
    present = _list_paths(folder)
    for name, path in sorted(present.items()):
        if path.is_symlink() or not path.is_file():
            raise PackError(f"{path}: is not a plain file, so it is not opened; remove it")
        is_allowed = "/" not in name and any(fnmatchcase(name, pattern) for pattern in ALLOWED)
        if not is_allowed and name not in CANARY_FILES:
            raise PackError(f"{path}: files of this kind do not belong to a packed model; remove it")
        if name not in entries and name not in (MANIFEST, *EDITABLE):
            raise PackError(f"{path}: the manifest does not list it; remove it, or write the folder again")
    for name, entry in entries.items():
        if name in EDITABLE:
            continue
        if name not in present:
            raise PackError(f"{folder}: {name} is missing; copy the folder again")
        path = present[name]
        if path.stat().st_size != entry.get("size") or _hash_file(path) != entry.get("sha256"):
            raise PackError(f"{path}: was altered or damaged: its sha256 is not the manifest's; copy the folder again")


def _list_paths(folder: Path) -> dict[str, Path]:
    """Return the paths below a folder by relative name. The folder of canaries is entered, and no other."""
    paths = {path.name: path for path in folder.iterdir() if not path.name.startswith(".")}
    inside = paths.get(CANARIES)
    if inside is not None and inside.is_dir() and not inside.is_symlink():
        del paths[CANARIES]
        paths |= {f"{CANARIES}/{path.name}": path for path in inside.iterdir()}
    return paths


def read_json(path: Path) -> Any:
    """Read a JSON file. Raise PackError if it is too large or no JSON."""
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise PackError(f"{path}: is larger than {LARGEST_JSON >> 20} MB, so it is not read")
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PackError(f"{path}: is missing; write the folder again with zoo pack") from None
    except (OSError, ValueError, RecursionError) as error:
        raise PackError(f"{path}: cannot be read: {str(error)[:120]}; copy the folder again") from None


def _read_entries(folder: Path) -> dict[str, dict[str, Any]]:
    content = read_json(folder / MANIFEST)
    entries = content.get("files") if isinstance(content, dict) else None
    if not isinstance(entries, dict) or content.get("format") != 1:
        raise PackError(f"{folder / MANIFEST}: is of another format; update embedding-zoo-runtime")
    if not all(isinstance(entry, dict) for entry in entries.values()):
        raise PackError(f"{folder / MANIFEST}: an entry is malformed; copy the folder again")
    return entries


def _hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()

"""Write and verify manifest.json: the sha256 and size of every other file of a model folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from zoo.artefact import allowed_files
from zoo.core import atomic_files, strict_json
from zoo.core.errors import ArtefactError

NAME = "manifest.json"
FORMAT = 1
IGNORED = (".git", ".cache", ".gitattributes", ".eval_results")
"""Files and folders that git, the Hub, its client and its users put beside the files of a model.

They are not in the manifest, so `references.check_relative` refuses every name of a hidden file or folder."""
EDITABLE = ("README.md", "LICENSE")
"""Files that people may edit or add on the Hub without making the manifest wrong, since nothing is loaded from them."""


def write(folder: Path) -> None:
    """Write the manifest of `folder`, which lists every file in it and below it."""
    entries = {}
    for path in _list_files(folder):
        entries[path] = {"sha256": atomic_files.sha256(folder / path), "size": (folder / path).stat().st_size}
    atomic_files.write_json(folder / NAME, {"format": FORMAT, "files": entries})


def refuse_run_folder(folder: Path) -> None:
    """Raise ArtefactError with the right path if `folder` is a run folder, which holds the model folder."""
    if (folder / "model" / NAME).is_file():
        raise ArtefactError(f"{folder}: is a run folder, not a model folder; the model is in {folder / 'model'}")


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the entries of the manifest: relative path → {sha256, size}.

    Raises ArtefactError if there is no manifest, or if this version cannot read it.
    """
    try:
        content = strict_json.read(folder / NAME)
    except FileNotFoundError:
        refuse_run_folder(folder)
        raise ArtefactError(
            f"{folder}: has no {NAME}, so its files cannot be checked; download the model again or save it with zoo"
        ) from None
    except (ValueError, RecursionError, OSError) as error:
        raise ArtefactError(f"{folder / NAME}: cannot be read: {str(error)[:120]}; download the model again") from None
    manifest_format = content.get("format") if isinstance(content, dict) else None
    entries = content.get("files") if isinstance(content, dict) else None
    if type(manifest_format) is not int or manifest_format != FORMAT or not isinstance(entries, dict):
        raise ArtefactError(
            f"{folder / NAME}: this version cannot read format {manifest_format!r}, only format {FORMAT}; "
            "update embedding-zoo"
        )
    for path, entry in entries.items():
        if not isinstance(entry, dict) or entry.keys() != {"sha256", "size"}:
            raise ArtefactError(
                f"{folder / NAME}: {path}: an entry must have `sha256` and `size` and nothing else; "
                "download the model again"
            )
    return entries


def find_problems(folder: Path) -> dict[str, str]:
    """Compare the files in `folder` with its manifest.

    Returns a relative path → what is wrong with it: the file is missing, extra, has another size or another sha256, or the
    path leaves the folder. Raises ArtefactError if the manifest cannot be read.
    """
    entries, problems = read(folder), {}
    present_files = set(_list_files(folder))
    for path in sorted(present_files - {*entries, *EDITABLE}):
        problems[path] = "extra: the manifest does not list it"
    for path, entry in entries.items():
        if allowed_files.leaves_folder(path):
            problems[path] = "its path leaves the folder"
        elif path not in present_files:
            problems[path] = "missing"
        elif path in EDITABLE:
            continue
        elif (folder / path).stat().st_size != entry["size"]:
            problems[path] = f"has {(folder / path).stat().st_size} bytes, not {entry['size']}"
        elif atomic_files.sha256(folder / path) != entry["sha256"]:
            problems[path] = "its sha256 is not the manifest's: the file was altered or damaged"
    return problems


def verify(folder: Path) -> None:
    """Raise ArtefactError if a file in `folder` is missing, extra or altered. The message names up to three files."""
    problems = find_problems(folder)
    if problems:
        listed = "; ".join(f"{path}: {problem}" for path, problem in list(problems.items())[:3])
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise ArtefactError(f"{folder}: {listed}{more}")


def _list_files(folder: Path) -> list[str]:
    """List the relative paths of all files, without the manifest and without what is IGNORED."""
    paths = []
    for parent, subfolders, names in os.walk(folder):
        subfolders[:] = [name for name in subfolders if name not in IGNORED]  # os.walk enters only what stays
        relative = Path(parent).relative_to(folder)
        paths += [(relative / name).as_posix() for name in names if name not in IGNORED]
    return sorted(path for path in paths if path != NAME)

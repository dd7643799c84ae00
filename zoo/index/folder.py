"""The folder of an index, and how it changes: new files first, then one rename of manifest.json.

    manifest.json             the shards, the removed rows, and sha256 and size of every file that belongs to the index
    model.json                the encoder: reference, commit, sha256 of weights, view, prompts, code; and the columns
    shard-00001.rows.parquet  ids, texts and columns of up to a million rows
    shard-00001.vectors.npy   their vectors, or `.codes.npy`, or `.faiss`
    shard-00001.places.npy    which characters of which row each vector stands for, if long texts are cut into windows
    shard-00001.words.parquet its words, with .postings.npy and .lengths.npy, see `zoo.index.words`
    removed-00002.npy         numbers of the rows that were removed
    hybrid-00003.safetensors  the map of hybrid searches, if one was fitted

A file is never changed. A change of the index writes new files under new names, flushes them to disk, and renames a new manifest
over the old one. A process that is killed before the rename leaves the old index, and files that no manifest lists; the next
change deletes those.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from zoo.core import atomic_files, paths, strict_json
from zoo.core.errors import ArtefactError, ZooError

MANIFEST = "manifest.json"
LOCK = ".lock"
FORMAT = 1
KIND = "zoo index"
MODEL = "model.json"
OWN_NAME = re.compile(
    rf"(shard|removed|model|trained|hybrid|work)-[0-9]{{5}}[.-].*|{re.escape(MODEL)}|{re.escape(atomic_files.TEMPORARY)}.*"
)
"""Names that only this module gives."""
HUB_MARKS = (".cache/huggingface", ".gitattributes")


@dataclass(frozen=True)
class ShardEntry:
    """A shard in the manifest: its name, and how many rows and vectors it has."""

    name: str
    rows: int
    vectors: int


@dataclass(frozen=True)
class Manifest:
    """The content of manifest.json.

    Attributes:
        generation: counts the changes of the index; new files carry it in their names.
        shards: in the order of their rows.
        next_number: the id of the next row that comes without an id.
        files: name → {sha256, size} of every file of the index.
        parts: the role of a file that is not of a shard → its name: model, removed, trained, hybrid.
        facts: figures about the index: recall, drift.
    """

    generation: int = 0
    shards: tuple[ShardEntry, ...] = ()
    next_number: int = 0
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def list_shard_files(self, name: str) -> list[str]:
        """Return the files of a shard."""
        return [file for file in self.files if file.startswith(f"{name}.")]


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of an index. Raise ArtefactError for a folder that is not an index, or is from the Hub."""
    _refuse_hub(folder)
    path = folder / MANIFEST
    if not path.is_file():
        unfinished = " its build was interrupted: run it again" if (folder / LOCK).exists() else ""
        raise ArtefactError(
            f"{folder}: is not an index, because it has no {MANIFEST};{unfinished or ' check the path'}"
        )
    try:
        content = strict_json.read(path)
        if not isinstance(content, dict) or content.get("kind") != KIND:
            raise ArtefactError(f"{folder}: is not an index: {MANIFEST} is of another kind; check the path")
        if content["format"] != FORMAT:
            raise ArtefactError(
                f"{folder}: format {content['format']!r} is not known to this version; update embedding-zoo"
            )
        shards = tuple(ShardEntry(str(e["name"]), int(e["rows"]), int(e["vectors"])) for e in content["shards"])
        parts = {str(role): str(name) for role, name in content["parts"].items()}
        manifest = Manifest(
            int(content["generation"]), shards, int(content["next_number"]), content["files"], parts, content["facts"]
        )
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise ArtefactError(f"{path}: cannot be read ({str(error)[:80]}); build the index again") from None
    for name in (*manifest.files, *parts.values()):
        if Path(name).name != name or name.startswith("."):
            raise ArtefactError(f"{path}: {name[:80]!r} is not a file of the folder; do not open this index")
    return manifest


def _refuse_hub(folder: Path) -> None:
    """Raise ArtefactError for a folder that a client of the Hub downloaded: faiss's reader is not made for hostile files."""
    if not paths.is_folder(folder):
        raise ArtefactError(
            f"{folder}: there is no such folder; an index is not read from the Hub either, build it from its rows"
        )
    resolved, cache = folder.resolve(), _find_hub_cache()
    if any((folder / mark).exists() for mark in HUB_MARKS) or (cache and resolved.is_relative_to(cache)):
        raise ArtefactError(f"{folder}: an index from the Hub is never read; build it from its rows with `zoo index`")


def _find_hub_cache() -> Path | None:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).resolve() if constants.HF_HUB_CACHE else None


def check_file(folder: Path, manifest: Manifest, name: str) -> Path:
    """Return the path of a file of the index. Raise ArtefactError unless its size and sha256 are the manifest's."""
    entry, path = manifest.files.get(name), folder / name
    if entry is None:
        raise ArtefactError(f"{path}: the manifest does not list it; build the index again")
    if not path.is_file() or path.stat().st_size != entry.get("size"):
        raise ArtefactError(f"{path}: is missing or was cut short; build the index again")
    if atomic_files.sha256(path) != entry.get("sha256"):
        raise ArtefactError(
            f"{path}: its sha256 is not the manifest's: it was altered or damaged; build the index again"
        )
    return path


class Change:
    """One change of an index. `name` gives names of new files, and `commit` makes them the index."""

    def __init__(self, folder: Path, before: Manifest) -> None:
        self.folder, self.before = folder, before
        self.generation = before.generation + 1
        self._shard_count = 0

    def name_file(self, role: str, ending: str) -> str:
        """Return the name of a new file that belongs to no shard, for example removed-00002.npy."""
        return f"{role}-{self.generation:05}{ending}"

    def name_shard(self) -> str:
        """Return the name of the next new shard."""
        self._shard_count += 1
        return f"shard-{self.generation:05}-{self._shard_count:03}"

    def commit(self, after: Manifest, new_files: Sequence[str]) -> Manifest:
        """Write the manifest of the changed index, and delete the files that it does not list.

        Args:
            after: the index after the change. Its `files` may still list files that no shard and no part uses.
            new_files: names of files that this change wrote.
        """
        files = dict(after.files)
        for name in new_files:
            path = self.folder / name
            flush(path)
            files[name] = {"sha256": atomic_files.sha256(path), "size": path.stat().st_size}
        used = {*after.parts.values()}
        used |= {name for name in files if any(name.startswith(f"{shard.name}.") for shard in after.shards)}
        final = replace(after, generation=self.generation, files={name: files[name] for name in sorted(used)})
        flush(self.folder)
        atomic_files.write_json(self.folder / MANIFEST, _to_json(final))
        remove_unlisted(self.folder, final)
        return final


def _to_json(manifest: Manifest) -> dict[str, Any]:
    return {
        "kind": KIND,
        "format": FORMAT,
        "generation": manifest.generation,
        "next_number": manifest.next_number,
        "shards": [vars(shard) for shard in manifest.shards],
        "parts": dict(manifest.parts),
        "facts": dict(manifest.facts),
        "files": dict(manifest.files),
    }


def flush(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_unlisted(folder: Path, manifest: Manifest) -> None:
    """Delete the files of earlier changes, finished or killed. Other files of the folder stay."""
    for path in folder.iterdir():
        if OWN_NAME.fullmatch(path.name) and path.name not in manifest.files and path.is_file():
            path.unlink(missing_ok=True)


@contextmanager
def change(folder: Path, *, create: bool = False, replaces: bool = False) -> Iterator[Change]:
    """Lock the folder for one change. Files that the block leaves without a commit are deleted.

    Args:
        create: build an index. Raise ZooError for a folder with an index, unless `replaces`, and for one with other files.

    Raise ZooError if another process is changing the index.
    """
    if create:
        require_free(folder, replaces)
        folder.mkdir(parents=True, exist_ok=True)
    else:
        read_manifest(folder)
    try:
        with FileLock(folder / LOCK, timeout=0):
            before = read_manifest(folder) if (folder / MANIFEST).is_file() else Manifest()
            remove_unlisted(folder, before)
            try:
                yield Change(folder, before)
            finally:
                after = read_manifest(folder) if (folder / MANIFEST).is_file() else Manifest()
                remove_unlisted(folder, after)
    except Timeout:
        raise ZooError(f"{folder}: another process is changing this index; wait until it is done") from None


def require_free(folder: Path, replaces: bool) -> None:
    """Raise ZooError unless an index can be built in a folder: a new or empty one, or an index that may be replaced."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ZooError(f"{folder}: is a file; name a folder for the index")
    names = [path.name for path in folder.iterdir()]
    if MANIFEST in names:
        read_manifest(folder)  # never replace a folder that holds something else
        if not replaces:
            raise ZooError(f"{folder}: holds an index; add rows with --add, or build it anew with --replace")
        return
    others = [name for name in names if name != LOCK and not OWN_NAME.fullmatch(name)]
    if others or (names and LOCK not in names):
        raise ZooError(f"{folder}: is not empty ({(others or names)[0]}); name a new folder for the index")

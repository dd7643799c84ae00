"""Exported graphs of models that are in use, each in a folder that `zoo.runtime` opens after it has checked every sha256.

The folder may be deleted at any time. A graph that is missing, damaged or of another version is made again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock

from zoo.core import atomic_files, faults, paths
from zoo.core.errors import ZooError
from zoo.core.output import say
from zoo.runtime import PackError, open_model
from zoo.runtime.model import Model

VARIABLE = "ZOO_CACHE"
"""The environment variable that names another folder than ~/.cache/embedding-zoo."""
FORMAT = 5  # it changes when graphs are written in another way
PACKAGES = ("embedding-zoo", "torch", "onnx", "onnxruntime", "openvino", "nncf")
"""Packages whose versions change a graph or its speed."""


def find_folder() -> Path:
    """Return the folder of the cache, which may not exist yet."""
    named = os.environ.get(VARIABLE)
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return paths.expand_user(named or Path(base) / "embedding-zoo") / "engines"


def list_versions() -> dict[str, str]:
    """Return the versions of the packages that are installed."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def make_key(facts: Mapping[str, Any]) -> str:
    """Return the name of the entry for these facts and these versions."""
    return atomic_files.digest({"format": FORMAT, "versions": list_versions(), **facts})[:32]


@contextmanager
def hold(key: str) -> Iterator[None]:
    """Let one process and one thread at a time make the entry of a key. There is no lock in a cache that cannot be written."""
    path = find_folder() / "locks" / f"{key}.lock"
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError:
        yield
        return
    try:
        yield
    finally:
        lock.release()


def open_graph(key: str, make: Callable[[Path], None], *, threads: int, precision: str) -> Model:
    """Open the graph of a key, after its sha256 was checked. `make` writes its folder if there is no sound one.

    Raises ZooError for a folder that cannot be written, and as `make` does.
    """
    folder = find_folder() / "graphs" / key
    with hold(key):
        if folder.is_dir():
            try:
                return open_model(folder, threads=threads, precision=precision)
            except PackError as error:
                say(f"the graph in the cache is not used, and is made again: {error}")
                shutil.rmtree(folder, ignore_errors=True)
        try:
            make(folder)
            return open_model(folder, threads=threads, precision=precision)
        except OSError as error:
            raise ZooError(f"{faults.describe_os_error(error)}; or set {VARIABLE} to another folder") from error
        except PackError as error:
            raise ZooError(f"the graph that was made cannot be opened: {error}") from error


def read_entry(key: str) -> dict[str, Any] | None:
    """Read the small entry of a key; None if there is none that can be read."""
    try:
        return atomic_files.read_json_object(_name_entry(key))
    except (OSError, ValueError):
        return None


def write_entry(key: str, content: Mapping[str, Any]) -> None:
    """Write the small entry of a key. A cache that cannot be written only costs time later, so the failure is said."""
    try:
        atomic_files.write_json(_name_entry(key), dict(content))
    except OSError:
        say(f"{find_folder()}: cannot be written, so nothing is kept: set {VARIABLE} to a folder that can")


def _name_entry(key: str) -> Path:
    return find_folder() / "choices" / f"{key}.json"

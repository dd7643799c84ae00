"""The file of a bridge: one safetensors file. Its metadata holds JSON about encoders and figures, and a sha256 of the arrays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.artefact import headers
from zoo.core import atomic_files
from zoo.core.errors import ArtefactError, ZooError

FORMAT = 1
KEY = "zoo_bridge"
ADVICE = "fit it again with `zoo bridge`"
Arrays = dict[str, npt.NDArray[Any]]


def write(path: Path, arrays: Arrays, description: Mapping[str, Any]) -> Path:
    """Write arrays and a JSON-able description, and return the path.

    A file that exists there is replaced only when the new one is complete.
    """
    from safetensors.numpy import save_file

    text = json.dumps(
        {"format": FORMAT, "sha256": compute_digest(arrays), **description}, ensure_ascii=False, allow_nan=False
    )
    with atomic_files.replace_file(path) as partial:
        save_file(arrays, partial, metadata={KEY: text})
    return path


def read(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """Return arrays and description. Raise ArtefactError for a file that is damaged, altered, or not a bridge."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ZooError(f"{path}: there is no such file; give one that `zoo bridge` wrote")
    headers.read_entries(path)
    try:
        with safe_open(path, framework="np") as file:
            text = (file.metadata() or {}).get(KEY)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
        description = json.loads(text) if text is not None else None
    except (OSError, SafetensorError, ValueError, RecursionError, TypeError) as error:
        raise ArtefactError(f"{path}: is not a bridge ({type(error).__name__}); {ADVICE}") from None
    if not isinstance(description, dict):
        raise ArtefactError(f"{path}: is a safetensors file, but not a bridge; {ADVICE}")
    if description.get("format") != FORMAT:
        shown = str(description.get("format"))[:20]
        raise ArtefactError(f"{path}: has the format {shown}, and this version reads {FORMAT}; update embedding-zoo")
    if description.get("sha256") != compute_digest(arrays):
        raise ArtefactError(f"{path}: its arrays are not those that were saved; {ADVICE}")
    return arrays, description


def compute_digest(arrays: Arrays) -> str:
    """Return the sha256 of all arrays with their names and shapes."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()

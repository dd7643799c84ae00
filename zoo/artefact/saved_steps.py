"""The files of steps after training: what was fitted as safetensors, and everything else as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from zoo.artefact import headers
from zoo.core import atomic_files
from zoo.core.errors import ArtefactError

FOLDER = "after"
"""The folder inside a model folder that holds the tensors of its steps."""
BLOCK = "after"
"""The entry of the `zoo` section of config.json that describes the steps."""
Arrays = dict[str, npt.NDArray[Any]]


class SavableStep(Protocol):
    """The members of a step that are saved. `zoo.after.step.Step` describes each of them."""

    @property
    def spec(self) -> Any: ...

    @property
    def dim(self) -> int: ...

    def tensors(self) -> Arrays: ...

    def state(self) -> dict[str, Any]: ...

    def card_facts(self) -> dict[str, Any]: ...


def name_file(number: int, name: str) -> str:
    """Return the path below a model folder of the tensors of the step `name`, the one at place `number`."""
    return f"{FOLDER}/{number}-{name}.safetensors"


def describe(step: SavableStep) -> dict[str, Any]:
    """Return everything about a step besides its tensors, as JSON can hold it."""
    return {
        "step": step.spec.step,
        "spec": step.spec.model_dump(mode="json"),
        "dim": step.dim,
        "state": step.state(),
        "facts": step.card_facts(),
    }


def write_tensors(step: SavableStep, path: Path) -> None:
    """Write the tensors of a step. Raise ArtefactError for a value that is not finite, which no folder may hold."""
    from safetensors.numpy import save_file

    arrays = {name: np.ascontiguousarray(array) for name, array in step.tensors().items()}
    _check_finite(path, arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(arrays, path)


def write(steps: Sequence[SavableStep], folder: Path) -> list[dict[str, Any]]:
    """Write the tensors of all steps into a model folder, and return what config.json says about them."""
    for number, step in enumerate(steps):
        write_tensors(step, folder / name_file(number, step.spec.step))
    return [describe(step) for step in steps]


def add(steps: Sequence[SavableStep], folder: Path) -> None:
    """Add steps to a model folder that was saved without any. The caller writes its manifest again."""
    if steps:
        config = atomic_files.read_json(folder / "config.json")
        config["zoo"][BLOCK] = write(steps, folder)
        atomic_files.write_json(folder / "config.json", config)


def read_tensors(path: Path) -> Arrays:
    """Read the tensors of a step. Raise ArtefactError for a damaged file, and for a value that is not finite."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not path.is_file():
        raise ArtefactError(f"{path}: is missing; download the model again, or fit the step again")
    headers.read_entries(path)
    try:
        arrays = dict(load_file(path))
    except (OSError, SafetensorError, KeyError) as error:
        raise ArtefactError(f"{path}: cannot be read: {str(error)[:120]}; download the model again") from None
    _check_finite(path, arrays)
    return arrays


def check_files(folder: Path, names: Sequence[str]) -> None:
    """Raise ArtefactError unless the folder of the steps holds exactly the tensors of these steps."""
    expected = {name_file(number, name) for number, name in enumerate(names)}
    present = {path.relative_to(folder).as_posix() for path in (folder / FOLDER).rglob("*") if path.is_file()}
    for name in sorted(present - expected):
        raise ArtefactError(f"{folder / name}: no step of config.json has this file; download the model again")


def _check_finite(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ArtefactError(f"{path}: the tensor {name} is not finite; fit the step again")

"""Saves fitted steps and opens them: in a folder of their own, and in the model folder of their encoder.

A folder of its own holds `step.json`, `tensors.safetensors` and a manifest with their sha256.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from zoo import after
from zoo.after.step import CodeStep, Step
from zoo.artefact import manifest, preflight, saved_steps
from zoo.core import atomic_files, faults
from zoo.core.errors import ArtefactError, ZooError

FORMAT = 1
MAX_STEPS = 16
DESCRIPTION, TENSORS = "step.json", "tensors.safetensors"


def save_step(step: Step, folder: Path, source: Mapping[str, Any] | None = None) -> Path:
    """Write a step as a folder of its own, which `open_step` opens, and return the folder.

    The folder appears only when it is complete, and a folder that exists there is replaced. `source` says which vectors the step
    was fitted on; `read_source` returns it. Raise ArtefactError if the step does not open again as it is.
    """
    with atomic_files.replace_folder(folder) as partial:
        saved_steps.write_tensors(step, partial / TENSORS)
        description = {"format": FORMAT, **saved_steps.describe(step), "source": dict(source or {})}
        atomic_files.write_json(partial / DESCRIPTION, description)
        manifest.write(partial)
        _check_reopened(step, open_step(partial))
    return folder


def open_step(folder: str | Path) -> Step:
    """Open the folder of a step. Raise ArtefactError for altered files, and for tensors that do not fit the step."""
    path = Path(folder)
    return _open(path / DESCRIPTION, _read_description(path), path / TENSORS)


def read_source(folder: str | Path) -> dict[str, Any]:
    """Return which vectors the step of a folder was fitted on, as `save_step` got it.

    Its entry `unit` says whether they got unit norm first. Raise ArtefactError for altered files.
    """
    source = _read_description(Path(folder)).get("source")
    return source if isinstance(source, dict) else {}


def _read_description(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise ZooError(f"{path}: there is no such folder; give one that `zoo fit` wrote")
    preflight.check_sizes(path)
    preflight.check_links(path)
    manifest.verify(path)
    description = preflight.read_json(path / DESCRIPTION) if (path / DESCRIPTION).is_file() else None
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise ArtefactError(
            f"{path}: holds no {DESCRIPTION} of format {FORMAT}; fit the step again, or update embedding-zoo"
        )
    return description


def open_steps(folder: Path, block: Mapping[str, Any], dim: int) -> tuple[Step, ...]:
    """Open the steps of a model folder, whose manifest was verified.

    Args:
        folder: the model folder.
        block: the `zoo` section of its config.json.
        dim: components of the encoder's vectors, which the steps must take.

    Raises ArtefactError for steps that are unknown here, and for tensors that are missing, extra, mis-shaped or not finite.
    """
    entries = block.get(saved_steps.BLOCK, [])
    place = folder / "config.json"
    if (
        not isinstance(entries, list)
        or len(entries) > MAX_STEPS
        or not all(isinstance(entry, dict) for entry in entries)
    ):
        raise ArtefactError(f"{place}: `{saved_steps.BLOCK}` is not a list of steps; download the model again")
    for entry in entries:
        _check_name(place, entry)
    names = [entry["step"] for entry in entries]
    saved_steps.check_files(folder, names)
    steps: list[Step] = []
    for number, entry in enumerate(entries):
        step = _open(place, entry, folder / saved_steps.name_file(number, entry["step"]))
        if step.dim != dim:
            raise ArtefactError(f"{place}: the step {entry['step']} takes vectors of {step.dim} components, not {dim}")
        dim = step.decoded_dim if isinstance(step, CodeStep) else dim
        steps.append(step)
    return tuple(steps)


def _check_name(place: Path, entry: Mapping[str, Any]) -> None:
    name = entry.get("step")
    if name not in after.names():
        shown = name if isinstance(name, str) and re.fullmatch(r"[\w-]{1,40}", name) else "…"
        raise ArtefactError(f"{place}: the step {shown!r} is not known to this version; update embedding-zoo")


def _open(place: Path, entry: Mapping[str, Any], path: Path) -> Step:
    _check_name(place, entry)
    name, state = entry["step"], entry.get("state", {})
    try:
        spec = after.load_spec(name).model_validate(entry.get("spec"))
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        raise ArtefactError(
            f"{place}: the fields of the step {name} do not fit it: {message}; update embedding-zoo"
        ) from None
    if not isinstance(state, dict):
        raise ArtefactError(f"{place}: the state of the step {name} is not an object; fit it again")
    try:
        step = after.load_step(name).from_saved(spec, saved_steps.read_tensors(path), state)
    except ZooError:
        raise
    except Exception as error:  # a step reads what strangers wrote: whatever else goes wrong is the folder's fault
        faults.refuse_full_memory(error, path)
        first = (str(error).strip().splitlines() or [""])[0]
        raise ArtefactError(f"{path}: cannot be opened: {type(error).__name__}: {first[:120]}") from error
    if entry.get("dim") != step.dim:
        raise ArtefactError(
            f"{place}: the step {name} has {step.dim} components, not {str(entry.get('dim'))[:20]}; fit it again"
        )
    return step


def _check_reopened(step: Step, opened: Step) -> None:
    """Raise ArtefactError unless a step that was opened again has the same tensors and the same state."""
    import numpy as np

    before, now = step.tensors(), opened.tensors()
    same = before.keys() == now.keys() and all(np.array_equal(before[name], now[name]) for name in before)
    if not same or step.state() != opened.state():
        raise ArtefactError(f"the step {step.spec.step} opens as another step than was fitted; nothing was saved")

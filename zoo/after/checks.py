"""Checks that every step makes: of vectors and codes that a caller gives, and of tensors that a folder holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.after.material import Vectors
from zoo.core.errors import ArtefactError, ZooError

Shape = tuple[int, ...]


def check_vectors(vectors: Any, dim: int | None = None, name: str = "vectors") -> Vectors:
    """Return vectors (n, dim) as float32. Raise ZooError for another shape, for codes, and for NaN and infinity."""
    rows = np.asarray(vectors)
    if rows.dtype.kind != "f":
        raise ZooError(f"{name}: are {rows.dtype}, and a step takes float vectors: give what `encode` returns")
    if rows.ndim != 2 or (dim is not None and rows.shape[1] != dim):
        width = "d" if dim is None else dim
        raise ZooError(f"{name}: have the shape {rows.shape}, not (n, {width}): give the vectors of one encoder")
    if not np.isfinite(rows).all():
        row = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        raise ZooError(f"{name}: row {row} is not finite: encode it again, or leave it out")
    return rows.astype(np.float32, copy=False)


def check_documents(vectors: Any, least: int = 1) -> Vectors:
    """Return the documents of a fit as float32 (n, d). Raise ZooError if there are fewer than `least`."""
    rows = check_vectors(vectors, name="documents")
    if len(rows) < least or not rows.shape[1]:
        raise ZooError(f"documents: {len(rows)} vectors of {rows.shape[1]} components are too few to fit a step on")
    return rows


def check_codes(codes: Any, width: int) -> npt.NDArray[np.uint8]:
    """Return packed codes (n, width) uint8. Raise ZooError for another shape or dtype."""
    rows = np.asarray(codes)
    if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != width:
        raise ZooError(
            f"codes: are {rows.dtype} of the shape {rows.shape}, not uint8 of the shape (n, {width}): give codes of this step"
        )
    return rows


def check_tensors(
    step: str, tensors: Mapping[str, npt.NDArray[Any]], expected: Mapping[str, tuple[Shape, Any]]
) -> dict[str, npt.NDArray[Any]]:
    """Return the tensors of a step. Raise ArtefactError unless their names, shapes and dtypes are those of `expected`.

    Args:
        step: the name of the step, for the message.
        tensors: the arrays that a folder holds.
        expected: shape and dtype of each tensor.
    """
    problems = [f"missing tensor {name}" for name in sorted(expected.keys() - tensors.keys())]
    problems += [f"extra tensor {name[:60]}" for name in sorted(tensors.keys() - expected.keys())]
    for name in sorted(expected.keys() & tensors.keys()):
        shape, dtype = expected[name]
        actual = tensors[name]
        if actual.shape != shape or actual.dtype != np.dtype(dtype):
            problems.append(f"tensor {name} is {actual.dtype} {actual.shape}, not {np.dtype(dtype)} {shape}")
    if problems:
        raise ArtefactError(f"the step {step} does not fit its tensors: {'; '.join(problems[:4])}; fit it again")
    return dict(tensors)


def find_dim(step: str, tensors: Mapping[str, npt.NDArray[Any]], name: str) -> int:
    """Return the length of the tensor `name` (d,) of a step. Raise ArtefactError if it is missing or not of that form."""
    tensor = tensors.get(name)
    if tensor is None or tensor.ndim != 1 or not len(tensor):
        raise ArtefactError(f"the step {step} has no tensor {name} (d,); fit it again")
    return len(tensor)

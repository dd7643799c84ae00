"""Vectors of the rows of a table, as figures of a space take them: float, bits as -1 and 1, norm 1 if cosines compare them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zoo.core.errors import ZooError
from zoo.data.split import draw_positions
from zoo.fitted_steps import prepare_vectors

if TYPE_CHECKING:
    from datasets import Dataset

    from zoo.encoder import Encoder
    from zoo.spec import EncoderSpec

READ_KINDS = ("text", "image", "vector", "caption")
"""Kinds of columns that an encoder reads alone."""


def choose_inputs(spec: EncoderSpec, rows: Any, most: int) -> list[Any]:
    """Return different inputs of one column of training rows that the encoder reads alone, at most `most`. [] without one."""
    required, optional = spec.roles()
    roles = {**required, **optional}
    column = next((name for name in rows.column_names if roles.get(name) in READ_KINDS), None)
    if column is None:
        return []
    sample = rows.select(draw_positions(len(rows), min(len(rows), most)))[column]
    values = [value for value in sample if value is not None and not (isinstance(value, str) and not value.strip())]
    return list(dict.fromkeys(values)) if values and isinstance(values[0], str) else values


def list_depths(encoder: Encoder) -> list[dict[str, Any]]:
    """Return the options of the view of each depth, from one layer up to those of the encoder. [] if it cannot be cut there."""
    depth = getattr(encoder, "layers", None)
    if "layers" not in encoder.spec.View.model_fields or not isinstance(depth, int) or depth < 2:
        return []
    return [{**encoder.view_options, "layers": number} for number in range(1, depth + 1)]


def list_widths(encoder: Encoder) -> list[dict[str, Any]]:
    """Return the options of the view of each width that was trained and is smaller than that of the encoder. [] without any."""
    dims = getattr(encoder.spec, "dims", ())
    if "dim" not in encoder.spec.View.model_fields:
        return []
    return [{**encoder.view_options, "dim": width} for width in sorted(dims) if width < encoder.dim]


def find_column(encoder: Encoder, rows: Dataset) -> str:
    """Return the first column of the rows that the encoder reads. Raises ZooError if there is none."""
    column = next((modality for modality in encoder.modalities if modality in rows.column_names), None)
    if column is None:
        raise ZooError(
            f"{encoder.name} reads {' or '.join(encoder.modalities)}, which the rows do not hold: they have the columns "
            f"{', '.join(rows.column_names)}; name the column in `columns:`"
        )
    return column


def encode_rows(encoder: Encoder, rows: Dataset) -> npt.NDArray[np.float32]:
    """Return the vectors (n, d) of all rows, in order. Raises ZooError if no column holds inputs of the encoder."""
    return encode_inputs(encoder, list(rows[find_column(encoder, rows)]))


def encode_inputs(encoder: Encoder, inputs: list[Any], *, prompt_name: str | None = None) -> npt.NDArray[np.float32]:
    """Return the vectors (n, d) of the inputs, in order: with norm 1 if the encoder compares by cosine, else as they are."""
    vectors = encoder.encode(inputs) if prompt_name is None else encoder.encode(inputs, prompt_name=prompt_name)
    return prepare_vectors(as_float_vectors(encoder, vectors), encoder.similarity_fn_name)


def as_float_vectors(encoder: Encoder, vectors: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return vectors as float32. Bits of codes become -1 and 1, so that cosines order them as Hamming distances do."""
    floats = encoder.as_float_vectors(vectors)
    if floats.dtype.kind != "f":
        floats = 2.0 * np.unpackbits(floats, axis=1, count=encoder.dim) - 1.0
    return np.ascontiguousarray(floats, dtype="<f4")

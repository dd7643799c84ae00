"""The task `infomec`: measure how well each dimension of an encoder's vectors stands for one source. Labels name the sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zoo.data.split import draw_positions
from zoo.metrics import disentanglement
from zoo.metrics.encoded_rows import find_column

if TYPE_CHECKING:
    from datasets import Dataset

    from zoo.encoder import Encoder

Array = npt.NDArray[Any]

MAX_ROWS = 10_000
"""The measures are estimated from at most so many rows."""


def measure(
    encoder: Encoder, tables: Mapping[str, Dataset], sources: Sequence[str]
) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the measures by name, InfoM first, and the details that a picture of the NMI needs.

    `tables["data"]` holds the rows and `sources` the columns of their sources. Raise ZooError if no column of the rows has a
    modality that the encoder reads.
    """
    rows = tables["data"]
    if len(rows) > MAX_ROWS:
        rows = rows.select(draw_positions(len(rows), MAX_ROWS))
    latents, discrete = as_latents(encoder, encoder.encode(list(rows[find_column(encoder, rows)])))
    labels = np.stack([np.unique(np.asarray(rows[name]), return_inverse=True)[1].ravel() for name in sources], axis=1)
    figures, result = disentanglement.compute_figures(labels, latents, discrete)
    return figures, disentanglement.summarise(result, list(sources))


def as_latents(encoder: Encoder, vectors: Array) -> tuple[Array, bool]:
    """Return vectors as latents (n, n_z), and whether the latents are discrete. A packed bit is a latent of two values."""
    if encoder.similarity_fn_name == "hamming":
        return np.unpackbits(vectors, axis=1, count=encoder.dim), True
    return vectors, vectors.dtype.kind in "iu"

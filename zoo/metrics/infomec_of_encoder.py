"""The task `infomec`: how far the dimensions of any encoder's vectors mean one of the sources that the rows' labels tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.core.errors import ZooError
from zoo.data.split import draw_positions
from zoo.metrics import disentanglement

if TYPE_CHECKING:
    from datasets import Dataset

    from zoo.encoder import Encoder

ROWS = 10_000  # samples that it is estimated from


def measure(
    encoder: Encoder, tables: Mapping[str, Dataset], sources: Sequence[str]
) -> tuple[dict[str, float], dict[str, Any]]:
    """InfoM (first, as the main one) and the other measures of the rows of `data`, at most ROWS of them; and what a picture of
    the NMI needs. Raises ZooError for an encoder that reads none of their columns."""
    rows = tables["data"]
    rows = rows.select(draw_positions(len(rows), ROWS)) if len(rows) > ROWS else rows
    held = [modality for modality in encoder.modalities if modality in rows.column_names]
    if not held:
        raise ZooError(f"{encoder.name} reads {' or '.join(encoder.modalities)}, which the rows do not hold")
    latents, discrete = as_latents(encoder, encoder.encode(list(rows[held[0]])))
    labels = np.stack([np.unique(np.asarray(rows[name]), return_inverse=True)[1].ravel() for name in sources], axis=1)
    figures, found = disentanglement.compute_figures(labels, latents, discrete)
    return figures, disentanglement.summarise(found, list(sources))


def as_latents(encoder: Encoder, vectors: np.ndarray) -> tuple[np.ndarray, bool]:
    """Vectors as (n, n_z), and whether they are indices: packed bits are a latent of two values each."""
    if encoder.similarity == "hamming":
        return np.unpackbits(vectors, axis=1, count=encoder.dim), True
    return vectors, vectors.dtype.kind in "iu"

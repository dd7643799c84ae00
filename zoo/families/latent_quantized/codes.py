"""What is done with codes beyond making them: they are traversed, and compared."""

from __future__ import annotations

from typing import Any

import numpy as np

from zoo.families.latent_quantized import quantizers


def traversed(between: Any, code: np.ndarray, latent: int, steps: int, low: float, high: float) -> np.ndarray:
    """One code (n_latents,) with `latent` at each of its values in ascending order; of latents without indices, at `steps` even
    ones from `low` to `high`."""
    sizes = getattr(between, "sizes", None)
    if sizes is None:
        out = np.repeat(code[None], steps, axis=0)
        out[:, latent] = np.linspace(low, high, steps)
        return out
    out = np.repeat(code[None].astype(np.int64), sizes[latent], axis=0)
    out[:, latent] = (
        _ascending(between, latent) if isinstance(between, quantizers.ScalarQuantizer) else np.arange(sizes[latent])
    )
    return out


def as_float_vectors(between: Any, codes: np.ndarray) -> np.ndarray:
    """Codes (n, n_latents) as float32 of -1 and 1, whose cosine falls with the steps between two codes of scalars, and with the
    number of latents at which two codes of vectors differ."""
    steps, parts = isinstance(between, quantizers.ScalarQuantizer), []
    for j, (size, column) in enumerate(zip(between.sizes, codes.T, strict=True)):
        if steps:
            rank = np.argsort(_ascending(between, j))[column]
            parts.append(rank[:, None] > np.arange(size - 1))
        else:
            parts.append(column[:, None] == np.arange(size))
    return np.concatenate(parts, axis=1).astype(np.float32) * 2 - 1


def _ascending(between: quantizers.ScalarQuantizer, latent: int) -> np.ndarray:
    return between.values[latent].detach().cpu().numpy().argsort(kind="stable")

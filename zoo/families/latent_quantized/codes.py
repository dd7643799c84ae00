"""Operations on codes: traversals of one latent, and float vectors for comparisons."""

from __future__ import annotations

import numpy as np

from zoo.families.latent_quantized import quantizers


def traverse_code(
    bottleneck: quantizers.Bottleneck, code: np.ndarray, latent: int, steps: int, low: float, high: float
) -> np.ndarray:
    """Copies of one code (latents,) in which `latent` takes each of its values in ascending order: (values, latents).

    A latent without indices takes `steps` evenly spaced values from `low` to `high` instead.
    """
    if not isinstance(bottleneck, quantizers.Quantizer):
        values = np.repeat(code[None], steps, axis=0)
        values[:, latent] = np.linspace(low, high, steps)
        return values
    size = bottleneck.sizes[latent]
    codes = np.repeat(code[None].astype(np.int64), size, axis=0)
    if isinstance(bottleneck, quantizers.ScalarQuantizer):
        codes[:, latent] = _sort_scalars(bottleneck, latent)
    else:
        codes[:, latent] = np.arange(size)
    return codes


def as_float_vectors(quantizer: quantizers.Quantizer, codes: np.ndarray) -> np.ndarray:
    """Codes (n, latents) as float32 vectors of -1 and 1, so that their cosine measures the distance of two codes.

    With scalars, the cosine falls with the number of steps between two codes. With codewords, it falls with the number of
    latents in which two codes differ.
    """
    columns = []
    for latent, (size, indices) in enumerate(zip(quantizer.sizes, codes.T, strict=True)):
        if isinstance(quantizer, quantizers.ScalarQuantizer):
            rank = np.argsort(_sort_scalars(quantizer, latent))[indices]
            columns.append(rank[:, None] > np.arange(size - 1))
        else:
            columns.append(indices[:, None] == np.arange(size))
    return np.concatenate(columns, axis=1).astype(np.float32) * 2 - 1


def _sort_scalars(quantizer: quantizers.ScalarQuantizer, latent: int) -> np.ndarray:
    """Indices of the latent's scalars in ascending order."""
    scalars: np.ndarray = quantizer.values[latent].detach().cpu().numpy()
    return scalars.argsort(kind="stable")

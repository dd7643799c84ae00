"""Rows of a grid of factors: every combination of the values of some sources, each with an image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def decode_positions(positions: np.ndarray, source_sizes: Mapping[str, int]) -> np.ndarray:
    """Return the values (n, sources) of the sources at positions (n,) of the grid. The last source changes fastest."""
    import numpy as np

    return np.stack(np.unravel_index(positions, tuple(source_sizes.values())), axis=1)


def read_rows_at(
    positions: np.ndarray,
    source_sizes: Mapping[str, int],
    encode_images: Callable[[np.ndarray], Iterable[bytes]],
    block_size: int,
) -> Iterator[dict[str, Any]]:
    """Yield the rows at `positions`: the image, then the value of each source.

    Args:
        encode_images: returns the encoded images for the values (n, sources) of a block.
        block_size: the number of rows that are drawn together.
    """
    for start in range(0, len(positions), block_size):
        values = decode_positions(positions[start : start + block_size], source_sizes)
        for image, row in zip(encode_images(values), values.tolist(), strict=True):
            yield {"image": image, **dict(zip(source_sizes, row, strict=True))}

"""`Coder`: the tensors of the step and what they compute."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from zoo.ops import scalar_quantisers, trellis
from zoo.ops.scalar_quantisers import Widths

GRID = 1 << 20
"""Standardised values are rounded to multiples of 1 / GRID before they are compared with thresholds."""
ROTATION_ROUNDS = 12
TRELLIS_ROUNDS, TRELLIS_ROWS = 8, 4000  # of the fit of levels, which takes seconds then
SMALLEST_DEVIATION = 1e-6  # of a component that all rows share, so that nothing is divided by 0


class Head(nn.Module):
    """A map of unit vectors (n, d) to unit vectors (n, out): a matrix, and for a residual head a hidden layer beside it.

    The hidden layer's output is 0 at first, so that the head begins as its matrix. There is no batch normalisation, because a
    vector must not depend on the others of its batch.
    """

    def __init__(self, matrix: torch.Tensor, hidden: int | None = None, seed: int = 0) -> None:
        super().__init__()
        self.matrix = nn.Parameter(matrix.clone())
        self.has_hidden = hidden is not None
        if hidden is not None:
            out, dim = matrix.shape
            generator = torch.Generator().manual_seed(seed)
            weights = torch.randn(hidden, dim, generator=generator, dtype=torch.float64) * (2 / dim) ** 0.5
            self.inner = nn.Parameter(weights.to(matrix.dtype))
            self.inner_bias = nn.Parameter(torch.zeros(hidden, dtype=matrix.dtype))
            self.outer = nn.Parameter(torch.zeros(out, hidden, dtype=matrix.dtype))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return the unit vectors (n, out) of unit vectors (n, d)."""
        mapped = F.linear(vectors, self.matrix)
        if self.has_hidden:
            mapped = mapped + F.linear(F.linear(vectors, self.inner, self.inner_bias).relu(), self.outer)
        return F.normalize(mapped, dim=-1)


class Coder(nn.Module):
    """Unit vectors to numbers of levels, and numbers of levels to unit vectors.

    Attributes:
        head: a map before everything else, or None.
        rotation: (k, d), one row for each component with bits. Its projections are standardised: their variance was 1.
        offset: (k,), subtracted from the projections.
        levels: (k, 2^b), or (k, 2^(b+1)) for a trellis; see `zoo.ops.scalar_quantisers` and `zoo.ops.trellis`.
        decoder: (d, k), and `bias` (d,): the linear map from levels back to vectors.
        widths: (k,) bits of each component.
        has_trellis: whether values are rounded as a row by a trellis, or each to its nearest level.
    """

    def __init__(self, head: Head | None, parts: dict[str, torch.Tensor], widths: Widths, rounding: str) -> None:
        super().__init__()
        self.head = head
        self.rotation = nn.Parameter(parts["rotation"].clone())
        self.offset = nn.Parameter(parts["offset"].clone())
        self.levels = nn.Parameter(parts["levels"].clone())
        self.decoder = nn.Parameter(parts["decoder"].clone())
        self.bias = nn.Parameter(parts["bias"].clone())
        self.widths = widths
        self.has_trellis = rounding == "trellis"

    def transform(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return the unit vectors (n, d) that are coded, of any vectors (n, dim)."""
        directions = F.normalize(vectors, dim=-1)
        return directions if self.head is None else self.head(directions)

    def project(self, transformed: torch.Tensor) -> torch.Tensor:
        """Return the standardised values (n, k) of unit vectors (n, d)."""
        return F.linear(transformed, self.rotation, -self.offset)

    def reconstruct(self, values: torch.Tensor) -> torch.Tensor:
        """Return the unit vectors (n, d) of rounded values (n, k)."""
        return F.normalize(F.linear(values, self.decoder, self.bias), dim=-1)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return what is left of vectors (n, dim) after encoding and decoding, with a straight-through gradient."""
        values = self.project(self.transform(vectors))
        rounding = trellis if self.has_trellis else scalar_quantisers
        return self.reconstruct(rounding.round_straight_through(values, self.levels))

    @torch.no_grad()
    def encode(self, vectors: torch.Tensor) -> npt.NDArray[np.uint8]:
        """Return the numbers (n, k), of `widths` bits, of float64 vectors (n, dim).

        A product of matrices may differ in its last bits with the number of rows. Float64 and a grid keep that out of the code.
        """
        values = self.project(self.transform(vectors)).mul(GRID).round() / GRID
        find = trellis.find_numbers if self.has_trellis else scalar_quantisers.find_levels
        numbers: npt.NDArray[np.uint8] = find(values, self.levels).to(torch.uint8).numpy()
        return numbers

    @torch.no_grad()
    def decode(self, numbers: npt.NDArray[np.uint8]) -> torch.Tensor:
        """Return the unit vectors (n, d) of the numbers (n, k) of `encode`."""
        chosen = torch.from_numpy(numbers.astype(np.int64))
        return self.reconstruct((trellis if self.has_trellis else scalar_quantisers).get_levels(chosen, self.levels))


def fit_coder(
    head: Head | None, rows: torch.Tensor, widths: Widths | None, total: int, rounding: str, seed: int
) -> Coder:
    """Fit rotation, levels and decoder to unit vectors `rows` (n, d) that the head has mapped, without gradients.

    The rotation is fitted to rounding to the nearest levels only. A trellis loses no less on a fitted one.

    Args:
        head: stored with the coder; it has been applied to `rows`.
        rows: (n, d) float64.
        widths: bits of the leading principal components, or None to give out `total` bits by their variances.
        total: bits of a code.
        rounding: `trellis` or `nearest`.
        seed: the seed of the rotation that the fit starts from.
    """
    mean = rows.mean(0)
    centred = rows - mean
    variances, axes = torch.linalg.eigh(centred.T @ centred / len(rows))
    variances, axes = variances.flip(0).clamp_min(0), axes.flip(1)
    has_trellis = rounding == "trellis"
    if widths is None:
        errors = (trellis if has_trellis else scalar_quantisers).NORMAL_ERRORS
        widths = scalar_quantisers.allocate_bits(variances.numpy(), total, errors)
    widths = widths[widths > 0]
    axes = scalar_quantisers.rotate_equal_widths(axes[:, : len(widths)], widths, seed)
    if not has_trellis:
        axes = scalar_quantisers.fit_rotation(centred, axes, widths, ROTATION_ROUNDS)
    projections = centred @ axes
    deviations = projections.std(0).clamp_min(SMALLEST_DEVIATION)
    values = projections / deviations
    parts = {
        "rotation": (axes / deviations).T,
        "offset": mean @ axes / deviations,
        "levels": trellis.fit_levels(values[:TRELLIS_ROWS], widths, TRELLIS_ROUNDS)
        if has_trellis
        else scalar_quantisers.fit_levels(values, widths),
        "decoder": axes * deviations,
        "bias": mean,
    }
    return Coder(head, {name: part.float() for name, part in parts.items()}, widths, rounding)

"""Scalar quantisers: bits for each component, the levels a component is rounded to, and the rotation that loses least.

Levels are a tensor (k, 2^b), ascending in each row, for the largest width b. A component with fewer bits has +inf in the rest.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from zoo.ops.random_state import step_generator

Widths = npt.NDArray[np.int64]

NORMAL_ERRORS = (1.0, 0.3634, 0.1175, 0.03454, 0.009497, 0.002499, 0.000644)
"""Mean squared error of the best quantiser of 0, 1, … bits for a standard normal variable (Max 1960, table I; 6: computed)."""
LARGEST_WIDTH = len(NORMAL_ERRORS) - 1
LEVEL_ROUNDS = 20


def allocate_bits(
    variances: Sequence[float] | npt.NDArray[Any], total: int, errors: Sequence[float] = NORMAL_ERRORS
) -> Widths:
    """Return the bits (d,) of components with these variances, `total` in all, at most LARGEST_WIDTH each.

    One bit after another goes to the component whose expected squared error falls most. For normal components this is the best
    choice, because the errors fall by less with each bit. Equal gains are decided for the component that comes first.
    `errors` are those of 0, 1, … LARGEST_WIDTH bits for a standard normal component.
    Source: Gersho and Gray, Vector Quantization and Signal Compression, 1992, section 8.4.
    """
    if not 0 <= total <= LARGEST_WIDTH * len(variances):
        raise ValueError(f"{len(variances)} components take 0 to {LARGEST_WIDTH * len(variances)} bits, not {total}")
    widths = np.zeros(len(variances), np.int64)
    gains = [(-float(variance) * (errors[0] - errors[1]), j) for j, variance in enumerate(variances)]
    heapq.heapify(gains)
    for _ in range(total):
        _, j = heapq.heappop(gains)
        widths[j] += 1
        if widths[j] < LARGEST_WIDTH:
            gain = float(variances[j]) * (errors[widths[j]] - errors[widths[j] + 1])
            heapq.heappush(gains, (-gain, j))
    return widths


def fit_levels(values: torch.Tensor, widths: Widths, rounds: int = LEVEL_ROUNDS) -> torch.Tensor:
    """Return levels (k, 2^b) for the columns of `values` (n, k), which have `widths` (k,) bits, at least 1.

    Each round moves a level to the mean of the values that are rounded to it. The start are levels that equally many values of
    a normal variable are next to. A level without values stays. Source: Lloyd 1982, method I.
    """
    largest = 1 << int(widths.max())
    counts = 1 << torch.from_numpy(widths)[:, None]
    places = torch.arange(largest)[None] + 0.5
    start = torch.special.ndtri((places / counts).clamp(max=1.0).to(values.dtype))
    levels: torch.Tensor = start * values.std(0)[:, None] + values.mean(0)[:, None]
    levels = levels.masked_fill(places > counts, torch.inf)
    for _ in range(rounds):
        levels = move_levels(levels, values, find_levels(values, levels))
    return levels


def move_levels(levels: torch.Tensor, values: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Return levels (k, 2^b) at the means of the values (n, k) that have their numbers (n, k). One without values stays."""
    columns, numbers = values.T.contiguous(), numbers.T
    sums = torch.zeros_like(levels).scatter_add_(1, numbers, columns)
    sizes = torch.zeros_like(levels).scatter_add_(1, numbers, torch.ones_like(columns))
    return torch.where(sizes > 0, sums / sizes.clamp_min(1), levels)


def compute_thresholds(levels: torch.Tensor) -> torch.Tensor:
    """Return the thresholds (k, 2^b - 1) in the middle of neighbouring levels; +inf after the last level."""
    return (levels[:, 1:] + levels[:, :-1]) / 2


def find_levels(values: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """Return the number (n, k) int64 of the level next to each of `values` (n, k). A tie takes the lower level."""
    thresholds = compute_thresholds(levels).contiguous()
    return torch.searchsorted(thresholds, values.T.contiguous()).T


def get_levels(numbers: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """Return the values (n, k) of numbers (n, k) of levels (k, 2^b)."""
    values: torch.Tensor = levels.gather(1, numbers.T).T
    return values


def round_straight_through(values: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """Round values (n, k) to their levels (k, 2^b). The gradient reaches both.

    A value gets the gradient of its rounded value if it lies between the outermost levels or less than half a step beside
    them, and else none, so that it does not run away. Source: Bengio et al. 2013, arXiv 1308.3432, section 4.
    """
    return pass_gradient(values, get_levels(find_levels(values.detach(), levels.detach()), levels), levels)


def pass_gradient(values: torch.Tensor, rounded: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """Return `rounded` (n, k), which has the gradient of the levels, with a gradient to `values` (n, k) besides."""
    fixed = levels.detach()
    highest = fixed.masked_fill(fixed.isinf(), -torch.inf).amax(1)
    margin = (fixed[:, 1] - fixed[:, 0]) / 2
    is_inside = (values.detach() > fixed[:, 0] - margin) & (values.detach() < highest + margin)
    return rounded + torch.where(is_inside, values - values.detach(), 0.0)


def rotate_equal_widths(axes: torch.Tensor, widths: Widths, seed: int) -> torch.Tensor:
    """Rotate the columns of `axes` (d, k) at random among those that have the same number of bits.

    Components of one width then have about equal variances. This gives columns of the same span, orthonormal if they were.
    """
    rotated = axes.clone()
    for width in np.unique(widths):
        columns = torch.from_numpy(np.flatnonzero(widths == width))
        size = len(columns)
        random = torch.randn(size, size, generator=step_generator(seed, int(width)), dtype=axes.dtype)
        rotated[:, columns] = axes[:, columns] @ torch.linalg.qr(random)[0]
    return rotated


def fit_rotation(rows: torch.Tensor, axes: torch.Tensor, widths: Widths, rounds: int) -> torch.Tensor:
    """Return orthonormal columns (d, k) whose projections lose less by rounding than those of `axes` (d, k).

    Each of the `rounds` fits levels to the projections of the centred `rows` (n, d), and then the columns to the rounded
    projections: the orthogonal Procrustes problem. For one bit a component this is iterative quantisation
    (Gong and Lazebnik, CVPR 2011, section 3) with learned levels; see also `codes.fit_iterative_quantisation`.
    """
    for _ in range(rounds):
        projections = rows @ axes
        levels = fit_levels(projections, widths, rounds=5)
        rounded = get_levels(find_levels(projections, levels), levels)
        left, _, right = torch.linalg.svd(rows.T @ rounded, full_matrices=False)
        axes = left @ right
    return axes

"""Rounding to float32 that keeps the order of a list, in both directions."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

LEAST, MOST = 1e-9, 1 - 1e-6
"""Probabilities are cut to this range, so that there is room below each of them for all rows that follow."""


def round_in_order(probabilities: npt.NDArray[np.float64], scores: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Round probabilities (m, k) to float32 so that they are ordered exactly as `scores` (m, k), which descend.

    Two entries of a row are equal if and only if their scores are equal. If rounding makes different ones equal, the later ones
    get the next smaller float32 numbers. Without this, many rows of a good list would have the probability 1, and sorting by
    probability would lose their order.
    """
    rounded = np.clip(probabilities, LEAST, MOST).astype(np.float32)
    falls: npt.NDArray[np.int32] = np.zeros(scores.shape, np.int32)
    np.cumsum(scores[:, 1:] < scores[:, :-1], axis=1, out=falls[:, 1:])
    # Positive float32 numbers are ordered as their bits are. Equal scores have one value of `falls`, and become equal.
    bits: npt.NDArray[np.int32] = rounded.view(np.int32) + falls
    is_first: npt.NDArray[np.bool_] = np.ones(falls.shape, bool)
    is_first[:, 1:] = falls[:, 1:] > falls[:, :-1]
    places = np.maximum.accumulate(np.where(is_first, np.arange(scores.shape[-1]), 0), axis=1)
    bits = np.take_along_axis(bits, places, axis=1)  # vectorised functions may differ in the last bit of equal inputs
    return (np.minimum.accumulate(bits, axis=1) - falls).view(np.float32)

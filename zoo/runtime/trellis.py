"""Trellis-coded quantisation in NumPy: the numbers and levels of `zoo.ops.trellis`, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MEMORY = 6
STATES = 1 << MEMORY
PARITY_CHECKS = (0o103, 0o024)
SUBSETS = 4
BLOCK = 256  # rows that are searched at once

_BRANCHES = np.arange(2 * STATES)
_SUBSETS = sum(
    (np.bitwise_count(_BRANCHES & check) & 1) << place for place, check in enumerate(reversed(PARITY_CHECKS))
)


def find_numbers(values: Array, levels: Sequence[Array]) -> Array:
    """Return the numbers (n, k) uint8 of values (n, k) float64, for k arrays of levels."""
    numbers = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), BLOCK):
        numbers[start : start + BLOCK] = _find_block(values[start : start + BLOCK], levels)
    return numbers


def _find_block(values: Array, levels: Sequence[Array]) -> Array:
    shape = len(levels), SUBSETS, len(values)
    places, errors = np.empty(shape, np.int64), np.empty(shape, np.float32)
    for column, own in enumerate(levels):
        for subset in range(SUBSETS):
            candidates = own[subset::SUBSETS].astype(np.float64)
            place = np.searchsorted((candidates[1:] + candidates[:-1]) / 2, values[:, column])
            difference = (values[:, column] - candidates[place]).astype(np.float32)
            places[column, subset], errors[column, subset] = place, difference * difference
    path = _search_paths(errors)
    place = np.take_along_axis(places, _SUBSETS[path][:, None].astype(np.int64), axis=1)[:, 0]
    numbers: Array = (2 * place + (path & 1)).T
    return numbers


def _search_paths(errors: Array) -> Array:
    """Return the branches (k, n) of the paths of least sum of `errors` (k, 4, n), by Viterbi's algorithm."""
    count = errors.shape[-1]
    halves = 2, STATES // 2, 1, count
    costs = np.full(halves, np.inf, np.float32)
    costs[0, 0] = 0
    choices = []
    for column in errors:
        candidates = costs + column[_SUBSETS].reshape(2, STATES // 2, 2, count)
        choices.append((candidates[1] < candidates[0]).reshape(STATES, count))
        costs = np.minimum(candidates[0], candidates[1]).reshape(halves)
    state = costs.reshape(STATES, count).argmin(axis=0)
    path = np.empty((len(errors), count), np.int64)
    for column in range(len(errors) - 1, -1, -1):
        path[column] = choices[column][state, np.arange(count)] * STATES + state
        state = path[column] >> 1
    return path


def get_places(numbers: Array) -> Array:
    """Return the places (n, k), among all levels of a component, of the levels that numbers (n, k) stand for."""
    bits = numbers.astype(np.int64) & 1
    subsets = np.zeros_like(bits)
    for check in PARITY_CHECKS:
        parities = np.zeros_like(bits)
        for age in range(MEMORY + 1):
            if check >> age & 1:
                parities[:, age:] ^= bits[:, : max(bits.shape[1] - age, 0)]
        subsets = 2 * subsets + parities
    places: Array = (numbers.astype(np.int64) >> 1) * SUBSETS + subsets
    return places

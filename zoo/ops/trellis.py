"""Trellis-coded quantisation: twice the levels for the same bits, because earlier components say which half can follow.

A component of b bits has 2^(b+1) levels. Every fourth level belongs to the same subset, so that there are four. One bit of each
component enters a convolutional code of 64 states, whose state and new bit say the subset; the other b - 1 bits are the place of
the level in its subset. The Viterbi algorithm finds the numbers of a whole row that lose least. Levels are a tensor
(k, 2^(b+1)), ascending in each subset, for the largest width b; a component with fewer bits has +inf in the rest.

Sources: Marcellin and Fischer 1990, IEEE Transactions on Communications 38(1), section III; the code is that of Ungerboeck 1982,
IEEE Transactions on Information Theory 28(1), table I, 64 states.
"""

from __future__ import annotations

import torch

from zoo.ops import scalar_quantisers
from zoo.ops.scalar_quantisers import Widths

MEMORY = 6  # earlier bits that a state holds
STATES = 1 << MEMORY
PARITY_CHECKS = (0o103, 0o024)  # the bits of a state and the new bit whose parities are the two bits of the subset
SUBSETS = 4
BLOCK = 256  # rows that are searched at once: their costs stay in the cache of the processor

NORMAL_ERRORS = (1.0, 0.2946, 0.0823, 0.0224, 0.0066, 0.0022, 0.0008)
"""Mean squared error of 0, 1, … bits for independent standard normal components, measured with fitted levels."""


def _list_subsets() -> torch.Tensor:
    """Return the subset (2 · STATES,) of every branch: a state, and the new bit as its lowest bit."""
    branches = range(2 * STATES)
    high, low = ([(branch & check).bit_count() & 1 for branch in branches] for check in PARITY_CHECKS)
    return 2 * torch.tensor(high) + torch.tensor(low)


_SUBSETS = _list_subsets()


def find_numbers(values: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """Return the numbers (n, k) int64, of b bits each, whose levels are closest to the rows of `values` (n, k) as a whole.

    The lowest bit of a number enters the code; the others are the place of the level in its subset. A row's numbers do not
    depend on other rows.
    """
    blocks = [_find_block(values[start : start + BLOCK], levels) for start in range(0, len(values), BLOCK)]
    return torch.cat(blocks) if blocks else values.new_zeros(values.shape, dtype=torch.int64)


def _find_block(values: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    columns = values.T.contiguous()
    places, errors = [], []
    for subset in range(SUBSETS):
        own = levels[:, subset::SUBSETS].contiguous()
        place = torch.searchsorted(scalar_quantisers.compute_thresholds(own).contiguous(), columns)
        places.append(place)
        errors.append((columns - own.gather(1, place)).float().square())
    bits, subsets = _search_paths(torch.stack(errors, dim=1))
    place = torch.stack(places, dim=1).gather(1, subsets[:, None])[:, 0]
    return (2 * place + bits).T


def _search_paths(errors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the new bits (k, n) and the subsets (k, n) of the paths of least sum of `errors` (k, 4, n), by Viterbi's algorithm.

    Two states lead to each state: those that differ in their oldest bit alone. Of equal sums the one with a 0 is taken.
    """
    count = errors.shape[-1]
    halves = 2, STATES // 2, 1, count
    costs = errors.new_full(halves, torch.inf)
    costs[0, 0] = 0
    choices = []
    for column in errors:
        candidates = costs + column[_SUBSETS].view(2, STATES // 2, 2, count)
        choices.append((candidates[1] < candidates[0]).view(STATES, count))
        costs = torch.minimum(candidates[0], candidates[1]).view(halves)
    state = costs.view(STATES, count).argmin(0)
    branches = []
    for choice in reversed(choices):
        branches.append(choice.gather(0, state[None])[0].long() * STATES + state)
        state = branches[-1] >> 1
    path = torch.stack(branches[::-1])
    return path & 1, _SUBSETS[path]


def count_places(numbers: torch.Tensor) -> torch.Tensor:
    """Return the places (n, k), among all levels of a component, of the levels that numbers (n, k) stand for."""
    bits = numbers & 1
    subsets = torch.zeros_like(numbers)
    for check in PARITY_CHECKS:
        parities = torch.zeros_like(bits)
        for age in range(MEMORY + 1):
            if check >> age & 1:
                parities[:, age:] ^= bits[:, : max(bits.shape[1] - age, 0)]
        subsets = 2 * subsets + parities
    return (numbers >> 1) * SUBSETS + subsets


def get_levels(numbers: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """Return the values (n, k) that numbers (n, k) stand for."""
    return scalar_quantisers.get_levels(count_places(numbers), levels)


def fit_levels(values: torch.Tensor, widths: Widths, rounds: int) -> torch.Tensor:
    """Return levels (k, 2^(b+1)) for the columns of `values` (n, k), which have `widths` (k,) bits, at least 1.

    The start are the best levels of b + 1 bits alone. Each round moves a level to the mean of the values that became it.
    """
    levels = scalar_quantisers.fit_levels(values, widths + 1)
    for _ in range(rounds):
        places = count_places(find_numbers(values, levels))
        levels = scalar_quantisers.move_levels(levels, values, places)
    return levels


def round_straight_through(values: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """Round values (n, k) to levels (k, 2^(b+1)). The gradient reaches both, as in `scalar_quantisers`."""
    with torch.no_grad():
        numbers = find_numbers(values, levels)
    return scalar_quantisers.pass_gradient(values, get_levels(numbers, levels), levels)

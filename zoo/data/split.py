"""Which rows are kept: a seeded hold-out, whole groups on one side, and a seeded limit. Positions in, positions out.

The draws use numpy's `RandomState`, whose stream is frozen for good, so that a split stays the same across versions.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from zoo.core.errors import DataError
from zoo.core.lazy import lazy
from zoo.data.spec import Holdout

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy("numpy")


def key(value: object) -> str:
    """What makes two values equal for `where` and `by`: csv's "1" and json's 1 are."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def held_out(count: int, split: Holdout, groups: Sequence[Hashable] | None = None) -> np.ndarray:
    """Mask (count,) bool of the rows that are held out: never none, never all.

    Args:
        groups: the group of each row; rows of one group stay together, and whole groups are taken in the order drawn so
            long as that brings their number nearer to the size asked for.

    Raises DataError when there are too few rows or groups.
    """
    target = min(max(1, round(split.size * count)), count - 1) if split.size < 1 else int(split.size)
    if not 0 < target < count:
        raise DataError(f"holdout: {max(1, target)} rows cannot be held out of {count}; ask for fewer")
    draw = np.random.RandomState(split.seed)
    mask = np.zeros(count, dtype=bool)
    if groups is None:
        mask[draw.permutation(count)[:target]] = True
        return mask
    number = {group: index for index, group in enumerate(dict.fromkeys(groups))}
    if len(number) < 2:
        raise DataError(f"holdout: all {count} rows have the same {split.by}; choose another `by`")
    member = np.fromiter((number[group] for group in groups), dtype=np.int64, count=count)
    sizes = np.bincount(member)
    order = draw.permutation(len(sizes))
    taken: list[int] = []
    held = 0
    for group in order:
        nearer = abs(held + sizes[group] - target) <= target - held
        if nearer and len(taken) < len(sizes) - 1:
            taken.append(group)
            held += sizes[group]
    if not taken:  # every group is more than twice the target
        taken = [order[np.argmin(sizes[order])]]
    return np.isin(member, taken)


def drawn(count: int, limit: int) -> np.ndarray:
    """Positions of `limit` of `count` rows drawn by seed 0, ascending."""
    return np.sort(np.random.RandomState(0).permutation(count)[:limit])

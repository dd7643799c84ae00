"""Choose rows by seed: a hold-out, optionally of whole groups, and a limit.

All functions work on positions. They draw with numpy's `RandomState`, whose stream never changes, so that a split stays the same
with every version of numpy.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Union

from zoo.core.errors import DataError
from zoo.data.spec import Holdout

if TYPE_CHECKING:
    import numpy as np

Groups = Union[Sequence[Hashable], "np.ndarray", None]
"""The group of each row. An array of hashes takes less memory than texts."""
MAX_PERMUTATION = 1 << 25  # rows; a permutation of more takes too much memory


def comparison_key(value: object) -> str:
    """Return the text by which `where` and `by` compare a value. The "1" of a csv file equals the 1 of a json file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value):
        return str(int(value))
    return str(value)


def draw_side_mask(count: int, holdout: Holdout, groups: Groups = None) -> np.ndarray:
    """Return the mask (count,) bool of the rows on the side that `holdout` takes. See `draw_holdout_mask`."""
    held_out = draw_holdout_mask(count, holdout, groups)
    return held_out if holdout.side == "test" else ~held_out


def draw_holdout_mask(count: int, holdout: Holdout, groups: Groups = None) -> np.ndarray:
    """Return the mask (count,) bool of the rows that are held out. At least one row is on each side.

    Args:
        groups: the group of each row. All rows of a group are on one side. Groups are drawn in random order, and a group is
            held out if that brings the number of rows nearer to the size asked for.

    Raises:
        DataError: if there are too few rows or groups.
    """
    import numpy as np

    target = min(max(1, round(holdout.size * count)), count - 1) if holdout.size < 1 else int(holdout.size)
    if not 0 < target < count:
        raise DataError(f"holdout: {max(1, target)} rows cannot be held out of {count}; ask for fewer")
    generator = np.random.RandomState(holdout.seed)
    if groups is None:
        mask = np.zeros(count, dtype=bool)
        mask[generator.permutation(count)[:target]] = True
        return mask
    group_of_row = number_groups(groups)
    if group_of_row.max() == 0:
        raise DataError(f"holdout: all {count} rows have the same {holdout.by}; choose another `by`")
    sizes = np.bincount(group_of_row)
    return np.isin(group_of_row, _choose_groups(sizes, generator.permutation(len(sizes)), target))


def number_groups(groups: Sequence[Hashable] | np.ndarray) -> np.ndarray:
    """Return the number (n,) int64 of the group of each row, in the order in which groups first occur."""
    import numpy as np

    if isinstance(groups, np.ndarray):
        _, first_rows, inverse = np.unique(groups, return_index=True, return_inverse=True)
        ranks = np.empty(len(first_rows), np.int64)
        ranks[np.argsort(first_rows)] = np.arange(len(first_rows))
        numbers: np.ndarray = ranks[inverse]
        return numbers
    index_of_group = {group: index for index, group in enumerate(dict.fromkeys(groups))}
    return np.fromiter((index_of_group[group] for group in groups), dtype=np.int64, count=len(groups))


def hash_group(value: object) -> int:
    """Return 64 bits of a hash of the comparison key of a value. Equal keys have equal hashes."""
    return int.from_bytes(hashlib.blake2b(comparison_key(value).encode(errors="replace"), digest_size=8).digest())


def draw_mask_by_class(labels: Sequence[Hashable], holdout: Holdout) -> np.ndarray:
    """Return the mask (n,) bool of the rows that are held out: about the same share of each class.

    The number of rows is that of `draw_holdout_mask`. Each class keeps at least one row that is not held out. Rows that are left
    over by rounding go to the classes that lost most by it.

    Raises:
        DataError: if there are too few rows.
    """
    import numpy as np

    count = len(labels)
    target = min(max(1, round(holdout.size * count)), count - 1) if holdout.size < 1 else int(holdout.size)
    index_of_class = {name: index for index, name in enumerate(dict.fromkeys(labels))}
    class_of_row = np.fromiter((index_of_class[label] for label in labels), dtype=np.int64, count=count)
    sizes = np.bincount(class_of_row)
    most = count - len(sizes)
    if not 0 < target <= most:
        raise DataError(
            f"{max(1, target)} of {count} rows cannot be held out so that each of {len(sizes)} classes keeps a row for training; "
            f"ask for at most {most}, or give the held-out rows as a data section of their own"
        )
    exact = sizes * (target / count)
    quotas = np.minimum(np.floor(exact).astype(np.int64), sizes - 1)
    order = np.lexsort((np.arange(len(sizes)), -(exact - quotas)))
    while quotas.sum() < target:
        for index in order:
            if quotas[index] < sizes[index] - 1 and quotas.sum() < target:
                quotas[index] += 1
    mask = np.zeros(count, dtype=bool)
    for row in np.random.RandomState(holdout.seed).permutation(count):
        if quotas[class_of_row[row]]:
            quotas[class_of_row[row]] -= 1
            mask[row] = True
    return mask


def _choose_groups(sizes: np.ndarray, order: np.ndarray, target: int) -> list[int]:
    """Return the groups whose sizes add up to about `target` rows, tried in `order`."""
    chosen: list[int] = []
    row_count = 0
    for group in order:
        is_nearer = abs(row_count + sizes[group] - target) <= target - row_count
        if is_nearer and len(chosen) < len(sizes) - 1:
            chosen.append(group)
            row_count += sizes[group]
    if not chosen:  # every group has more than twice the target
        chosen = [order[sizes[order].argmin()]]
    return chosen


def draw_positions(count: int, limit: int) -> np.ndarray:
    """Return `limit` of the positions 0 to `count` - 1, drawn by seed 0, ascending."""
    import numpy as np

    if count <= MAX_PERMUTATION:
        return np.sort(np.random.RandomState(0).permutation(count)[:limit])
    generator, chosen = np.random.RandomState(0), set[int]()
    while len(chosen) < limit:
        chosen.update(generator.randint(0, count, size=limit - len(chosen), dtype=np.int64).tolist())
    return np.array(sorted(chosen))

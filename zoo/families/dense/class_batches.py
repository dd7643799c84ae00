"""An order of labelled rows in which rows of a class follow one another, so that a batch has several of each class."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from zoo.ops.random_state import epoch_generator

ROWS_OF_A_CLASS = 4  # that follow one another


class ClassBatches:
    """Rows of a data set with a column `label`, for the trainer.

    The order of an epoch depends on its number and the seed alone: the rows of each class are shuffled and cut into groups of
    ROWS_OF_A_CLASS, and the groups are shuffled. A random order would leave most rows of many classes alone in their batch.
    """

    def __init__(self, rows: Any) -> None:
        self.rows = rows
        self._labels = rows["label"][:]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        row: Mapping[str, Any] = self.rows[index]
        return row

    def order(self, seed: int, epoch: int) -> torch.Tensor:
        """Return the row numbers of an epoch (n,) int64, each once."""
        return group_classes(self._labels, torch.arange(len(self.rows)), epoch_generator(seed, epoch))


def group_classes(labels: Sequence[Any], numbers: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return row numbers (n,) int64 in groups of up to ROWS_OF_A_CLASS rows of one class, in random order.

    Args:
        labels: the class of every row that there is.
        numbers: (n,) int64, the rows of an epoch. A row may occur more than once.
        generator: the source of the random order.
    """
    by_label: dict[Any, list[int]] = defaultdict(list)
    for number in numbers.tolist():
        by_label[labels[number]].append(number)
    groups: list[list[int]] = []
    for members in by_label.values():
        shuffled = [members[i] for i in torch.randperm(len(members), generator=generator).tolist()]
        groups += [shuffled[i : i + ROWS_OF_A_CLASS] for i in range(0, len(shuffled), ROWS_OF_A_CLASS)]
    places = torch.randperm(len(groups), generator=generator).tolist()
    return torch.tensor([number for place in places for number in groups[place]], dtype=torch.int64)

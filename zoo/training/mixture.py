"""Rows of several sources in one sequence, and the order in which an epoch reads them.

The order depends on seed and epoch alone, so a resumed run and a distributed run see the same batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import torch

from zoo.data.data_source import DataSource
from zoo.data.joined import list_absent_columns
from zoo.data.mapped import fetch_rows
from zoo.data.spec import Mixture
from zoo.data.table import SOURCE
from zoo.ops.random_state import epoch_generator, source_generator
from zoo.training.source_plan import SourcePlan, plan_sources
from zoo.training.step_plan import split_rows

Arrange = Callable[[torch.Tensor, torch.Generator], torch.Tensor]
"""Returns row numbers (n,) int64 of one source in another order, for example with rows of a class behind one another."""
BATCH_SOURCE = "source_of_batch"  # a key of a batch; no family uses it
Rows = Any
"""A sequence of rows by their numbers: a `datasets.Dataset`, or a family's own."""


class SourceMixture:
    """The rows of several sources. `order`, which the trainer calls, mixes the sources in every epoch.

    A row is a mapping: the columns of its source, and `source`, the name of its source. `arrange` holds, by source, how the rows
    of an epoch are put into another order before they are cut into batches.
    """

    def __init__(self, rows: Rows, spans: Mapping[str, range], plan: SourcePlan) -> None:
        """Args:
        rows: the rows of all sources, one source after the other.
        spans: the numbers of the rows of each source.
        plan: how many rows of each source an epoch reads.
        """
        self.rows, self.spans, self.plan = rows, dict(spans), plan
        self.arrange: dict[str, Arrange] = {}
        self.row_count = len(rows)
        self._absent = list_absent_columns(rows, spans) if hasattr(rows, "select") else {}

    def __len__(self) -> int:
        """Return the rows of an epoch, which may be other than the rows that there are."""
        return self.plan.rows_per_epoch

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._finish_row(index, self.rows[index])

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return the rows of a batch, which the loader asks for at once."""
        rows = fetch_rows(self.rows, indices)
        return [self._finish_row(index, row) for index, row in zip(indices, rows, strict=True)]

    def _finish_row(self, index: int, row: Mapping[str, Any]) -> dict[str, Any]:
        name = find_source(self.spans, index)
        absent = self._absent.get(name, ())
        return {**{column: value for column, value in row.items() if column not in absent}, SOURCE: name}

    @property
    def has_uniform_batches(self) -> bool:
        """Whether all rows of a batch are from one source."""
        return not self.plan.is_mixed or len(self.spans) == 1

    def order(self, seed: int, epoch: int) -> torch.Tensor:
        """Return the row numbers of an epoch (n,) int64."""
        return order_by_quota(self.spans, self.plan, seed, epoch, self.arrange)

    def split_into_batches(self, size: int) -> Iterator[range]:
        """Yield the row numbers of batches of at most about `size` rows, each of one source unless batches are mixed."""
        if not self.has_uniform_batches:
            return split_rows(self.row_count, size)
        return chain.from_iterable(
            (range(span.start + part.start, span.start + part.stop) for part in split_rows(len(span), size))
            for span in self.spans.values()
        )

    def note_source(self, collate: Callable[[Any], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
        """Return `collate` whose batches also say, under BATCH_SOURCE, which source their rows are from."""
        if not self.has_uniform_batches:
            return collate
        return lambda rows: {**collate(rows), BATCH_SOURCE: rows[0][SOURCE]}


def mix(
    rows: Rows, spans: Mapping[str, range], sources: Mapping[str, DataSource], mixture: Mixture, batch_size: int
) -> SourceMixture:
    """Return training rows in the order that weights, draw and batches of a recipe ask for."""
    counts = {name: len(span) for name, span in spans.items()}
    return SourceMixture(rows, spans, plan_sources(counts, sources, mixture, batch_size))


def watch(rows: Rows, spans: Mapping[str, range], plan: SourcePlan) -> SourceMixture:
    """Return validation rows, each of which counts once. `plan` is that of the training."""
    counts = {name: len(span) for name, span in spans.items()}
    return SourceMixture(rows, spans, replace(plan, counts=counts, quotas=counts))


def shuffle(count: int, seed: int, epoch: int) -> torch.Tensor:
    """Return the row numbers of an epoch (count,) int64 of rows of one source. 20 million rows take 160 MB."""
    return torch.randperm(count, generator=epoch_generator(seed, epoch))


def find_source(spans: Mapping[str, range], index: int) -> str:
    """Return the name of the source that a row is from."""
    return next(name for name, span in spans.items() if index in span)


def order_by_quota(
    spans: Mapping[str, range], plan: SourcePlan, seed: int, epoch: int, arrange: Mapping[str, Arrange] | None = None
) -> torch.Tensor:
    """Return row numbers (n,) int64 with exactly the quotas of `plan`, in random order.

    Blocks of one source are shuffled as wholes. A source that an epoch does not read whole, or more than once, goes on in the
    next epoch behind the last row of this one, so that all its rows are used equally often. `arrange` may put the drawn rows of a
    source into another order.
    """
    drawn = []
    for number, (name, span) in enumerate(spans.items()):
        rows = _draw_rows(len(span), plan.quotas[name], plan.reads_whole(name), seed, number, epoch) + span.start
        if arrange and name in arrange:
            rows = arrange[name](rows, source_generator(seed, number, epoch))
        drawn.append(rows)
    blocks = torch.cat(drawn).view(-1, plan.block)
    return blocks[torch.randperm(len(blocks), generator=epoch_generator(seed, epoch))].flatten()


def _draw_rows(count: int, quota: int, reads_whole: bool, seed: int, number: int, epoch: int) -> torch.Tensor:
    """Return `quota` of the numbers 0 to `count` - 1: a stretch of the permutations that follow each other without end.

    `number` is that of the source.
    """
    start = epoch * (count if reads_whole else quota)
    cycles = range(start // count, (start + quota - 1) // count + 1)
    permutations = [torch.randperm(count, generator=source_generator(seed, number, cycle)) for cycle in cycles]
    first = start - cycles.start * count
    return torch.cat(permutations)[first : first + quota]


def order_by_chance(
    spans: Mapping[str, range], weights: Sequence[float], block: int, count: int, seed: int, epoch: int
) -> list[int]:
    """Return `count` row numbers in blocks of one source, each drawn by weight.

    The rows of each source are shuffled, and start over after the last one. Source: Meng et al., "VLM2Vec-V2", arXiv 2507.04590,
    section 3.3 (interleaved sub-batches).
    """
    generator = epoch_generator(seed, epoch)
    cycles = [_cycle_rows(span, generator) for span in spans.values()]
    chances = torch.tensor(weights)
    order: list[int] = []
    while len(order) < count:
        number = int(torch.multinomial(chances, 1, generator=generator))
        order += [next(cycles[number]) for _ in range(block)]
    return order[:count]


def _cycle_rows(span: range, generator: torch.Generator) -> Iterator[int]:
    """Yield the row numbers of a source without end, in a new order each time."""
    while True:
        yield from (torch.randperm(len(span), generator=generator) + span.start).tolist()

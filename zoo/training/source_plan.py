"""How many rows of each source are drawn in an epoch. Imports no torch, for `zoo check`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zoo.core.errors import DataError
from zoo.data.data_source import DataSource
from zoo.data.spec import Mixture


@dataclass(frozen=True)
class SourcePlan:
    """The rows of an epoch by source.

    Attributes:
        counts: the rows that a source has.
        quotas: the rows that are drawn from it in an epoch.
        block: rows of one source that follow each other: a whole batch, or 1 if batches are mixed.
        is_mixed: whether a batch has rows of several sources.
    """

    counts: Mapping[str, int]
    quotas: Mapping[str, int]
    block: int
    is_mixed: bool = False

    @property
    def rows_per_epoch(self) -> int:
        """The rows of an epoch."""
        return sum(self.quotas.values())

    def reads_whole(self, name: str) -> bool:
        """Whether an epoch reads the rows of a source once, up to the rest of a batch. Each epoch then begins anew."""
        return 0 <= self.counts[name] - self.quotas[name] < self.block


def plan_sources(
    counts: Mapping[str, int], sources: Mapping[str, DataSource], mixture: Mixture, batch_size: int
) -> SourcePlan:
    """Divide the rows of an epoch among the sources. An epoch has about as many rows as all sources together.

    With one source a batch, every quota is a number of whole batches. Rows that are left over wait for the next epoch.

    Args:
        counts: the rows that each source has.
        sources: weight, or rows an epoch, of each source.

    Raises:
        DataError: if a batch is larger than a source, with one source a batch.
    """
    block = batch_size if mixture.batches == "source" else 1
    for name, count in counts.items():
        if count < block:
            raise DataError(
                f"the source {name} has {count} rows to train on, fewer than training.batch_size, {block}: give it more rows, "
                "lower batch_size, or set mixture.batches: mixed"
            )
    fixed = {
        name: max(1, round((sources[name].rows or 0) / block)) for name in counts if sources[name].rows is not None
    }
    shared = {name: count for name, count in counts.items() if name not in fixed}
    draw = resolve_draw(sources, mixture)
    if draw == "proportional":
        blocks = {name: count // block for name, count in shared.items()}
    else:
        weights = {name: sources[name].weight or 1.0 if draw == "weighted" else 1.0 for name in shared}
        blocks = _allot(sum(shared.values()) // block, weights)
    quotas = {name: block * (fixed | blocks)[name] for name in counts}
    return SourcePlan(dict(counts), quotas, block, mixture.batches == "mixed")


def resolve_draw(sources: Mapping[str, DataSource], mixture: Mixture) -> str:
    """Return what `draw` of a mixture means for these sources."""
    if mixture.draw != "auto":
        return mixture.draw
    return "weighted" if any(source.weight is not None for source in sources.values()) else "proportional"


def _allot(total: int, weights: Mapping[str, float]) -> dict[str, int]:
    """Divide `total` by weight, by the largest remainders. Each name gets at least 1."""
    if not weights:
        return {}
    whole = sum(weights.values())
    exact = {name: total * weight / whole for name, weight in weights.items()}
    parts = {name: max(1, int(share)) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: parts[name] - exact[name])
    for name in by_remainder[: max(0, total - sum(parts.values()))]:
        parts[name] += 1
    return parts

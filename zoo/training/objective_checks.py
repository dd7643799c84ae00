"""Finds training data from which a loss can learn nothing: before training, and from the recipe alone where it tells.

Imports no torch, for `zoo check`.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from zoo.core.errors import DataError, ZooError
from zoo.data.data_source import DataSource
from zoo.data.joined import split_by_source
from zoo.data.mapped import iterate_batches
from zoo.data.spec import Mixture
from zoo.data.split import draw_positions
from zoo.schema import Training
from zoo.spec import EncoderSpec, Mistake, RowNeeds
from zoo.training.source_plan import SourcePlan, plan_sources
from zoo.training.step_plan import plan_steps

if TYPE_CHECKING:
    from datasets import Dataset

BLOCK = 256  # rows that are compared at once
MAX_COUNTED = 500_000  # rows in which repeats are counted; more are drawn by a fixed seed
MIN_PART = 4  # smaller parts say nothing about repeats
FEW_DISTINCT = 0.75  # as a share of the rows of a part
ADVICE = "raise batch_size or lower gradient_accumulation"


def find_recipe_mistakes(
    spec: EncoderSpec, training: Training, columns: Container[str], rows: int | None, validation_rows: int | None
) -> list[Mistake]:
    """Mistakes that show without reading rows, as (path in the recipe, message).

    Args:
        columns: the columns of the training data, or all that the family reads if they are not known.
        rows: the number of training rows if the recipe gives it, as the largest number that there can be.
        validation_rows: the number of validation rows if the recipe gives it.
    """
    needs = spec.describe_row_needs(columns)
    mistakes: list[Mistake] = []
    part = training.batch_size // training.gradient_accumulation
    if part < needs.rows:
        mistakes.append((("training", "batch_size"), _describe_small_part(part, needs)))
    if rows is not None and rows < needs.rows:
        mistakes.append((("data", "limit"), f"{_count_rows(rows)} cannot be trained on: {_explain(needs)}"))
    if validation_rows is not None and validation_rows < needs.rows:
        mistakes.append((("validation",), f"{_count_rows(validation_rows)} cannot be validated on: {_explain(needs)}"))
    return mistakes


def check_rows(
    spec: EncoderSpec,
    training: Training,
    rows: Dataset,
    validation: Dataset | None = None,
    processes: int | None = None,
) -> None:
    """Raise DataError or ZooError for rows from which the loss of `spec` learns nothing, and for parts that are too small.

    `processes` is the number of training processes; by default the launcher's.
    """
    needs = spec.describe_row_needs(rows.column_names)
    _check_table("the training data", rows, needs)
    if validation is not None and needs.rows > 1:
        _check_table("the validation data", validation, needs)
    part = plan_steps(training, len(rows)).micro_batch_size
    if part < needs.rows:
        raise ZooError(f"training.batch_size: {_describe_small_part(part, needs)}")
    processes = processes or int(os.environ.get("WORLD_SIZE", "1"))
    if part // processes < needs.rows_per_process:
        raise ZooError(
            f"training.batch_size: a part of {_count_rows(part)} leaves each of {processes} processes less than the "
            f"{needs.rows_per_process} that the loss needs: {ADVICE}, or start fewer processes"
        )
    if needs.negatives and part == 1:
        _check_negatives(rows, needs.negatives)


def check_sources(
    spec: EncoderSpec,
    training: Training,
    rows: Dataset,
    validation: Dataset | None,
    sources: Mapping[str, DataSource],
    mixture: Mixture,
) -> SourcePlan:
    """Check the rows of each source as `check_rows` does, and return how many an epoch reads of it.

    Raise DataError as well for a source that is smaller than its batch, and for mixed batches of sources with other columns.
    """
    parts, watched = split_by_source(rows), {} if validation is None else split_by_source(validation)
    for name, part in parts.items():
        try:
            check_rows(spec.for_source(sources[name].loss), training, part, watched.get(name))
        except DataError as error:
            raise DataError(*(f"the source {name}: {problem}" for problem in error.problems)) from None
    if mixture.batches == "mixed":
        all_columns = {column for part in parts.values() for column in part.column_names}
        for name, part in parts.items():
            if missing := sorted(all_columns - set(part.column_names)):
                raise DataError(
                    f"the source {name} has no {missing[0]}, and mixed batches need the same columns in every source: add it, "
                    "or set mixture.batches: source"
                )
    return plan_sources({name: len(part) for name, part in parts.items()}, sources, mixture, training.batch_size)


def describe_repeats(spec: EncoderSpec, training: Training, rows: Dataset) -> str | None:
    """Say how many different positives a part of a batch has on average, if they are few; None otherwise.

    Rows with equal positives do not count as negatives, so an in-batch loss learns less from them.
    """
    columns = [c for c in spec.describe_row_needs(rows.column_names).positive if c in rows.column_names]
    part = plan_steps(training, len(rows)).micro_batch_size
    if not columns or part < MIN_PART:
        return None
    if len(rows) > MAX_COUNTED:
        rows = rows.select(draw_positions(len(rows), MAX_COUNTED))
    counts = Counter(hash(repr(row)) for row in _iterate_raw(rows, columns))
    expected = _expect_distinct(list(counts.values()), part)
    if expected > FEW_DISTINCT * part:
        return None
    return (
        f"a part of {part} rows has {expected:.1f} different positives on average; rows with the same positive do not "
        "serve as negatives for each other; for more negatives, raise batch_size"
    )


def _expect_distinct(counts: list[int], size: int) -> float:
    """The expected number of different values among `size` rows, drawn without replacement from values with these counts."""
    total = sum(counts)

    def log_choose(n: int) -> float:
        return math.lgamma(n + 1) - math.lgamma(size + 1) - math.lgamma(n - size + 1)

    all_draws = log_choose(total)
    missing = (math.exp(log_choose(total - count) - all_draws) if total - count >= size else 0.0 for count in counts)
    return len(counts) - sum(missing)


def _describe_small_part(part: int, needs: RowNeeds) -> str:
    return f"a part of a batch has {_count_rows(part)}, but {_explain(needs)}: {ADVICE}"


def _explain(needs: RowNeeds) -> str:
    return f"{needs.reason}, so {needs.rows} rows at least"


def _count_rows(count: int) -> str:
    return f"{count} row{'s' * (count != 1)}"


def _check_table(name: str, rows: Dataset, needs: RowNeeds) -> None:
    if len(rows) < needs.rows:
        raise DataError(f"{name}: has {_count_rows(len(rows))}, but {_explain(needs)}: give more rows")
    for group in needs.distinct:
        columns = [column for column in group if column in rows.column_names]
        if columns and not _differs(rows, columns):
            raise DataError(
                f"{name}: every row has the same {' and '.join(columns)}, so there is nothing to learn from "
                f"{_count_rows(len(rows))}: give rows that differ"
            )


def _differs(rows: Dataset, columns: list[str]) -> bool:
    """Whether two rows differ in one of the columns. No image is decoded, and reading ends at the first difference."""
    first = None
    for row in _iterate_raw(rows, columns):
        if first is None:
            first = row
        elif row != first:
            return True
    return False


def _check_negatives(rows: Dataset, columns: tuple[str, ...]) -> None:
    present = [column for column in columns if column in rows.column_names]
    for number, row in enumerate(_iterate_raw(rows, present), 1):
        if not any(_is_given(value) for value in row.values()):
            raise DataError(
                f"the training data, row {number}: has no hard negative, and a part of one row has no other negative: {ADVICE}"
            )


def _is_given(value: Any) -> bool:
    """Whether a cell holds a text or an image."""
    if isinstance(value, Mapping):
        return value.get("bytes") is not None or bool(value.get("path"))
    if isinstance(value, list):
        return any(_is_given(item) for item in value)
    return bool(value)


def _iterate_raw(rows: Dataset, columns: list[str]) -> Iterator[dict[str, Any]]:
    for block in iterate_batches(rows.select_columns(columns), BLOCK):
        yield from block.to_pylist()

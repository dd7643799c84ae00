"""Check the inputs of `encode`, and read an iterable in windows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from zoo.core.errors import ZooError

T = TypeVar("T")


TABLE_ATTRIBUTES = ("columns", "column_names")
"""Attributes of tables of pandas, polars, pyarrow and datasets, of which a single column has neither."""


def check_texts(inputs: Any) -> Iterator[str]:
    """Iterate over the texts that a caller passed to `encode`.

    A list or tuple is checked as a whole before the first text comes; any other iterable is checked item by item. Raises
    ZooError for a single string, for a value that is not iterable or has no order, and, with its position, for an item that is
    not a string.
    """
    checked = _check_strings(iterate_inputs(inputs, "text"))
    return iter(list(checked)) if isinstance(inputs, list | tuple) else checked


def _check_strings(source: Iterator[Any]) -> Iterator[str]:
    for position, item in enumerate(source):
        text = item.as_py() if hasattr(item, "as_py") else item  # a scalar of pyarrow
        if not isinstance(text, str):
            raise ZooError(f"input {position} is {describe_type(text)}, expected a string{_advise_on_item(text)}")
        yield text if type(text) is str else str(text)  # numpy has strings of its own


def _advise_on_item(item: Any) -> str:
    if isinstance(item, list | tuple) or getattr(item, "ndim", None):
        return "; pass one flat list of texts"
    if isinstance(item, bytes | bytearray):
        return "; decode it first"
    if isinstance(item, float) and item != item:
        return "; the value is missing: drop such rows, or fill them with a text"
    return ""


def iterate_inputs(inputs: Any, noun: str, single_types: tuple[type, ...] = (str, bytes)) -> Iterator[Any]:
    """Return an iterator over `inputs`.

    Args:
        noun: what one input is, for the message, for example "image".
        single_types: types that are iterable but can only be one input.

    Raises ZooError for one of `single_types`, for a value that is not iterable, and for one whose order is not that of rows.
    """
    require_list(inputs, noun, single_types)
    try:
        return iter(inputs)
    except TypeError:
        raise ZooError(f"encode takes a list of {noun}s or another iterable, not {describe_type(inputs)}") from None


def require_list(
    inputs: Any, noun: str, single_types: tuple[type, ...] = (str, bytes), *, method: str = "encode"
) -> None:
    """Raise ZooError for a single input, a mapping, a set or a table, whose items are not the inputs in order."""
    if type(inputs) is list:
        return
    if isinstance(inputs, (*single_types, bytearray, memoryview)):
        raise ZooError(f"{method} takes a list of {noun}s, not one {noun}: write {method}([{noun}])")
    kind = describe_type(inputs)
    if isinstance(inputs, Mapping):
        raise ZooError(
            f"{method} takes a list of {noun}s, not {kind}, whose items are its keys: pass the list that it holds, for example "
            f"{method}(data['{noun}'])"
        )
    if isinstance(inputs, set | frozenset):
        raise ZooError(
            f"{method} takes a list of {noun}s, not {kind}, which has no order: write {method}(sorted({noun}s))"
        )
    if any(hasattr(inputs, name) for name in TABLE_ATTRIBUTES):
        raise ZooError(
            f"{method} takes a list of {noun}s, not the table {kind}: pass one of its columns, for example "
            f"{method}(table['{noun}'])"
        )


def read_in_windows(iterable: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items of `iterable` in lists of `size`, the last one shorter.

    An empty iterable yields one empty list, so that an encoder also returns an array of the right width for no input.
    A window is read only when it is asked for.
    """
    source = iter(iterable)
    window = list(islice(source, size))
    while True:
        yield window
        window = list(islice(source, size))
        if not window:
            return


@contextmanager
def add_position_to_errors(position: int) -> Iterator[None]:
    """Put "input 3" in front of the message of a ZooError that the block raises."""
    try:
        yield
    except ZooError as error:
        raise ZooError(f"input {position} {error}") from None


def describe_type(value: Any) -> str:
    """Return the name of a value's type for a message; "None" for None."""
    return "None" if value is None else type(value).__name__

"""Checks of what callers pass to `encode`, and reading of an iterable in windows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from zoo.core.errors import ZooError

T = TypeVar("T")


def check_texts(inputs: Any) -> Iterator[str]:
    """Iterate over the texts that a caller passed to `encode`.

    A list or tuple is checked as a whole before the first text comes; any other iterable is checked item by item. Raises
    ZooError for a single string, for a value that is not iterable, and, with its position, for an item that is not a string.
    """
    checked = _check_strings(iterate_inputs(inputs, "text"))
    return iter(list(checked)) if isinstance(inputs, list | tuple) else checked


def _check_strings(source: Iterator[Any]) -> Iterator[str]:
    for position, text in enumerate(source):
        if not isinstance(text, str):
            raise ZooError(f"input {position} is {describe_type(text)}, expected a string")
        yield text


def iterate_inputs(inputs: Any, noun: str, single_types: tuple[type, ...] = (str, bytes)) -> Iterator[Any]:
    """Return an iterator over `inputs`.

    Args:
        noun: what one input is, for the message, for example "image".
        single_types: types that are iterable but can only be one input.

    Raises ZooError for one of `single_types` and for a value that is not iterable.
    """
    if isinstance(inputs, single_types):
        raise ZooError(f"encode takes a list of {noun}s, not one {noun}: write encode([{noun}])")
    try:
        return iter(inputs)
    except TypeError:
        raise ZooError(f"encode takes a list of {noun}s or another iterable, not {describe_type(inputs)}") from None


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

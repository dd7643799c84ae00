"""What `encode` accepts, what it refuses and how, and reading in windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from zoo.core.errors import ZooError
from zoo.core.inputs import add_position_to_errors, check_texts, iterate_inputs, read_in_windows


@pytest.mark.parametrize(
    "shape", [list, tuple, iter, np.array, lambda texts: dict.fromkeys(texts).keys(), lambda texts: (t for t in texts)]
)
def test_any_iterable_of_strings_is_accepted(shape):
    assert list(check_texts(shape(["a", "b", "c"]))) == ["a", "b", "c"]


def test_a_list_is_checked_before_its_first_text_comes_and_an_iterator_item_by_item():
    with pytest.raises(ZooError, match="^input 1 is int, expected a string$"):
        check_texts(["a", 3])
    texts = check_texts(iter(["a", 3]))
    assert next(texts) == "a"
    with pytest.raises(ZooError, match="^input 1 is int"):
        next(texts)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("a text", r"takes a list of texts, not one text: write encode\(\[text\]\)"),
        (b"a text", "takes a list of texts, not one text"),
        (None, "takes a list of texts or another iterable, not None"),
        (3, "takes a list of texts or another iterable, not int"),
    ],
)
def test_a_single_text_and_a_value_that_is_not_iterable_are_refused_at_once(inputs, message):
    with pytest.raises(ZooError, match=message):
        check_texts(inputs)


def test_the_caller_says_which_types_are_a_single_input():
    with pytest.raises(ZooError, match=r"takes a list of images, not one image: write encode\(\[image\]\)"):
        iterate_inputs(Path("photo.jpg"), "image", (str, bytes, Path))
    assert list(iterate_inputs([Path("photo.jpg")], "image", (str, bytes, Path))) == [Path("photo.jpg")]


@pytest.mark.parametrize(("count", "sizes"), [(0, [0]), (1, [1]), (3, [3]), (4, [3, 1]), (6, [3, 3]), (7, [3, 3, 1])])
def test_windows_hold_every_item_in_order_and_no_input_is_one_empty_window(count, sizes):
    windows = list(read_in_windows(iter(range(count)), 3))
    assert [len(window) for window in windows] == sizes
    assert [item for window in windows for item in window] == list(range(count))


def test_a_window_is_read_only_when_it_is_asked_for():
    source = iter(range(10))
    windows = read_in_windows(source, 3)
    assert next(windows) == [0, 1, 2]
    assert next(source) == 3


def test_the_position_is_put_before_the_message_of_a_zoo_error_alone():
    with pytest.raises(ZooError, match="^input 7 is broken$"), add_position_to_errors(7):
        raise ZooError("is broken")
    with pytest.raises(OSError, match="^the disk$"), add_position_to_errors(7):
        raise OSError("the disk")

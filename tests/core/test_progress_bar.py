"""The progress bar counts every input once and leaves stdout to the vectors."""

from __future__ import annotations

import numpy as np
import pytest
from rich.progress import Progress

from zoo.core.progress import concatenate_with_progress, show_progress_bar


@pytest.fixture
def advances(monkeypatch):
    """What the bar was advanced by, in order."""
    counts: list[int] = []
    monkeypatch.setattr(Progress, "advance", lambda self, task, count: counts.append(count))
    return counts


def test_a_bar_that_is_not_shown_counts_nothing(advances):
    with show_progress_bar(3, show=False) as advance:
        advance(3)
    assert advances == []


def test_blocks_are_concatenated_and_counted_by_their_rows(advances, capsys):
    blocks = [np.full((n, 2), n) for n in (3, 1)]
    vectors = concatenate_with_progress(iter(blocks), ["a"] * 4, show_progress=True)
    np.testing.assert_array_equal(vectors, [[3, 3], [3, 3], [3, 3], [1, 1]])
    assert advances == [3, 1]
    assert capsys.readouterr().out == ""

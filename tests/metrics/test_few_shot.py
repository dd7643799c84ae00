"""Episodes do not depend on the encoder, never use a row twice, and give chance for vectors that say nothing."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.core.errors import DataError
from zoo.metrics.few_shot import Sizes, choose_sizes, draw_episodes, measure_episodes, renumber

LABELS = np.repeat(np.arange(12), 30)
SIZES = Sizes(5, (1, 5), 10)
RNG = np.random.default_rng(0)


def test_an_episode_has_its_classes_once_and_no_row_twice():
    episodes = draw_episodes(LABELS, SIZES, episodes=200)
    classes = LABELS[episodes.support]
    assert (classes == classes[:, :, :1]).all()
    assert (LABELS[episodes.queries] == classes[:, :, :1]).all()
    assert all(len(set(row)) == 5 for row in classes[:, :, 0])
    together = np.concatenate([episodes.support, episodes.queries], axis=2).reshape(200, -1)
    assert all(len(set(row)) == 5 * 15 for row in together)
    assert len(episodes.list_rows()) == len(LABELS), "all rows take part over many episodes"


def test_accuracies_are_those_of_a_plain_loop():
    episodes = draw_episodes(LABELS, SIZES, episodes=70, seed=3)
    vectors = (RNG.normal(size=(12, 8))[LABELS] + RNG.normal(size=(360, 8))).astype(np.float32)
    for shots in (1, 5):
        expected = []
        for support, queries in zip(*episodes, strict=True):
            means = np.stack([vectors[rows[:shots]].mean(0) for rows in support])
            hits = [
                np.linalg.norm(means - vectors[row], axis=1).argmin() == place
                for place, rows in enumerate(queries)
                for row in rows
            ]
            expected.append(np.mean(hits))
        found = measure_episodes(vectors, episodes, shots)
        np.testing.assert_allclose(found.accuracies, expected)
        assert found.accuracy == pytest.approx(np.mean(expected))
        assert found.low < found.accuracy < found.high


def test_vectors_that_say_nothing_give_chance_and_separate_classes_give_one():
    episodes = draw_episodes(LABELS, SIZES, episodes=600)
    noise = measure_episodes(RNG.normal(size=(360, 16)).astype(np.float32), episodes, 5)
    assert noise.low < 0.2 < noise.high
    assert measure_episodes(np.ones((360, 4), np.float32), episodes, 5).accuracy == pytest.approx(0.2)
    assert measure_episodes(np.eye(12, dtype=np.float32)[LABELS], episodes, 1)[1:4] == (1, 1, 1)


def test_more_labelled_rows_help_and_numbers_of_rows_can_be_dense():
    vectors = (RNG.normal(size=(12, 8))[LABELS] + 1.5 * RNG.normal(size=(360, 8))).astype(np.float32)
    episodes = draw_episodes(LABELS, SIZES, episodes=100)
    one, five = (measure_episodes(vectors, episodes, shots) for shots in (1, 5))
    assert five.low > one.high
    rows = episodes.list_rows()
    again = measure_episodes(vectors[rows], renumber(episodes, rows), 5)
    np.testing.assert_array_equal(again.accuracies, five.accuracies)


def test_small_classes_take_no_part_and_too_few_classes_are_an_error():
    labels = [*LABELS, *["rare"] * 14]
    assert "rare" not in {labels[row] for row in draw_episodes(labels, SIZES, episodes=50).list_rows()}
    with pytest.raises(DataError, match=r"12 of 13 classes have 15 rows \(5 labelled and 10 others\)"):
        draw_episodes(labels, SIZES._replace(ways=13))


@pytest.mark.parametrize(
    ("counts", "sizes"),
    [
        ([40] * 9, (5, (1, 5), 15)),
        ([10] * 3, (3, (1, 5), 5)),
        ([5] * 8, (5, (1, 4), 1)),
        ([3, 2, 1], (2, (1,), 1)),
        ([30] * 5 + [6] * 20, (5, (1, 5), 1)),
    ],
)
def test_the_sizes_fit_the_labels(counts, sizes):
    labels = np.repeat(np.arange(len(counts)), counts)
    assert choose_sizes(labels) == sizes
    assert len(draw_episodes(labels, Sizes(*sizes), episodes=5).queries) == 5


def test_labels_that_cannot_be_used_are_an_error():
    with pytest.raises(DataError, match="two classes need at least two labelled rows"):
        choose_sizes(["a", "a", "b"])

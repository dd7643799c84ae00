"""Two scores are compared on the same resampled rows: the scores are those of scikit-learn and scipy, the interval is paired."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score

from zoo.metrics import outcomes
from zoo.metrics.outcomes import Outcomes, compare

RNG = np.random.default_rng(0)
TRUTH = RNG.integers(0, 6, 400).astype(float)
LABELS = (TRUTH > 3).astype(float)
NOISY, NOISIER = TRUTH + RNG.normal(0, 1, 400), TRUTH + RNG.normal(0, 3, 400)


def correlated(prediction):
    return Outcomes("pairs", "rank correlation", np.column_stack([prediction, TRUTH]))


def ranked(prediction):
    return Outcomes("pairs", "average precision", np.column_stack([prediction, LABELS]))


def test_scores_are_those_of_scipy_and_scikit_learn():
    assert correlated(NOISY).compute_score() == pytest.approx(spearmanr(NOISY, TRUTH)[0], abs=1e-12)
    assert ranked(NOISY).compute_score() == pytest.approx(average_precision_score(LABELS, NOISY), abs=1e-12)
    assert Outcomes("rows", "mean", LABELS).compute_score() == pytest.approx(LABELS.mean())


@pytest.mark.parametrize("make", [correlated, ranked])
def test_a_resampled_score_is_the_score_of_the_repeated_rows(make):
    chosen = RNG.integers(0, 400, 400)
    weights = np.bincount(chosen, minlength=400)[None].astype(float)
    values = make(NOISY).values
    statistic = make(NOISY).statistic
    (weighted,) = outcomes._STATISTICS[statistic](values, weights)
    if statistic == "average precision":
        expected = average_precision_score(values[chosen, 1], values[chosen, 0])
    else:  # the ranks are those among all rows
        from scipy.stats import rankdata

        ranks = rankdata(values, axis=0)[chosen]
        expected = np.corrcoef(ranks.T)[0, 1]
    assert weighted == pytest.approx(expected, abs=1e-9)


def test_a_difference_that_is_there_has_an_interval_above_zero_and_equal_encoders_have_none():
    comparison = compare(correlated(NOISY), correlated(NOISIER))
    assert 0 < comparison.low < comparison.difference < comparison.high
    assert compare(correlated(NOISY), correlated(NOISY)) == (0, 0, 0)
    swapped = compare(correlated(NOISIER), correlated(NOISY))
    assert swapped == pytest.approx((-comparison.difference, -comparison.high, -comparison.low))


def test_the_interval_of_a_mean_is_that_of_its_standard_error():
    own = Outcomes("queries", "mean", RNG.random(2000))
    other = Outcomes("queries", "mean", RNG.random(2000))
    error = (own.values - other.values).std() / 2000**0.5
    comparison = compare(own, other, draws=4000)
    assert comparison.high - comparison.low == pytest.approx(2 * 1.96 * error, rel=0.05)


def test_the_comparison_is_paired():
    """The same noise in both scores leaves their difference exact."""
    hard = RNG.random(500)
    comparison = compare(Outcomes("queries", "mean", hard + 0.01), Outcomes("queries", "mean", hard))
    assert comparison.low == pytest.approx(0.01)
    assert comparison.high == pytest.approx(0.01)


def test_a_fixed_score_is_subtracted_from_every_draw():
    own = Outcomes("rows", "mean", LABELS)
    comparison = compare(own, 0.25)
    assert comparison.difference == pytest.approx(LABELS.mean() - 0.25)
    assert comparison.low < comparison.difference < comparison.high


def test_many_rows_are_drawn_in_blocks_with_the_same_result(monkeypatch):
    whole = compare(correlated(NOISY), correlated(NOISIER), seed=3)
    monkeypatch.setattr(outcomes, "BLOCK_SIZE", 400 * 7)
    assert compare(correlated(NOISY), correlated(NOISIER), seed=3) == pytest.approx(whole)
    assert compare(correlated(NOISY), correlated(NOISIER), seed=4) != whole


def test_constant_predictions_and_draws_without_a_positive_pair_score_zero():
    assert correlated(np.ones(400)).compute_score() == 0
    rare = Outcomes("pairs", "average precision", np.array([[1.0, 1], [0, 0], [0, 0]]))
    assert compare(rare, 0.0).low == 0


def test_outcomes_of_other_units_are_refused():
    with pytest.raises(ValueError, match="400 pairs and 400 rows"):
        compare(correlated(NOISY), Outcomes("rows", "mean", LABELS))

"""A training that ends too early is named by its plan or its losses, and one that came to its end is not accused."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.diagnosis.progress import Progress, judge_losses, judge_progress, measure_move


def make_lines(seed, *, steps=80, half_life=15.0, schedule="constant", noise=0.02, name="loss"):
    """Lines of a log whose loss falls to 1 by half in `half_life` steps, with noise."""
    rng = np.random.default_rng(seed)
    lines = []
    for step in range(1, steps + 1):
        rate = 1e-3 if schedule == "constant" else 1e-3 * (1 - step / steps)
        loss = 1 + 2 ** (-step / half_life) + noise * rng.standard_normal()
        lines.append({"step": step, name: loss, "learning_rate": rate})
    return lines


@pytest.mark.parametrize("seed", range(10))
def test_losses_that_fall_to_the_end_are_named_and_flat_ones_are_not(seed):
    (finding,) = judge_losses(make_lines(seed, half_life=60))
    assert "the training ended while its loss fell" in finding.message
    assert judge_losses(make_lines(seed, half_life=8)) == []
    assert judge_losses(make_lines(seed, half_life=60, schedule="linear")) == [], "the schedule came to its end"


def test_validation_losses_count_before_those_of_the_training():
    flat = [{"validation_loss": 1.0 + 0.01 * (step % 2)} for step in range(24)]
    assert judge_losses([*make_lines(0, half_life=60), *flat]) == []


@pytest.mark.parametrize("lines", [[], make_lines(0, steps=19, half_life=60), [{"loss": 1.0}] * 40])
def test_few_losses_and_logs_without_a_rate_say_nothing(lines):
    assert judge_losses(lines) == []
    assert judge_losses([{**line, "phase": 1} for line in make_lines(0, half_life=60)]) == []


def test_weights_from_the_middle_of_a_training_are_named():
    (finding,) = judge_progress(Progress(40, 160, has_ended=False))
    assert finding.message == "the training has not ended: this is step 40 of 160, 25 %"
    assert judge_progress(Progress(160, 160, has_ended=True)) == []
    assert judge_progress(Progress(40, 160, has_ended=True)) == [], "an early stop ended it"


def test_the_move_is_the_share_of_neighbours_that_changed():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(400, 16)).astype(np.float32)
    rotation = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    assert measure_move(vectors, 3 * vectors @ rotation) == pytest.approx(0, abs=0.01)
    assert measure_move(vectors, rng.normal(size=(400, 16))) == pytest.approx(1 - 10 / 400, abs=0.01)
    little, much = (measure_move(vectors, vectors + size * rng.normal(size=vectors.shape)) for size in (0.05, 0.5))
    assert little < much

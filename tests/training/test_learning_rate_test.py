"""The range test of the learning rate: what it chooses, what it leaves as it was, and what is kept of it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from tiny_matryoshka import build, rows

from zoo.encoder import Encoder, TrainingRun
from zoo.schema import Training
from zoo.training import learning_rate_test, trainer
from zoo.training.learning_rate_test import FACTORS, find_learning_rate

SETTINGS = Training(max_steps=400, batch_size=8, precision="fp32")


class Regression:
    """Weights that must move by `distance`: Adam moves each by about the learning rate in a step."""

    def __init__(self, distance, slope=1.0):
        self.module = torch.nn.Module()
        self.module.weights = torch.nn.Parameter(torch.zeros(4))
        self.module.register_buffer("calls", torch.zeros(()))
        self.distance, self.slope, self.step, self.seed = distance, slope, 7, 3

    def collate(self, rows):
        return {"x": torch.tensor([row["x"] for row in rows])}

    def loss(self, batch):
        self.module.calls += 1
        gap = self.module.weights * self.slope - self.distance
        return (gap * gap).mean() / self.distance**2 + 0 * batch["x"].sum() + 0.1

    def parameter_groups(self, training):
        return [{"params": [self.module.weights]}]


ROWS = [{"x": float(i)} for i in range(100)]


def test_a_shorter_way_to_the_best_weights_gives_a_lower_rate():
    chosen = [find_learning_rate(Regression(d), ROWS, SETTINGS, 0.01).learning_rate for d in (10.0, 1.0, 0.1)]
    assert chosen == sorted(chosen, reverse=True)
    assert chosen[0] > chosen[-1]
    assert {round(rate / 0.01, 3) for rate in chosen} <= set(FACTORS)


def test_a_loss_that_does_not_fall_keeps_the_usual_rate_and_the_line_says_so():
    outcome = find_learning_rate(Regression(1.0, slope=0.0), ROWS, SETTINGS, 0.02)
    assert (outcome.learning_rate, outcome.lowest_at) == (0.02, None)
    assert "did not fall" in outcome.describe(0.02)


def test_the_test_ends_when_the_loss_has_doubled():
    outcome = find_learning_rate(Regression(0.05), ROWS, SETTINGS, 0.1)
    assert len(outcome.rates) == len(outcome.losses) < learning_rate_test.STEPS
    assert not outcome.losses[-1] < 2
    assert all(loss < 2 for loss in outcome.losses[:-1])


def test_rates_grow_by_the_same_factor_and_the_first_losses_are_those_of_the_untrained_weights():
    outcome = find_learning_rate(Regression(1000.0), ROWS, SETTINGS, 0.01)
    growth = [after / before for before, after in zip(outcome.rates, outcome.rates[1:], strict=False)]
    assert max(growth) == pytest.approx(min(growth))
    assert (outcome.rates[0], outcome.rates[-1]) == (pytest.approx(0.003), pytest.approx(1.6))
    assert outcome.losses[0] == 1.0


def test_the_encoder_and_the_random_state_are_as_before(tmp_path):
    encoder = build(tmp_path)
    encoder.module.eval()
    before = {name: tensor.clone() for name, tensor in encoder.module.state_dict().items()}
    step, state = encoder.step, torch.random.get_rng_state()
    first = find_learning_rate(encoder, rows(), SETTINGS, 1e-3)
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.module.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())
    assert (encoder.step, encoder.module.training) == (step, False)
    assert all(parameter.grad is None for parameter in encoder.module.parameters())
    assert find_learning_rate(encoder, rows(), SETTINGS, 1e-3) == first


def choose(encoder, folder, said, **changes):
    settings = SETTINGS.model_copy(update={"learning_rate": "auto", **changes})
    return learning_rate_test.choose_learning_rate(encoder, TrainingRun(rows(), settings, folder, say=said.append))


def test_a_rate_that_was_chosen_is_kept_in_the_run_folder(tmp_path):
    encoder, said = build(tmp_path), []
    rate = choose(encoder, tmp_path, said)
    record = tmp_path / learning_rate_test.RECORD
    assert json.loads(record.read_text())["learning_rate"] == rate
    assert len(said) == 1
    assert said[0].startswith(f"training.learning_rate is not set: {rate:g} (")
    record.write_text(json.dumps({"learning_rate": 0.125}))
    assert choose(encoder, tmp_path, said) == 0.125
    assert len(said) == 1


def test_a_short_training_has_the_usual_rate_of_the_family(tmp_path):
    encoder, said = build(tmp_path), []
    assert choose(encoder, tmp_path, said, max_steps=299) == encoder.usual_learning_rate == 1e-4
    assert not said
    assert not Path(tmp_path / learning_rate_test.RECORD).exists()


def test_the_training_time_has_the_range_test(monkeypatch, tmp_path):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def take_a_minute(encoder, run):
        clock[0] += 60
        return 0.1

    monkeypatch.setattr(learning_rate_test, "choose_learning_rate", take_a_minute)
    monkeypatch.setattr(trainer, "fit", lambda encoder, rows, settings, folder, **options: 300.0)
    run = TrainingRun(rows(), Training(learning_rate="auto"), tmp_path)
    assert Encoder().train(run) == 360.0

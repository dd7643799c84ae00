"""Validation tasks in the Trainer: their score decides, is logged, and does not change the training."""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest
import torch
from contract import build as build_contract
from contract import load_contract
from tiny_matryoshka import build, rows

from zoo import families
from zoo.core.errors import ZooError
from zoo.schema import Training
from zoo.training import automatic, trainer

SETTINGS = Training(epochs=3, batch_size=16, learning_rate=1e-3, checkpoint_every=2, precision="fp32")


class FakeWatch:
    """Returns the given scores one after the other, and keeps the weights that it saw."""

    def __init__(self, scores, greater_is_better=True, interrupt_at=None):
        self.scores, self.greater_is_better, self.interrupt_at = list(scores), greater_is_better, interrupt_at
        self.weights = []

    def score(self, encoder):
        assert not encoder.module.training
        if len(self.weights) == self.interrupt_at:
            raise KeyboardInterrupt
        self.weights.append(copy_weights(encoder))
        value = self.scores[len(self.weights) - 1]
        return {"one": value - 0.5, "two": value + 0.5}


def copy_weights(encoder):
    return {name: tensor.clone() for name, tensor in encoder.module.state_dict().items()}


def are_equal(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


def read_lines(folder, key="validation_score"):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if key in line]


def train(tmp_path, name, watch, validation=None, **settings):
    encoder = build(tmp_path)
    settings = SETTINGS.model_copy(update=settings)
    trainer.fit(encoder, rows(), settings, tmp_path / name, validation=validation, watch=watch)
    return encoder


def test_the_weights_of_the_best_score_are_kept_and_each_score_is_on_record(tmp_path):
    watch = FakeWatch([0.1, 0.5, 0.3, 0.2, 0.1, 0.4])
    encoder = train(tmp_path, "run", watch)
    assert are_equal(copy_weights(encoder), watch.weights[1])
    lines = read_lines(tmp_path / "run")
    assert [line["step"] for line in lines] == [2, 4, 6, 8, 10, 12]
    assert [line["validation_score"] for line in lines] == pytest.approx(watch.scores)
    assert lines[1]["validation_scores"] == {"one": 0.0, "two": 1.0}
    assert not read_lines(tmp_path / "run", "validation_loss")


def test_a_metric_that_is_better_if_lower_keeps_the_lowest(tmp_path):
    watch = FakeWatch([0.4, 0.5, 0.3, 0.2, 0.6, 0.4], greater_is_better=False)
    assert are_equal(copy_weights(train(tmp_path, "run", watch)), watch.weights[3])


def test_with_rows_and_tasks_the_tasks_decide_and_both_are_on_record(tmp_path):
    watch = FakeWatch([0.9, 0.5, 0.3, 0.2, 0.1, 0.0])
    encoder = train(tmp_path, "run", watch, validation=rows(8))
    lines = read_lines(tmp_path / "run")
    assert lines == read_lines(tmp_path / "run", "validation_loss")
    losses = [line["validation_loss"] for line in lines]
    assert losses.index(min(losses)) > 0, "the loss would choose other weights"
    assert are_equal(copy_weights(encoder), watch.weights[0])


def test_early_stop_counts_validations_without_a_better_score(tmp_path):
    watch = FakeWatch([0.1, 0.5, 0.5, 0.4, 0.9, 0.9])
    encoder = train(tmp_path, "run", watch, early_stop=2)
    assert len(watch.weights) == 4
    assert are_equal(copy_weights(encoder), watch.weights[1])


@pytest.mark.parametrize(("every", "checkpoint_every", "steps"), [(3, 4, [3, 6, 9, 12]), (4, 3, [4, 8, 12])])
def test_validations_need_not_fall_on_checkpoints(every, checkpoint_every, steps, tmp_path):
    for best in range(len(steps)):
        watch = FakeWatch([float(number == best) for number in range(len(steps))])
        encoder = train(tmp_path, f"run-{best}", watch, validate_every=every, checkpoint_every=checkpoint_every)
        assert [line["step"] for line in read_lines(tmp_path / f"run-{best}")] == steps
        assert are_equal(copy_weights(encoder), watch.weights[best])


def test_a_training_with_a_task_makes_the_steps_of_one_without(tmp_path):
    plain = build(tmp_path)
    trainer.fit(plain, rows(), SETTINGS, tmp_path / "plain")
    watch = FakeWatch(range(6))
    assert are_equal(copy_weights(plain), copy_weights(train(tmp_path, "watched", watch)))


@pytest.mark.parametrize("interrupt_at", [1, 3, 5])
def test_an_interrupted_run_ends_like_an_uninterrupted_one(interrupt_at, tmp_path):
    scores, settings = [0.1, 0.2, 0.6, 0.2, 0.3, 0.4], {"validate_every": 2, "checkpoint_every": 5, "early_stop": 3}
    whole = train(tmp_path, "whole", FakeWatch(scores), **settings)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, "stopped", FakeWatch(scores, interrupt_at=interrupt_at), **settings)
    done = [line["step"] for line in read_lines(tmp_path / "stopped")]
    newest, _ = trainer.find_newest_checkpoint(tmp_path / "stopped" / "checkpoints", remove_incomplete=False)
    left = sum(step <= trainer.read_step(newest) for step in done)
    again = train(tmp_path, "stopped", FakeWatch(scores[left:]), **settings)
    assert are_equal(copy_weights(whole), copy_weights(again))
    assert read_lines(tmp_path / "whole") == read_lines(tmp_path / "stopped")


@pytest.mark.parametrize("family", [name for name in families.names() if families.load_spec(name).uses_validation])
def test_a_task_sees_the_weights_of_its_step_in_every_family(family, tmp_path):
    """Copies of weights that were made for encoding must not outlive a step."""
    contract = load_contract(family, tmp_path)
    encoder = build_contract(contract)
    encoder.prepare(contract.rows, tmp_path / "cache")
    seen = []

    class Watch:
        greater_is_better = True

        def score(self, encoder):
            seen.append(encoder.view().encode(contract.inputs))
            return {"task": float(len(seen))}

    settings = contract.training.model_copy(update={"max_steps": 4, "epochs": None, "validate_every": 2})
    encoder.fit(contract.rows, settings, tmp_path / "run", watch=Watch())
    assert len(seen) == 2
    assert not np.array_equal(seen[0], seen[1])
    with contextlib.suppress(AttributeError):
        if encoder.spec.ema is not None:
            return  # the mean of the weights is used only at the end
    np.testing.assert_allclose(encoder.encode(contract.inputs), seen[1], atol=1e-6)


@pytest.mark.parametrize("family", [name for name in families.names() if not families.load_spec(name).uses_validation])
def test_a_family_that_does_not_watch_its_training_refuses_tasks(family, tmp_path):
    contract = load_contract(family, tmp_path)
    with pytest.raises(ZooError, match=f"the family {family} does not look at held-out rows"):
        build_contract(contract).fit(contract.rows, contract.training, tmp_path, watch=FakeWatch([]))


def test_automatic_early_stop_counts_a_task_as_validation(tmp_path):
    encoder = build(tmp_path)
    encoder.fit(rows(), SETTINGS, tmp_path / "run", watch=FakeWatch(range(6)))
    assert encoder.chosen["training.early_stop"] == automatic.PATIENCE

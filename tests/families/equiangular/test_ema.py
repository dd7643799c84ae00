"""The exponential moving average of weights."""

from __future__ import annotations

import pytest
import torch

from zoo.families.equiangular.ema import MovingAverage


@pytest.fixture
def averaged():
    """A module with the last of four weights, its moving average, and the value that the average should have."""
    module = torch.nn.Linear(1, 1, bias=False)
    average = MovingAverage(module, 0.5)
    expected = 0.0
    for step, value in enumerate([3.0, 5.0, 9.0, 1.0]):
        module.weight.data.fill_(value)
        average.update(module, step)
        average.update(module, step)  # a second loss of the same step, under gradient accumulation
        decay = min(0.5, step / (10 + step))
        expected = decay * expected + (1 - decay) * value
    return module, average, expected


def test_the_average_counts_the_weights_once_a_step(averaged):
    module, average, expected = averaged
    average.copy_to(module)
    assert module.weight.item() == pytest.approx(expected)


def test_a_swap_ends_with_the_block_also_after_an_error(averaged):
    module, average, expected = averaged
    with average.swap_into(module):
        assert module.weight.item() == pytest.approx(expected)
    assert module.weight.item() == 1.0
    with pytest.raises(KeyError, match="stop"), average.swap_into(module):
        raise KeyError("stop")
    assert module.weight.item() == 1.0
    average.copy_to(module)
    assert module.weight.item() == pytest.approx(expected), "the average itself is unchanged"


def test_the_average_is_part_of_the_state_and_is_not_trained(averaged):
    _, average, expected = averaged
    assert average.state_dict()["copy.weight"].item() == pytest.approx(expected)
    assert not any(parameter.requires_grad for parameter in average.parameters())

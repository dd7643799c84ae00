"""Random numbers by step and epoch: the same after a restart, different at every step."""

from __future__ import annotations

import torch

from zoo.ops.random_state import epoch_generator, step_generator


def draw(generator):
    return torch.randint(0, 2**31, (4,), generator=generator).tolist()


def test_the_numbers_of_a_step_are_those_of_earlier_versions():
    assert draw(step_generator(42, 7)) == draw(torch.Generator().manual_seed(43 * 1_000_003 + 7))
    assert draw(epoch_generator(42, 7)) == draw(torch.Generator().manual_seed(42 * 1_000_003 + 7))


def test_every_seed_and_step_has_its_own_numbers_and_the_global_generator_has_no_influence():
    torch.manual_seed(1)
    numbers = [draw(step_generator(seed, step)) for seed in (0, 1) for step in range(3)]
    torch.manual_seed(2)
    assert [draw(step_generator(seed, step)) for seed in (0, 1) for step in range(3)] == numbers
    assert len({tuple(row) for row in numbers}) == 6


def test_a_generator_leaves_the_global_one_as_it_is():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    draw(step_generator(42, 7))
    draw(epoch_generator(42, 7))
    assert torch.equal(torch.get_rng_state(), state)

"""In one process nothing changes; the factor of the gradient is the number of processes."""

from __future__ import annotations

import pytest
import torch

from zoo.ops import distributed


def test_one_process_gathers_its_own_rows_and_counts():
    rows = torch.randn(3, 2)
    assert distributed.get_world_size() == 1
    assert distributed.all_gather_with_grad(rows) is rows
    assert distributed.find_largest_count(5) == 5


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_the_gradient_of_the_global_batch_is_multiplied_and_its_value_is_not(processes, monkeypatch):
    monkeypatch.setattr(distributed, "get_world_size", lambda: processes)
    weight = torch.tensor(3.0, requires_grad=True)
    loss = distributed.global_batch_gradient(weight**2)
    loss.backward()
    assert loss.item() == 9.0
    assert weight.grad.item() == pytest.approx(6.0 * processes)

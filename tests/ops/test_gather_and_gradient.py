"""In one process nothing changes. In several, rows are in rank order and a gradient has the factor of their number."""

from __future__ import annotations

import pytest
import torch

from zoo.ops import distributed


def test_one_process_gathers_its_own_rows_and_counts():
    rows = torch.randn(3, 2)
    assert distributed.get_world_size() == 1
    assert distributed.all_gather_with_grad(rows) is rows
    assert distributed.find_largest_count(5) == 5


@pytest.fixture
def second_of_two_processes(monkeypatch):
    """Let this process be rank 1 of 2. The rows and counts of rank 0 are twice its own."""

    def all_gather(parts, rows):
        assert rows.is_contiguous(), "as the backends demand"
        assert not rows.requires_grad
        parts[0].copy_(2 * rows)
        parts[1].copy_(rows)

    def all_reduce(count, op):
        assert op == torch.distributed.ReduceOp.MAX
        count.copy_(2 * count)

    doubles = {
        "is_initialized": lambda: True,
        "get_world_size": lambda: 2,
        "get_rank": lambda: 1,
        "get_backend": lambda: "gloo",
        "all_gather": all_gather,
        "all_reduce": all_reduce,
    }
    for name, double in doubles.items():
        monkeypatch.setattr(torch.distributed, name, double)


@pytest.mark.parametrize("dim", [0, 1])
def test_gathered_rows_are_in_rank_order_and_only_own_rows_have_a_gradient(second_of_two_processes, dim):
    rows = torch.arange(6.0).view(3, 2).T.requires_grad_()
    gathered = distributed.all_gather_with_grad(rows, dim=dim)
    assert torch.equal(gathered, torch.cat([2 * rows, rows], dim=dim))
    (gathered * torch.arange(1.0, 13).view_as(gathered)).sum().backward()
    assert torch.equal(rows.grad, torch.arange(1.0, 13).view_as(gathered).chunk(2, dim)[1])


def test_rows_are_gathered_along_the_first_dimension_by_default(second_of_two_processes):
    assert distributed.all_gather_with_grad(torch.ones(3, 2)).shape == (6, 2)


def test_the_largest_count_of_two_processes_is_a_whole_number(second_of_two_processes):
    count = distributed.find_largest_count(5)
    assert (count, type(count)) == (10, int)


@pytest.mark.parametrize(("backend", "device"), [("nccl", "cuda"), ("gloo", "cpu")])
def test_a_count_lies_where_the_backend_reads_it(second_of_two_processes, monkeypatch, backend, device):
    devices, make_tensor = [], torch.tensor
    monkeypatch.setattr(torch.distributed, "get_backend", lambda: backend)
    monkeypatch.setattr(torch, "tensor", lambda count, device: devices.append(device) or make_tensor(count))
    assert distributed.find_largest_count(5) == 10
    assert devices == [device]


def test_without_torchs_distributed_package_there_is_one_process(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_available", lambda: False)
    monkeypatch.setattr(torch.distributed, "is_initialized", None)  # a build without the package has no such function
    assert distributed.get_world_size() == 1


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_the_gradient_of_the_global_batch_is_multiplied_and_its_value_is_not(processes, monkeypatch):
    monkeypatch.setattr(distributed, "get_world_size", lambda: processes)
    weight = torch.tensor(3.0, requires_grad=True)
    loss = distributed.global_batch_gradient(weight**2)
    loss.backward()
    assert loss.item() == 9.0
    assert weight.grad.item() == pytest.approx(6.0 * processes)

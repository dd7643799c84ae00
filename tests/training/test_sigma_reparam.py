"""σReparam: the same function at the start, the gain as spectral norm, plain weights at the end, and a training that needs it."""

from __future__ import annotations

import sys

import pytest
import torch
from code_blocks import ROOT

from zoo.core.errors import ZooError
from zoo.training.sigma_reparam import reparametrise

sys.path.insert(0, str(ROOT / "benchmarks"))
from sigma_reparam import train_sorter


def make_network():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return torch.nn.Sequential(
            torch.nn.Conv2d(2, 6, 3),
            torch.nn.Flatten(),
            torch.nn.Linear(24, 12),
            torch.nn.ReLU(),
            torch.nn.Linear(12, 5),
        )


def draw_inputs(count=8, seed=1):
    return torch.randn(count, 2, 4, 4, generator=torch.Generator().manual_seed(seed))


def test_the_network_computes_the_same_inside_and_after():
    network, inputs = make_network().eval(), draw_inputs()
    before, names = network(inputs), [name for name, _ in network.named_parameters()]
    with reparametrise(network) as layers:
        assert layers == ["0", "2", "4"]
        assert torch.allclose(network(inputs), before, atol=1e-5)
        assert len(list(network.parameters())) == len(names) + 3
    assert torch.allclose(network(inputs), before, atol=1e-5)
    assert [name for name, _ in network.named_parameters()] == names
    assert type(network[2]) is torch.nn.Linear


def test_the_spectral_norm_is_the_gain_and_folding_keeps_it():
    network, inputs = make_network().train(), draw_inputs()
    with reparametrise(network):
        gain = network[2].parametrizations.weight[0].gain
        with torch.no_grad():
            gain.fill_(1.7)
            network[2].parametrizations.weight.original.mul_(3).add_(0.1)
        for _ in range(20):
            network(inputs)
        assert torch.linalg.matrix_norm(network[2].weight, 2).item() == pytest.approx(1.7, abs=1e-3)
        network.eval()
        last = network(inputs)
    assert torch.allclose(network.eval()(inputs), last, atol=1e-6)
    assert torch.linalg.matrix_norm(network[2].weight, 2).item() == pytest.approx(1.7, abs=1e-3)


def test_orthogonal_weights_have_the_gain_one():
    layer = torch.nn.Linear(9, 9)
    torch.nn.init.orthogonal_(layer.weight)
    with reparametrise(torch.nn.Sequential(layer)):
        assert layer.parametrizations.weight[0].gain.item() == pytest.approx(1, abs=1e-5)


def test_evaluation_does_not_move_the_estimate():
    network = make_network().eval()
    with reparametrise(network):
        part = network[2].parametrizations.weight[0]
        before = part.left.clone()
        network(draw_inputs())
        assert torch.equal(part.left, before)
        network.train()(draw_inputs())
        network(draw_inputs(seed=2))
        assert not torch.equal(part.left, before)


def test_the_gradient_of_the_gain_is_that_of_the_formula():
    layer = torch.nn.Linear(6, 4, bias=False)
    with reparametrise(torch.nn.Sequential(layer)):
        layer.eval()
        part, weight = layer.parametrizations.weight[0], layer.parametrizations.weight.original
        target = torch.randn(4, 6, generator=torch.Generator().manual_seed(2))
        (layer.weight * target).sum().backward()
        norm = torch.linalg.matrix_norm(weight.detach(), 2)
        assert part.gain.grad.item() == pytest.approx((weight / norm * target).sum().item(), rel=1e-4)
        # γ W / σ(W) does not change if W grows, so the gradient is orthogonal to W.
        assert (weight.grad * weight).sum().item() == pytest.approx(0, abs=1e-4)


def test_shared_frozen_and_zero_weights_stay_as_they_are():
    network = torch.nn.ModuleDict(
        {"table": torch.nn.Embedding(7, 5), "output": torch.nn.Linear(5, 7), "zero": torch.nn.Linear(5, 5)}
    )
    network["output"].weight = network["table"].weight
    torch.nn.init.zeros_(network["zero"].weight)
    network["frozen"] = torch.nn.Linear(5, 5).requires_grad_(False)
    with pytest.raises(ZooError, match="no linear layer that is trained"), reparametrise(network):
        pass
    with reparametrise(network, wanted=False) as layers:
        assert layers == []


@pytest.mark.slow
def test_a_deep_network_learns_without_warmup_where_the_plain_one_does_not():
    """Zhai et al., section 4.2: at a high rate without warm-up the plain network stays at chance, which is ln 12 = 2.485."""
    assert train_sorter(sigma=False, seed=0) > 2.3
    assert train_sorter(sigma=True, seed=0) < 1.0

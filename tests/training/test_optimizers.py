"""The optimiser of a recipe: AdamW as before, 8-bit AdamW, Muon, and a rate for each layer."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from contract import build as build_contract
from contract import load_contract
from tiny_matryoshka import build, rows

from zoo.core.errors import ZooError
from zoo.schema import Training
from zoo.training import compiling, optimizers, trainer

SETTINGS = Training(
    max_steps=6, batch_size=16, learning_rate=1e-3, weight_decay=0.1, checkpoint_every=2, precision="fp32"
)


def update(**fields):
    return SETTINGS.model_copy(update=fields)


def copy_weights(encoder):
    return {name: tensor.clone() for name, tensor in encoder.module.state_dict().items()}


def are_equal(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


def test_adamw_is_the_optimiser_of_a_recipe_that_names_none(tmp_path):
    encoder = build(tmp_path)
    optimizer = optimizers.make_optimizer(encoder, SETTINGS)
    assert type(optimizer) is torch.optim.AdamW
    assert [len(group["params"]) for group in optimizer.param_groups] == [
        len(group["params"]) for group in encoder.parameter_groups(SETTINGS)
    ]


# -- Muon ----------------------------------------------------------------------------------------------------------------


def test_muon_has_the_hidden_matrices_and_adamw_the_rest(tmp_path):
    encoder = build(tmp_path, shallow_grad_scale=0.3)
    muon, adamw = optimizers.make_optimizer(encoder, update(optimizer="muon")).parts
    names = {parameter: name for name, parameter in encoder.module.named_parameters()}

    def list_names(part):
        return {names[parameter] for group in part.param_groups for parameter in group["params"]}

    matrices = {name for name, p in encoder.module.named_parameters() if p.ndim == 2 and "embeddings" not in name}
    assert list_names(muon) == {name for name in matrices if "pooler" not in name}
    trained = {name for name, p in encoder.module.named_parameters() if p.requires_grad}
    assert list_names(adamw) == trained - list_names(muon)
    rates = {group["lr"] for part in (muon, adamw) for group in part.param_groups}
    assert rates == {1e-3, 2e-3}, "the heads keep their own rate"


def test_a_step_of_muon_is_that_of_torch(tmp_path):
    encoder = build(tmp_path)
    optimizer = optimizers.make_optimizer(encoder, update(optimizer="muon"))
    matrix = optimizer.param_groups[0]["params"][0]
    alone = torch.nn.Parameter(matrix.detach().clone())
    reference = torch.optim.Muon([alone], lr=1e-3, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        alone.grad = torch.randn(alone.shape, generator=generator)
        matrix.grad = alone.grad.clone()
        reference.step()
        optimizer.step()
    assert torch.equal(alone, matrix)


@pytest.mark.parametrize(
    "fields", [{"optimizer": "muon"}, {"layer_decay": 0.5}, {"optimizer": "muon", "layer_decay": 0.5}]
)
def test_an_interrupted_training_ends_like_an_uninterrupted_one(fields, tmp_path):
    whole = build(tmp_path)
    trainer.fit(whole, rows(), update(**fields), tmp_path / "whole")
    stopped = build(tmp_path)
    true_loss = stopped.loss

    def interrupt(batch):
        if stopped.step == 3:
            raise KeyboardInterrupt
        return true_loss(batch)

    stopped.loss = interrupt
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(stopped, rows(), update(**fields), tmp_path / "stopped")
    again = build(tmp_path)
    trainer.fit(again, rows(), update(**fields), tmp_path / "stopped")
    assert are_equal(copy_weights(whole), copy_weights(again))
    plain = build(tmp_path)
    trainer.fit(plain, rows(), SETTINGS, tmp_path / "plain")
    assert not are_equal(copy_weights(whole), copy_weights(plain))


def test_the_schedule_changes_the_rates_of_both_optimisers(tmp_path):
    optimizer = optimizers.make_optimizer(build(tmp_path), update(optimizer="muon"))
    state = optimizer.state_dict()
    for _ in range(2):
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
        schedule.step()
        assert {group["lr"] for part in optimizer.parts for group in part.param_groups} == {5e-4}
        optimizer.load_state_dict(state)
        assert {group["lr"] for part in optimizer.parts for group in part.param_groups} == {1e-3}


def test_muon_is_refused_for_an_encoder_without_hidden_matrices(tmp_path):
    contract = load_contract("static", tmp_path)
    encoder = build_contract(contract)
    with pytest.raises(ZooError, match=r"training.optimizer: the encoder has no hidden matrices.*use adamw"):
        optimizers.make_optimizer(encoder, update(optimizer="muon"))


# -- 8 bits --------------------------------------------------------------------------------------------------------------


def test_eight_bits_need_bitsandbytes_and_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(optimizers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ZooError, match=r"bitsandbytes, which is not installed: pip install bitsandbytes, or use adamw"):
        optimizers.check_optimizer(update(optimizer="adamw-8bit"))
    monkeypatch.setattr(optimizers.importlib.util, "find_spec", lambda name: "found")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ZooError, match="adamw-8bit needs a CUDA GPU, and there is none here: use adamw"):
        optimizers.check_optimizer(update(optimizer="adamw-8bit"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    fake = types.SimpleNamespace(optim=types.SimpleNamespace(AdamW8bit=lambda groups, **options: (groups, options)))
    monkeypatch.setitem(sys.modules, "bitsandbytes", fake)
    _, options = optimizers.make_optimizer(build(tmp_path), update(optimizer="adamw-8bit"))
    assert options == {"lr": 1e-3, "weight_decay": 0.1}


# -- layers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_each_layer_has_its_share_of_the_rate(kind, tmp_path):
    encoder = build(tmp_path, kind, shallow_grad_scale=0.3)
    optimizer = optimizers.make_optimizer(encoder, update(layer_decay=0.5))
    rates = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    depths = encoder.find_depths()
    assert set(depths.values()) == {0, 1, 2, 3}
    for name, parameter in encoder.module.named_parameters():
        if not parameter.requires_grad:
            continue
        if name.startswith("heads"):
            assert rates[parameter] == 2e-3
            continue
        layer = next((int(part) + 1 for part in name.split(".") if part.isdigit()), None)
        depth = (3 if "final_norm" in name else 0) if layer is None else layer
        assert depths[parameter] == depth, name
        assert rates[parameter] == pytest.approx(1e-3 * 0.5 ** (3 - depth)), name


def test_a_decay_of_one_makes_the_steps_of_no_decay(tmp_path):
    weights = []
    for name, decay in (("none", None), ("one", 1.0)):
        encoder = build(tmp_path)
        trainer.fit(encoder, rows(), update(layer_decay=decay, max_grad_norm=0.01), tmp_path / name)
        weights.append(copy_weights(encoder))
    for key, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][key], rtol=0, atol=1e-6)


def test_layers_are_refused_for_a_family_without_a_text_backbone(tmp_path):
    contract = load_contract("static", tmp_path)
    with pytest.raises(ZooError, match="training.layer_decay: the family static has no text backbone"):
        optimizers.check_layers(build_contract(contract), update(layer_decay=0.5))


# -- torch.compile -------------------------------------------------------------------------------------------------------


def test_auto_compiles_on_a_gpu_only(monkeypatch):
    for available in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert compiling.wants_compile(update(compile="auto")) == available
        assert compiling.wants_compile(update(compile=True))
        assert not compiling.wants_compile(SETTINGS)


def test_networks_are_compiled_for_the_steps_and_called_as_they_are_in_validations(tmp_path, monkeypatch):
    encoder, seen = build(tmp_path), []

    def fake_compile(network, **options):
        network._compiled_call_impl = lambda *inputs, **named: (
            seen.append(network.training) or network._call_impl(*inputs, **named)
        )

    monkeypatch.setattr(torch.nn.Module, "compile", fake_compile)
    trainer.fit(encoder, rows(), update(compile=True), tmp_path / "run", validation=rows(8))
    assert seen == [True] * len(seen)
    assert len(seen) >= SETTINGS.max_steps
    assert all(module._compiled_call_impl is None for module in encoder.module.modules())
    plain = build(tmp_path)
    trainer.fit(plain, rows(), SETTINGS, tmp_path / "plain", validation=rows(8))
    assert are_equal(copy_weights(encoder), copy_weights(plain))

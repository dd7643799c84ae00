"""Weights that are divided over processes train as whole weights do, and are whole again at the end."""

from __future__ import annotations

import functools

import pytest
import resumed_training
import tiny_dense
import torch
from contract import read_metrics
from forked_commands import run_in_processes
from safetensors.torch import load_file
from tiny_matryoshka import build, rows

from zoo.core.errors import ZooError
from zoo.families.dense.spec import Spec as Dense
from zoo.families.static.spec import Spec as Static
from zoo.schema import Training
from zoo.training import sharding, trainer

TOLERANCES = {"matryoshka-2d": 2e-3, "adapter": 6e-3}
"""Of a weight. AdamW makes a step of the same size for a gradient near 0, whose sign rounding may change. In an adapter, the
gradients of A are 0 in the first step and small in the next ones."""
DENSE = Dense(family="dense", backbone="b")
SETTINGS = Training(max_steps=2, batch_size=16, learning_rate=1e-3, precision="fp32")


def _train(folder, processes, kind, interrupt_at=None, **options):
    folder.mkdir(exist_ok=True)
    run_in_processes(processes, functools.partial(resumed_training.main, **options), folder, interrupt_at, kind)
    return load_file(folder / "weights.safetensors") if interrupt_at is None else None


@pytest.mark.parametrize("kind", ["matryoshka-2d", "adapter"])
def test_divided_weights_train_as_whole_ones_and_go_on_after_an_interruption(kind, tmp_path):
    whole = _train(tmp_path / "whole", 1, kind, validates=True)
    divided = _train(tmp_path / "divided", 2, kind, is_divided=True, validates=True)
    _train(tmp_path / "resumed", 2, kind, 7, is_divided=True, validates=True)
    resumed = _train(tmp_path / "resumed", 2, kind, is_divided=True, validates=True)
    assert whole.keys() == divided.keys() == resumed.keys()
    for name, tensor in whole.items():
        assert (tensor - divided[name]).abs().max() < TOLERANCES[kind], name
        assert torch.equal(divided[name], resumed[name]), name
    for figure in ("loss", "validation_loss"):
        losses = [read_metrics(tmp_path / name / "run", figure) for name in ("whole", "divided", "resumed")]
        assert losses[1] == pytest.approx(losses[0], rel=1e-4)
        assert losses[2] == losses[1]
    trained = [name for name, tensor in divided.items() if not torch.equal(tensor, _first(tmp_path, kind)[name])]
    assert trained, "the weights that were trained come back"


def _first(folder, kind):
    encoder = resumed_training.ENCODERS[kind](folder / "divided")
    encoder.prepare(rows(), folder / "cache")
    return encoder.module.state_dict()


def test_weights_that_accelerate_leaves_whole_are_an_error(tmp_path):
    """On a CPU accelerate ignores its configuration without a word."""
    (tmp_path / "run").mkdir()
    with pytest.raises(AssertionError, match="divides them on GPUs and other accelerators only"):
        run_in_processes(2, _train_undivided, tmp_path / "run")


def _train_undivided(folder):
    import os

    os.environ.update(resumed_training.DIVIDED)
    resumed_training.main(folder, None)


@pytest.mark.parametrize(
    ("environment", "scores", "follows", "changes", "message"),
    [
        ({"FSDP_VERSION": "1"}, False, False, {}, r"zoo uses FSDP 2: write `fsdp_version: 2`"),
        (
            {"FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT"},
            False,
            False,
            {},
            r"zoo keeps shards: write `fsdp_state_dict_type",
        ),
        ({"WORLD_SIZE": "1"}, False, False, {}, r"asks for FSDP in one process: start several"),
        ({}, True, False, {}, r"validation: a task needs whole weights.*use validation rows"),
        ({}, False, True, {}, r"training.watch needs whole weights"),
        ({}, False, False, {"optimizer": "muon"}, r"muon needs whole weights.*use adamw"),
    ],
)
def test_what_needs_whole_weights_is_refused(monkeypatch, environment, scores, follows, changes, message):
    for name, value in {**resumed_training.DIVIDED, "WORLD_SIZE": "2", **environment}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ZooError, match=message):
        sharding.check_request(SETTINGS.model_copy(update=changes), DENSE, scores=scores, follows_space=follows)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (DENSE.model_copy(update={"chunk": 8}), "encoder.chunk needs whole weights.*leave it out"),
        (
            Static(family="static", backbone="b"),
            "static keeps whole weights in each process: start zoo train with torchrun",
        ),
    ],
)
def test_an_encoder_that_needs_whole_weights_is_refused(monkeypatch, spec, message):
    for name, value in {**resumed_training.DIVIDED, "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ZooError, match=message):
        sharding.check_request(SETTINGS, spec, scores=False, follows_space=False)


def test_one_process_is_refused_before_the_training(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ZooError, match="zoo uses FSDP 2"):
        trainer.fit(build(tmp_path), rows(), SETTINGS, tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "is_asked", "message"),
    [
        ("pytorch_model_fsdp_0", False, "holds divided weights.*go on with accelerate launch"),
        ("model.safetensors", True, "holds whole weights.*go on without it, or train in another folder"),
    ],
)
def test_a_run_goes_on_as_it_began(tmp_path, monkeypatch, name, is_asked, message):
    (tmp_path / name).mkdir()
    monkeypatch.setenv("ACCELERATE_USE_FSDP", str(is_asked))
    with pytest.raises(ZooError, match=message):
        sharding.check_checkpoint(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", str(not is_asked))
    sharding.check_checkpoint(tmp_path)


def test_layers_are_the_units_that_are_divided(tmp_path):
    assert "BertLayer" in sharding.list_layer_classes(tiny_dense.build(tmp_path, "bert").module)
    assert "Qwen3DecoderLayer" in sharding.list_layer_classes(tiny_dense.build(tmp_path, "qwen3").module)
    assert sharding.list_layer_classes(torch.nn.Linear(2, 2)) == []

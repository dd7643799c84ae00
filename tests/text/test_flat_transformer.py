"""The flat forward pass computes what transformers computes, for every architecture that it recognises, and no other."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from known_networks import KINDS, make_batch, make_model
from sentence_transformers.models import Pooling

from zoo.ops import packed_linear
from zoo.ops.packed_linear import PackedLinear
from zoo.text import backbone, flat_layout, pooling
from zoo.text.engine import Engine, convert
from zoo.text.flat_transformer import FlatTransformer, flatten

LENGTHS = ((1,), (13,), (2, 1), (9, 9, 9), (24, 3, 17, 1))


def flat(model: Any, dtype: torch.dtype = torch.float32) -> FlatTransformer:
    layout = flat_layout.recognise(model)
    assert layout is not None
    return flatten(model, layout, dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_states_and_vectors_are_those_of_transformers(kind):
    model = make_model(kind)
    for lengths in LENGTHS:
        batch = make_batch(lengths)
        mask = batch["attention_mask"]
        with torch.inference_mode():
            expected = model(**batch).last_hidden_state
            states = flat(model)(**batch).last_hidden_state
            half = flat(model, torch.bfloat16)(**batch).last_hidden_state.float()
        np.testing.assert_allclose(states[mask.bool()], expected[mask.bool()], atol=5e-6)
        vectors, expected_vectors, half_vectors = (
            torch.nn.functional.normalize(pooling.pool(each, mask, ("mean",)), dim=-1)
            for each in (states, expected, half)
        )
        np.testing.assert_allclose(vectors, expected_vectors, atol=1e-6)
        assert (half_vectors * expected_vectors).sum(1).min() > 0.999


@pytest.mark.parametrize("kind", ["bert", "mpnet"])
def test_attention_in_bfloat16_is_that_in_float32(kind, monkeypatch):
    model, batch = make_model(kind), make_batch(LENGTHS[-1])
    with torch.inference_mode():
        short = flat(model, torch.bfloat16)(**batch).last_hidden_state.float()
        monkeypatch.setattr("zoo.ops.attention.BFLOAT16_ROWS", 1)
        products = flat(model, torch.bfloat16)(**batch).last_hidden_state.float()
    mask = batch["attention_mask"].bool()
    assert torch.nn.functional.cosine_similarity(short[mask], products[mask], dim=-1).min() > 0.999


@pytest.mark.parametrize("activation", sorted(flat_layout.ACTIVATIONS))
@pytest.mark.parametrize("packs", [True, False])
def test_every_activation_is_that_of_transformers_with_and_without_onednn(activation, packs, monkeypatch):
    monkeypatch.setattr(packed_linear, "can_pack", lambda dtype: packs)
    model, batch = make_model("bert", hidden_act=activation), make_batch((5, 3))
    with torch.inference_mode():
        expected, states = (each(**batch).last_hidden_state for each in (model, flat(model)))
    mask = batch["attention_mask"].bool()
    np.testing.assert_allclose(states[mask], expected[mask], atol=5e-6)


def test_an_activation_in_the_product_is_the_activation_after_it():
    torch.manual_seed(0)
    x, weight, bias = torch.randn(7, 5), torch.randn(9, 5), torch.randn(9)
    plain = PackedLinear(weight, bias)
    np.testing.assert_allclose(plain(x), torch.nn.functional.linear(x, weight, bias), atol=1e-6)
    np.testing.assert_allclose(plain.add_to(x, torch.ones(7, 9)), plain(x) + 1, atol=1e-6)
    gelu = PackedLinear(weight, bias, "gelu")
    np.testing.assert_allclose(gelu(x), torch.nn.functional.gelu(plain(x)), atol=1e-6)


# -- recognition ---------------------------------------------------------------------------------------------------


class Doubled(torch.nn.Linear):
    """A layer of another class, as an adapter would put it in."""


def test_a_network_that_is_changed_in_any_part_is_not_recognised():
    def swap_layer(model: Any) -> None:
        model.encoder.layer[1].output.dense = Doubled(64, 32)

    def add_hook(model: Any) -> None:
        model.encoder.layer[0].register_forward_hook(lambda module, inputs, output: output)

    def override(model: Any) -> None:
        model.encoder.forward = model.encoder.forward

    def halve(model: Any) -> None:
        model.encoder.layer[0].to(torch.bfloat16)

    def drop_bias(model: Any) -> None:
        model.encoder.layer[0].output.dense.bias = None

    def change_words(model: Any) -> None:
        model.embeddings.word_embeddings.register_forward_pre_hook(lambda module, inputs: inputs)

    assert flat_layout.recognise(make_model("bert")) is not None
    for change in (swap_layer, add_hook, override, halve, drop_bias, change_words):
        model = make_model("bert")
        change(model)
        assert flat_layout.recognise(model) is None, change.__name__


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_act": "silu"},
        {"hidden_act": "gelu_10"},
        {"is_decoder": True},
        {"is_decoder": True, "add_cross_attention": True},
        {"num_attention_heads": 0},
        {"position_embedding_type": "relative_key"},
        {"quantization_config": {"bits": 8}},
        {"model_type": "new-bert"},
    ],
)
def test_a_config_with_an_entry_that_is_not_known_is_not_recognised(changes):
    config = tiny.make_config("bert", 2, 32).to_dict()
    assert flat_layout.read_layout(config) is not None
    assert flat_layout.read_layout(config | changes) is None


@pytest.mark.parametrize("kind", ["modernbert", "deberta-v2", "nomic_bert", "t5"])
def test_other_architectures_keep_the_modules_of_transformers(kind, tmp_path):
    body = backbone.load(tiny.backbone(tmp_path / kind, kind), can_be_cut=False)
    assert flat_layout.recognise(body.model) is None


# -- in the engine -------------------------------------------------------------------------------------------------


def make_engine(body: backbone.Backbone) -> Engine:
    return Engine(backbone.PooledBackbone(body, None, body.width), body.tokenize, body.pad, body.width, body.max_length)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return tiny.backbone(tmp_path_factory.mktemp("flat") / "bert", hidden=32)


def test_networks_of_different_depth_share_their_packed_blocks(folder):
    body = backbone.load(folder)
    flats = [flat(body.cut(layers).model) for layers in (1, 3, 2)]
    assert [len(each.blocks) for each in flats] == [1, 3, 2]
    assert flats[0].blocks[0] is flats[1].blocks[0] is flats[2].blocks[0]
    assert flats[1].blocks[1] is flats[2].blocks[1]
    for layers, each in zip((1, 3, 2), flats, strict=True):
        batch = make_batch((7, 2))
        with torch.inference_mode():
            expected = body.cut(layers).model.eval()(**batch).last_hidden_state
            states = each(**batch).last_hidden_state
        np.testing.assert_allclose(states[0], expected[0], atol=5e-6)


def test_weights_that_were_trained_or_moved_to_a_new_module_are_packed_again(folder):
    body = backbone.load(folder)
    engine = make_engine(body)
    before = engine.encode(tiny.SENTENCES[:4])
    with torch.no_grad():
        body.model.encoder.layer[1].output.dense.weight.mul_(0.5)
    after = engine.encode(tiny.SENTENCES[:4])
    assert not np.allclose(before, after, atol=1e-3)
    np.testing.assert_allclose(after, make_engine(body).encode(tiny.SENTENCES[:4]), atol=1e-6)
    with torch.inference_mode():
        expected = engine.module.eval()(body.pad(body.tokenize(tiny.SENTENCES[:1])))
    np.testing.assert_allclose(after[:1], expected, atol=1e-6)


def test_a_converted_network_is_flat_and_leaves_the_original_in_training(folder):
    body = backbone.load(folder)
    module = backbone.PooledBackbone(body, None, body.width).train()
    twin, sizes = convert(module, torch.float32, is_cpu=True)
    assert isinstance(twin.model, FlatTransformer)
    assert sum(sizes.values()) == sum(block.bytes for block in twin.model.blocks)
    assert all(part.training for part in module.modules() if part is not body.pooling)


# -- pooling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "modes", [*((mode,) for mode in pooling.MODES), *itertools.combinations(("cls", "mean", "max"), 2)], ids="-".join
)
def test_pooling_is_that_of_sentence_transformers(modes):
    torch.manual_seed(0)
    states = torch.randn(4, 6, 8)
    stock = Pooling(8, pooling_mode=modes)
    assert pooling.read_modes(stock) == modes
    full = torch.ones(4, 6, dtype=torch.int64)
    ragged = torch.tensor([[1] * n + [0] * (6 - n) for n in (6, 1, 3, 5)])
    for mask in (full, ragged, ragged.flip(1)):
        expected = stock({"token_embeddings": states, "attention_mask": mask})["sentence_embedding"]
        np.testing.assert_allclose(pooling.pool(states, mask, modes), expected, atol=1e-6)
    expected = stock({"token_embeddings": states, "attention_mask": full})["sentence_embedding"]
    np.testing.assert_allclose(pooling.pool(states, None, modes), expected, atol=1e-6)


def test_a_pooling_of_another_class_pools_by_itself():
    class Own(Pooling):
        pass

    assert pooling.read_modes(Own(8)) is None
    assert pooling.read_modes(torch.nn.Identity()) is None

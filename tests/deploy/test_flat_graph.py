"""The flat form of a Transformer gives its states, in torch and in ONNX Runtime, with one operation for attention."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from known_networks import KINDS, make_batch, make_model

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx
import onnxruntime

from zoo.deploy import flat_graph, smoothing, tracing, write
from zoo.families.dense.encoder import Encoder as Dense
from zoo.families.dense.spec import Spec as DenseSpec
from zoo.graph import Graph
from zoo.runtime import network
from zoo.text import flat_layout
from zoo.text.text_graph import TokensToVector


class States(torch.nn.Module):
    """The states of a model, as an engine's module takes its batch. Those of padding are zeros."""

    def __init__(self, model) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch):
        return self.model(**batch).last_hidden_state * batch["attention_mask"].unsqueeze(-1)


def flatten(model):
    """The module of a graph with the model, and its copy with the flat form."""
    original = TokensToVector(States(model))
    twin = tracing.copy_module(original, "model")
    flat_graph.flatten_networks(twin, original)
    assert type(twin.module.model) is flat_graph.FlatGraph
    return original, twin


def count_operations(path) -> Counter:
    return Counter(node.op_type for node in onnx.load(str(path)).graph.node)


@pytest.mark.parametrize("kind", KINDS)
def test_states_are_those_of_transformers_for_batches_of_any_shape(kind, tmp_path, monkeypatch):
    original, twin = flatten(make_model(kind))
    monkeypatch.setattr(tracing, "make_example", lambda _: tuple(make_batch((7, 5)).values()))
    graph = Graph({"": original}, outputs=("tokens",), reader=SimpleNamespace())
    tracing.write_onnx(twin, graph, tmp_path / "flat.onnx", kind)
    assert count_operations(tmp_path / "flat.onnx")["MultiHeadAttention"] == 2
    assert count_operations(tmp_path / "flat.onnx")["Softmax"] == 0
    session = onnxruntime.InferenceSession(str(tmp_path / "flat.onnx"))
    for lengths in ((1,), (13,), (2, 1), (9, 9, 9), (24, 3, 17, 1)):
        batch = make_batch(lengths)
        with torch.inference_mode():
            expected = original(**batch).numpy()
            np.testing.assert_allclose(twin(**batch), expected, atol=5e-6)
        (found,) = session.run(None, {name: values.numpy() for name, values in batch.items()})
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("activation", sorted(flat_layout.ACTIVATIONS))
def test_activations_are_those_of_transformers(activation):
    original, twin = flatten(make_model("bert", hidden_act=activation))
    batch = make_batch((9, 4))
    with torch.inference_mode():
        np.testing.assert_allclose(twin(**batch), original(**batch), atol=5e-6)


def test_another_architecture_keeps_its_modules(tmp_path):
    encoder = Dense.build(DenseSpec(family="dense", backbone=tiny.backbone(tmp_path / "b", "modernbert")))
    original = encoder.make_graph().modules[""]
    twin = tracing.copy_module(original, "model")
    flat_graph.flatten_networks(twin, original)
    assert [type(part) for part in twin.modules()] == [type(part) for part in original.modules()]


@pytest.mark.parametrize("kind", ["bert", "mpnet"])
def test_a_graph_of_int8_is_flat_and_its_outliers_stay_float32(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(smoothing, "OUTLIER_RATIO", 1.0)  # every layer has outliers
    encoder = Dense.build(DenseSpec(family="dense", backbone=tiny.backbone(tmp_path / "b", kind, hidden=64, layers=2)))
    encoder.module.eval()
    written = write.write(tmp_path, encoder, tmp_path / "out", write.Options(is_int8=True, texts=tiny.SENTENCES))
    assert written.deviation.loss < 0.002
    operations = count_operations(tmp_path / "out" / "model.onnx")
    assert operations["MultiHeadAttention"] == 2
    # Query, key and value are one product, without outliers. The pooling is a product as well.
    assert operations["MatMulInteger"] == 2 * 4
    assert operations["MatMul"] == 2 * 3 + 1


def test_a_coded_table_does_not_hide_a_network(tmp_path):
    from zoo.build.export import Table

    encoder = Dense.build(DenseSpec(family="dense", backbone=tiny.backbone(tmp_path / "b")))
    encoder.module.eval()
    coded = Table("int4", tiny.SENTENCES, 0.0).apply(encoder)
    write.write(tmp_path, coded, tmp_path / "out", write.Options(is_int8=True, texts=tiny.SENTENCES))
    assert count_operations(tmp_path / "out" / "model.onnx")["MultiHeadAttention"] == 3


@pytest.mark.parametrize("is_slow", [True, False])
def test_sums_and_layer_norms_stay_apart(is_slow, tmp_path, monkeypatch):
    """The names of the optimisations are those of the installed version: without them ONNX Runtime merges the two."""
    if is_slow:
        monkeypatch.setattr(network, "SLOW_FUSIONS", ())
    encoder = Dense.build(DenseSpec(family="dense", backbone=tiny.backbone(tmp_path / "b")))
    encoder.module.eval()
    write.write(tmp_path, encoder, tmp_path / "out", write.Options(is_int8=True, texts=tiny.SENTENCES))
    make_options = onnxruntime.SessionOptions

    def keep_result():
        options = make_options()
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        return options

    monkeypatch.setattr(onnxruntime, "SessionOptions", keep_result)
    network.Network(tmp_path / "out" / "model.onnx")
    assert bool(count_operations(tmp_path / "optimised.onnx")["SkipLayerNormalization"]) == is_slow

"""Graphs give the vectors of the encoder, for every family that has one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import zoo
from zoo.core.errors import ArtefactError, ZooError
from zoo.deploy import probe_inputs, task_scores, write
from zoo.families.dense.encoder import Encoder as Dense
from zoo.families.dense.spec import Spec as DenseSpec
from zoo.families.matryoshka_2d.encoder import Encoder
from zoo.families.matryoshka_2d.spec import Spec
from zoo.runtime import PackError, open_model

GOLDEN = Path(__file__).parents[1] / "golden"
FAMILIES = tuple(sorted(path.name for path in GOLDEN.iterdir() if path.is_dir()))
EXACT = 1e-5


def open_golden(family: str):
    return zoo.from_pretrained(GOLDEN / family / "model")


def export(encoder, target: Path, parent: Path = Path("nowhere"), **options):
    return write.write(parent, encoder, target, write.Options(**options))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deploy") / "backbone"
    spec = Spec(family="matryoshka-2d", backbone=tiny.backbone(folder), prompts={"query": "the ", "document": "a "})
    built = Encoder.build(spec)
    built.module.eval()
    return built


@pytest.fixture(scope="module")
def exported(encoder, tmp_path_factory):
    target = tmp_path_factory.mktemp("deploy") / "out"
    export(encoder, target, depths=(1, 2))
    return target


@pytest.mark.parametrize("family", FAMILIES)
def test_a_graph_of_every_family_gives_the_golden_vectors(family, tmp_path):
    written = export(open_golden(family), tmp_path / "out", GOLDEN / family / "model")
    assert written.deviation.inputs >= probe_inputs.COUNT
    model = open_model(tmp_path / "out")
    assert model.verify().is_same
    golden = GOLDEN / family
    if (golden / "inputs.json").exists():
        inputs = json.loads((golden / "inputs.json").read_text())
    else:
        inputs = list(np.load(golden / "inputs.npy"))
    if model.description.modality == "text":
        assert np.abs(model.encode(inputs) - np.load(golden / "vectors.npy")).max() < EXACT
    assert model.encode([]).shape == (0, model.width)


@pytest.mark.parametrize("kind", ["mpnet", "modernbert", "qwen3"])
def test_other_architectures_are_exact(kind, tmp_path):
    encoder = Dense.build(DenseSpec(family="dense", backbone=tiny.backbone(tmp_path / "backbone", kind)))
    encoder.module.eval()
    assert export(encoder, tmp_path / "out").deviation.largest_difference < EXACT


def test_depths_and_dimensions_are_those_of_the_views(encoder, exported):
    model = open_model(exported)
    assert model.depths == (1, 2, 3)
    texts = tiny.SENTENCES[:9]
    for layers, dim in ((1, 32), (2, 8), (3, 16)):
        vectors = encoder.truncate(layers, dim).encode(texts)
        assert np.abs(model.view(layers=layers, dim=dim).encode(texts) - vectors).max() < EXACT
    assert model.encode(texts).shape == (9, 32), "a view leaves the model as it is"
    with pytest.raises(PackError, match="layers: 4 is not in this folder"):
        model.view(layers=4)
    with pytest.raises(PackError, match="dim: 33 is outside"):
        model.view(dim=33)


def test_only_the_numbers_of_texts_and_tokens_are_open(exported):
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(exported / "model.onnx").graph

    def read_shape(entry):
        return [axis.dim_param or axis.dim_value for axis in entry.type.tensor_type.shape.dim]

    assert {entry.name: read_shape(entry) for entry in (*graph.input, *graph.output)} == {
        "input_ids": ["batch", "tokens"],
        "attention_mask": ["batch", "tokens"],
        "vector": ["batch", 32],
    }


def test_prompts_of_roles_are_put_before_the_texts(encoder, exported):
    model, texts = open_model(exported), ["red dog", "blue cat"]
    queries, plain = model.encode_query(texts), model.encode(texts)
    assert np.abs(queries - encoder.encode_query(texts)).max() < EXACT
    assert np.abs(model.encode_document(texts) - encoder.encode_document(texts)).max() < EXACT
    assert np.abs(queries - plain).max() > 0.01
    with pytest.raises(PackError, match="prompt_name: 'passage'"):
        model.encode(texts, prompt_name="passage")


def test_vectors_do_not_depend_on_the_other_texts(exported):
    model = open_model(exported)
    texts = [" ".join(tiny.WORDS[:count]) for count in (1, 30, 3, 12, 40, 2)]
    alone = np.concatenate([model.encode([text]) for text in texts])
    assert np.abs(model.encode(texts) - alone).max() < EXACT


def test_wrong_inputs_are_refused_with_their_position(exported):
    model = open_model(exported)
    with pytest.raises(PackError, match="give a list"):
        model.encode("a text")
    with pytest.raises(PackError, match="input 1 is int, expected a text"):
        model.encode(["a", 3])
    assert np.isfinite(model.encode(["a lone \udc80 surrogate", ""])).all()
    with pytest.raises(PackError, match="has no classes"):
        model.predict(["a"])


def test_classes_and_probabilities_are_those_of_the_classifier(tmp_path):
    encoder = open_golden("equiangular")
    export(encoder, tmp_path / "out")
    model = open_model(tmp_path / "out")
    images = [np.ascontiguousarray(image) for image in probe_inputs.make_inputs(encoder.make_graph())[:20]]
    found, expected = model.predict(images), encoder.predict(images)
    assert [entry.label for entry in found] == [entry.label for entry in expected]
    assert np.allclose([entry.score for entry in found], [entry.cosine for entry in expected], atol=1e-5)
    assert np.allclose([e.probability for e in found], [e.probability for e in expected], atol=1e-4)
    with pytest.raises(PackError, match="input 0 is an array"):
        model.encode([np.zeros((3, 3, 3), np.uint8)])


def test_int8_is_smaller_near_and_refused_beyond_the_largest_loss(tmp_path):
    backbone = tiny.backbone(tmp_path / "backbone", hidden=128)
    encoder = Dense.build(DenseSpec(family="dense", backbone=backbone))
    encoder.module.eval()
    exact = export(encoder, tmp_path / "exact")
    small = export(encoder, tmp_path / "small", is_int8=True, texts=tiny.SENTENCES)
    assert small.size < 0.6 * exact.size
    assert 0 < small.deviation.loss < 0.002
    model = open_model(tmp_path / "small")
    assert model.verify().is_same
    assert model.description.precision == "int8"
    with pytest.raises(ZooError, match="more than --max-loss 1e-12; nothing was written"):
        export(encoder, tmp_path / "none", is_int8=True, max_loss=1e-12)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("ratio", [1.0, 1e9])
def test_smoothing_changes_nothing_in_float32(ratio, encoder, monkeypatch):
    """With outliers in every layer, and without any."""
    from zoo.deploy import smoothing, tracing

    monkeypatch.setattr(smoothing, "OUTLIER_RATIO", ratio)
    graph = encoder.make_graph()
    module = tracing.copy_module(graph.modules[""], "x")
    texts = tiny.SENTENCES[:8]
    ranges = smoothing.find_ranges(module, graph, encoder, texts)
    smoothed = smoothing.smooth(module, ranges)
    differences = tracing.run_module(smoothed, graph, texts) - tracing.run_module(module, graph, texts)
    assert np.abs(differences).max() < EXACT
    layers = [part for part in smoothed.modules() if isinstance(part, smoothing._SmoothedLinear)]
    if ratio > 1:
        assert not layers, "a layer without outliers stays as it is"
    else:
        assert len({id(layer.product) for layer in layers}) == len(layers) - 2 * encoder.layers, (
            "query, key and value are one product"
        )


@pytest.mark.parametrize("kind", ["bert", "qwen3"])
def test_query_key_and_value_keep_no_outliers_and_all_other_products_do(kind, tmp_path, monkeypatch):
    from zoo.deploy import smoothing, tracing

    monkeypatch.setattr(smoothing, "OUTLIER_RATIO", 1.0)
    encoder = Dense.build(DenseSpec(family="dense", backbone=tiny.backbone(tmp_path / "backbone", kind)))
    graph = encoder.make_graph()
    module = tracing.copy_module(graph.modules[""], "x")
    smoothed = smoothing.smooth(module, smoothing.find_ranges(module, graph, encoder, tiny.SENTENCES[:8]))
    layers = {name: part for name, part in smoothed.named_modules() if isinstance(part, smoothing._SmoothedLinear)}
    inner = {"dense"} if kind == "bert" else {"o_proj", "gate_proj", "up_proj", "down_proj"}
    attention = {"query", "key", "value"} if kind == "bert" else {"q_proj", "k_proj", "v_proj"}
    names = {
        has: {name.rpartition(".")[2] for name, part in layers.items() if (part.product.exact is not None) == has}
        for has in (True, False)
    }
    assert names == {True: inner, False: attention}


def test_a_product_that_narrows_multiplies_tokens_of_equal_size(monkeypatch):
    from zoo.deploy import smoothing

    multiplied, linear = [], torch.nn.functional.linear
    monkeypatch.setattr(
        torch.nn.functional, "linear", lambda x, *rest: multiplied.append((len(rest[0]), x)) or linear(x, *rest)
    )
    inputs = torch.randn(5, 12) * torch.tensor([[1e-3], [1.0], [7.0], [50.0], [1e3]])
    for width in (4, 24):
        layer = torch.nn.Linear(12, width)
        product = smoothing._SmoothedProduct([layer], torch.ones(12), torch.tensor([3]))
        multiplied.clear()
        assert torch.allclose(product(inputs), layer(inputs), rtol=1e-4, atol=1e-4)
        largest = multiplied[0][1].abs().amax(-1)
        assert torch.allclose(largest, torch.ones(5)) == (width == 4)


def test_outliers_are_the_largest_components_of_a_layer_that_has_far_larger_ones():
    from zoo.deploy import smoothing

    largest = torch.ones(384)
    assert len(smoothing.find_outliers(largest)) == 0
    largest[[7, 300]] = torch.tensor([90.0, 5.0])
    found = smoothing.find_outliers(largest).tolist()
    assert len(found) == 8
    assert len(smoothing.find_outliers(torch.arange(10_000.0) ** 2)) == smoothing.MOST_OUTLIERS
    assert found == sorted(found)
    assert {7, 300} <= set(found)


def test_the_calibration_of_a_model_widens_the_ranges_of_its_graph(encoder):
    from zoo.deploy import smoothing, tracing
    from zoo.text import calibration, int8_ranges

    graph = encoder.make_graph()
    module = tracing.copy_module(graph.modules[""], "x")
    texts = tiny.SENTENCES[:2]
    names = ("attention.self.key", "attention.output.dense", "intermediate.dense", "output.dense")
    own = smoothing.find_ranges(module, graph, encoder, texts)
    blocks = calibration.find_blocks(encoder)
    layer = "module.model.encoder.layer.1"
    for name, site in zip(names, int8_ranges.SITES, strict=True):
        low, high = getattr(blocks[1], site)
        assert bool((own[f"{layer}.{name}"][0] <= low).all())
        assert bool((own[f"{layer}.{name}"][1] >= high).all())


def test_a_graph_that_differs_is_not_written(encoder, tmp_path, monkeypatch):
    vectors = type(encoder).encode

    def encode_otherwise(self, inputs, **options):
        return vectors(self, inputs, **options)[:, ::-1].copy()

    monkeypatch.setattr(type(encoder), "encode", encode_otherwise)
    with pytest.raises(ArtefactError, match="the graph gives other vectors than the model"):
        export(encoder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_with_a_setting_of_its_own_is_found(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(type(encoder), "list_token_ids", lambda self, texts: [[1, 2]] * len(texts))
    with pytest.raises(ArtefactError, match="into other tokens"):
        export(encoder, tmp_path / "out")


def test_long_texts_that_are_not_cut_cannot_be_exported(tmp_path):
    backbone = tiny.backbone(tmp_path / "backbone")
    encoder = Dense.build(DenseSpec(family="dense", backbone=backbone, long="error"))
    with pytest.raises(ZooError, match="`long: error` cannot be exported as a graph"):
        encoder.make_graph()


@pytest.mark.parametrize(("codec", "finer"), [("int8", 0.0), ("int4", 0.0), ("pq", 0.0), ("pq", 0.1)])
def test_a_coded_table_stays_coded_in_the_graph(encoder, codec, finer, tmp_path):
    from zoo.build.export import Table

    coded = Table(codec, tiny.SENTENCES, finer).apply(encoder)
    written = export(coded, tmp_path / "out", original=encoder)
    assert written.deviation.largest_difference < EXACT
    mean, lowest = written.table_loss
    assert lowest < mean < 1
    assert f"beside the plain one: mean cosine {mean:.5f}" in (tmp_path / "out" / "README.md").read_text()


def test_an_encoder_can_be_scored_as_its_folder(encoder, exported):
    twin = task_scores.run_by(encoder, open_model(exported))
    texts = tiny.SENTENCES[:5]
    assert np.abs(twin.encode(texts, prompt_name="query") - encoder.encode_query(texts)).max() < EXACT
    assert np.abs(np.concatenate(list(twin.stream(iter(texts)))) - encoder.encode(texts)).max() < EXACT


def test_probe_texts_are_a_hundred_of_many_lengths():
    texts = probe_inputs.make_texts()
    assert len(set(texts)) == probe_inputs.COUNT == 100
    assert max(map(len, texts)) > 1000
    assert texts == probe_inputs.make_texts()


class TestOpenVino:
    @pytest.fixture(autouse=True)
    def _needs_openvino(self):
        pytest.importorskip("openvino")

    def test_a_graph_of_openvino_is_exact(self, encoder, tmp_path):
        assert export(encoder, tmp_path / "out", engine="openvino").deviation.largest_difference < EXACT
        model = open_model(tmp_path / "out")
        assert model.verify().is_same
        texts = tiny.SENTENCES[:6]
        assert np.abs(model.view(dim=8).encode(texts) - encoder.view(dim=8).encode(texts)).max() < EXACT

    def test_a_graph_that_openvino_computes_otherwise_is_not_written(self, tmp_path):
        with pytest.raises(ArtefactError, match="the graph gives other vectors"):
            export(open_golden("sesa"), tmp_path / "out", engine="openvino")
        assert not (tmp_path / "out").exists()

    @pytest.mark.slow
    def test_int8_of_nncf_is_near(self, encoder, tmp_path):
        pytest.importorskip("nncf")
        written = export(encoder, tmp_path / "out", engine="openvino", is_int8=True, texts=tiny.SENTENCES[:20])
        assert 0 < written.deviation.loss < write.MAX_LOSS

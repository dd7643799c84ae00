"""Products of 8-bit integers: exact on integers, close on vectors, the same for a text alone and among others."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch

import zoo
from zoo.core.errors import ZooError
from zoo.ops import int8_linear
from zoo.ops.few_rows_linear import FewRowsLinear, can_multiply_few_rows
from zoo.ops.int8_linear import Int8Linear
from zoo.text import deferred, engine, int8_transformer
from zoo.text.int8_transformer import BLAS_ROWS, Outliers

needs_vnni = pytest.mark.skipif(not int8_linear.can_multiply(), reason="the processor has no VNNI instructions")
needs_fbgemm = pytest.mark.skipif(not can_multiply_few_rows(), reason="no FBGEMM, or a processor without AVX-512 VNNI")
TEXTS = tiny.SENTENCES[:24]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return tiny.backbone(tmp_path_factory.mktemp("int8") / "bert", hidden=64)


@needs_vnni
def test_products_of_integers_are_exact():
    torch.manual_seed(0)
    x = torch.randint(0, 256, (16, 32), dtype=torch.uint8)
    weight = torch.randint(-127, 128, (8, 32)).float()
    weight[:, 0] = 127  # so the scale of each output is 1
    layer = Int8Linear(weight, torch.ones(8), 0.5, zero=100)
    np.testing.assert_array_equal(layer(x), (x.float() - 100) * 0.5 @ weight.T + 1)


@needs_vnni
def test_a_layer_adds_its_output_in_place():
    torch.manual_seed(0)
    layer = Int8Linear(torch.randn(8, 16), torch.randn(8), 0.1)
    x, total = torch.randint(0, 256, (5, 16), dtype=torch.uint8), torch.randn(5, 8)
    expected = total + layer(x)
    result = layer.add_to(x, total)
    np.testing.assert_allclose(result, expected, atol=1e-5)
    assert result.data_ptr() == total.data_ptr()


@needs_fbgemm
def test_products_of_few_rows_are_exact_and_inputs_out_of_range_are_clipped():
    torch.manual_seed(0)
    integers = torch.randint(-127, 128, (8, 32), dtype=torch.int8)
    scales, bias = torch.rand(8) + 0.5, torch.randn(8)
    x = torch.cat([torch.rand(4, 32) * 127 - 50, torch.tensor([[-1e6], [1e6]]).expand(2, 32)])
    rounded = (x / 0.5).round().add(100).clamp(0, 255)
    expected = (rounded - 100).double() * 0.5 @ integers.double().T * scales + bias
    with torch.inference_mode():
        result = FewRowsLinear(integers, scales, bias, 0.5, 100)(x)
    np.testing.assert_allclose(result, expected, rtol=1e-5)


@needs_fbgemm
def test_largest_integers_do_not_saturate():
    with torch.inference_mode():
        layer = FewRowsLinear(torch.full((16, 64), 127, dtype=torch.int8), torch.ones(16), torch.zeros(16), 1.0, 0)
        assert (layer(torch.full((3, 64), 255.0)) == 255 * 127 * 64).all()


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu"])
def test_outliers_of_few_and_of_many_rows_are_the_same(activation):
    torch.manual_seed(0)
    up, down = (torch.randn(4, 16), torch.randn(4)), torch.randn(16, 4)
    outliers, x = Outliers(up, down, activation), torch.randn(BLAS_ROWS + 1, 16)
    with torch.inference_mode():
        np.testing.assert_allclose(outliers.add_to(x[:-1]), outliers.add_to(x)[:-1], atol=1e-5)


@needs_vnni
@pytest.mark.parametrize("kind", ["bert", "mpnet", "distilbert", "xlm-roberta"])
def test_vectors_are_close_and_the_same_alone_among_others_and_after_opening(kind, tmp_path):
    encoder = zoo.from_pretrained(tiny.backbone(tmp_path / kind, kind, hidden=64))
    exact, vectors = encoder.encode(TEXTS), encoder.encode(TEXTS, precision="int8")
    assert (exact * vectors).sum(1).min() > 0.99
    assert not np.allclose(exact, vectors, atol=1e-4)
    singles = np.concatenate([encoder.encode([text], precision="int8") for text in TEXTS[:4]])
    # Few rows are multiplied by another library. The last digit seldom decides how a number is rounded.
    assert np.abs(singles - vectors[:4]).max() < 0.2 * np.abs(exact - vectors).max()
    assert encoder._deferred is not None
    assert encoder.backbone is not None
    np.testing.assert_allclose(encoder.encode(TEXTS, precision="int8"), vectors, atol=2e-3)


@needs_fbgemm
def test_few_rows_give_the_vectors_of_many_without_fbgemm(folder, monkeypatch):
    singles = [zoo.from_pretrained(folder).encode([text], precision="int8") for text in TEXTS[:4]]
    for module in (int8_linear, int8_transformer):
        monkeypatch.setattr(module, "can_multiply_few_rows", lambda: False)
    encoder = zoo.from_pretrained(folder)
    assert encoder.encode(TEXTS[:1], precision="int8").shape == singles[0].shape
    assert encoder._get_engine()._convert_module(torch.int8).network.int8_blocks[0].down.few_rows is None
    for text, single in zip(TEXTS[:4], singles, strict=True):
        np.testing.assert_allclose(encoder.encode([text], precision="int8"), single, atol=2e-3)


@needs_vnni
def test_views_share_the_quantised_blocks_and_a_training_makes_them_again(folder):
    encoder = zoo.from_pretrained(folder)
    views = [encoder.truncate(layers, 64) for layers in (3, 2)]
    for view in views:
        assert (view.encode(TEXTS) * view.encode(TEXTS, precision="int8")).sum(1).min() > 0.99
    networks = [view._get_engine()._convert_module(torch.int8).network.network for view in views]
    assert networks[0] is networks[1]
    with torch.no_grad():
        for parameter in encoder.module.parameters():
            parameter.mul_(0.8)
    for view in views:
        assert (view.encode(TEXTS) * view.encode(TEXTS, precision="int8")).sum(1).min() > 0.99


def test_another_architecture_and_another_processor_are_refused(folder, tmp_path, monkeypatch):
    other = zoo.from_pretrained(tiny.backbone(tmp_path / "modernbert", "modernbert"))
    with pytest.raises(ZooError, match="int8.*needs a BERT-like text model"):
        other.encode(TEXTS, precision="int8")
    for module in (deferred, engine):
        monkeypatch.setattr(module, "can_multiply", lambda: False)
    with pytest.raises(ZooError, match="int8.*VNNI"):
        zoo.from_pretrained(folder).encode(TEXTS, precision="int8")

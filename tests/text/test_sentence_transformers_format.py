"""What zoo writes opens in sentence-transformers with the same vectors, and its heads come back."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import save_file

from zoo.core.errors import ArtefactError
from zoo.text import backbone, sentence_transformers_format
from zoo.text.heads import make_head


@pytest.fixture
def body(tmp_path):
    return backbone.load(tiny.backbone(tmp_path / "b"))


def write(tmp_path, body, heads, dim):
    folder = tmp_path / "model"
    folder.mkdir()
    sentence_transformers_format.write(folder, body, heads, dim)
    names = [module["type"].rsplit(".", 1)[-1] for module in json.loads((folder / "modules.json").read_text())]
    return folder, names


def encode_with_sentence_transformers(folder):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu").encode(tiny.SENTENCES[:5])


def compute_vectors(body, head, dim):
    module = backbone.PooledBackbone(body, head, dim).eval()
    with torch.no_grad():
        return module(body.pad(body.tokenize(tiny.SENTENCES[:5]))).numpy()


def test_dense_is_left_out_if_it_would_change_nothing(body, tmp_path):
    folder, names = write(tmp_path, body, {}, body.width)
    assert names == ["Transformer", "Pooling", "Normalize"]
    np.testing.assert_allclose(
        encode_with_sentence_transformers(folder), compute_vectors(body, None, body.width), atol=1e-6
    )


def test_the_first_components_are_a_dense_module(body, tmp_path):
    folder, names = write(tmp_path, body, {}, 8)
    assert names == ["Transformer", "Pooling", "Dense", "Normalize"]
    np.testing.assert_allclose(encode_with_sentence_transformers(folder), compute_vectors(body, None, 8), atol=1e-6)


def test_heads_come_back_and_those_of_layers_that_were_cut_off_are_left_out(body, tmp_path):
    heads = {n: make_head(torch.randn(32, 32), torch.randn(32)) for n in (1, 2, 3)}
    folder, _ = write(tmp_path, body.cut(2), heads, 16)
    np.testing.assert_allclose(
        encode_with_sentence_transformers(folder), compute_vectors(body.cut(2), heads[2], 16), atol=1e-6
    )
    read = sentence_transformers_format.read_heads(folder, body.cut(2), 16)
    assert sorted(read) == [1, 2]
    for layer, head in read.items():
        assert torch.equal(head.weight, heads[layer].weight[:16])
        assert torch.equal(head.bias, heads[layer].bias[:16])


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"7.weight": (16, 32)}, "a head for layer '7', but the model has 3 layers"),
        ({"x.weight": (16, 32)}, "a head for layer 'x'"),
        ({"1.bias": (16,)}, "the head of layer 1 is not 16 × 32"),
        ({"1.weight": (32, 32)}, "the head of layer 1 is not 16 × 32"),
    ],
)
def test_heads_that_do_not_fit_the_model_are_refused(body, tmp_path, tensors, message):
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({name: torch.zeros(shape) for name, shape in tensors.items()}, folder / "heads.safetensors")
    with pytest.raises(ArtefactError, match=message):
        sentence_transformers_format.read_heads(folder, body, 16)

"""Entropy of attention: known maps, padding, causal masks, spectral norms, and a collapse that was made."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
import transformers

from zoo.core.errors import ZooError
from zoo.diagnosis.attention import diagnose_attention
from zoo.metrics.attention import compute_attention_entropy, measure_spectral_norms, multiply_query_and_key_norms


def mean_entropy(weights, is_token, *, is_causal=False):
    sums = compute_attention_entropy(weights, is_token, is_causal=is_causal)
    return (sums[:-1] / sums[-1]).tolist()


def test_equal_weights_have_entropy_one_and_a_single_token_zero():
    equal, single = torch.full((2, 1, 5, 5), 0.2), torch.zeros(2, 1, 5, 5)
    single[..., 3] = 1
    found = mean_entropy(torch.cat([equal, single], dim=1), torch.ones(2, 5, dtype=torch.bool))
    assert found == pytest.approx([1, 0], abs=1e-6)


def test_a_causal_query_is_measured_by_the_tokens_that_it_sees():
    weights = torch.tril(torch.ones(6, 6))
    weights = (weights / weights.sum(1, keepdim=True))[None, None]
    assert mean_entropy(weights, torch.ones(1, 6, dtype=torch.bool), is_causal=True) == pytest.approx([1], abs=1e-6)


def test_appended_padding_changes_nothing():
    weights = torch.softmax(torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(0)), -1)
    padded = torch.zeros(1, 2, 7, 7)
    padded[:, :, :4, :4] = weights
    padded[:, :, 4:, :4] = 0.25  # padding queries look somewhere too
    is_token = torch.arange(7)[None] < 4
    expected = mean_entropy(weights, is_token[:, :4])
    assert mean_entropy(padded, is_token) == pytest.approx(expected, abs=1e-6)
    by_hand = -(weights * weights.log()).sum(-1).mean((0, 2)) / math.log(4)
    assert expected == pytest.approx(by_hand.tolist(), abs=1e-6)


def test_norms_of_queries_and_keys_are_multiplied_by_layer():
    layer = torch.nn.ModuleDict(
        {"query": torch.nn.Linear(3, 3), "key": torch.nn.Linear(3, 3), "out": torch.nn.Linear(3, 3)}
    )
    with torch.no_grad():
        layer["query"].weight.copy_(torch.diag(torch.tensor([2.0, 1, 0])))
        layer["key"].weight.copy_(torch.diag(torch.tensor([1.0, 5, 0])))
    norms = measure_spectral_norms(torch.nn.ModuleList([layer]))
    assert norms["0.query"] == pytest.approx(2)
    assert multiply_query_and_key_norms(norms) == pytest.approx([10])


class Tokens:
    """A tokenizer of numbers that are written with spaces between them."""

    def __call__(self, texts, *, max_length, **_):
        rows = [[int(word) for word in text.split()][:max_length] for text in texts]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        return transformers.BatchEncoding({"input_ids": ids, "attention_mask": mask})


def make_encoder(*, query_scale=1.0, decoder=False):
    sizes = {
        "vocab_size": 50,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 32,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if decoder:
            model = transformers.LlamaModel(transformers.LlamaConfig(**sizes, num_key_value_heads=4))
        else:
            model = transformers.BertModel(transformers.BertConfig(**sizes, initializer_range=0.2))
    for name, parameter in model.named_parameters():
        if "query.weight" in name:
            parameter.data.mul_(query_scale)
    return SimpleNamespace(backbone=SimpleNamespace(model=model, tokenizer=Tokens(), max_length=16, depth=2))


TEXTS = ["1 2 3 4 5 6", "7 8 9", "10 11 12 13", "4"] * 3


def test_an_encoder_is_measured_by_layer_and_head_whatever_the_order_of_its_texts():
    found = diagnose_attention(make_encoder(), TEXTS)
    assert [len(heads) for heads in found.entropy] == [4, 4]
    assert len(found.norm_products) == 2
    again = diagnose_attention(make_encoder(), TEXTS[::-1])
    assert again.layer_means == pytest.approx(found.layer_means, abs=1e-6)
    assert not found.findings


def test_a_made_collapse_is_named_with_its_layer():
    found = diagnose_attention(make_encoder(query_scale=200), TEXTS)
    assert max(found.layer_means) < 0.1
    assert [finding.message.split(" is")[0] for finding in found.findings] == [
        "attention of layer 1",
        "attention of layer 2",
    ]


def test_a_decoder_is_measured_by_the_tokens_before_each():
    found = diagnose_attention(make_encoder(decoder=True), TEXTS)
    assert all(0 < value <= 1 + 1e-6 for heads in found.entropy for value in heads)
    assert min(found.layer_means) > 0.9  # a random decoder with small weights looks at all tokens before
    assert len(found.norm_products) == 2


def test_an_encoder_without_a_backbone_is_refused():
    with pytest.raises(ZooError, match="only of an encoder with a text backbone"):
        diagnose_attention(SimpleNamespace(), TEXTS)
    with pytest.raises(ZooError, match="texts of two tokens or more"):
        diagnose_attention(make_encoder(), ["1"])

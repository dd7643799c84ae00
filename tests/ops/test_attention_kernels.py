"""Attention by any kernel and any padding is softmax(Q Kᵀ + bias) V."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zoo.ops import attention

LENGTHS = (1, 2, 8, 10, 11, 12, 13, 15, 16, 17, 20, 31, 32, 33, 40, 48, 63, 64, 65, 80)


def compute(qkv, batch, length, heads, bias):
    """Attention of each text and head by loops and in float64."""
    size = qkv.shape[1] // (3 * heads)
    query, key, value = qkv[: batch * length].double().reshape(batch, length, 3, heads, size).permute(2, 0, 3, 1, 4)
    result = torch.zeros(batch, length, heads, size, dtype=torch.float64)
    whole = torch.zeros(batch, heads, length, length) if bias is None else bias.expand(batch, heads, length, length)
    for text in range(batch):
        for head in range(heads):
            scores = query[text, head] @ key[text, head].T + whole[text, head].double()
            result[text, :, head] = torch.softmax(scores, -1) @ value[text, head]
    return result.reshape(batch * length, heads * size)


def draw(batch, length, heads, size, dtype, missing=0, has_bias=False):
    torch.manual_seed(length)
    qkv = torch.randn(batch * length + missing, 3 * heads * size)
    qkv[:, : heads * size] *= size**-0.5
    if not has_bias:
        return qkv.to(dtype), None
    hidden = torch.arange(length) >= torch.randint(1, length + 1, (batch, 1))
    return qkv.to(dtype), torch.zeros(batch, length).masked_fill(hidden, torch.finfo(dtype).min)[:, None, None].to(
        dtype
    )


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize(("batch", "missing"), [(1, 0), (3, 0), (3, 4)])
@pytest.mark.parametrize("size", [32, 64])
def test_attention_of_every_length_is_that_of_the_formula(size, batch, missing, has_bias):
    for length in LENGTHS:
        qkv, bias = draw(batch, length, 2, size, torch.float32, missing, has_bias)
        result = attention.attend(qkv, batch, length, 2, bias)
        np.testing.assert_allclose(result[: batch * length], compute(qkv, batch, length, 2, bias), atol=2e-6)
        assert result.shape == (len(qkv), 2 * size)
        assert not result[batch * length :].any(), "rows of padding are 0"


@pytest.mark.parametrize("rows", [1, attention.BFLOAT16_ROWS])
@pytest.mark.parametrize("has_bias", [False, True])
def test_attention_in_bfloat16_is_near_the_formula(rows, has_bias, monkeypatch):
    monkeypatch.setattr(attention, "BFLOAT16_ROWS", rows)
    for length in LENGTHS:
        qkv, bias = draw(2, length, 2, 32, torch.bfloat16, has_bias=has_bias)
        result = attention.attend(qkv, 2, length, 2, bias)
        assert result.dtype == torch.bfloat16
        np.testing.assert_allclose(result.float(), compute(qkv, 2, length, 2, bias), atol=0.06)


def test_a_bias_between_tokens_is_added_where_they_are_padded():
    length = 13  # padded to 16
    assert attention.choose_length(length, 32, torch.float32) == 16
    qkv, _ = draw(2, length, 2, 32, torch.float32)
    bias = torch.randn(1, 2, length, length)
    np.testing.assert_allclose(attention.attend(qkv, 2, length, 2, bias), compute(qkv, 2, length, 2, bias), atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [32, 64])
def test_padding_at_most_doubles_the_tokens(size, dtype):
    for length in range(1, 600):
        padded = attention.choose_length(length, size, dtype)
        assert padded == 0 or length <= padded <= 2 * length


def test_scores_whose_exponentials_overflow_take_a_softmax(monkeypatch):
    monkeypatch.setattr(attention, "BFLOAT16_ROWS", 1)
    for length in (7, 20, 33):
        qkv, bias = draw(2, length, 2, 32, torch.float32, has_bias=True)
        qkv[:, :128] *= 12  # scores of up to 144 times as much, far above 88
        result = attention.attend(qkv.bfloat16(), 2, length, 2, bias).float()
        expected = compute(qkv.bfloat16().float(), 2, length, 2, bias)
        # A score of 200 is exact to 1 in bfloat16, so single weights differ; most tokens see one key alone.
        assert torch.nn.functional.cosine_similarity(result, expected.float(), dim=-1).median() > 0.999
        assert result.isfinite().all()


def test_a_text_without_tokens_has_finite_states(monkeypatch):
    monkeypatch.setattr(attention, "BFLOAT16_ROWS", 1)
    for dtype in (torch.float32, torch.bfloat16):
        qkv, _ = draw(2, 20, 2, 32, dtype)
        bias = torch.zeros(2, 1, 1, 20, dtype=dtype)
        bias[1] = torch.finfo(dtype).min
        result = attention.attend(qkv, 2, 20, 2, bias)
        assert result.isfinite().all()
        if dtype == torch.bfloat16:
            assert not result[20:].any()

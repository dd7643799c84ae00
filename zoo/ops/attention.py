"""Attention on a CPU, by the fused kernel of PyTorch or by two products, whichever is faster for the number of tokens.

In float32 the fused kernel is slow for most lengths other than multiples of 16. Products of 11 to 15 tokens are slow as well,
so these are padded to 16 inside attention alone. In bfloat16 the fused kernel is always slow, and so is a softmax: it is
computed in float32, or without its maximum where no score can be so large that its exponential overflows.
`benchmarks/attention.py` measures all of them.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F

BFLOAT16_ROWS = 2048
"""From so many rows (texts × heads × tokens) attention in bfloat16 is computed in bfloat16, below in float32."""
MAX_SCORE = 60.0
"""The exponentials of scores up to this, and sums of them, are far from the largest bfloat16, which is about e^88."""


def attend(qkv: torch.Tensor, batch: int, length: int, heads: int, bias: torch.Tensor | None) -> torch.Tensor:
    """Return softmax(Q Kᵀ + bias) V for the texts of a batch: (rows, width) in the dtype of `qkv`.

    Args:
        qkv: queries, keys and values (rows, 3 · width), float32 or bfloat16; the queries are scaled already. Rows beyond
            batch · length are padding, and their result is 0.
        batch, length: the texts, and the tokens of each.
        heads: of which each has width / heads components.
        bias: broadcastable to (batch, heads, length, length), or None.
    """
    rows, size = batch * length, qkv.shape[1] // (3 * heads)
    parts = qkv[:rows].view(batch, length, 3, heads, size).permute(2, 0, 3, 1, 4)
    if is_short(batch, heads, length):
        parts = parts.float()
    padded = choose_length(length, size, parts.dtype)
    bias = None if bias is None else bias.to(torch.float32 if padded else parts.dtype)
    if padded and parts.dtype == torch.bfloat16:
        result = _multiply_half(parts, bias, padded)[:, :, :length]
    elif padded:
        query, key, value = _pad(parts, padded)
        result = _multiply(query, key, value, bias, length)[:, :, :length]
    else:
        query, key, value = parts
        result = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=1.0)
    if rows == len(qkv):
        return result.transpose(1, 2).reshape(rows, -1).to(qkv.dtype)
    states = qkv.new_empty(len(qkv), heads * size)
    states[:rows].view(batch, length, heads, size).copy_(result.transpose(1, 2))
    states[rows:].zero_()
    return states


def is_short(batch: int, heads: int, length: int) -> bool:
    """Return whether attention is so small that it is faster in float32 than in bfloat16."""
    return batch * heads * length < BFLOAT16_ROWS


@cache
def choose_length(length: int, size: int, dtype: torch.dtype) -> int:
    """Return the number of tokens, padded or not, for two products, or 0 if the fused kernel is faster.

    Args:
        length: the number of tokens.
        size: components of a head.
        dtype: float32 or bfloat16.
    """
    if dtype == torch.bfloat16:  # the padding gains time itself, and oneDNN keeps a kernel for each shape
        return -(-length // 16) * 16 if length > 8 else length
    is_narrow = size <= 32
    if (11 if is_narrow else 13) <= length < 16:
        return 16
    return length if is_narrow and 16 < length < 96 and length % 16 else 0


def _pad(parts: torch.Tensor, padded: int) -> torch.Tensor:
    """Return parts (…, batch, heads, length, size) contiguous and with zeros up to the token `padded`."""
    if padded == parts.shape[-2]:
        return parts.contiguous()
    whole = parts.new_zeros(*parts.shape[:-2], padded, parts.shape[-1])
    whole[..., : parts.shape[-2], :].copy_(parts)
    return whole


def _multiply(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor | None, length: int
) -> torch.Tensor:
    """Return attention (batch, heads, padded, size) to the first `length` tokens, with a softmax in float32."""
    scores = _compute_scores(query, key).float()
    if bias is not None:
        scores[..., :length, :length] += bias
    if scores.shape[-1] > length:
        scores[..., length:] = torch.finfo(scores.dtype).min  # no token sees the padding
    torch.softmax(scores, dim=-1, out=scores)  # in its place: a second tensor of this size would leave the cache
    return _weigh(scores.to(value.dtype), value)


def _multiply_half(parts: torch.Tensor, bias: torch.Tensor | None, padded: int) -> torch.Tensor:
    """Return attention (batch, heads, padded, size) for parts (3, batch, heads, length, size) in bfloat16.

    A bias of keys is a factor of their values, because e^(s + b) = e^s · e^b. A last component of ones, with the same factor,
    sums the weights.
    """
    length, size = parts.shape[-2:]
    query, key = _pad(parts[:2], padded)
    is_of_keys = bias is None or bias.shape[-2] == 1
    longest_query, longest_key = (torch.linalg.vector_norm(side, dim=-1).max() for side in (query, key))
    if not is_of_keys or float(longest_query * longest_key) > MAX_SCORE:
        return _multiply(query, key, _pad(parts[2], padded), bias, length)
    value = query.new_zeros(*query.shape[:-1], size + 1)
    value[..., :length, :size] = parts[2]
    value[..., :length, size] = 1
    if bias is not None:
        value[..., :length, :] *= bias.exp().to(value.dtype).transpose(-1, -2)
    sums = _weigh(_compute_scores(query, key).exp_(), value)
    return sums[..., :size] / sums[..., size:].clamp_min_(1e-30)  # 0 where a text has no token


def _compute_scores(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Return Q Kᵀ (batch, heads, tokens, tokens) for sides (batch, heads, tokens, size)."""
    scores = torch.bmm(query.flatten(0, 1), key.flatten(0, 1).transpose(1, 2))
    return scores.view(*query.shape[:2], *scores.shape[1:])


def _weigh(weights: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Return the sums (batch, heads, tokens, size) of values with weights (batch, heads, tokens, tokens)."""
    return torch.bmm(weights.flatten(0, 1), value.flatten(0, 1)).view(value.shape)

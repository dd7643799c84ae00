"""How widely attention looks: the entropy of its weights by layer and head, and the spectral norms of linear layers.

Source: Zhai et al., "Stabilizing Transformer Training by Preventing Attention Entropy Collapse", arXiv 2303.06296, section 3. A
training whose entropy falls towards 0 oscillates or diverges. Here an entropy is a share of the largest one, the logarithm of the
number of tokens that a query may look at. It then does not depend on the length of a text or on padding.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

QUERY_AND_KEY = (("query", "key"), ("q_proj", "k_proj"), ("q_lin", "k_lin"), ("q", "k"), ("query_proj", "key_proj"))
"""Names of the two linear layers whose product the attention logits are, in the architectures of transformers."""


def compute_attention_entropy(weights: torch.Tensor, is_token: torch.Tensor, *, is_causal: bool) -> torch.Tensor:
    """Return the sum of the relative entropies of each head over all queries, and the number of queries.

    Args:
        weights: (batch, heads, queries, keys) attention weights; rows sum to 1 over the keys that a query sees.
        is_token: (batch, tokens) bool, False for padding. Padding queries and keys are left out.
        is_causal: whether a token sees only itself and tokens before it.

    Returns (heads + 1,) float64: the sums by head, then the count. Queries that see a single token have no entropy and are
    left out.
    """
    weights = weights.double()
    length = is_token.shape[1]
    is_seen = is_token[:, None, :].expand(-1, length, -1)
    if is_causal:
        is_seen = is_seen & torch.ones(length, length, dtype=torch.bool, device=is_token.device).tril()
    counts = is_seen.sum(-1)
    counted = is_token & (counts > 1)
    entropy = -torch.special.xlogy(weights, weights).masked_fill(~is_seen[:, None], 0).sum(-1)
    relative = entropy / counts.clamp(min=2).log()[:, None]
    sums = relative.masked_fill(~counted[:, None], 0).sum((0, 2))
    return torch.cat([sums, counted.sum().double()[None]])


def measure_spectral_norms(module: torch.nn.Module) -> dict[str, float]:
    """Return the largest singular value of each linear layer of `module` by its name."""
    return {
        name: float(torch.linalg.matrix_norm(layer.weight.detach().float(), 2))
        for name, layer in module.named_modules()
        if isinstance(layer, torch.nn.Linear)
    }


def multiply_query_and_key_norms(norms: Mapping[str, float]) -> list[float]:
    """Return the product of the spectral norms of query and key of each layer, in order; [] if they are named otherwise.

    The product bounds how large attention logits can become (Zhai et al., theorem 3.1).
    """
    products = []
    for name, norm in norms.items():
        parent, _, last = name.rpartition(".")
        for query, key in QUERY_AND_KEY:
            other = f"{parent}.{key}" if parent else key
            if last == query and other in norms:
                products.append(norm * norms[other])
                break
    return products

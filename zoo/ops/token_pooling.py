"""Token pooling: keep fewer vectors of a document by merging tokens that are alike."""

from __future__ import annotations

import torch
from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling

from zoo.core.errors import ZooError
from zoo.ops.token_sets import TokenSets, check_token_sets, join_token_sets, split_token_sets


def pool_tokens(tokens: TokenSets, factor: float, *, protected: int = 1) -> TokenSets:
    """Merge the tokens of each set into about `1 / factor` as many, by hierarchical clustering with Ward's criterion.

    The vector of a cluster is the mean of its tokens, scaled to unit norm (Clavié et al., "Reducing the Footprint of Multi-Vector
    Retrieval", arXiv 2409.14683). sentence-transformers computes the clusters.

    Args:
        tokens: unit vectors (t, d) of all sets, and the offsets (n + 1,) at which each begins.
        factor: at least 1, which merges nothing.
        protected: so many first tokens of each set stay as they are, for example [CLS].

    Raises ZooError for a factor below 1.
    """
    vectors, offsets = check_token_sets(*tokens)
    if not factor >= 1:
        raise ZooError(f"pool_factor: {factor} is below 1; give the number of tokens that become one, for example 2")
    if factor == 1:
        return vectors, offsets
    pooling = HierarchicalTokenPooling(factor, num_protected_tokens=protected)
    sets = split_token_sets(vectors, offsets)
    filled = [torch.from_numpy(own) for own in sets if len(own)]
    pooled = iter(pooling.pool(filled))
    return join_token_sets([next(pooled).numpy() if len(own) else own for own in sets], vectors.shape[1])

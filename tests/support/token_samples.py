"""Sets of random unit vectors, as an encoder with a vector for each token gives them."""

from __future__ import annotations

import numpy as np

from zoo.ops.token_sets import join_token_sets


def draw_sets(lengths, dim=24, seed=0):
    rng = np.random.default_rng(seed)
    sets = [rng.normal(size=(length, dim)) for length in lengths]
    return join_token_sets([each / np.linalg.norm(each, axis=1, keepdims=True) for each in sets], dim)

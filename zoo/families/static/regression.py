"""Token vectors that make the mean of a text's tokens the backbone's vector of the text: ridge regression, in closed form.

Token vectors that were computed one token at a time know nothing of sentences. Given texts and the backbone's vectors of them,
the best token vectors solve a linear least-squares problem. Its solution is drawn to the earlier vectors, so that a token that
few texts have, or none, stays where it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, diags_array

from zoo.families.static.token_bag import TokenBag

Array = npt.NDArray[Any]
_EPSILON = 1e-6
_ITERATIONS = 30  # after which the residual of real texts is far below what changes a cosine


def fit_to_texts(bag: TokenBag, texts: Sequence[str], targets: Array, dim: int, ridge: float) -> TokenBag:
    """Fit token vectors to vectors of texts, and turn them so that their first components tell most about the texts.

    Args:
        bag: (tokens, width) vectors to start from.
        targets: (texts, width) vectors of the texts, in the space of the token vectors. Their mean is taken away.
        dim: components to keep, at most width.
        ridge: weight of the earlier vectors: a token's counts as much as that many texts that have the token alone.
    """
    has_vector = bag.table.any(axis=1).astype(np.float32)  # the unknown token keeps its vector of zeros
    counts = bag.count_tokens(texts) @ diags_array(has_vector)
    lengths = np.linalg.norm(counts @ bag.table, axis=1)
    design = csr_array(diags_array(1 / np.maximum(lengths, _EPSILON)) @ counts, dtype=np.float32)
    centred = targets - targets.mean(axis=0)
    centred = (centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), _EPSILON)).astype(np.float32)
    penalty = ridge * float(design.multiply(design).sum()) / max(1, len(texts))
    table = bag.table + solve_ridge(design, centred - design @ bag.table, penalty)
    fitted = design @ table
    _, axes = np.linalg.eigh(fitted.T @ fitted)
    return TokenBag(bag.tokenizer, np.ascontiguousarray(table @ fix_signs(axes[:, ::-1][:, :dim]), dtype=np.float32))


def solve_ridge(design: csr_array, targets: Array, penalty: float, iterations: int = _ITERATIONS) -> Array:
    """X that minimises ‖design X - targets‖² + penalty ‖X‖², by conjugate gradients.

    Args:
        design: (texts, tokens) sparse; targets: (texts, width), whose columns are solved together.
    """
    transposed = csr_array(design.T)
    residual = transposed @ targets
    diagonal = np.asarray(design.multiply(design).sum(axis=0)).ravel()[:, None] + penalty
    solution: Array = np.zeros_like(residual)
    step = residual / diagonal
    energy = (residual * step).sum(axis=0)
    tiny = np.finfo(residual.dtype).tiny  # in place of a zero that would be divided by
    for _ in range(iterations):
        image = transposed @ (design @ step) + penalty * step
        length = energy / np.maximum((step * image).sum(axis=0), tiny)
        solution += length * step
        residual -= length * image
        scaled = residual / diagonal
        new_energy = (residual * scaled).sum(axis=0)
        step = scaled + new_energy / np.maximum(energy, tiny) * step
        energy = new_energy
    return solution


def fix_signs(axes: Array) -> Array:
    """The same axes (width, dim), each with its largest entry positive, so that equal data give equal axes everywhere."""
    largest = np.abs(axes).argmax(axis=0)
    signs = np.sign(axes[largest, np.arange(axes.shape[1])])
    signed: Array = axes * np.where(signs == 0, 1, signs)
    return signed

"""Vectors in clusters, as those of an encoder lie, and steps that are fitted on them."""

from __future__ import annotations

from typing import Any

import numpy as np

from zoo import after
from zoo.after.material import Material, Vectors
from zoo.after.step import Step


def draw_clustered(rows: int, dim: int = 64, *, clusters: int = 40, spread: float = 0.6, seed: int = 0) -> Vectors:
    """Return unit vectors (rows, dim) around random centres with a common offset, as most encoders have one."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(1000).normal(size=(clusters, dim)) + np.linspace(-1, 1, dim)
    vectors = centres[random.integers(clusters, size=rows)] + spread * random.normal(size=(rows, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def make_material(rows: int = 800, dim: int = 64, seed: int = 0) -> Material:
    """Return documents, queries that are like some of them, their answers, and foreign queries."""
    documents = draw_clustered(rows, dim, seed=seed)
    random = np.random.default_rng(seed + 1)
    answers = random.permutation(rows)[: rows // 4]
    queries = documents[answers] + random.normal(size=(len(answers), dim)).astype(np.float32) * 0.05
    foreign = random.normal(size=(50, dim)).astype(np.float32)
    return Material(
        documents,
        queries=queries / np.linalg.norm(queries, axis=1, keepdims=True),
        answers=np.stack([np.arange(len(answers)), answers], axis=1),
        foreign=foreign / np.linalg.norm(foreign, axis=1, keepdims=True),
    )


def fit(name: str, material: Material | None = None, **fields: Any) -> Step:
    """Fit a step on `material`, by default that of `make_material`."""
    spec = after.load_spec(name).model_validate({"step": name, **fields})
    return after.load_step(name).fit(spec, make_material() if material is None else material)


def find_nearest(scores: Vectors, k: int = 10) -> np.ndarray:
    """Return the numbers (m, k) of the best columns of `scores` (m, n), the best first."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def compute_share(found: np.ndarray, exact: np.ndarray) -> float:
    """Return the share of the rows `exact` (m, k) that are among the rows `found` (m, k)."""
    return float(np.mean([len({*a} & {*b}) / len(b) for a, b in zip(found.tolist(), exact.tolist(), strict=True)]))

"""Figures of zoo beside the code of their authors, on the same vectors, with the faults of that code.

vendi-score (`pip install --no-deps vendi-score`) and scikit-dimension are run as they are. Code that is in no package is written
out here as its authors published it: the shortcut of the nuclear norm (arXiv 2410.10672) and the label sharpness that goes with
the intrinsic dimension of data (arXiv 2401.08865). Vectors are drawn by a seed; everything takes some seconds.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

from zoo.metrics.label_sharpness import measure_sharpness
from zoo.metrics.moments import Moments
from zoo.metrics.neighbours import measure_neighbours
from zoo.metrics.spectrum import measure_spectrum

ROWS, DIM = 2000, 384


def draw_vectors(rank: int = DIM, *, seed: int = 1) -> Any:
    """Draw (2000, 384) float32 with directions of falling length. The first `rank` axes are used."""
    vectors = np.zeros((ROWS, DIM), np.float32)
    vectors[:, :rank] = np.random.default_rng(seed).standard_normal((ROWS, rank)) / np.sqrt(1 + np.arange(rank))
    return vectors


def rotate(vectors: Any, *, seed: int = 2) -> Any:
    """Rotate vectors (n, d) by a random rotation, which changes no figure of a space."""
    draws = np.random.default_rng(seed).standard_normal((vectors.shape[1],) * 2)
    return (vectors @ np.linalg.qr(draws)[0]).astype(np.float32)


def sum_column_norms(vectors: Any) -> float:
    """Compute the shortcut of the nuclear norm as published: centred unit rows, and the min(n, d) largest column norms."""
    centred = vectors - vectors.mean(0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    norms = np.sort(np.linalg.norm(unit, axis=0))[::-1][: min(unit.shape)]
    return float(norms.sum() / len(unit))


def compute_published_sharpness(vectors: Any, labels: Any) -> float:
    """Compute the label sharpness as published: its numerator counts pairs of EQUAL labels."""
    distances = np.linalg.norm(vectors[:, None] - vectors[None], axis=2) + np.eye(len(vectors)) * 1e9
    return float(((labels[:, None] == labels[None]) / distances).max())


def measure_peers() -> list[list[str]]:
    """Return rows of the table: figure and input, zoo, the authors' code, and a remark."""
    vectors, axes = draw_vectors(), draw_vectors(16)
    ours = measure_spectrum(Moments.collect(vectors))
    rows = []
    if importlib.util.find_spec("vendi_score"):
        from vendi_score import vendi

        rows += [
            ["Vendi, order 1", f"{ours.vendi:.4f}", f"{vendi.score_dual(vectors):.4f}", "vendi-score, `score_dual`"],
            ["Vendi, order 2", f"{ours.vendi_2:.4f}", f"{vendi.score_dual(vectors, q=2):.4f}", "`score_dual`"],
            ["Vendi, order 2", f"{ours.vendi_2:.4f}", f"{vendi.score_X(vectors, q=2):.4f}", "`score_X`"],
        ]
        if abs(vendi.score_X(vectors, q=2) - vendi.score_X(vectors)) < 1e-9:
            rows[-1][-1] += " computes order 1, whatever it is asked for"
    rows += _compare_nuclear_norms(axes)
    rows += _compare_dimensions()
    labels = np.repeat([0, 1], 100)
    pair = np.concatenate([draw_vectors(4, seed=5)[:100], draw_vectors(4, seed=6)[:100] + 3])
    unit = pair / np.linalg.norm(pair, axis=1, keepdims=True)
    remark = "counts pairs of equal labels: 1 / the smallest distance inside a class"
    published = compute_published_sharpness(unit, labels)
    rows.append(
        [
            "label sharpness, two groups",
            f"{measure_sharpness(pair, labels.tolist()).label_sharpness:.2f}",
            f"{published:.2f}",
            remark,
        ]
    )
    return rows


def _compare_nuclear_norms(axes: Any) -> list[list[str]]:
    rows = []
    for name, vectors in (
        ("rank 16 along axes", axes),
        ("the same, rotated", rotate(axes)),
        ("rank 384", draw_vectors()),
    ):
        exact = measure_spectrum(Moments.collect(vectors)).nuclear_norm
        remark = "shortcut: depends on the axes" if "rotated" in name else "shortcut"
        rows.append([f"nuclear norm, {name}", f"{exact:.4f}", f"{sum_column_norms(vectors):.4f}", remark])
    return rows


def _compare_dimensions() -> list[list[str]]:
    import skdim

    distinct = np.zeros((ROWS, DIM), np.float32)
    distinct[:, :10] = np.random.default_rng(7).standard_normal((ROWS, 10))
    repeated = np.concatenate([distinct, distinct[:500]])
    rows = []
    for name, vectors, remark in (
        ("distinct rows", distinct, "scikit-dimension on unit vectors"),
        ("500 rows twice", repeated, "the same; equal rows lower it"),
    ):
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        theirs = skdim.id.TwoNN().fit(unit.astype(np.float64)).dimension_
        rows.append([f"TwoNN, {name}", f"{measure_neighbours(vectors).twonn:.3f}", f"{theirs:.3f}", remark])
    return rows


def write_peers(rows: list[list[str]]) -> list[str]:
    """Make the lines of the table."""
    lines = ["", "## Beside the authors' code", "", "The same vectors, 2,000 × 384, drawn by a seed.", ""]
    lines += ["| figure | zoo | authors | their code |", "|:---|---:|---:|:---|"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]

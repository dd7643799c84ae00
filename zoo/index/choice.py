"""Choose how vectors are stored: by the number of rows, a budget of bytes, and the recall that is measured.

Recall@10 is the share of the ten exact nearest rows that are found. It is measured with queries of the user, or else with sampled
rows in their place, which are left out of their own results.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from zoo.core.errors import ZooError
from zoo.index import faiss_codec
from zoo.index.arrays import Numbers, Vectors, take_rows
from zoo.index.faiss_codec import FaissCodec, FaissType

EXACT_ROWS = 10_000
"""Up to so many rows, float vectors are searched exactly, without faiss."""
FLAT_ROWS = 50_000
"""From so many rows on, inverted lists are used."""
SAMPLE_ROWS = 20_000
QUERIES = 200
TOP = 10
POINTS_PER_LIST = 50  # at least 39, or faiss warns
MIN_TRAINING = 20_000
BITS = (1, 2, 4, 6, 7, 8, 0)
"""Types by their bytes: 1 to 7 bits of RaBitQ, int8, and signs with int8 rescoring."""
NEAR = 50
"""Nearest rows of each query that a sample holds. Others hardly compete with them for the first places."""
USUAL_RECALL = 0.95
"""A type that was not asked for, and finds less, is told."""
LIST_BYTES = 8
"""Bytes of the number that inverted lists keep for each vector."""
GAIN = 0.01
"""A doubling of the searched lists that adds less recall is not worth it."""


@dataclass(frozen=True)
class Wish:
    """The wishes of the user about size and recall.

    Attributes:
        budget: largest number of bytes of a vector, or None.
        recall: least recall@10, or None.
        exact: keep float vectors, whatever the number of rows.
    """

    budget: int | None = None
    recall: float | None = None
    exact: bool = False


class Figure(NamedTuple):
    """A type that was measured."""

    name: str
    bytes: int
    recall: float


class Questions(NamedTuple):
    """Queries with which recall is measured.

    Attributes:
        vectors: (q, d) float32.
        own: (q,) numbers of the vectors that are the queries themselves; -1 for queries of the user.
        source: what they are, for messages.
    """

    vectors: Vectors
    own: Numbers
    source: str


def read_budget(text: str) -> int:
    """Return a number of bytes, written as `64`, `64B` or `1.5KB`. Raise ZooError for anything else."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(B|KB|KiB)?\s*", text, re.IGNORECASE)
    size = float(match[1]) * (1 if not match[2] or match[2].lower() == "b" else 1024) if match else 0
    if size < 1:
        raise ZooError(f"budget: {text!r} is not a number of bytes; write it as 64B, for one vector")
    return int(size)


def draw_questions(vectors: Any, queries: Vectors | None, seed: int = 0) -> Questions:
    """Return the user's queries, or sampled rows in their place."""
    if queries is not None:
        chosen = np.ascontiguousarray(queries[:1000])
        return Questions(chosen, np.full(len(chosen), -1), f"{len(chosen)} queries")
    numbers = np.sort(np.random.default_rng(seed).permutation(len(vectors))[: min(QUERIES, len(vectors))])
    return Questions(take_rows(vectors, numbers), numbers, f"{len(numbers)} sampled rows as queries")


class Truth(NamedTuple):
    """The result of an exact search, with which others are compared.

    Attributes:
        vectors: all vectors (n, d), in memory or on the disk.
        questions: the queries.
        lowest: (q,) float32, the score of the last of the TOP nearest rows.
        size: the number of rows that a query can find, TOP at most.
    """

    vectors: Any
    questions: Questions
    lowest: Vectors
    size: int

    def compute_recall(self, found: Numbers) -> float:
        """Return the share of the TOP nearest rows that are among the results (q, TOP + 1) of a search.

        A row with the same score as one of the nearest counts as well, because rows may be alike.
        """
        own = drop_own(found, self.questions.own)
        is_row = own >= 0
        numbers, places = np.unique(np.where(is_row, own, 0), return_inverse=True)
        vectors = take_rows(self.vectors, numbers)[places.reshape(own.shape)]
        scores = np.einsum("qd,qtd->qt", self.questions.vectors, vectors)
        near = is_row & (scores >= self.lowest[:, None] - 1e-5 * np.abs(self.lowest[:, None]))
        return float(near.sum() / max(1, self.size * len(own)))


def find_exact(vectors: Any, questions: Questions) -> Truth:
    """Search the exact nearest vectors of each question, in blocks."""
    from zoo.ops import exact_search

    scores, numbers = exact_search.search(questions.vectors, vectors, TOP + 1)
    scores = np.where(numbers == questions.own[:, None], -np.inf, scores)
    scores = -np.sort(-scores, axis=1)[:, :TOP]
    has_own = bool((questions.own >= 0).any())
    count = min(TOP, len(vectors) - has_own)
    return Truth(vectors, questions, scores[:, count - 1] if count else scores[:, 0], count)


def drop_own(numbers: Numbers, own: Numbers) -> Numbers:
    """Return the first TOP results of each question, without the question itself. -1 stands for none."""
    result = np.full((len(numbers), TOP), -1, np.int64)
    for row, (found, number) in enumerate(zip(numbers, own, strict=True)):
        others = found[found != number][:TOP]
        result[row, : len(others)] = others
    return result


def needs_faiss(count: int, wish: Wish) -> bool:
    """Return whether an index of so many rows is one of faiss, or is compared with some."""
    return wish.budget is not None or wish.recall is not None or count >= EXACT_ROWS


def check_wish(count: int, dim: int, wish: Wish) -> None:
    """Raise ZooError, before anything is encoded, for a wish that no index of so many rows can fulfil."""
    if not needs_faiss(count, wish) or wish.exact:
        return
    faiss = faiss_codec.import_faiss()
    if wish.budget is None and wish.recall is None:
        return
    if count < 2 * TOP:
        raise ZooError(f"budget and recall are measured, and {count} rows are too few; leave both out")
    smallest = faiss.index_factory(dim, FaissType(1).make_factory_string(dim), faiss.METRIC_INNER_PRODUCT)
    least = faiss_codec.get_inner(smallest).code_size + LIST_BYTES * (count >= FLAT_ROWS)
    if wish.budget is not None and wish.budget < least:
        raise ZooError(
            f"budget: {wish.budget} bytes are too few, because the smallest type takes {least}; raise --budget"
        )


def choose_type(
    vectors: Any, questions: Questions, wish: Wish, say: Callable[[str], Any]
) -> tuple[FaissType | None, list[Figure]]:
    """Return the type of faiss, or None for exact float vectors, and the figures that decided.

    Without a wish the number of rows decides. With one, every type is measured on a sample: the cheapest with the recall, or
    the best within the budget. If no type within the budget has the recall, a warning says so, and the best one is taken.
    """
    count = len(vectors)
    lists = round(math.sqrt(count)) if count >= FLAT_ROWS else 0
    if wish.budget is None and wish.recall is None:
        return (None if wish.exact or count < EXACT_ROWS else FaissType(4, lists)), []
    figures = [
        figure._replace(bytes=figure.bytes + LIST_BYTES * bool(lists)) for figure in measure_types(vectors, questions)
    ]
    for figure in figures:
        say(f"  {figure.name}: {figure.bytes} bytes a vector, recall@{TOP} {figure.recall:.3f} on a sample")
    chosen = _choose_figure(figures, wish, say)
    bits = next((bits for bits in BITS if FaissType(bits).name == chosen.name), None)
    return (None if bits is None else FaissType(bits, lists)), figures


def _choose_figure(figures: Sequence[Figure], wish: Wish, say: Callable[[str], Any]) -> Figure:
    fitting = [figure for figure in figures if wish.budget is None or figure.bytes <= wish.budget]
    good = [figure for figure in fitting if wish.recall is None or figure.recall >= wish.recall]
    best = max(fitting, key=lambda figure: figure.recall)
    if not good:
        reached = f"the best is {best.name} with {best.recall:.3f}"
        say(f"warning: no type within {wish.budget} bytes has the recall {wish.recall}; {reached}; raise --budget")
    return min(good, key=lambda figure: figure.bytes) if good and wish.recall is not None else best


def measure_types(vectors: Any, questions: Questions) -> list[Figure]:
    """Measure recall and bytes of every type without lists on a sample of the vectors.

    The sample holds the nearest rows of each query. Without them the nearest rows of a sample lie farther apart than those of
    all rows, and every type would seem to find more than it does.
    """
    numbers = draw_competitors(vectors, questions)
    sample = take_rows(vectors, numbers)
    places = np.searchsorted(numbers, questions.own)
    is_in = (questions.own >= 0) & (numbers[places.clip(max=len(numbers) - 1)] == questions.own)
    local = Questions(questions.vectors, np.where(is_in, places, -1), questions.source)
    truth, figures = find_exact(sample, local), []
    for bits in BITS:
        codec = train_codec(FaissType(bits), sample)
        index = faiss_codec.copy_index(codec.trained)
        index.add(sample)
        opened = faiss_codec.FaissVectors(codec, index, codec.to_int8(sample) if codec.kind.rescores else None)
        _, found = opened.search(local.vectors, TOP + 1, None)
        figures.append(Figure(codec.name, codec.bytes_per_vector, truth.compute_recall(found)))
    return [*figures, Figure("float32", 4 * sample.shape[1], 1.0)]


def draw_competitors(vectors: Any, questions: Questions) -> Numbers:
    """Return ascending numbers of the nearest rows of the questions and of as many others as a sample holds besides."""
    from zoo.ops import exact_search

    others = np.random.default_rng(1).permutation(len(vectors))[:SAMPLE_ROWS]
    if len(others) == len(vectors):
        return np.sort(others)
    near = exact_search.search(questions.vectors, vectors, NEAR)[1]
    return np.union1d(others, near)


def draw_training_sample(vectors: Any, kind: FaissType, seed: int = 0) -> Vectors:
    """Return the vectors on which an index is trained, in their order."""
    size = max(MIN_TRAINING, POINTS_PER_LIST * kind.lists)
    numbers = np.sort(np.random.default_rng(seed).permutation(len(vectors))[:size])
    return take_rows(vectors, numbers)


def train_codec(kind: FaissType, sample: Vectors) -> FaissCodec:
    """Return the codec of a type, trained on a sample."""
    if kind.lists and len(sample) < 39 * kind.lists:
        raise ZooError(f"{kind.name}: {len(sample)} vectors are too few to train {kind.lists} lists")
    ranges = np.stack([sample.min(0), sample.max(0)]).astype(np.float32)
    return FaissCodec(kind, faiss_codec.train(kind, sample), ranges, probes=max(1, kind.lists // 32))


def choose_probes(
    search: Callable[[int], Numbers], lists: int, truth: Truth, recall: float | None
) -> tuple[int, float]:
    """Return how many inverted lists a search reads, and the recall with so many.

    The number is doubled until the wished recall is reached, or until a doubling adds next to nothing.

    Args:
        search: takes the number of lists, and returns the results (q, TOP + 1).
    """
    probes, before = max(1, lists // 128), -1.0
    while True:
        found = truth.compute_recall(search(probes))
        reached = found >= recall if recall is not None else found - before < GAIN
        if reached or probes * 2 > lists:
            return probes, found
        probes, before = probes * 2, found


def describe_figures(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """Return figures as JSON-able values."""
    return [figure._asdict() for figure in figures]

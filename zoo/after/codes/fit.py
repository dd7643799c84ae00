"""Fit a `Coder` to a model's vectors, and keep the training only if held-out queries are better with it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from zoo.after.checks import check_documents, check_vectors
from zoo.after.codes import figures
from zoo.after.codes.coder import Coder, Head, fit_coder
from zoo.after.codes.spec import Spec
from zoo.after.codes.training import RANKED_QUERIES, distil, rank_documents, train_head
from zoo.after.material import Material
from zoo.core.errors import ZooError
from zoo.ops import scalar_quantisers

Numbers = npt.NDArray[np.int64]

MOST_DOCUMENTS = 1 << 16  # that are searched in a fit
ROTATION_ROWS = 10_000  # of which rotation and levels are fitted, at least
HELD_OUT = 500  # queries, at most a fifth of all
FEWEST_QUERIES = 100  # with fewer nothing is trained: a fifth of them could not judge it


@dataclass(frozen=True)
class Sample:
    """The part of a material that is used: float32 tensors, the queries for training first.

    Attributes:
        documents: (n, dim).
        old_documents: (n, d), or None.
        queries, judges: (m, dim) queries of the training, and others that judge it.
        pairs, judged_pairs: (p, 2) a number of those queries and that of a document.
        own: (m,) numbers of the documents that `judges` are, if there are no queries.
    """

    documents: torch.Tensor
    old_documents: torch.Tensor | None
    queries: torch.Tensor
    judges: torch.Tensor
    pairs: Numbers
    judged_pairs: Numbers
    own: Numbers | None


def fit_best_coder(spec: Spec, material: Material) -> tuple[Coder, dict[str, Any]]:
    """Fit a coder, and return it with figures on held-out queries.

    With `goal: task`, a head is trained by pairs first, and the code then keeps the neighbours of its vectors. Head and
    training of the code are kept if they are better by the goal's own measure, else what they began as.
    Raises ZooError if the material is too small or lacks what the spec asks for.
    """
    _check_material(spec, material)
    sample = _draw_sample(spec, material)
    facts: dict[str, Any] = {"documents": len(sample.documents), "held_out_queries": len(sample.judges)}
    head = _make_head(spec, sample, material.seed)
    if spec.goal == "task":
        if head is None or not len(sample.pairs) or not len(sample.judged_pairs):
            raise ZooError("codes: `goal: task` has too few queries with an answer: give more pairs")
        material.say("codes: training the head")
        head = _train_best_head(head, sample, spec, material.seed, facts)
    material.say("codes: fitting rotation and levels")
    untrained = _fit_untrained(spec, head, sample, material.seed)
    if not spec.steps or not len(sample.queries):
        facts |= {"kept": "untrained", "untrained": _measure(untrained, sample, spec)}
        return untrained, facts
    material.say("codes: training the code")
    coder = copy.deepcopy(untrained)
    _train_coder(coder, sample, spec, material.seed)
    scores = {"untrained": _measure(untrained, sample, spec), "trained": _measure(coder, sample, spec)}
    name = "recall@10" if spec.goal == "neighbours" else "ndcg@10"
    kept = "trained" if scores["trained"][name] > scores["untrained"][name] else "untrained"
    return (coder if kept == "trained" else untrained), {**facts, "kept": kept, **scores}


def _check_material(spec: Spec, material: Material) -> None:
    rows, dim = check_documents(material.documents).shape
    for name in ("queries", "old_documents"):
        if getattr(material, name) is not None:
            check_vectors(getattr(material, name), dim if name == "queries" else None, name)
    if spec.compatible_with and material.old_documents is None:
        raise ZooError("codes: `compatible_with` needs the old model's vectors of the documents")
    if spec.compatible_with and material.old_documents is not None:
        dim = material.old_documents.shape[1]  # the code is that of vectors in the old space
    if rows < dim:
        raise ZooError(
            f"codes: {rows} documents are too few to fit a code to vectors of {dim} components: give {dim} or more"
        )
    most = dim * scalar_quantisers.LARGEST_WIDTH if spec.allocation == "variance" else dim * spec.bits
    if spec.total_bits > most:
        raise ZooError(
            f"codes: {spec.dims} × {spec.bits} bits are more than vectors of {dim} components take: set `dims` to {dim} or less"
        )
    if spec.goal == "task" and (material.queries is None or material.answers is None):
        raise ZooError(
            "codes: `goal: task` is trained on pairs of a query and its answer: give both, or set `goal: neighbours`"
        )
    if spec.goal == "task" and material.queries is not None and len(material.queries) < FEWEST_QUERIES:
        raise ZooError(f"codes: `goal: task` needs {FEWEST_QUERIES} queries or more, not {len(material.queries)}")


def _draw_sample(spec: Spec, material: Material) -> Sample:
    """Draw documents and queries. Answers come first among the documents, so that pairs stay whole."""
    rng = np.random.default_rng(material.seed)
    answers = np.zeros((0, 2), np.int64) if material.answers is None else np.unique(material.answers, axis=0)
    count = len(material.documents)
    if count > MOST_DOCUMENTS:
        order = np.concatenate([rng.permutation(np.unique(answers[:, 1])), rng.permutation(count)])
        numbers = np.sort(_unique_in_order(order)[:MOST_DOCUMENTS])
        answers = answers[np.isin(answers[:, 1], numbers)]
        answers = np.stack([answers[:, 0], np.searchsorted(numbers, answers[:, 1])], axis=1)
    else:
        numbers = np.arange(count)
    documents = torch.from_numpy(np.asarray(material.documents[numbers], np.float32))
    old = material.old_documents if spec.compatible_with else None
    old_documents = None if old is None else torch.from_numpy(np.asarray(old[numbers], np.float32))
    if material.queries is None or len(material.queries) < FEWEST_QUERIES:
        own = rng.permutation(len(documents))[:HELD_OUT]
        nothing = np.zeros((0, 2), np.int64)
        return Sample(documents, old_documents, documents[:0], documents[own], nothing, nothing, own)
    queries = torch.from_numpy(np.asarray(material.queries, np.float32))
    order = rng.permutation(len(queries))
    held_out = min(HELD_OUT, len(queries) // 5)
    judges, others = order[:held_out], order[held_out:]
    pairs, judged = (_renumber(answers, part, len(queries)) for part in (others, judges))
    return Sample(documents, old_documents, queries[others], queries[judges], pairs, judged, None)


def _unique_in_order(numbers: Numbers) -> Numbers:
    values, firsts = np.unique(numbers, return_index=True)
    return values[np.argsort(firsts)]


def _renumber(answers: Numbers, queries: Numbers, count: int) -> Numbers:
    """Return the pairs of these queries, with the queries' places in place of their numbers."""
    places = np.full(count, -1)
    places[queries] = np.arange(len(queries))
    pairs = np.stack([places[answers[:, 0]], answers[:, 1]], axis=1)
    return pairs[pairs[:, 0] >= 0]


def _make_head(spec: Spec, sample: Sample, seed: int) -> Head | None:
    """Make the head that a fit begins with: the identity, or the rotation that brings new vectors next to old ones."""
    dim = sample.documents.shape[1]
    if not spec.has_head:
        return None
    matrix = torch.eye(dim)
    if sample.old_documents is not None:
        products = F.normalize(sample.old_documents.double(), dim=1).T @ F.normalize(sample.documents.double(), dim=1)
        left, _, right = torch.linalg.svd(products, full_matrices=False)
        matrix = (left @ right).float()
    hidden = spec.hidden if spec.head == "residual" else None
    return Head(matrix, hidden, seed)


def _train_best_head(head: Head, sample: Sample, spec: Spec, seed: int, facts: dict[str, Any]) -> Head:
    trained = copy.deepcopy(head)
    train_head(trained, sample.queries, sample.documents, sample.pairs, spec, seed, sample.old_documents)
    scores = {}
    for name, candidate in (("float", head), ("float_head", trained)):
        with torch.no_grad():
            sides = [candidate(F.normalize(part, dim=1)).numpy() for part in (sample.judges, sample.documents)]
        scores[name] = figures.compute_ndcg(figures.search_top(sides[0], sides[1]), sample.judged_pairs)
    facts |= {f"{name}_ndcg@10": score for name, score in scores.items()}
    return (trained if scores["float_head"] > scores["float"] else head).requires_grad_(False)


def _fit_untrained(spec: Spec, head: Head | None, sample: Sample, seed: int) -> Coder:
    rng = np.random.default_rng(seed)
    count = max(ROTATION_ROWS, 8 * sample.documents.shape[1])
    rows = F.normalize(sample.documents[np.sort(rng.permutation(len(sample.documents))[:count])].double(), dim=1)
    if head is not None:
        with torch.no_grad():
            rows = copy.deepcopy(head).double()(rows)
    widths = np.full(spec.dims, spec.bits) if spec.allocation == "equal" else None
    return fit_coder(head, rows, widths, spec.total_bits, spec.rounding, seed)


def _train_coder(coder: Coder, sample: Sample, spec: Spec, seed: int) -> None:
    queries = sample.queries[:RANKED_QUERIES]
    if spec.goal == "task":
        ranking = rank_documents(queries, sample.documents, coder.transform, sample.old_documents)
    else:
        ranking = rank_documents(queries, sample.documents, lambda rows: F.normalize(rows, dim=1), sample.old_documents)
    distil(coder, ranking, spec, seed)


@torch.no_grad()
def _measure(coder: Coder, sample: Sample, spec: Spec) -> dict[str, float]:
    """Return recall@10 against the vectors that the code must keep, and nDCG@10 if answers are known."""
    queries = (coder(sample.judges) if spec.symmetric else coder.transform(sample.judges)).numpy()
    decoded = coder(sample.documents).numpy()
    targets = [
        (coder.transform(part) if spec.goal == "task" else F.normalize(part, dim=1)).numpy()
        for part in (sample.judges, sample.documents)
    ]
    found, exact = (
        figures.search_top(queries, decoded, sample.own),
        figures.search_top(targets[0], targets[1], sample.own),
    )
    scores = {"recall@10": figures.compute_recall(found, exact)}
    if len(sample.judged_pairs):
        scores["ndcg@10"] = figures.compute_ndcg(found, sample.judged_pairs)
    if sample.old_documents is not None and sample.own is None:
        old = figures.search_top(coder.transform(sample.judges).numpy(), sample.old_documents.numpy(), sample.own)
        scores["old_recall@10"] = figures.compute_recall(old, exact)
    return scores

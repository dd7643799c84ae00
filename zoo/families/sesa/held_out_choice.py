"""Decide on held-out pairs, before a training, whether it is kept and how much of a score no concept explains.

An encoder starts at the geometry of its backbone, or of the words of the texts. On few pairs, training can lead away from it.
So a second encoder of the same kind trains on a part of the pairs, and ranks the others. The unnamed share is the largest one
that is not clearly worse than the best one, because a large share protects the start's geometry on pairs that nobody held out.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from zoo.core import atomic_files
from zoo.encoder import TrainingRun
from zoo.families.sesa import concept_space
from zoo.families.sesa.spec import SIDES
from zoo.text import lexical
from zoo.training import distributed

if TYPE_CHECKING:
    from datasets import Dataset

    from zoo.families.sesa.concept_space import ConceptSpace
    from zoo.families.sesa.concepts import Concepts
    from zoo.families.sesa.spec import Spec
    from zoo.families.sesa.towers import Towers

SHARES = (0.9, 0.75, 0.5, 0.25, 0.0)  # the first is closest to the start's geometry
LEXICAL_SHARES = (0.9, 0.75, 0.5)  # without a backbone: concepts alone know little of words that few pairs have
MAX_ROWS = 5000  # pairs that the choice reads
HELD_OUT_SHARE, MIN_HELD_OUT, MAX_HELD_OUT = 0.15, 40, 500
MIN_QUERIES = 10
MAX_DOCUMENTS = 2000
MARGIN = 2  # standard errors by which a share must be worse to be passed over
BLOCK_SIZE = 1024
FOLDER, FILE = "choice", "choice.json"

Outcomes = Mapping[float, np.ndarray]
"""The quality of each query, (q,), by the unnamed share."""


class Candidate(Protocol):
    """An encoder of SESA, as far as the choice needs it."""

    spec: Spec
    seed: int
    module: torch.nn.Module
    space: ConceptSpace

    def _require_trained(self) -> tuple[Towers, Concepts]: ...

    def build_candidate(self, rows: Dataset, cache: Path) -> Candidate:
        """Build an encoder of the same kind, initialised by a part of the rows."""
        ...

    def set_lexical_weight(self, weight: float) -> None:
        """Set how much equal words count."""
        ...

    def initialise_weights(self, rows: Dataset) -> None:
        """Initialise the weights of subwords and of concepts."""
        ...

    def train_concepts(self, run: TrainingRun) -> float:
        """Train in place."""
        ...


@dataclass(frozen=True)
class Choice:
    """The outcome of the choice and its reasons.

    Attributes:
        trains: whether concepts are trained, or stay as they were initialised.
        unnamed_share: how much of a score no concept explains.
        queries: held-out queries; 0 if there were too few to measure anything.
        lexical_weight: how much equal words count in the fixed vectors of subwords; None if there was nothing to choose.
        unnamed, start, trained: mean nDCG of the unnamed part alone, and of the best share before and after training.
    """

    trains: bool
    unnamed_share: float
    queries: int = 0
    unnamed: float = 0.0
    start: float = 0.0
    trained: float = 0.0
    lexical_weight: float | None = None

    def describe(self) -> str:
        """Return a sentence for the terminal."""
        share = f"{self.unnamed_share:.0%} of a score come from the vectors without concepts"
        if not self.queries:
            return f"too few pairs to hold any out: the concepts stay as they were initialised, and {share}"
        figures = f"before training {self.start:.3f}, after {self.trained:.3f}, without concepts {self.unnamed:.3f}"
        kept = (
            "the concepts are trained" if self.trains else "training brings no gain, so the concepts stay as they were"
        )
        words = "" if self.lexical_weight is None else f"; equal words have a weight of {self.lexical_weight:g} in them"
        return f"nDCG of {self.queries} held-out queries: {figures}; {kept}, and {share}{words}"


def choose(encoder: Candidate, run: TrainingRun) -> Choice:
    """Choose on pairs held out of the training rows of a run. Validation rows may share anchors with them, or be few.

    The choice is kept in the run folder, so that an interrupted run goes on with it.
    """
    path = run.folder / FILE
    if path.exists():
        return Choice(**atomic_files.read_json(path))
    choice = _measure_and_choose(encoder, run)
    if distributed.is_main_process():
        atomic_files.write_json(path, asdict(choice))
    return choice


def _measure_and_choose(encoder: Candidate, run: TrainingRun) -> Choice:
    share = encoder.spec.unnamed_share
    is_lexical = not encoder.spec.backbone and encoder.spec.lexical_dim
    shares = (LEXICAL_SHARES if is_lexical else SHARES) if share is None else (share,)
    rows = _draw(run.rows, MAX_ROWS, encoder.seed)
    kept, held_out = split(rows, encoder.seed)
    if len(set(held_out["anchor"])) < MIN_QUERIES:
        return Choice(trains=bool(encoder.spec.train_concepts), unnamed_share=shares[0])
    search = Search.from_rows(held_out, list(rows["positive"]))
    candidate = encoder.build_candidate(kept, run.folder / "cache")
    lexical_weight = _choose_lexical_weight(candidate, search, kept)
    before = measure(candidate, search, (*shares, 1.0))
    folder = run.folder / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    settings = run.settings.for_baseline().model_copy(
        update={"epochs": float(encoder.spec.epoch_rule.choose(len(kept)))}
    )
    candidate.train_concepts(TrainingRun(kept, settings, folder))
    after = measure(candidate, search, shares)
    distributed.broadcast_from_main()
    shutil.rmtree(folder, ignore_errors=True)
    return replace(decide(before, after, shares, encoder.spec.train_concepts), lexical_weight=lexical_weight)


def _choose_lexical_weight(candidate: Candidate, search: Search, kept: Dataset) -> float | None:
    """Choose the weight of equal words with which the unnamed part alone ranks best, and set it."""
    if not candidate.spec.lexical_dim or candidate.spec.lexical_weight is not None:
        return None
    quality = {}
    for weight in lexical.WEIGHTS:
        candidate.set_lexical_weight(weight)
        quality[weight] = float(measure(candidate, search, (1.0,))[1.0].mean())
    best = max(quality, key=lambda weight: quality[weight])
    candidate.set_lexical_weight(best)
    candidate.initialise_weights(kept)
    return best


def decide(before: Outcomes, after: Outcomes, shares: Sequence[float], trains: bool | None = None) -> Choice:
    """Keep the start unless the training ranks the held-out pairs better, each with its own share, or `trains` says it.

    `before` also holds the share 1, the unnamed part alone. `shares` begin with the largest.
    """
    start_share, trained_share = choose_share(before, shares), choose_share(after, shares)
    start, trained = before[start_share], after[trained_share]
    if trains is None:
        trains = bool(trained.mean() > start.mean())
    figures = {"unnamed": before[1.0].mean(), "start": start.mean(), "trained": trained.mean()}
    return Choice(
        trains,
        trained_share if trains else start_share,
        len(start),
        **{name: round(float(value), 4) for name, value in figures.items()},
    )


def choose_share(outcomes: Outcomes, shares: Sequence[float]) -> float:
    """Choose the first of `shares` that is not worse than the best one by more than MARGIN standard errors."""
    best = max(shares, key=lambda share: float(outcomes[share].mean()))
    for share in shares:
        losses = outcomes[best] - outcomes[share]
        if losses.mean() <= MARGIN * compute_standard_error(losses):
            return share
    return best


def compute_standard_error(differences: np.ndarray) -> float:
    """Return the standard error of the mean of (q,) differences."""
    return float(differences.std() / np.sqrt(len(differences)))


def split(rows: Dataset, seed: int) -> tuple[Dataset, Dataset]:
    """Split rows into those to train on and those to hold out. Rows with equal anchors stay together."""
    groups: dict[str, list[int]] = {}
    for number, anchor in enumerate(rows["anchor"]):
        groups.setdefault(anchor, []).append(number)
    size = min(max(int(HELD_OUT_SHARE * len(rows)), MIN_HELD_OUT), MAX_HELD_OUT, len(rows) // 2)
    held_out: list[int] = []
    names = list(groups)
    for position in np.random.default_rng(seed).permutation(len(names)):
        group = groups[names[position]]
        if len(held_out) + len(group) <= size:
            held_out += group
    kept = sorted(set(range(len(rows))) - set(held_out))
    return rows.select(kept), rows.select(sorted(held_out))


def _draw(rows: Dataset, count: int, seed: int) -> Dataset:
    if len(rows) <= count:
        return rows
    return rows.select(sorted(np.random.default_rng(seed).permutation(len(rows))[:count].tolist()))


@dataclass(frozen=True)
class Search:
    """Held-out queries and the documents that they are to find.

    Attributes:
        queries, documents: distinct texts.
        relevant: (q, d) bool, which documents belong to a query.
        ignored: (q, d) bool, documents that are the query itself.
    """

    queries: list[str]
    documents: list[str]
    relevant: np.ndarray
    ignored: np.ndarray

    @classmethod
    def from_rows(cls, rows: Dataset, others: Sequence[str]) -> Search:
        """Search the anchors of pairs among their positives and `others`, at most MAX_DOCUMENTS."""
        anchors, positives = list(rows["anchor"]), list(rows["positive"])
        queries = list(dict.fromkeys(anchors))
        documents = list(dict.fromkeys([*positives, *others]))[: max(MAX_DOCUMENTS, len(positives))]
        query_rows, columns = ({text: i for i, text in enumerate(texts)} for texts in (queries, documents))
        relevant = np.zeros((len(queries), len(documents)), dtype=bool)
        ignored = np.zeros_like(relevant)
        for anchor, positive in zip(anchors, positives, strict=True):
            relevant[query_rows[anchor], columns[positive]] = True
        for text, row in query_rows.items():
            if text in columns:
                ignored[row, columns[text]] = True
        return cls(queries, documents, relevant, ignored)

    def rate(self, scores: np.ndarray) -> np.ndarray:
        """Compute the nDCG of each query over the whole ranking, (q,), from scores (q, d)."""
        order = np.argsort(-np.where(self.ignored, -np.inf, scores), axis=1, kind="stable")
        discounts = 1 / np.log2(2 + np.arange(scores.shape[1]))
        gains = (np.take_along_axis(self.relevant, order, axis=1) * discounts).sum(1)
        quality: np.ndarray = gains / np.maximum(np.cumsum(discounts)[self.relevant.sum(1) - 1], 1e-12)
        return quality


def measure(encoder: Candidate, search: Search, shares: Sequence[float]) -> dict[float, np.ndarray]:
    """Measure how an encoder ranks with each unnamed share; with 1, by the unnamed part alone."""
    texts = dict(zip(SIDES, (search.queries, search.documents), strict=True))
    parts = {side: _encode(encoder, side, side_texts) for side, side_texts in texts.items()}
    concepts, unnamed = (
        (queries @ documents.T).numpy() for queries, documents in zip(*(parts[side] for side in SIDES), strict=True)
    )
    return {share: search.rate((1 - share) * concepts + share * unnamed) for share in shares}


def _encode(encoder: Candidate, side: str, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Encode texts as unit vectors of concepts and of the unnamed part. Frozen backbones read no text again."""
    towers, _ = encoder._require_trained()
    encoder.module.eval()
    blocks: list[tuple[Any, Any]] = []
    with torch.no_grad():
        for start in range(0, len(texts), BLOCK_SIZE):
            vectors = towers.compute_vectors(side, towers.build_batch(side, texts[start : start + BLOCK_SIZE]))
            components = encoder.space.compute_components(encoder.space(vectors), encoder.spec.max_active)
            pair = concept_space.normalize_rows(components), vectors[:, : towers.own_width].float()
            blocks.append((pair[0].cpu(), torch.nn.functional.normalize(pair[1], dim=1).cpu()))
    first, second = zip(*blocks, strict=True)
    return torch.cat(first), torch.cat(second)

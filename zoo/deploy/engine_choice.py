"""Measure engines on this machine, and choose the fastest ones that lose little: for many texts, and for a few short ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.artefact import canaries
from zoo.core.errors import ZooError
from zoo.deploy.probe_texts import SENTENCES

SECONDS = 2.0
"""Seconds for which the engines take turns."""
LONGEST = 400
"""Characters of the longest text that is measured. Few longer ones would hide the others."""
SHIFTS = (1, 2, 3)
"""Each text is also joined with the one that stands so many places behind it, because the texts alone fill no batch."""
QUERIES, QUERY_LENGTH = 10, 60
"""Number of short texts that are encoded one by one, and the characters of the longest one."""
LEVEL = 1.03
"""An engine that is not faster by more than this is not preferred to one that loses less."""
LEVEL_FEW = 1.1
"""The engine for many texts encodes a few short ones as well, unless another one is faster by more than this."""
Array = npt.NDArray[Any]
Encode = Callable[[Sequence[str]], Array]


@dataclass(frozen=True, order=True)
class Candidate:
    """An engine and its precision, for example torch and int8."""

    engine: str
    precision: str

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}"


EXACT = Candidate("torch", "fp32")


@dataclass(frozen=True)
class Choice:
    """The candidates that encode many texts, and a few short ones."""

    many: Candidate
    few: Candidate

    def as_json(self) -> dict[str, str]:
        """Return the names of the candidates."""
        return {"many": str(self.many), "few": str(self.few)}


@dataclass(frozen=True)
class Measurement:
    """The figures of a candidate.

    Attributes:
        engine, precision: the candidate.
        loss: 1 minus the mean cosine to the exact vectors, on texts that zoo has.
        texts_per_second: of many texts, the best of its turns, by the clock on the wall.
        queries_per_second: that of short texts, one by one.
    """

    engine: str
    precision: str
    loss: float
    texts_per_second: float
    queries_per_second: float

    @property
    def candidate(self) -> Candidate:
        """The candidate."""
        return Candidate(self.engine, self.precision)

    def as_json(self) -> dict[str, Any]:
        """Return the attributes by name."""
        return asdict(self)


def list_texts() -> list[str]:
    """Return the texts on which engines are measured: short ones of many kinds and scripts."""
    return [text for text in dict.fromkeys([*canaries.TEXTS, *SENTENCES]) if len(text) <= LONGEST]


def _list_many(texts: Sequence[str]) -> list[str]:
    """Return so many texts that most of their batches are full."""
    return [*texts, *(f"{left} {right}" for shift in SHIFTS for left, right in zip(texts, texts[shift:], strict=False))]


def measure(encoders: Mapping[Candidate, Encode], exact: Array, texts: Sequence[str]) -> list[Measurement]:
    """Measure each candidate on texts whose exact vectors (n, dim) are known.

    The candidates take turns, so that another program that slows the machine down slows all of them. Each has two turns at least.
    """
    losses = {name: compute_loss(encode(texts), exact) for name, encode in encoders.items()}
    many, queries = _list_many(texts), [text for text in texts if 0 < len(text) <= QUERY_LENGTH][:QUERIES]
    bulk, single = dict.fromkeys(encoders, 0.0), dict.fromkeys(encoders, 0.0)
    end, turns = time.perf_counter() + SECONDS, 0
    while turns < 2 or time.perf_counter() < end:
        for name, encode in encoders.items():
            encode(many)  # the kernels of this candidate alone are kept, as in a process that uses it
            start = time.perf_counter()
            encode(many)
            middle = time.perf_counter()
            for query in queries:
                encode([query])
            bulk[name] = max(bulk[name], len(many) / (middle - start))
            single[name] = max(single[name], len(queries) / (time.perf_counter() - middle))
        turns += 1
    return [Measurement(name.engine, name.precision, losses[name], bulk[name], single[name]) for name in encoders]


def compute_loss(vectors: Array, exact: Array) -> float:
    """Return 1 minus the mean cosine of two arrays of vectors (n, dim). Vectors that are equal lose nothing."""
    left, right = vectors.astype(np.float64), exact.astype(np.float64)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosines = np.divide((left * right).sum(1), norms, out=np.zeros(len(left)), where=norms > 0)
    cosines[(left == right).all(1)] = 1.0
    return float(max(0.0, 1 - cosines.mean()))


def choose(measurements: Sequence[Measurement], max_loss: float) -> Measurement:
    """Return the fastest candidate for many texts that loses at most `max_loss`; of several that are as fast, the nearest one.

    Raises ZooError if each of them loses more, and if there are no candidates.
    """
    if not measurements:
        raise ZooError("engine: auto: no engine computes at this precision here: take precision auto")
    near = [entry for entry in measurements if entry.loss <= max_loss]
    if not near:
        least = min(measurements, key=lambda entry: entry.loss)
        raise ZooError(
            f"engine: auto: no engine loses at most {max_loss:g} in mean cosine at this precision; {least.candidate} loses "
            f"{least.loss:.5f}: raise max_loss, or take precision auto"
        )
    fastest = max(entry.texts_per_second for entry in near)
    level = [entry for entry in near if entry.texts_per_second * LEVEL >= fastest]
    return min(level, key=lambda entry: (entry.loss, entry.candidate))


def choose_for_few(measurements: Sequence[Measurement], max_loss: float, best: Measurement) -> Measurement:
    """Return the fastest candidate for short texts that loses at most `max_loss`, or `best` if it is nearly as fast."""
    near = [entry for entry in measurements if entry.loss <= max_loss]
    fastest = max(near, key=lambda entry: entry.queries_per_second, default=best)
    return fastest if fastest.queries_per_second > LEVEL_FEW * best.queries_per_second else best

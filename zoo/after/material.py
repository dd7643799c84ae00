"""`Material`: the vectors on which a step after training is fitted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]


def say_nothing(_: str) -> None:
    """Take a line, and show it to nobody."""


@dataclass(frozen=True)
class Material:
    """The input of a fit. A step never sees the encoder, so that it works for every encoder of float vectors.

    Attributes:
        documents: (n, d) float32 vectors of documents.
        queries: (m, d) float32 vectors of queries that the documents may answer, or None.
        answers: (p, 2) int64 pairs: the number of a query and that of a document that answers it. None if none is known.
        foreign: (k, d) float32 vectors of queries that no document answers, or None.
        old_documents: (n, d') float32 vectors that an older model gives the documents, or None.
        seed: the seed of every random choice.
        cache: a folder that survives a killed run, or None. Whatever takes long is kept there.
        say: receives lines about the progress.
    """

    documents: Vectors
    queries: Vectors | None = None
    answers: Numbers | None = None
    foreign: Vectors | None = None
    old_documents: Vectors | None = None
    seed: int = 42
    cache: Path | None = None
    say: Callable[[str], Any] = say_nothing

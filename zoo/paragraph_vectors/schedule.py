"""The steps of a training run: which documents each step trains on, and in which phase of the run it lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

TOKENS_PER_BLOCK = 1 << 20  # documents of so many tokens are shuffled together; a checkpoint falls between two blocks


@dataclass(frozen=True)
class Schedule:
    """Divides a run into steps; each step trains on one block of documents.

    A run has three phases: passes that train the vectors, a pass that settles the vectors of the documents with the words
    frozen, and passes that train the codes. The last two may be empty.

    Args:
        documents, words: size of the corpus.
        epochs: passes that train the vectors.
        settle_epochs: how often the pass that settles reads each block; 0 for no such pass.
        code_epochs: passes that train the codes.
    """

    documents: int
    words: int
    epochs: int
    settle_epochs: int
    code_epochs: int

    @property
    def block_size(self) -> int:
        """Documents of a block."""
        return max(1, self.documents * TOKENS_PER_BLOCK // self.words)

    @property
    def blocks(self) -> int:
        """Blocks of the corpus."""
        return -(-self.documents // self.block_size)

    @property
    def settle_start(self) -> int:
        """The first step after those that train the vectors."""
        return self.blocks * self.epochs

    @property
    def code_start(self) -> int:
        """The first step of those that train the codes."""
        return self.settle_start + (self.blocks if self.settle_epochs else 0)

    @property
    def steps(self) -> int:
        """Steps of the run."""
        return self.code_start + self.blocks * self.code_epochs

    @property
    def total_words(self) -> int:
        """Words that all steps together read."""
        return self.words * (self.epochs + self.settle_epochs + self.code_epochs)

    def settles(self, step: int) -> bool:
        """Return whether `step` lies in the phase that settles the documents."""
        return self.settle_start <= step < self.code_start

    def name_phase(self, step: int) -> str:
        """Return the phase in which `step` lies: vectors, settling or codes."""
        return "settling" if self.settles(step) else "vectors" if step < self.settle_start else "codes"

    def compute_progress(self, step: int) -> tuple[float, float]:
        """Compute which share of the phase is finished before and after a `step` that trains vectors or codes."""
        if step < self.settle_start:
            return step / self.settle_start, (step + 1) / self.settle_start
        start, steps = self.code_start, self.steps - self.code_start
        return (step - start) / steps, (step + 1 - start) / steps

    def select_documents(self, step: int, seed: int) -> npt.NDArray[Any]:
        """Return the sorted rows of the documents of the block of `step`; each pass divides the corpus by a new order."""
        order = np.random.default_rng((seed, step // self.blocks)).permutation(self.documents)
        begin = step % self.blocks * self.block_size
        return np.sort(order[begin : begin + self.block_size])

"""Passes of paragraph vectors over documents on the CPU, in threads that do not depend on each other's timing.

Each thread trains on documents of its own and on copies of the words' vectors (`thread_copies`); after some ten thousand
words what has been changed there is added up. For one number of threads the result is therefore the same every time, which
threads that write into shared rows (Hogwild) cannot promise.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np

from zoo.paragraph_vectors import kernels
from zoo.paragraph_vectors.corpus import Batch
from zoo.paragraph_vectors.sampling import SamplingTables
from zoo.paragraph_vectors.thread_copies import Copies

TOGETHER = 200_000  # words, of all threads, between two additions at least,
PER_WORD = 10  # and so many times the vocabulary, so that additions cost the same a word whatever its size
LEAST = 25_000  # words of a thread between two: with fewer the copies would cost more than the work
MOST_THREADS = 8


class CpuEngine:
    """Trains and infers with compiled loops.

    Args:
        draws: how words and noise are drawn.
        negatives, window: as in `zoo.paragraph_vectors.model.Settings`.
        mean: PV-DM instead of PV-DBOW.
        threads: how many at most.
    """

    def __init__(self, draws: SamplingTables, *, negatives: int, window: int, mean: bool, threads: int) -> None:
        self.draws, self.negatives, self.window, self.mean = draws, negatives, window, mean
        self.threads = min(threads, MOST_THREADS)
        self._copies, self._every = Copies(), np.arange(len(draws.keep))

    def learn(
        self, batch: Batch, state: Mapping[str, Any], rates: tuple[float, float], seed: int, scale: float = 0.0
    ) -> float:
        """One pass over `batch` in a drawn order that changes `state` ("documents", "outputs", with "inputs" those too) in
        place, the learning rate going from the first to the last of `rates`; returns the loss of a word."""
        documents = np.asarray(state["documents"])
        shared = [np.asarray(state[name]) for name in ("outputs", "inputs") if name in state]
        order = np.random.default_rng(seed).permutation(len(batch.owners))
        words = np.cumsum((batch.ends - batch.starts)[order])
        threads = int(min(self.threads, max(1, words[-1] // LEAST)))
        together = max(TOGETHER, PER_WORD * len(shared[0])) // len(shared)  # with inputs there is more to do for a word
        segments = max(1, round(words[-1] / together)) if threads > 1 else 1
        edges = np.linspace(0, words[-1], segments * threads + 1)[1:-1]
        shares = np.split(order, np.searchsorted(words, edges))
        copies, measured = self._copies, np.zeros(2)
        copies.begin(shared, threads)

        def work(segment: int, thread: int) -> np.ndarray:
            mine = shares[segment * threads + thread]
            own, slots = copies.take(thread, batch, mine)
            ends = [[rates[0] + (rates[1] - rates[0]) * s / segments for s in (segment, segment + 1)]]
            found = self._passes(batch, mine, documents, own, slots, ends, seed, scale, learn=True)
            copies.give(thread)
            return found

        with ThreadPoolExecutor(threads) as pool:
            for segment in range(segments):
                measured += sum(pool.map(work, [segment] * threads, range(threads)))
                copies.add_up(pool)
        return float(measured[0] / max(1.0, measured[1]))

    def infer(self, batch: Batch, state: Mapping[str, Any], rates: list[float], seed: int, scale: float = 0.0) -> float:
        """Change `state["documents"]` alone, by a pass at each of `rates`; a row does not depend on the others. Returns the
        loss of a word in the last pass."""
        self._copies.end()
        documents = np.asarray(state["documents"])
        shared = [np.asarray(state[name]) for name in ("outputs", "inputs") if name in state]
        edges = np.linspace(0, len(batch.tokens), self.threads + 1)[1:-1]
        shares = np.split(np.arange(len(batch.ends)), np.searchsorted(batch.ends, edges))

        def work(mine: np.ndarray) -> np.ndarray:
            ends = [[rate, rate] for rate in rates]
            return self._passes(batch, mine, documents, shared, self._every, ends, seed, scale, learn=False)

        with ThreadPoolExecutor(self.threads) as pool:
            measured = sum(pool.map(work, shares), np.zeros(2))
        return float(measured[0] / max(1.0, measured[1]))

    def _passes(
        self,
        batch: Batch,
        order: np.ndarray,
        documents: np.ndarray,
        shared: list[np.ndarray],
        slots: np.ndarray,
        rates: list[list[float]],
        seed: int,
        scale: float,
        *,
        learn: bool,
    ) -> np.ndarray:
        outputs, common = shared[0], (np.array(rates), seed, not learn, learn, np.float32(scale))
        if self.mean or (learn and len(shared) > 1):
            kinds = (outputs, *self.draws, self.negatives, self.window)
            return kernels.predict_in_windows(*batch, order, documents, shared[1], slots, *kinds, *common, self.mean)
        return kernels.predict(*batch, order, documents, outputs, *self.draws, self.negatives, *common)


def default_threads() -> int:
    """As many as torch uses, where it is imported, else one a core that this process may use."""
    torch = sys.modules.get("torch")
    return int(torch.get_num_threads()) if torch else int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]

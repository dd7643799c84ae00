"""Passes over documents on the CPU, in threads whose timing does not change the result.

Each thread trains on its own documents and on its own copies of the word vectors (`thread_copies`). After some ten thousand
words the changes of all threads are added up. One number of threads therefore gives one result. Threads that write to
shared rows (Hogwild) cannot promise this.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from zoo.paragraph_vectors import kernels
from zoo.paragraph_vectors.corpus import Batch
from zoo.paragraph_vectors.sampling import SamplingTables
from zoo.paragraph_vectors.thread_copies import ThreadCopies

Array = npt.NDArray[Any]

# Threads add up their changes after the larger of these two numbers of words, counted over all threads. The second keeps
# the cost of adding up the same for a word, whatever the size of the vocabulary.
MIN_WORDS_BETWEEN_MERGES = 200_000
MERGE_WORDS_PER_VOCABULARY_WORD = 10
MIN_WORDS_PER_THREAD = 25_000  # with fewer words in a batch, the copies of a thread cost more than its work
MAX_THREADS = 8


class CpuEngine:
    """Trains and infers with compiled loops; an `Engine`.

    Args:
        tables: for drawing words and noise.
        negatives, window: as in `zoo.paragraph_vectors.model.Settings`.
        is_dm: PV-DM instead of PV-DBOW.
        threads: most threads to use.
    """

    def __init__(self, tables: SamplingTables, *, negatives: int, window: int, is_dm: bool, threads: int) -> None:
        self.tables, self.negatives, self.window, self.is_dm = tables, negatives, window, is_dm
        self.threads = min(threads, MAX_THREADS)
        self._copies, self._identity_slots = ThreadCopies(), np.arange(len(tables.bias))

    def train(
        self,
        batch: Batch,
        tensors: Mapping[str, Any],
        rates: tuple[float, float],
        seed: int,
        code_scale: float = 0.0,
    ) -> float:
        """Make one pass that changes all `tensors` in place; see `Engine.train`."""
        documents, words = np.asarray(tensors["documents"]), _word_arrays(tensors)
        order = np.random.default_rng(seed).permutation(len(batch.ends))
        word_counts = np.cumsum((batch.ends - batch.starts)[order])
        total = word_counts[-1]
        threads = int(min(self.threads, max(1, total // MIN_WORDS_PER_THREAD)))
        merge_words = max(MIN_WORDS_BETWEEN_MERGES, MERGE_WORDS_PER_VOCABULARY_WORD * len(words[0]))
        merge_words //= len(words)  # with input vectors, a word takes more work
        segments = max(1, round(total / merge_words)) if threads > 1 else 1
        edges = np.linspace(0, total, segments * threads + 1)[1:-1]
        shares = np.split(order, np.searchsorted(word_counts, edges))
        copies, measured = self._copies, np.zeros(2)
        copies.allocate(words, threads)

        def train_share(segment: int, thread: int) -> Array:
            share = shares[segment * threads + thread]
            thread_words, slots = copies.load(thread, batch, share)
            pass_rates = [[rates[0] + (rates[1] - rates[0]) * s / segments for s in (segment, segment + 1)]]
            options = (pass_rates, seed, code_scale)
            result = self._run_passes(batch, share, documents, thread_words, slots, *options, update_words=True)
            copies.compute_changes(thread)
            return result

        with ThreadPoolExecutor(threads) as pool:
            for segment in range(segments):
                measured += sum(pool.map(train_share, [segment] * threads, range(threads)))
                copies.merge(pool)
        return _mean_loss(measured)

    def infer(
        self, batch: Batch, tensors: Mapping[str, Any], rates: list[float], seed: int, code_scale: float = 0.0
    ) -> float:
        """Change `tensors["documents"]` in place; see `Engine.infer`. The loss is that of the last pass."""
        self._copies.free()
        documents, words = np.asarray(tensors["documents"]), _word_arrays(tensors)
        edges = np.linspace(0, len(batch.tokens), self.threads + 1)[1:-1]
        shares = np.split(np.arange(len(batch.ends)), np.searchsorted(batch.ends, edges))
        options = (self._identity_slots, [[rate, rate] for rate in rates], seed, code_scale)

        def infer_share(share: Array) -> Array:
            return self._run_passes(batch, share, documents, words, *options, update_words=False)

        with ThreadPoolExecutor(self.threads) as pool:
            return _mean_loss(sum(pool.map(infer_share, shares), np.zeros(2)))

    def _run_passes(
        self,
        batch: Batch,
        order: Array,
        documents: Array,
        words: Sequence[Array],
        slots: Array,
        rates: list[list[float]],
        seed: int,
        code_scale: float,
        *,
        update_words: bool,
    ) -> Array:
        """Run a kernel over the documents `order`; return the sum of its losses and the number of words measured."""
        outputs, draws = words[0], (self.tables, self.negatives)
        # inference uses the same random numbers for all documents, so that equal texts get equal vectors
        options = (np.array(rates), seed, not update_words, update_words, np.float32(code_scale))
        measured: Array
        if self.is_dm or (update_words and len(words) > 1):
            windows = (words[1], slots, outputs, *draws, self.window, *options, self.is_dm)
            measured = kernels.predict_in_windows(batch, order, documents, *windows)
        else:
            measured = kernels.predict(batch, order, documents, outputs, *draws, *options)
        return measured


def default_threads() -> int:
    """Return the number of threads that torch uses if it is imported, else the number of usable cores."""
    torch = sys.modules.get("torch")
    return int(torch.get_num_threads()) if torch else int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]


def _word_arrays(tensors: Mapping[str, Any]) -> list[Array]:
    """Return outputs, and inputs if there are any, as NumPy arrays that share the memory of `tensors`."""
    return [np.asarray(tensors[name]) for name in ("outputs", "inputs") if name in tensors]


def _mean_loss(measured: Array) -> float:
    return float(measured[0] / max(1.0, measured[1]))

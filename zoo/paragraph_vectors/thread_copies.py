"""Copies of the word vectors for threads, whose changes are added up.

A thread has a copy of all output vectors, because any word may be noise. Of the input vectors a thread has those of the words
that its documents contain.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.paragraph_vectors import kernels
from zoo.paragraph_vectors.corpus import Batch

Array = npt.NDArray[Any]


class ThreadCopies:
    """Copies of output and input vectors for threads; a single thread gets the vectors themselves."""

    def __init__(self) -> None:
        self._shared: Sequence[Array] = []  # outputs (V, d), and if there are any, inputs (V, d)
        self._copies: list[Array] = []  # the same with a leading axis of threads; empty for a single thread
        self._input_rows: list[Array] = []  # for each thread, the rows of the inputs in its copy

    def allocate(self, shared: Sequence[Array], threads: int) -> None:
        """Prepare copies of `shared`: outputs (V, d) float32, and if there are any, inputs (V, d) float32."""
        shapes = [(threads, *array.shape) for array in shared] if threads > 1 else []
        # Copies are reused from block to block: fresh memory pages cost more than writing to them.
        if [array.shape for array in self._copies] != shapes:
            self._copies = [np.empty(shape, np.float32) for shape in shapes]
        self._shared, self._input_rows = shared, [np.arange(len(shared[0]))] * threads
        if self._copies:
            self._copies[0][:] = shared[0]

    def load(self, thread: int, batch: Batch, documents: Array) -> tuple[Sequence[Array], Array]:
        """Copy the input vectors that a thread needs for `documents` (k,) of `batch`.

        Returns the thread's outputs and inputs, and for each word of the vocabulary its row in these inputs, (V,) int64.
        """
        if not self._copies:
            return self._shared, self._input_rows[thread]
        thread_arrays = [array[thread] for array in self._copies]
        if len(thread_arrays) == 1:
            return thread_arrays, self._input_rows[thread]
        is_used = np.zeros(len(self._shared[1]), dtype=bool)
        for document in documents:
            is_used[batch.tokens[batch.starts[document] : batch.ends[document]]] = True
        self._input_rows[thread] = rows = np.flatnonzero(is_used)
        np.take(self._shared[1], rows, axis=0, out=thread_arrays[1][: len(rows)], mode="clip")
        return thread_arrays, np.cumsum(is_used) - 1

    def compute_changes(self, thread: int) -> None:
        """Replace the inputs of a thread that has finished by their changes; other threads may still run."""
        if len(self._copies) > 1:
            kernels.subtract(self._copies[1][thread], self._shared[1], self._input_rows[thread])

    def merge(self, pool: ThreadPoolExecutor) -> None:
        """Add the changes of all threads to the vectors, in the order of the threads. Every thread must have finished."""
        if not self._copies:
            return
        edges = np.linspace(0, len(self._shared[0]), len(self._input_rows) + 1).astype(int)
        outputs, output_copies = self._shared[0], self._copies[0]
        list(pool.map(lambda start, end: kernels.merge(outputs, output_copies, start, end), edges[:-1], edges[1:]))
        for inputs, thread_changes in zip(self._shared[1:], self._copies[1:], strict=True):
            for rows, changes in zip(self._input_rows, thread_changes, strict=True):
                kernels.add(inputs, rows, changes)

    def free(self) -> None:
        """Free the memory of the copies."""
        self._copies = []

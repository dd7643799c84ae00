"""The words' vectors as threads see them: copies, whose changes are added up.

Of output vectors a thread has a whole copy, since noise may be any word; of input vectors it has those of the words that its
documents hold.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from zoo.paragraph_vectors import kernels
from zoo.paragraph_vectors.corpus import Batch


class Copies:
    """Copies of outputs and inputs for some threads; a single thread gets the vectors themselves."""

    def __init__(self) -> None:
        self._shared: list[np.ndarray] = []
        self._room: list[np.ndarray] = []
        self._known: list[np.ndarray] = []

    def begin(self, shared: list[np.ndarray], threads: int) -> None:
        """For `shared`, that is outputs (V, d) and, where there are any, inputs (V, d), both float32."""
        shapes = [(threads, *array.shape) for array in shared] if threads > 1 else []
        if [room.shape for room in self._room] != shapes:
            # kept from block to block: fresh pages cost more than what is written into them
            self._room = [np.empty(shape, np.float32) for shape in shapes]
        self._shared, self._known = shared, [np.arange(len(shared[0]))] * threads
        if self._room:
            self._room[0][:] = shared[0]

    def take(self, thread: int, batch: Batch, places: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """What a thread works on at those documents of `batch`, and where each word is among its inputs, (V,) int64."""
        if not self._room:
            return self._shared, self._known[thread]
        own = [room[thread] for room in self._room]
        if len(own) == 1:
            return own, self._known[thread]
        seen = np.zeros(len(self._shared[1]), dtype=bool)
        for at in places:
            seen[batch.tokens[batch.starts[at] : batch.ends[at]]] = True
        self._known[thread] = rows = np.flatnonzero(seen)
        np.take(self._shared[1], rows, axis=0, out=own[1][: len(rows)], mode="clip")
        return own, np.cumsum(seen) - 1

    def give(self, thread: int) -> None:
        """The thread is done; others need not be."""
        if len(self._room) > 1:
            kernels.subtract(self._room[1][thread], self._shared[1], self._known[thread])

    def add_up(self, pool: ThreadPoolExecutor) -> None:
        """Every thread is done: the changes of all go into the vectors, in the order of the threads."""
        if not self._room:
            return
        edges = np.linspace(0, len(self._shared[0]), len(self._known) + 1).astype(int)
        list(pool.map(lambda *rows: kernels.merge(self._shared[0], self._room[0], *rows), edges[:-1], edges[1:]))
        for inputs, changes in zip(self._shared[1:], self._room[1:], strict=True):
            for rows, change in zip(self._known, changes, strict=True):
                kernels.add(inputs, rows, change)

    def end(self) -> None:
        """Free the memory."""
        self._room = []

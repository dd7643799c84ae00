"""`Batcher`: inputs of many requests run together, in one thread for each model.

A batch holds inputs of one operation, up to a number of tokens. Requests take turns: in each batch a request first gets a quarter
of the tokens at most, so that a short request does not wait for the end of a long one. Requests that nobody waits for any
more are dropped before they are encoded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any, Protocol

from zoo.core.errors import ZooError
from zoo.serve.errors import RequestError
from zoo.serve.model import Operation

TURN = 4
"""In the first round of a batch, one request gets at most one part of so many."""
NEARLY_FULL = 32
"""A batch runs if less than one part of so many is free. Further requests are tokenised later then."""
FIRST_RATE = 2000.0
"""Tokens a second before any batch was measured."""
SMOOTHING = 0.2


class Model(Protocol):
    """The part of `ServedModel` that a batcher needs."""

    name: str
    max_tokens: int

    def estimate_tokens(self, item: Any) -> int:
        """Estimate the tokens of an input."""

    def prepare(self, items: Sequence[Any]) -> tuple[list[Any], list[int]]:
        """Return the inputs as they are encoded, and the tokens of each."""

    def run(self, operation: Operation, inputs: Sequence[Any]) -> Any:
        """Return the result of each input."""


@dataclass(frozen=True)
class Outcome:
    """The results of a request: one for each input, and the number of tokens of all inputs."""

    results: list[Any]
    tokens: int


@dataclass(frozen=True)
class BatchRecord:
    """One batch that ran: its inputs, tokens and seconds, and the number of requests in it."""

    inputs: int
    tokens: int
    seconds: float
    requests: int


@dataclass(eq=False)
class _Job:
    """A request that waits or is partly done."""

    operation: Operation
    items: list[Any]
    estimate: int
    future: Future[Outcome] = field(default_factory=Future)
    tokens: list[int] | None = None
    results: list[Any] = field(default_factory=list)
    taken: int = 0  # inputs that are in a batch or done

    @property
    def is_over(self) -> bool:
        return self.future.done()


_Piece = tuple[_Job, int]
"""A job and the number of one of its inputs."""


class Batcher:
    """Runs the operations of one model in a thread of its own.

    Args:
        model: runs the operations. Only the thread of the batcher calls `prepare` and `run`.
        queue_tokens: the tokens that may wait.
        request_tokens: the tokens that one request may have.
        observe: called after each batch, in the thread of the batcher.
    """

    def __init__(
        self,
        model: Model,
        queue_tokens: int,
        request_tokens: int,
        observe: Callable[[BatchRecord], object] = lambda record: None,
    ) -> None:
        self.model, self.queue_tokens, self.request_tokens, self._observe = model, queue_tokens, request_tokens, observe
        self._condition = threading.Condition()
        self._jobs: list[_Job] = []
        self._waiting_tokens, self._rate, self._is_closing = 0, FIRST_RATE, False
        self._thread = threading.Thread(target=self._run_forever, name=f"encode {model.name}", daemon=True)
        self._thread.start()

    @property
    def waiting_tokens(self) -> int:
        """The estimated tokens of the requests that wait or are partly done."""
        return self._waiting_tokens

    def submit(self, operation: Operation, items: Sequence[Any]) -> Future[Outcome]:
        """Put a request into the queue. Cancel the future if nobody waits for it any more.

        Raise RequestError with status 429 if the queue is full, and with 503 if the server stops.
        """
        job = _Job(operation, list(items), sum(map(self.model.estimate_tokens, items)))
        with self._condition:
            if self._is_closing:
                raise RequestError(503, "the server is stopping", code="stopping", retry_after=5)
            if self._jobs and self._waiting_tokens + job.estimate > self.queue_tokens:
                wait = min(60.0, self._waiting_tokens / self._rate)
                message = f"the queue of {self.model.name!r} is full: try again later"
                raise RequestError(429, message, code="queue_full", retry_after=wait)
            self._jobs.append(job)
            self._waiting_tokens += job.estimate
            self._condition.notify()
        return job.future

    def close(self) -> None:
        """Take no more requests, finish those that wait, and end the thread."""
        with self._condition:
            self._is_closing = True
            self._condition.notify()
        self._thread.join()

    # -- in the thread of the batcher ----------------------------------------------------------------------------------

    def _run_forever(self) -> None:
        while True:
            with self._condition:
                self._drop_finished()
                while not self._jobs:
                    if self._is_closing:
                        return
                    self._condition.wait()
                jobs = list(self._jobs)
            pieces = self._take_batch(jobs)
            if pieces:
                self._run_batch(pieces)

    def _drop_finished(self) -> None:
        """Remove requests that are answered or that nobody waits for. Those that are partly done go to the end."""
        jobs = [job for job in self._jobs if not job.is_over]
        self._jobs = [job for job in jobs if not job.taken] + [job for job in jobs if job.taken]
        self._waiting_tokens = sum(job.estimate for job in self._jobs)

    def _take_batch(self, jobs: Sequence[_Job]) -> list[_Piece]:
        """Return the inputs of the next batch. The operation is that of the first request that can run."""
        pieces: list[_Piece] = []
        budget, operation = self.model.max_tokens, None
        for share in (budget // TURN, budget):
            for job in jobs:
                if pieces and budget < self.model.max_tokens // NEARLY_FULL:
                    return pieces
                if job.is_over or (operation is not None and job.operation != operation) or not self._prepare(job):
                    continue
                operation = job.operation
                taken = self._take_inputs(job, min(share, budget), is_first=not pieces)
                budget -= sum((job.tokens or [])[number] for _, number in taken)
                pieces += taken
        return pieces

    def _take_inputs(self, job: _Job, tokens: int, *, is_first: bool) -> list[_Piece]:
        """Take the next inputs of a request up to a number of tokens; the first input of a batch may have more."""
        assert job.tokens is not None
        taken: list[_Piece] = []
        while job.taken < len(job.items):
            tokens -= job.tokens[job.taken]
            if tokens < 0 and (taken or not is_first):
                break
            taken.append((job, job.taken))
            job.taken += 1
        return taken

    def _prepare(self, job: _Job) -> bool:
        """Count the tokens of a request, once. Return whether it can run; otherwise its future has the error."""
        if job.tokens is not None:
            return True
        try:
            job.items, job.tokens = self.model.prepare(job.items)
            if sum(job.tokens) > self.request_tokens:
                raise RequestError(
                    413,
                    f"the inputs have {sum(job.tokens):,} tokens, more than {self.request_tokens:,}: send fewer at once",
                    param="input",
                    code="too_many_tokens",
                )
        except Exception as error:
            _finish(job, error)
            return False
        job.results = [None] * len(job.items)
        return True

    def _run_batch(self, pieces: Sequence[_Piece]) -> None:
        """Run the inputs, and give finished requests their results. After an error each request runs by itself."""
        start_time = time.monotonic()
        jobs = list(dict.fromkeys(job for job, _ in pieces))
        try:
            results = self.model.run(jobs[0].operation, [job.items[number] for job, number in pieces])
        except Exception as error:
            if len(jobs) == 1:
                _finish(jobs[0], error)
                return
            for job in jobs:
                self._run_batch([piece for piece in pieces if piece[0] is job])
            return
        for (job, number), result in zip(pieces, results, strict=True):
            job.results[number] = result
        tokens = sum((job.tokens or [])[number] for job, number in pieces)
        seconds = max(1e-6, time.monotonic() - start_time)
        self._rate += SMOOTHING * (tokens / seconds - self._rate)
        self._observe(BatchRecord(len(pieces), tokens, seconds, len(jobs)))
        for job in jobs:
            if job.taken == len(job.items):
                _finish(job, Outcome(job.results, sum(job.tokens or [])))


def _finish(job: _Job, outcome: Outcome | Exception) -> None:
    """Set the result or the error of a request, unless it was cancelled meanwhile."""
    try:
        if isinstance(outcome, Outcome):
            job.future.set_result(outcome)
        elif isinstance(outcome, ZooError):
            param = "input" if job.operation.name in ("embed", "codes", "predict") else None
            job.future.set_exception(RequestError(400, str(outcome), param=param))
        else:
            job.future.set_exception(outcome)
    except InvalidStateError:
        pass

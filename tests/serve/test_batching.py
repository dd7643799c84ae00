"""Requests that run together get the results that they get alone. Short ones are not starved; cancelled ones are dropped."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from zoo.core.errors import ZooError
from zoo.serve.batching import Batcher
from zoo.serve.errors import RequestError
from zoo.serve.model import Operation

SLOW = 30  # seconds; far more than any test needs


class FakeModel:
    """Counts letters. It records the inputs of each batch, and waits at the start of a batch while `gate` is closed."""

    def __init__(self, max_tokens: int = 16) -> None:
        self.name, self.max_tokens = "fake", max_tokens
        self.batches: list[tuple[Operation, list[str]]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Event()

    def estimate_tokens(self, item):
        return len(item)

    def prepare(self, items):
        if "unreadable" in items:
            raise RequestError(400, "unreadable")
        return list(items), [len(item) for item in items]

    def run(self, operation, inputs):
        self.started.set()
        assert self.gate.wait(SLOW)
        self.batches.append((operation, list(inputs)))
        if "fault" in inputs:
            raise ZooError("a fault")
        return [(operation.role, item) for item in inputs]


@pytest.fixture
def model():
    return FakeModel()


def make_batcher(model, queue_tokens=10_000, request_tokens=5_000):
    return Batcher(model, queue_tokens, request_tokens)


@pytest.fixture
def batcher(model):
    made = make_batcher(model)
    yield made
    model.gate.set()
    made.close()


def occupy(batcher, model):
    """Let the thread wait inside a batch, so that all that follows stays in the queue."""
    model.gate.clear()
    model.started.clear()
    future = batcher.submit(Operation("embed"), ["first"])
    assert model.started.wait(SLOW)
    return future


def test_concurrent_results_equal_sequential_ones(batcher):
    generator = random.Random(0)
    works = [
        (Operation("embed", role=generator.choice(["query", "document", None])), [f"{i}-{k}" for k in range(i % 7 + 1)])
        for i in range(300)
    ]
    with ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(lambda work: batcher.submit(*work).result(SLOW), works))
    for (operation, items), outcome in zip(works, outcomes, strict=True):
        assert outcome.results == [(operation.role, item) for item in items]
        assert outcome.tokens == sum(map(len, items))


def test_a_batch_has_one_operation_and_at_most_its_tokens(batcher, model):
    first = occupy(batcher, model)
    roles = ["query", "document"] * 4
    futures = [batcher.submit(Operation("embed", role=role), [role[:3], role[:2], role[0]] * 3) for role in roles]
    model.gate.set()
    for future in (first, *futures):
        future.result(SLOW)
    assert all(sum(map(len, inputs)) <= model.max_tokens for _, inputs in model.batches)
    for operation, inputs in model.batches[1:]:
        assert {text[0] for text in inputs} == {operation.role[0]}
    tokens = 8 * 3 * (3 + 2 + 1)
    assert len(model.batches) <= 2 + 2 * tokens // model.max_tokens  # batches are at least half full


def test_an_input_above_the_tokens_of_a_batch_is_a_batch_of_its_own(batcher, model):
    assert batcher.submit(Operation("embed"), ["a", "x" * 100, "b"]).result(SLOW).tokens == 102
    assert sorted(len(inputs) for _, inputs in model.batches if "x" * 100 in inputs) <= [2]


def test_a_short_request_overtakes_a_long_one(batcher, model):
    first = occupy(batcher, model)
    long = batcher.submit(Operation("embed"), ["long"] * 200)
    short = batcher.submit(Operation("embed"), ["s"])
    model.gate.set()
    short.result(SLOW)
    first.result(SLOW)
    long.result(SLOW)
    place = next(number for number, (_, inputs) in enumerate(model.batches) if "s" in inputs)
    assert place == 1  # the first batch after the one that ran


def test_requests_of_another_operation_are_not_starved(batcher, model):
    first = occupy(batcher, model)
    flood = [batcher.submit(Operation("embed"), ["abcd"] * 40) for _ in range(5)]
    other = batcher.submit(Operation("embed", role="query"), ["q"])
    model.gate.set()
    for future in (first, other, *flood):
        future.result(SLOW)
    place = next(number for number, (_, inputs) in enumerate(model.batches) if "q" in inputs)
    assert place <= 1 + 5  # after at most one batch of each request before it


def test_a_cancelled_request_is_never_encoded(batcher, model):
    first = occupy(batcher, model)
    dropped = batcher.submit(Operation("embed"), ["dropped"])
    kept = batcher.submit(Operation("embed"), ["kept"])
    assert dropped.cancel()
    model.gate.set()
    first.result(SLOW)
    kept.result(SLOW)
    assert not any("dropped" in inputs for _, inputs in model.batches)


def test_the_rest_of_a_request_that_was_cancelled_half_way_is_not_encoded(batcher, model):
    model.gate.clear()
    long = batcher.submit(Operation("embed"), ["long"] * 100)
    assert model.started.wait(SLOW)
    assert long.cancel()
    model.gate.set()
    batcher.submit(Operation("embed"), ["next"]).result(SLOW)
    assert sum(inputs.count("long") for _, inputs in model.batches) <= model.max_tokens // len("long")


def test_a_fault_of_one_request_spares_the_others_in_its_batch(batcher, model):
    first = occupy(batcher, model)
    good = batcher.submit(Operation("embed"), ["good"])
    bad = batcher.submit(Operation("embed"), ["fault"])
    unreadable = batcher.submit(Operation("embed"), ["unreadable"])
    model.gate.set()
    first.result(SLOW)
    assert good.result(SLOW).results == [(None, "good")]
    for future in (bad, unreadable):
        with pytest.raises(RequestError) as caught:
            future.result(SLOW)
        assert caught.value.status == 400


def test_a_full_queue_refuses_and_says_when_to_come_again(model):
    batcher = make_batcher(model, queue_tokens=20)
    first = occupy(batcher, model)
    waiting = batcher.submit(Operation("embed"), ["x" * 10])
    with pytest.raises(RequestError) as caught:
        batcher.submit(Operation("embed"), ["x" * 10])
    assert caught.value.status == 429
    assert int(caught.value.headers["retry-after"]) >= 1
    model.gate.set()
    first.result(SLOW)
    waiting.result(SLOW)
    assert batcher.submit(Operation("embed"), ["x" * 100]).result(SLOW)  # an empty queue takes any request
    batcher.close()


def test_the_tokens_of_a_request_are_limited(model):
    batcher = make_batcher(model, request_tokens=10)
    with pytest.raises(RequestError) as caught:
        batcher.submit(Operation("embed"), ["x" * 6, "y" * 6]).result(SLOW)
    assert caught.value.status == 413
    batcher.close()


def test_closing_finishes_what_waits_and_refuses_the_rest(model):
    batcher = make_batcher(model)
    first = occupy(batcher, model)
    waiting = [batcher.submit(Operation("embed"), [str(i)] * 30) for i in range(5)]
    closing = threading.Thread(target=batcher.close)
    closing.start()
    while not batcher._is_closing:
        pass
    with pytest.raises(RequestError) as caught:
        batcher.submit(Operation("embed"), ["late"])
    assert caught.value.status == 503
    model.gate.set()
    closing.join(SLOW)
    assert all(future.done() and not future.exception() for future in (first, *waiting))


def test_one_model_does_not_wait_for_another(model):
    busy, other = make_batcher(model), make_batcher(FakeModel())
    first = occupy(busy, model)
    assert other.submit(Operation("embed"), ["a"]).result(SLOW).tokens == 1  # although the first one is not done
    assert not first.done()
    model.gate.set()
    busy.close()
    other.close()

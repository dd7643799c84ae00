"""Temporary faults are waited out, and any other error becomes one line without tokens."""

from __future__ import annotations

import json
from types import SimpleNamespace

import hub_server
import pytest

from zoo.core.errors import DataError, HubError
from zoo.hub import retries
from zoo.hub.retries import UnreachableError, as_hub_error, summarise, with_retries


class AnswerError(Exception):
    """An error of an HTTP library with the answer of the Hub."""

    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(f"status {status}")
        self.response = SimpleNamespace(status_code=status, headers=headers)


class TransportError(Exception):
    """Has the name of the base class in httpx, but not the class itself."""


@pytest.fixture
def waits(monkeypatch):
    seconds: list[float] = []
    monkeypatch.setattr("time.sleep", seconds.append)
    return seconds


def fail_with(*errors):
    """Return a function that raises the errors one after the other and then returns "done"."""
    remaining = list(errors)

    def call():
        if remaining:
            raise remaining.pop(0)
        return "done"

    return call


@pytest.mark.parametrize("status", sorted(retries.TEMPORARY_STATUSES))
def test_each_wait_is_longer_and_after_the_last_attempt_the_hub_is_unreachable(waits, status):
    assert with_retries(fail_with(*[AnswerError(status)] * 3)) == "done"
    assert waits == [1, 3, 9]
    with pytest.raises(UnreachableError, match=f"the Hub answers {status}, 4 times in a row: try again later"):
        with_retries(fail_with(*[AnswerError(status)] * 4))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "30"}, 30),
        ({"ratelimit": '"api";r=0;t=70'}, 70),
        ({"retry-after": "30", "ratelimit": '"api";r=0;t=70'}, 30),
        ({"retry-after": "0"}, 1),
        ({"ratelimit": '"api";r=5;t=70'}, 1),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, 1),
        ({"retry-after": "301"}, retries.MAX_WAIT),
        ({"ratelimit": '"api";r=0;t=86400'}, retries.MAX_WAIT),
    ],
)
def test_a_wait_is_as_long_as_the_hub_asks_for_within_limits(waits, headers, seconds):
    lines: list[str] = []
    with_retries(fail_with(AnswerError(429, **headers)), lines.append)
    assert waits == [seconds]
    assert lines == [f"the Hub answers 429; trying again in {seconds:g} s"]


def test_the_longest_wait_is_the_time_over_which_the_hub_counts_requests():
    assert retries.MAX_WAIT == 5 * 60


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError(),
        TimeoutError(),
        type("ReadError", (TransportError,), {})(),
        json.JSONDecodeError("no JSON", "<html>", 0),
    ],
)
def test_a_dropped_connection_and_an_answer_that_is_not_json_are_temporary(waits, error):
    assert with_retries(fail_with(error)) == "done"
    assert waits == [1]


@pytest.mark.parametrize("error", [AnswerError(403), AnswerError(404), ValueError("wrong"), KeyError("name")])
def test_any_other_error_is_raised_at_once(waits, error):
    with pytest.raises(type(error)) as caught:
        with_retries(fail_with(error))
    assert caught.value is error
    assert waits == []


def test_the_cause_of_a_wrapped_error_decides(waits):
    wrapped = RuntimeError("upload failed")
    wrapped.__cause__ = AnswerError(503)
    assert with_retries(fail_with(wrapped)) == "done"
    assert waits == [1]


def test_errors_that_cause_each_other_end(waits):
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    with pytest.raises(ValueError, match="first"):
        with_retries(fail_with(first))
    assert waits == []


def test_offline_mode_is_not_retried(waits):
    from huggingface_hub.errors import OfflineModeIsEnabled

    with pytest.raises(UnreachableError, match="unset it to go online"):
        with_retries(fail_with(OfflineModeIsEnabled()))
    assert waits == []


# -- messages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (AnswerError(403), "push: status 403; ask"),
        (AnswerError(418), "push: status 418; the Hub answered 418"),
        (OSError("disk\nfull"), "push: disk full"),
        (UnreachableError("no answer"), "push: no answer"),
    ],
)
def test_an_error_of_the_client_becomes_one_line_with_advice(error, message):
    with pytest.raises(HubError) as caught, as_hub_error("push", {403: "ask"}):
        raise error
    assert str(caught.value) == message
    assert isinstance(caught.value, UnreachableError) == isinstance(error, UnreachableError), (
        "fetch then uses the cache"
    )


@pytest.mark.parametrize(
    ("advice", "status", "end"),
    [
        (retries.WRITING, 401, "or set HF_TOKEN"),
        (retries.WRITING, 403, "https://huggingface.co/settings/tokens"),
        (retries.WRITING, 404, "check the name and the token"),
        (retries.WRITING, 409, "look at it and push again"),
        (retries.WRITING, 412, "look at it and push again"),
        (retries.WRITING, 413, "see the Hub's storage limits"),
        (retries.READING, 401, "or set HF_TOKEN"),
        (retries.READING, 403, "set HF_TOKEN to a token that may read it"),
        (retries.READING, 404, "a private repo also needs a token that may see it"),
    ],
)
def test_every_status_has_an_advice(advice, status, end):
    with pytest.raises(HubError) as caught, as_hub_error("push", advice):
        raise AnswerError(status)
    assert str(caught.value).startswith(f"push: status {status}; ")
    assert str(caught.value).endswith(end)


def test_an_error_of_zoo_is_not_changed():
    error = DataError("row 3: no text")
    with pytest.raises(DataError) as caught, as_hub_error("push", {}):
        raise error
    assert caught.value is error


def test_an_error_in_the_code_of_zoo_keeps_its_traceback():
    with pytest.raises(KeyError, match="name"), as_hub_error("push", {}):
        raise KeyError("name")


def test_a_summary_shows_no_token_and_no_signature(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "a-token-of-a-private-hub")
    error = RuntimeError(f"a-token-of-a-private-hub and\n{hub_server.TOKEN} at https://cdn.x/a?X-Amz-Signature=secret")
    assert summarise(error) == "hf_*** and hf_*** at https://cdn.x/a"


def test_a_summary_is_one_short_line_and_never_empty():
    assert summarise(ValueError("a\n b" * 1000)) == ("a b" * 1000)[:300]
    assert summarise(ValueError()) == "ValueError"
    error = AnswerError(400)
    error.args = ("Bad request\nRequest id: 123",)
    assert summarise(error) == "Bad request"
    error.server_message = "the Hub's own words"
    assert summarise(error) == "the Hub's own words"

"""Calls to the Hub: a passing fault is waited out, any other becomes one line that says what to do and shows no token."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from zoo.artefact.allowed_files import TOKEN
from zoo.core.errors import HubError, ZooError

T = TypeVar("T")
Say = Callable[[str], None]
WAITS = (1.0, 3.0, 9.0)  # seconds before each new attempt
LONGEST = 300.0  # the Hub counts requests over five minutes, so no limit asks for a longer wait
PASSING = frozenset({408, 429, 500, 502, 503, 504})
_MEANWHILE = "somebody else changed the repo meanwhile: look at it and push again"
WRITING = {
    401: "the token is missing or not valid: run `hf auth login`, or set HF_TOKEN",
    403: "the token may not do this: make one with write access to this repo at https://huggingface.co/settings/tokens",
    404: "there is no such repo or revision, or the token may not see it",
    409: _MEANWHILE,
    412: _MEANWHILE,
    413: "the files are larger than the repo may hold: see the Hub's storage limits",
}
READING = {
    401: "check the name; for a private or gated repo run `hf auth login`, or set HF_TOKEN",
    403: "ask for access on the repo's page, then run `hf auth login`, or set HF_TOKEN to a token that may read it",
    404: "there is no such repo or revision: check the name; a private repo also needs a token that may see it",
}


class UnreachableError(HubError):
    """No answer, or none but "not now", after all attempts."""


def quiet(_: str) -> None:
    """Say nothing."""


def with_retries(call: Callable[[], T], say: Say = quiet) -> T:
    """`call()`, again after a wait while the Hub is overloaded or the connection drops; each wait is announced by `say`.

    Raises UnreachableError after the last attempt, and whatever else `call` raises at once.
    """
    from huggingface_hub.errors import OfflineModeIsEnabled

    for wait in (*WAITS, None):
        try:
            return call()
        except Exception as error:
            chain = _chain(error)
            if any(isinstance(each, OfflineModeIsEnabled) for each in chain):
                raise UnreachableError("HF_HUB_OFFLINE is set: unset it to go online") from None
            passing = _passing(chain)
            if passing is None:
                raise
            what, asked = passing
            if wait is None:
                raise UnreachableError(f"{what}, {len(WAITS) + 1} times in a row: try again later") from None
        pause = max(wait, min(asked, LONGEST))
        say(f"{what}; trying again in {pause:g} s")
        time.sleep(pause)
    raise AssertionError("the last wait is None")


@contextmanager
def as_hub_error(doing: str, advice: Mapping[int, str]) -> Iterator[None]:
    """Turn what the client raises into a HubError: `doing`, the Hub's own words, and the advice for its status."""
    try:
        yield
    except UnreachableError as error:
        raise UnreachableError(f"{doing}: {error}") from None
    except ZooError:
        raise
    except Exception as error:
        chain = _chain(error)
        told = next((each for each in chain if _status(each)), error)
        status = _status(told)
        of_client = type(error).__module__.startswith(("huggingface_hub", "httpx"))
        if not status and not of_client and not isinstance(error, ValueError | RuntimeError | OSError):
            raise  # a bug keeps its traceback
        hint = advice.get(status, f"the Hub answered {status}") if status else ""
        raise HubError(f"{doing}: {one_line(told)}{'; ' if hint else ''}{hint}") from None


def one_line(error: BaseException) -> str:
    """What an error says, in one line of at most 300 characters, without a token or the signature of a storage URL."""
    from huggingface_hub import get_token

    text = str(getattr(error, "server_message", None) or error).strip()
    if _status(error):  # the rest of the client's text is the request's id and general help
        text = text.split("\n")[0]
    text = re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]*", r"\1", " ".join(text.split()))
    token = get_token()
    text = text.replace(token, "hf_***") if token else text
    return TOKEN.sub(b"hf_***", text.encode()).decode()[:300] or type(error).__name__


def _chain(error: BaseException) -> list[BaseException]:
    """The error and what it was raised from: the client wraps a failed upload in a plain RuntimeError."""
    out: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in out:
        out.append(at)
        at = at.__cause__
    return out


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _passing(chain: list[BaseException]) -> tuple[str, float] | None:
    """What went wrong, and the seconds that the Hub asks to wait; None for a fault that waiting does not mend."""
    for error in chain:
        if isinstance(error, json.JSONDecodeError):  # a gateway's error page where the client reads the body first
            return "the Hub's answer is no JSON", 0.0
        # By name: which HTTP library the client stands on differs between its versions.
        names = {each.__name__ for each in type(error).__mro__}
        if isinstance(error, ConnectionError | TimeoutError) or "TransportError" in names:
            return f"the connection dropped ({type(error).__name__})", 0.0
        if status := _status(error):
            asked = _asked_wait(getattr(error, "response").headers)  # noqa: B009 - `response` is not on every error
            return (f"the Hub answers {status}", asked) if status in PASSING else None
    return None


def _asked_wait(headers: Any) -> float:
    """Seconds from `Retry-After: 30` or from the Hub's `RateLimit: "api";r=0;t=30`; 0 without either."""
    told = re.fullmatch(r"\s*(\d+)\s*", headers.get("retry-after", ""))
    told = told or re.search(r"r=0\s*;\s*t=(\d+)", headers.get("ratelimit", ""))
    return float(told[1]) if told else 0.0

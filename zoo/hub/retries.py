"""Retry calls to the Hub after a temporary fault, and turn any other error into one line without tokens."""

from __future__ import annotations

import json
import re
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from zoo.artefact.allowed_files import TOKEN
from zoo.core.errors import HubError, ZooError

T = TypeVar("T")
Say = Callable[[str], None]
WAITS = (1.0, 3.0, 9.0)
"""Seconds before each new attempt."""
MAX_WAIT = 300.0
"""Seconds of the longest wait. The Hub counts requests over five minutes, so no limit needs a longer wait."""
TEMPORARY_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
PORTAL = "a proxy or the login page of a network may have answered instead of the Hub"
_CONFLICT = "somebody else changed the repo meanwhile: look at it and push again"
WRITING = {
    401: "the token is missing or not valid: run `hf auth login`, or set HF_TOKEN",
    403: "the token may not do this: make one with write access to this repo at https://huggingface.co/settings/tokens",
    404: "there is no such repo or revision, or the token may not see it: check the name and the token",
    409: _CONFLICT,
    412: _CONFLICT,
    413: "the files are larger than the repo may hold: see the Hub's storage limits",
}
"""Advice by HTTP status for requests that write."""
READING = {
    401: "check the name; for a private or gated repo run `hf auth login`, or set HF_TOKEN",
    403: "ask for access on the repo's page, then run `hf auth login`, or set HF_TOKEN to a token that may read it",
    404: "there is no such repo or revision: check the name; a private repo also needs a token that may see it",
}
"""Advice by HTTP status for requests that read."""


class UnreachableError(HubError):
    """The Hub could not be reached, or answered every attempt with a temporary fault."""


class MisreadAnswerError(ValueError):
    """An answer that is JSON, but that is not what was asked for."""


class _TemporaryFault(NamedTuple):
    """A fault that may be gone after a wait; `wait` is the number of seconds that the Hub asks for."""

    description: str
    wait: float


def say_nothing(_: str) -> None:
    """Ignore the message."""


def with_retries(call: Callable[[], T], say: Say = say_nothing) -> T:
    """Return `call()`. Call it again after a wait if the Hub is overloaded or the connection drops.

    A wait is as long as the Hub asks for, at least WAITS and at most MAX_WAIT; `say` receives a line for each. Raises
    UnreachableError after the last attempt, or if HF_HUB_OFFLINE is set. Any other error of `call` is raised at once.
    """
    from huggingface_hub.errors import OfflineModeIsEnabled

    for min_wait in (*WAITS, None):
        try:
            return call()
        except Exception as error:
            causes = _list_causes(error)
            if any(isinstance(cause, OfflineModeIsEnabled) for cause in causes):
                raise UnreachableError("HF_HUB_OFFLINE is set: unset it to go online") from None
            fault = _find_temporary_fault(causes)
            if fault is None:
                raise
            if min_wait is None:
                attempts = len(WAITS) + 1
                raise UnreachableError(f"{fault.description}, {attempts} times in a row: try again later") from None
        seconds = max(min_wait, min(fault.wait, MAX_WAIT))
        say(f"{fault.description}; trying again in {seconds:g} s")
        time.sleep(seconds)
    raise AssertionError("the last attempt returns or raises")


@contextmanager
def as_hub_error(action: str, advice: Mapping[int, str]) -> Iterator[None]:
    """Turn an error of the client into a HubError of one line: the action, the Hub's message, and the advice.

    Args:
        action: what was attempted, which begins the message.
        advice: what to do by HTTP status.
    """
    try:
        yield
    except UnreachableError as error:
        raise UnreachableError(f"{action}: {error}") from None
    except ZooError:
        raise
    except Exception as error:
        cause = next((cause for cause in _list_causes(error) if _get_status(cause)), error)
        status = _get_status(cause)
        is_client_error = type(error).__module__.startswith(("huggingface_hub", "httpx"))
        if not status and not is_client_error and not isinstance(error, ValueError | RuntimeError | OSError):
            raise  # an error in zoo's own code keeps its traceback
        hint = advice.get(status, f"the Hub answered {status}") if status else ""
        if any(type(cause).__name__ in ("TooManyRedirects", "RecursionError") for cause in _list_causes(error)):
            raise HubError(f"{action}: the Hub redirects in a circle: check HF_ENDPOINT, or wait; {PORTAL}") from None
        raise HubError(f"{action}: {summarise(cause)}{'; ' if hint else ''}{hint}") from None


def summarise(error: BaseException) -> str:
    """Return the message of an error in one line of at most 300 characters.

    Tokens are masked, and signatures of URLs are removed.
    """
    from huggingface_hub import get_token

    text = str(getattr(error, "server_message", None) or error).strip()
    if _get_status(error):
        text = text.split("\n")[0]  # the client adds the id of the request and general help
    text = re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]*", r"\1", " ".join(text.split()))
    token = get_token()
    text = text.replace(token, "hf_***") if token else text
    return TOKEN.sub(b"hf_***", text.encode("utf-8", "backslashreplace")).decode()[:300] or type(error).__name__


def _list_causes(error: BaseException) -> list[BaseException]:
    """List the error and its causes. The client wraps the error of a failed upload in a plain RuntimeError."""
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__
    return causes


def _get_status(error: BaseException) -> int | None:
    status: int | None = getattr(getattr(error, "response", None), "status_code", None)
    return status


def _find_temporary_fault(causes: list[BaseException]) -> _TemporaryFault | None:
    """Find the first cause that decides; return None if a wait would not help."""
    for error in causes:
        if isinstance(error, json.JSONDecodeError | UnicodeDecodeError | MisreadAnswerError) or _is_misread_answer(
            error
        ):
            return _TemporaryFault(f"the Hub's answer cannot be read ({PORTAL})", 0.0)
        # Classes are compared by name, because versions of the client use different HTTP libraries.
        class_names = {parent.__name__ for parent in type(error).__mro__}
        if isinstance(error, ConnectionError | TimeoutError) or "TransportError" in class_names:
            return _TemporaryFault(f"the connection dropped ({type(error).__name__})", 0.0)
        status = _get_status(error)
        if status:
            wait = _read_requested_wait(getattr(error, "response").headers)  # noqa: B009 - only some errors have it
            return _TemporaryFault(f"the Hub answers {status}", wait) if status in TEMPORARY_STATUSES else None
    return None


def is_conflict(error: BaseException) -> bool:
    """Return whether the Hub refused a commit because the branch has another head than the commit's parent."""
    return any(_get_status(cause) in (409, 412) for cause in _list_causes(error))


def _is_misread_answer(error: BaseException) -> bool:
    """Return whether the client failed on an answer of another shape than it expects, for example on a cut or changed one."""
    if isinstance(error, ValueError):  # the client checks some answers, and says so in these words
        return bool(re.search(r"improperly formatted|[Mm]alformed", str(error)))
    if not isinstance(error, AttributeError | LookupError | TypeError):
        return False
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and "huggingface_hub" in Path(frames[-1].filename).parts


def _read_requested_wait(headers: Any) -> float:
    """Return the seconds from `Retry-After: 30` or from the Hub's `RateLimit: "api";r=0;t=30`, or 0 without either."""
    match = re.fullmatch(r"\s*(\d+)\s*", headers.get("retry-after", ""))
    match = match or re.search(r"r=0\s*;\s*t=(\d+)", headers.get("ratelimit", ""))
    return float(match[1]) if match else 0.0

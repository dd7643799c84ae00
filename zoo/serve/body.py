"""Read the body of a request within its limits, and parse it as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.requests import Request

from zoo.core import strict_json
from zoo.core.errors import first_line
from zoo.serve.errors import RequestError
from zoo.serve.settings import Limits

DISCARDED = 4
"""A body that is too large is read and forgotten up to so many times the limit, so that the client reads the answer."""
LARGE = 64 << 10
"""A body of more bytes is parsed in a thread, so that other requests go on."""
JSON_MEMORY = 256 << 20


class MemoryBudget:
    """Counts the bytes of all bodies that are held at once, and refuses more than `limit`."""

    def __init__(self, limit: int) -> None:
        self.limit, self.size = limit, 0

    @contextmanager
    def hold(self) -> Iterator[_Share]:
        """Give the share of one request back at the end of the block."""
        share = _Share(self)
        try:
            yield share
        finally:
            self.size -= share.size


class _Share:
    """The bytes that one request holds."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget, self.size = budget, 0

    def add(self, count: int) -> None:
        """Count bytes. Raise RequestError with status 429 if all requests together hold too many."""
        if self._budget.size + count > self._budget.limit:
            message = "too many large requests at once: try again later"
            raise RequestError(429, message, code="memory_full", retry_after=2, closes=True)
        self.size += count
        self._budget.size += count


async def read_json(request: Request, limits: Limits, share: _Share) -> Any:
    """Read the body and parse it.

    Raise RequestError with status 413 for a body that is too large, 408 for one that comes too slowly, and 400 for one that is
    not JSON. Raise starlette's ClientDisconnect if the client goes.
    """
    try:
        async with asyncio.timeout(limits.body_seconds):
            content = await _read(request, limits, share)
    except TimeoutError:
        message = (
            f"the body did not arrive within {limits.body_seconds:g} seconds: send it faster, or in smaller requests"
        )
        raise RequestError(408, message, code="body_timeout", closes=True) from None
    return await asyncio.to_thread(parse, content) if len(content) > LARGE else parse(content)


async def _read(request: Request, limits: Limits, share: _Share) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limits.body_bytes:
            share.add(len(chunk))
            chunks.append(chunk)
        else:
            chunks.clear()
        if size > DISCARDED * limits.body_bytes:
            break
    if size > limits.body_bytes:
        message = f"the body has more than {limits.body_bytes:,} bytes: send smaller requests"
        raise RequestError(413, message, code="body_too_large", closes=True)
    return b"".join(chunks)


def parse(content: bytes) -> Any:
    """Parse JSON of a stranger. Raise RequestError with status 400."""
    try:
        strict_json.check_memory(content, JSON_MEMORY)
        return strict_json.parse(content.decode("utf-8"))
    except UnicodeDecodeError:
        raise RequestError(400, "the body is not UTF-8: encode the JSON as UTF-8", code="invalid_json") from None
    except RecursionError:
        raise RequestError(400, "the body is nested too deeply", code="invalid_json") from None
    except ValueError as error:
        raise RequestError(400, f"the body is not valid JSON: {first_line(error)}", code="invalid_json") from None

"""`Gate`: every request passes it. It checks the API key, bounds the number of requests, and records each in logs and metrics."""

from __future__ import annotations

import hashlib
import hmac
import time
import uuid
from collections.abc import Collection
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zoo.serve import logs
from zoo.serve.errors import RequestError
from zoo.serve.metrics import Metrics
from zoo.serve.responses import encode_json

OPEN_PATHS = ("/health", "/ready")
"""Paths that need no key, because load balancers ask them. The files of the page need none either: they hold no data."""
NOTES = "zoo.notes"
"""The key of the ASGI scope with what the endpoint adds to the log: the model, the inputs and the tokens."""
CLIENT_GONE = 499


class Gate:
    """ASGI middleware around the application.

    Args:
        app: the application.
        metrics: counts the requests.
        api_key: the key that clients must send as a bearer token, or None.
        paths: the paths that exist. Others are recorded as one, so that a client cannot fill the metrics.
        limit: requests that are answered at once.
        page_paths: the paths of the page, which need no key.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        api_key: str | None,
        paths: frozenset[str],
        limit: int,
        page_paths: Collection[str] = (),
    ) -> None:
        self._app, self._metrics, self._paths, self._limit = app, metrics, paths, limit
        self._open_paths = frozenset((*OPEN_PATHS, *page_paths))
        self._digest = None if api_key is None else _digest(api_key)
        self._active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start_time, status = time.monotonic(), CLIENT_GONE
        notes: dict[str, Any] = {}
        scope[NOTES] = notes
        request_id = uuid.uuid4().hex

        async def send_recorded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                # Browsers show this header beside the time that the network took.
                timing = f"app;dur={1000 * (time.monotonic() - start_time):.2f}"
                own = [(b"x-request-id", request_id.encode()), (b"server-timing", timing.encode())]
                message = {**message, "headers": [*message["headers"], *own]}
            await send(message)

        self._active += 1
        try:
            problem = self._find_problem(scope)
            app = self._app if problem is None else make_error_response(problem)
            await app(scope, receive, send_recorded)
        finally:
            self._active -= 1
            seconds = time.monotonic() - start_time
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.record_request(path, status, seconds)
            entry = {"id": request_id, "method": scope["method"], "path": path, "status": status}
            logs.log("request", **entry, seconds=round(seconds, 6), **notes)

    def _find_problem(self, scope: Scope) -> RequestError | None:
        """Return why a request is refused before it is read, or None."""
        if scope["path"] in self._open_paths:
            return None
        if self._digest is not None:
            scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
            # Digests have the same length, so the comparison takes the same time for every key.
            if scheme.lower() != "bearer" or not hmac.compare_digest(_digest(key.strip()), self._digest):
                return RequestError(
                    401, "send the server's API key as a bearer token", code="invalid_api_key", closes=True
                )
        if self._active > self._limit:
            return RequestError(429, "too many requests at once: try again later", retry_after=1, closes=True)
        return None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()


def make_error_response(error: RequestError) -> Response:
    """Return the answer of an error."""
    return Response(encode_json(error.body), error.status, error.headers, media_type="application/json")

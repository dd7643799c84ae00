"""Errors that a client gets, with the body that OpenAI's clients read."""

from __future__ import annotations

import math
from typing import Any


class RequestError(Exception):
    """A request that is not answered as asked.

    Attributes:
        status: the HTTP status.
        message: what is wrong, and what to do.
        param: the field of the request that is wrong, or None.
        code: a word for programs, for example "model_not_found".
        retry_after: seconds after which the request may succeed, or None.
        closes: whether the connection must be closed, because its body was not read.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        closes: bool = False,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.retry_after, self.closes = retry_after, closes

    @property
    def body(self) -> dict[str, Any]:
        """The body of the answer, in OpenAI's shape."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        kind = {401: "authentication_error", 429: "rate_limit_error"}.get(self.status, kind)
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer."""
        headers = {}
        if self.retry_after is not None:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after)))
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        if self.closes:
            headers["connection"] = "close"
        return headers

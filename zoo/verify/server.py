"""Ask a server for vectors over HTTP, in the shape of OpenAI's `/v1/embeddings`."""

from __future__ import annotations

import base64
import binascii
import http.client
import io
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.core.errors import ZooError, first_line
from zoo.verify.verdict import RefusedInputError

PATH = "/embeddings"
ANSWER_SECONDS = 120.0
MAX_BYTES = 256 << 20
"""Largest answer in bytes."""
MAX_MESSAGE_BYTES = 1 << 16
REFUSED = (400, 413, 422)
"""Statuses with which servers refuse the inputs of a request."""
ADVICE = {
    401: "the server asks for a key: name the environment variable that holds it with --api-key-env",
    403: "the key may not do this",
    404: "check the path, which ends in /v1/embeddings, and the name of the model, which --model sets",
    405: "check the path, which ends in /v1/embeddings",
    429: "the server asks for a pause: try again later",
}


class _RefuseRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect, because it would carry the key to another address."""

    def redirect_request(self, *arguments: Any) -> None:
        """Return nothing, so that the answer itself is an error with its status."""


class Server:
    """A server of vectors.

    Args:
        url: the address of the endpoint. One that ends in `/v1` gets `/embeddings`.
        model: the name that the server gives the model.
        api_key: sent as a bearer token; None for none.
        fields: further fields of the body, for example `dimensions`.

    Raises ZooError for an address that is not one of HTTP.
    """

    def __init__(
        self, url: str, model: str, *, api_key: str | None = None, fields: Mapping[str, Any] | None = None
    ) -> None:
        self.name = url.rstrip("/") + (PATH if url.rstrip("/").endswith("/v1") else "")
        self._body = {"model": model, **(fields or {})}
        self._headers = {"content-type": "application/json", "accept": "application/json"}
        if api_key is not None:
            self._headers["authorization"] = f"Bearer {api_key}"
        try:
            address = urllib.parse.urlsplit(self.name)
            is_http = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
        except ValueError:
            is_http = False
        if not is_http or not self.name.isascii() or any(character.isspace() for character in self.name):
            raise ZooError(f"--url {url}: is not an address; write it as http://127.0.0.1:8000/v1/embeddings")
        self._opener = urllib.request.build_opener(_RefuseRedirects)

    def embed(self, inputs: Sequence[Any]) -> npt.NDArray[np.float64]:
        """Return the vectors (n, d) of texts or images. Raise ZooError in one line for anything but n vectors."""
        status, content = self._post({**self._body, "input": [_as_json(item) for item in inputs]})
        if status != 200:
            raise self._explain(status, content)
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError):
            raise ZooError(
                f"{self.name}: the answer is not JSON; is this the address of an endpoint for embeddings?"
            ) from None
        return self._read_vectors(answer, len(inputs))

    def _post(self, body: Mapping[str, Any]) -> tuple[int, bytes]:
        """Send one request. Return the status and the body of the answer."""
        data = json.dumps(body).encode()
        request = urllib.request.Request(self.name, data=data, headers=self._headers, method="POST")
        try:
            with self._opener.open(request, timeout=ANSWER_SECONDS) as response:
                status, content = response.status, response.read(MAX_BYTES + 1)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(MAX_MESSAGE_BYTES)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                raise ZooError(f"{self.name}: no answer within {ANSWER_SECONDS:g} s; is the server busy?") from None
            shown = first_line(reason) if isinstance(reason, BaseException) else str(reason)[:120]
            raise ZooError(
                f"{self.name}: cannot be reached: {shown}; check the address, and whether the server runs"
            ) from None
        if len(content) > MAX_BYTES:
            raise ZooError(f"{self.name}: the answer has more than {MAX_BYTES >> 20} MB")
        return status, content

    def _explain(self, status: int, content: bytes) -> ZooError:
        """Return the error for an answer that is not 200, with the server's own message if it has one."""
        message = _find_message(content)
        advice = ADVICE.get(status, "")
        text = f"{self.name}: answered {status}{f': {message}' if message else ''}{f'; {advice}' if advice else ''}"
        return (RefusedInputError if status in REFUSED else ZooError)(text)

    def _read_vectors(self, answer: Any, count: int) -> npt.NDArray[np.float64]:
        data = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(data, list) or not all(isinstance(entry, dict) and "embedding" in entry for entry in data):
            raise ZooError(
                f"{self.name}: the answer has no list `data` with an `embedding` in each entry, as OpenAI's has; check the path"
            )
        if len(data) != count:
            raise ZooError(f"{self.name}: answered {len(data)} vectors for {count} inputs")
        indices = [entry.get("index") for entry in data]
        if all(type(index) is int for index in indices) and sorted(indices) == list(range(count)):
            data = sorted(data, key=lambda entry: int(entry["index"]))
        try:
            rows = [_read_vector(entry["embedding"]) for entry in data]
            vectors = np.array(rows, dtype=np.float64)
        except (ValueError, TypeError, binascii.Error):
            raise ZooError(
                f"{self.name}: an `embedding` is not a list of numbers, or their lengths differ; ask for float vectors"
            ) from None
        if vectors.ndim != 2 or not vectors.shape[1]:
            raise ZooError(f"{self.name}: an `embedding` is not one list of numbers, so there is not one vector a text")
        return vectors


def _read_vector(value: Any) -> Any:
    """Read a list of numbers, or base64 of little-endian float32."""
    if isinstance(value, str):
        return np.frombuffer(base64.b64decode(value, validate=True), "<f4")
    if not isinstance(value, list) or any(isinstance(number, str | bool) or number is None for number in value):
        raise TypeError("not a list of numbers")
    return value


def _find_message(content: bytes) -> str:
    """Return the message of an error in the shapes that servers use, in one line of at most 160 characters."""
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        answer = content[:400].decode("utf-8", "replace")
    for key in ("error", "message", "detail"):
        if isinstance(answer, dict) and key in answer:
            answer = answer[key]
    return " ".join(str(answer).split())[:160]


def _as_json(item: Any) -> Any:
    """Return a text as it is, and an image as an object with a data URL, as `zoo serve` takes it."""
    if isinstance(item, str):
        return item
    pixels = np.asarray(item)
    if pixels.dtype != np.uint8:
        return [float(number) for number in pixels]
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return {"image": f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"}

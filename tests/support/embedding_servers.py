"""Small servers with OpenAI's `/v1/embeddings`, whose vectors or answers are wrong in a chosen way."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any], Any], tuple[int, Any]]
"""Takes the body and the headers of a request. Returns the status, and JSON-able content or bytes."""


@contextmanager
def serve(answer: Answer) -> Iterator[str]:
    """Serve in a thread, and yield the address of the endpoint."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status, content = answer(body, self.headers)
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            if 300 <= status < 400:
                self.send_header("location", "http://127.0.0.1:9/elsewhere")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/embeddings"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def make_answer(encode: Callable[[list[Any]], Any]) -> Answer:
    """Return the answer of a server whose vectors are those of `encode`."""

    def answer(body: dict[str, Any], _: Any) -> tuple[int, Any]:
        vectors = encode(body["input"])
        data = [{"index": number, "embedding": [float(x) for x in vector]} for number, vector in enumerate(vectors)]
        return 200, {"object": "list", "data": data, "model": body["model"]}

    return answer


class FunctionSource:
    """A function from texts to vectors as a source of `zoo.verify`. It counts its calls."""

    name = "a function"

    def __init__(self, encode: Callable[[list[Any]], Any]) -> None:
        self.encode, self.calls = encode, 0

    def embed(self, inputs: Any) -> Any:
        """Return the vectors of the inputs."""
        self.calls += 1
        return self.encode(list(inputs))

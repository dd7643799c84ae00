"""Servers for tests: applications in this process, and `zoo serve` as a process of its own."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).parents[1] / "golden"
START_SECONDS = 120


def find_model(family: str) -> str:
    """Return the folder of the stored model of a family."""
    return str(GOLDEN / family / "model")


def make_data_url(pixels: np.ndarray, form: str = "PNG") -> str:
    """Return an image (h, w) or (h, w, 3) of uint8 as a data URL."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return f"data:image/{form.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def read_data_url(url: str) -> np.ndarray:
    """Return the pixels of an image that is given as a data URL."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


class Server:
    """A running `zoo serve`."""

    def __init__(self, process: subprocess.Popen[str], port: int, log: Path) -> None:
        self.process, self.port, self.log = process, port, log

    def request(self, method: str, path: str, content: Any = None, headers: Any = None) -> tuple[int, Any]:
        """Send one request on a connection of its own. Return the status and the parsed answer."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            data = content if isinstance(content, bytes | None) else json.dumps(content).encode()
            connection.request(method, path, data, headers or {})
            response = connection.getresponse()
            answer = response.read()
            is_json = response.getheader("content-type", "").startswith("application/json")
            return response.status, json.loads(answer) if is_json else answer.decode()
        finally:
            connection.close()

    def embed(self, texts: Any, **fields: Any) -> tuple[int, Any]:
        """Ask for vectors."""
        return self.request("POST", "/v1/embeddings", {"input": texts, **fields})

    def connect(self) -> socket.socket:
        """Return a plain connection, for requests that no client library would send."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def stop(self) -> int:
        """Send SIGTERM, and return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def read_log(self) -> list[dict[str, Any]]:
        """Return the lines of the log that are JSON."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


def make_limited_command(models: Sequence[str], **limits: Any) -> list[str]:
    """Return the command of a server with other limits, which have no options on the command line."""
    script = (
        "import json, sys\n"
        "from zoo.serve import process\n"
        "from zoo.serve.settings import Limits, Settings\n"
        "models, limits = map(json.loads, sys.argv[1:])\n"
        "sys.exit(process.run(Settings(tuple(models), port=0, limits=Limits(**limits))))\n"
    )
    return [sys.executable, "-c", script, json.dumps(models), json.dumps(limits)]


def make_command(models: Sequence[str], *options: str) -> list[str]:
    """Return the command of `zoo serve` at a free port."""
    return [sys.executable, "-m", "zoo.cli", "serve", *models, "--port", "0", *options]


@contextmanager
def start_server(folder: Path, command: Sequence[str], **variables: str) -> Iterator[Server]:
    """Start a server and wait until it is ready."""
    log = folder / "log.txt"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    with log.open("w") as stream:
        process = subprocess.Popen(command, stderr=stream, stdout=stream, text=True, env=environment)
    try:
        server = Server(process, wait_for_port(process, log), log)
        wait_until_ready(server)
        yield server
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def wait_for_port(process: subprocess.Popen[str], log: Path) -> int:
    """Return the port that the log names."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        for line in log.read_text().splitlines():
            if line.startswith("{") and json.loads(line)["event"] == "start":
                return int(json.loads(line)["port"])
        time.sleep(0.1)
    raise AssertionError(f"the server did not start:\n{log.read_text()}")


def wait_until_ready(server: Server) -> None:
    """Wait until /ready answers."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            if server.request("GET", "/ready")[0] == 200:
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"the server is not ready:\n{server.log.read_text()}")

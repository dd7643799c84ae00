"""Run the server: the socket, the worker processes, signals, and the drain."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from zoo.core import faults
from zoo.core.errors import RunWarning, ZooError, first_line
from zoo.core.output import say_errors
from zoo.serve import logs
from zoo.serve.app import create_app, read_api_key
from zoo.serve.metrics import FOLDER_VARIABLE
from zoo.serve.settings import Settings

KEEP_ALIVE_SECONDS = 75
"""How long a connection without a request stays open. Proxies and clients close theirs after a minute or less. If the server were
first, a request could go into a connection that is being closed, and be lost."""
HEALTHCHECK_SECONDS = 60
"""A worker that answers its parent less often is replaced. Opening a large model keeps it busy for a while."""


def run(settings: Settings) -> int:
    """Serve until a signal comes, answer the requests that were begun, and return the exit status.

    Raise ZooError for an address that cannot be used, and for a model that cannot be opened.
    """
    check_exposure(settings)
    logs.use_json_lines()
    with bind(settings.host, settings.port) as listener:
        host, port = listener.getsockname()[:2]
        logs.log("start", host=host, port=port, workers=settings.workers)
        if settings.workers > 1:
            return _run_workers(settings, listener)
        server = uvicorn.Server(make_config(create_app(settings), settings))
        with keep_signal_handlers():
            server.run(sockets=[listener])
        return 0 if server.started else 1


def make_config(app: Any, settings: Settings) -> uvicorn.Config:
    """Return the configuration of the HTTP server."""
    return uvicorn.Config(
        app,
        factory=settings.workers > 1,
        workers=settings.workers,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        ws="none",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=round(settings.limits.drain_seconds),
        timeout_worker_healthcheck=HEALTHCHECK_SECONDS,
    )


def check_exposure(settings: Settings) -> None:
    """Warn if anybody who reaches this machine may use the server. Raise ZooError if the key is not set."""
    has_key = read_api_key(settings) is not None
    if not has_key and not _is_loopback(settings.host):
        warnings.warn(
            f"--host {settings.host} without --api-key-env: everybody who reaches this machine may use the server",
            RunWarning,
            stacklevel=2,
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def bind(host: str, port: int) -> Iterator[socket.socket]:
    """Yield a socket that is bound to an address, before time is spent on models. Raise ZooError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, OverflowError, UnicodeError) as error:
        raise ZooError(f"--host {host} --port {port}: cannot be used: {first_line(error)}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.set_inheritable(True)
    except OSError as error:
        listener.close()
        reason = error.strerror or first_line(error)
        raise ZooError(f"--host {host} --port {port}: {reason}; choose another port, or --port 0") from None
    with listener:
        yield listener


@contextmanager
def keep_signal_handlers() -> Iterator[None]:
    """Ignore SIGTERM outside the server's own handlers, which drain, and restore all handlers afterwards.

    The server raises the signal once more after the drain. Nothing is left to do then, and the exit status is 0.
    """
    numbers = [number for number in signal.valid_signals() if number not in (signal.SIGKILL, signal.SIGSTOP)]
    before = {number: signal.getsignal(number) for number in numbers}
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)


def _run_workers(settings: Settings, listener: socket.socket) -> int:
    """Run worker processes. One that dies is replaced; one that cannot open its models ends the server."""
    threads = max(1, (os.cpu_count() or 1) // settings.workers)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # or the workers would compete for the cores
    with tempfile.TemporaryDirectory(prefix="zoo-metrics-") as folder:
        os.environ[FOLDER_VARIABLE] = folder
        try:
            with keep_signal_handlers():
                supervisor = Multiprocess(make_config(partial(create_worker_app, settings), settings), [listener])
                supervisor.run()
        finally:
            del os.environ[FOLDER_VARIABLE]
    return int(any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes))


def create_worker_app(settings: Settings) -> ASGIApp:
    """Open the models in a worker process. After an error the parent gives up instead of starting the worker again."""
    logs.use_json_lines()
    try:
        return create_app(settings)
    except Exception as error:
        problem = faults.describe_user_fault(error)
        if problem is None:
            raise
        say_errors([problem])
        sys.exit(STARTUP_FAILURE)

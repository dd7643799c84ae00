"""Run commands of zoo in processes that start at once: they are forked from one that has imported what a training needs.

A fresh Python imports torch, transformers, datasets and mteb for some seven CPU seconds before it does anything.
"""

from __future__ import annotations

import functools
import gc
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

MODULES = (
    "torch.distributed.elastic.multiprocessing",
    "mteb",
    "sentence_transformers",
    "datasets",
    "matplotlib.pyplot",
    "zoo.cli.verbs",
    "zoo.build.builder",
    "zoo.evaluation.scoring",
    "zoo.families.matryoshka_2d.encoder",
    "zoo.training.trainer",
)
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


class Command:
    """A function that runs in a process of its own, with the methods of subprocess.Popen that tests use.

    Args:
        function: a function of a module. What it returns is the exit status.
        arguments: its arguments.
        environment: further environment variables.
    """

    def __init__(
        self, function: Callable[..., int | None], *arguments: Any, environment: Mapping[str, str] | None = None
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="zoo-command-")
        self._outputs = [Path(self._folder.name) / name for name in ("out", "err")]
        self._process = _start_server().Process(
            target=_run, args=(function, arguments, {**ENVIRONMENT, **(environment or {})}, self._outputs)
        )
        self._process.start()

    @property
    def returncode(self) -> int | None:
        """The exit status, minus the number of the signal that ended the process, or None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the exit status, or None while the process runs."""
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to the process."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def wait(self, timeout: float = 300) -> int:
        """Wait until the process ends. Raise TimeoutExpired, and end it, if that takes more than `timeout` seconds."""
        self._process.join(timeout)
        if self.returncode is None:
            self._process.kill()
            raise subprocess.TimeoutExpired("command", timeout)
        return self.returncode

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Wait for the end, and return what was written to stdout and to stderr."""
        self.wait(timeout)
        out, err = (path.read_text() if path.exists() else "" for path in self._outputs)
        return out, err


def run_zoo(*words: str | Path, clock: str = "right") -> Command:
    """Start `zoo WORDS…`. With the clock `jumping`, every second look at it is two days later than the one before."""
    return Command(run_main, [str(word) for word in words], clock)


def run_in_processes(count: int, function: Callable[..., int | None], *arguments: Any) -> str:
    """Run a function in `count` processes that know of each other as torchrun's do. Return what they write to stderr."""
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_find_port())}
    ranks: Sequence[Mapping[str, str]] = [
        {"RANK": str(rank), "LOCAL_RANK": str(rank), **shared} for rank in range(count)
    ]
    commands = [
        Command(function, *arguments, environment=environment) for environment in (ranks if count > 1 else [{}])
    ]
    errors = [command.communicate(timeout=600)[1] for command in commands]
    assert [command.returncode for command in commands] == [0] * count, "\n".join(error[-3000:] for error in errors)
    return "".join(errors)


def run_main(words: list[str], clock: str = "right") -> int:
    """Run the command line of zoo in this process, and return its exit status."""
    if clock == "jumping":
        _make_clock_jump()
    from zoo.cli.main import main

    return main(words)


def _make_clock_jump() -> None:
    import itertools
    import time

    right, numbers = time.time, itertools.count()
    time.time = lambda: right() + (86_400 if next(numbers) % 2 else -86_400)


def _find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@functools.cache
def _start_server() -> Any:
    """Start the process that imports everything and forks, once. It computes nothing, so it has no threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(MODULES))
    before = dict(os.environ)
    try:
        # What a library reads when it is imported is decided here.
        os.environ.update({**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return context


def _run(
    function: Callable[..., int | None],
    arguments: Sequence[Any],
    environment: Mapping[str, str],
    outputs: Sequence[Path],
) -> None:
    for descriptor, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), descriptor)
    os.environ.update(environment)
    gc.freeze()
    import torch

    torch.set_num_threads(1)
    sys.exit(function(*arguments))

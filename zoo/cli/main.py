"""`zoo`: reads the command line and calls a verb. Errors are one line each, and the exit status is then 1."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from zoo.artefact import allowed_files
from zoo.cli import verbs
from zoo.cli.parser import parse
from zoo.core import faults
from zoo.core.errors import ZooError, ZooWarning
from zoo.core.output import say, say_block, say_errors


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit status.

    The status is 0, 1 for an error or a missed `at_least`, 2 for a wrong command line, 130 after Ctrl-C and 143 after SIGTERM.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    problem = _find_unusable_word(words)
    if problem:
        say(f"error: {problem}")
        return 1
    arguments = parse(words)
    with _sigterm_ends_in_order():
        status = _run_verb(arguments)
    if argv is None:
        _detach_broken_stdout()
    return status


def _find_unusable_word(words: Sequence[str]) -> str | None:
    """Return what is wrong with a word that no verb may get: an access token, or a NUL character."""
    if any(allowed_files.find_token(word) is not None for word in words):
        return (
            "the command line holds an access token, and shells keep what they run: revoke it, and use `hf auth login`"
        )
    if any("\0" in word for word in words):
        return "the command line holds a NUL character, which no name of a file can hold; remove it"
    return None


def _run_verb(arguments: argparse.Namespace) -> int:
    """Run the verb, and print its errors. A fault of zoo itself is printed with its traceback."""
    try:
        with warnings.catch_warnings():
            _print_warnings_in_one_line()
            status: int = arguments.verb(arguments) or 0
        _leave_process_group()
        if sys.stdout is not None and not sys.stdout.closed:
            sys.stdout.flush()  # a full disk shows only now
        return status
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt as stop:
        resumes = arguments.verb in (verbs.train, verbs.reproduce)
        say("stopped; the same command goes on from the last checkpoint" if resumes else "stopped")
        return 143 if isinstance(stop, TerminatedError) else 130
    except Exception as error:
        _print_error(error, verbose=arguments.verbose)
        return 1


def _print_error(error: Exception, *, verbose: bool) -> None:
    problem = faults.describe_user_fault(error)
    if problem is None or verbose:
        say_block(traceback.format_exc())
    if problem is None:
        say(f"error: {faults.describe_report()}")
        return
    say_errors((error.problems if isinstance(error, ZooError) else ()) or [problem])


class TerminatedError(KeyboardInterrupt):
    """SIGTERM, as a scheduler sends it. It ends the run in order, like Ctrl-C."""


@contextmanager
def _sigterm_ends_in_order() -> Iterator[None]:
    """Raise TerminatedError at SIGTERM inside the block. A signal handler can be set in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


def _raise_terminated(*_: Any) -> None:
    raise TerminatedError


def _detach_broken_stdout() -> None:
    """Point stdout to nowhere if it cannot be written to, because Python writes to it once more when the process ends."""
    if sys.stdout is None or sys.stdout.closed:
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _leave_process_group() -> None:
    """Leave a distributed run: a process that ends while threads of the group hold its tensors may abort.

    After an error the launcher ends the group, because the other processes may still be waiting.
    """
    torch = sys.modules.get("torch")
    if torch and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _print_warnings_in_one_line() -> None:
    """Print every warning as one line. A warning of zoo needs no place in the code."""

    def print_line(message: Any, category: type[Warning], filename: str, lineno: int, *_: Any) -> None:
        is_own = issubclass(category, ZooWarning)
        say(f"warning: {message}" if is_own else f"{filename}:{lineno}: {category.__name__}: {message}")

    warnings.showwarning = print_line  # type: ignore[assignment]


if __name__ == "__main__":
    raise SystemExit(main())

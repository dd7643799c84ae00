"""The surroundings that the result of a training depends on: threads, processes and device, as checkpoints keep them.

A sum of floats depends on how many threads add it up. A run that goes on with other numbers than it began with would end with
other weights than an uninterrupted run.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from zoo.core.errors import RunWarning

Environment = Mapping[str, Any]
"""`threads` and `processes`, both numbers, and `device`, for example cpu."""


def choose_threads(here: Environment, before: Environment) -> int:
    """Return the number of threads to go on with, and warn about everything that is not as it was when the run began.

    Args:
        here: the environment of this process.
        before: the environment of the checkpoint; empty for a new run and for a checkpoint of an early version.
    """
    for name, describe in (("processes", _describe_processes), ("device", str)):
        if name in before and before[name] != here[name]:
            warnings.warn(
                f"the run began on {describe(before[name])} and continues on {describe(here[name])}: from here on its weights "
                "differ in the last digits from those of an uninterrupted run",
                RunWarning,
                stacklevel=2,
            )
    threads = int(before.get("threads", here["threads"]))
    if threads != here["threads"]:
        warnings.warn(
            f"the run continues with {_count(threads, 'thread')}, the number that it began with, not with "
            f"{here['threads']}, so that its weights are those of an uninterrupted run",
            RunWarning,
            stacklevel=2,
        )
    return threads


def _describe_processes(count: int) -> str:
    return _count(count, "process", "es")


def _count(number: int, name: str, ending: str = "s") -> str:
    return f"{number} {name}{ending if number != 1 else ''}"

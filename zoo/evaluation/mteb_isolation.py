"""Keep the side effects of mteb away from the caller: mteb seeds the global generators and warns about its own tasks.

The import of mteb seeds the generators, and so does the construction of every task and evaluator. Import mteb inside the block
of `preserve_random_state`.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from zoo.core.random_states import preserve_random_state

__all__ = ["preserve_random_state", "silence_mteb"]

LOGGERS = ("mteb", "datasets")


@contextmanager
def silence_mteb() -> Iterator[None]:
    """Silence the logs, warnings and progress bars of mteb and of the libraries that it calls. Errors are still logged."""
    import datasets

    shows_bars = datasets.is_progress_bar_enabled()
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    datasets.disable_progress_bars()
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for module in (*LOGGERS, "sklearn", "scipy"):
                warnings.filterwarnings("ignore", module=rf"{module}\b")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        if shows_bars:
            datasets.enable_progress_bars()

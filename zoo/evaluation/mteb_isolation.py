"""Keep the side effects of mteb away from the caller: mteb seeds the global generators and warns about its own tasks."""

from __future__ import annotations

import logging
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

LOGGERS = ("mteb", "datasets")


@contextmanager
def preserve_random_state() -> Iterator[None]:
    """Restore the global generators of Python, numpy and torch at the end of the block.

    The import of mteb seeds them, and so does the construction of every task and evaluator. Import mteb inside the block.
    """
    import numpy as np
    import torch

    python_state, numpy_state = random.getstate(), np.random.get_state()
    torch_state, cuda_states = torch.get_rng_state(), torch.cuda.get_rng_state_all()
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)
        torch.cuda.set_rng_state_all(cuda_states)


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

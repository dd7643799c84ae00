"""What mteb would leave behind or say: it seeds the global generators and warns about its own tasks."""

from __future__ import annotations

import logging
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

LOUD = ("mteb", "datasets")


@contextmanager
def random_state() -> Iterator[None]:
    """Give the global generators of Python, numpy and torch back as they were: importing mteb seeds them, and so does each
    task and evaluator that is made. Import mteb inside the block."""
    import numpy as np
    import torch

    before = random.getstate(), np.random.get_state(), torch.get_rng_state(), torch.cuda.get_rng_state_all()
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
        torch.cuda.set_rng_state_all(before[3])


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the logs, warnings and progress bars of mteb and what it calls. Errors still come out."""
    import datasets

    bars = datasets.is_progress_bar_enabled()
    levels = {name: logging.getLogger(name).level for name in LOUD}
    datasets.disable_progress_bars()
    for name in LOUD:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for module in (*LOUD, "sklearn", "scipy"):
                warnings.filterwarnings("ignore", module=rf"{module}\b")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        if bars:
            datasets.enable_progress_bars()

"""Estimate time and memory of a training on this machine, from a few real steps on some of the rows."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from zoo import families
from zoo.core.errors import ZooError
from zoo.recipe.recipe import Recipe
from zoo.schema import Training
from zoo.training import automatic
from zoo.training.step_plan import plan_steps

WARM_UP_STEPS, TIMED_STEPS = 1, 3
SLOW_STEP = 20.0  # seconds; a step that takes longer is timed once
FEW_ROWS, TIMED_ROWS = 32, 500  # of a family that has no steps


def estimate(recipe: Recipe[Any], rows: Any, row_count: int) -> str:
    """Return a sentence about time and memory, or why there is none.

    Args:
        rows: rows to train on; some of them, evenly spaced, are used.
        row_count: the number of rows that the whole training reads.
    """
    has_steps = recipe.encoder.reads_training_field("max_steps")
    try:
        with tempfile.TemporaryDirectory(prefix="zoo-init-") as folder:
            time_training = _time_steps if has_steps else _time_rows
            text = time_training(recipe, rows, row_count, Path(folder))
    except ZooError as error:
        return f"Time and memory could not be estimated: {error.problems[0] if error.problems else error}."
    return f"{text} Memory: {_describe_memory()}. Evaluation and free baselines come on top."


def _time_steps(recipe: Recipe[Any], rows: Any, row_count: int, folder: Path) -> str:
    """Time optimiser steps, and count those of the whole training."""
    from zoo.training import learning_rate_test

    spec, training = recipe.encoder, recipe.training
    validation = automatic.choose_validation_size(spec, training, row_count) or 0
    length = automatic.choose_length(spec, training, row_count, has_validation=validation > 0)
    total = plan_steps(training.model_copy(update=length), row_count - validation).total_steps
    part = _spread(rows, training.batch_size * (WARM_UP_STEPS + TIMED_STEPS))
    start_time = time.monotonic()
    encoder = families.load_encoder(spec.family).build(spec, seed=training.seed, folder=recipe.folder)
    encoder.prepare(part, folder / "cache")
    preparation = time.monotonic() - start_time
    fixed = {"learning_rate": spec.usual_learning_rate, "early_stop": None, "epochs": None}

    def fit(steps: int) -> float:
        settings: Training = training.model_copy(update={**fixed, "max_steps": steps})
        return encoder.fit(part, settings, folder / f"{steps}-steps")

    warm_up = fit(WARM_UP_STEPS)
    step = warm_up
    if warm_up < SLOW_STEP:
        step = max((fit(WARM_UP_STEPS + TIMED_STEPS) - warm_up) / TIMED_STEPS, 1e-4)
    tests_rate = training.learning_rate == "auto" and total >= learning_rate_test.LEAST_STEPS_OF_TRAINING
    extra = learning_rate_test.STEPS if tests_rate else 0
    share = min(1.0, learning_rate_test.ROWS / training.batch_size)  # of a batch, which a step of the test reads
    seconds = preparation + (total + extra * share) * step
    steps = f"{total:,} step{'s' * (total != 1)}"
    test = f" and {extra} shorter ones to choose the learning rate" if extra else ""
    stop = "; it ends earlier if the validation gets no better" if length.get("early_stop") else ""
    return f"{_describe_time(seconds)} of training on this machine ({_describe_machine()}): {steps} of {step:.2g} s{test}{stop}."


def _time_rows(recipe: Recipe[Any], rows: Any, row_count: int, folder: Path) -> str:
    """Time a whole training on some rows. The first one compiles what is compiled, and is not counted."""
    spec, seconds = recipe.encoder, 0.0
    for count in (FEW_ROWS, TIMED_ROWS):
        part = _spread(rows, count)
        encoder = families.load_encoder(spec.family).build(spec, seed=recipe.training.seed, folder=recipe.folder)
        start_time = time.monotonic()
        encoder.prepare(part, folder / f"cache-{count}")
        encoder.fit(part, recipe.training, folder / f"{count}-rows")
        encoder.finish(part)
        seconds = time.monotonic() - start_time
    seconds *= max(1.0, row_count / len(part))
    return f"{_describe_time(seconds)} of training on this machine ({_describe_machine()}), by {len(part)} rows."


def _spread(rows: Any, count: int) -> Any:
    """Return at most `count` rows, evenly spaced, because a file may be sorted by its labels."""
    count = min(count, len(rows))
    return rows.select([position * len(rows) // count for position in range(count)])


def _describe_time(seconds: float) -> str:
    if seconds < 1.5:
        return "About a second"
    if seconds < 90:
        return f"About {round(seconds)} seconds"
    minutes = seconds / 60
    return f"About {minutes:.0f} minutes" if minutes < 90 else f"About {minutes / 60:.1f} hours"


def _describe_machine() -> str:
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{os.cpu_count()} cores, {device}"


def _describe_memory() -> str:
    """Return the largest memory of this process, and that of the GPU."""
    import psutil
    import torch

    try:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    except ImportError:  # Windows
        peak = psutil.Process().memory_info().rss
    text = f"{peak / 1e9:.1f} GB"
    if torch.cuda.is_available():
        text += f", and {torch.cuda.max_memory_allocated() / 1e9:.1f} GB of the GPU"
    return text

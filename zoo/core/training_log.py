"""Lines about how far a training is, for a log without a progress bar: rate, epoch, loss and the time left."""

from __future__ import annotations

import time
from collections.abc import Callable

Say = Callable[[str], None]
SECONDS_BETWEEN_LINES = 30.0
LINES_OF_A_RUN = 10  # a short run has a line at every tenth of it


class TrainingLog:
    """Tells `say` about a training of `total` steps.

    Args:
        say: receives the lines; None for no lines.
        first: the steps that were finished before, which say nothing about the rate.
        step_name, unit: what a step is called, and what it consists of, for example step and rows.
    """

    def __init__(
        self, say: Say | None, total: int, first: int = 0, step_name: str = "step", unit: str = "rows"
    ) -> None:
        self.say, self.total, self.first, self.step_name, self.unit = say, total, first, step_name, unit
        self._start = self._last_line = time.monotonic()
        self._last_step = first
        self._amount = 0

    def record(self, step: int, amount: int, epoch: float, loss: float | None) -> None:
        """Record that a step of `amount` units is finished, and say a line if it is time for one."""
        self._amount += amount
        now = time.monotonic()
        is_due = (
            step - self._last_step
        ) * LINES_OF_A_RUN >= self.total or now - self._last_line >= SECONDS_BETWEEN_LINES
        if self.say is None or not (is_due or step == self.total):
            return
        self._last_line, self._last_step = now, step
        seconds = max(now - self._start, 1e-9)
        left = seconds / max(1, step - self.first) * (self.total - step)
        shown_loss = "" if loss is None else f", loss {loss:.4f}"
        rate = f"{self._amount / seconds:,.0f} {self.unit}/s"
        place = f"{self.step_name} {step} of {self.total}, epoch {epoch:.2f}"
        self.say(f"{place}{shown_loss}, {rate}, {format_seconds(left)} left")


def format_seconds(seconds: float) -> str:
    """Return seconds as `1 h 5 min`, `12 min` or `8 s`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"

"""Let a process that was forked after a model was opened encode, instead of waiting for threads that the fork did not copy.

A fork copies one thread only. torch's pool of threads then looks as if it were there, and the first operation that it shares
out never ends. So a forked child computes with one thread. A GPU cannot be used there at all.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

ADVICE = "start processes with multiprocessing.get_context('spawn'), or open the model after the fork"

_handler_is_set = False
_warns_at_next_use = False


def note_model() -> None:
    """Remember that this process has opened a model. Call this whenever one is made."""
    global _handler_is_set
    if not _handler_is_set and hasattr(os, "register_at_fork"):
        _handler_is_set = True
        os.register_at_fork(after_in_child=_compute_with_one_thread)


def _compute_with_one_thread() -> None:
    global _warns_at_next_use
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() > 1:
        torch.set_num_threads(1)
        _warns_at_next_use = True


def find_problem(uses_gpu: bool) -> str | None:
    """Return why this process cannot encode, or None. Warn once in a forked child that it uses one thread only."""
    global _warns_at_next_use
    torch: Any = sys.modules.get("torch")
    if uses_gpu and torch is not None and torch.cuda._is_in_bad_fork():
        return f"this process was forked from one that had used the GPU, so it cannot use it: {ADVICE}"
    if _warns_at_next_use:
        _warns_at_next_use = False
        warnings.warn(
            f"this process was forked from one that had opened a model, so it encodes with one thread; to use more, {ADVICE}",
            stacklevel=4,
        )
    return None

"""Agreement between the processes of a distributed run."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list


def broadcast_from_main(value: Any = None) -> Any:
    """Return the main process's `value` in every process.

    Every process must call this; none goes on before all have done so. In a run of one process it returns `value`.
    """
    _join_process_group()
    return broadcast_object_list([value])[0]


def is_main_process() -> bool:
    """Return whether this process is the one that writes files."""
    return bool(_join_process_group().is_main_process)


def _join_process_group() -> PartialState:
    return PartialState(cpu=not torch.cuda.is_available())

"""The machine that a run was made on, as reports and lock.json name it."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any


def describe_host() -> dict[str, Any]:
    """Processor, cores, memory in GB, versions of Python and torch, and the GPU if there is one."""
    import psutil
    import torch

    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    except OSError:  # only Linux has this file
        pass
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }

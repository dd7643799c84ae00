"""Whether scikit-dimension, which figures of neighbours need, is installed. It is an extra of the package."""

from __future__ import annotations

import importlib.util

NEEDED = 'the intrinsic dimension needs scikit-dimension: pip install "embedding-zoo[diagnose]"'


def find_problem() -> str:
    """Return the error if scikit-dimension is not installed, else "". Imports nothing."""
    return "" if importlib.util.find_spec("skdim") else NEEDED

"""Which metrics are better if they are lower."""

from __future__ import annotations

LOWER_IS_BETTER = frozenset(
    {
        "ece",
        "cdnv",
        "variance_ratio",
        "simplex",
        "simplex_norms",
        "simplex_angles",
        "orthogonality",
        "label_sharpness",
        "label_sharpness_999",
    }
)
"""All other metrics are better if they are higher."""


def is_higher_better(metric: str) -> bool:
    """Whether a higher value of a metric is a better one."""
    return metric not in LOWER_IS_BETTER

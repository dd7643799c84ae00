"""Documents of three topics with words of their own, and settings that learn them in a second."""

from __future__ import annotations

import numpy as np

TOPICS = [
    [a + b for a in first for b in ("ba", "do", "ki", "lu", "me")]
    for first in (("ta", "so"), ("ri", "ne"), ("fu", "pa"))
]


SMALL = {"dim": 24, "epochs": 12, "min_count": 1, "sample": 0.0, "learning_rate": 0.05}


def texts(n: int = 150, seed: int = 0) -> list[str]:
    """Text i is of topic i % 3."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(TOPICS[i % 3], 30)) for i in range(n)]

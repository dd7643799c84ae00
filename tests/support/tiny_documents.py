"""Documents of three topics that share no words, and settings that learn the topics in a second."""

from __future__ import annotations

import numpy as np

TOPICS = [
    [first + second for first in firsts for second in ("ba", "do", "ki", "lu", "me")]
    for firsts in (("ta", "so"), ("ri", "ne"), ("fu", "pa"))
]
SMALL = {"dim": 24, "epochs": 12, "min_count": 1, "sample": 0.0, "learning_rate": 0.05}


def texts(count: int = 150, seed: int = 0) -> list[str]:
    """Make `count` texts of 30 words; text i is about topic i % 3."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(TOPICS[i % 3], 30)) for i in range(count)]

"""The shape of a list of scores, and the free baselines that can be computed from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RANKS = (1, 2, 5, 10, 20)
"""Ranks whose scores are features, as far as a list reaches."""
SHARPNESS = (0.5, 1.0, 2.0, 4.0)
"""Inverse temperatures of smooth maxima, in units of the inverse spread of a list."""
BASELINES = (
    "score",
    "minus mean",
    "minus last",
    "z-score",
    *(f"softmax {value:g}" for value in SHARPNESS),
)
TINY = 1e-6


@dataclass(frozen=True)
class ScoreLists:
    """Measures lists of descending scores. It holds the mean shape of the lists of the fit.

    Attributes:
        drops: (top,) mean distance of each rank's score from the first score.
        spread: mean standard deviation of a list.
    """

    drops: Floats
    spread: float

    @classmethod
    def fit(cls, scores: Floats) -> ScoreLists:
        """Take the mean shape of the lists (n, top)."""
        return cls((scores[:, :1] - scores).mean(0), max(float(scores.std(1).mean()), TINY))

    @property
    def top(self) -> int:
        """Number of scores that are looked at."""
        return len(self.drops)

    def complete(self, scores: Floats) -> Floats:
        """Return lists (m, top) of lists (m, k) with k ≥ 1: longer ones are cut, and shorter ones continue.

        A list goes on as the mean list does, scaled by how far it has fallen so far. Scores that are not finite are missing.
        """
        count = min(scores.shape[1], self.top)
        full = np.empty((len(scores), self.top))
        full[:, :count] = scores[:, :count]
        full[:, count:] = -np.inf
        is_present = np.isfinite(full)
        if is_present.all():
            return full
        last = np.maximum(is_present.sum(1) - 1, 0)
        rows = np.arange(len(full))
        first = np.where(is_present[:, 0], full[:, 0], 0.0)
        fall = np.where(is_present[:, 0], first - full[rows, last], 0.0)
        expected = self.drops[last]
        ratio = np.divide(fall, expected, out=np.ones(len(full)), where=expected > TINY)
        continued = (first - fall)[:, None] - ratio[:, None] * (self.drops - expected[:, None])
        return np.where(is_present, full, np.minimum(continued, (first - fall)[:, None]))

    def measure(self, lists: Floats) -> Floats:
        """Return features (m, f) of complete lists: chosen ranks, mean, spread, and smooth maxima."""
        ranks = [lists[:, rank - 1] for rank in (*RANKS, self.top) if rank <= self.top]
        deviation = lists.std(1)
        features = [*ranks, lists[:, :5].mean(1), lists.mean(1), deviation, np.log(deviation + TINY)]
        return np.stack([*features, *(self.smooth_maximum(lists, value) for value in SHARPNESS)], axis=1)

    def smooth_maximum(self, lists: Floats, sharpness: float) -> Floats:
        """Return log(Σ exp(t · score)) / t (m,) of complete lists, with t = sharpness / spread."""
        scale = sharpness / self.spread
        below = np.exp(scale * (lists - lists[:, :1]))
        maximum: Floats = lists[:, 0] + np.log(below.sum(1)) / scale
        return maximum

    def anchor(self, name: str, lists: Floats, random_mean: Floats, random_deviation: Floats) -> tuple[Floats, Floats]:
        """Return origin and unit (m,) of a baseline: it is (score - origin) / unit.

        Args:
            name: one of BASELINES.
            lists: complete lists (m, top).
            random_mean, random_deviation: (m,) mean and standard deviation of the scores of random documents.
        """
        one = np.ones(len(lists))
        if name == "score":
            return 0 * one, one
        if name == "minus mean":
            return lists.mean(1), one
        if name == "minus last":
            return lists[:, -1], one
        if name == "z-score":
            return random_mean, random_deviation + TINY
        return self.smooth_maximum(lists, float(name.removeprefix("softmax "))), one

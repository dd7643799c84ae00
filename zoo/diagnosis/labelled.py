"""Compare views by a few labels: the accuracy of the nearest class mean, on the same episodes for every view.

Five labelled rows of each class say more about which view is best than any figure without labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from zoo.encoder import Encoder
from zoo.metrics import outcomes
from zoo.metrics.encoded_rows import encode_inputs
from zoo.metrics.few_shot import EPISODES, FewShot, Sizes, choose_sizes, draw_episodes, measure_episodes, renumber
from zoo.metrics.outcomes import Outcomes


class LabelledScores(NamedTuple):
    """Few-shot results of views.

    Attributes:
        sizes: the sizes of an episode, which the number of labels decides.
        by_view: the results of each view by its name, one for each number of shots.
    """

    sizes: Sizes
    by_view: Mapping[str, tuple[FewShot, ...]]

    def describe(self, view: str) -> dict[str, Any]:
        """Return the results of a view as plain values."""
        results = [
            {"shots": result.shots, "accuracy": result.accuracy, "low": result.low, "high": result.high}
            for result in self.by_view[view]
        ]
        return {"ways": self.sizes.ways, "queries": self.sizes.queries, "results": results}

    def find_best(self) -> tuple[str, list[str]]:
        """Return the view with the highest accuracy at the most shots, and the views that are level with it.

        A view is level if the paired 95 % interval of the difference holds 0.
        """
        best = max(self.by_view, key=lambda name: self.by_view[name][-1].accuracy)
        own = _as_outcomes(self.by_view[best][-1])
        others = [name for name in self.by_view if name != best]
        return best, [name for name in others if outcomes.compare(own, _as_outcomes(self.by_view[name][-1])).low <= 0]

    def summarise(self) -> str:
        """Say in a sentence which view the labels prefer."""
        best, level = self.find_best()
        result = self.by_view[best][-1]
        figures = f"{result.accuracy:.3f} ({result.low:.3f} to {result.high:.3f}), chance {1 / self.sizes.ways:.3f}"
        setting = f"{result.shots} labelled rows of each of {self.sizes.ways} classes"
        if len(self.by_view) == 1:
            return f"With {setting}, the nearest class mean is right for {figures}"
        also = f"; level with it: {', '.join(level)}" if level else ""
        return f"With {setting}, {best} is best: {figures}{also}"


def score_views(
    views: Mapping[str, Encoder],
    inputs: Sequence[Any],
    labels: Sequence[Any],
    *,
    seed: int = 42,
    episodes: int = EPISODES,
) -> LabelledScores:
    """Score every view on the same episodes of labelled inputs.

    Raises DataError unless two classes have two rows.
    """
    sizes = choose_sizes(labels)
    drawn = draw_episodes(labels, sizes, episodes=episodes, seed=seed)
    rows = drawn.list_rows()
    drawn = renumber(drawn, rows)
    by_view = {}
    for name, view in views.items():
        vectors = encode_inputs(view, [inputs[row] for row in rows])
        by_view[name] = tuple(measure_episodes(vectors, drawn, shots) for shots in sizes.shots)
    return LabelledScores(sizes, by_view)


def _as_outcomes(result: FewShot) -> Outcomes:
    return Outcomes("episodes", "mean", result.accuracies)

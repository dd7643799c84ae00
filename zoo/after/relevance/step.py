"""The step `relevance`: probabilities for the scores of a search, and one cut-off."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from zoo.after.checks import check_vectors
from zoo.after.material import Material, Vectors
from zoo.after.relevance.mapping import RelevanceMap
from zoo.after.relevance.score_lists import BASELINES
from zoo.after.relevance.spec import Spec
from zoo.after.step import ScoreStep
from zoo.core.errors import ArtefactError, ZooError


class Step(ScoreStep):
    """Turns the scores of a search into probabilities that the rows answer their queries.

    The map is monotone in the score for every query, by construction. `map_scores` keeps the order exactly: two rows of a list
    have the same probability if and only if they have the same score.

    One probability serves three uses. Compare it with `threshold` to keep the relevant rows of a list. Read it as a calibrated
    probability. If even the first row is below `threshold`, nothing in the corpus answers the query.

    The step must be fitted on the scores that the search returns. If the index quantises vectors, fit the step on decoded ones.

    Attributes:
        spec: the entry of `after:`.
        dim: components of the queries.
        top: number of first scores of a list that the map looks at. Searches should return at least as many rows.
        threshold: the cut-off. A row is relevant if its probability is at least this.
        map: the fitted map.
        facts: figures on held-out queries.
    """

    spec: Spec

    def __init__(self, spec: Spec, fitted: RelevanceMap, threshold: float, facts: Mapping[str, Any]) -> None:
        self.spec = spec
        self.map = fitted
        self.threshold = threshold
        self.facts = dict(facts)
        self.dim = len(fitted.familiarity.queries.mean)
        self.top = fitted.shape.top

    @classmethod
    def fit(cls, spec: Spec, material: Material) -> Self:
        """Fit the map and choose the cut-off.

        Queries without a known answer are left out. Raise ZooError if too few queries are left, or if all rows of all lists are
        right, or all wrong.

        Without `material.foreign`, foreign queries are still rejected: by their scores, and by how far they lie from the queries
        of the fit, with fixed weights. How many are rejected is then not known, and `card_facts` has no figure about it.
        """
        from zoo.after.relevance import fitting, searching

        own, left_out = searching.search_own(material, spec.top)
        foreign = searching.search_foreign(material, spec.top)
        if foreign is None:
            material.say(
                "relevance: there are no foreign queries, so nothing says how many of them are rejected; give some as `none:`"
            )
        documents = np.asarray(material.documents, np.float32)
        fitted = fitting.fit_map(own, foreign, documents, spec.target.precision, material.seed)
        facts = fitted.facts | {"queries_left_out": left_out}
        step = cls(spec, fitted.map, fitted.cut_off.threshold, facts)
        material.say(f"relevance: {step.describe_threshold()}")
        return step

    def map_scores(self, queries: Vectors, scores: Vectors) -> Vectors:
        """Return the probabilities (m, k) float32 that the found rows answer their queries.

        Args:
            queries: (m, dim) float32 vectors, as they were searched with.
            scores: (m, k) float32, which descend. k should be at least `top`: the shape of a shorter list is guessed from its
                beginning. Minus infinity stands for a row that is missing, and gets the probability 0.

        Raises ZooError for other shapes, for NaN, and for scores that do not descend.
        """
        vectors, values = check_vectors(queries, self.dim, "queries"), np.asarray(scores, np.float32)
        if values.ndim != 2 or len(values) != len(vectors):
            raise ZooError(f"scores have the shape {values.shape}, but {len(vectors)} queries need ({len(vectors)}, k)")
        if np.isnan(values).any() or (values == np.inf).any():
            raise ZooError("scores are NaN or infinite; encode queries and documents again")
        if (values[:, 1:] > values[:, :-1]).any():
            row = int((values[:, 1:] > values[:, :-1]).any(axis=1).argmax())
            raise ZooError(f"the scores of query {row} do not descend; sort the rows of a search by score first")
        return self.map.apply(vectors, values)

    def describe_threshold(self) -> str:
        """Say in one sentence where the cut-off is and how it did on held-out queries."""
        facts = self.facts
        text = (
            f"cut-off {self.threshold:.3g}: precision {facts['precision']:.2f} and recall {facts['recall']:.2f} of the first "
            f"{self.top} rows on {facts['queries']:,} held-out queries, of which {100 * facts['empty']:.0f} % keep nothing"
        )
        if not facts["reaches_target"]:
            text += f"; the target precision {self.spec.target.precision:g} was not reached"
        return text

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays of the map by name."""
        return self.map.tensors()

    def state(self) -> dict[str, Any]:
        """The numbers of the map, the cut-off, and the figures."""
        return {"map": self.map.state(), "threshold": self.threshold, "facts": self.facts}

    @classmethod
    def from_saved(cls, spec: Spec, tensors: Mapping[str, npt.NDArray[Any]], state: Mapping[str, Any]) -> Self:
        """Open what `tensors` and `state` gave. Raises ArtefactError for a missing, extra or mis-shaped tensor."""
        try:
            fitted = RelevanceMap.read(tensors, state["map"])
            step = cls(spec, fitted, float(state["threshold"]), state["facts"])
            _check(step, tensors)
            step.describe_threshold()
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise ArtefactError(
                f"the step relevance does not fit what was saved of it ({type(error).__name__}: {error}); fit it again"
            ) from None
        return step

    def card_facts(self) -> dict[str, Any]:
        """Figures on held-out queries, and the bytes of the state."""
        return self.facts | {"bytes": sum(array.nbytes for array in self.tensors().values())}


def _check(step: Step, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Raise ArtefactError unless the tensors are those that the step would save, and their shapes fit together."""
    fitted = step.map
    extra = sorted(tensors.keys() - fitted.tensors().keys())
    if extra:
        raise ArtefactError(f"the step relevance has an extra tensor {extra[0]}; fit it again")
    if fitted.baseline not in BASELINES or not math.isfinite(step.threshold):
        raise ArtefactError("the step relevance has an unknown baseline or no cut-off; fit it again")
    if any(not np.isfinite(array).all() for array in tensors.values()):
        raise ArtefactError("the step relevance has a tensor with NaN or infinity; fit it again")
    if not fitted.calibration[0] > 0:
        raise ArtefactError("the step relevance has a slope that would turn the order round; fit it again")
    example = np.linspace(1, 0, step.top, dtype=np.float32)[None]
    fitted.apply(np.ones((1, step.dim), np.float32), example)  # shapes that do not fit together raise ValueError

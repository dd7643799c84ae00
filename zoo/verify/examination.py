"""Ask a server for vectors, compare them with those of the model, and name the fault that explains a difference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zoo.core.errors import ZooError
from zoo.encoder import Encoder
from zoo.verify import comparison
from zoo.verify.comparison import PRECISIONS, Fit, compare, compare_common
from zoo.verify.hypotheses import Expectation, Hypothesis, list_hypotheses
from zoo.verify.verdict import ADVICE, Fault, RefusedInputError, Source, Verdict

Array = npt.NDArray[Any]
NEAR_COSINE = 0.3
"""Mean cosine above which vectors that nothing explains are those of other weights of the same model."""
NORM_TOLERANCE = 1e-3
SHORT_INPUTS = 3
"""Inputs on which a hypothesis is tried first."""
USUAL_CHARACTERS = 500
"""A server may refuse longer texts. All canaries but one are shorter."""


class _Explanation(NamedTuple):
    """The hypothesis that explains vectors best, and its vectors (n, d)."""

    hypothesis: Hypothesis
    vectors: Array


def examine(expected: Expectation, source: Source, *, coarsest: str = "int8", asks_alone: bool = True) -> Verdict:
    """Compare a source with a model.

    Args:
        expected: the vectors of the model.
        source: it is asked for all inputs at once, and for each alone if the first answers are not exact.
        coarsest: the name of the coarsest arithmetic that is still the same space.
        asks_alone: whether the source may be asked for inputs alone.

    Raise ZooError if the source does not answer.
    """
    return _Examination(expected, source, coarsest, asks_alone).run()


@dataclass
class _Examination:
    """One comparison."""

    expected: Expectation
    source: Source
    coarsest: str
    asks_alone: bool
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def run(self) -> Verdict:
        together, places = self._ask_together()
        if len(places) < len(self.expected.inputs):
            role, has_prompt = self.expected.role, self.expected.has_prompt
            inputs = [self.expected.inputs[place] for place in places]
            self.expected = Expectation(self.expected.encoder, inputs, role, has_prompt=has_prompt)
        exact = self.expected.vectors
        is_exact = _measure(together, exact).rank == 0
        answered = self._ask_alone() if self.asks_alone and not is_exact else together
        found, fit = self._find_fault(answered)
        self._judge_request(together, answered, fit)
        self._judge_numbers(answered, found, fit)
        self._judge_precision(fit)
        different = len(np.unique(exact.round(6), axis=0))
        if different * 2 < len(exact):
            self.notes.append(
                f"{len(exact)} inputs have only {different} different vectors, so this comparison says little"
            )
        base = _measure(answered, exact)
        return Verdict(
            is_same=not self.faults,
            precision=fit.precision,
            faults=tuple(self.faults),
            notes=tuple(self.notes),
            count=len(answered),
            lowest_cosine=float(base.cosines.min()),
            mean_cosine=float(base.cosines.mean()),
            explained_cosine=None if found is None else float(fit.cosines.min()),
        )

    # -- asking ----------------------------------------------------------------------------------------------------

    def _ask(self, inputs: Sequence[Any]) -> Array:
        prompt = self.expected.prompt if self.expected.has_prompt else ""
        sent = [prompt + item for item in inputs] if prompt else list(inputs)
        vectors = np.asarray(self.source.embed(sent), np.float64)
        if vectors.ndim != 2 or len(vectors) != len(sent):
            raise ZooError(
                f"{self.source.name}: gave an array {vectors.shape} for {len(sent)} inputs, not one vector each"
            )
        if not np.isfinite(vectors).all():
            raise ZooError(
                f"{self.source.name}: gave vectors with NaN or infinity; check its precision and its weights"
            )
        return vectors

    def _ask_together(self) -> tuple[Array, list[int]]:
        """Return the vectors of all inputs, and their places. A server may refuse a long text; it is then left out."""
        inputs = self.expected.inputs
        try:
            return self._ask(inputs), list(range(len(inputs)))
        except RefusedInputError as error:
            places = [place for place, item in enumerate(inputs) if not _is_long(item)]
            if len(places) == len(inputs):
                raise
            vectors = self._ask([inputs[place] for place in places])
            self.notes.append(f"the text that is longer than most limits is refused, and was left out: {error}"[:240])
            return vectors, places

    def _ask_alone(self) -> Array:
        """Return the vectors of inputs that are sent one by one."""
        vectors = [self._ask([item]) for item in self.expected.inputs]
        if len({row.shape for row in vectors}) > 1:
            raise ZooError(f"{self.source.name}: gave vectors with different numbers of components")
        return np.concatenate(vectors)

    # -- judging ---------------------------------------------------------------------------------------------------

    def _add(self, cause: str, detail: str) -> None:
        encoder: Any = self.expected.encoder
        limit = self.expected.states.limit if self.expected.states else "the model's"
        pooling = getattr(getattr(getattr(encoder, "backbone", None), "pooling", None), "pooling_mode", "see its files")
        own = pooling if isinstance(pooling, str) else " and ".join(pooling)
        advice = ADVICE[cause].format(own=own, limit=limit, dim=encoder.dim)
        self.faults.append(Fault(cause, detail, advice))

    def _find_fault(self, answered: Array) -> tuple[_Explanation | None, Fit]:
        """Return the fault that explains the vectors best, and its fit. None if nothing is wrong, or nothing explains them."""
        base = _measure(answered, self.expected.vectors)
        if base.rank == 0:
            return None, base
        found, fit = None, base
        for hypothesis in list_hypotheses(self.expected, answered, base):
            vectors = self._compute(answered, hypothesis)
            if vectors is None:
                continue
            own_fit = _measure(answered, vectors)
            if own_fit.explains_better(fit):
                found, fit = _Explanation(hypothesis, vectors), own_fit
            if fit.rank == 0:
                break
        if found is not None:
            self._add(found.hypothesis.cause, found.hypothesis.detail)
        elif fit.precision is None:
            self._name_unexplained(answered, fit)
        return found, fit

    def _compute(self, answered: Array, hypothesis: Hypothesis) -> Array | None:
        """Return the vectors of a hypothesis. None if it cannot explain those of a few short inputs, which come first."""
        lengths = [len(item) if isinstance(item, str) else 0 for item in self.expected.inputs]
        few = sorted(range(len(lengths)), key=lambda place: lengths[place])[:SHORT_INPUTS]
        first = np.asarray(hypothesis.compute(few), np.float64)
        is_too_narrow = first.shape[1] < min(answered.shape[1], self.expected.vectors.shape[1])
        if is_too_narrow or _measure(answered[few], first).worst > PRECISIONS[-1].worst:
            return None
        return np.asarray(hypothesis.compute(range(len(lengths))), np.float64)

    def _judge_request(self, together: Array, alone: Array, fit: Fit) -> None:
        """Compare the vectors of one request with those of inputs that were sent one by one.

        They may differ as the arithmetic of the server allows, and that of bf16 and int8 differs with the batch.
        """
        if together.shape != alone.shape:
            raise ZooError(f"{self.source.name}: gave vectors with different numbers of components")
        bound = PRECISIONS[min(max(fit.rank, 1), len(PRECISIONS) - 1)]
        if compare(together, alone).worst <= bound.worst:
            return
        order = comparison.find_order(together, alone)
        if order is None:
            self._add("padding", "the vector of an input changes with the other inputs of its request")
            return
        moved = sum(place != number for number, place in enumerate(order))
        self._add("order", f"{moved} of {len(order)} vectors of one request stand at the place of another input")

    def _name_unexplained(self, answered: Array, fit: Fit) -> None:
        """Name the fault of vectors that no hypothesis explains, by which inputs differ and how much."""
        exact = self.expected.vectors
        differs = fit.distances > PRECISIONS[1].worst
        count = len(differs)
        pattern = _find_pattern(self.expected.inputs, differs)
        if pattern is not None:
            cause, detail = pattern
            self._add(cause, f"{differs.sum()} of {count} inputs differ, and they are {detail}")
        elif differs.sum() * 4 <= count * 3:
            self._add("unknown", f"{differs.sum()} of {count} inputs differ, and the others are exact")
        elif answered.shape[1] != exact.shape[1]:
            self._add(
                "model", f"vectors have {answered.shape[1]} components instead of {exact.shape[1]}, and no cut of them"
            )
        elif float(fit.cosines.mean()) >= NEAR_COSINE:
            detail = f"the vectors are near to those of the model, with a mean cosine of {fit.cosines.mean():.2f}"
            self._add("revision", f"{detail}, but no known fault explains them: other weights of the same model")
        else:
            structure = comparison.correlate_structure(answered, exact)
            detail = f"the vectors have nothing in common with those of the model: mean cosine {fit.cosines.mean():.2f}"
            self._add("model", f"{detail}, correlation of the similarities {structure:.2f}")

    def _judge_numbers(self, answered: Array, found: _Explanation | None, fit: Fit) -> None:
        """Look at the number of components, at the norms, and for vectors of whole numbers."""
        vectors = self.expected.vectors if found is None else found.vectors
        if fit.precision is None:
            return
        width, own = answered.shape[1], vectors.shape[1]
        if width != own:
            of_longer = (
                "the first components of each vector" if width < own else "longer vectors, which begin with the model's"
            )
            self._add("dimension", f"{width} components instead of {self.expected.encoder.dim}: {of_longer}")
        is_unit = np.allclose(np.linalg.norm(self.expected.vectors, axis=1), 1, atol=NORM_TOLERANCE)
        norms = np.linalg.norm(answered, axis=1)
        usual = np.ones(len(norms)) if is_unit else np.linalg.norm(vectors[:, :width], axis=1)
        is_known = usual > 0
        ratios = norms[is_known] / usual[is_known]
        if not len(ratios) or np.abs(ratios - 1).max() <= max(NORM_TOLERANCE, 2 * fit.worst):
            return
        is_whole = np.array_equal(answered, np.rint(answered)) and not np.array_equal(vectors, np.rint(vectors))
        if is_whole:
            self._add(
                "quantised vectors", f"all numbers are whole, between {answered.min():.0f} and {answered.max():.0f}"
            )
            return
        expected_norm = "1" if is_unit else f"{usual.min():.3g} to {usual.max():.3g}"
        self._add("normalisation", f"norms are {norms.min():.3g} to {norms.max():.3g} instead of {expected_norm}")

    def _judge_precision(self, fit: Fit) -> None:
        names = [precision.name for precision in PRECISIONS]
        if fit.precision is None or fit.precision == names[0]:
            return
        if fit.rank > names.index(self.coarsest):
            distances = f"at most {fit.worst:.2g}, {fit.distances.mean():.2g} on average"
            self._add("precision", f"distances are as of {fit.precision} arithmetic: {distances}")
        elif not self.faults:
            self.notes.append(
                f"the arithmetic is about as fine as {fit.precision}: distances are at most {fit.worst:.2g}, and "
                f"{fit.distances.mean():.2g} on average; the bounds are {PRECISIONS[fit.rank].worst:g} and "
                f"{PRECISIONS[fit.rank].mean:g}"
            )


def _measure(answered: Array, expected: Array) -> Fit:
    return compare_common(answered, expected)


def _is_long(item: Any) -> bool:
    return isinstance(item, str) and len(item) > USUAL_CHARACTERS


def _find_pattern(inputs: Sequence[Any], differs: npt.NDArray[np.bool_]) -> tuple[str, str] | None:
    """Return the cause and the description of the inputs that differ, if they are exactly those with one property."""
    if not all(isinstance(item, str) for item in inputs) or not 0 < differs.sum() * 2 <= len(differs):
        return None
    shortest = min(len(item) for item, is_other in zip(inputs, differs, strict=True) if is_other)
    properties: tuple[tuple[str, str, Callable[[str], bool]], ...] = (
        ("truncation", f"all those of {shortest} characters or more", lambda text: len(text) >= shortest),
        ("lower-casing", "those with capital letters", lambda text: text != text.lower()),
        ("tokenizer", "those with characters that are not ASCII", lambda text: not text.isascii()),
        ("whitespace", "those with unusual white space", lambda text: text != " ".join(text.split())),
    )
    for cause, description, has_property in properties:
        expected = np.array([has_property(item) for item in inputs])
        is_subset = bool((~differs | expected).all())
        if is_subset and differs.sum() >= 0.6 * expected.sum():
            return cause, description
    return None


def list_inputs(encoder: Encoder) -> list[Any]:
    """Return the inputs that are compared: the texts of the canaries, or its images or vectors for other encoders.

    Raise ZooError for an encoder that cannot encode yet.
    """
    canaries = encoder.make_canaries()
    if not canaries:
        raise ZooError(f"{encoder.name}: cannot encode before it is trained")
    texts = [canary for canary in canaries if canary.kind == "text"]
    return [canary.make_input() for canary in texts or canaries]

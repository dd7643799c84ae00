"""Figures of a space that are followed along a training, so that a collapse is seen while it happens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.core import scikit_dimension
from zoo.core.errors import ZooError
from zoo.core.random_states import preserve_random_state
from zoo.diagnosis.diagnosis import diagnose
from zoo.diagnosis.of_encoder import FloatVectors, list_figures
from zoo.metrics.encoded_rows import choose_inputs
from zoo.metrics.moments import Moments
from zoo.metrics.spectrum import measure_spectrum

if TYPE_CHECKING:
    from zoo.encoder import Encoder

WATCHED_ROWS = 1000
LEAST_ROWS = 10
NEED_NEIGHBOURS = ("intrinsic_dimension", "hubness")
ATTENTION = "attention_entropy"  # the lowest mean of a layer
ATTENTION_TEXTS = 32  # enough to see a collapse; attention is computed step by step, which is slow


@dataclass(frozen=True)
class SpaceWatch:
    """The inputs and the names of the figures; the Trainer's `zoo.training.space.Space`.

    Attributes:
        figures: names of figures, as the task `diagnose` has them.
        inputs: different inputs, the same at every step.
    """

    figures: tuple[str, ...]
    inputs: Sequence[Any]

    def measure(self, encoder: Encoder) -> dict[str, float]:
        """Return the figures of the encoder as it is. {} if it cannot encode yet. Leaves the random state as it was."""
        if not encoder.is_usable():
            return {}
        with preserve_random_state():
            attention = self._measure_attention(encoder) if ATTENTION in self.figures else {}
            if self.figures == (ATTENTION,):
                return attention
            vectors = FloatVectors(encoder).encode(list(self.inputs))
            if set(self.figures) & set(NEED_NEIGHBOURS):
                found = list_figures(diagnose(vectors))
            else:
                found = dict(measure_spectrum(Moments.collect(vectors))._asdict())
        return attention | {name: float(found[name]) for name in self.figures if name in found}

    def _measure_attention(self, encoder: Encoder) -> dict[str, float]:
        from zoo.diagnosis.attention import diagnose_attention

        return {ATTENTION: min(diagnose_attention(encoder, self.inputs[:ATTENTION_TEXTS]).layer_means)}


def make_space_watch(encoder: Encoder, figures: Sequence[str], rows: Any) -> SpaceWatch | None:
    """Return the watch of a training: 1,000 of the rows, drawn with a fixed seed. None without figures.

    Raises ZooError if a library is missing, if the rows hold fewer than ten inputs that the encoder reads alone, and for the
    attention of an encoder that has none.
    """
    if not figures:
        return None
    check_figures(figures)
    inputs = choose_inputs(encoder.spec, rows, WATCHED_ROWS)
    if len(inputs) < LEAST_ROWS:
        raise ZooError(
            f"training.watch: {len(inputs)} different inputs say nothing about a space: give {LEAST_ROWS} rows or more, or "
            "leave it out"
        )
    if ATTENTION in figures:
        from zoo.diagnosis.attention import diagnose_attention

        diagnose_attention(encoder, inputs[:2])
    return SpaceWatch(tuple(figures), inputs)


def check_figures(figures: Sequence[str]) -> None:
    """Raise ZooError if a figure needs a library that is not installed."""
    problem = scikit_dimension.find_problem() if set(figures) & set(NEED_NEIGHBOURS) else ""
    if problem:
        raise ZooError(f"training.watch: {problem}, or leave these figures out: {', '.join(NEED_NEIGHBOURS)}")

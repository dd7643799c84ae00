"""Diagnose an encoder by rows of a table, and the figures of a diagnosis by one name each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.diagnosis.diagnosis import Diagnosis, diagnose
from zoo.metrics.encoded_rows import encode_inputs, find_column
from zoo.metrics.neighbours import draw_rows

if TYPE_CHECKING:
    from datasets import Dataset

    from zoo.encoder import Encoder

NOT_FIGURES = ("nuclear_norm", "matrix_entropy", "mean_norm")
"""They follow from other figures, or say nothing for vectors of norm 1."""


class FloatVectors:
    """An encoder whose vectors are float: bits of codes are -1 and 1."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    def encode(self, inputs: list[Any]) -> Any:
        """Return vectors (n, d) float32."""
        return encode_inputs(self.encoder, inputs)


def diagnose_rows(encoder: Encoder, rows: Dataset, *, most: int, seed: int = 42, name: str = "vectors") -> Diagnosis:
    """Diagnose an encoder by at most `most` rows, drawn by the seed, of the column that it reads."""
    column = find_column(encoder, rows)
    inputs = list(rows.select(draw_rows(len(rows), most, seed))[column])
    return diagnose(FloatVectors(encoder), inputs, neighbours=most, seed=seed, name=name)


def list_figures(found: Diagnosis) -> dict[str, float]:
    """Return the figures of a diagnosis by name, vendi first. Those of neighbours are left out with too few vectors."""
    spectrum = {name: float(value) for name, value in found.spectrum._asdict().items() if name not in NOT_FIGURES}
    figures = {"vendi": spectrum.pop("vendi"), **spectrum}
    neighbourhood = found.neighbourhood
    if neighbourhood is not None:
        figures |= {
            "intrinsic_dimension": neighbourhood.twonn,
            "intrinsic_dimension_mle": neighbourhood.mle,
            "hubness": neighbourhood.hubness,
        }
    return figures | {"equal_vectors": float(found.equal_vectors), "repeated_inputs": float(found.repeated_inputs)}

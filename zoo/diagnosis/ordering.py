"""Order views and runs of one model by a figure without labels. Different models are not ordered.

The order is that of quality for widths. For layers it often is, and for checkpoints it may be the opposite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from zoo.core.errors import ZooError
from zoo.core.suggest import suggest
from zoo.diagnosis.diagnosis import Diagnosis
from zoo.diagnosis.of_encoder import list_figures

if TYPE_CHECKING:
    from zoo.encoder import Encoder

HIGHER_FIRST: Mapping[str, bool] = {
    "vendi": True,
    "rankme": True,
    "rankme_centred": True,
    "participation": True,
    "components_in_use": True,
    "mean_cosine": False,
    "intrinsic_dimension": False,
    "hubness": False,
}
"""Figures by which views can be ordered, and whether the highest comes first."""


def identify(encoder: Encoder) -> str:
    """Return a text that is equal for the views, checkpoints and runs of one model: its section and its backbone."""
    return f"{encoder.spec.model_dump_json()} {encoder.backbone_name or ''}"


def order(found: Sequence[Diagnosis], origins: Sequence[str], figure: str) -> list[Diagnosis]:
    """Return the diagnoses in the order of a figure, the best first.

    Args:
        found: diagnoses of equally many inputs.
        origins: for each diagnosis, the text that `identify` gave.
        figure: a key of HIGHER_FIRST.

    Raises ZooError for an unknown figure, for different models, and if a diagnosis lacks the figure.
    """
    if figure not in HIGHER_FIRST:
        raise ZooError(f"{figure}: views cannot be ordered by it{suggest(figure, HIGHER_FIRST)}")
    if len(set(origins)) > 1:
        raise ZooError(
            f"{figure}: these are {len(set(origins))} different models, and no figure without labels says which is better, "
            "because noise raises a rank; compare them by a few labelled rows: --labels FILE"
        )
    values = [list_figures(one).get(figure) for one in found]
    if None in values:
        raise ZooError(f"{figure}: a view has no such figure; give 100 different inputs or more, and no codes")
    sign = -1 if HIGHER_FIRST[figure] else 1
    return [one for _, one in sorted(zip(values, found, strict=True), key=lambda pair: sign * (pair[0] or 0.0))]

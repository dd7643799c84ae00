"""Handwritten digits of 8 × 8 grey pixels, 1,797 of them by 43 people, as scikit-learn ships them: image, label 0 to 9.

The pixels' 17 levels are spread over 0 to 255; an image is the bytes of a PGM file. The order is that of scikit-learn.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from typing import Any

from zoo.data.formats import image_files
from zoo.data.table import Origin

TABLES = {"digits": ("image", "label")}


def origin() -> Origin:
    """Scikit-learn is always there."""
    return Origin(
        "digits",
        f"scikit-learn {metadata.version('scikit-learn')}",
        "CC BY 4.0",
        "https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
        "Alpaydin, E., and Kaynak, C.: Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998",
    )


def rows(table: str) -> Iterator[dict[str, Any]]:
    """The rows of the only table."""
    from sklearn.datasets import load_digits

    found = load_digits()
    for pixels, label in zip(found.images, found.target, strict=True):
        height, width = pixels.shape
        yield {
            "image": image_files.encoded((pixels * 255 / 16).round().astype("uint8").tobytes(), width, height),
            "label": int(label),
        }

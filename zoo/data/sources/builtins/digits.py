"""Handwritten digits of 8 × 8 grey pixels, 1,797 digits by 43 people, as scikit-learn ships them: image, label 0 to 9.

The 17 levels of the pixels are spread over 0 to 255. An image is the bytes of a PGM file. The order is that of scikit-learn.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from typing import Any

from zoo.data.formats.image_files import encode_pnm
from zoo.data.raw_rows import Origin

EXTRA: str | None = None
TABLES = {"digits": ("image", "label")}
MAX_LEVEL = 16


def describe_origin() -> Origin:
    """Return the origin. scikit-learn is always installed."""
    return Origin(
        name="digits",
        revision=f"scikit-learn {metadata.version('scikit-learn')}",
        licence="CC BY 4.0",
        url="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
        citation="Alpaydin, E., and Kaynak, C.: Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, "
        "1998",
    )


def read_rows(table: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of the only table."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for pixels, label in zip(digits.images, digits.target, strict=True):
        height, width = pixels.shape
        grey = (pixels * 255 / MAX_LEVEL).round().astype("uint8")
        yield {"image": encode_pnm(grey.tobytes(), width, height), "label": int(label)}

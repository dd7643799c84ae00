"""Model folders with everything that the card of a family can show: `SAMPLE` of its card_claims_of_NAME.py, and shared parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import card_claims
import card_folders

_LOSSES = [{"step": step, "loss": 3 / step + 0.25} for step in range(1, 100)]
_LOSSES += [{"step": step, "validation_loss": 2 / step + 0.25} for step in range(20, 100, 20)]
_DATA = {"fingerprint": "d" * 64, "rows": 15_000, "skipped": 0, "origin": {"name": "rows", "licence": "mit"}}
_SHARED: dict[str, Any] = {
    "metrics": _LOSSES,
    "lock": {
        "data": {"train": _DATA, "validation": _DATA, "t": _DATA},
        "packages": {"torch": "2", "numpy": "2"},
        "host": {"cpu": "C", "python": "3"},
        "training_seconds": 734,
        "overlaps": [{"name": "t", "among": "train", "shared": 0, "rows": 9}],
        "mining": card_claims.MINING,
    },
    "card": {"summary": "Finds what belongs together.", "license": "mit", "language": "en"},
    "validation": 0.1,
}


def write_sample(folder: Path, family: str) -> Path:
    """Write the model folder of a family with everything that its card can show, except pictures."""
    return card_folders.write_folder(folder, family, **{**_SHARED, **getattr(card_claims.load(family), "SAMPLE", {})})

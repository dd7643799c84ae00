"""Compare a saved folder with the encoder that wrote it, opened by sentence-transformers' MultiVectorEncoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import sentence_transformers

from zoo.artefact.reopening import TOLERANCE
from zoo.core.errors import ArtefactError
from zoo.ops.token_sets import Floats
from zoo.text.backbone import hide_progress_bars


def open_stock(folder: Path, device: str = "cpu") -> sentence_transformers.MultiVectorEncoder:
    """Open a folder without the network and without code of its own."""
    with hide_progress_bars():
        return sentence_transformers.MultiVectorEncoder(
            str(folder), device=device, local_files_only=True, trust_remote_code=False
        )


def check(folder: Path, texts: Sequence[str], queries: Sequence[Floats], documents: Sequence[Floats]) -> None:
    """Raise ArtefactError unless the folder gives these token vectors (t, d) of the texts as queries and as documents."""
    model = open_stock(folder)
    for role, encode, expected in (
        ("query", model.encode_query, queries),
        ("document", model.encode_document, documents),
    ):
        for text, own in zip(texts, expected, strict=True):
            found = np.asarray(encode([text], convert_to_numpy=True, show_progress_bar=False)[0])
            if found.shape != own.shape or (len(own) and np.abs(found - own).max() > TOLERANCE):
                raise ArtefactError(
                    f"what was written is not what was trained: opened in sentence-transformers, the token vectors of the {role} "
                    f"{text[:40]!r} differ; nothing was published"
                )

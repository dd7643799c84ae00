"""Find the backbone that an adapter was trained on, and no other version of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from zoo.core.errors import ArtefactError
from zoo.hub.fetch import fetch
from zoo.hub.model_references import locate


def find_base(
    reference: str, folder: Path, revision: str, expected: str | None, compute_digest: Callable[[Path], str]
) -> Path:
    """Return the folder of the backbone that an adapter was trained on.

    Args:
        reference: Hub id, folder or package:NAME of the backbone.
        folder: the model folder with the adapter, for messages.
        revision: the commit on the Hub.
        expected: the digest of the weights; None if it is not known.
        compute_digest: computes the digest of the weights in a folder.

    Raises ArtefactError, before any request, for a branch instead of a commit. Raises it too for other weights.
    """
    local = locate(reference)
    if local is None and not re.fullmatch("[0-9a-f]{40}", revision):
        raise ArtefactError(
            f"{folder / 'config.json'}: names the revision {revision[:40]!r} of its backbone {reference[:80]}, which is not a "
            "commit, so its weights could change; do not open this model"
        )
    base = local or fetch(reference, revision)
    digest = compute_digest(base) if expected else None
    if digest != expected:
        raise ArtefactError(
            f"{folder}: the adapter was trained on another version of its backbone {reference}: {str(expected)[:12]}, not "
            f"{str(digest)[:12]}; restore that version or retrain the adapter"
        )
    return base

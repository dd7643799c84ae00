"""The opaque twin of a SESA encoder: the same towers, as many components, trained on the same rows for as long, but without
concepts. What it ranks better is what explanations cost."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.schema import Training
from zoo.training import distributed, trainer

if TYPE_CHECKING:
    from datasets import Dataset

    from zoo.families.sesa.concept_encoder import ConceptEncoder


def trained(
    encoder: ConceptEncoder, rows: Dataset, settings: Training, folder: Path, validation: Dataset | None
) -> ConceptEncoder:
    """Train the twin in `folder`/twin, from its newest checkpoint if there is one."""
    plain = encoder.spec.model_copy(update={"space": "opaque", "held_out": None, "train_baseline": False})
    other = type(encoder).build(plain, seed=encoder.seed, folder=encoder.folder)
    other.tables = dict(encoder.tables)
    other.prepare(rows, folder / "cache")
    own = folder / "twin"
    own.mkdir(parents=True, exist_ok=True)
    trainer.fit(other, rows, settings, own, validation=validation)
    distributed.broadcast_from_main()
    shutil.rmtree(own / "checkpoints", ignore_errors=True)
    return other

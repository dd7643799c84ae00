"""The opaque baseline of a SESA encoder: the same training without concepts.

It has the same towers, as many components, the same rows and as many optimiser steps. The difference between its ranking and
that of the SESA encoder is what explanations cost.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.schema import Training
from zoo.training import distributed

if TYPE_CHECKING:
    from datasets import Dataset

    from zoo.families.sesa.concept_encoder import ConceptEncoder

FOLDER = "twin"  # the name in run folders, so that interrupted runs of earlier versions resume


def train_opaque_baseline(
    encoder: ConceptEncoder, rows: Dataset, settings: Training, folder: Path, validation: Dataset | None
) -> ConceptEncoder:
    """Train the opaque baseline in a folder of the run folder `folder`.

    An interrupted training resumes from its newest checkpoint. The checkpoints are removed at the end.
    """
    share = encoder.unnamed_share
    changes = {"space": "opaque", "held_out": None, "train_baseline": False, "unnamed_share": share}
    spec = encoder.spec.model_copy(update=changes)
    baseline = type(encoder).build(spec, seed=encoder.seed, folder=encoder.folder)
    baseline.tables = dict(encoder.tables)
    baseline.prepare(rows, folder / "cache")
    baseline_folder = folder / FOLDER
    baseline_folder.mkdir(parents=True, exist_ok=True)
    baseline.fit(rows, settings.for_baseline(), baseline_folder, validation=validation)
    distributed.broadcast_from_main()
    shutil.rmtree(baseline_folder / "checkpoints", ignore_errors=True)
    return baseline

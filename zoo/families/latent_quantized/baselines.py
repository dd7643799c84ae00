"""Baselines: the same autoencoder with other kinds of latents, trained and measured on the same rows."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.core import atomic_files
from zoo.families.latent_quantized import card_samples
from zoo.metrics import infomec_of_encoder
from zoo.schema import Training

if TYPE_CHECKING:
    from datasets import Dataset

    from zoo.families.latent_quantized.autoencoder import Autoencoder

FIGURES = ("infom", "infoe", "infoc", "active_latents", "mig", "sap")


def compare_with_baselines(
    encoder: Autoencoder, rows: Dataset, validation: Dataset, settings: Training, folder: Path
) -> dict[str, Any]:
    """Figures on the validation rows: `own` for `encoder`, and `baselines` by kind of latent.

    A baseline whose figures are already in `folder` is not trained again.
    """
    figures: dict[str, dict[str, float]] = {}
    for latent in encoder.spec.baselines:
        path = folder / latent / "figures.json"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            baseline = train_baseline(encoder, latent, rows, settings, path.parent)
            atomic_files.write_json(path, compute_figures(baseline, validation))
            shutil.rmtree(path.parent / "checkpoints", ignore_errors=True)
        figures[latent] = atomic_files.read_json(path)
    return {"own": compute_figures(encoder, validation), "baselines": figures}


def train_baseline(encoder: Autoencoder, latent: str, rows: Dataset, settings: Training, folder: Path) -> Autoencoder:
    """Train the autoencoder with latents of the kind `latent` on the same rows, in `folder`."""
    change: dict[str, Any] = {"latent": latent, "baselines": (), "sources": ()}
    spec = encoder.spec.model_copy(update=change)
    baseline = type(encoder).build(spec, seed=encoder.seed, folder=encoder.folder)
    baseline.prepare(rows, folder)
    baseline.fit(rows, settings.for_baseline(), folder, validation=None)
    baseline.spec = spec.model_copy(update={"sources": encoder.spec.sources})
    return baseline


def compute_figures(encoder: Autoencoder, rows: Dataset) -> dict[str, float]:
    """InfoMEC and related measures on `rows`, which hold the sources, and the reconstruction `error`."""
    measures, _ = infomec_of_encoder.measure(encoder, {"data": rows}, encoder.spec.sources)
    inputs = list(rows.select(range(min(len(rows), card_samples.SAMPLE_ROWS)))[encoder.spec.modality])
    return {name: measures[name] for name in FIGURES} | {"error": card_samples.compute_error(encoder, inputs)}

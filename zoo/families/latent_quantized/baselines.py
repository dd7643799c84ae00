"""The same autoencoder with other kinds of latents, trained on the same rows and measured on the same ones."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset

from zoo.core import atomic_files
from zoo.families.latent_quantized import card_samples
from zoo.metrics import infomec_of_encoder
from zoo.schema import Training

if TYPE_CHECKING:
    from zoo.families.latent_quantized.autoencoder import Autoencoder

FIGURES = ("infom", "infoe", "infoc", "active_latents", "mig", "sap")


def compared(
    encoder: Autoencoder, rows: Dataset, validation: Dataset, settings: Training, folder: Path
) -> dict[str, Any]:
    """Figures on the validation rows: `own`, and `baselines` by kind of latent, each of which is trained once a `folder`."""
    out: dict[str, dict[str, float]] = {}
    for kind in encoder.spec.baselines:
        path = folder / kind / "figures.json"
        if not path.exists():
            change: dict[str, Any] = {"latent": kind, "baselines": (), "sources": ()}
            twin = type(encoder).build(encoder.spec.model_copy(update=change), seed=encoder.seed, folder=encoder.folder)
            twin.prepare(rows, path.parent)
            path.parent.mkdir(parents=True, exist_ok=True)
            twin.fit(rows, settings, path.parent, validation=None)
            twin.spec = twin.spec.model_copy(update={"sources": encoder.spec.sources})
            atomic_files.write_json(path, figures(twin, validation))
            shutil.rmtree(path.parent / "checkpoints", ignore_errors=True)
        out[kind] = atomic_files.read_json(path)
    return {"own": figures(encoder, validation), "baselines": out}


def figures(encoder: Autoencoder, rows: Dataset) -> dict[str, float]:
    """InfoMEC and its neighbours of `rows`, which hold the sources, and the error of reconstruction."""
    found, _ = infomec_of_encoder.measure(encoder, {"data": rows}, encoder.spec.sources)
    shown = list(rows.select(range(min(len(rows), card_samples.ROWS)))[encoder.spec.modality])
    return {name: found[name] for name in FIGURES} | {"error": card_samples.error(encoder, shown)}

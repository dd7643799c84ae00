"""What a card shows of an autoencoder: a traversal of every latent, reconstructions, the codebook and how it is used."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Dataset

from zoo.data.formats import image_files
from zoo.data.split import draw_positions
from zoo.families.latent_quantized import quantizers

if TYPE_CHECKING:
    from zoo.families.latent_quantized.autoencoder import Autoencoder

ROWS = 2048  # training rows that are looked at
SHOWN, PAIRS = 16, 10  # latents and values of a traversal; reconstructions
KEPT = ("error", "usage", "values", "traversal", "pairs", "own", "baselines")
"""Facts that a folder keeps."""


def facts(encoder: Autoencoder, rows: Dataset) -> dict[str, Any]:
    """Error of reconstruction; of indices how often each is taken; of images the pictures, as base64 of an image file."""
    held = list(rows.select(draw_positions(len(rows), ROWS))[encoder.spec.modality])
    codes = encoder.encode(held)
    between: Any = encoder.module["latent"]
    found: dict[str, Any] = {"error": error(encoder, held)}
    if encoder.spec.discrete and encoder.spec.latents <= 64:
        counts = [np.bincount(column, minlength=n) for column, n in zip(codes.T, between.sizes, strict=True)]
        found["usage"] = [(c / len(codes)).round(4).tolist() for c in counts] if max(between.sizes) <= 64 else None
        if isinstance(between, quantizers.ScalarQuantizer):
            found["values"] = [v.detach().cpu().numpy().round(4).tolist() for v in between.values]
    if encoder.spec.modality == "image":
        inputs = encoder._blocks(held[:PAIRS])
        shown = next(iter(inputs)).numpy().transpose(0, 2, 3, 1).squeeze(-1 if encoder.spec.channels == 1 else ())
        found["pairs"] = packed([shown, encoder.decode(codes[:PAIRS])])
        lines = [encoder.traverse(held[0], j)[:SHOWN] for j in range(min(SHOWN, encoder.spec.latents))]
        found["traversal"] = packed(lines)
    return {name: value for name, value in found.items() if value is not None}


def error(encoder: Autoencoder, inputs: list[Any]) -> float:
    """Mean squared error of reconstructions: of images with pixels from 0 to 1; of vectors as a share of their variance."""
    given = np.concatenate([block.numpy() for block in encoder._blocks(inputs)]).astype(np.float64)
    found = np.concatenate(
        [encoder.reconstruct(inputs[at : at + ROWS]).astype(np.float64) for at in range(0, len(inputs), ROWS)]
    )
    if encoder.spec.modality == "image":
        found = found[:, None] if found.ndim == 3 else found.transpose(0, 3, 1, 2)
        return float(((given - found) ** 2).mean() / 255**2)
    return float(((given - found) ** 2).sum() / max(((given - given.mean(0)) ** 2).sum(), 1e-12))


def packed(lines: list[np.ndarray]) -> str:
    """Lines of images (n, h, w[, 3]) uint8 side by side and below each other, as base64: PNG of grey ones, else JPEG."""
    height, width, *colour = lines[0].shape[1:]
    sheet = np.full((len(lines) * (height + 2), max(map(len, lines)) * (width + 2), *colour), 255, dtype=np.uint8)
    for i, line in enumerate(lines):
        for j, image in enumerate(line):
            sheet[i * (height + 2) : i * (height + 2) + height, j * (width + 2) : j * (width + 2) + width] = image
    file = io.BytesIO()
    picture = image_files.import_pillow().fromarray(sheet)
    picture.save(file, "JPEG", quality=88) if colour else picture.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()

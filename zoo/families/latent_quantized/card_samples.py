"""The samples that the card of an autoencoder shows: a traversal of every latent, reconstructions, the codebook and its usage."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.data.formats import image_files
from zoo.data.split import draw_positions
from zoo.families.latent_quantized import quantizers
from zoo.families.latent_quantized.plots import MARGIN

if TYPE_CHECKING:
    from datasets import Dataset

    from zoo.families.latent_quantized.autoencoder import Autoencoder

SAMPLE_ROWS = 2048  # training rows that the facts are computed from
TRAVERSALS = 16  # largest number of latents, and of values of each, in the traversal
RECONSTRUCTIONS = 10
USAGE_LIMIT = 64  # largest number of latents, and of values of each, whose usage is recorded
FACT_NAMES = ("error", "usage", "values", "traversal", "pairs", "own", "baselines")
"""Facts that a model folder keeps."""


def collect_facts(encoder: Autoencoder, rows: Dataset) -> dict[str, Any]:
    """Compute the facts by name, as JSON-able values.

    `error` is the reconstruction error. With indices, `usage` holds the share of rows that take each value, and `values` the
    scalars. For images, `pairs` and `traversal` are base64 image files.
    """
    inputs = list(rows.select(draw_positions(len(rows), SAMPLE_ROWS))[encoder.spec.modality])
    codes = encoder.encode(inputs)
    facts: dict[str, Any] = {"error": compute_error(encoder, inputs)} | _describe_codebook(encoder, codes)
    if encoder.spec.modality == "image":
        blocks = encoder.read_blocks(inputs[:RECONSTRUCTIONS])
        originals = next(iter(blocks)).numpy().transpose(0, 2, 3, 1)
        originals = originals.squeeze(-1 if encoder.spec.channels == 1 else ())
        facts["pairs"] = pack_images([originals, encoder.decode(codes[:RECONSTRUCTIONS])])
        latents = range(min(TRAVERSALS, encoder.spec.latents))
        facts["traversal"] = pack_images([encoder.traverse(inputs[0], latent)[:TRAVERSALS] for latent in latents])
    return facts


def _describe_codebook(encoder: Autoencoder, codes: np.ndarray) -> dict[str, Any]:
    quantizer = encoder.bottleneck
    if not isinstance(quantizer, quantizers.Quantizer) or encoder.spec.latents > USAGE_LIMIT:
        return {}
    facts: dict[str, Any] = {}
    if max(quantizer.sizes) <= USAGE_LIMIT:
        counts = [np.bincount(column, minlength=n) for column, n in zip(codes.T, quantizer.sizes, strict=True)]
        facts["usage"] = [(count / len(codes)).round(4).tolist() for count in counts]
    if isinstance(quantizer, quantizers.ScalarQuantizer):
        facts["values"] = [scalars.detach().cpu().numpy().round(4).tolist() for scalars in quantizer.values]
    return facts


def compute_error(encoder: Autoencoder, inputs: list[Any]) -> float:
    """Mean squared error of the reconstructions of `inputs`.

    For images, pixels count from 0 to 1. For vectors, the error is divided by the variance of the inputs.
    """
    originals = np.concatenate([block.numpy() for block in encoder.read_blocks(inputs)]).astype(np.float64)
    parts = [inputs[start : start + SAMPLE_ROWS] for start in range(0, len(inputs), SAMPLE_ROWS)]
    reconstructions = np.concatenate([encoder.reconstruct(part).astype(np.float64) for part in parts])
    if encoder.spec.modality == "image":
        is_grey = reconstructions.ndim == 3
        reconstructions = reconstructions[:, None] if is_grey else reconstructions.transpose(0, 3, 1, 2)
        return float(((originals - reconstructions) ** 2).mean() / 255**2)
    deviations = ((originals - originals.mean(0)) ** 2).sum()
    return float(((originals - reconstructions) ** 2).sum() / max(deviations, 1e-12))


def pack_images(lines: list[np.ndarray]) -> str:
    """Arrange lines of images in one sheet, and return it as a base64 image file.

    Each line is (n, height, width[, 3]) uint8. The file is a PNG if the images are grey, else a JPEG.
    """
    height, width, *colour = lines[0].shape[1:]
    cell_height, cell_width = height + MARGIN, width + MARGIN
    shape = (len(lines) * cell_height, max(map(len, lines)) * cell_width, *colour)
    sheet = np.full(shape, 255, dtype=np.uint8)
    for i, line in enumerate(lines):
        for j, image in enumerate(line):
            top, left = i * cell_height, j * cell_width
            sheet[top : top + height, left : left + width] = image
    file = io.BytesIO()
    picture = image_files.import_pillow().fromarray(sheet)
    if colour:
        picture.save(file, "JPEG", quality=88)
    else:
        picture.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()

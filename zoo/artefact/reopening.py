"""Open a model folder that was just written, and compare what it computes with the encoder that wrote it.

A library may lose a setting when it saves, for example that texts are made lower case. The folder would then give other vectors
than those that were trained and measured. So a folder is opened again, as a stranger would, before it is published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.core import faults
from zoo.core.errors import ArtefactError, ZooError

TEXTS = (
    "THE UPPER CASE, and Capitals",
    "accents: café, naïve, Ångström, e\u0301cole",
    "  spaces   in\tand around,\nand a second line  ",
    "emoji 😀 👩‍👩‍👧 and 漢字, кириллица, 123.45",
    "one long text " + "with many words " * 200,
    "a",
)
TOLERANCE = 1e-5
HALF_TOLERANCE = 2e-2
"""Largest difference of two vectors that were computed in bf16 or fp16."""


def make_images() -> list[Any]:
    """Make images of several sizes: noise, a gradient in colours, and a grey one. The same at every call."""
    noise = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    gradient = np.stack([np.add.outer(np.arange(64), np.arange(64) * shade) % 256 for shade in (1, 2, 3)], axis=-1)
    return [noise, gradient.astype(np.uint8), noise[..., 0].copy()]


def check(encoder: Any, folder: Path, block: Mapping[str, Any]) -> None:
    """Raise ArtefactError unless `folder` gives the encoder's own token ids and vectors.

    The folder is opened by the encoder's class. If it claims to open in stock sentence-transformers, it is opened there too.

    Args:
        encoder: the encoder that wrote the folder.
        folder: the folder.
        block: the `zoo` section of its config.json.
    """
    probes = encoder.make_probes()
    vectors = _encode_each(encoder, probes)
    reopened = _reopen(encoder, folder, block)
    device, tolerance = _find_device(encoder), _find_tolerance(encoder)
    if device is not None:
        reopened.module.to(device)
    texts = [probe for probe in probes if isinstance(probe, str)]
    _compare_ids(encoder.list_token_ids(texts), reopened.list_token_ids(texts), texts, "zoo")
    _compare_vectors(vectors, _encode_each(reopened, probes), probes, tolerance, "zoo")
    stock_folder = encoder.find_stock_folder(folder)
    places = [place for place, probe in enumerate(probes) if isinstance(probe, str) and encoder.is_read_by_stock(probe)]
    if stock_folder is not None and places:
        stock_texts = [probes[place] for place in places]
        _check_stock(stock_folder, stock_texts, vectors[places], str(device or "cpu"), tolerance)


def _encode_each(encoder: Any, probes: Sequence[Any]) -> Any:
    """Encode the probes one at a time. Together, a short one may be padded to the length of the longest."""
    return np.concatenate([np.asarray(encoder.encode([probe])) for probe in probes])


def _reopen(encoder: Any, folder: Path, block: Mapping[str, Any]) -> Any:
    try:
        return type(encoder).load(type(encoder.spec).model_validate(block["spec"]), folder, block)
    except ZooError as error:
        raise ArtefactError(f"the model folder does not open again: {error}; nothing was published") from error


def _check_stock(folder: Path, texts: Sequence[str], vectors: Any, device: str, tolerance: float) -> None:
    import sentence_transformers
    import transformers

    logging: Any = transformers.utils.logging
    were_shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model = sentence_transformers.SentenceTransformer(
            str(folder), device=device, local_files_only=True, trust_remote_code=False
        )
        stock_vectors = np.asarray(model.encode(list(texts), show_progress_bar=False, batch_size=1))
    except ImportError:  # the stock library needs a package that is not installed here, for example torchvision
        return
    except Exception as error:  # the library raises many types
        faults.refuse_full_memory(error, "sentence-transformers cannot open the model folder")
        raise ArtefactError(
            f"the model folder does not open in sentence-transformers: {type(error).__name__}: {str(error)[:200]}; nothing was "
            "published"
        ) from error
    finally:
        if were_shown:
            logging.enable_progress_bar()
    _compare_vectors(vectors, stock_vectors, texts, tolerance, "sentence-transformers")


def _compare_ids(expected: Any, stored: Any, texts: Sequence[str], opener: str) -> None:
    for text, ids, stored_ids in zip(texts, expected or [], stored or [], strict=False):
        if list(ids) != list(stored_ids):
            raise ArtefactError(
                f"what was written is not what was trained: opened in {opener}, {text[:40]!r} becomes other tokens; the "
                "tokenizer has a setting that its files do not hold; nothing was published"
            )


def _compare_vectors(expected: Any, stored: Any, probes: Sequence[Any], tolerance: float, opener: str) -> None:
    if expected.shape != stored.shape:
        raise ArtefactError(
            f"what was written is not what was trained: opened in {opener}, vectors have the shape {stored.shape[1:]} instead of "
            f"{expected.shape[1:]}; nothing was published"
        )
    differences = np.abs(expected.astype(np.float64) - stored.astype(np.float64)).reshape(len(expected), -1).max(1)
    worst = int(differences.argmax())
    if not differences[worst] <= tolerance:
        probe = probes[worst]
        name = repr(probe[:40]) if isinstance(probe, str) else f"an image of {getattr(probe, 'shape', 'two parts')}"
        raise ArtefactError(
            f"what was written is not what was trained: opened in {opener}, the vector of {name} differs by "
            f"{differences[worst]:.2g}, more than {tolerance:g}; nothing was published"
        )


def _find_device(encoder: Any) -> Any:
    """Return the device of the encoder's own module, or None for the CPU."""
    module = encoder.__dict__.get("module")
    parameter = next(module.parameters(), None) if module is not None else None
    return None if parameter is None or parameter.device.type == "cpu" else parameter.device


def _find_tolerance(encoder: Any) -> float:
    module = encoder.__dict__.get("module")
    is_half = module is not None and any(parameter.element_size() == 2 for parameter in module.parameters())
    return HALF_TOLERANCE if is_half else TOLERANCE

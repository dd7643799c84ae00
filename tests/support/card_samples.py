"""Records with everything that a card of each family shows, and the pictures of each."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import card_folders
import numpy as np
from card_claims import RESULT
from PIL import Image

from zoo import families


def _encode_image(*shape: int) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _with_details(**details: Any) -> dict[str, Any]:
    verdict = {
        "sentence": "This is better than the best free baseline, by 0.1 (95 % interval 0.05 to 0.15).",
        "low": 0.05,
    }
    result = RESULT | {"figures": {"accuracy": 0.5, "ece": 0.125}, "details": details, "verdict": verdict}
    free = {"t": [{"name": "tfidf", "value": 0.25}, {"name": "lsa", "value": 0.125}]}
    return {"report": {"results": [result], "free_baselines": free, "host": {"cpu": "C", "cores": 2, "device": "cpu"}}}


def _make_grid() -> list[dict[str, Any]]:
    return [
        RESULT
        | {
            "task": "icd10cm-terms", "metric": "ndcg_at_10", "view": {"layers": layers, "dim": dim}, "bytes_per_vector": 4 * dim,
            "value": 0.3 + 0.05 * layers + 0.0005 * dim, "baseline": 0.1 + 0.0625 * layers, "sentences_per_second": 3000 / layers,
        }
        for layers in range(1, 7)
        for dim in (32, 64, 128, 256, 384)
    ]  # fmt: skip


_LOSSES = [{"step": step, "loss": 3 / step + 0.25} for step in range(1, 100)]
_LOSSES += [{"step": step, "validation_loss": 2 / step + 0.25} for step in range(20, 100, 20)]
_TOPICS = [{"label": f"Certain diseases of kind {n}", "keywords": ["a", "b"], "documents": 3} for n in range(22)]
_MAP = np.random.default_rng(0).uniform(-1, 1, (222, 2)).round(3).tolist()
_ITEMS = [{"text": "arrow-left", "image": _encode_image(32, 32, 3), "right": number == 1} for number in range(5)]
_CUTS = [
    RESULT | {"view": {"dim": dim} if dim < 256 else {}, "sentences_per_second": 1000.0 - dim} for dim in (256, 64)
]

SAMPLES: dict[str, dict[str, Any]] = {
    "binary-pv": {
        "facts": {"words": 9000, "real": 300, "variant": "real-binary", "lsa_start": True},
        "metrics": [{"step": step, "loss": 9 / step, "phase": "vectors"} for step in range(1, 9)],
    },
    "equiangular": {
        "facts": {
            "gram": np.full((40, 40), 0.125).tolist(), "coherence": 0.25, "welch": 0.125, "dim": 128,
            "names": [f"class {n}" for n in range(3)], "twin": {"equiangular": {"top 1": 0.5}, "softmax": {"top 1": 0.25}},
        },
        "zoo": {"threshold": 0.5},
        **_with_details(
            confusion=(np.eye(10, dtype=int) * 30 + 1).tolist(), classes=[f"a class called {n}" for n in range(10)],
            calibration=[[0.5, 0.25, 10], [0.75, 0.75, 20], [0.9, 0.9, 30]],
        ),
    },
    "latent-quantized": {
        "facts": {
            "values": [[0.0, 0.5, 1.0]] * 10, "usage": [[0.5, 0.5, 0.0]] * 10, "sizes": [3] * 10, "error": 0.125, "bits": 15.8,
            "traversal": _encode_image(180, 108), "pairs": _encode_image(108, 180), "shape": [1, 16, 16],
            "own": {"error": 0.5}, "baselines": {"gaussian": {"error": 0.25}},
        },
        **_with_details(
            nmi=(np.eye(6, 10) * 0.75).tolist(), sources=["floor hue", "wall hue", "object hue", "scale", "shape", "angle"],
            active=[True] * 8 + [False] * 2,
        ),
    },
    "lbl2vec": {
        "facts": {
            "topics": _TOPICS, "dim": 384,
            "map": {"labels": _MAP[:22], "documents": [[*point, n % 22] for n, point in enumerate(_MAP[22:])]},
        },
    },
    "matryoshka-2d": {
        "facts": {"layers": 6, "dim": 384, "dims": [32, 64, 128, 256, 384], "max_length": 256},
        "results": _make_grid(),
    },
    "sesa": {
        "facts": {
            "deletion": {"explained": [0.75, 0.5, 0.25], "random": [0.75, 0.75, 0.625]}, "deleted_more": 0.75, "pairs": 8,
            "examples": [{"a": "x", "b": "y", "score": 0.5, "parts": [{"name": "c", "share": 0.25}]}],
            "reliable": [{"name": "c", "precision": 0.5, "texts": 4}],
            "unreliable": [{"name": "d", "precision": 0.25, "texts": 4}],
            "ranking": {"concepts": [0.5, 0.5, 0.5], "opaque": [0.5, 0.5, 0.5]},
        },
    },
    "static": {"facts": {"dims": [64, 256], "dim": 256, "tokens": 30000, "regression_texts": 40000}, "results": _CUTS},
    "vlm2vec": {
        "facts": {"dim": 64, "parameters_total": 99, "instructions": {"query": "Find:"}, "architecture": "idefics3"},
        **_with_details(retrieved=[{"query": {"text": "an arrow that points to the left"}, "found": _ITEMS}] * 6),
    },
}  # fmt: skip
"""The parts of `card_folders.write_folder` by family."""
_DATA = {"fingerprint": "d" * 64, "rows": 15_000, "skipped": 0, "origin": {"name": "rows", "licence": "mit"}}
_LOCK = {
    "data": {"train": _DATA, "validation": _DATA, "t": _DATA},
    "packages": {"torch": "2", "numpy": "2"},
    "host": {"cpu": "C", "python": "3"},
    "training_seconds": 734,
    "overlaps": [{"name": "t", "among": "train", "shared": 0, "rows": 9}],
}


def write_sample(folder: Path, family: str, **parts: Any) -> Path:
    """Write the model folder of a family with everything that its card can show, except pictures."""
    card = {"summary": "Finds what belongs together.", "license": "mit", "language": "en"}
    defaults = {"metrics": _LOSSES, "lock": _LOCK, "card": card, "validation": 0.1}
    return card_folders.write_folder(folder, family, **{**defaults, **SAMPLES[family], **parts})


assert list(SAMPLES) == families.names()

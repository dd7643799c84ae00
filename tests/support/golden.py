"""Model folders as they were once written: tests/golden/FAMILY. They are never rewritten, since what was published stays.

python tests/support/golden.py FAMILY      adds the one of a new family
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).parents[1] / "golden"


def write(family: str) -> Path:
    """Train the tiny encoder of the family's own tests and keep it, some inputs and their vectors."""
    import contract

    from zoo.artefact import model_folder

    folder = GOLDEN / family
    if folder.exists():
        raise SystemExit(f"{folder} is there: what was written once must load for ever, so it is not written again")
    with tempfile.TemporaryDirectory() as scratch:
        told = contract.load_contract(family, Path(scratch))
        encoder = contract.train(told, Path(scratch) / "run")
        encoder.name = f"golden-{family}"
        model_folder.save(encoder, folder / "model")
        inputs, vectors = told.inputs[:8], encoder.encode(told.inputs[:8])
    if isinstance(inputs[0], str):
        (folder / "inputs.json").write_text(json.dumps(inputs, indent=1, default=_pixels) + "\n")
    else:
        np.save(folder / "inputs.npy", np.stack([np.asarray(each) for each in inputs]))
    np.save(folder / "vectors.npy", vectors)
    return folder


def _pixels(image: np.ndarray) -> dict[str, Any]:
    return {"shape": image.shape, "pixels": image.tobytes().hex()}


def _array(held: dict[str, Any]) -> Any:
    """An image as it was, and any other mapping of an input."""
    return np.frombuffer(bytes.fromhex(held["pixels"]), np.uint8).reshape(held["shape"]) if "pixels" in held else held


def read(family: str) -> tuple[list[Any], np.ndarray]:
    """Inputs and the vectors that they had."""
    folder = GOLDEN / family
    told = folder / "inputs.json"
    if told.exists():
        inputs = json.loads(told.read_text(), object_hook=_array)
    else:
        inputs = list(np.load(folder / "inputs.npy", allow_pickle=False))
    return inputs, np.load(folder / "vectors.npy", allow_pickle=False)


if __name__ == "__main__":
    sys.stdout.write(f"{write(sys.argv[1])}\n")

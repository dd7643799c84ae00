"""Model folders that older versions wrote: tests/golden/FAMILY. They are never written again, since published models stay.

python tests/support/golden.py FAMILY      adds the model folder of a new family
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
    """Train the tiny encoder of a family's own tests and store it with some inputs and their vectors."""
    import contract

    from zoo.artefact import model_folder

    folder = GOLDEN / family
    if folder.exists():
        raise SystemExit(
            f"{folder} exists: a model that was written once must load for ever, so it is not written again"
        )
    with tempfile.TemporaryDirectory() as scratch:
        family_contract = contract.load_contract(family, Path(scratch))
        encoder = contract.train(family_contract, Path(scratch) / "run")
        encoder.name = f"golden-{family}"
        model_folder.save(encoder, folder / "model")
        inputs = family_contract.inputs[:8]
        vectors = encoder.encode(inputs)
    if isinstance(inputs[0], str):
        (folder / "inputs.json").write_text(json.dumps(inputs, indent=1, default=encode_image) + "\n")
    else:
        np.save(folder / "inputs.npy", np.stack([np.asarray(item) for item in inputs]))
    np.save(folder / "vectors.npy", vectors)
    return folder


def encode_image(image: np.ndarray) -> dict[str, Any]:
    """Turn an image into values that JSON can hold."""
    return {"shape": image.shape, "pixels": image.tobytes().hex()}


def decode_image(mapping: dict[str, Any]) -> Any:
    """Turn a mapping back into an image; return any mapping that is not an image as it is."""
    if "pixels" not in mapping:
        return mapping
    return np.frombuffer(bytes.fromhex(mapping["pixels"]), np.uint8).reshape(mapping["shape"])


def read(family: str) -> tuple[list[Any], np.ndarray]:
    """Read the inputs and the vectors that the older version computed for them."""
    folder = GOLDEN / family
    json_file = folder / "inputs.json"
    if json_file.exists():
        inputs = json.loads(json_file.read_text(), object_hook=decode_image)
    else:
        inputs = list(np.load(folder / "inputs.npy", allow_pickle=False))
    return inputs, np.load(folder / "vectors.npy", allow_pickle=False)


if __name__ == "__main__":
    sys.stdout.write(f"{write(sys.argv[1])}\n")

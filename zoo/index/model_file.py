"""model.json of an index: the encoder, the columns, and how vectors are stored, and the codec that follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.core import atomic_files
from zoo.core.errors import ArtefactError, ZooError
from zoo.index import arrays, faiss_codec, folder, identity
from zoo.index.column_kinds import KINDS
from zoo.index.faiss_codec import FaissCodec, FaissType
from zoo.index.folder import Change, Manifest
from zoo.index.rows import Layout
from zoo.index.shard import Codec

if TYPE_CHECKING:
    from zoo.after.step import CodeStep, ScoreStep
    from zoo.encoder import Encoder


@dataclass(frozen=True)
class ModelFile:
    """The content of model.json.

    Attributes:
        encoder: the record of the encoder, see `identity.describe_encoder`.
        layout: the columns.
        long: how long texts are encoded.
        code: the kind of codec, and its fields.
    """

    encoder: Mapping[str, Any]
    layout: Layout
    long: str
    code: Mapping[str, Any]

    def write(self, path: Path) -> None:
        """Write the file."""
        content = {"encoder": self.encoder, "rows": asdict(self.layout), "long": self.long, "code": self.code}
        atomic_files.write_json(path, content)

    @classmethod
    def read(cls, path: Path) -> ModelFile:
        """Read the file. Raise ArtefactError for anything else."""
        try:
            content = atomic_files.read_json_object(path)
            rows = content["rows"]
            columns = {str(name): str(kind) for name, kind in rows["columns"].items()}
            if not KINDS.keys() >= set(columns.values()):
                raise ValueError("a column is of an unknown kind")
            layout = Layout(tuple(rows["texts"]), rows["image"], rows["id"], columns)
            return cls(content["encoder"], layout, content["long"], content["code"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtefactError(f"{path}: cannot be read ({str(error)[:80]}); build the index again") from None


def find_code_step(encoder: Encoder) -> CodeStep | None:
    """Return the step of an encoder that turns vectors into codes, or None."""
    from zoo.after.step import CodeStep

    return next((step for step in getattr(encoder, "steps", ()) if isinstance(step, CodeStep)), None)


def require_code_step(encoder: Encoder) -> CodeStep:
    """Return the step of an encoder that turns vectors into codes. Raise ZooError if it has no such step."""
    step = find_code_step(encoder)
    if step is None:
        raise ZooError("code: the model has no step that makes codes; leave --code out, or train with `after:`")
    return step


def find_score_step(encoder: Encoder) -> ScoreStep | None:
    """Return the step of an encoder that turns scores into probabilities, or None."""
    from zoo.after.step import ScoreStep

    return next((step for step in getattr(encoder, "steps", ()) if isinstance(step, ScoreStep)), None)


def require_score_step(path: Path, sha256: str | None, encoder: Encoder) -> None:
    """Raise ArtefactError unless the encoder's step that makes probabilities is the one of a hybrid map.

    Args:
        path: the folder of the index, for the message.
        sha256: the hash of the step, or None for a map that needs no step.
    """
    step = find_score_step(encoder)
    if sha256 is not None and (step is None or identity.hash_step(step) != sha256):
        raise ArtefactError(f"{path}: the step `relevance` of the model is another one; run --fit-hybrid again")


def write_faiss_parts(change: Change, codec: FaissCodec, sample: arrays.Vectors) -> dict[str, str]:
    """Write the trained index and the ranges, and return their roles and names."""
    from safetensors.numpy import save_file

    faiss = faiss_codec.import_faiss()
    parts = {"trained": change.name_file("trained", ".faiss"), "ranges": change.name_file("trained", ".safetensors")}
    faiss.write_index(codec.trained, str(change.folder / parts["trained"]))
    mean = np.ascontiguousarray(sample.mean(0, keepdims=True), np.float32)
    save_file({"ranges": np.ascontiguousarray(codec.ranges), "mean": mean}, change.folder / parts["ranges"])
    return parts


def open_codec(
    path: Path, manifest: Manifest, model: ModelFile, encoder: Encoder | None, *, checks: bool = True
) -> Codec:
    """Return the codec of an index.

    Args:
        encoder: needed only for codes of a step after training.
        checks: whether files are held against the manifest.

    Raise ArtefactError if the encoder's step is another, or a file was altered.
    """
    code, dim = model.code, int(model.encoder["dim"])
    if code["kind"] == "float32":
        return arrays.make_float_codec(dim)
    if code["kind"] == "bits":
        return arrays.make_bit_codec(dim)
    if code["kind"] == "step":
        assert encoder is not None  # `Index.open` opens it for such codes
        step = require_code_step(encoder)
        if identity.hash_step(step) != code["sha256"]:
            raise ArtefactError(f"{path}: the step that makes codes is another one; build the index again")
        return arrays.make_step_codec(step)
    return _open_faiss_codec(path, manifest, code, checks=checks)


def _open_faiss_codec(path: Path, manifest: Manifest, code: Mapping[str, Any], *, checks: bool) -> FaissCodec:
    from safetensors.numpy import load_file

    faiss = faiss_codec.import_faiss()
    names = [manifest.parts["trained"], manifest.parts["ranges"]]
    trained, ranges = (folder.check_file(path, manifest, name) if checks else path / name for name in names)
    kind = FaissType(int(code["bits"]), int(code["lists"]))
    return FaissCodec(kind, faiss.read_index(str(trained)), load_file(ranges)["ranges"], int(code["probes"]))


def compute_drift(codec: FaissCodec, mean: arrays.Vectors, vectors: arrays.Vectors) -> float:
    """Return the mean squared distance of vectors (n, d) to the nearest point for which the index was trained."""
    centroids = faiss_codec.get_centroids(codec.trained, mean)
    total = 0.0
    for start in range(0, len(vectors), arrays.BLOCK):
        block = vectors[start : start + arrays.BLOCK]
        products = block @ centroids.T
        squares = (block**2).sum(1)[:, None] - 2 * products + (centroids**2).sum(1)
        total += float(squares.min(1).sum())
    return total / max(1, len(vectors))

"""Let a text encoder encode with ONNX Runtime, OpenVINO, or the engine that is fastest here, behind the same `encode`.

A graph is written by `zoo.deploy.write`, which compares it with the exact engine first, and is kept in `graph_cache`. Views that
differ in their number of components alone share a graph.
"""

from __future__ import annotations

from pathlib import Path

from zoo import pretrained
from zoo.core.errors import ZooError
from zoo.deploy.engine_names import MAX_LOSS, check_engine
from zoo.deploy.engine_source import Engines
from zoo.encoder import Encoder
from zoo.hub import model_references
from zoo.text.text_encoder import TextEncoder


def open_encoder(
    reference: str | Path, revision: str | None = None, *, engine: str = "torch", max_loss: float = MAX_LOSS
) -> Encoder:
    """Open a model as `zoo.from_pretrained` does, and let an engine encode.

    Args:
        reference, revision: as in `zoo.from_pretrained`.
        engine: torch, onnx, openvino, or auto.
        max_loss: the largest loss in mean cosine of the engine and the precision that `auto` chooses.

    Raises ZooError for an unknown engine, for one that is not installed, and for a family that encodes with torch only.
    """
    check_engine(engine, max_loss)
    encoder = pretrained.from_pretrained(reference, revision)
    if engine == "torch":
        return encoder
    if not isinstance(encoder, TextEncoder) or not encoder.has_engines:
        if engine == "auto":
            return encoder
        raise ZooError(f"engine: {engine}: the family {encoder.spec.family} encodes with torch only; leave it out")
    source = model_references.locate(str(reference))
    encoder.engines = Engines(encoder, reference if source is None else source, revision, engine, max_loss)
    encoder.default_precision = "auto" if engine == "auto" else "fp32"
    return encoder


def freeze(encoder: Encoder) -> None:
    """Let an encoder make no more graphs, which would take seconds of a request. Torch computes what has no graph yet."""
    source = getattr(encoder, "engines", None)
    if isinstance(source, Engines):
        source.freeze()

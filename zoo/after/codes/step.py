"""The step `codes`: a code of few bits for each vector, fitted to one model's vectors."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from zoo.after.codes.coder import Coder, Head
from zoo.after.codes.fit import fit_best_coder
from zoo.after.codes.spec import Spec
from zoo.after.material import Material, Vectors
from zoo.after.step import Codes, CodeStep
from zoo.core.errors import ArtefactError, ZooError
from zoo.ops import codes, scalar_quantisers

Tensors = Mapping[str, npt.NDArray[Any]]

BLOCK = 8192  # vectors that are encoded or decoded at once
NORM_BYTES = 2
PARTS = ("rotation", "offset", "decoder", "bias")


class Step(CodeStep):
    """Vectors to codes and back.

    A code stands for the direction of its vector; with `norm`, also for its length. A decoded vector has length 1, or that of
    the vector. Scores are inner products with queries: the vectors themselves, what the head makes of them, or with
    `symmetric` decoded vectors as well.

    Attributes:
        coder: the fitted tensors.
        facts: figures of the fit on held-out queries.
    """

    spec: Spec

    def __init__(self, spec: Spec, dim: int, coder: Coder, facts: dict[str, Any]) -> None:
        self.spec, self.dim, self.facts = spec, dim, facts
        self.coder = coder.requires_grad_(False)
        self._exact_coder = copy.deepcopy(self.coder).double()

    @classmethod
    def fit(cls, spec: Spec, material: Material) -> Self:
        """Fit rotation, bits, levels and decoder, and train them if there are queries.

        Raises ZooError if the documents are fewer than their components, or if `goal: task` has no pairs.
        """
        coder, facts = fit_best_coder(spec, material)
        return cls(spec, material.documents.shape[1], coder, facts)

    @property
    def bytes_per_vector(self) -> int:
        """Bytes of one code."""
        return -(-self.spec.total_bits // 8) + NORM_BYTES * self.spec.norm

    def encode(self, vectors: Vectors) -> Codes:
        """Return packed codes (n, bytes_per_vector) uint8 of float32 vectors (n, dim)."""
        self._require(vectors, self.dim, "vectors")
        blocks = [self._encode_block(vectors[start : start + BLOCK]) for start in range(0, len(vectors), BLOCK)]
        return np.concatenate(blocks) if blocks else np.zeros((0, self.bytes_per_vector), np.uint8)

    def _encode_block(self, vectors: Vectors) -> Codes:
        rows = torch.from_numpy(np.asarray(vectors, np.float64))
        packed = codes.pack_numbers(self._exact_coder.encode(rows), self.coder.widths)
        if self.spec.norm:
            norms = rows.norm(dim=1).numpy().clip(max=np.finfo("<f2").max).astype("<f2")
            packed = np.concatenate([packed, norms[:, None].view(np.uint8)], axis=1)
        return packed

    def decode(self, codes: Codes) -> Vectors:
        """Return the float32 vectors (n, d) of codes (n, bytes_per_vector)."""
        self._require(codes, self.bytes_per_vector, "codes")
        blocks = [self._decode_block(codes[start : start + BLOCK]) for start in range(0, len(codes), BLOCK)]
        return np.concatenate(blocks) if blocks else np.zeros((0, len(self.coder.bias)), np.float32)

    def _decode_block(self, packed: Codes) -> Vectors:
        size = self.bytes_per_vector - NORM_BYTES * self.spec.norm
        decoded: Vectors = self.coder.decode(codes.unpack_numbers(packed[:, :size], self.coder.widths)).numpy()
        if self.spec.norm:
            decoded = decoded * np.ascontiguousarray(packed[:, size:]).view("<f2").astype(np.float32)
        return decoded

    def transform_queries(self, vectors: Vectors) -> Vectors:
        """Return the float32 queries (m, d) that are compared with decoded vectors."""
        if self.spec.symmetric:
            return self.decode(self.encode(vectors))
        self._require(vectors, self.dim, "vectors")
        if self.coder.head is None:
            return vectors
        with torch.no_grad():
            transformed: Vectors = self.coder.transform(torch.from_numpy(np.asarray(vectors, np.float32))).numpy()
        return transformed

    def _require(self, rows: npt.NDArray[Any], width: int, name: str) -> None:
        if rows.ndim != 2 or rows.shape[1] != width:
            raise ZooError(
                f"the step codes takes {name} of shape (n, {width}), not {rows.shape}: use those of its model"
            )

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """The rotation, the decoder, the levels without padding, the bits of each component, and the head."""
        saved = {name: getattr(self.coder, name).numpy() for name in PARTS}
        levels = self.coder.levels
        saved |= {"levels": levels[levels.isfinite()].numpy(), "widths": self.coder.widths.astype(np.uint8)}
        head = self.coder.head
        saved |= {f"head.{name}": part.detach().numpy() for name, part in head.named_parameters()} if head else {}
        return saved

    def state(self) -> dict[str, Any]:
        """The figures of the fit."""
        return {"facts": self.facts}

    @classmethod
    def from_saved(cls, spec: Spec, tensors: Tensors, state: Mapping[str, Any]) -> Self:
        """Open a fitted step. Raises ArtefactError for a missing, extra or mis-shaped tensor."""
        shapes = _list_shapes(spec, tensors)
        if shapes.keys() != tensors.keys():
            names = ", ".join(sorted(shapes.keys() ^ tensors.keys()))
            raise ArtefactError(f"the tensors of the step codes are not those that it saves; these differ: {names}")
        for name, shape in shapes.items():
            tensor = tensors[name]
            if tensor.shape != shape or (name != "widths" and not np.isfinite(tensor).all()):
                raise ArtefactError(f"the tensor {name} of the step codes must hold finite numbers (shape {shape})")
        widths = tensors["widths"].astype(np.int64)
        parts = {name: torch.from_numpy(np.array(tensors[name], np.float32)) for name in PARTS}
        parts["levels"] = _pad_levels(tensors["levels"], widths)
        head = None
        if "head.matrix" in shapes:
            head = Head(torch.zeros(shapes["head.matrix"]), spec.hidden if spec.head == "residual" else None)
            for name, part in head.named_parameters():
                part.data = torch.from_numpy(np.array(tensors[f"head.{name}"], np.float32))
        dim = shapes["head.matrix"][1] if head else shapes["bias"][0]
        return cls(spec, dim, Coder(head, parts, widths), dict(state.get("facts", {})))

    def card_facts(self) -> dict[str, Any]:
        """Bytes of a code, bits of its components, and the figures on held-out queries."""
        widths, counts = np.unique(self.coder.widths, return_counts=True)
        components = {f"{width} bits": int(count) for width, count in zip(widths, counts, strict=True)}
        return {"bytes_per_vector": self.bytes_per_vector, "components": components, **self.facts}


def _list_shapes(spec: Spec, tensors: Tensors) -> dict[str, tuple[int, ...]]:
    """Return the shape that each tensor must have, as the widths of the components and the matrix of the head imply it."""
    widths = tensors.get("widths", np.zeros(0, np.uint8))
    is_sound = widths.ndim == 1 and widths.dtype == np.uint8 and len(widths) > 0
    if not is_sound or not 1 <= widths.min() <= widths.max() <= scalar_quantisers.LARGEST_WIDTH:
        raise ArtefactError(
            f"the tensor widths of the step codes must hold 1 to {scalar_quantisers.LARGEST_WIDTH} bits for each component"
        )
    if int(widths.sum()) != spec.total_bits:
        raise ArtefactError(f"the components of the step codes have {int(widths.sum())} bits, not {spec.total_bits}")
    bias, matrix = (tensors.get(name, np.zeros((0,) * rank)) for name, rank in (("bias", 1), ("head.matrix", 2)))
    count, size, has_head = len(widths), bias.size, "head.matrix" in tensors
    shapes: dict[str, tuple[int, ...]] = {
        "widths": (count,),
        "levels": (int((1 << widths.astype(np.int64)).sum()),),
        "rotation": (count, size),
        "offset": (count,),
        "decoder": (size, count),
        "bias": (size,),
    }
    if has_head or spec.goal == "task" or spec.head == "residual" or spec.compatible_with:
        dim = matrix.shape[1] if matrix.ndim == 2 else 0
        shapes["head.matrix"] = (size, dim)
        if spec.head == "residual":
            hidden = spec.hidden
            shapes |= {"head.inner": (hidden, dim), "head.inner_bias": (hidden,), "head.outer": (size, hidden)}
    return shapes


def _pad_levels(levels: npt.NDArray[Any], widths: npt.NDArray[np.int64]) -> torch.Tensor:
    """Return levels (k, 2^b) with +inf after the last one of a component, of the levels of all components in a row."""
    counts = 1 << widths
    padded = np.full((len(widths), counts.max()), np.inf, np.float32)
    padded[np.arange(counts.max()) < counts[:, None]] = levels
    return torch.from_numpy(padded)

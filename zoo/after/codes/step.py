"""The step `codes`: a code of few bits for each vector, fitted to one model's vectors."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from zoo.after.checks import check_codes, check_tensors, check_vectors, find_dim
from zoo.after.codes.coder import Coder, Head
from zoo.after.codes.fit import fit_best_coder
from zoo.after.codes.spec import Spec
from zoo.after.material import Material, Vectors
from zoo.after.step import Codes, CodeStep
from zoo.core.errors import ArtefactError
from zoo.ops import codes, scalar_quantisers

Tensors = Mapping[str, npt.NDArray[Any]]

NAME = "codes"
BLOCK = 8192  # vectors that are encoded or decoded at once
NORM_BYTES = 2
PARTS = ("rotation", "offset", "decoder", "bias")
LEVELS, TRELLIS_LEVELS = "levels", "trellis_levels"


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
        rows = check_vectors(vectors, self.dim)
        blocks = [self._encode_block(rows[start : start + BLOCK]) for start in range(0, len(rows), BLOCK)]
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
        rows = check_codes(codes, self.bytes_per_vector)
        blocks = [self._decode_block(rows[start : start + BLOCK]) for start in range(0, len(rows), BLOCK)]
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
        rows = check_vectors(vectors, self.dim, "queries")
        if self.coder.head is None:
            return rows
        with torch.no_grad():
            transformed: Vectors = self.coder.transform(torch.from_numpy(rows)).numpy()
        return transformed

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """The rotation, the decoder, the levels without padding, the bits of each component, and the head.

        Levels of a trellis have a name of their own, so that a version that has no trellis refuses them.
        """
        saved = {name: getattr(self.coder, name).numpy() for name in PARTS}
        levels = self.coder.levels
        name = TRELLIS_LEVELS if self.coder.has_trellis else LEVELS
        saved |= {name: levels[levels.isfinite()].numpy(), "widths": self.coder.widths.astype(np.uint8)}
        head = self.coder.head
        saved |= {f"head.{name}": part.detach().numpy() for name, part in head.named_parameters()} if head else {}
        return saved

    def state(self) -> dict[str, Any]:
        """The figures of the fit."""
        return {"facts": self.facts}

    @classmethod
    def from_saved(cls, spec: Spec, tensors: Tensors, state: Mapping[str, Any]) -> Self:
        """Open a fitted step. Raises ArtefactError for a missing, extra or mis-shaped tensor.

        The name of the levels says how values are rounded, because folders of older versions have no `rounding`.
        """
        spec = spec.model_copy(update={"rounding": "nearest" if LEVELS in tensors else "trellis"})
        checked = check_tensors(NAME, tensors, _list_expected(spec, tensors))
        widths = checked["widths"].astype(np.int64)
        parts = {name: torch.from_numpy(np.array(checked[name])) for name in PARTS}
        has_trellis = spec.rounding == "trellis"
        levels = checked[TRELLIS_LEVELS if has_trellis else LEVELS]
        parts["levels"] = _pad_levels(levels, widths + has_trellis)
        head = None
        if "head.matrix" in checked:
            hidden = spec.hidden if spec.head == "residual" else None
            head = Head(torch.zeros(checked["head.matrix"].shape), hidden)
            head.load_state_dict(
                {name: torch.from_numpy(np.array(checked[f"head.{name}"])) for name in head.state_dict()}
            )
        dim = head.matrix.shape[1] if head else len(checked["bias"])
        return cls(spec, dim, Coder(head, parts, widths, spec.rounding), dict(state.get("facts", {})))

    def card_facts(self) -> dict[str, Any]:
        """Bytes of a code, bits of its components, and the figures on held-out queries."""
        widths, counts = np.unique(self.coder.widths, return_counts=True)
        components = {f"{width} bits": int(count) for width, count in zip(widths, counts, strict=True)}
        return {"bytes_per_vector": self.bytes_per_vector, "components": components, **self.facts}


def _list_expected(spec: Spec, tensors: Tensors) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Return shape and dtype of each tensor, as the bits of the components and the matrix of the head imply them."""
    count, size = find_dim(NAME, tensors, "widths"), find_dim(NAME, tensors, "bias")
    widths = tensors["widths"].astype(np.int64)
    largest = scalar_quantisers.LARGEST_WIDTH
    if not 1 <= widths.min() <= widths.max() <= largest or widths.sum() != spec.total_bits:
        raise ArtefactError(
            f"the step {NAME} needs {spec.total_bits} bits in components of 1 to {largest}; fit it again"
        )
    has_trellis = spec.rounding == "trellis"
    shapes: dict[str, tuple[int, ...]] = {
        TRELLIS_LEVELS if has_trellis else LEVELS: (int((1 << widths + has_trellis).sum()),),
        "rotation": (count, size),
        "offset": (count,),
        "decoder": (size, count),
        "bias": (size,),
    }
    if spec.has_head:
        matrix = tensors.get("head.matrix")
        dim = matrix.shape[1] if matrix is not None and matrix.ndim == 2 else 0
        shapes["head.matrix"] = (size, dim)
        if spec.head == "residual":
            hidden = {"inner": (spec.hidden, dim), "inner_bias": (spec.hidden,), "outer": (size, spec.hidden)}
            shapes |= {f"head.{name}": shape for name, shape in hidden.items()}
    return {"widths": ((count,), np.uint8), **{name: (shape, np.float32) for name, shape in shapes.items()}}


def _pad_levels(levels: npt.NDArray[Any], widths: npt.NDArray[np.int64]) -> torch.Tensor:
    """Return levels (k, 2^w) with +inf after the last one of a component, of the 2^w levels of all components in a row."""
    counts = 1 << widths
    padded = np.full((len(widths), counts.max()), np.inf, np.float32)
    padded[np.arange(counts.max()) < counts[:, None]] = levels
    return torch.from_numpy(padded)

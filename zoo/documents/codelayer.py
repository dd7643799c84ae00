"""Codes on top of paragraph vectors: logits whose rounded sigmoids predict the words of a document.

The logits start as the paragraph vectors themselves, centred and turned so that their signs say most (iterative quantisation),
and are then trained with rounding in the forward pass and the sigmoid's gradient in the backward pass. From logits drawn at
random the rounding learns far worse codes.

Source: Grzegorczyk and Kurdziel, "Binary Paragraph Vectors", arXiv 1611.01116, section 2; Gong and Lazebnik, "Iterative
Quantization: A Procrustean Approach to Learning Binary Codes", CVPR 2011, section 3.
"""

from __future__ import annotations

from typing import Protocol

import torch

from zoo.documents.corpus import Batch
from zoo.ops import codes

ENOUGH = 50_000  # rows that the turn is found on


class Engine(Protocol):
    """`zoo.documents.loops.Loops` or `zoo.documents.chunked.Chunked`."""

    def learn(
        self, batch: Batch, state: dict[str, torch.Tensor], rates: tuple[float, float], seed: int, scale: float = 0.0
    ) -> float:
        """A pass that changes documents and words; returns the loss."""

    def infer(
        self, batch: Batch, state: dict[str, torch.Tensor], rates: list[float], seed: int, scale: float = 0.0
    ) -> float:
        """Passes that change documents alone; returns the loss."""


def start(state: dict[str, torch.Tensor], bits: int, seed: int) -> dict[str, torch.Tensor]:
    """What the codes add to the tensors of trained paragraph vectors with dim >= bits.

    Returns "centre" (dim,) and "projection" (dim, bits), which make logits of vectors; "code_scale" (1,), by which a sign
    stands for a logit; "code_documents" (n, bits); "code_outputs" and, where there are word vectors, "code_inputs" (V, bits).
    """
    documents = state["documents"]
    lengths = documents.norm(dim=1, keepdim=True)
    there = documents[lengths[:, 0] > 0]
    some = torch.randperm(len(there), generator=torch.Generator().manual_seed(seed))[:ENOUGH]
    unit = torch.nn.functional.normalize(there[some.to(there.device)].double(), dim=1)
    centre = unit.mean(0)
    turn = codes.iterative_quantisation(unit - centre, bits, seed)
    made = {"centre": centre.float(), "projection": (turn * lengths.double().mean()).float()}
    logits = _logits(documents, made)
    made |= {"code_documents": logits, "code_scale": logits.abs().mean().reshape(1)}
    for name in ("outputs", "inputs"):
        if name in state:
            made[f"code_{name}"] = (state[name].double() @ turn).float()
    return made


def learn(engine: Engine, batch: Batch, state: dict[str, torch.Tensor], rates: tuple[float, float], seed: int) -> float:
    """A pass that changes the logits and the words' part in them, in place; returns the loss."""
    return engine.learn(batch, _coded(state), rates, seed, float(state["code_scale"]))


def infer(
    engine: Engine, batch: Batch, rows: torch.Tensor, state: dict[str, torch.Tensor], rates: list[float], seed: int
) -> torch.Tensor:
    """(m, bits) logits of the documents of `batch` whose inferred vectors are `rows` (m, dim)."""
    logits = _logits(rows, state)
    engine.infer(batch, {**_coded(state), "documents": logits}, rates, seed, float(state["code_scale"]))
    return logits


def _logits(rows: torch.Tensor, state: dict[str, torch.Tensor]) -> torch.Tensor:
    return (torch.nn.functional.normalize(rows, dim=1) - state["centre"]) @ state["projection"]


def _coded(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix("code_"): tensor for name, tensor in state.items() if name.startswith("code_")}

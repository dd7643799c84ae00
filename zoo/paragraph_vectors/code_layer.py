"""Codes on top of paragraph vectors: logits whose rounded sigmoids predict the words of a document.

The logits start where the words of a document are, and from there are trained with rounding in the forward pass and the
sigmoid's gradient in the backward pass. From logits drawn at random the rounding learns far worse codes. The start: the mean
of the document's word vectors, rare ones counting more, without what all documents have in common; drawn towards the training
documents near it, which `anchors` stand for; turned so that the signs say most (iterative quantisation).

Source: Grzegorczyk and Kurdziel, "Binary Paragraph Vectors", arXiv 1611.01116, section 2, for the training; the start is none
of theirs: Arora et al., "A Simple but Tough-to-Beat Baseline for Sentence Embeddings", ICLR 2017; Liu et al., "Hashing with
Graphs", ICML 2011; Gong and Lazebnik, "Iterative Quantization: A Procrustean Approach to Learning Binary Codes", CVPR 2011.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch

from zoo.ops import codes
from zoo.paragraph_vectors import anchors
from zoo.paragraph_vectors.corpus import Batch

ENOUGH = 50_000  # rows that anchors and turn are found on
MOST_ANCHORS = 1000
RATE = 0.1  # of the learning rate: at the whole, the start would be lost before the rounding has settled


class Engine(Protocol):
    """`zoo.paragraph_vectors.cpu_engine.CpuEngine` or `zoo.paragraph_vectors.gpu_engine.GpuEngine`."""

    def learn(
        self, batch: Batch, state: dict[str, torch.Tensor], rates: tuple[float, float], seed: int, scale: float = 0.0
    ) -> float:
        """A pass that changes documents and words; returns the loss."""

    def infer(
        self, batch: Batch, state: dict[str, torch.Tensor], rates: list[float], seed: int, scale: float = 0.0
    ) -> float:
        """Passes that change documents alone; returns the loss."""


def many(documents: int) -> int:
    """Anchors of a collection: one for ten documents, at most a thousand."""
    return max(1, min(MOST_ANCHORS, documents // 10))


def start(
    state: Mapping[str, torch.Tensor], bits: int, seed: int, *, length: float, context: bool
) -> dict[str, torch.Tensor]:
    """What the codes add to the tensors of trained paragraph vectors with dim >= bits.

    Args:
        state: "documents" (n, dim) are the means of `word_means`; "outputs" and "inputs" as trained.
        length: of a vector beside which "outputs" were trained.
        context: also make code vectors of the words around, for PV-DM.

    Returns "centre" (dim,), "anchors" (k, dim), "middle" (dim,) and "projection" (dim, bits), which make logits of means;
    "code_scale" (1,), by which a sign stands for a logit; "code_documents" (n, bits); "code_outputs" and "code_inputs"
    (V, bits).
    """
    documents = state["documents"]
    there = documents[documents.norm(dim=1) > 0]
    some = torch.randperm(len(there), generator=torch.Generator().manual_seed(seed))[:ENOUGH]
    unit = torch.nn.functional.normalize(there[some.to(there.device)], dim=1)
    made = {"centre": unit.mean(0)}
    apart = torch.nn.functional.normalize(unit - made["centre"], dim=1)
    made["anchors"] = anchors.centres(apart, many(len(documents)), seed)
    drawn = anchors.pulled(apart, made["anchors"]).double()
    middle = drawn.mean(0)
    turn = codes.fit_iterative_quantisation(drawn - middle, bits, seed)
    made |= {"middle": middle.float(), "projection": (turn * length).float()}
    logits = _logits(documents, made)
    made |= {"code_documents": logits, "code_scale": logits.abs().mean().reshape(1)}
    for name in ("outputs", *(["inputs"] if context else [])):
        made[f"code_{name}"] = (state[name].double() @ turn).float()
    return made


def word_means(batch: Batch, words: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """(m, dim) sums of the unit vectors of each document's words, of `words` (V, dim), by `weights` (V,); their length says
    nothing."""
    used, places = torch.unique(torch.from_numpy(batch.tokens).to(words.device), return_inverse=True)
    rows = torch.nn.functional.normalize(words[used], dim=1) * weights[used, None]
    starts = torch.from_numpy(batch.starts).to(words.device)
    return torch.nn.functional.embedding_bag(places, rows, starts, mode="sum")


def vectors(means: torch.Tensor, state: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """(m, dim) unit vectors whose turn makes the logits, of word means (m, dim); of a mean of zero, zero."""
    normal = torch.nn.functional.normalize
    found = [
        anchors.pulled(normal(normal(some, dim=1) - state["centre"], dim=1), state["anchors"])
        for some in means.split(4096)
    ]
    return torch.cat(found) * (means.norm(dim=1, keepdim=True) > 0)


def learn(engine: Engine, batch: Batch, state: dict[str, torch.Tensor], rates: tuple[float, float], seed: int) -> float:
    """A pass that changes the logits and the words' part in them, in place; returns the loss."""
    return engine.learn(batch, _coded(state), (rates[0] * RATE, rates[1] * RATE), seed, float(state["code_scale"]))


def infer(
    engine: Engine, batch: Batch, rows: torch.Tensor, state: dict[str, torch.Tensor], rates: list[float], seed: int
) -> torch.Tensor:
    """(m, bits) logits of the documents of `batch` whose word means are `rows` (m, dim)."""
    logits = _logits(rows, state)
    slow = [rate * RATE for rate in rates]
    engine.infer(batch, {**_coded(state), "documents": logits}, slow, seed, float(state["code_scale"]))
    return logits


def _logits(means: torch.Tensor, state: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return (vectors(means, state) - state["middle"]) @ state["projection"]


def _coded(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix("code_"): tensor for name, tensor in state.items() if name.startswith("code_")}

"""Codes on top of paragraph vectors: logits whose rounded sigmoids predict the words of a document.

Training rounds the logits in the forward pass and uses the gradient of the sigmoid in the backward pass. If the logits start
at random values, training with rounding learns far worse codes. They therefore start in three steps:

1. Take the mean of the document's word vectors, in which rare words count more, without the part that all documents share.
2. Pull the mean towards the training documents near it, for which `anchors` stand. Small collections have no anchors.
3. Rotate the result so that signs keep most of it (iterative quantisation).

Source: Grzegorczyk and Kurdziel, "Binary Paragraph Vectors", arXiv 1611.01116, section 2, for the training. The start is not
from that paper. Step 1 is from Arora et al., "A Simple but Tough-to-Beat Baseline for Sentence Embeddings", ICLR 2017. Step 2 is
from Liu et al., "Hashing with Graphs", ICML 2011. Step 3 is from Gong and Lazebnik, "Iterative Quantization: A Procrustean
Approach to Learning Binary Codes", CVPR 2011.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn.functional import embedding_bag, normalize

from zoo.ops import codes
from zoo.paragraph_vectors.anchors import compute_anchors, pull_towards_anchors
from zoo.paragraph_vectors.corpus import Batch
from zoo.paragraph_vectors.engine import Engine

MAX_SAMPLE = 50_000  # documents from which anchors and rotation are computed
MIN_ANCHORS, MAX_ANCHORS = 300, 1000
MIN_DOCUMENTS = 2000  # of a small corpus: fewer documents have no anchors, which would merge small classes
RATE_SCALE = 0.1  # of the learning rate: at the full rate, the start would be lost before the rounding has settled

Tensors = Mapping[str, torch.Tensor]


def initialise(
    tensors: Tensors, bits: int, seed: int, *, word_length: float, is_dm: bool, is_small: bool
) -> dict[str, torch.Tensor]:
    """Compute the tensors that codes add to those of trained paragraph vectors with dim >= bits.

    Args:
        tensors: "documents" (n, dim) are the means of `compute_word_means`; "outputs" and "inputs" as trained.
        word_length: mean length of the vectors beside which "outputs" were trained.
        is_small: leave out the anchors of few documents.
        is_dm: also compute code vectors of the context words, for PV-DM.

    Returns "centre" (dim,), "anchors" (k, dim), "middle" (dim,) and "projection" (dim, bits), which turn means into logits;
    "code_scale" (1,), the size of the logit for which a sign stands; "code_documents" (n, bits); "code_outputs" and, for PV-DM,
    "code_inputs" (V, bits).
    """
    documents = tensors["documents"]
    non_empty = documents[documents.norm(dim=1) > 0]
    sample = torch.randperm(len(non_empty), generator=torch.Generator().manual_seed(seed))[:MAX_SAMPLE]
    unit = normalize(non_empty[sample.to(non_empty.device)], dim=1)
    centre = unit.mean(0)
    centred = normalize(unit - centre, dim=1)
    count = count_anchors(len(documents), is_small)
    anchors = compute_anchors(centred, count, seed) if count else centred.new_zeros(0, centred.shape[1])
    pulled = (pull_towards_anchors(centred, anchors) if len(anchors) else centred).double()
    middle = pulled.mean(0)
    rotation = codes.fit_iterative_quantisation(pulled - middle, bits, seed)
    code_tensors = {"centre": centre, "anchors": anchors, "middle": middle.float()}
    code_tensors["projection"] = (rotation * word_length).float()
    logits = _compute_logits(documents, code_tensors)
    code_tensors |= {"code_documents": logits, "code_scale": logits.abs().mean().reshape(1)}
    for name in ("outputs", "inputs") if is_dm else ("outputs",):
        code_tensors[f"code_{name}"] = (tensors[name].double() @ rotation).float()
    return code_tensors


def count_anchors(documents: int, is_small: bool = False) -> int:
    """Return the number of anchors: one for ten documents, at least 1 and at most MAX_ANCHORS.

    A small corpus has none for fewer than MIN_DOCUMENTS, and otherwise at least MIN_ANCHORS.
    """
    if is_small and documents < MIN_DOCUMENTS:
        return 0
    return max(MIN_ANCHORS if is_small else 1, min(MAX_ANCHORS, documents // 10))


def compute_word_means(
    batch: Batch, words: torch.Tensor, weights: torch.Tensor, *, keeps_lengths: bool = False
) -> torch.Tensor:
    """Compute (m, dim) weighted sums of the vectors of each document's words, which become unit vectors unless `keeps_lengths`.

    `words` is (V, dim), `weights` (V,). Only the direction of a sum has a meaning; a document without words gets zeros.
    """
    used_rows, places = torch.unique(torch.from_numpy(batch.tokens).to(words.device), return_inverse=True)
    used = words[used_rows] if keeps_lengths else normalize(words[used_rows], dim=1)
    weighted = used * weights.to(words.device)[used_rows, None]
    starts = torch.from_numpy(batch.starts).to(words.device)
    return embedding_bag(places, weighted, starts, mode="sum")


def compute_start_vectors(means: torch.Tensor, tensors: Tensors) -> torch.Tensor:
    """Compute the (m, dim) unit vectors whose projection is the logits, from word means (m, dim); zeros stay zeros."""
    return torch.cat([compute_start_block(block, tensors) for block in torch.split(means, 4096)])


def compute_start_block(means: torch.Tensor, tensors: Tensors) -> torch.Tensor:
    """Compute the vectors of `compute_start_vectors` for few enough documents, with operations that a graph has."""
    vectors, anchors = normalize(normalize(means, dim=1) - tensors["centre"], dim=1), tensors["anchors"]
    if len(anchors):
        vectors = pull_towards_anchors(vectors, anchors)
    start_vectors: torch.Tensor = vectors * (means.norm(dim=1, keepdim=True) > 0)
    return start_vectors


def train(engine: Engine, batch: Batch, tensors: Tensors, rates: tuple[float, float], seed: int) -> float:
    """Make one pass that changes the logits of documents and the code vectors of words in place; return the loss."""
    scaled_rates = rates[0] * RATE_SCALE, rates[1] * RATE_SCALE
    return engine.train(batch, _select_code_tensors(tensors), scaled_rates, seed, float(tensors["code_scale"]))


def infer(
    engine: Engine, batch: Batch, means: torch.Tensor, tensors: Tensors, rates: list[float], seed: int
) -> torch.Tensor:
    """Infer the (m, bits) logits of the documents of `batch` from their word means (m, dim)."""
    logits = _compute_logits(means, tensors)
    scaled_rates = [rate * RATE_SCALE for rate in rates]
    code_tensors = _select_code_tensors(tensors) | {"documents": logits}
    engine.infer(batch, code_tensors, scaled_rates, seed, float(tensors["code_scale"]))
    return logits


def _compute_logits(means: torch.Tensor, tensors: Tensors) -> torch.Tensor:
    return (compute_start_vectors(means, tensors) - tensors["middle"]) @ tensors["projection"]


def _select_code_tensors(tensors: Tensors) -> dict[str, torch.Tensor]:
    """Return the tensors of the codes under the names that an engine expects."""
    prefix = "code_"
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

"""The inference of `ParagraphVectors` as torch modules that can be exported: word rows of texts to vectors, or to packed codes.

The gradient steps are those of `step_graph`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import embedding, normalize, pad

from zoo.paragraph_vectors import code_layer
from zoo.paragraph_vectors.sampling import SamplingTables
from zoo.paragraph_vectors.step_graph import GradientSteps

if TYPE_CHECKING:
    from zoo.paragraph_vectors.model import ParagraphVectors


class WordMeans(torch.nn.Module):
    """Word rows to weighted sums (batch, dim) of the words' unit vectors. Unknown words count nothing.

    Args:
        words: (words, dim) float32.
        weights: (words,) float32.
        keeps_lengths: whether words have vectors of different lengths, as in `code_layer.compute_word_means`.
    """

    weighted: torch.Tensor

    def __init__(self, words: torch.Tensor, weights: torch.Tensor, *, keeps_lengths: bool = False) -> None:
        super().__init__()
        words = words if keeps_lengths else normalize(words, dim=1)
        self.register_buffer("weighted", pad(words * weights[:, None], [0, 0, 0, 1]))

    def forward(self, ids: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Return the sums of ids (batch, tokens) whose `known` is 1."""
        return (embedding(ids, self.weighted) * known[:, :, None]).sum(1)


class CodeGraph(torch.nn.Module):
    """Word rows of texts to packed codes (batch, ceil(bits / 8)) uint8, or to the unit vectors that the codes start from.

    Args:
        model: trained with codes.
        is_real: whether the unit vectors are returned.
        epochs: passes over each text; None for as many as in training.
    """

    def __init__(self, model: ParagraphVectors, *, is_real: bool, epochs: int | None = None) -> None:
        super().__init__()
        state, settings = model.state, model.settings
        self.unknown, self.bits = len(model.vocabulary), settings.bits
        weights = torch.from_numpy(model.compute_word_weights())
        words = torch.as_tensor(model.word_vectors)
        self.means = WordMeans(words, weights, keeps_lengths=settings.lsa_share > 0)
        for name in ("centre", "anchors", "middle", "projection"):
            self.register_buffer(name, state[name])
        self.register_buffer("bit_values", torch.tensor([128, 64, 32, 16, 8, 4, 2, 1]))
        self.steps = None
        if not is_real:
            tables = SamplingTables.from_vocabulary(model.vocabulary, settings.sample, settings.negatives)
            rates = settings.compute_inference_rates(epochs or settings.code_epochs)
            scaled_rates = [rate * code_layer.RATE_SCALE for rate in rates]
            options = (settings.negatives, scaled_rates, settings.seed, float(state["code_scale"]))
            inputs = state["code_inputs"] if settings.is_dm else None
            self.steps = GradientSteps(state["code_outputs"], tables, *options, inputs, settings.window)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the codes, or the vectors; zeros for a text without a known word."""
        own: Any = dict(self.named_buffers(recurse=False))
        known = attention_mask * (input_ids < self.unknown)
        vectors = code_layer.compute_start_block(self.means(input_ids, known), own)
        if self.steps is None:
            return vectors
        logits = self.steps((vectors - own["middle"]) @ own["projection"], input_ids, known)
        bits = ((logits > 0) & (known.sum(1, keepdim=True) > 0)).long()
        bits = pad(bits, [0, -self.bits % 8]).reshape(-1, -(-self.bits // 8), 8)
        packed: torch.Tensor = (bits * own["bit_values"]).sum(2).to(torch.uint8)
        return packed


class SpaceGraph(torch.nn.Module):
    """Word rows of texts to unit vectors (batch, dim): inferred vectors and the means of the words, added.

    Args:
        model: trained with word vectors by PV-DBOW, without codes.
        weights: (words,) float32, of the words in a mean.
    """

    def __init__(self, model: ParagraphVectors, weights: torch.Tensor) -> None:
        super().__init__()
        settings = model.settings
        self.unknown = len(model.vocabulary)
        self.means = WordMeans(torch.as_tensor(model.word_vectors), weights)
        tables = SamplingTables.from_vocabulary(model.vocabulary, settings.sample, settings.negatives, bias=False)
        rates = settings.compute_inference_rates(settings.epochs)
        self.steps = GradientSteps(model.state["outputs"], tables, settings.negatives, rates, settings.seed)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the vectors; zeros for a text without a known word."""
        ids = input_ids.clamp(max=self.unknown)  # a tokenizer may have further ids
        known = attention_mask * (ids < self.unknown)
        means = self.means(ids, known)
        documents = self.steps(torch.zeros_like(means), ids, known)
        return normalize(normalize(documents, dim=1) + normalize(means, dim=1), dim=1)

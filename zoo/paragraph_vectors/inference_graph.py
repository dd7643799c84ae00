"""The inference of `ParagraphVectors` as torch modules that can be exported: word rows of texts to vectors, or to packed codes.

Inference draws the same random numbers for every document, so they are tables here. The gradient steps are those of
`kernels.predict` for many documents at once, in one loop of the graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import embedding, normalize, pad

from zoo.paragraph_vectors import code_layer, kernels
from zoo.paragraph_vectors.sampling import SamplingTables

if TYPE_CHECKING:
    from zoo.paragraph_vectors.model import ParagraphVectors

MAX_WORDS = 16_384
"""Words of a text that a graph reads, for each of which there are random numbers."""


@torch.jit.script  # a graph of ONNX holds the loop only if it is compiled, not traced
def _take_steps(
    documents: torch.Tensor,
    words: torch.Tensor,
    word_counts: torch.Tensor,
    noise_starts: torch.Tensor,
    outputs: torch.Tensor,
    bias: torch.Tensor,
    rings: torch.Tensor,
    rates: torch.Tensor,
    sigmoid: torch.Tensor,
    sigmoid_range: float,
    negatives: int,
    words_per_step: int,
    code_scale: float,
) -> torch.Tensor:
    """Return documents (batch, dim) after all passes over their words.

    `words` are rows of `outputs` (passes, batch, tokens), of which the first `word_counts` (passes, batch) are read. A pass
    reads its ring from `noise_starts` (batch,) on.
    """
    steps = (words.size(2) + words_per_step - 1) // words_per_step
    words = pad(words, [0, words_per_step])
    places = torch.arange(words_per_step)
    noise_places = torch.arange(words_per_step * negatives)
    for number in range(words.size(0) * steps):
        pass_number = number // steps
        begin = (number % steps) * words_per_step
        positives = (word_counts[pass_number] - begin).clamp(0, words_per_step).unsqueeze(1)
        step_words = words[pass_number].index_select(1, begin + places)
        noise = (noise_starts.unsqueeze(1) + begin * negatives + noise_places) % rings.size(1)
        rows = torch.cat([step_words, rings[pass_number][noise].long()], 1)
        used = torch.cat([places < positives, noise_places < positives * negatives], 1).float()
        targets = torch.cat([torch.ones_like(step_words), torch.zeros_like(noise)], 1).float()
        inputs = documents
        if code_scale > 0:
            inputs = torch.where(documents > 0, code_scale, -code_scale)
        vectors = outputs[rows]
        logits = (vectors * inputs.unsqueeze(1)).sum(2) + bias[rows]
        scaled = (logits + sigmoid_range) * (sigmoid.size(0) / (2 * sigmoid_range))
        predicted = sigmoid[scaled.clamp(0, sigmoid.size(0) - 1).long()]
        errors = (targets - predicted) * rates[pass_number] * used
        change = (errors.unsqueeze(2) * vectors).sum(1)
        if code_scale > 0:
            change = change * (1 - torch.tanh(documents / (2 * code_scale)) ** 2)
        documents = documents + change
    return documents


class GradientSteps(torch.nn.Module):
    """The passes of `kernels.predict` over texts whose words are frozen.

    Args:
        outputs: (words, dim) float32.
        tables: for drawing words and noise.
        negatives: noise words for each word.
        rates: the learning rate of each pass.
        seed: of the first pass.
        code_scale: as in `kernels.predict`.
    """

    def __init__(
        self,
        outputs: torch.Tensor,
        tables: SamplingTables,
        negatives: int,
        rates: list[float],
        seed: int,
        code_scale: float = 0.0,
    ) -> None:
        super().__init__()
        draws = [
            kernels.draw_shared_numbers(seed + number, MAX_WORDS, tables.alias_probabilities, tables.alias_words)
            for number in range(len(rates))
        ]
        self.negatives, self.code_scale = negatives, code_scale
        buffers = {
            "outputs": outputs,
            "bias": tables.bias,
            # an unknown word is never kept
            "keep_probabilities": np.append(tables.keep_probabilities, np.float32(0)),
            "uniforms": np.stack([uniforms for uniforms, _ in draws]),
            "rings": np.stack([ring for _, ring in draws]).astype(np.int32),
            "rates": np.array(rates, np.float32),
            "sigmoid": kernels.SIGMOID,
        }
        for name, values in buffers.items():
            self.register_buffer(name, torch.as_tensor(values))

    def forward(self, documents: torch.Tensor, ids: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Return documents (batch, dim) after the passes. `known` (batch, tokens) is 1 for known words, int64."""
        own: Any = dict(self.named_buffers())
        places = (known.cumsum(1) - 1).clamp(min=0)
        is_kept = (own["uniforms"][:, places] < own["keep_probabilities"][ids]) & (known > 0)  # (passes, batch, tokens)
        kept = is_kept.long()
        # words that are not kept go to a place behind the last word
        targets = torch.where(is_kept, kept.cumsum(2) - 1, ids.shape[1])
        rows = (ids * known).expand(targets.shape)
        words = torch.zeros_like(pad(rows, [0, 1])).scatter(2, targets, rows)[:, :, :-1]
        stepped: torch.Tensor = _take_steps(
            documents,
            words,
            kept.sum(2),
            known.sum(1),
            *(own[name] for name in ("outputs", "bias", "rings", "rates", "sigmoid")),
            kernels.SIGMOID_RANGE,
            self.negatives,
            kernels.WORDS_PER_STEP,
            self.code_scale,
        )
        return stepped


class WordMeans(torch.nn.Module):
    """Word rows to weighted sums (batch, dim) of the words' unit vectors. Unknown words count nothing.

    Args:
        words: (words, dim) float32.
        weights: (words,) float32.
    """

    weighted: torch.Tensor

    def __init__(self, words: torch.Tensor, weights: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("weighted", pad(normalize(words, dim=1) * weights[:, None], [0, 0, 0, 1]))

    def forward(self, ids: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Return the sums of ids (batch, tokens) whose `known` is 1."""
        return (embedding(ids, self.weighted) * known[:, :, None]).sum(1)


class CodeGraph(torch.nn.Module):
    """Word rows of texts to packed codes (batch, ceil(bits / 8)) uint8, or to the unit vectors that the codes start from.

    Args:
        model: trained with codes, not by PV-DM.
        is_real: whether the unit vectors are returned.
        epochs: passes over each text; None for as many as in training.
    """

    def __init__(self, model: ParagraphVectors, *, is_real: bool, epochs: int | None = None) -> None:
        super().__init__()
        state, settings = model.state, model.settings
        self.unknown, self.bits = len(model.vocabulary), settings.bits
        self.means = WordMeans(torch.as_tensor(model.word_vectors), torch.from_numpy(model.compute_word_weights()))
        for name in ("centre", "anchors", "middle", "projection"):
            self.register_buffer(name, state[name])
        self.register_buffer("bit_values", torch.tensor([128, 64, 32, 16, 8, 4, 2, 1]))
        self.steps = None
        if not is_real:
            tables = SamplingTables.from_vocabulary(model.vocabulary, settings.sample, settings.negatives)
            rates = settings.compute_inference_rates(epochs or settings.code_epochs)
            scaled_rates = [rate * code_layer.RATE_SCALE for rate in rates]
            options = (settings.negatives, scaled_rates, settings.seed, float(state["code_scale"]))
            self.steps = GradientSteps(state["code_outputs"], tables, *options)

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

"""The gradient steps that infer the vectors of texts, as a torch module that can be exported.

Inference draws the same random numbers for every document, so they are tables here. The steps are those of `kernels.predict` and
`kernels.predict_in_windows`, for many documents at once, in one loop of the graph.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad

from zoo.paragraph_vectors import kernels
from zoo.paragraph_vectors.sampling import SamplingTables

MAX_WORDS = 16_384
"""Words of a text that a graph reads, for each of which there are random numbers."""


@torch.jit.script
def _round(documents: torch.Tensor, code_scale: float) -> torch.Tensor:
    """Return documents (batch, dim), or `code_scale` times their signs if it is not 0."""
    if code_scale > 0:
        documents = torch.where(documents > 0, code_scale, -code_scale)
    return documents


@torch.jit.script
def _step(
    documents: torch.Tensor,
    inputs: torch.Tensor,
    rows: torch.Tensor,
    targets: torch.Tensor,
    error_rates: torch.Tensor,
    outputs: torch.Tensor,
    bias: torch.Tensor,
    sigmoid: torch.Tensor,
    sigmoid_range: float,
    code_scale: float,
) -> torch.Tensor:
    """Return documents after one gradient step, in which `inputs` (batch, dim) predict `targets` of `rows` (batch, words)."""
    vectors = outputs[rows]
    logits = (vectors * inputs.unsqueeze(1)).sum(2) + bias[rows]
    scaled = (logits + sigmoid_range) * (sigmoid.size(0) / (2 * sigmoid_range))
    predicted = sigmoid[scaled.clamp(0, sigmoid.size(0) - 1).long()]
    errors = (targets - predicted) * error_rates
    change = (errors.unsqueeze(2) * vectors).sum(1)
    if code_scale > 0:
        change = change * (1 - torch.tanh(documents / (2 * code_scale)) ** 2)
    return documents + change


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
        inputs = _round(documents, code_scale)
        error_rates = rates[pass_number] * used
        documents = _step(
            documents, inputs, rows, targets, error_rates, outputs, bias, sigmoid, sigmoid_range, code_scale
        )
    return documents


@torch.jit.script
def _take_window_steps(
    documents: torch.Tensor,
    words: torch.Tensor,
    word_counts: torch.Tensor,
    word_totals: torch.Tensor,
    inputs: torch.Tensor,
    outputs: torch.Tensor,
    bias: torch.Tensor,
    rings: torch.Tensor,
    reaches: torch.Tensor,
    rates: torch.Tensor,
    sigmoid: torch.Tensor,
    sigmoid_range: float,
    negatives: int,
    window: int,
    code_scale: float,
) -> torch.Tensor:
    """Return documents (batch, dim) after all passes, in which each word is predicted from the mean of document and window.

    Arguments are those of `_take_steps`, and `inputs`, the vectors of words in a window. `word_totals` (batch,) counts the known
    words of a text.
    """
    length = words.size(2)
    words = pad(words, [window, window])
    offsets = torch.arange(2 * window + 1) - window
    noise_places = torch.arange(negatives)
    for number in range(words.size(0) * length):
        pass_number = number // length
        centre = number % length
        counts = word_counts[pass_number].unsqueeze(1)
        reach = reaches[pass_number][word_totals + centre].unsqueeze(1)
        places = centre + offsets
        seen = (offsets.abs() <= reach) & (offsets != 0) & (places >= 0) & (places < counts)
        context = words[pass_number].index_select(1, places + window)
        sums = (inputs[context] * seen.float().unsqueeze(2)).sum(1)
        mean = (_round(documents, code_scale) + sums) / (1 + seen.float().sum(1, keepdim=True))
        noise = (word_totals.unsqueeze(1) + centre * negatives + noise_places) % rings.size(1)
        centres = words[pass_number].narrow(1, centre + window, 1)
        rows = torch.cat([centres, rings[pass_number][noise].long()], 1)
        targets = torch.cat([torch.ones_like(centres), torch.zeros_like(noise)], 1).float()
        error_rates = rates[pass_number] * (centre < counts).float()
        documents = _step(
            documents, mean, rows, targets, error_rates, outputs, bias, sigmoid, sigmoid_range, code_scale
        )
    return documents


class GradientSteps(torch.nn.Module):
    """The passes of `kernels.predict`, or of `kernels.predict_in_windows` for PV-DM, over texts whose words are frozen.

    Args:
        outputs: (words, dim) float32.
        tables: for drawing words and noise.
        negatives: noise words for each word.
        rates: the learning rate of each pass.
        seed: of the first pass.
        code_scale: as in `kernels.predict`.
        inputs: (words, dim) float32 for PV-DM, whose windows reach at most `window` words; None otherwise.
    """

    def __init__(
        self,
        outputs: torch.Tensor,
        tables: SamplingTables,
        negatives: int,
        rates: list[float],
        seed: int,
        code_scale: float = 0.0,
        inputs: torch.Tensor | None = None,
        window: int = 1,
    ) -> None:
        super().__init__()
        alias = tables.alias_probabilities, tables.alias_words
        draws = [kernels.draw_shared_numbers(seed + number, MAX_WORDS, window, *alias) for number in range(len(rates))]
        uniforms, reaches, rings = (np.stack(part) for part in zip(*draws, strict=True))
        self.negatives, self.code_scale, self.window = negatives, code_scale, window
        self.has_windows = inputs is not None
        buffers = {
            "outputs": outputs,
            "bias": tables.bias,
            # an unknown word is never kept
            "keep_probabilities": np.append(tables.keep_probabilities, np.float32(0)),
            "uniforms": uniforms,
            "rings": rings.astype(np.int32),
            "rates": np.array(rates, np.float32),
            "sigmoid": kernels.SIGMOID,
        }
        if inputs is not None:
            buffers |= {"inputs": inputs, "reaches": reaches}
        for name, values in buffers.items():
            self.register_buffer(name, torch.as_tensor(values))

    def forward(self, documents: torch.Tensor, ids: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Return documents (batch, dim) after the passes. `known` (batch, tokens) is 1 for known words, int64."""
        own: Any = dict(self.named_buffers())
        words, counts = self._select_words(ids, known, own["uniforms"], own["keep_probabilities"])
        start: Any = (documents, words, counts, known.sum(1))
        end: Any = (own["rates"], own["sigmoid"], kernels.SIGMOID_RANGE, self.negatives)
        names = ("outputs", "bias", "rings")
        stepped: torch.Tensor
        if self.has_windows:
            tables = [own[name] for name in ("inputs", *names, "reaches")]
            stepped = _take_window_steps(*start, *tables, *end, self.window, self.code_scale)
        else:
            stepped = _take_steps(*start, *(own[name] for name in names), *end, kernels.WORDS_PER_STEP, self.code_scale)
        return stepped

    def _select_words(
        self, ids: torch.Tensor, known: torch.Tensor, uniforms: torch.Tensor, keep_probabilities: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the words of each pass (passes, batch, tokens), those that it keeps first, and the numbers of kept ones."""
        places = (known.cumsum(1) - 1).clamp(min=0)
        is_kept = (uniforms[:, places] < keep_probabilities[ids]) & (known > 0)
        kept = is_kept.long()
        # words that are not kept go to a place behind the last word
        targets = torch.where(is_kept, kept.cumsum(2) - 1, ids.shape[1])
        rows = (ids * known).expand(targets.shape)
        words = torch.zeros_like(pad(rows, [0, 1])).scatter(2, targets, rows)[:, :, :-1]
        return words, kept.sum(2)

"""Passes over documents as matrix products, for GPUs and any other device of torch.

A step takes chunks of consecutive words of many documents, so that the vector of a document is fetched once a chunk. Noise
words are drawn once a step and shared by all of its pairs, each with weight negatives / NOISE_WORDS (`negative_sampling`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from zoo.ops import codes
from zoo.paragraph_vectors import negative_sampling
from zoo.paragraph_vectors.corpus import Batch, split_into_chunks
from zoo.paragraph_vectors.sampling import SamplingTables

Array = npt.NDArray[Any]
Tensors = dict[str, torch.Tensor]

NOISE_WORDS = 64  # of a step
CHUNK_SIZE = 16  # consecutive words of one document in a step; with word vectors at least three windows
WORDS_PER_STEP = 2048
OCCURRENCES_PER_STEP = 32  # of the most frequent word; its vector overshoots if a step sums many more of its gradients


class GpuEngine:
    """Trains and infers by matrix products on a device; an `Engine`. Arguments are those of `CpuEngine`."""

    def __init__(
        self, tables: SamplingTables, device: torch.device, *, negatives: int, window: int, is_dm: bool
    ) -> None:
        self.tables, self.device = tables, device
        self.negatives, self.window, self.is_dm = negatives, window, is_dm
        self.bias = torch.from_numpy(tables.bias).to(device)

    def train(
        self,
        batch: Batch,
        tensors: Mapping[str, Any],
        rates: tuple[float, float],
        seed: int,
        code_scale: float = 0.0,
    ) -> float:
        """Make one pass that changes all `tensors` in place; see `Engine.train`. The loss is that of the last step."""
        rng, tensors = np.random.default_rng(seed), _as_tensors(tensors)
        is_kept = rng.random(len(batch.tokens), dtype=np.float32) < self.tables.keep_probabilities[batch.tokens]
        kept_counts = np.concatenate(([0], np.cumsum(is_kept)))
        chunk_size, words_per_step, offsets = CHUNK_SIZE, _choose_words_per_step(batch.tokens[is_kept]), None
        if "inputs" in tensors:
            chunk_size, words_per_step = max(CHUNK_SIZE, 3 * self.window), words_per_step // (self.window + 1)
            offsets = rng.integers(chunk_size, size=len(batch.ends))
        lengths = kept_counts[batch.ends] - kept_counts[batch.starts]
        chunks, documents = split_into_chunks(batch.tokens[is_kept], lengths, chunk_size, offsets)
        order, draw_noise = rng.permutation(len(chunks)), self._make_noise_sampler(rng)
        chunks_per_step = max(1, words_per_step // chunk_size)
        generator = torch.Generator(self.device).manual_seed(seed)
        loss = 0.0
        for begin in range(0, len(order), chunks_per_step):
            rate = rates[0] + (rates[1] - rates[0]) * begin / len(order)
            chosen = order[begin : begin + chunks_per_step]
            rows = batch.document_rows[documents[chosen]]
            measure = begin + chunks_per_step >= len(order)
            options = (draw_noise(), generator, rate, code_scale)
            step_loss = self._step(tensors, rows, chunks[chosen], *options, update_words=True, measure=measure)
            loss = step_loss if measure else loss
        return loss

    def infer(
        self, batch: Batch, tensors: Mapping[str, Any], rates: list[float], seed: int, code_scale: float = 0.0
    ) -> float:
        """Change `tensors["documents"]` in place; see `Engine.infer`. The loss is that of the last pass's first step.

        With PV-DM, the reach of each word is drawn for a whole step, so a vector does depend on the other documents.
        """
        tensors, lengths = _as_tensors(tensors), batch.ends - batch.starts
        document = np.repeat(np.arange(len(lengths)), lengths)
        place, loss = np.arange(len(batch.tokens)) - np.repeat(batch.starts, lengths), 0.0
        for number, rate in enumerate(rates):
            rng = np.random.default_rng((seed, number))
            # one draw for each place, so that equal texts are subsampled alike
            draws = rng.random(int(lengths.max(initial=0)), dtype=np.float32)[place]
            is_kept = self.tables.keep_probabilities[batch.tokens] > draws
            kept_lengths = np.bincount(document[is_kept], minlength=len(lengths))
            chunks, documents = split_into_chunks(batch.tokens[is_kept], kept_lengths, CHUNK_SIZE)
            if not len(chunks):
                continue
            generator = torch.Generator(self.device).manual_seed(seed + number)
            draw_noise = self._make_noise_sampler(np.random.default_rng((seed, number, 1)))
            # step i takes the i-th chunk of every document
            chunk_number = np.arange(len(chunks)) - np.searchsorted(documents, documents)
            sizes = np.bincount(chunk_number)
            for step, chosen in enumerate(np.split(np.argsort(chunk_number, kind="stable"), np.cumsum(sizes)[:-1])):
                measure = step == 0 and number == len(rates) - 1
                rows, options = documents[chosen], (draw_noise(), generator, rate, code_scale)
                step_loss = self._step(tensors, rows, chunks[chosen], *options, update_words=False, measure=measure)
                loss = step_loss if measure else loss
        return loss

    def _make_noise_sampler(self, rng: np.random.Generator) -> Callable[[], torch.Tensor]:
        """Return a function that draws noise words, (NOISE_WORDS,) int64."""
        probabilities, aliases = self.tables.alias_probabilities, self.tables.alias_words

        def draw_noise() -> torch.Tensor:
            places = rng.integers(len(probabilities), size=NOISE_WORDS)
            words = np.where(rng.random(NOISE_WORDS) < probabilities[places], places, aliases[places])
            return torch.from_numpy(words).to(self.device)

        return draw_noise

    def _step(
        self,
        tensors: Tensors,
        document_rows: Array,
        words: Array,
        noise: torch.Tensor,
        generator: torch.Generator,
        rate: float,
        code_scale: float,
        *,
        update_words: bool,
        measure: bool,
    ) -> float:
        """Take one gradient step on chunks `words` (M, K) of documents `document_rows` (M,).

        Returns the mean loss of a pair before the step if `measure`, else 0.
        """
        rows, chunks = torch.from_numpy(document_rows).to(self.device), torch.from_numpy(words).to(self.device)
        documents, outputs = tensors["documents"].index_select(0, rows), tensors["outputs"]
        is_word, flat = (chunks >= 0).float(), chunks.clamp(min=0).flatten()
        targets, noise_vectors = outputs.index_select(0, flat).view(*chunks.shape, -1), outputs.index_select(0, noise)
        inputs = (torch.sign(documents) * code_scale if code_scale else documents)[:, None, :]
        pairs, window_mask = is_word[:, None, :], None
        if self.is_dm or (update_words and "inputs" in tensors):
            reach = torch.randint(1, self.window + 1, chunks.shape, generator=generator, device=self.device)
            window_mask = negative_sampling.compute_window_mask(chunks, reach)
            context = tensors["inputs"].index_select(0, flat).view(*chunks.shape, -1)
            if self.is_dm:
                inputs = (window_mask @ context + inputs) / (1 + window_mask.sum(-1, keepdim=True))
                pairs = torch.diag_embed(is_word)
            else:
                inputs, pairs = torch.cat((inputs, context), 1), torch.cat((pairs, window_mask), 1)
        bias = self.bias[flat].view(chunks.shape), self.bias[noise]
        arguments = (inputs, targets, noise_vectors, pairs, self.negatives / NOISE_WORDS, bias)
        loss = (negative_sampling.compute_loss(*arguments) / pairs.sum().clamp(min=1)).item() if measure else 0.0
        input_change, target_change, noise_change = negative_sampling.compute_gradients(*arguments)
        # as in word2vec, every member of a mean gets the whole gradient
        document_change = input_change.sum(1) if self.is_dm else input_change[:, 0]
        if update_words:
            outputs.index_add_(0, flat, target_change.flatten(0, 1), alpha=rate)
            outputs.index_add_(0, noise, noise_change, alpha=rate)
            if window_mask is not None:
                context_change = window_mask.mT @ input_change if self.is_dm else input_change[:, 1:]
                tensors["inputs"].index_add_(0, flat, context_change.flatten(0, 1), alpha=rate)
        if code_scale:
            document_change = codes.compute_straight_through_gradient(documents, document_change, code_scale)
        tensors["documents"].index_add_(0, rows, document_change, alpha=rate)
        return loss


def _choose_words_per_step(words: Array) -> int:
    """Return the number of words of a step: WORDS_PER_STEP, or fewer if a single word is a large share of `words`."""
    largest_share = np.bincount(words).max(initial=0) / max(len(words), 1)
    return WORDS_PER_STEP if not largest_share else min(WORDS_PER_STEP, int(OCCURRENCES_PER_STEP / largest_share))


def _as_tensors(arrays: Mapping[str, Any]) -> Tensors:
    return {name: torch.as_tensor(array) for name, array in arrays.items()}

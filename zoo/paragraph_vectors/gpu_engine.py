"""Passes of paragraph vectors over documents as matrix products, for GPUs (and any other device that torch has).

A step takes chunks of consecutive words of many documents, so that a document's vector is fetched once a chunk; noise words
are drawn once a step and shared by all of its pairs, each weighted by negatives / SHARED: `negative_sampling`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from zoo.ops import codes
from zoo.paragraph_vectors import negative_sampling
from zoo.paragraph_vectors.corpus import Batch, cut
from zoo.paragraph_vectors.sampling import SamplingTables

SHARED = 64  # noise words of a step
CHUNK = 16  # words of one document that a step takes together; with word vectors at least three windows
WORDS = 2048  # of a step: sums of more than some thousand pairs make the rows of frequent words overshoot


class GpuEngine:
    """Trains and infers by matrix products on a device; arguments as `zoo.paragraph_vectors.cpu_engine.CpuEngine` has them."""

    def __init__(self, draws: SamplingTables, device: torch.device, *, negatives: int, window: int, mean: bool) -> None:
        self.draws, self.device = draws, device
        self.negatives, self.window, self.mean = negatives, window, mean
        self.bias = torch.from_numpy(draws.bias).to(device)

    def learn(
        self, batch: Batch, state: Mapping[str, Any], rates: tuple[float, float], seed: int, scale: float = 0.0
    ) -> float:
        """One pass over `batch` in a drawn order that changes `state` in place; returns the loss of a word."""
        rng, state = np.random.default_rng(seed), _tensors(state)
        kept = rng.random(len(batch.tokens), dtype=np.float32) < self.draws.keep[batch.tokens]
        sums = np.concatenate(([0], np.cumsum(kept)))
        chunk, words, offsets = CHUNK, WORDS, None
        if "inputs" in state:
            chunk, words = max(CHUNK, 3 * self.window), WORDS // (self.window + 1)
            offsets = rng.integers(chunk, size=len(batch.owners))
        chunks, owner = cut(batch.tokens[kept], sums[batch.ends] - sums[batch.starts], chunk, offsets)
        order, noise, per = rng.permutation(len(chunks)), self._noise(rng), max(1, words // chunk)
        generator = torch.Generator(self.device).manual_seed(seed)
        loss = 0.0
        for begin in range(0, len(order), per):
            rate = rates[0] + (rates[1] - rates[0]) * begin / len(order)
            some = order[begin : begin + per]
            measure = begin + per >= len(order)
            value = self._step(
                state, batch.owners[owner[some]], chunks[some], noise(), generator, rate, scale, True, measure
            )
            loss = value if measure else loss
        return loss

    def infer(self, batch: Batch, state: Mapping[str, Any], rates: list[float], seed: int, scale: float = 0.0) -> float:
        """Change `state["documents"]` alone, by a pass at each of `rates`; a row does not depend on the others. Returns the
        loss of a word in the last pass's first step."""
        state, lengths = _tensors(state), batch.ends - batch.starts
        owner = np.repeat(np.arange(len(lengths)), lengths)
        places, loss = np.arange(len(batch.tokens)) - np.repeat(batch.starts, lengths), 0.0
        for number, rate in enumerate(rates):
            rng = np.random.default_rng((seed, number))
            # by place: equal texts see the same words
            kept = self.draws.keep[batch.tokens] > rng.random(int(lengths.max(initial=0)), dtype=np.float32)[places]
            chunks, whose = cut(batch.tokens[kept], np.bincount(owner[kept], minlength=len(lengths)), CHUNK)
            nth = np.arange(len(chunks)) - np.searchsorted(whose, whose)
            generator = torch.Generator(self.device).manual_seed(seed + number)
            noise = self._noise(np.random.default_rng((seed, number, 1)))
            steps = np.split(np.argsort(nth, kind="stable"), np.cumsum(np.bincount(nth))[:-1])
            for step, some in enumerate(steps):
                measure = step == 0 and number == len(rates) - 1
                value = self._step(state, whose[some], chunks[some], noise(), generator, rate, scale, False, measure)
                loss = value if measure else loss
        return loss

    def _noise(self, rng: np.random.Generator) -> Callable[[], torch.Tensor]:
        """Draws of noise words, (SHARED,) int64."""

        def draw() -> torch.Tensor:
            places = rng.integers(len(self.draws.chance), size=SHARED)
            found = np.where(rng.random(SHARED) < self.draws.chance[places], places, self.draws.other[places])
            return torch.from_numpy(found).to(self.device)

        return draw

    def _step(
        self,
        state: dict[str, torch.Tensor],
        owners: np.ndarray,
        words: np.ndarray,
        noise: torch.Tensor,
        generator: torch.Generator,
        rate: float,
        scale: float,
        learn: bool,
        measure: bool,
    ) -> float:
        """One gradient step on chunks `words` (M, K) of documents `owners` (M,); the loss of a word before it, if asked for."""
        mine, chunks = torch.from_numpy(owners).to(self.device), torch.from_numpy(words).to(self.device)
        rows, outputs = state["documents"].index_select(0, mine), state["outputs"]
        there, flat = (chunks >= 0).float(), chunks.clamp(min=0).flatten()
        targets, against = outputs.index_select(0, flat).view(*chunks.shape, -1), outputs.index_select(0, noise)
        inputs = (torch.sign(rows) * scale if scale else rows)[:, None, :]
        pairs, near = there[:, None, :], None
        if self.mean or (learn and "inputs" in state):
            reach = torch.randint(1, self.window + 1, chunks.shape, generator=generator, device=self.device)
            near = negative_sampling.window(chunks, reach)
            around = state["inputs"].index_select(0, flat).view(*chunks.shape, -1)
            if self.mean:
                inputs = (near @ around + inputs) / (1 + near.sum(-1, keepdim=True))
                pairs = torch.diag_embed(there)
            else:
                inputs, pairs = torch.cat((inputs, around), 1), torch.cat((pairs, near), 1)
        bias = self.bias[flat].view(chunks.shape), self.bias[noise]
        parts = (inputs, targets, against, pairs, self.negatives / SHARED, bias)
        value = (negative_sampling.loss(*parts) / pairs.sum().clamp(min=1)).item() if measure else 0.0
        inward, outward, away = negative_sampling.gradients(*parts)
        # as in word2vec, every member of a mean gets the whole gradient
        change = inward.sum(1) if self.mean else inward[:, 0]
        if learn:
            outputs.index_add_(0, flat, outward.flatten(0, 1), alpha=rate)
            outputs.index_add_(0, noise, away, alpha=rate)
            if near is not None:
                inward = near.mT @ inward if self.mean else inward[:, 1:]
                state["inputs"].index_add_(0, flat, inward.flatten(0, 1), alpha=rate)
        if scale:
            change = codes.compute_straight_through_gradient(rows, change, scale)
        state["documents"].index_add_(0, mine, change, alpha=rate)
        return value


def _tensors(state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    return {name: torch.as_tensor(array) for name, array in state.items()}

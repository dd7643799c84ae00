"""Paragraph vectors: documents, and if wanted words, as vectors learned by predicting the words of each document.

    model = Paragraphs(Settings(dim=100, words=True)).fit(texts)
    model.documents, model.words, model.infer(["an unseen text"])

Source: Le and Mikolov, "Distributed Representations of Sentences and Documents", arXiv 1405.4053 (PV-DBOW, PV-DM);
Grzegorczyk and Kurdziel, "Binary Paragraph Vectors", arXiv 1611.01116 (codes). A step takes chunks of consecutive words of
many documents, so that a document's vector is fetched once a chunk and all products are matrix products: `zoo.ops`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch

from zoo import encoding
from zoo.chunks import Corpus, cut
from zoo.errors import ZooError
from zoo.ops import codes, negative_sampling
from zoo.runlog import Runlog
from zoo.words import Vocabulary

PULL = 0.1  # share of the code's gradient that reaches the real vector, which it would otherwise make a worse one
BLOCK = 1 << 20  # tokens that are shuffled together; a checkpoint falls between two blocks


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        dim: components of the real vectors; 0 for codes alone.
        bits: bits of the codes; 0 for none. With `dim`, the code is a learned projection of the real vector.
        mode: "dbow" predicts words from the document, "dm" from the document and the mean of the words around.
        words: with "dbow", train skip-gram word vectors in the same space ("dm" always has word vectors).
        window: most words to each side; the reach of each word is drawn uniformly from 1 to window.
        negatives, shared: noise words of a pair (k), and how many a step draws for all its pairs.
        sample: threshold of frequent-word subsampling; 0 keeps every word.
        learning_rate, last_learning_rate: at the first and the last step, linear between.
        chunk: words of one document that a step takes together; with word vectors at least three windows.
        batch: words of a step; with word vectors, which each word changes a window of, window + 1 times fewer. Sums of
            more than some thousand pairs make the rows of frequent words overshoot.
    """

    dim: int = 100
    bits: int = 0
    mode: Literal["dbow", "dm"] = "dbow"
    words: bool = False
    window: int = 10
    negatives: int = 5
    shared: int = 64
    sample: float = 1e-4
    min_count: int = 5
    max_words: int | None = None
    epochs: int = 10
    learning_rate: float = 0.025
    last_learning_rate: float = 1e-4
    chunk: int = 16
    batch: int = 2048
    seed: int = 42


class Paragraphs:
    """Vectors of documents and words. For one seed and one number of torch threads, training gives equal tensors.

    Attributes:
        vocabulary: set by `fit`.
        state: the tensors by name: "documents" (n, dim or bits), "outputs" (V, dim or bits); "inputs" (V, the same) with
            word vectors; "projection" (dim, bits) and "code_outputs" (V, bits) with both `dim` and `bits`.
    """

    def __init__(self, settings: Settings) -> None:
        if not settings.dim and not settings.bits:
            raise ZooError("paragraph vectors need `dim`, `bits` or both")
        self.settings = settings
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.vocabulary = Vocabulary((), ())
        self.state: dict[str, torch.Tensor] = {}
        self.seconds = 0.0

    @property
    def documents(self) -> np.ndarray:
        """(n, dim) float32 vectors of the training documents in order; for codes alone, (n, bits) logits."""
        return self.state["documents"].numpy(force=True)

    @property
    def words(self) -> np.ndarray:
        """(V, dim) float32 in the order of the vocabulary: input vectors if they were trained, else output vectors."""
        return self.state["inputs" if "inputs" in self.state else "outputs"].numpy(force=True)

    def codes(self, documents: np.ndarray) -> np.ndarray:
        """(n, ceil(bits / 8)) packed codes of `documents` as `documents` and `infer` give them."""
        rows = torch.from_numpy(documents)
        return codes.pack((rows @ self.state["projection"].cpu() if "projection" in self.state else rows).numpy())

    # -- training --------------------------------------------------------------------------------------------------

    def fit(
        self,
        texts: Iterable[str],
        *,
        folder: Path | None = None,
        checkpoint_every: int | None = None,
        show_progress: bool = False,
        vocabulary: Vocabulary | None = None,
    ) -> Self:
        """Train on `texts`, read twice and never held: a list, a column of a Dataset, anything that can be read again.

        With `folder`, metrics.jsonl and a checkpoint every `checkpoint_every` blocks (a tenth of the run by default) are kept
        there, and training goes on from the last whole one to the same result.
        Raises ZooError for an iterator, for texts without words, and for a loss that is not finite.
        """
        if iter(texts) is texts:
            raise ZooError("the texts are read twice: give a list or a column of a data set, not an iterator")
        encoding.keep_large_blocks()
        s = self.settings
        self.vocabulary = vocabulary or Vocabulary.count(texts, min_count=s.min_count, max_size=s.max_words)
        corpus = Corpus(texts, self.vocabulary)
        self.start(len(corpus))
        size = max(1, len(corpus) * BLOCK // len(corpus.tokens))
        blocks = -(-len(corpus) // size)
        with Runlog(folder, blocks * s.epochs, len(corpus.tokens) * s.epochs, show_progress) as log:
            log.resume(self.state)
            every = checkpoint_every or max(1, blocks * s.epochs // 10)
            for step in range(log.step, blocks * s.epochs):
                rng = np.random.default_rng((s.seed, step))
                order = np.random.default_rng((s.seed, step // blocks, 1)).permutation(len(corpus))
                taken = np.sort(order[step % blocks * size : (step % blocks + 1) * size])
                began = time.monotonic()
                loss, rate = self._block(corpus, taken, rng, step, blocks * s.epochs)
                if not np.isfinite(loss):
                    raise ZooError(f"the loss is {loss} in block {step + 1}: lower the learning rate or the batch")
                read = int(np.diff(corpus.ends, prepend=0)[taken].sum())
                log.advance(read, step + 1, (step + 1) / blocks, loss, rate, time.monotonic() - began)
                if (step + 1) % every == 0:
                    log.save(self.state)
            self.seconds = log.seconds
        return self

    def shapes(self) -> dict[str, tuple[int, int]]:
        """Of the tensors that inference needs, by name: what `start` makes, without the documents."""
        s, vocabulary = self.settings, len(self.vocabulary)
        found = {"outputs": (vocabulary, s.dim or s.bits)}
        if s.words or s.mode == "dm":
            found["inputs"] = found["outputs"]
        if s.dim and s.bits:
            found |= {"projection": (s.dim, s.bits), "code_outputs": (vocabulary, s.bits)}
        return found

    def start(self, documents: int) -> None:
        """Fresh tensors for the vocabulary and so many documents, drawn by the seed."""
        s, vocabulary = self.settings, len(self.vocabulary)
        generator = torch.Generator().manual_seed(s.seed)
        width = s.dim or s.bits

        def small(rows: int) -> torch.Tensor:
            return (torch.rand(rows, width, generator=generator) - 0.5) / width

        state = {"documents": small(documents), "outputs": torch.zeros(vocabulary, width)}
        if s.words or s.mode == "dm":
            state["inputs"] = small(vocabulary)
        if s.dim and s.bits:
            state["projection"] = torch.randn(s.dim, s.bits, generator=generator) / s.dim**0.5
            state["code_outputs"] = torch.zeros(vocabulary, s.bits)
        self.state = {name: tensor.to(self.device) for name, tensor in state.items()}

    def _block(
        self, corpus: Corpus, taken: np.ndarray, rng: np.random.Generator, step: int, steps: int
    ) -> tuple[float, float]:
        s = self.settings
        tokens, lengths = corpus.take(taken)
        kept = rng.random(len(tokens), dtype=np.float32) < self.vocabulary.keep(s.sample)[tokens]
        sums = np.concatenate(([0], np.cumsum(kept)))
        ends = np.cumsum(lengths)
        lengths = sums[ends] - sums[ends - lengths]
        chunk, batch, offsets = s.chunk, s.batch, None
        if "inputs" in self.state:
            chunk, batch = max(chunk, 3 * s.window), batch // (s.window + 1)
            offsets = rng.integers(chunk, size=len(lengths))
        words, owner = cut(tokens[kept], lengths, chunk, offsets)
        order = rng.permutation(len(words))
        noise = self._noise(rng)
        per = max(1, batch // chunk)
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        loss, rate = 0.0, s.learning_rate
        for begin in range(0, len(order), per):
            rate = _decay(s, (step + begin / len(order)) / steps)
            some = order[begin : begin + per]
            chunks = torch.from_numpy(words[some]).to(self.device)
            owners = torch.from_numpy(taken[owner[some]]).to(self.device)
            rows = self.state["documents"].index_select(0, owners)
            measure = begin + per >= len(order)
            change, value = self._step(rows, chunks, noise(), generator, rate, learn=True, measure=measure)
            self.state["documents"].index_add_(0, owners, change)
            loss = value if measure else loss
        return loss, rate

    def _noise(self, rng: np.random.Generator) -> Callable[[], torch.Tensor]:
        """Draws of `shared` noise words, (N,) int64."""
        edges = np.cumsum(self.vocabulary.noise())
        edges[-1] = 1.0

        def draw() -> torch.Tensor:
            found = np.searchsorted(edges, rng.random(self.settings.shared), side="right")
            return torch.from_numpy(found).to(self.device)

        return draw

    def _step(
        self,
        rows: torch.Tensor,
        chunks: torch.Tensor,
        noise: torch.Tensor,
        generator: torch.Generator,
        rate: float,
        *,
        learn: bool,
        measure: bool = False,
    ) -> tuple[torch.Tensor, float]:
        """One gradient step on `chunks` (M, K) of documents `rows` (M, width). Words change only if `learn`.

        Returns the change of the rows, and if asked for the loss of a word before the step.
        """
        s, state = self.settings, self.state
        heads = [("outputs", bool(not s.dim))] + ([("code_outputs", True)] if "projection" in state else [])
        there = (chunks >= 0).float()
        known = chunks.clamp(min=0)
        flat = known.flatten()
        change, value = torch.zeros_like(rows), 0.0
        for name, coded in heads:
            outputs = state[name]
            projected = name == "code_outputs"
            logits = rows @ state["projection"] if projected else rows
            hidden = codes.round_sigmoid(logits) if coded else logits
            around = "inputs" in state and not projected
            targets = outputs.index_select(0, flat).view(*chunks.shape, -1)
            against = outputs.index_select(0, noise)
            pairs, inputs = there[:, None, :], hidden[:, None, :]
            near = near_vectors = seen = None
            if around and (learn or s.mode == "dm"):
                reach = torch.randint(1, s.window + 1, chunks.shape, generator=generator, device=self.device)
                near = negative_sampling.window(chunks, reach)
                near_vectors = state["inputs"].index_select(0, flat).view(*chunks.shape, -1)
                if s.mode == "dm":
                    seen = 1 + near.sum(-1, keepdim=True)
                    inputs = (near @ near_vectors + inputs) / seen
                    pairs = torch.diag_embed(there)
                else:
                    inputs, pairs = torch.cat((inputs, near_vectors), 1), torch.cat((pairs, near), 1)
            parts = (inputs, targets, against, pairs, s.negatives / s.shared)
            if measure:
                value += (negative_sampling.loss(*parts) / pairs.sum().clamp(min=1)).item()
            inward, outward, away = negative_sampling.gradients(*parts)
            # as in word2vec, every member of a mean gets the whole gradient
            to_document = inward.sum(1) if s.mode == "dm" and not projected else inward[:, 0]
            if learn:
                outputs.index_add_(0, flat, outward.flatten(0, 1), alpha=rate)
                outputs.index_add_(0, noise, away, alpha=rate)
                if near is not None:
                    inward = near.mT @ inward if s.mode == "dm" else inward[:, 1:]
                    state["inputs"].index_add_(0, flat, inward.flatten(0, 1), alpha=rate)
            if coded:
                to_document = codes.straight_through(logits, to_document)
            if projected:
                before = state["projection"]
                change += PULL * (to_document @ before.T)
                if learn:
                    before.addmm_(rows.T, to_document, alpha=rate / max(1, len(rows)) ** 0.5)
            else:
                change += to_document
        return change * rate, value

    # -- unseen documents ------------------------------------------------------------------------------------------

    def infer(self, texts: Iterable[str], *, epochs: int | None = None, batch: int = 1000) -> np.ndarray:
        """(n, dim) float32 vectors (or (n, bits) logits) of any texts by gradient steps with the words frozen.

        A text's vector does not depend on the texts beside it, up to rounding; one without a known word is zero.
        """
        encoding.keep_large_blocks()
        held, blocks = [], []
        for text in texts:
            held.append(np.asarray(self.vocabulary.encode(text), dtype=np.int64))
            if len(held) == batch:
                blocks.append(self._infer(held, epochs or self.settings.epochs))
                held = []
        if held or not blocks:
            blocks.append(self._infer(held, epochs or self.settings.epochs))
        return np.concatenate(blocks)

    def _infer(self, documents: list[np.ndarray], epochs: int) -> np.ndarray:
        s = self.settings
        rows = torch.zeros(len(documents), s.dim or s.bits, device=self.device)
        lengths = np.array([len(document) for document in documents], dtype=np.int64)
        tokens = np.concatenate([*documents, np.zeros(0, dtype=np.int64)])
        owner = np.repeat(np.arange(len(documents)), lengths)
        places = np.arange(len(tokens)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        chances = self.vocabulary.keep(s.sample)[tokens]
        for epoch in range(epochs):
            rng = np.random.default_rng((s.seed, epoch))
            kept = (
                chances > rng.random(int(lengths.max(initial=0)), dtype=np.float32)[places]
            )  # by place: equal texts agree
            words, whose = cut(tokens[kept], np.bincount(owner[kept], minlength=len(documents)), s.chunk)
            nth = np.arange(len(words)) - np.searchsorted(whose, whose)
            order = np.argsort(nth, kind="stable")
            ends = np.cumsum(np.bincount(nth))
            rate = _decay(s, epoch / epochs)
            rng = np.random.default_rng((s.seed, epoch, 1))
            draw, begin = self._noise(rng), 0
            for end in ends:
                some = order[begin:end]
                mine = torch.from_numpy(whose[some]).to(self.device)
                chunks = torch.from_numpy(words[some]).to(self.device)
                generator = torch.Generator(self.device).manual_seed(s.seed + epoch)
                change, _ = self._step(rows.index_select(0, mine), chunks, draw(), generator, rate, learn=False)
                rows.index_add_(0, mine, change)
                begin = end
        return rows.numpy(force=True)


def _decay(settings: Settings, done: float) -> float:
    return settings.learning_rate - (settings.learning_rate - settings.last_learning_rate) * done

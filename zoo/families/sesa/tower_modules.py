"""The two kinds of tower: a recurrent network over subwords, and a pretrained Transformer.

A tower turns a text into one vector. Both kinds can weigh the embeddings of a text's words by how rare the words are
(Arora et al., "A Simple but Tough-to-Beat Baseline for Sentence Embeddings", ICLR 2017, equation 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch.nn.functional import normalize

from zoo.artefact import preflight, tensors
from zoo.graph import TextReader
from zoo.text import backbone, lexical, sentence_transformers_format, text_graph
from zoo.text.backbone import Backbone
from zoo.text.subwords import PAD, UNKNOWN, Subwords

DEFAULT_MAX_LENGTH = 256  # subwords that a recurrent network reads
HALF_WEIGHT_FREQUENCY = 1e-3  # a subword of this frequency has weight 1/2; equation 3 calls it a
MIN_WEIGHT = 1e-3  # of a subword that every text has
INITIAL_STATES_GATE = 0.3  # weight of the recurrent states beside the embeddings
INITIAL_WORDS_GATE = 0.5  # weight of the words beside the backbone's vector
WORDS_STEM = "words"  # words.safetensors
CHUNK_SIZE = 32  # texts; on a CPU, larger chunks only add padding


class Tower(Protocol):
    """Turns texts into vectors: `module` takes the tensors of `pad`, each (batch, tokens), and returns (batch, width).

    The first `own_width` components compare texts as the backbone does, or by their subwords: by the fixed vectors, or else
    by the mean of the embeddings.
    """

    width: int
    own_width: int
    max_length: int

    @property
    def module(self) -> torch.nn.Module:
        """The trainable network."""

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, at most `max_length`."""

    def pad(self, ids: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        """Pad rows of ids to the tensors that `module` takes."""

    def initialise_rarity(self, texts: Sequence[str], *, by_texts: bool = False) -> None:
        """Give subwords that are frequent in `texts` a low weight, before training."""

    def make_reader(self, prompts: Mapping[str, str]) -> TextReader:
        """Return how texts become token ids in an exported graph."""


class RecurrentNetwork(torch.nn.Module):
    """A bidirectional LSTM or GRU over embeddings of subwords.

    The vector has two parts. The first is the mean of the embeddings, weighted by rarity: it recognises shared words before
    any training. The second, times a gate, is the maximum and the mean of the states. Gate and rarity are trained.

    With `lexical_dim`, another part comes before the two: the sum of fixed vectors of the subwords (`lexical`), normalised.
    """

    lexical: torch.Tensor

    def __init__(
        self, reader: str, vocab_size: int, dim: int, hidden: int, dropout: float, lexical_dim: int = 0
    ) -> None:
        super().__init__()
        if lexical_dim:
            self.register_buffer("lexical", torch.zeros(vocab_size, lexical_dim))
        self.has_lexical = lexical_dim > 0
        self.embedding = torch.nn.Embedding(vocab_size, dim, padding_idx=PAD)
        self.rarity = torch.nn.Embedding(vocab_size, 1)
        self.gate = torch.nn.Parameter(torch.tensor(INITIAL_STATES_GATE))
        cell = torch.nn.LSTM if reader == "lstm" else torch.nn.GRU
        self.cell = cell(dim, hidden, batch_first=True, bidirectional=True)
        self.drop = torch.nn.Dropout(dropout)

    def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Turn ids and mask (batch, tokens) into vectors (batch, lexical_dim + dim + 4 · hidden) float32."""
        ids, mask = batch["input_ids"], batch["attention_mask"]
        lengths = mask.sum(1).cpu()
        with torch.autocast(mask.device.type, enabled=False):
            embeddings = self.drop(self.embedding(ids))
            packed = torch.nn.utils.rnn.pack_padded_sequence(
                embeddings, lengths, batch_first=True, enforce_sorted=False
            )
            states, _ = torch.nn.utils.rnn.pad_packed_sequence(self.cell(packed)[0], batch_first=True)
            states_mask = mask[:, : states.shape[1], None]
            highest = states.masked_fill(states_mask == 0, -torch.inf).amax(1)
            mean = (states * states_mask).sum(1) / lengths[:, None].to(states.device)
            pooled_states = normalize(torch.cat([highest, mean.to(highest.dtype)], dim=1), dim=1)
            weights = self.rarity(ids).exp() * mask[:, :, None]
            words = normalize((embeddings * weights).sum(1), dim=1)
            parts = [words, self.gate * self.drop(pooled_states)]
            if self.has_lexical:
                sums = (self.lexical.float()[ids] * mask[:, :, None]).sum(1)
                parts.insert(0, normalize(sums, dim=1))
            return torch.cat(parts, dim=1).float()


class RecurrentTower:
    """A `RecurrentNetwork` and its subwords."""

    def __init__(
        self,
        subwords: Subwords,
        reader: str,
        dim: int,
        hidden: int,
        max_length: int | None,
        dropout: float,
        lexical_dim: int = 0,
    ) -> None:
        self.subwords = subwords
        self.width, self.own_width = lexical_dim + dim + 4 * hidden, lexical_dim or dim
        self.max_length = max_length or DEFAULT_MAX_LENGTH
        self.module = RecurrentNetwork(reader, len(subwords), dim, hidden, dropout, lexical_dim)

    def initialise_lexical(self, texts: Sequence[str], weight: float, seed: int) -> None:
        """Compute the fixed vectors of subwords; see `lexical.compute_table`."""
        table = self.module.lexical
        vocab_size, dim = table.shape
        table.copy_(lexical.compute_table(self.tokenize(texts), vocab_size, dim, weight, seed))

    def scale_lexical(self, factor: float) -> None:
        """Multiply the weight of the part that stands for single subwords."""
        lexical.scale_second_part(self.module.lexical, factor)

    def initialise_rarity(self, texts: Sequence[str], *, by_texts: bool = False) -> None:
        """Give subwords that are frequent in `texts` a low weight, before training."""
        _initialise_rarity(self.module.rarity, self.tokenize(texts), by_texts=by_texts)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, at most `max_length`."""
        return self.subwords.encode(texts, self.max_length)

    def pad(self, ids: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        """Pad on the right: int64 tensors input_ids and attention_mask, (rows, longest row) each."""
        longest = max(map(len, ids))
        input_ids = torch.tensor([[*row, *[PAD] * (longest - len(row))] for row in ids])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids])
        return {"input_ids": input_ids, "attention_mask": mask}

    def make_reader(self, prompts: Mapping[str, str]) -> TextReader:
        """Return the subwords as a file of `tokenizers`, truncated at `max_length`."""
        tokenizer = Tokenizer.from_str(self.subwords.tokenizer.to_str())
        tokenizer.enable_truncation(self.max_length)
        length = self.max_length
        return TextReader(tokenizer.to_str(), length, adds_special_tokens=False, pad_id=PAD, empty_id=UNKNOWN)


class PooledBackbone(torch.nn.Module):
    """A Transformer whose token states are pooled into one vector."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.model, self.pooling = backbone.model, backbone.pooling

    def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Turn a batch (batch, tokens) into vectors (batch, width)."""
        states = self.model(**batch).last_hidden_state
        features: Any = {"token_embeddings": states, "attention_mask": batch["attention_mask"]}
        vectors: torch.Tensor = self.pooling(features)["sentence_embedding"]
        return vectors


class BackboneWithWords(torch.nn.Module):
    """A pooled backbone, and beside its vector the mean of trained embeddings of the subwords, weighted by rarity.

    The backbone knows what a text is about; the embeddings know which words it has. They start at random, which already
    tells texts apart: their mean is a random projection of the text's words.
    """

    def __init__(self, inner: PooledBackbone, vocab_size: int, dim: int) -> None:
        super().__init__()
        self.inner = inner
        self.embedding = torch.nn.Embedding(vocab_size, dim)
        # Embeddings of unit length are small enough for a few hundred optimiser steps to change them.
        torch.nn.init.normal_(self.embedding.weight, std=dim**-0.5)
        self.rarity = torch.nn.Embedding(vocab_size, 1)
        self.gate = torch.nn.Parameter(torch.tensor(INITIAL_WORDS_GATE))

    def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Turn a batch (batch, tokens) into vectors (batch, width + dim)."""
        return self.append_words(self.inner(batch), batch)

    def append_words(self, vectors: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Append the words of a batch to the backbone's vectors (batch, width): (batch, width + dim) float32."""
        ids = batch["input_ids"]
        with torch.autocast(ids.device.type, enabled=False):
            weights = self.rarity(ids)[:, :, 0].float().exp() * batch["attention_mask"]
            embeddings = self.embedding.weight.float()
            words = torch.nn.functional.embedding_bag(ids, embeddings, mode="sum", per_sample_weights=weights)
            return torch.cat([normalize(vectors.float(), dim=1), self.gate * normalize(words, dim=1)], dim=1)


class BackboneTower:
    """A pretrained Transformer with the pooling of its sentence encoder.

    With `word_dim`, its vectors have so many further components; see `BackboneWithWords`.
    """

    def __init__(self, backbone: Backbone, dropout: float | None = None, word_dim: int = 0) -> None:
        self.backbone, self.width, self.max_length = backbone, backbone.width + word_dim, backbone.max_length
        self.own_width = backbone.width
        if dropout is not None:
            backbone.set_dropout(dropout)
        for name, parameter in backbone.model.named_parameters():
            # The pooler is saved for users of the plain Transformer, but is not part of the vector and gets no gradient.
            parameter.requires_grad_(not name.startswith("pooler."))
        self.inner = PooledBackbone(backbone)
        embeddings: Any = backbone.model.get_input_embeddings()
        self.words = BackboneWithWords(self.inner, embeddings.num_embeddings, word_dim) if word_dim else None
        self.module = self.words or self.inner
        self.tokenize, self.pad = backbone.tokenize, backbone.pad

    def initialise_rarity(self, texts: Sequence[str], *, by_texts: bool = False) -> None:
        """Give subwords that are frequent in `texts` a low weight, before training."""
        if self.words is not None:
            _initialise_rarity(self.words.rarity, self.tokenize(texts), by_texts=by_texts)

    def make_reader(self, prompts: Mapping[str, str]) -> TextReader:
        """Return the tokenizer of the backbone, with the prompts of its sides."""
        return text_graph.make_reader(self.backbone, prompts)

    def save(self, folder: Path) -> None:
        """Write stock sentence-transformers modules into an empty folder, and words.safetensors with `word_dim`."""
        sentence_transformers_format.write(folder, self.backbone, {}, self.backbone.width)
        if self.words is not None:
            save_file(_get_word_tensors(self.words), folder / f"{WORDS_STEM}.safetensors", metadata={"format": "pt"})

    @classmethod
    def load(cls, folder: Path, name: str, word_dim: int = 0) -> BackboneTower:
        """Open what `save` wrote. Raise ArtefactError for a missing, extra, mis-shaped or non-finite tensor."""
        tower = cls(backbone.load_from_model_folder(folder, name), word_dim=word_dim)
        if tower.words is not None:
            word_tensors = _get_word_tensors(tower.words)
            preflight.check_shapes(
                folder, {name: tuple(tensor.shape) for name, tensor in word_tensors.items()}, WORDS_STEM
            )
            other_tensors = {
                name: tensor for name, tensor in tensors.extract(tower.words).items() if name not in word_tensors
            }
            tensors.fill(tower.words, other_tensors | tensors.read(folder, WORDS_STEM), folder)
        return tower


def _get_word_tensors(words: BackboneWithWords) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in tensors.extract(words).items() if not name.startswith("inner.")}


def _initialise_rarity(rarity: torch.nn.Embedding, ids: Sequence[Sequence[int]], *, by_texts: bool) -> None:
    """Set each log-weight to log(a / (a + frequency)), where a is HALF_WEIGHT_FREQUENCY.

    With `by_texts`, the weight is log((texts + 1) / (texts with the subword + 1/2)), divided by its largest value.
    """
    rows = [sorted(set(row)) for row in ids] if by_texts else ids
    counts = torch.bincount(torch.tensor([i for row in rows for i in row]), minlength=rarity.num_embeddings).float()
    if by_texts:
        weights = ((len(ids) + 1) / (counts + 0.5)).log()
        weights = (weights / weights.max()).clamp(min=MIN_WEIGHT)
    else:
        weights = HALF_WEIGHT_FREQUENCY / (HALF_WEIGHT_FREQUENCY + counts / counts.sum())
    with torch.no_grad():
        rarity.weight.copy_(weights.log()[:, None])


def build_chunks(tower: Tower, texts: Sequence[str]) -> tuple[list[dict[str, torch.Tensor]], torch.Tensor]:
    """Build padded batches of texts of similar length, and the row of each text in their concatenation, (n,) int64."""
    ids = tower.tokenize(texts)
    order = sorted(range(len(texts)), key=lambda i: len(ids[i]))
    chunks = [
        tower.pad([ids[i] for i in order[start : start + CHUNK_SIZE]]) for start in range(0, len(order), CHUNK_SIZE)
    ]
    return chunks, torch.tensor(order).argsort()

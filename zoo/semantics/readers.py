"""Towers: modules that read a text into one vector. A recurrent network over subwords, or a pretrained Transformer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from zoo import backbone, stock
from zoo.backbone import Backbone
from zoo.semantics.pieces import PAD, Pieces

MAX_LENGTH = 256  # subwords that a recurrent network reads, where the recipe says nothing
RARE = 1e-3  # the frequency at which a subword counts half
GATE = 0.3  # what states count beside embeddings, to begin with
TOGETHER = 32  # texts in a chunk: on a CPU more of them only add padding


class Reader(Protocol):
    """What a tower is made of: `module` takes the tensors of `pad`, each (batch, tokens), and puts out (batch, width)."""

    width: int
    max_length: int

    @property
    def module(self) -> torch.nn.Module: ...

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]: ...

    def pad(self, ids: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]: ...


class Recurrent(torch.nn.Module):
    """Embeddings of subwords and a bidirectional LSTM or GRU over them: the largest and the mean state of each component, and
    beside them the mean of the embeddings, rare subwords counting more, which knows shared words before any training (Arora et
    al., "A Simple but Tough-to-Beat Baseline for Sentence Embeddings", ICLR 2017, equation 3). What each of the two counts,
    and each subword, is trained."""

    def __init__(self, kind: str, pieces: int, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(pieces, dim, padding_idx=PAD)
        self.rarity = torch.nn.Embedding(pieces, 1)
        self.gate = torch.nn.Parameter(torch.tensor(GATE))
        cell = torch.nn.LSTM if kind == "lstm" else torch.nn.GRU
        self.cell = cell(dim, hidden, batch_first=True, bidirectional=True)
        self.drop = torch.nn.Dropout(dropout)

    def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Ids and mask (batch, tokens) to (batch, dim + 4 · hidden) float32."""
        mask, unit = batch["attention_mask"], torch.nn.functional.normalize
        lengths = mask.sum(1).cpu()
        with torch.autocast(mask.device.type, enabled=False):
            vectors = self.drop(self.embedding(batch["input_ids"]))
            packed = torch.nn.utils.rnn.pack_padded_sequence(vectors, lengths, batch_first=True, enforce_sorted=False)
            states, _ = torch.nn.utils.rnn.pad_packed_sequence(self.cell(packed)[0], batch_first=True)
            there = mask[:, : states.shape[1], None]
            highest = states.masked_fill(there == 0, -torch.inf).amax(1)
            mean = (states * there).sum(1) / lengths[:, None].to(states.device)
            read = unit(torch.cat([highest, mean.to(highest.dtype)], dim=1), dim=1)
            weights = self.rarity(batch["input_ids"]).exp() * mask[:, :, None]
            words = unit((vectors * weights).sum(1), dim=1)
            return torch.cat([words, self.gate * self.drop(read)], dim=1).float()


class RecurrentReader:
    """A `Recurrent` and its subwords."""

    def __init__(
        self, pieces: Pieces, kind: str, dim: int, hidden: int, max_length: int | None, dropout: float
    ) -> None:
        self.pieces, self.width, self.max_length = pieces, dim + 4 * hidden, max_length or MAX_LENGTH
        self.module = Recurrent(kind, len(pieces), dim, hidden, dropout)

    def weigh(self, texts: Sequence[str]) -> None:
        """Let subwords that are frequent in `texts` count less, to begin with."""
        ids = torch.tensor([i for row in self.tokenize(texts) for i in row])
        counts = torch.bincount(ids, minlength=len(self.pieces)).float()
        with torch.no_grad():
            self.module.rarity.weight.copy_((RARE / (RARE + counts / counts.sum())).log()[:, None])

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, at most `max_length`."""
        return self.pieces.encode(texts, self.max_length)

    def pad(self, ids: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        """Right-padded int64 tensors input_ids and attention_mask (rows, longest row)."""
        longest = max(map(len, ids))
        rows = torch.tensor([[*row, *[PAD] * (longest - len(row))] for row in ids])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids])
        return {"input_ids": rows, "attention_mask": mask}


class Pooled(torch.nn.Module):
    """The token states of a Transformer, pooled."""

    def __init__(self, body: Backbone) -> None:
        super().__init__()
        self.model, self.pooling = body.model, body.pooling

    def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(batch, tokens) to (batch, width)."""
        states = self.model(**batch).last_hidden_state
        features: Any = {"token_embeddings": states, "attention_mask": batch["attention_mask"]}
        return self.pooling(features)["sentence_embedding"]


class BackboneReader:
    """A pretrained Transformer, pooled as its sentence encoder does it."""

    def __init__(self, body: Backbone, dropout: float | None = None) -> None:
        self.body, self.width, self.max_length = body, body.width, body.max_length
        if dropout is not None:
            body.set_dropout(dropout)
        for name, parameter in body.model.named_parameters():
            parameter.requires_grad_(
                not name.startswith("pooler.")
            )  # kept for those who load the file, never used here
        self.module = Pooled(body)
        self.tokenize, self.pad = body.tokenize, body.pad

    def save(self, folder: Path) -> None:
        """Stock sentence-transformers modules, into an empty folder."""
        stock.write(folder, self.body, {}, self.body.width)

    @classmethod
    def load(cls, folder: Path, name: str) -> BackboneReader:
        """Open what `save` wrote; every tensor must be there, fit and be finite."""
        return cls(backbone.read(folder, name))


def chunks(reader: Reader, texts: Sequence[str]) -> tuple[list[dict[str, torch.Tensor]], torch.Tensor]:
    """Texts as padded batches of similar length, and the place of each text among their rows, (n,) int64."""
    ids = reader.tokenize(texts)
    order = sorted(range(len(texts)), key=lambda i: len(ids[i]))
    parts = [order[start : start + TOGETHER] for start in range(0, len(order), TOGETHER)]
    return [reader.pad([ids[i] for i in part]) for part in parts], torch.tensor(order).argsort()

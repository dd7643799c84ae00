"""Towers: modules that read a text into one vector. A recurrent network over subwords, or a pretrained Transformer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from zoo.artefact import preflight, tensors
from zoo.families.sesa.subwords import PAD, Pieces
from zoo.text import backbone, sentence_transformers_format
from zoo.text.backbone import Backbone

MAX_LENGTH = 256  # subwords that a recurrent network reads, where the recipe says nothing
RARE = 1e-3  # the frequency at which a subword counts half
GATE = 0.3  # what states count beside embeddings, to begin with
BESIDE = 0.5  # what the words count beside a backbone's vector, to begin with
WORDS = "words"
TOGETHER = 32  # texts in a chunk: on a CPU more of them only add padding


class Reader(Protocol):
    """What a tower is made of: `module` takes the tensors of `pad`, each (batch, tokens), and puts out (batch, width)."""

    width: int
    max_length: int

    @property
    def module(self) -> torch.nn.Module: ...

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]: ...

    def pad(self, ids: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]: ...

    def weigh(self, texts: Sequence[str]) -> None: ...


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
        _weigh(self.module.rarity, self.tokenize(texts))

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


class Words(torch.nn.Module):
    """Beside the vector of a backbone the mean of embeddings of its subwords, rare ones counting more: which words stand in a
    text, where the backbone tells what it is about. Embeddings begin at random, which keeps texts apart (a random projection of
    their words), and are trained."""

    def __init__(self, inner: Pooled, pieces: int, dim: int) -> None:
        super().__init__()
        self.inner = inner
        self.embedding = torch.nn.Embedding(pieces, dim)
        torch.nn.init.normal_(self.embedding.weight, std=dim**-0.5)  # as large as what a few hundred steps can change
        self.rarity = torch.nn.Embedding(pieces, 1)
        self.gate = torch.nn.Parameter(torch.tensor(BESIDE))

    def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(batch, tokens) to (batch, width + dim)."""
        return self.join(self.inner(batch), batch)

    def join(self, vectors: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The same, where the backbone's vectors (batch, width) are known."""
        unit, ids = torch.nn.functional.normalize, batch["input_ids"]
        with torch.autocast(ids.device.type, enabled=False):
            weights = self.rarity(ids)[:, :, 0].float().exp() * batch["attention_mask"]
            table = self.embedding.weight.float()
            words = torch.nn.functional.embedding_bag(ids, table, mode="sum", per_sample_weights=weights)
            return torch.cat([unit(vectors.float(), dim=1), self.gate * unit(words, dim=1)], dim=1)


class BackboneReader:
    """A pretrained Transformer, pooled as its sentence encoder does it; with `words`, so many components beside it, see
    `Words`."""

    def __init__(self, body: Backbone, dropout: float | None = None, words: int = 0) -> None:
        self.body, self.width, self.max_length = body, body.width + words, body.max_length
        if dropout is not None:
            body.set_dropout(dropout)
        for name, parameter in body.model.named_parameters():
            parameter.requires_grad_(
                not name.startswith("pooler.")
            )  # kept for those who load the file, never used here
        self.inner = Pooled(body)
        pieces: Any = body.model.get_input_embeddings()
        self.words = Words(self.inner, pieces.num_embeddings, words) if words else None
        self.module = self.words or self.inner
        self.tokenize, self.pad = body.tokenize, body.pad

    def weigh(self, texts: Sequence[str]) -> None:
        """Let subwords that are frequent in `texts` count less, to begin with."""
        if self.words is not None:
            _weigh(self.words.rarity, self.tokenize(texts))

    def save(self, folder: Path) -> None:
        """Stock sentence-transformers modules, into an empty folder, and the words."""
        from safetensors.torch import save_file

        sentence_transformers_format.write(folder, self.body, {}, self.body.width)
        if self.words is not None:
            save_file(self._own(), folder / f"{WORDS}.safetensors", metadata={"format": "pt"})

    def _own(self) -> dict[str, torch.Tensor]:
        held = tensors.extract(self.words) if self.words is not None else {}
        return {name: tensor for name, tensor in held.items() if not name.startswith("inner.")}

    @classmethod
    def load(cls, folder: Path, name: str, words: int = 0) -> BackboneReader:
        """Open what `save` wrote; every tensor must be there, fit and be finite."""
        made = cls(backbone.load_from_model_folder(folder, name), words=words)
        if made.words is not None:
            preflight.check_shapes(folder, {name: tuple(tensor.shape) for name, tensor in made._own().items()}, WORDS)
            inner = {name: t for name, t in tensors.extract(made.words).items() if name.startswith("inner.")}
            tensors.fill(made.words, inner | tensors.read(folder, WORDS), folder)
        return made


def _weigh(rarity: torch.nn.Embedding, ids: Sequence[Sequence[int]]) -> None:
    counts = torch.bincount(torch.tensor([i for row in ids for i in row]), minlength=rarity.num_embeddings).float()
    with torch.no_grad():
        rarity.weight.copy_((RARE / (RARE + counts / counts.sum())).log()[:, None])


def chunks(reader: Reader, texts: Sequence[str]) -> tuple[list[dict[str, torch.Tensor]], torch.Tensor]:
    """Texts as padded batches of similar length, and the place of each text among their rows, (n,) int64."""
    ids = reader.tokenize(texts)
    order = sorted(range(len(texts)), key=lambda i: len(ids[i]))
    parts = [order[start : start + TOGETHER] for start in range(0, len(order), TOGETHER)]
    return [reader.pad([ids[i] for i in part]) for part in parts], torch.tensor(order).argsort()

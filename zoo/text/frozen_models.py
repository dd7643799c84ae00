"""The frozen models beside a text encoder in training: a guide that finds false negatives, and a teacher that scores pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch

from zoo.core import atomic_files
from zoo.text import backbone as backbones
from zoo.text.backbone import Backbone, PooledBackbone
from zoo.text.block_cache import RowsByText
from zoo.text.cross_encoder import CrossEncoderScorer
from zoo.text.engine import Engine
from zoo.text.frozen_vectors import FrozenVectors
from zoo.text.teacher_scores import EncoderScorer, PairScorer, compute_scores
from zoo.text.teacher_spec import TeacherSpec
from zoo.text.text_encoder import TextEncoder
from zoo.text.text_spec import TextSpec

Rows = Iterable[Mapping[str, Any]]


class Guide:
    """A frozen encoder whose vectors of all training texts are computed once.

    Args:
        encoder: the frozen encoder, which puts its own prompts before the texts.
        rows: the training rows.
        columns: their columns of texts.
        cache: the folder that keeps the vectors.
    """

    def __init__(self, encoder: TextEncoder, rows: Any, columns: Sequence[str], cache: Path) -> None:
        self._get_prompt: Callable[[str], str] = encoder.get_prompt
        texts = [encoder.get_prompt(column) + text for column in columns for text in rows[column] if text is not None]
        self._vectors = FrozenVectors(encoder, texts, cache)

    def find_rows(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> torch.Tensor:
        """Return the numbers (columns, rows) int64 of the vectors of all cells."""
        cells = [self._get_prompt(column) + row[column] for column in columns for row in rows]
        return self._vectors.find_rows(cells).view(len(columns), -1)

    def get_vectors(self, numbers: torch.Tensor, device: torch.device) -> torch.Tensor:
        """Return the vectors (columns, rows, d) of the numbers that `find_rows` returned."""
        return self._vectors.get(numbers, device)


def open_scorer(spec: TeacherSpec, folder: Path, open_encoder: Callable[[str], TextEncoder]) -> PairScorer:
    """Open the teacher that a recipe names. A relative path in `spec` starts at `folder`."""
    if spec.kind == "cross-encoder":
        return CrossEncoderScorer(spec.model, folder=folder)
    encoder = open_encoder(spec.model)
    return EncoderScorer(encoder, spec.model, atomic_files.digest([encoder.backbone_revision, encoder.prompts]))


class Teacher:
    """A frozen model whose scores of every anchor with the candidates of its row are computed once."""

    def __init__(self, scorer: PairScorer, cache: Path) -> None:
        self._scorer, self._cache = scorer, cache
        self._tables: list[RowsByText] = []

    def score_rows(self, rows: Rows, columns: Sequence[str]) -> None:
        """Score the pairs of these rows, or read their scores from the cache. The first column holds the anchors."""
        pairs = [(row[columns[0]], row[column]) for row in rows for column in columns[1:]]
        self._tables.append(RowsByText(pairs, compute_scores(self._scorer, pairs, self._cache)))

    def find_scores(self, rows: Rows, columns: Sequence[str]) -> torch.Tensor:
        """Return the scores (rows, candidates) float32 of rows that were scored before."""
        width = len(columns) - 1
        pairs = [(row[columns[0]], row[column]) for row in rows for column in columns[1:]]
        for table in self._tables:
            try:
                return torch.from_numpy(table.find(pairs)).view(-1, width)
            except KeyError:  # these rows are those of another table
                continue
        raise KeyError(pairs[0])


class PooledEncoder(TextEncoder):
    """A frozen encoder with the pooling of its own folder, whose vectors have unit norm."""

    def __init__(self, backbone: Backbone) -> None:
        self.spec = TextSpec(family="", backbone=backbone.name)
        super().__init__(self.spec, backbone)
        self.dim = backbone.width
        self.module = backbone.model

    @classmethod
    def open(cls, reference: str, folder: Path) -> Self:
        """Open a model by Hub id, folder or `package:NAME`. A relative path starts at `folder`."""
        return cls(backbones.load(reference, folder=folder, can_be_cut=False))

    def _make_engine(self) -> Engine:
        module = PooledBackbone(self.backbone, None, self.dim)
        return Engine(module, self.backbone.tokenize, self.backbone.pad, self.dim, self.backbone.max_length)

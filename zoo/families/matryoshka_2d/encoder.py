"""2D Matryoshka sentence embeddings: one encoder that may be cut in layers and in dimensions when it is loaded.

Source: Li et al., "2D Matryoshka Sentence Embeddings", arXiv 2402.14776. The objective is in `objectives`.
"""

from __future__ import annotations

import random
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, field_validator

from zoo.core.lazy import lazy
from zoo.data.spec import Data
from zoo.families.matryoshka_2d import objectives
from zoo.families.matryoshka_2d.teacher import Teacher, TeacherSpec
from zoo.ops import distributed, losses
from zoo.schema import Kind, Positive, Training
from zoo.text import heads as headfit
from zoo.text.backbone import Backbone
from zoo.text.truncatable import TruncatableEncoder, TruncatableSpec, on

if TYPE_CHECKING:
    import numpy as np
    import torch
    from datasets import Dataset
    from torch.utils import checkpoint
else:
    np, torch, checkpoint = lazy("numpy"), lazy("torch"), lazy("torch.utils.checkpoint")


class Spec(TruncatableSpec):
    """`encoder:` of a 2D Matryoshka model.

    `objective: elastic` (the default) gives every layer a linear head, fitted in closed form and then trained;
    `objective: 2dmse` is the paper's, to the letter with `detach: false`.
    """

    family: Literal["matryoshka-2d"]
    dims: tuple[Positive, ...] = Field(
        default=(32, 64, 128, 256), description="Widths to train; the full one always is."
    )
    objective: Literal["elastic", "2dmse"] = "elastic"
    loss: Literal["cosent", "contrastive", "angle"] = "cosent"
    scale: Annotated[float, Field(gt=0)] = Field(
        default=20.0, description="Multiplies cosines: the inverse temperature."
    )
    angle_weights: tuple[float, float, float] = Field(default=(1.0, 0.0, 1.0), description="CoSENT, in-batch, angle.")
    head_rate: Annotated[float, Field(gt=0)] = Field(
        default=2.0, description="elastic: the heads' rate, times the recipe's."
    )
    backflow: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.3, description="elastic: share of the shallow layers' gradient that reaches the backbone."
    )
    layers: Literal["sampled", "all"] = Field(
        default="sampled", description="2dmse: one shallow layer a step, or every one."
    )
    weights: tuple[float, float] = Field(
        default=(1.0, 1.0), description="2dmse: λt of the last layer, λs of the shallow."
    )
    align: Annotated[float, Field(ge=0)] = Field(
        default=1.0, description="2dmse: factor of the KL term; 0 leaves it out."
    )
    detach: bool = Field(default=True, description="2dmse: the KL term leaves its teacher alone; the paper: false.")
    temperature: Annotated[float, Field(gt=0)] = Field(default=1.0, description="2dmse: T of the KL term.")
    teacher: TeacherSpec | None = Field(
        default=None, description="A frozen teacher whose similarities every cut follows."
    )
    chunk: Positive | None = Field(
        default=None, description="Texts in memory at a time: a large batch, recomputed on the way back."
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None, description="By default none for elastic, and the backbone's own for 2dmse."
    )

    @field_validator("dims")
    @classmethod
    def _ascending(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError(f"must ascend without repeats, not {list(value)}")
        return value


_NEGATIVES = ("negative", *(f"negative_{i}" for i in range(1, 33)))
_TRIPLETS, _PAIRS = ("anchor", "positive", *_NEGATIVES), ("sentence1", "sentence2")
_CHUNK = 32  # texts of similar length that run together: on a CPU more of them only add padding
_FIT_TEXTS = 4096  # distinct training texts that the heads are fitted on


class Encoder(TruncatableEncoder):
    """A backbone whose every (layers, dim) corner is trained to be an encoder."""

    spec: Spec

    def __init__(
        self, spec: Spec, body: Backbone, heads: Mapping[int, torch.nn.Linear] | None = None, dim: int | None = None
    ) -> None:
        super().__init__(spec, body, heads, dim)
        self._teacher: Teacher | None = None

    @classmethod
    def roles(cls, spec: Spec) -> tuple[dict[str, Kind], dict[str, Kind]]:
        """Scored pairs for cosent and angle; anchor and positive, and perhaps hard negatives, for contrastive."""
        if spec.loss == "contrastive":
            return {"anchor": "text", "positive": "text"}, dict.fromkeys(_NEGATIVES, "text")
        return {"sentence1": "text", "sentence2": "text", "score": "number"}, {}

    @classmethod
    def extra_datasets(cls, spec: Spec) -> dict[tuple[str, ...], tuple[Data, Mapping[str, Kind]]]:
        """The teacher's unlabelled texts."""
        more = spec.teacher.unlabelled if spec.teacher else None
        return {("teacher", "unlabelled"): (more, {"text": "text"})} if more else {}

    @classmethod
    def check(cls, spec: Spec, folder: Path) -> list[tuple[tuple[str | int, ...], str]]:
        """Also widths beyond the backbone's own, and a teacher that is not there."""
        found = super().check(spec, folder)
        given = spec.dims and "dims" in spec.model_fields_set
        wrong = cls.check_view(spec, {"dim": max(spec.dims)}, folder) if given else None
        if wrong:
            found.append((("dims",), wrong.removeprefix("dim: ")))
        if spec.teacher and spec.teacher.model:
            other = super().check(spec.model_copy(update={"backbone": spec.teacher.model}), folder)
            found += [(("teacher", "model"), message) for _, message in other]
        return found

    @classmethod
    def build(cls, spec: Spec, *, seed: int = 42, folder: Path = Path()) -> Self:
        """The backbone as it comes, every corner of it open."""
        encoder = super().build(spec, seed=seed, folder=folder)
        dropout = 0.0 if spec.dropout is None and spec.objective == "elastic" else spec.dropout
        if dropout is not None:
            encoder.backbone.set_dropout(dropout)
        return encoder

    def prepare(self, rows: Dataset, cache: Path) -> None:
        """Fit the heads on the training texts, and compute the teacher's vectors."""
        columns = self._columns(rows.column_names)
        texts = list(dict.fromkeys(self._before(column) + text for column in columns for text in rows[column]))
        unlabelled = self._unlabelled()
        if self.spec.teacher is not None:
            frozen = self.truncate() if self.spec.teacher.model is None else self._open_teacher(self.spec.teacher.model)
            self._teacher = Teacher(self.spec.teacher, frozen, texts, unlabelled, self.spec.scale, cache)
        if self.spec.objective == "2dmse":
            return
        texts = [*texts, *unlabelled]
        texts = random.Random(self.seed).sample(texts, min(len(texts), _FIT_TEXTS))
        self.module.eval()
        fit = headfit.HeadFit(self.backbone.depth, self.backbone.width)
        with torch.inference_mode():
            for chunk, _ in self.backbone.iterate_batches(texts, 64):
                fit.add(self.backbone.compute_states(chunk, range(1, self.backbone.depth + 1)))
        self.set_heads({n: headfit.make_head(weight, bias) for n, (weight, bias) in fit.solve().items()})

    def _unlabelled(self) -> list[str]:
        rows = self.tables.get("unlabelled")
        return [] if rows is None else [self._before("text") + text for text in rows["text"]]

    def _columns(self, present: Container[str]) -> list[str]:
        """The columns of texts that the loss looks at; data may have others, whatever they are called."""
        return [c for c in (_TRIPLETS if self.spec.loss == "contrastive" else _PAIRS) if c in present]

    def _before(self, column: str) -> str:
        """The prompt that belongs before the texts of a column: a question and what answers it, or neither."""
        role = {"anchor": "query", "sentence1": "", "sentence2": ""}.get(column, "document")
        return self.prompts.get(role, "")

    def _open_teacher(self, reference: str) -> Encoder:
        plain = self.spec.model_copy(update={"backbone": reference, "revision": None, "teacher": None})
        return type(self).build(plain, folder=self.folder)

    def parameter_groups(self, training: Training) -> list[dict[str, Any]]:
        """The backbone at the recipe's rate, the heads at `head_rate` times that."""
        groups = [{"params": [p for p in self.backbone.model.parameters() if p.requires_grad]}]
        heads = [p for p in self.heads.parameters() if p.requires_grad]
        return [*groups, {"params": heads, "lr": training.learning_rate * self.spec.head_rate}] if heads else groups

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Every distinct text of the batch once, in chunks of similar length, and where each cell of (columns, rows) finds
        its own. Padding columns together would cost twice as much."""
        columns = self._columns(rows[0])
        cells = [self._before(column) + row[column] for column in columns for row in rows]
        texts = list(dict.fromkeys(cells))
        chunks, places = zip(*self.backbone.iterate_batches(texts, self.spec.chunk or _CHUNK), strict=True)
        rank = {texts[place]: position for position, place in enumerate(p for some in places for p in some)}
        batch = {
            "chunks": list(chunks),
            "cells": torch.tensor([rank[cell] for cell in cells]).view(len(columns), len(rows)),
        }
        if self._teacher is not None:
            batch["texts"] = cells
        if self.spec.loss != "contrastive":
            batch["scores"] = torch.tensor([float(row["score"]) for row in rows])
        return batch

    def loss(self, batch: dict[str, Any]) -> torch.Tensor:
        """The objective of one batch. In training, n and m are drawn from (seed, step), so that every process, and a run
        that was resumed, draws the same; in validation every shallow layer and every width counts."""
        depth, training = self.backbone.depth, self.module.training
        draw = torch.Generator().manual_seed((self.seed + 1) * 1_000_003 + self.step)
        shallow = list(range(1, depth))
        if training and shallow and self.spec.objective == "2dmse" and self.spec.layers == "sampled":
            shallow = [shallow[int(torch.randint(len(shallow), (1,), generator=draw))]]
        narrow = [d for d in self.spec.dims if d < self.backbone.width] or [self.backbone.width]
        m = narrow[int(torch.randint(len(narrow), (1,), generator=draw))]
        own = self._layers(batch, [*shallow, depth])
        vectors, scores = own, batch.get("scores")
        if training:  # in validation every process has all the rows
            vectors = {n: distributed.all_gather_with_grad(each, dim=1) for n, each in own.items()}
            scores = None if scores is None else distributed.all_gather_with_grad(scores)

        def sentence_loss(columns: torch.Tensor) -> torch.Tensor:
            return losses.compute_sentence_loss(
                columns, scores, self.spec.loss, self.spec.scale, self.spec.angle_weights
            )

        deep, rest = vectors[depth], {n: vectors[n] for n in shallow}
        if self.spec.objective == "elastic":
            total = objectives.elastic(deep, rest, narrow, sentence_loss)
        else:
            terms = [self._paper(deep, rest, width, sentence_loss) for width in ([m] if training else narrow)]
            total = torch.stack(terms).mean()
        if not training:  # held-out texts have no teacher vectors: validation is on the task alone
            return total
        total = distributed.global_batch_gradient(total)
        return total + self._teaching(batch, own, m) if self._teacher is not None else total

    def _paper(self, deep: torch.Tensor, rest: dict[int, torch.Tensor], width: int, loss: Any) -> torch.Tensor:
        return objectives.objective(
            deep,
            rest,
            width,
            loss,
            objectives.shallow_weights(list(rest), self.backbone.depth),
            deep_weight=self.spec.weights[0],
            shallow_weight=self.spec.weights[1],
            align=self.spec.align,
            detach=self.spec.detach,
            temperature=self.spec.temperature,
        )

    def _teaching(self, batch: dict[str, Any], own: dict[int, torch.Tensor], width: int) -> torch.Tensor:
        """The teacher's terms for every layer at full width and at `width`, on the batch's texts and on unlabelled ones."""
        assert self._teacher is not None  # the caller has looked
        total = self._teacher.terms(batch["texts"], {n: each.flatten(0, 1) for n, each in own.items()}, width)
        if extra := self._teacher.draw(self.seed, self.step):
            chunks, places = zip(*self.backbone.iterate_batches(extra, _CHUNK), strict=True)
            order = torch.tensor([p for some in places for p in some]).argsort()
            layers = self._layers({"chunks": [on(total.device, chunk) for chunk in chunks], "cells": order}, list(own))
            total = total + self._teacher.terms(extra, layers, width)
        return total

    def _layers(self, batch: dict[str, Any], layers: list[int]) -> dict[int, torch.Tensor]:
        """Float32 embeddings by layer, in the shape of `cells` and the width at the end."""
        pieces = []
        for chunk in batch["chunks"]:
            if self.spec.chunk and self.module.training:
                pieces.append(checkpoint.checkpoint(self.backbone.compute_states, chunk, layers, use_reentrant=False))
            else:
                pieces.append(self.backbone.compute_states(chunk, layers))
        out = {}
        for n, parts in zip(layers, zip(*pieces, strict=True), strict=True):
            vectors = torch.cat(parts).float()[batch["cells"]]
            share = self.spec.backflow if self.spec.objective == "elastic" and n < self.backbone.depth else 1.0
            with torch.autocast(vectors.device.type, enabled=False):  # as cheap in float32, and fitted in it
                out[n] = self.head(n, objectives.backflow(vectors, share))
        return out

    def card_facts(self) -> dict[str, Any]:
        """Also the objective, and the widths it was trained for."""
        dims = sorted({*(d for d in self.spec.dims if d < self.dim), self.dim})
        return super().card_facts() | {"dims": dims, "objective": self.spec.objective}

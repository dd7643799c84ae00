"""The encoder of 2D Matryoshka sentence embeddings: its training. `TruncatableEncoder` cuts, encodes, saves and loads.

Source: Li et al., "2D Matryoshka Sentence Embeddings", arXiv 2402.14776. The objectives are in `objectives`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch.utils import checkpoint

from zoo.data.split import draw_positions
from zoo.encoder import TrainingRun
from zoo.families.matryoshka_2d import closed_form, objectives
from zoo.families.matryoshka_2d.spec import PAIR_COLUMNS, TRIPLET_COLUMNS, Spec
from zoo.families.matryoshka_2d.teacher import Teacher
from zoo.ops import distributed, losses
from zoo.ops.false_negatives import false_negative_mask
from zoo.ops.random_state import step_generator
from zoo.schema import Training
from zoo.text import heads as headfit
from zoo.text.backbone import Backbone
from zoo.text.deferred import DeferredBackbone
from zoo.text.text_encoder import CHUNK_SIZE
from zoo.text.truncatable import TruncatableEncoder, move_to_device

if TYPE_CHECKING:
    from datasets import Dataset

HEAD_FIT_TEXTS = 4096  # largest number of distinct training texts from which the heads are fitted
HEAD_FIT_CHUNK_SIZE = 64
MAX_PREPARED = 500_000  # rows from whose texts those of the heads are drawn; a teacher reads all


class Encoder(TruncatableEncoder):
    """A backbone that is trained so that it can be cut to any number of layers and components."""

    spec: Spec

    def __init__(
        self,
        spec: Spec,
        backbone: Backbone | DeferredBackbone,
        heads: Mapping[int, torch.nn.Linear] | None = None,
        dim: int | None = None,
    ) -> None:
        super().__init__(spec, backbone, heads, dim)
        self._teacher: Teacher | None = None

    @classmethod
    def build(cls, spec: Spec, *, seed: int = 42, folder: Path = Path()) -> Self:
        """The untrained backbone without heads, with the dropout of `spec`."""
        encoder = super().build(spec, seed=seed, folder=folder)
        has_none = spec.objective == "elastic" and not spec.trains_full_size_alone
        dropout = 0.0 if spec.dropout is None and has_none else spec.dropout
        if dropout is not None:
            encoder.backbone.set_dropout(dropout)
        return encoder

    # -- preparation -----------------------------------------------------------------------------------------------

    def prepare(self, rows: Dataset, cache: Path) -> None:
        """Compute the teacher's vectors, and fit the heads of `objective: elastic` to the training texts."""
        if self.spec.teacher is None and (self.spec.objective != "elastic" or self.spec.trains_full_size_alone):
            return
        if self.spec.teacher is None and len(rows) > MAX_PREPARED:
            rows = rows.select(draw_positions(len(rows), MAX_PREPARED))
        columns = self._find_text_columns(rows.column_names)
        cells = ((self.get_prompt(column), text) for column in columns for text in rows[column])
        # One source of several may lack a column, whose cells are then None.
        texts = list(dict.fromkeys(prompt + text for prompt, text in cells if text is not None))
        unlabelled = self._read_unlabelled_texts()
        if self.spec.teacher is not None:
            reference = self.spec.teacher.model
            frozen_encoder = self.truncate() if reference is None else self._open_teacher(reference)
            self._teacher = Teacher(self.spec.teacher, frozen_encoder, texts, unlabelled, self.spec.temperature, cache)
        if self.spec.objective == "elastic" and not self.spec.trains_full_size_alone:
            self._fit_heads([*texts, *unlabelled])

    def _fit_heads(self, texts: Sequence[str]) -> None:
        texts = random.Random(self.seed).sample(texts, min(len(texts), HEAD_FIT_TEXTS))
        layers = range(1, self.backbone.depth + 1)
        fit = headfit.HeadFit(self.backbone.depth, self.backbone.width)
        self.module.eval()
        with torch.inference_mode():
            for chunk, _ in self.backbone.iterate_batches(texts, HEAD_FIT_CHUNK_SIZE):
                fit.add(self.backbone.compute_states(chunk, layers))
        self.set_heads({n: headfit.make_head(weight, bias) for n, (weight, bias) in fit.solve().items()})

    def _read_unlabelled_texts(self) -> list[str]:
        rows = self.tables.get("unlabelled")
        return [] if rows is None else [self.get_prompt("text") + text for text in rows["text"]]

    def _find_text_columns(self, column_names: Container[str]) -> list[str]:
        """The text columns that the loss reads. Other columns of the data are ignored, whatever their names are."""
        columns = TRIPLET_COLUMNS if self.spec.loss == "contrastive" else PAIR_COLUMNS
        return [column for column in columns if column in column_names]

    def _open_teacher(self, reference: str) -> Encoder:
        spec = self.spec.model_copy(update={"backbone": reference, "revision": None, "teacher": None})
        return type(self).build(spec, folder=self.folder)

    # -- training --------------------------------------------------------------------------------------------------

    def parameter_groups(self, training: Training) -> list[dict[str, Any]]:
        """The backbone at the recipe's learning rate, and the heads at `head_lr_scale` times that rate."""
        groups: list[dict[str, Any]] = [{"params": [p for p in self.backbone.model.parameters() if p.requires_grad]}]
        head_parameters = [p for p in self.heads.parameters() if p.requires_grad]
        if head_parameters:
            groups.append({"params": head_parameters, "lr": training.peak_learning_rate * self.spec.head_lr_scale})
        return groups

    def train(self, run: TrainingRun) -> float:
        """Train, and compute the heads afterwards if the backbone was trained at full size alone."""
        if not self.spec.trains_full_size_alone:
            return super().train(run)
        self.heads.requires_grad_(False)  # those of an earlier training; a parameter without a gradient stops processes
        seconds = super().train(run)
        start_time = time.monotonic()
        rows = run.rows
        if len(rows) > closed_form.PAIRS:
            rows = rows.select(sorted(random.Random(self.seed).sample(range(len(rows)), closed_form.PAIRS)))
        sides = [[self.get_prompt(column) + text for text in rows[column]] for column in ("anchor", "positive")]
        pairs = list(dict.fromkeys(zip(*sides, strict=True)))
        self.set_heads(closed_form.fit_heads(self.backbone, pairs, self._get_head(self.backbone.depth)))
        self.module.eval()
        return seconds + time.monotonic() - start_time

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The tensors of `_collate_cells`, the scores of pairs, and the rows of the teacher's vectors."""
        columns = self._find_text_columns(rows[0])
        cells = [self.get_prompt(column, row.get("source")) + row[column] for column in columns for row in rows]
        batch = self._collate_cells(cells, len(columns), self.spec.chunk or CHUNK_SIZE)
        if self._teacher is not None:
            batch["teacher_rows"] = self._teacher.find_rows(cells).view(len(columns), len(rows))
        if self.spec.loss != "contrastive":
            batch["scores"] = torch.tensor([float(row["score"]) for row in rows])
        return batch

    def loss(self, batch: dict[str, Any]) -> torch.Tensor:
        """Scalar loss of one batch.

        In training, the shallow layer n and the width m are drawn from (seed, step). Every process, and a resumed run, draws
        the same. In validation every shallow layer and every width counts, without the teacher.
        """
        depth, is_training = self.backbone.depth, self.module.training
        is_alone = self.spec.trains_full_size_alone
        generator = step_generator(self.seed, self.step)
        shallow_layers = [] if is_alone else list(range(1, depth))
        samples_a_layer = self.spec.objective == "2dmse" and self.spec.layers == "sampled"
        if is_training and shallow_layers and samples_a_layer:
            shallow_layers = [_draw(shallow_layers, generator)]
        widths = [d for d in self.spec.dims if d < self.backbone.width] or [self.backbone.width]
        width = _draw(widths, generator)
        vectors = self._embed_layers(batch, [*shallow_layers, depth])
        scores, text_keys = batch.get("scores"), batch["text_keys"]
        if is_training:  # in validation every process has all the rows
            vectors = {n: distributed.all_gather_with_grad(layer, dim=1) for n, layer in vectors.items()}
            scores = None if scores is None else distributed.all_gather_with_grad(scores)
            text_keys = distributed.all_gather_with_grad(text_keys, dim=1)
        mask = false_negative_mask(text_keys[0], text_keys[1:].flatten())

        def sentence_loss(columns: torch.Tensor) -> torch.Tensor:
            return losses.compute_sentence_loss(
                columns, scores, self.spec.loss, 1 / self.spec.temperature, self.spec.angle_weights, mask
            )

        shallow_vectors = {n: vectors[n] for n in shallow_layers}
        if is_alone:
            total = sentence_loss(vectors[depth])
        elif self.spec.objective == "elastic":
            total = objectives.compute_elastic(vectors[depth], shallow_vectors, widths, sentence_loss)
        else:
            terms = [
                self._compute_2dmse(vectors[depth], shallow_vectors, m, sentence_loss)
                for m in ([width] if is_training else widths)
            ]
            total = torch.stack(terms).mean()
        if not is_training:  # the teacher has no vectors of validation texts
            return total
        if self._teacher is None:
            return distributed.global_batch_gradient(total)
        teacher_rows = distributed.all_gather_with_grad(batch["teacher_rows"], dim=1)
        layers = {n: layer.flatten(0, 1) for n, layer in vectors.items()}
        total = total + self._teacher.compute_loss(teacher_rows.flatten(), layers, width)
        return distributed.global_batch_gradient(total) + self._compute_unlabelled_loss(list(vectors), width)

    def _compute_2dmse(
        self, deep: torch.Tensor, shallow: dict[int, torch.Tensor], width: int, loss: objectives.SentenceLoss
    ) -> torch.Tensor:
        return objectives.compute_2dmse(
            deep,
            shallow,
            width,
            loss,
            objectives.compute_shallow_weights(list(shallow), self.backbone.depth),
            deep_weight=self.spec.weights[0],
            shallow_weight=self.spec.weights[1],
            align=self.spec.align,
            detach=self.spec.detach,
            temperature=self.spec.kl_temperature,
        )

    def _compute_unlabelled_loss(self, layers: list[int], width: int) -> torch.Tensor | float:
        """The teacher's loss on unlabelled texts, for every layer at full width and at `width`; 0 without such texts.

        Every process draws the same texts, so each has the whole gradient.
        """
        assert self._teacher is not None  # the caller has checked it
        texts = self._teacher.draw_texts(self.seed, self.step)
        if not texts:
            return 0.0
        chunks, order = self._chunk_texts(texts, CHUNK_SIZE)
        batch = {
            "chunks": [move_to_device(self.backbone.model.device, chunk) for chunk in chunks],
            "cells": torch.tensor(order).argsort(),
        }
        return self._teacher.compute_loss(self._teacher.find_rows(texts), self._embed_layers(batch, layers), width)

    def _embed_layers(self, batch: dict[str, Any], layers: list[int]) -> dict[int, torch.Tensor]:
        """Float32 embeddings (*cells.shape, d) of a batch by layer, after the heads."""
        chunk_states = []
        for chunk in batch["chunks"]:
            if self.spec.chunk and self.module.training:
                states = checkpoint.checkpoint(self.backbone.compute_states, chunk, layers, use_reentrant=False)
            else:
                states = self.backbone.compute_states(chunk, layers)
            chunk_states.append(states)
        embeddings = {}
        for n, layer_states in zip(layers, zip(*chunk_states, strict=True), strict=True):
            vectors = torch.cat(layer_states).float()[batch["cells"]]
            share = self.spec.shallow_gradient_share if n < self.backbone.depth else 1.0
            # Heads run in float32, because they were fitted in float32 and it costs as little.
            with torch.autocast(vectors.device.type, enabled=False):
                embeddings[n] = self.apply_head(n, objectives.scale_gradient(vectors, share))
        return embeddings

    # -- model folder ----------------------------------------------------------------------------------------------

    def card_facts(self) -> dict[str, Any]:
        """Facts of the base class, the objective, when heads were made, and `dims`: widths that were trained, or are useful."""
        facts = super().card_facts() | {"objective": self.spec.objective}
        heads = "after training" if self.spec.trains_full_size_alone else "before training"
        dims = sorted({*(d for d in self.spec.dims if d < self.dim), self.dim})
        return facts | {"dims": dims, "heads": heads}


def _draw(values: Sequence[int], generator: torch.Generator) -> int:
    return values[int(torch.randint(len(values), (1,), generator=generator))]

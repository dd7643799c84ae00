"""VLM2Vec: a vision-language model becomes an encoder of any mix of images and text under instructions.

Source: Jiang et al., "VLM2Vec: Training Vision-Language Models for Massive Multimodal Embedding Tasks", arXiv 2410.05160.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from zoo.core.errors import ZooError
from zoo.core.lazy import lazy
from zoo.data.formats import image_files
from zoo.encoder import Encoder as BaseEncoder
from zoo.encoder import TrainingRun
from zoo.families.vlm2vec.spec import Spec, View
from zoo.schema import Training

if TYPE_CHECKING:
    import numpy as np
    import torch
    from datasets import Dataset

    from zoo.families.vlm2vec import (
        checkpoint,
        chunk_size,
        dataset,
        from_scratch,
        gradcache,
        inference,
        infonce,
        lora_adapter,
    )
    from zoo.families.vlm2vec.vlm import VLM
    from zoo.ops import distributed
else:
    np, torch = lazy("numpy"), lazy("torch")
    chunk_size, inference = lazy("zoo.families.vlm2vec.chunk_size"), lazy("zoo.families.vlm2vec.inference")
    lora_adapter, from_scratch = lazy("zoo.families.vlm2vec.lora_adapter"), lazy("zoo.families.vlm2vec.from_scratch")
    dataset, checkpoint = lazy("zoo.families.vlm2vec.dataset"), lazy("zoo.families.vlm2vec.checkpoint")
    distributed, gradcache = lazy("zoo.ops.distributed"), lazy("zoo.families.vlm2vec.gradcache")
    infonce = lazy("zoo.families.vlm2vec.infonce")


class Encoder(BaseEncoder):
    """Encodes texts, images and mixtures of both as unit vectors (n, dim) float32.

    An input is a text, an image (PIL image, array of uint8, `Path`, bytes), {"image": …, "text": …} with one image or several,
    or a list of texts and images in reading order.
    """

    spec: Spec

    def __init__(self, spec: Spec, vlm: VLM) -> None:
        super().__init__()
        self.spec, self.vlm, self.module, self.dim = spec, vlm, vlm.model, vlm.width
        self.backbone_name, self.backbone_revision = vlm.name, vlm.revision
        self._chunk, self._again = inference.ROWS, False

    # -- known without torch -----------------------------------------------------------------------------------------

    # -- life of an encoder ------------------------------------------------------------------------------------------

    @classmethod
    def build(cls, spec: Spec, *, seed: int = 42, folder: Path = Path()) -> Self:
        """The pretrained model, or one from scratch, with an untrained adapter if one is asked for."""
        image_files.import_pillow()  # tells how to get it, before anything is downloaded
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            vlm = from_scratch.build(spec.backbone) if spec.backbone.build else checkpoint.load(spec.backbone, folder)
            if spec.lora:
                lora_adapter.put_in(vlm, spec.lora, vlm.name)
        encoder = cls(spec, vlm)
        encoder.seed, encoder.folder = seed, folder
        return encoder

    def prepare(self, rows: Dataset, cache: Path) -> None:
        """Train the tokenizer of a model from scratch on all texts and instructions of the training rows."""
        if self.spec.backbone.build:
            shares = [self.spec.instructions, *self.spec.mixture.values()]
            said = [text for share in shares for text in (share.query, share.document) if text]
            held = dataset.texts([rows, *self._further()])
            self.vlm.tokenizer = from_scratch.learned([*held, *said], self.spec.backbone.vocab_size)

    def _further(self) -> list[Dataset]:
        return [self.table(name) for name in self.spec.sets]

    def train(self, run: TrainingRun) -> float:
        """Train under the shared Trainer, on sub-batches of one set each where there are several."""
        spec = self.spec
        if spec.sets and run.settings.batch_size % spec.sub_batch:
            raise ZooError(f"sub_batch: {spec.sub_batch} must divide training.batch_size, {run.settings.batch_size}")
        if spec.dropout is not None:
            self.vlm.set_dropout(spec.dropout)
        if spec.freeze_vision:
            for name, parameter in self.module.named_parameters():
                if not name.startswith(f"{self.vlm.architecture.language}."):
                    parameter.requires_grad_(False)
        if spec.gradient_checkpointing:
            self.vlm.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        train = dataset.MixtureDataset(
            dict(zip(["data", *spec.sets], [run.rows, *self._further()], strict=True)), spec.mixture, spec.sub_batch
        )
        held = None if run.validation is None else dataset.MixtureDataset({"data": run.validation}, spec.mixture, None)
        self._chunk, self._again = self._held(train, run.settings)
        return super().train(replace(run, rows=train, validation=held))

    def _held(self, train: dataset.MixtureDataset, settings: Training) -> tuple[int, bool]:
        if self.spec.chunk == "whole":
            return inference.ROWS, False
        if self.spec.chunk != "auto":
            return self.spec.chunk, True
        sample = [train[i] for i in range(min(2, len(train)))]
        cells = [cell for row in sample for cell in self._cells(row)]
        micro = settings.batch_size // settings.gradient_accumulation // distributed.get_world_size()
        return chunk_size.chosen(self.vlm, cells, micro * len(cells) // len(sample))

    def _cells(self, row: Mapping[str, Any]) -> list[dataset.Cell]:
        share, plain = row["share"], self.spec.instructions
        query = share.query if share.query is not None else plain.query
        document = share.document if share.document is not None else plain.document
        return dataset.cells(row["row"], query, document, row["where"])

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """`chunks` of the model's tensors; `cells` (1 + candidates, rows) int64, where each cell finds its vector, -1 for a
        negative that the row has not; `keys` of the same shape, equal for equal inputs."""
        grid = [self._cells(row) for row in rows]
        depth = max(map(len, grid))
        flat = [(column, i) for i, cells in enumerate(grid) for column in range(len(cells))]
        sizes = [(len(grid[i][column].images), len(grid[i][column].text)) for column, i in flat]
        places = torch.full((depth, len(rows)), -1)
        keys = torch.zeros((depth, len(rows)), dtype=torch.int64)
        chunks, rank = [], 0
        for some in inference.chunks(sizes, self._chunk):
            cells = [grid[flat[j][1]][flat[j][0]] for j in some]
            chunks.append(self.vlm.batch([cell.parts() for cell in cells], [cell.instruction for cell in cells]))
            for j, cell in zip(some, cells, strict=True):
                places[flat[j]], keys[flat[j]] = rank, cell.key
                rank += 1
        return {"chunks": chunks, "cells": places, "keys": keys}

    def loss(self, batch: dict[str, Any]) -> torch.Tensor:
        """InfoNCE over all candidates of the batch, hard negatives included; what is right for several queries is a negative of
        none of them."""
        trainable = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        training = self.module.training and torch.is_grad_enabled()
        if training and (self._again or distributed.get_world_size() > 1):
            vectors = gradcache.cached(self.vlm.features, batch["chunks"], trainable)
        else:
            vectors = torch.cat([self.vlm.features(chunk) for chunk in batch["chunks"]])
        cells, keys = batch["cells"].to(vectors.device), batch["keys"].to(vectors.device)
        columns = torch.cat([vectors, vectors.new_zeros(1, vectors.shape[1])])[cells]
        present = cells >= 0
        if training:
            wide = distributed.find_largest_count(len(columns))
            pad = (0, 0, 0, 0, 0, wide - len(columns))
            columns = distributed.all_gather_with_grad(torch.nn.functional.pad(columns, pad), dim=1)
            keys = distributed.all_gather_with_grad(torch.nn.functional.pad(keys, pad[2:]), dim=1)
            present = distributed.all_gather_with_grad(torch.nn.functional.pad(present, pad[2:]), dim=1)
        masked = infonce.false_negative_mask(keys[0], keys[1:].flatten(), present[1:].flatten())
        total = infonce.infonce(columns[0], columns[1:].flatten(0, 1), masked, self.spec.temperature)
        if self.spec.symmetric:
            back = infonce.infonce(columns[1], columns[0], masked[:, : len(masked)].T, self.spec.temperature)
            total = (total + back) / 2
        return distributed.global_batch_gradient(total) if training else total

    def finish(self, rows: Dataset) -> None:
        """Add the adapter to the weights, unless it is kept apart."""
        if self.spec.lora and self.spec.lora.keep == "merged":
            lora_adapter.merge(self.vlm)

    # -- use -----------------------------------------------------------------------------------------------------------

    def encode(
        self,
        inputs: Iterable[Any],
        *,
        show_progress: bool = False,
        precision: str = "fp32",
        prompt_type: str | None = None,
    ) -> np.ndarray:
        """Unit vectors (n, dim) float32, under the view's instruction, or that of `prompt_type`, query or document."""
        said = self._said(prompt_type)
        return inference.encode(self.vlm, inputs, said, show_progress=show_progress, precision=precision)

    def stream(
        self, inputs: Iterable[Any], *, precision: str = "fp32", prompt_type: str | None = None
    ) -> Iterator[np.ndarray]:
        """`encode` in blocks."""
        return inference.stream(self.vlm, inputs, self._said(prompt_type), precision)

    def _said(self, prompt_type: str | None) -> str | None:
        given = self.view_options
        if "instruction" in given:
            return given["instruction"]
        role = given.get("role") or prompt_type
        return given.get(role, getattr(self.spec.instructions, role)) if role in ("query", "document") else None

    def view(self, **options: Any) -> Self:
        """The same encoder under an `instruction`, under that of a `role`, query or document, or with other instructions for
        `query` and `document`."""
        for name, value in options.items():
            if name not in View.model_fields:
                raise ZooError(f"a view is made of {', '.join(View.model_fields)}; not of {name!r}")
            if not isinstance(value, str) or (name == "role" and value not in ("query", "document")):
                raise ZooError(f"{name}: {value!r} is no {'role' if name == 'role' else 'text'}")
        if wrong := self.spec.find_view_mistake(options, self.folder):
            raise ZooError(wrong)
        twin = copy.copy(self)
        twin.view_options = dict(options)
        return twin

    def baseline(self) -> Encoder | None:
        """The pretrained backbone, asked for the last token's state all the same."""
        if self.spec.backbone.build:
            return None
        return type(self).build(self.spec.model_copy(update={"lora": None}), folder=self.folder)

    # -- artefact ------------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """The model as stock sentence-transformers modules; its adapter alone if that is what is kept."""
        apart = self.spec.lora is not None and self.spec.lora.keep == "adapter"
        if self.spec.lora and not apart:
            lora_adapter.merge(self.vlm)  # of an encoder that was never finished; changes no vector
        (checkpoint.write_adapter if apart else checkpoint.write)(folder, self.vlm)
        checkpoint.prompts(folder, {k: v for k, v in self.spec.instructions.model_dump().items() if v})

    @classmethod
    def load(cls, spec: Spec, folder: Path, config: Mapping[str, Any]) -> Self:
        """Open what `save` wrote; an adapter is put into its base, which must be the revision that it was trained on."""
        state = config.get("vlm")
        state = state if isinstance(state, Mapping) else {}
        if spec.lora is None or spec.lora.keep == "merged":
            encoder = cls(spec, checkpoint.read(spec.backbone, folder, state))
        else:
            encoder = cls(spec, checkpoint.with_adapter(spec.backbone, spec.lora, folder, state))
        encoder.backbone_name = encoder.backbone_name or (None if spec.backbone.build else spec.backbone.model)
        encoder.module.eval()
        encoder.encode(
            [["a", image_files.import_pillow().new("RGB", (8, 8))]]
        )  # tokens, processor and model may not fit together
        return encoder

    def extra_config(self) -> dict[str, Any]:
        """Limits of inputs, and the revision of the base."""
        return {"vlm": {**self.vlm.state(), "base": self.backbone_name, "revision": self.backbone_revision}}

    def card_facts(self) -> dict[str, Any]:
        """Size, architecture and instructions."""
        return {
            "modality": "image-text",
            "dim": self.dim,
            "architecture": self.vlm.config.model_type,
            "parameters_total": sum(parameter.numel() for parameter in self.module.parameters()),
            "max_length": self.vlm.max_length,
            "instructions": {k: v for k, v in self.spec.instructions.model_dump().items() if v},
            "stock_needs": "torchvision" if self.vlm.architecture.torchvision else None,
            "adapter": None if self.spec.lora is None else self.spec.lora.keep,
        }

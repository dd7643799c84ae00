"""VLM2Vec: turn a vision-language model into an encoder of any mix of images and text under instructions.

Source: Jiang et al., "VLM2Vec: Training Vision-Language Models for Massive Multimodal Embedding Tasks", arXiv 2410.05160.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch

from zoo.core.errors import ZooError
from zoo.data.formats import image_files
from zoo.encoder import Encoder as BaseEncoder
from zoo.encoder import TrainingRun
from zoo.families.vlm2vec import checkpoint, chunk_size, dataset, from_scratch, image_graph, inference
from zoo.families.vlm2vec.adapted_layers import build_target_pattern
from zoo.families.vlm2vec.infonce import compute_infonce
from zoo.families.vlm2vec.spec import Spec
from zoo.families.vlm2vec.vlm import VLM
from zoo.graph import Graph
from zoo.ops import distributed, gradcache
from zoo.ops.false_negatives import false_negative_mask
from zoo.schema import Training
from zoo.text import lora

if TYPE_CHECKING:
    from datasets import Dataset


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
        self._chunk_size = inference.CHUNK_SIZE
        self._uses_gradcache = False

    # -- training ----------------------------------------------------------------------------------------------------

    @classmethod
    def build(cls, spec: Spec, *, seed: int = 42, folder: Path = Path()) -> Self:
        """Build the untrained encoder: the pretrained model or one from scratch, with an adapter if the spec has `lora`."""
        image_files.import_pillow()  # raises before anything is downloaded if Pillow is missing
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            backbone = spec.backbone
            vlm = from_scratch.build(backbone) if backbone.build else checkpoint.load_pretrained(backbone, folder)
            if spec.lora:
                lora.insert_adapter(vlm.model, spec.lora, build_target_pattern(vlm, spec.lora), vlm.name)
        encoder = cls(spec, vlm)
        encoder.seed, encoder.folder = seed, folder
        return encoder

    def prepare(self, rows: Dataset, cache: Path) -> None:
        """Train the tokenizer of a model from scratch on all texts and instructions of the training rows."""
        if not self.spec.backbone.build:
            return
        shares = [self.spec.instructions, *self.spec.mixture.values()]
        instructions = [text for share in shares for text in (share.query, share.document) if text]
        instructions += [text for source in self.sources.values() for text in source.prompts.values()]
        texts = dataset.iterate_texts([rows, *self._load_further_sets()])
        self.vlm.tokenizer = from_scratch.train_tokenizer([*texts, *instructions], self.spec.backbone.vocab_size)

    def _load_further_sets(self) -> list[Dataset]:
        return [self.table(name) for name in self.spec.sets]

    def train(self, run: TrainingRun) -> float:
        """Train with `zoo.training`, and return the seconds it took. If there are several sets, mix their sub-batches."""
        spec = self.spec
        if spec.sets and run.settings.batch_size % spec.sub_batch:
            raise ZooError(
                f"sub_batch: {spec.sub_batch} must divide training.batch_size, {run.settings.batch_size}; change one of them"
            )
        self._apply_training_options()
        tables = {name: run.rows.select(span) for name, span in run.spans.items()} or {"data": run.rows}
        tables |= dict(zip(spec.sets, self._load_further_sets(), strict=True))
        rows = dataset.MixtureDataset(tables, spec.mixture, spec.sub_batch)
        validation = None
        if run.validation is not None:
            watched = {name: run.validation.select(span) for name, span in run.validation_spans.items()}
            validation = dataset.MixtureDataset(watched or {"data": run.validation}, spec.mixture, None)
        self._chunk_size, self._uses_gradcache = self._choose_chunk_size(rows, run.settings)
        return super().train(replace(run, rows=rows, validation=validation))

    def _apply_training_options(self) -> None:
        """Set dropout, freeze the vision tower, and turn gradient checkpointing on, as the spec says."""
        if self.spec.dropout is not None:
            self.vlm.set_dropout(self.spec.dropout)
        if self.spec.freeze_vision:
            for name, parameter in self.module.named_parameters():
                if not name.startswith(f"{self.vlm.architecture.language_model}."):
                    parameter.requires_grad_(False)
        if self.spec.gradient_checkpointing:
            self.vlm.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    def _choose_chunk_size(self, rows: dataset.MixtureDataset, settings: Training) -> tuple[int, bool]:
        """Return the inputs of a chunk, and whether GradCache is used, as the field `chunk` of the spec says."""
        if self.spec.chunk == "whole":
            return inference.CHUNK_SIZE, False
        if self.spec.chunk != "auto":
            return self.spec.chunk, True
        sample_rows = [rows[i] for i in range(min(2, len(rows)))]
        sample = [lazy_input for row in sample_rows for lazy_input in self._read_row(row)]
        rows_per_step = settings.batch_size // settings.gradient_accumulation // distributed.get_world_size()
        return chunk_size.choose_chunk_size(self.vlm, sample, rows_per_step * len(sample) // len(sample_rows))

    def _read_row(self, item: Mapping[str, Any]) -> list[dataset.LazyInput]:
        """The inputs of an item of `MixtureDataset`, with the instructions of its set or source, or else the encoder's."""
        share, default = item["share"], self.spec.instructions
        query = share.query if share.query is not None else default.query
        document = share.document if share.document is not None else default.document
        prompts = self.sources[item["source"]].prompts if item.get("source") in self.sources else {}
        query, document = prompts.get("query", query), prompts.get("document", document)
        return dataset.read_row(item["row"], query, document, item["location"])

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Turn items of `MixtureDataset` into a batch.

        Returns:
            chunks: the model's tensors for some of the inputs; similar inputs share a chunk.
            vector_index: (1 + candidates, rows) int64. Row 0 are queries, row 1 positives, the others hard negatives. Each
                entry is the index of the input's vector among those of all chunks, or -1 for a negative that a row lacks.
            content_keys: (1 + candidates, rows) int64, equal for equal inputs.
        """
        inputs = {
            (depth, column): lazy_input
            for column, row in enumerate(rows)
            for depth, lazy_input in enumerate(self._read_row(row))
        }
        positions = list(inputs)
        shape = (1 + max(depth for depth, _ in positions), len(rows))
        vector_index = torch.full(shape, -1)
        content_keys = torch.zeros(shape, dtype=torch.int64)
        sizes = [(len(lazy_input.images), len(lazy_input.text)) for lazy_input in inputs.values()]
        chunks: list[dict[str, torch.Tensor]] = []
        next_index = 0
        for indices in inference.split_into_chunks(sizes, self._chunk_size):
            chunk = [inputs[positions[i]] for i in indices]
            chunks.append(
                self.vlm.prepare_batch(
                    [lazy_input.open_parts() for lazy_input in chunk], [lazy_input.instruction for lazy_input in chunk]
                )
            )
            for i, lazy_input in zip(indices, chunk, strict=True):
                vector_index[positions[i]] = next_index
                content_keys[positions[i]] = lazy_input.content_key
                next_index += 1
        return {"chunks": chunks, "vector_index": vector_index, "content_keys": content_keys}

    def loss(self, batch: dict[str, Any]) -> torch.Tensor:
        """Compute InfoNCE over all candidates of the batch, hard negatives included, with false negatives masked."""
        is_training = self.module.training and torch.is_grad_enabled()
        vectors = self._encode_chunks(batch["chunks"], is_training)
        vector_index = batch["vector_index"].to(vectors.device)
        content_keys = batch["content_keys"].to(vectors.device)
        missing_vector = vectors.new_zeros(1, vectors.shape[1])  # index -1
        table = torch.cat([vectors, missing_vector])[vector_index]  # (1 + candidates, rows, dim)
        present = vector_index >= 0
        if is_training:
            table, content_keys, present = _gather_from_all_processes(table, content_keys, present)
        mask = false_negative_mask(content_keys[0], content_keys[1:].flatten(), present[1:].flatten())
        temperature = self.spec.temperature
        loss = compute_infonce(table[0], table[1:].flatten(0, 1), mask, temperature)
        if self.spec.symmetric:
            query_mask = mask[:, : len(mask)].T
            loss = (loss + compute_infonce(table[1], table[0], query_mask, temperature)) / 2
        return distributed.global_batch_gradient(loss) if is_training else loss

    def _encode_chunks(self, chunks: Sequence[dict[str, torch.Tensor]], is_training: bool) -> torch.Tensor:
        """Vectors (inputs, dim) of all chunks, with GradCache if it is needed.

        Several processes always use it, because it gives parameters that no chunk uses, for example the vision tower's if a
        process has no images, a gradient of zero. DistributedDataParallel would wait for them otherwise.
        """
        if is_training and (self._uses_gradcache or distributed.get_world_size() > 1):
            trainable = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
            return gradcache.run_chunks(self.vlm.compute_features, chunks, trainable)
        return torch.cat([self.vlm.compute_features(chunk) for chunk in chunks])

    def finish(self, rows: Dataset) -> None:
        """Merge the adapter into the weights, unless the recipe keeps the adapter."""
        if self.spec.lora and self.spec.lora.keep == "merged":
            lora.merge_adapter(self.vlm.model)

    # -- use ---------------------------------------------------------------------------------------------------------

    def _encode(
        self,
        inputs: Iterable[Any],
        *,
        show_progress: bool = False,
        precision: str = "fp32",
        prompt_type: str | None = None,
    ) -> inference.Vectors:
        """Encode inputs as unit vectors (n, dim) float32.

        The instruction is the view's, or else that of `prompt_type`, which is "query" or "document". Raise ZooError for a
        wrong input, with its position.
        """
        return inference.encode(
            self.vlm, inputs, self._find_instruction(prompt_type), show_progress=show_progress, precision=precision
        )

    def _stream(
        self, inputs: Iterable[Any], *, precision: str = "fp32", prompt_type: str | None = None
    ) -> Iterator[inference.Vectors]:
        """Encode inputs in blocks, in order; the arguments are those of `encode`."""
        return inference.stream(self.vlm, inputs, self._find_instruction(prompt_type), precision)

    def make_graph(self) -> Graph:
        """Return the graph of square images of the size of the vision tower, with the instruction of this view.

        Raises ZooError for an architecture whose number of image tokens follows the image.
        """
        return image_graph.make_graph(self.vlm, self._find_instruction(None))

    def _find_instruction(self, prompt_type: str | None) -> str | None:
        options: dict[str, str] = self.view_options
        if "instruction" in options:
            return options["instruction"]
        role = options.get("role") or prompt_type
        if role not in ("query", "document"):
            return None
        default: str | None = getattr(self.spec.instructions, role)
        return options.get(role, default)

    def _make_view(self, options: Mapping[str, Any]) -> Self:
        if mistake := self.spec.find_view_mistake(options, self.folder):
            raise ZooError(mistake)
        view = copy.copy(self)
        view.view_options = dict(options)
        return view

    def baseline(self) -> Encoder | None:
        """Return the pretrained backbone with the same pooling; None for a model from scratch."""
        if self.spec.backbone.build:
            return None
        return type(self).build(self.spec.model_copy(update={"lora": None}), folder=self.folder)

    # -- model folder ------------------------------------------------------------------------------------------------

    def write_weights(self, folder: Path) -> None:
        """Write the model as sentence-transformers modules; if the recipe keeps the adapter, write the adapter alone."""
        if self.spec.lora and self.spec.lora.keep == "adapter":
            checkpoint.write_adapter(folder, self.vlm)
        else:
            if self.spec.lora:
                # Merge the adapter if `finish` was not called. Merging does not change any vector.
                lora.merge_adapter(self.vlm.model)
            checkpoint.write_model(folder, self.vlm)
        checkpoint.write_prompts(folder, self._list_instructions())

    @classmethod
    def load(cls, spec: Spec, folder: Path, config: Mapping[str, Any]) -> Self:
        """Open what `write_weights` wrote. An adapter needs its backbone at the revision that it was trained on."""
        state = config.get("vlm")
        state = state if isinstance(state, Mapping) else {}
        if spec.lora and spec.lora.keep == "adapter":
            vlm = checkpoint.load_with_adapter(spec.backbone, spec.lora, folder, state)
        else:
            vlm = checkpoint.load_model(spec.backbone, folder, state)
        encoder = cls(spec, vlm)
        if not encoder.backbone_name and not spec.backbone.build:
            encoder.backbone_name = spec.backbone.model
        encoder.module.eval()
        # Encode once, so that a tokenizer, image processor and model that do not fit together are refused here.
        encoder.encode([["a", image_files.import_pillow().new("RGB", (8, 8))]])
        return encoder

    def list_token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text without the prompt's template."""
        ids: list[list[int]] = self.vlm.tokenizer(list(texts))["input_ids"]
        return ids

    def find_stock_folder(self, folder: Path) -> Path | None:
        """The folder itself; None for an adapter, which needs the files of its backbone besides."""
        return None if self.spec.adapter_folder else super().find_stock_folder(folder)

    def is_read_by_stock(self, text: str) -> bool:
        """Whether the text is short. sentence-transformers cuts a long one together with the prompt's template."""
        return 2 * len(self.list_token_ids([text])[0]) <= self.vlm.max_length

    def extra_config(self) -> dict[str, Any]:
        """Return the limit of tokens, name and revision of the backbone, and for an adapter the digest of its weights."""
        state = {
            "max_length": self.vlm.max_length,
            "base": self.backbone_name,
            "revision": self.backbone_revision,
        }
        if self.spec.adapter_folder and self.vlm.weights_folder:
            state["sha256"] = checkpoint.compute_weights_digest(self.vlm.weights_folder)
        return {"vlm": state}

    def card_facts(self) -> dict[str, Any]:
        """Return size, architecture, instructions and what sentence-transformers needs besides."""
        return {
            "modality": "image-text",
            "dim": self.dim,
            "architecture": self.vlm.config.model_type,
            "parameters_total": sum(parameter.numel() for parameter in self.module.parameters()),
            "max_length": self.vlm.max_length,
            "instructions": self._list_instructions(),
            "stock_needs": "torchvision" if self.vlm.architecture.needs_torchvision else None,
            "adapter": None if self.spec.lora is None else self.spec.lora.keep,
        }

    def _list_instructions(self) -> dict[str, str]:
        """The instructions of the spec by role, without empty ones."""
        return {role: text for role, text in self.spec.instructions.model_dump().items() if text}


def _gather_from_all_processes(
    table: torch.Tensor, content_keys: torch.Tensor, present: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gather (1 + candidates, rows, …) tensors of all processes along the rows.

    Processes may have different numbers of candidates; the missing ones are padded with zeros and not `present`.
    """
    padding = (0, 0, 0, distributed.find_largest_count(len(table)) - len(table))
    table = distributed.all_gather_with_grad(torch.nn.functional.pad(table, (0, 0, *padding)), dim=1)
    content_keys = distributed.all_gather_with_grad(torch.nn.functional.pad(content_keys, padding), dim=1)
    present = distributed.all_gather_with_grad(torch.nn.functional.pad(present, padding), dim=1)
    return table, content_keys, present

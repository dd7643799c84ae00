"""Dense sentence embeddings: fine-tune any text model of transformers, whole or by a low-rank adapter."""

from __future__ import annotations

import copy
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch

from zoo.core.errors import ZooError
from zoo.encoder import Encoder as BaseEncoder
from zoo.encoder import TrainingRun
from zoo.families.dense import adapter_folder, backbone_options
from zoo.families.dense.spec import NEGATIVES, Spec, describe_misfit
from zoo.ops import distributed, gradcache, losses
from zoo.ops.false_negatives import false_negative_mask
from zoo.text import backbone as backbones
from zoo.text import engine as encoding
from zoo.text import lora, sentence_transformers_format
from zoo.text.backbone import Backbone
from zoo.text.text_encoder import CHUNK_SIZE, TextEncoder

if TYPE_CHECKING:
    from datasets import Dataset

TRIPLET_COLUMNS, PAIR_COLUMNS = ("anchor", "positive", *NEGATIVES), ("sentence1", "sentence2")


class Encoder(TextEncoder):
    """A text model whose pooled token states are compared by cosine, or by dot product if its own folder says so."""

    spec: Spec

    def __init__(self, spec: Spec, backbone: Backbone, dim: int | None = None) -> None:
        super().__init__(spec, backbone)
        self.spec = spec
        self.dim = self._max_dim = dim or backbone.width
        own = backbone.normalizes is None or backbone.normalizes
        self.normalizes = own if spec.normalize is None else spec.normalize
        if backbone.similarity not in (None, "cosine", "dot"):
            raise ZooError(
                f"backbone {backbone.name}: compares vectors by {backbone.similarity!r}; only cosine and dot are supported"
            )
        # The dot product of unit vectors is their cosine.
        self.similarity_fn_name = "dot" if backbone.similarity == "dot" and not self.normalizes else "cosine"
        self.module = torch.nn.ModuleDict(
            {"backbone": backbone.model, "dense": torch.nn.ModuleList(self.backbone.dense)}
        )

    @classmethod
    def build(cls, spec: Spec, *, seed: int = 42, folder: Path = Path()) -> Self:
        """The untrained encoder: the backbone with the pooling of `spec`, and an adapter if the spec has `lora`."""
        backbone = backbones.load(
            spec.backbone,
            revision=spec.revision,
            folder=folder,
            max_length=spec.max_length,
            can_be_cut=False,
            model_options=backbone_options.make_model_options(spec),
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            backbone = backbone_options.choose_pooling(backbone, spec)
            encoder = cls(spec, backbone)
            encoder.chosen_names = backbone_options.insert_adapter(backbone, spec)
        encoder.seed, encoder.folder = seed, folder
        if spec.dropout is not None:
            backbone.set_dropout(spec.dropout)
        return encoder

    chosen_names: tuple[str, ...] = ()
    """The last names of the layers that hold the adapter."""

    # -- training --------------------------------------------------------------------------------------------------

    def train(self, run: TrainingRun) -> float:
        """Train with `zoo.training`, and return the seconds it took."""
        if self.similarity_fn_name == "dot":
            raise ZooError(
                f"backbone {self.backbone_name}: compares vectors by dot product, but the losses compare by cosine: set "
                "normalize: true"
            )
        if self.spec.lora is not None and self.spec.lora.targets == "auto":
            self.chosen["encoder.lora.targets"] = list(self.chosen_names)
        backbone_options.freeze(self.backbone, self.spec.freeze)
        if self.spec.gradient_checkpointing:
            model: Any = self.backbone.model  # transformers does not annotate these methods
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        return super().train(run)

    def _find_text_columns(self, column_names: Container[str]) -> list[str]:
        columns = TRIPLET_COLUMNS if self.spec.loss == "contrastive" else PAIR_COLUMNS
        return [column for column in columns if column in column_names]

    def _get_prompt(self, column: str) -> str:
        """The prompt before the texts of a column. The two sides of a scored pair are neither query nor document."""
        role = {"anchor": "query", "sentence1": None, "sentence2": None}.get(column, "document")
        return self.find_prompt(role)

    def find_prompt(self, role: str | None) -> str:
        """The prompt of a role; for a text without a role, the one that the backbone puts before every text."""
        name = self.backbone.default_prompt
        default = self.backbone.named_prompts.get(name, "") if name else ""
        return super().find_prompt(role) if role in self.prompts else default

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The tensors of `collate_cells`, and the scores (rows,) of pairs."""
        columns = self._find_text_columns(rows[0])
        cells = [self._get_prompt(column) + row[column] for column in columns for row in rows]
        batch = self.collate_cells(cells, len(columns), self.spec.chunk or CHUNK_SIZE)
        if self.spec.loss != "contrastive":
            batch["scores"] = torch.tensor([float(row["score"]) for row in rows])
        return batch

    def loss(self, batch: dict[str, Any]) -> torch.Tensor:
        """Scalar loss of one batch: the mean over the widths of `dims` and the whole width."""
        is_training = self.module.training and torch.is_grad_enabled()
        table = self._embed(batch["chunks"], is_training)[batch["cells"]]  # (columns, rows, width)
        scores, text_keys = batch.get("scores"), batch["text_keys"]
        if is_training:  # in validation every process has all the rows
            table = distributed.all_gather_with_grad(table, dim=1)
            scores = None if scores is None else distributed.all_gather_with_grad(scores)
            text_keys = distributed.all_gather_with_grad(text_keys, dim=1)
        mask = false_negative_mask(text_keys[0], text_keys[1:].flatten())
        widths = [*(m for m in self.spec.dims if m < table.shape[-1]), table.shape[-1]]
        total = torch.stack([self._compute_loss(table[..., :m], scores, mask) for m in widths]).mean()
        return distributed.global_batch_gradient(total) if is_training else total

    def _compute_loss(self, table: torch.Tensor, scores: torch.Tensor | None, mask: torch.Tensor) -> torch.Tensor:
        scale = 1 / self.spec.temperature
        loss = losses.compute_sentence_loss(table, scores, self.spec.loss, scale, mask=mask)
        if not (self.spec.symmetric and self.spec.loss == "contrastive"):
            return loss
        backward = losses.compute_contrastive_loss(table[1], table[0], scale, mask[:, : len(mask)].T)
        return (loss + backward) / 2

    def _embed(self, chunks: Sequence[dict[str, torch.Tensor]], is_training: bool) -> torch.Tensor:
        """Float32 vectors (texts, width) of all chunks, in the memory of one chunk if the spec has `chunk`.

        Several processes always run so, because every parameter then has a gradient in every process.
        """
        if is_training and (self.spec.chunk or distributed.get_world_size() > 1):
            trainable = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
            return gradcache.run_chunks(self._compute_vectors, chunks, trainable)
        return torch.cat([self._compute_vectors(chunk) for chunk in chunks])

    def _compute_vectors(self, chunk: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self.backbone.compute_vectors(chunk).float()

    def finish(self, rows: Dataset) -> None:
        """Merge the adapter into the weights, unless the recipe keeps the adapter."""
        self._cached_engine = None
        if self.spec.gradient_checkpointing:
            model: Any = self.backbone.model
            model.gradient_checkpointing_disable()
        if self.spec.lora and self.spec.lora.keep == "merged":
            lora.merge_adapter(self.backbone.model)

    # -- use ---------------------------------------------------------------------------------------------------------

    def _make_view(self, options: Mapping[str, Any]) -> Self:
        dim = options.get("dim")
        if misfit := describe_misfit(dim, self._max_dim):
            raise ZooError(misfit)
        view = copy.copy(self)
        view.dim = dim or self.dim
        view.view_options = {"dim": view.dim}
        view._cached_engine = None
        return view

    def _make_engine(self) -> encoding.Engine:
        module = backbones.PooledBackbone(self.backbone, None, self.dim, normalizes=self.normalizes)
        return encoding.Engine(module, self.backbone.tokenize, self.backbone.pad, self.dim, self.backbone.max_length)

    def baseline(self) -> BaseEncoder | None:
        """The untrained backbone with as many components; None if it cannot be loaded, or if it begins with a random map."""
        if self.spec.projection:
            return None
        try:
            untrained = type(self).build(self.spec.model_copy(update={"lora": None}), folder=self.folder)
        except ZooError:
            return None
        return untrained.view(dim=self._max_dim) if self._max_dim < untrained.dim else untrained

    # -- model folder ------------------------------------------------------------------------------------------------

    def write_weights(self, folder: Path) -> None:
        """Write stock sentence-transformers modules; if the recipe keeps the adapter, the adapter beside them."""
        if self.spec.adapter_folder:
            adapter_folder.write(folder, self.backbone, self.dim, self.normalizes)
            return
        if self.spec.lora:  # `finish` was not called; merging does not change any vector
            lora.merge_adapter(self.backbone.model)
        sentence_transformers_format.write(
            folder, self.backbone, {}, self.dim, normalizes=self.normalizes, similarity=self.similarity_fn_name
        )

    @classmethod
    def load(cls, spec: Spec, folder: Path, config: Mapping[str, Any]) -> Self:
        """Open what `write_weights` wrote. An adapter needs its backbone at the revision that it was trained on."""
        if spec.lora and spec.adapter_folder:
            state = config.get("base")
            encoder = cls(spec, *adapter_folder.load(spec, folder, state if isinstance(state, Mapping) else {}))
        else:
            encoder = cls(spec, backbones.load_from_model_folder(folder, spec.backbone, can_be_cut=False))
        encoder.module.eval()
        return encoder

    def find_stock_folder(self, folder: Path) -> Path | None:
        """The folder itself; None for an adapter, which needs the files of its backbone besides."""
        return None if self.spec.adapter_folder else super().find_stock_folder(folder)

    def extra_config(self) -> dict[str, Any]:
        """For an adapter: name, revision and digest of its backbone, the token limit and the number of components."""
        if not self.spec.adapter_folder:
            return {}
        state = adapter_folder.describe_base(self.backbone, self.spec, self.folder)
        return {"base": state | {"max_length": self.backbone.max_length, "dim": self.dim}}

    def card_facts(self) -> dict[str, Any]:
        """Architecture, parameters in all and trained, pooling, widths, token limit and prompts."""
        parameters = list(self.module.parameters())
        dims = sorted({*(d for d in self.spec.dims if d < self.dim), self.dim})
        return {
            "architecture": self.backbone.model.config.model_type,
            "dim": self.dim,
            "dims": dims if self.spec.dims else [],
            "pooling": backbone_options.describe_pooling(self.backbone),
            "parameters": sum(parameter.numel() for parameter in parameters),
            "max_length": self.backbone.max_length,
            "prompts": self.prompts,
            "adapter": list(self.chosen_names),
        }

"""Dense sentence embeddings: fine-tune any text model of transformers, whole or by a low-rank adapter."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import torch

from zoo.core.errors import DataError, ZooError
from zoo.encoder import Encoder as BaseEncoder
from zoo.encoder import TrainingRun
from zoo.families.dense import adapter_folder, backbone_options
from zoo.families.dense.class_batches import ClassBatches, group_classes
from zoo.families.dense.objective import BatchFacts, compute_loss
from zoo.families.dense.spec import CLASS_LOSSES, DISTILLATION_LOSSES, SCORED_LOSSES, Spec, describe_misfit
from zoo.ops import distributed, gradcache
from zoo.ops.false_negatives import compute_text_key, false_negative_mask
from zoo.ops.guided_negatives import compute_guide_mask
from zoo.ops.loss_names import LOSS_COLUMNS, LossName, find_text_columns
from zoo.text import backbone as backbones
from zoo.text import calibration, coded_table, lora, sentence_transformers_format, trained_parts
from zoo.text import engine as encoding
from zoo.text.backbone import Backbone
from zoo.text.deferred import DeferredBackbone, defer
from zoo.text.frozen_models import Guide, Teacher, open_scorer
from zoo.text.losses_by_source import LossesBySource, compute_mean_loss
from zoo.text.teacher_scores import PairScorer
from zoo.text.text_encoder import CHUNK_SIZE
from zoo.text.windowed_encoder import WindowedEncoder

if TYPE_CHECKING:
    from datasets import Dataset


class Encoder(LossesBySource, WindowedEncoder):
    """A text model whose pooled token states are compared by cosine, or by dot product if its own folder says so.

    Attributes:
        normalizes: whether vectors have unit norm.
        chosen_names: the last names of the layers that hold the adapter; () without one.
    """

    spec: Spec
    has_codable_table = True

    def __init__(self, spec: Spec, backbone: Backbone | DeferredBackbone, dim: int | None = None) -> None:
        super().__init__(spec, backbone)
        self.spec = spec
        self.dim = self._max_dim = dim or backbone.width
        self.chosen_names: tuple[str, ...] = ()
        self._guide: Guide | None = None
        self._teacher: Teacher | None = None
        if isinstance(backbone, DeferredBackbone):
            self.normalizes, self.similarity_fn_name = True, "cosine"  # `_can_be_deferred` says so
            return
        own = backbone.normalizes is None or backbone.normalizes
        self.normalizes = own if spec.normalize is None else spec.normalize
        if backbone.similarity not in (None, "cosine", "dot"):
            raise ZooError(
                f"backbone {backbone.name}: compares vectors by {backbone.similarity!r}; only cosine and dot are supported"
            )
        # The dot product of unit vectors is their cosine.
        self.similarity_fn_name = "dot" if backbone.similarity == "dot" and not self.normalizes else "cosine"
        self.module = torch.nn.ModuleDict(
            {"backbone": backbone.model, "dense": torch.nn.ModuleList(self.backbone.linear_maps)}
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
            encoder.chosen_names = trained_parts.insert_adapter(backbone, spec.lora)
        encoder.seed, encoder.folder = seed, folder
        if spec.dropout is not None:
            backbone.set_dropout(spec.dropout)
        return encoder

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
        if run.validation is not None:
            self._score_rows(run.validation)
        if len(self._list_losses()) > 1 and self.mixture.batches == "mixed" and distributed.get_world_size() > 1:
            raise ZooError("mixture.batches: sources with losses of their own need `source` under several processes")
        if self.spec.loss in CLASS_LOSSES and not self.sources:
            run = replace(run, rows=cast("Dataset", ClassBatches(run.rows)))
        trained_parts.freeze(self.backbone, self.spec.freeze)
        if self.spec.gradient_checkpointing:
            model: Any = self.backbone.model  # transformers does not annotate these methods
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        return super().train(run)

    def _mix_sources(self, run: TrainingRun) -> TrainingRun:
        """Mix the sources; rows of a class follow one another in sources with a loss over classes."""
        mixed = super()._mix_sources(run)
        names = [name for name in run.spans if self.find_loss({"source": name}) in CLASS_LOSSES]
        if names:
            labels = run.rows["label"][:]
            rows: Any = mixed.rows
            rows.arrange = {name: partial(group_classes, labels) for name in names}
        return mixed

    def prepare(self, rows: Dataset, cache: Path) -> None:
        """Compute the guide's vectors or the teacher's scores. Raises DataError for a column that a loss lacks."""
        for loss in self._list_losses():
            if problem := self.spec.for_source(loss).find_table_mistake(rows.column_names):
                raise DataError(f"the training data: {problem}")
        if any(LOSS_COLUMNS[loss].scores for loss in self._list_losses()):
            for number, row in enumerate(rows, 1):
                if problem := self.spec.for_source(self.find_loss(row)).find_score_mistake(row):
                    raise DataError(f"the training data, row {number}: {problem}")
        if self.spec.guide is not None and "contrastive" in self._list_losses():
            columns = find_text_columns("contrastive", rows.column_names)
            self._guide = Guide(self._open_frozen(self.spec.guide.model), rows, columns, cache)
        if self.spec.teacher is not None and set(DISTILLATION_LOSSES) & set(self._list_losses()):
            self._teacher = Teacher(open_scorer(self.spec.teacher, self.folder, self._open_frozen), cache)
            self._score_rows(rows)

    def _score_rows(self, rows: Dataset) -> None:
        """Let the teacher score the rows whose loss reads its scores."""
        if self._teacher is not None:
            scored = [row for row in rows if self.find_loss(row) in DISTILLATION_LOSSES]
            columns = find_text_columns("kl", rows.column_names)
            self._teacher.score_rows(scored, columns)

    @classmethod
    def open_scorer(cls, spec: Spec, folder: Path) -> PairScorer | None:
        """Return the teacher, which scores mined candidates too."""

        def open_encoder(reference: str) -> Encoder:
            return cls.build(Spec(family="dense", backbone=reference), folder=folder)

        return None if spec.teacher is None else open_scorer(spec.teacher, folder, open_encoder)

    def _open_frozen(self, reference: str) -> Encoder:
        return type(self).build(Spec(family="dense", backbone=reference), folder=self.folder)

    def find_prompt(self, role: str | None) -> str:
        """The prompt of a role; for a text without a role, the one that the backbone puts before every text."""
        if role in self.prompts or self._find_deferred() is not None:  # a deferred backbone has no default prompt
            return super().find_prompt(role)
        name = self.backbone.default_prompt
        return self.backbone.named_prompts.get(name, "") if name else ""

    def _collate_part(self, loss: LossName, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The tensors of `_collate_cells`, `loss_name`, and what else the loss reads.

        Further keys: `scores` (rows,) of pairs, or (rows, candidates) of a teacher; `labels` (rows,) int64, equal for equal
        labels; `guide_rows` (columns, rows) int64.
        """
        columns = find_text_columns(loss, rows[0])
        cells = [self.get_prompt(column, row.get("source")) + row[column] for column in columns for row in rows]
        batch = {"loss_name": loss, **self._collate_cells(cells, len(columns), self.spec.chunk or CHUNK_SIZE)}
        if loss in SCORED_LOSSES:
            batch["scores"] = torch.tensor([float(row["score"]) for row in rows])
        if self._teacher is not None and loss in DISTILLATION_LOSSES:
            batch["scores"] = self._teacher.find_scores(rows, columns)
        elif loss in DISTILLATION_LOSSES:
            names = [f"score_{column}" for column in columns[1:]]
            batch["scores"] = torch.tensor([[float(row[name]) for name in names] for row in rows])
        if loss in CLASS_LOSSES:
            batch["labels"] = torch.tensor([compute_text_key(str(row["label"])) for row in rows])
        if self._guide is not None and loss == "contrastive" and self.module.training:
            batch["guide_rows"] = self._guide.find_rows(rows, columns)  # it has no vectors of validation texts
        return batch

    def loss(self, batch: dict[str, Any]) -> torch.Tensor:
        """Scalar loss of one batch: the mean over its rows, and over the widths of `dims` and the whole width."""
        total = compute_mean_loss(batch, lambda part: part["cells"].shape[1], self._compute_loss)
        is_training = self.module.training and torch.is_grad_enabled()
        return distributed.global_batch_gradient(total) if is_training else total

    def _compute_loss(self, part: dict[str, Any]) -> torch.Tensor:
        is_training = self.module.training and torch.is_grad_enabled()
        table = self._embed(part["chunks"], is_training)[part["cells"]]  # (columns, rows, width)

        def gather(name: str, dim: int) -> torch.Tensor | None:
            """A tensor of the rows of all processes. In validation every process has all the rows."""
            values = part.get(name)
            return distributed.all_gather_with_grad(values, dim=dim) if is_training and values is not None else values

        table = distributed.all_gather_with_grad(table, dim=1) if is_training else table
        mask = self._find_mask(gather("text_keys", 1), gather("guide_rows", 1))
        facts = BatchFacts(gather("scores", 0), gather("labels", 0), mask)
        widths = [*(m for m in self.spec.dims if m < table.shape[-1]), table.shape[-1]]
        return torch.stack([compute_loss(self.spec, part["loss_name"], table[..., :m], facts) for m in widths]).mean()

    def _find_mask(self, text_keys: torch.Tensor | None, guide_rows: torch.Tensor | None) -> torch.Tensor | None:
        """The candidates that do not count as negatives: those equal to a right answer, and those that the guide finds."""
        if text_keys is None or len(text_keys) < 2:
            return None
        mask = false_negative_mask(text_keys[0], text_keys[1:].flatten())
        if self._guide is None or guide_rows is None or self.spec.guide is None:
            return mask
        vectors = self._guide.get_vectors(guide_rows, mask.device)
        margin, kind = self.spec.guide.margin, self.spec.guide.margin_kind
        return compute_guide_mask(vectors[0], vectors[1:].flatten(0, 1), margin, kind, known=mask)

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
        self._forget_engines()
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
        return view

    def _get_view_key(self) -> Any:
        return self.dim

    def _make_engine(self) -> encoding.Engine:
        deferred = self._find_deferred()
        if deferred is not None:
            return deferred.make_engine(deferred.depth, None, self.dim)
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
        calibration.write(self, folder)

    @classmethod
    def load(cls, spec: Spec, folder: Path, config: Mapping[str, Any]) -> Self:
        """Open what `write_weights` wrote. An adapter needs its backbone at the revision that it was trained on.

        A folder that `zoo.text.light_folder` knows is opened by transformers only when something but encoding is asked for.
        """
        if not spec.adapter_folder:
            table = config.get("table")
            deferred = defer(
                folder, spec, lambda place: cls._load_open(spec, place, config), is_model_folder=True, table=table
            )
            if deferred is not None and _can_be_deferred(deferred):
                return cls(spec, deferred)
        return cls._load_open(spec, folder, config)

    @classmethod
    def _load_open(cls, spec: Spec, folder: Path, config: Mapping[str, Any]) -> Self:
        if spec.lora and spec.adapter_folder:
            state = config.get("base")
            encoder = cls(spec, *adapter_folder.load(spec, folder, state if isinstance(state, Mapping) else {}))
        else:
            encoder = cls(
                spec,
                backbones.load_from_model_folder(folder, spec.backbone, can_be_cut=False, table=config.get("table")),
            )
            encoder.calibration = calibration.read(encoder.backbone.model, folder)
        encoder.module.eval()
        return encoder

    def find_stock_folder(self, folder: Path) -> Path | None:
        """The folder itself; None for an adapter, which needs the files of its backbone besides."""
        return None if self.spec.adapter_folder else super().find_stock_folder(folder)

    def extra_config(self) -> dict[str, Any]:
        """Facts of a coded token table. For an adapter: its backbone's name, revision and digest, token limit and components."""
        if not self.spec.adapter_folder:
            return coded_table.describe(self.backbone.model)
        state = adapter_folder.describe_base(self.backbone, self.spec, self.folder)
        return {"base": state | {"max_length": self.backbone.max_length, "dim": self.dim}}

    def card_facts(self) -> dict[str, Any]:
        """Architecture, parameters in all and trained, pooling, widths, token limit and prompts."""
        maps = sum(parameter.numel() for parameter in self.module.get_submodule("dense").parameters())
        dims = sorted({*(d for d in self.spec.dims if d < self.dim), self.dim})
        return {
            "architecture": self.backbone.model.config.model_type,
            "dim": self.dim,
            "dims": dims if self.spec.dims else [],
            "pooling": backbone_options.describe_pooling(self.backbone),
            "parameters": coded_table.count_parameters(self.backbone.model) + maps,
            "max_length": self.backbone.max_length,
            "prompts": self.prompts,
            "adapter": list(self.chosen_names),
        }


def _can_be_deferred(deferred: DeferredBackbone) -> bool:
    """Whether vectors are pooled states of unit norm that are compared by cosine."""
    return not deferred.light.has_dense and deferred.light.similarity in (None, "cosine", "dot")

"""Late interaction: token vectors of a text model, their training by MaxSim, and the ways to search with them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import torch

from zoo.core.errors import DataError, ZooError
from zoo.encoder import TrainingRun
from zoo.families.late_interaction import stock_check
from zoo.families.late_interaction.batches import collate_side, compute_side
from zoo.families.late_interaction.spec import Spec
from zoo.graph import Graph
from zoo.ops import distillation, fixed_dimensional, losses
from zoo.ops.false_negatives import compute_text_key, false_negative_mask
from zoo.ops.fixed_dimensional import Cells
from zoo.ops.loss_names import LossName, find_text_columns
from zoo.ops.maxsim import compute_batch_maxsim
from zoo.ops.token_pooling import pool_tokens
from zoo.ops.token_sets import TokenSets, split_token_sets
from zoo.runtime import description
from zoo.text import backbone as backbones
from zoo.text import lora, multi_vector_format, text_graph, token_vectors, trained_parts
from zoo.text.backbone import Backbone
from zoo.text.engine import Engine
from zoo.text.frozen_models import PooledEncoder, Teacher, open_scorer
from zoo.text.losses_by_source import LossesBySource, compute_mean_loss
from zoo.text.teacher_scores import PairScorer
from zoo.text.text_encoder import CHUNK_SIZE, ROLES, TextEncoder
from zoo.text.token_vectors import MeanOfTokens, TokenBackbone, TokenEngine

if TYPE_CHECKING:
    from datasets import Dataset

FIXED_OPTIONS = {"repetitions": 20, "bits": 4, "project": 16}
"""The matrices of a view with fixed-dimensional encodings, where the view does not say otherwise."""
AXES_TEXTS = 2048
"""Training texts whose token states give the first weights of the head."""


class Encoder(LossesBySource, TextEncoder):
    """A text model with a unit vector for each token. A search compares a query and a document by MaxSim.

    `encode` gives the unit vector along the mean of a text's token vectors, so that everything that takes single vectors works.
    `encode_tokens` gives the token vectors. A text without a role is read as a document without a prompt.

    Attributes:
        head: the linear map from token states to token vectors, or None.
        rules: which tokens count.
        scoring, pool_factor: the options of this view.
        cells: the matrices of fixed-dimensional encodings, or None if `encode` gives the mean.
        chosen_names: the last names of the layers that hold the adapter; () without one.
    """

    spec: Spec
    has_engines = False

    def __init__(self, spec: Spec, backbone: Backbone, head: torch.nn.Linear | None = None) -> None:
        super().__init__(spec, backbone)
        self.spec, self.head = spec, head
        self.dim = self.token_dim = backbone.width if head is None else head.out_features
        expansion = spec.query_expansion
        self.rules = token_vectors.make_rules(
            self.backbone,
            skip_punctuation=spec.skip_punctuation,
            expanded_length=expansion.length if expansion else 0,
            attends=expansion.attend if expansion else False,
        )
        self.token_module = TokenBackbone(self.backbone, head)
        self.module = torch.nn.ModuleDict({"backbone": backbone.model, **({"head": head} if head is not None else {})})
        self.scoring, self.pool_factor = "maxsim", 1
        self.cells: Cells | None = None
        self.fills = True
        self.chosen_names: tuple[str, ...] = ()
        self._engines: dict[tuple[str, bool], Engine] = {}
        self._teacher: Teacher | None = None

    @classmethod
    def build(cls, spec: Spec, *, seed: int = 42, folder: Path = Path()) -> Self:
        """The untrained encoder. Its head begins at random with orthogonal rows, which `prepare` replaces."""
        backbone = backbones.load(
            spec.backbone, revision=spec.revision, folder=folder, max_length=spec.max_length, can_be_cut=False
        )
        backbone = token_vectors.drop_linear_maps(backbone)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = None if spec.dim is None else torch.nn.Linear(backbone.width, spec.dim, bias=False)
            if head is not None:
                torch.nn.init.orthogonal_(head.weight)
            encoder = cls(spec, backbone, head)
            encoder.chosen_names = trained_parts.insert_adapter(backbone, spec.lora)
        encoder.seed, encoder.folder = seed, folder
        if spec.dropout is not None:
            backbone.set_dropout(spec.dropout)
        return encoder

    # -- training --------------------------------------------------------------------------------------------------

    def prepare(self, rows: Dataset, cache: Path) -> None:
        """Compute the first head and the teacher's scores. Raises DataError for a column or a score that a loss lacks."""
        for loss in self._list_losses():
            if problem := self.spec.for_source(loss).find_table_mistake(rows.column_names):
                raise DataError(f"the training data: {problem}")
        if "kl" in self._list_losses():
            for number, row in enumerate(rows, 1):
                if self.find_loss(row) == "kl" and (problem := self.spec.find_score_mistake(row)):
                    raise DataError(f"the training data, row {number}: {problem}")
        self._set_first_head(rows)
        if self.spec.teacher is not None and "kl" in self._list_losses():
            self._teacher = Teacher(open_scorer(self.spec.teacher, self.folder, self._open_frozen), cache)
            self._score_rows(rows)

    def _set_first_head(self, rows: Dataset) -> None:
        """Let the head keep the principal axes of the token states of the first training texts.

        A random head of 128 components loses more of the inner products than a short training can give back.
        """
        if self.head is None:
            return
        columns = find_text_columns(self.spec.loss, rows.column_names)
        count = -(-AXES_TEXTS // len(columns))
        texts = list(dict.fromkeys(text for column in columns for text in rows[:count][column] if text))
        states = TokenEngine(
            TokenBackbone(self.backbone, None),
            self.backbone.tokenize,
            lambda ids: token_vectors.pad(self.backbone, self.rules, ids, is_query=False),
            self.backbone.width,
            self.backbone.max_length,
        )
        moment = np.zeros((self.backbone.width, self.backbone.width))
        for tokens, _ in states.stream_sets(texts):
            moment += tokens.T.astype(np.float64) @ tokens
        self.head.weight.data = token_vectors.compute_principal_axes(moment, self.token_dim).to(self.device)
        self._forget_engines()

    def train(self, run: TrainingRun) -> float:
        """Train with `zoo.training`, and return the seconds it took."""
        if self.spec.lora is not None and self.spec.lora.targets == "auto":
            self.chosen["encoder.lora.targets"] = list(self.chosen_names)
        if run.validation is not None:
            self._score_rows(run.validation)
        trained_parts.freeze(self.backbone, self.spec.freeze)
        return super().train(run)

    def _score_rows(self, rows: Dataset) -> None:
        """Let the teacher score the rows whose loss reads its scores."""
        if self._teacher is not None:
            scored = [row for row in rows if self.find_loss(row) == "kl"]
            self._teacher.score_rows(scored, find_text_columns("kl", rows.column_names))

    @classmethod
    def open_scorer(cls, spec: Spec, folder: Path) -> PairScorer | None:
        """Return the teacher, which scores mined candidates too."""
        if spec.teacher is None:
            return None
        return open_scorer(spec.teacher, folder, lambda reference: PooledEncoder.open(reference, folder))

    def _open_frozen(self, reference: str) -> PooledEncoder:
        return PooledEncoder.open(reference, self.folder)

    def _collate_part(self, loss: LossName, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Queries and documents by `collate_side`, `loss_name`, `text_keys` (columns, rows) int64, and `scores` of a teacher.

        The documents are all positives, then all negatives.
        """
        columns = find_text_columns(loss, rows[0])
        cells = [[self.get_prompt(column, row.get("source")) + row[column] for row in rows] for column in columns]
        documents = [text for column in cells[1:] for text in column]
        size = self.spec.chunk or CHUNK_SIZE
        batch = {
            "loss_name": loss,
            "queries": collate_side(self.backbone, self.rules, cells[0], size, is_query=True),
            "documents": collate_side(self.backbone, self.rules, documents, size, is_query=False),
            "text_keys": torch.tensor([[compute_text_key(text) for text in column] for column in cells]),
        }
        if loss == "kl" and self._teacher is not None:
            batch["scores"] = self._teacher.find_scores(rows, columns)
        elif loss == "kl":
            names = [f"score_{column}" for column in columns[1:]]
            batch["scores"] = torch.tensor([[float(row[name]) for name in names] for row in rows])
        return batch

    def loss(self, batch: dict[str, Any]) -> torch.Tensor:
        """Scalar loss of one batch: the mean over its rows."""
        return compute_mean_loss(batch, lambda part: part["text_keys"].shape[1], self._compute_loss)

    def _compute_loss(self, part: dict[str, Any]) -> torch.Tensor:
        is_training = self.module.training and torch.is_grad_enabled()
        trainable = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        uses_gradcache = is_training and self.spec.chunk is not None
        sides = [
            compute_side(self.token_module, part[name], trainable, uses_gradcache=uses_gradcache)
            for name in ("queries", "documents")
        ]
        logits = compute_batch_maxsim(*sides[0], *sides[1]) / self.spec.temperature
        keys = part["text_keys"]
        if part["loss_name"] == "contrastive":
            return losses.compute_choice_loss(logits, false_negative_mask(keys[0], keys[1:].flatten()))
        rows = keys.shape[1]
        own = logits.view(rows, -1, rows).diagonal(dim1=0, dim2=2).T  # (rows, candidates): those of the row itself
        is_encoder = self.spec.teacher is not None and self.spec.teacher.kind == "encoder"
        given = self.spec.teacher.temperature if self.spec.teacher else None
        default = self.spec.temperature if is_encoder else 1.0
        return distillation.compute_kl_loss(own, part["scores"], 1.0, default if given is None else given)

    def finish(self, rows: Dataset) -> None:
        """Merge the adapter into the weights."""
        self._forget_engines()
        if self.spec.lora:
            lora.merge_adapter(self.backbone.model)

    # -- use ---------------------------------------------------------------------------------------------------------

    @property
    def searches_by_tokens(self) -> bool:
        """Whether a search scores the sets of `encode_tokens` by MaxSim."""
        return self.scoring == "maxsim"

    def encode_tokens(
        self, texts: Iterable[str], prompt_name: str | None = None, *, precision: str = "fp32", dtype: Any = "float32"
    ) -> TokenSets:
        """Return the unit token vectors (t, token_dim) of all texts, and the offsets (n + 1,) int64 at which each begins.

        Args:
            texts: n texts, in order.
            prompt_name: "query" or "document"; None for a document without a prompt.
            precision: as in `encode`.
            dtype: float32, or float16 for half the memory.

        Raises ZooError for an input that is not a string.
        """
        texts = self._add_prompt(self._check_inputs(texts), prompt_name)
        tokens, offsets = self._pool(
            self._get_token_engine(prompt_name).encode_sets(texts, precision=precision), prompt_name
        )
        return tokens.astype(dtype, copy=False), offsets

    def _pool(self, sets: TokenSets, role: str | None) -> TokenSets:
        return sets if role == "query" else pool_tokens(sets, self.pool_factor)

    def make_graph(self) -> Graph:
        """Return the graph of the token vectors and of their mean.

        Raises ZooError for a view whose vectors are computed from the token vectors by something other than a network.
        """
        if self.cells is not None or self.pool_factor > 1:
            raise ZooError(
                f"the family {self.spec.family} cannot be exported as a graph with pooled tokens or fixed-dimensional encodings: "
                "leave `pool_factor` and `scoring` out, and compute them from the token vectors"
            )
        prompts = {role or "": self.find_prompt(role) for role in (None, *ROLES)}
        rules = self.rules
        return Graph(
            {"": text_graph.TokensToSets(self.token_module)},
            reader=text_graph.make_reader(self.backbone, prompts),
            outputs=("vector", "tokens"),
            token_sets=description.TokenSets(
                self.token_dim, rules.skipped_ids, rules.expanded_length, rules.expansion_id, rules.attends
            ),
        )

    def _encode(
        self,
        inputs: Iterable[Any],
        *,
        show_progress: bool = False,
        precision: str = "fp32",
        prompt_type: str | None = None,
    ) -> np.ndarray:
        """Encode texts to (n, dim) float32: unit vectors along the mean of the tokens, or fixed-dimensional encodings."""
        if self.cells is not None:
            return np.concatenate(list(self._stream(inputs, precision=precision, prompt_type=prompt_type)))
        inputs = self._add_prompt(inputs, prompt_type)
        return self._get_mean_engine(prompt_type).encode(inputs, show_progress=show_progress, precision=precision)

    def _stream(
        self, inputs: Iterable[Any], *, precision: str = "fp32", prompt_type: str | None = None
    ) -> Iterator[np.ndarray]:
        """Encode in blocks, in order. The memory does not grow with the length of `inputs`."""
        inputs = self._add_prompt(inputs, prompt_type)
        if self.cells is None:
            yield from self._get_mean_engine(prompt_type).stream(inputs, precision=precision)
            return
        for sets in self._get_token_engine(prompt_type).stream_sets(inputs, precision=precision):
            if prompt_type == "query":
                yield fixed_dimensional.encode_queries(*sets, self.cells)
            else:
                sets = self._pool(sets, prompt_type)
                yield fixed_dimensional.encode_documents(*sets, self.cells, fill=self.fills)

    def _forget_engines(self) -> None:
        self._engines = {}

    def _get_token_engine(self, role: str | None) -> TokenEngine:
        """The engine for token vectors of a role, built once."""
        return cast("TokenEngine", self._find_engine("tokens", role))

    def _get_mean_engine(self, role: str | None) -> Engine:
        """The engine for means of token vectors of a role, built once."""
        return self._find_engine("mean", role)

    def _find_engine(self, kind: str, role: str | None) -> Engine:
        if role not in (None, *ROLES):
            raise ZooError(f"prompt_name: {role!r} is not one of {', '.join(ROLES)}")
        is_query = role == "query"
        if (kind, is_query) not in self._engines:

            def pad(ids: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
                return token_vectors.pad(self.backbone, self.rules, ids, is_query=is_query)

            module = self.token_module if kind == "tokens" else MeanOfTokens(self.token_module)
            make = TokenEngine if kind == "tokens" else Engine
            engine = make(module, self.backbone.tokenize, pad, self.token_dim, self.backbone.max_length)
            self._engines[kind, is_query] = engine
        return self._engines[kind, is_query]

    def _make_view(self, options: Mapping[str, Any]) -> Self:
        kept = self.view_options
        if options.get("scoring", kept.get("scoring")) != "fixed-dimensional":
            kept = {name: value for name, value in kept.items() if name in ("scoring", "pool_factor")}
        options = {**kept, **options}
        view = copy.copy(self)
        view.scoring = options.get("scoring", "maxsim")
        view.pool_factor = options.get("pool_factor", 1)
        chosen = {name: options[name] for name in (*FIXED_OPTIONS, "fill") if name in options}
        if view.scoring == "fixed-dimensional":
            view.cells = fixed_dimensional.draw_cells(
                self.token_dim, **{**FIXED_OPTIONS, **{name: chosen[name] for name in chosen if name != "fill"}}
            )
            view.fills = options.get("fill", True)
            view.dim, view.similarity_fn_name = view.cells.width, "dot"
        elif chosen:
            raise ZooError(
                f"{next(iter(chosen))}: is an option of scoring: fixed-dimensional; set scoring, or leave it out"
            )
        else:
            view.cells, view.dim, view.similarity_fn_name = None, self.token_dim, "cosine"
        view.view_options = dict(options)
        return view

    def baseline(self) -> Self | None:
        """The untrained backbone without a head; None if it cannot be loaded."""
        try:
            untrained = type(self).build(self.spec.model_copy(update={"lora": None, "dim": None}), folder=self.folder)
        except ZooError:
            return None
        return untrained.view(**self.view_options) if self.view_options else untrained

    # -- model folder ------------------------------------------------------------------------------------------------

    def write_weights(self, folder: Path) -> None:
        """Write the modules of sentence-transformers' MultiVectorEncoder."""
        if self.spec.lora:  # `finish` was not called; merging does not change any vector
            lora.merge_adapter(self.backbone.model)
        multi_vector_format.write(folder, self.backbone, self.head, self.rules)

    @classmethod
    def load(cls, spec: Spec, folder: Path, config: Mapping[str, Any]) -> Self:
        """Open what `write_weights` wrote. Raises ArtefactError for a head of another shape."""
        backbone = backbones.load_from_model_folder(folder, spec.backbone, can_be_cut=False, has_token_vectors=True)
        head = None if spec.dim is None else multi_vector_format.read_head(folder, spec.dim, backbone.width)
        encoder = cls(spec, backbone, head)
        encoder.module.eval()
        return encoder

    def find_stock_folder(self, folder: Path) -> Path | None:
        """None: a MultiVectorEncoder opens the folder, and a SentenceTransformer does not."""
        return None

    def check_saved(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Also compare the token vectors with those of sentence-transformers' MultiVectorEncoder."""
        super().check_saved(folder, config)
        texts = self.make_probes()
        whole = self.view(pool_factor=1) if self.pool_factor > 1 else self
        by_role = [split_token_sets(*whole.encode_tokens(texts, role)) for role in ROLES]
        stock_check.check(folder, texts, *by_role)

    def card_facts(self) -> dict[str, Any]:
        """Architecture, parameters, components of a token vector, token limit, prompts, and the tokens that count."""
        return {
            "architecture": self.backbone.model.config.model_type,
            "dim": self.token_dim,
            "parameters": sum(parameter.numel() for parameter in self.module.parameters()),
            "max_length": self.backbone.max_length,
            "prompts": self.prompts,
            "skipped": len(self.rules.skipped),
            "expanded_length": self.rules.expanded_length,
            "adapter": list(self.chosen_names),
        }

"""2D Matryoshka sentence embeddings: one encoder that may be cut in layers and in dimensions when it is loaded.

Source: Li et al., "2D Matryoshka Sentence Embeddings", arXiv 2402.14776. The objective is in `zoo.ops.matryoshka`.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, field_validator

from zoo import backbone, data, encoding, stock
from zoo.backbone import Backbone
from zoo.errors import ZooError
from zoo.families import base
from zoo.lazy import lazy
from zoo.ops import distributed, losses, matryoshka
from zoo.ops import heads as headfit
from zoo.schema import EncoderSpec, Kind, Positive, Section, Training
from zoo.teacher import Teacher, TeacherSpec

if TYPE_CHECKING:
    import numpy as np
    import torch
    from datasets import Dataset
    from torch.utils import checkpoint
else:
    np, torch, checkpoint = lazy("numpy"), lazy("torch"), lazy("torch.utils.checkpoint")


class Spec(EncoderSpec):
    """`encoder:` of a 2D Matryoshka model.

    `objective: elastic` (the default) gives every layer a linear head, fitted in closed form and then trained;
    `objective: 2dmse` is the paper's, to the letter with `detach: false`.
    """

    family: Literal["matryoshka-2d"]
    backbone: Annotated[str, Field(min_length=1, description="Hub id, folder, or package:NAME.")]
    revision: str | None = None
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
    max_length: Positive | None = Field(default=None, description="Tokens; by default the backbone's own limit.")

    @field_validator("dims", "weights", "angle_weights", mode="before")
    @classmethod
    def _tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("dims")
    @classmethod
    def _ascending(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError(f"must ascend without repeats, not {list(value)}")
        return value


_COLUMNS = ("anchor", "positive", "negative", "sentence1", "sentence2")
_CHUNK = 32  # texts of similar length that run together: on a CPU more of them only add padding
_FIT_TEXTS = 4096  # distinct training texts that the heads are fitted on


class View(Section):
    """A cut: the first `layers` blocks, the first `dim` components."""

    layers: Positive | None = None
    dim: Positive | None = None


class Encoder(base.Encoder):
    """A backbone whose every (layers, dim) corner is an encoder. Vectors have unit norm at every cut.

    Attributes:
        backbone: the whole backbone this encoder holds.
        heads: optional linear maps by layer; absent ones are the identity.
        layers, dim: the corner that `encode` uses; `truncate` gives another one over the same tensors.
    """

    View = View

    def __init__(
        self, spec: Spec, body: Backbone, heads: Mapping[int, torch.nn.Linear] | None = None, dim: int | None = None
    ) -> None:
        super().__init__()
        self.spec: Spec = spec
        self.backbone = body
        self.heads = torch.nn.ModuleDict({str(n): head for n, head in (heads or {}).items()})
        self.module = torch.nn.ModuleDict({"backbone": body.model, "heads": self.heads})
        self.layers, self.dim = body.depth, dim or body.width
        self._width = self.dim
        self._runner: encoding.Engine | None = None
        self._shared: _Pass | None = None
        self._teacher: Teacher | None = None
        self.base, self.base_revision = body.name, body.revision
        for name, parameter in body.model.named_parameters():
            parameter.requires_grad_(
                not name.startswith("pooler.")
            )  # kept for those who load the file, never used here

    # -- before torch ----------------------------------------------------------------------------------------------

    @classmethod
    def roles(cls, spec: Spec) -> tuple[dict[str, Kind], dict[str, Kind]]:
        """Scored pairs for cosent and angle; anchor and positive, and perhaps a hard negative, for contrastive."""
        if spec.loss == "contrastive":
            return {"anchor": "text", "positive": "text"}, {"negative": "text"}
        return {"sentence1": "text", "sentence2": "text", "score": "number"}, {}

    @classmethod
    def check(cls, spec: Spec, folder: Path) -> list[tuple[tuple[str | int, ...], str]]:
        """A backbone that is not there or cannot be cut, and widths beyond its own."""
        try:
            size = _size(spec.backbone, folder)
        except (ZooError, OSError, ValueError, KeyError) as error:
            return [(("backbone",), str(error))]
        if size and max(spec.dims) > size[1]:
            return [(("dims",), f"{max(spec.dims)} is more than the {size[1]} components of {spec.backbone}")]
        return []

    @classmethod
    def check_view(cls, spec: Spec, view: Mapping[str, Any], folder: Path) -> str | None:
        """A cut deeper or wider than the backbone."""
        try:
            size = _size(spec.backbone, folder)
        except (ZooError, OSError, ValueError, KeyError):
            return None  # `check` has said so
        return _misfit(view.get("layers"), view.get("dim"), *size) if size else None

    # -- training --------------------------------------------------------------------------------------------------

    @classmethod
    def build(cls, spec: Spec, *, seed: int = 42, folder: Path = Path()) -> Self:
        """The backbone as it comes, every corner of it open."""
        body = backbone.load(spec.backbone, revision=spec.revision, folder=folder, max_length=spec.max_length)
        encoder = cls(spec, body)
        encoder.seed, encoder.folder = seed, folder
        dropout = 0.0 if spec.dropout is None and spec.objective == "elastic" else spec.dropout
        if dropout is not None:
            body.set_dropout(dropout)
        return encoder

    def prepare(self, rows: Dataset, cache: Path) -> None:
        """Fit the heads on the training texts, and compute the teacher's vectors."""
        columns = [c for c in _COLUMNS if c in rows.column_names]
        texts = list(dict.fromkeys(text for column in columns for text in rows[column]))
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
            for chunk, _ in self.backbone.chunks(texts, 64):
                fit.add(self.backbone.states(chunk, range(1, self.backbone.depth + 1)))
        self._runner = None  # made before there were heads
        for n, (weight, bias) in fit.solve().items():
            self.heads[str(n)] = headfit.linear(weight, bias)

    def _unlabelled(self) -> list[str]:
        if self.spec.teacher is None or self.spec.teacher.unlabelled is None:
            return []
        return list(data.read(self.spec.teacher.unlabelled, {"text": "text"}, folder=self.folder).rows["text"])

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
        columns = [c for c in _COLUMNS if c in rows[0]]
        cells = [row[column] for column in columns for row in rows]
        texts = list(dict.fromkeys(cells))
        chunks, places = zip(*self.backbone.chunks(texts, self.spec.chunk or _CHUNK), strict=True)
        rank = {texts[place]: position for position, place in enumerate(p for some in places for p in some)}
        batch = {
            "chunks": list(chunks),
            "cells": torch.tensor([rank[cell] for cell in cells]).view(len(columns), len(rows)),
        }
        if self._teacher is not None:
            batch["texts"] = cells
        if "score" in rows[0]:
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
            vectors = {n: distributed.gather(each, dim=1) for n, each in own.items()}
            scores = None if scores is None else distributed.gather(scores)

        def sentence_loss(columns: torch.Tensor) -> torch.Tensor:
            return losses.sentence(columns, scores, self.spec.loss, self.spec.scale, self.spec.angle_weights)

        deep, rest = vectors[depth], {n: vectors[n] for n in shallow}
        if self.spec.objective == "elastic":
            total = matryoshka.elastic(deep, rest, narrow, sentence_loss)
        else:
            terms = [self._paper(deep, rest, width, sentence_loss) for width in ([m] if training else narrow)]
            total = torch.stack(terms).mean()
        if not training:  # held-out texts have no teacher vectors: validation is on the task alone
            return total
        total = distributed.whole_batch(total)
        return total + self._teaching(batch, own, m) if self._teacher is not None else total

    def _paper(self, deep: torch.Tensor, rest: dict[int, torch.Tensor], width: int, loss: Any) -> torch.Tensor:
        return matryoshka.objective(
            deep,
            rest,
            width,
            loss,
            matryoshka.shallow_weights(list(rest), self.backbone.depth),
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
            chunks, places = zip(*self.backbone.chunks(extra, _CHUNK), strict=True)
            order = torch.tensor([p for some in places for p in some]).argsort()
            layers = self._layers({"chunks": [_on(total.device, chunk) for chunk in chunks], "cells": order}, list(own))
            total = total + self._teacher.terms(extra, layers, width)
        return total

    def _layers(self, batch: dict[str, Any], layers: list[int]) -> dict[int, torch.Tensor]:
        """Float32 embeddings by layer, in the shape of `cells` and the width at the end."""
        pieces = []
        for chunk in batch["chunks"]:
            if self.spec.chunk and self.module.training:
                pieces.append(checkpoint.checkpoint(self.backbone.states, chunk, layers, use_reentrant=False))
            else:
                pieces.append(self.backbone.states(chunk, layers))
        out = {}
        for n, parts in zip(layers, zip(*pieces, strict=True), strict=True):
            vectors = torch.cat(parts).float()[batch["cells"]]
            share = self.spec.backflow if self.spec.objective == "elastic" and n < self.backbone.depth else 1.0
            out[n] = self._head(n, matryoshka.backflow(vectors, share))
        return out

    def _head(self, layer: int, vectors: torch.Tensor) -> torch.Tensor:
        return self.heads[str(layer)](vectors) if str(layer) in self.heads else vectors

    # -- use -------------------------------------------------------------------------------------------------------

    def truncate(self, layers: int | None = None, dim: int | None = None) -> Self:
        """The encoder cut to its first `layers` blocks and `dim` components: a cheap view that shares every tensor, and
        whose vectors have unit norm. Raises ZooError for a cut that this encoder does not have."""
        wrong = _misfit(layers, dim, self.backbone.depth, self._width)
        if wrong:
            raise ZooError(wrong)
        twin = copy.copy(self)
        twin.layers, twin.dim = layers or self.layers, dim or self.dim
        twin.view_options = {"layers": twin.layers, "dim": twin.dim}
        twin._runner = twin._shared = None
        return twin

    def view(self, **options: Any) -> Self:
        """`truncate` by keyword; {} is the whole encoder."""
        unknown = set(options) - {"layers", "dim"}
        if unknown:
            raise ZooError(f"a 2D Matryoshka encoder is cut by layers and dim, not by {', '.join(sorted(unknown))}")
        return self.truncate(**options)

    def together(self, views: Sequence[Mapping[str, Any]]) -> list[Self]:
        """Views that take their vectors from one pass over each text."""
        shared = _Pass(self)
        twins = [self.view(**view) for view in views]
        for twin in twins:
            twin._shared = shared
        return twins

    def baseline(self) -> Encoder | None:
        """The backbone as it was before training, or None where it cannot be had (any more)."""
        try:
            return type(self).build(self.spec, folder=self.folder)
        except ZooError:
            return None

    def encode(self, inputs: Iterable[Any], *, show_progress: bool = False, precision: str = "auto") -> np.ndarray:
        """Texts to (n, dim) float32 of unit norm, in order. Raises ZooError for an input that is not a string."""
        if self._shared is not None and precision == "fp32" and isinstance(inputs, list) and self._shared.takes(inputs):
            return self._shared.vectors(inputs, self.layers, self.dim)
        return self._engine().encode(inputs, show_progress=show_progress, precision=precision)

    def encode_layers(self, texts: Sequence[str], *, batch_size: int = 32) -> dict[int, np.ndarray]:
        """Every layer's vectors (n, dim) float32 by layer, from one pass; not normalised, so that the first m components,
        normalised, are what `truncate(layer, m).encode` gives."""
        out = {n: np.empty((len(texts), self._width), dtype=np.float32) for n in range(1, self.layers + 1)}
        body = self.backbone.cut(self.layers)
        body.model.eval()
        with torch.inference_mode():
            for chunk, places in self.backbone.chunks(texts, batch_size):
                for n, vectors in zip(out, body.states(_on(body.model.device, chunk), list(out)), strict=True):
                    out[n][places] = self._head(n, vectors)[:, : self._width].cpu().numpy()
        return out

    def stream(self, inputs: Iterable[Any], *, precision: str = "auto") -> Iterator[np.ndarray]:
        """`encode` in pieces of constant memory, for an iterable of any length."""
        return self._engine().stream(inputs, precision=precision)

    def _engine(self) -> encoding.Engine:
        """Built once a view: the cut backbone, pooling, head and normalisation as one module from tokens to vectors."""
        if self._runner is None:
            head = self.heads[str(self.layers)] if str(self.layers) in self.heads else None
            cut = self.backbone.cut(self.layers) if self.layers < self.backbone.depth else self.backbone
            module = backbone.pooled(cut, head, self.dim)
            self._runner = encoding.Engine(module, cut.tokenize, cut.pad, self.dim, cut.max_length)
        return self._runner

    # -- artefact --------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """The current corner as stock sentence-transformers modules; whatever lies deeper or wider is left out."""
        heads: Any = {int(n): head for n, head in self.heads.items()}
        stock.write(folder, self.backbone.cut(self.layers), heads, self.dim)

    @classmethod
    def load(cls, spec: Spec, folder: Path, config: Mapping[str, Any]) -> Self:
        """Open what `save` wrote; every tensor must be there, fit and be finite, and none may be left over."""
        body = backbone.read(folder, spec.backbone)
        dim = int(config.get("dim", body.width))
        encoder = cls(spec, body, stock.read_heads(folder, body, dim), dim)
        encoder.module.eval()
        return encoder

    def extra_config(self) -> dict[str, Any]:
        """The widest cut that the folder holds."""
        return {"dim": self.dim}

    def card_facts(self) -> dict[str, Any]:
        """Size by depth, widths and limits, for the card."""
        inside = {n: sum(p.numel() for p in self.backbone.cut(n).model.parameters()) for n in range(1, self.layers + 1)}
        return {
            "architecture": self.backbone.model.config.model_type,
            "layers": self.layers,
            "dim": self.dim,
            "dims": sorted({*(d for d in self.spec.dims if d < self.dim), self.dim}),
            "parameters": {str(n): count for n, count in inside.items()},
            "max_length": self.backbone.max_length,
        }


class _Pass:
    """Every layer's vectors of each text seen, computed once, for as many texts as LIMIT floats hold."""

    LIMIT = 1 << 27

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._rows: dict[str, list[np.ndarray]] = {}

    def takes(self, texts: list[str]) -> bool:
        """Whether these texts still fit; the engine takes what does not, and what is not a string."""
        floats = (len(self._rows) + len(texts)) * self.encoder.layers * self.encoder.dim
        return floats <= self.LIMIT and all(isinstance(text, str) for text in texts)

    def vectors(self, texts: list[str], layer: int, dim: int) -> np.ndarray:
        """(n, dim) float32 of unit norm."""
        new = [text for text in dict.fromkeys(texts) if text not in self._rows]
        if new:
            layers = list(self.encoder.encode_layers(new).values())
            self._rows |= {text: [vectors[i] for vectors in layers] for i, text in enumerate(new)}
        cut = np.array([self._rows[text][layer - 1][:dim] for text in texts], dtype=np.float32).reshape(-1, dim)
        return cut / np.linalg.norm(cut, axis=1, keepdims=True)


def _on(device: torch.device, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: values.to(device) for name, values in batch.items()}


def _size(reference: str, folder: Path) -> tuple[int, int] | None:
    """(depth, width) of a local backbone from its config.json; None for one on the Hub."""
    local = backbone.locate(reference, folder)
    return backbone.depth_of(json.loads((local / "config.json").read_text(encoding="utf-8"))) if local else None


def _misfit(layers: int | None, dim: int | None, depth: int, width: int) -> str | None:
    for name, given, most in (("layers", layers, depth), ("dim", dim, width)):
        if given is not None and not 1 <= given <= most:
            return f"{name}: {given} is outside 1…{most}, which is what this encoder has"
    return None

"""The towers of an encoder of pairs: one that both sides share, or one for each; learned from the texts, or pretrained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from zoo import encoding, preflight, references, tensors
from zoo.cuttable import Cuttable, CuttableSpec, on
from zoo.errors import ZooError
from zoo.lazy import lazy
from zoo.schema import EncoderSpec, Positive

if TYPE_CHECKING:
    import torch

    from zoo import backbone
    from zoo.semantics import pieces, readers
else:
    torch, backbone, pieces, readers = map(
        lazy, ("torch", "zoo.backbone", "zoo.semantics.pieces", "zoo.semantics.readers")
    )

SIDES = ("query", "document")
SUBWORDS = "pieces.json"
LEARNED = ("reader", "pieces", "dim", "hidden")
DROPOUT = 0.2  # of what is learned from the texts alone


class TowerSpec(EncoderSpec):
    """The part of `encoder:` that says what reads the texts."""

    towers: Literal["shared", "separate"] = Field(
        default="shared", description="separate: one for each side of a pair."
    )
    reader: Literal["gru", "lstm"] = Field(default="gru", description="Without a backbone: what reads the subwords.")
    pieces: Annotated[int, Field(ge=64, le=1_000_000)] = Field(
        default=8000, description="Without a backbone: subwords, learned from the texts, at most."
    )
    dim: Positive = Field(default=256, description="Without a backbone: components of a subword's embedding.")
    hidden: Positive = Field(default=128, description="Without a backbone: components of a state, in each direction.")
    backbone: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="A sentence encoder to start from: Hub id, folder, or package:NAME."
    )
    revision: str | None = None
    backbone_rate: Annotated[float, Field(gt=0)] = Field(
        default=0.05, description="The backbone's learning rate, times the recipe's."
    )
    max_length: Positive | None = Field(
        default=None, description="Tokens; by default 256, or the backbone's own limit."
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None, description="By default 0.2 without a backbone, and the backbone's own with one."
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        fields = type(self).model_fields
        given = [name for name in LEARNED if getattr(self, name) != fields[name].default]
        if self.backbone and given:
            raise ValueError(f"`{given[0]}` belongs to towers learned from the texts alone: leave it or `backbone` out")
        if self.revision and not self.backbone:
            raise ValueError("`revision` is that of a backbone, and there is none")
        return self

    def mistakes(self, folder: Path) -> list[tuple[tuple[str | int, ...], str]]:
        """A backbone that is not there, and more tokens than it has positions for."""
        if not self.backbone:
            return []
        try:
            references.locate(self.backbone, folder)
        except ZooError as error:
            return [(("backbone",), str(error))]
        return Cuttable.check(self.plain(), folder)

    def plain(self) -> CuttableSpec:
        """The backbone as a sentence encoder of its own."""
        return CuttableSpec(
            family=self.family, backbone=self.backbone or "", revision=self.revision, max_length=self.max_length
        )


class Towers:
    """Readers of texts by side; one that both share is that of "query".

    Attributes:
        module: what they are made of; prompts: what stands before the texts of a side.
        base, base_revision: of the backbone, if there is one.
    """

    def __init__(self, spec: TowerSpec, made: Mapping[str, readers.Reader]) -> None:
        self.spec, self.by_side = spec, dict(made)
        self.module = torch.nn.ModuleDict({side: each.module for side, each in self.by_side.items()})
        self.prompts: dict[str, str] = {}
        self.base: str | None = None
        self.base_revision = ""
        first = self.by_side["query"]
        self.width, self.max_length = first.width, first.max_length
        if isinstance(first, readers.BackboneReader):
            self.prompts, self.base, self.base_revision = dict(first.body.prompts), first.body.name, first.body.revision

    @staticmethod
    def _sides(spec: TowerSpec) -> tuple[str, ...]:
        return SIDES if spec.towers == "separate" else SIDES[:1]

    @classmethod
    def open(cls, spec: TowerSpec, folder: Path) -> Towers:
        """The backbone as it comes, once for each side that has a tower. Raises ZooError where it cannot be had."""
        made: dict[str, readers.Reader] = {}
        for side in cls._sides(spec):
            body = backbone.load(spec.backbone or "", revision=spec.revision, folder=folder, max_length=spec.max_length)
            if any(body.prompts.values()) and not body.pooling.include_prompt:
                raise ZooError(f"backbone {body.name}: leaves prompts out of its pooling, which is not supported")
            made[side] = readers.BackboneReader(body, spec.dropout)
        return cls(spec, made)

    @classmethod
    def learn(cls, spec: TowerSpec, texts: Iterable[str]) -> Towers:
        """Subwords of `texts`, and recurrent networks that know nothing yet."""
        known = list(texts)
        made = cls._recurrent(spec, pieces.Pieces.learn(known, spec.pieces))
        for reader in made.by_side.values():
            assert isinstance(reader, readers.RecurrentReader)
            reader.weigh(known)
        return made

    @classmethod
    def _recurrent(cls, spec: TowerSpec, words: pieces.Pieces) -> Towers:
        drop = DROPOUT if spec.dropout is None else spec.dropout
        sizes = spec.dim, spec.hidden, spec.max_length, drop
        return cls(spec, {side: readers.RecurrentReader(words, spec.reader, *sizes) for side in cls._sides(spec)})

    def reader(self, side: str | None) -> readers.Reader:
        """That of a side; None stands for "query". Raises ZooError for what is no side."""
        if side not in (None, *SIDES):
            raise ZooError(f"prompt_type: {side!r} is not one of {', '.join(SIDES)}")
        return self.by_side.get(side or "query") or self.by_side["query"]

    def batch(self, side: str, cells: Sequence[str]) -> dict[str, Any]:
        """What `read` takes: every distinct text once, in chunks of similar length, and the place of each cell's."""
        texts = list(dict.fromkeys(self.prompts.get(side, "") + cell for cell in cells))
        rank = {text: i for i, text in enumerate(texts)}
        chunks, order = readers.chunks(self.reader(side), texts)
        return {"chunks": chunks, "places": order[[rank[self.prompts.get(side, "") + cell] for cell in cells]]}

    def read(self, side: str, batch: Mapping[str, Any]) -> torch.Tensor:
        """Vectors (cells, width) float32 of a `batch`."""
        module = self.reader(side).module
        device = next(module.parameters()).device
        return torch.cat([module(on(device, chunk)).float() for chunk in batch["chunks"]])[batch["places"]]

    def vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """Unit vectors (n, width) of texts by the tower of queries, as it is now."""
        reader = self.reader("query")
        engine = encoding.Engine(reader.module, reader.tokenize, reader.pad, reader.width, reader.max_length)
        return torch.nn.functional.normalize(torch.from_numpy(engine.encode(texts)), dim=-1)

    def save(self, folder: Path) -> None:
        """A backbone as stock sentence-transformers modules, that of documents, if it is separate, below `document`; or subwords
        and model.safetensors."""
        from safetensors.torch import save_file

        for side, reader in self.by_side.items():
            if isinstance(reader, readers.BackboneReader):
                reader.save(folder if side == "query" else folder / side)
            elif isinstance(reader, readers.RecurrentReader):
                reader.pieces.save(folder / SUBWORDS)
        if self.base is None:
            save_file(tensors.plain(self.module), folder / "model.safetensors", metadata={"format": "pt"})

    @classmethod
    def load(cls, spec: TowerSpec, folder: Path) -> Towers:
        """Open what `save` wrote; every tensor must be there, fit the subwords and be finite, and none be left over."""
        if spec.backbone:
            places = {side: folder if side == "query" else folder / side for side in cls._sides(spec)}
            return cls(spec, {side: readers.BackboneReader.load(at, spec.backbone) for side, at in places.items()})
        words = pieces.Pieces.load(folder / SUBWORDS)
        with torch.device("meta"):  # shapes without memory
            shell = cls._recurrent(spec, words)
        preflight.fits(folder, tensors.shapes(shell.module))
        made = cls._recurrent(spec, words)
        tensors.fill(made.module, tensors.read(folder), folder)
        return made


class Plain(Cuttable):
    """A sentence encoder, whatever view of another encoder it stands beside."""

    def view(self, **options: Any) -> Self:
        """The whole of it."""
        return self.truncate()

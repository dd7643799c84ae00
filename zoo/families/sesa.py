"""SESA: texts compared in a space whose dimensions are the concepts of a knowledge base, with an explanation for every score.

Source: Bogdanova and Yazdani, "SESA: Supervised Explicit Semantic Analysis", arXiv 1708.03246: two towers read the texts, the
ranking of pairs and the concepts that texts are tagged with train them together. What a component is, is in
`zoo.conceptspace`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from zoo import encoding, preflight, references, tensors, trust
from zoo.concepts import Concepts
from zoo.cuttable import Cuttable, CuttableSpec, on
from zoo.data.spec import Data
from zoo.errors import ZooError
from zoo.explicit import SIDES, Explicit, ExplicitSpec
from zoo.families import base
from zoo.lazy import lazy
from zoo.ops import concepts as ops
from zoo.ops import distributed
from zoo.schema import Kind, Positive, Training

if TYPE_CHECKING:
    import numpy as np
    import torch
    from datasets import Dataset

    from zoo import backbone, conceptspace, pieces, readers, twin
else:
    np, torch, backbone = lazy("numpy"), lazy("torch"), lazy("zoo.backbone")
    conceptspace, pieces, readers = lazy("zoo.conceptspace"), lazy("zoo.pieces"), lazy("zoo.readers")
    twin = lazy("zoo.twin")

LIST, SUBWORDS, SPACE = "concepts.json", "pieces.json", "space"
COLUMNS = {"query": "anchor", "document": "positive"}  # what each tower reads
TAGS = {"query": "anchor_concepts", "document": "positive_concepts"}
LEARNED = ("reader", "pieces", "dim", "hidden")


class Spec(ExplicitSpec):
    """`encoder:` of a SESA model. Rows are pairs of texts that belong together, `anchor` and `positive`; `anchor_concepts` and
    `positive_concepts`, where there are any, are lists of concept ids, and an empty one says nothing."""

    family: Literal["sesa"]
    concepts: Data = Field(description="The concepts: columns id, and perhaps name and parent (one id or several).")
    above: dict[str, Data] = Field(
        default={}, description="Further lists, by a name for each, that hold parents; in these equal rows count once."
    )
    held_out: Data | None = Field(
        default=None, description="Pairs like those of training that the card tries explanations and concepts on."
    )
    twin: bool = Field(
        default=True,
        description="With held_out: also train the same towers with an opaque space, for the card; as long again.",
    )
    towers: Literal["shared", "separate"] = Field(
        default="shared", description="separate: one for each side of a pair."
    )
    reader: Literal["gru", "lstm"] = Field(default="gru", description="Without a backbone: what reads the subwords.")
    pieces: Positive = Field(default=8000, description="Without a backbone: subwords, learned from the texts, at most.")
    dim: Positive = Field(default=128, description="Without a backbone: components of a subword's embedding.")
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
    names: bool = Field(
        default=True, description="A concept's name gives it a direction, also where no row is tagged with it."
    )
    supervision: Annotated[float, Field(ge=0)] = Field(
        default=1.0, description="Weight of the tags; 1 for the ranking."
    )
    scale: Annotated[float, Field(gt=0)] = Field(default=20.0, description="Multiplies cosines in the ranking.")

    @model_validator(mode="after")
    def _one_source(self) -> Spec:
        given = [name for name in LEARNED if name in self.model_fields_set and name in self._changed()]
        if self.backbone and given:
            raise ValueError(f"`{given[0]}` belongs to towers learned from the texts alone: leave it or `backbone` out")
        if self.revision and not self.backbone:
            raise ValueError("`revision` is that of a backbone, and there is none")
        if taken := {"train", "validation", "concepts", "held_out"} & self.above.keys():
            raise ValueError(f"above: a list cannot be called {min(taken)!r}")
        return self

    def _changed(self) -> set[str]:
        return {name for name in LEARNED if getattr(self, name) != type(self).model_fields[name].default}


class Encoder(Explicit):
    """Two towers into a space of concepts; what they give is in `zoo.explicit`."""

    training = {"learning_rate": 2e-3, "epochs": 10.0}
    spec: Spec

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self._facts: dict[str, Any] = {}
        self._twin: Encoder | None = None

    # -- before torch ----------------------------------------------------------------------------------------------

    @classmethod
    def roles(cls, spec: Spec) -> tuple[dict[str, Kind], dict[str, Kind]]:
        """Pairs of texts, and perhaps the concepts of either."""
        return dict.fromkeys(COLUMNS.values(), "text"), dict.fromkeys(TAGS.values(), "ids")

    @classmethod
    def further(cls, spec: Spec) -> dict[tuple[str, ...], tuple[Data, dict[str, Kind], dict[str, Kind]]]:
        """The lists of concepts, and the held-out pairs."""
        one: tuple[dict[str, Kind], dict[str, Kind]] = {"id": "id"}, {"name": "text", "parent": "ids"}
        out: dict[tuple[str, ...], Any] = {("concepts",): (spec.concepts, *one)}
        out |= {("above", name): (more, *one) for name, more in spec.above.items()}
        return out | ({("held_out",): (spec.held_out, *cls.roles(spec))} if spec.held_out else {})

    @classmethod
    def check(cls, spec: Spec, folder: Path) -> list[tuple[tuple[str | int, ...], str]]:
        """A backbone that is not there."""
        try:
            references.locate(spec.backbone or "", folder)
        except ZooError as error:
            return [(("backbone",), str(error))]
        return []

    # -- training --------------------------------------------------------------------------------------------------

    @classmethod
    def build(cls, spec: Spec, *, seed: int = 42, folder: Path = Path()) -> Self:
        """The backbone as it comes; without one, towers are made in `prepare`, which knows the subwords."""
        encoder = cls(spec)
        encoder.seed, encoder.folder = seed, folder
        if spec.backbone:
            for side in encoder._sides():
                body = backbone.load(spec.backbone, revision=spec.revision, folder=folder, max_length=spec.max_length)
                encoder.prompts = dict(body.prompts)
                encoder.base, encoder.base_revision = body.name, body.revision
                encoder.readers[side] = readers.BackboneReader(body, spec.dropout)
        return encoder

    def _sides(self) -> list[str]:
        return list(SIDES) if self.spec.towers == "separate" else ["query"]

    def prepare(self, rows: Dataset, cache: Path) -> None:
        """Read the concepts, look at every tag, learn the subwords. Raises DataError, before any step, for an id that the list
        lacks, twice has or puts below itself, and for a concept without an example where its name is of no use."""
        listed = Concepts.of(self.table("concepts"), [self.table(name) for name in self.spec.above])
        counts = trust.counted(listed, {c: rows[c] for c in TAGS.values() if c in rows.column_names})
        if self.spec.space == "concepts" and self.spec.supervision and not self.spec.names:
            trust.without_example(listed, counts)
        words = None
        if not self.spec.backbone:
            texts = [*dict.fromkeys(text for column in COLUMNS.values() for text in rows[column]), *listed.names]
            words = pieces.Pieces.learn(texts, self.spec.pieces)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self._make(listed, words)
        self.space.start(counts, self._named(listed) if self.spec.backbone and self.space.named is not None else None)

    def _make(self, listed: Concepts, words: pieces.Pieces | None) -> None:
        """Towers and space for these concepts and subwords, with weights drawn anew."""
        spec, self.listed, self.dim = self.spec, listed, len(listed)
        names = dim = None
        if words is not None:
            for side in self._sides():
                drop = 0.2 if spec.dropout is None else spec.dropout
                self.readers[side] = readers.RecurrentReader(
                    words, spec.reader, spec.dim, spec.hidden, spec.max_length, drop
                )
        reader = self.readers["query"]
        if spec.names and spec.space == "concepts":
            names = None if words is None else words.encode(listed.names, reader.max_length)
            dim = reader.width if words is None else spec.dim
        self.space = conceptspace.Space(listed, reader.width, dim, names, opaque=spec.space == "opaque")
        towers = torch.nn.ModuleDict({side: each.module for side, each in self.readers.items()})
        self.module = torch.nn.ModuleDict({"towers": towers, "space": self.space})
        self._engines.clear()

    def _named(self, listed: Concepts) -> torch.Tensor:
        """Unit vectors of the names by the backbone as it comes, (C, width)."""
        reader = self.readers["query"]
        engine = encoding.Engine(reader.module, reader.tokenize, reader.pad, reader.width, reader.max_length)
        return torch.nn.functional.normalize(torch.from_numpy(engine.encode(listed.names)), dim=-1)

    def parameter_groups(self, training: Training) -> list[dict[str, Any]]:
        """The backbone at `backbone_rate` of the recipe's rate, everything else at the recipe's."""
        if not self.spec.backbone:
            return super().parameter_groups(training)
        inner = [p for p in self.module["towers"].parameters() if p.requires_grad]  # type: ignore[index]
        rate = training.learning_rate * self.spec.backbone_rate
        return [{"params": inner, "lr": rate}, {"params": list(self.space.parameters())}]

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Distinct texts of each side in chunks of similar length, the place of each row's among them, a key for each text, and
        the tags (2, rows, C) with what stands above them."""
        assert self.listed is not None  # `prepare` has run
        batch: dict[str, Any] = {"keys": torch.zeros(2, len(rows), dtype=torch.int64)}
        tags = torch.zeros(2, len(rows), len(self.listed), dtype=torch.bool)
        for number, (side, column) in enumerate(COLUMNS.items()):
            cells = [self.prompts.get(side, "") + row[column] for row in rows]
            texts = list(dict.fromkeys(cells))
            rank = {text: i for i, text in enumerate(texts)}
            chunks, order = readers.chunks(self.readers.get(side) or self.readers["query"], texts)
            batch[side] = {"chunks": chunks, "places": order[[rank[cell] for cell in cells]]}
            batch["keys"][number] = torch.tensor([_key(cell) for cell in cells])
            for i, row in enumerate(rows):
                tags[number, i, self.listed.tagged(row.get(TAGS[side]) or ())] = True
        return batch | {"tags": tags}

    def loss(self, batch: dict[str, Any]) -> torch.Tensor:
        """The ranking of the pairs, and `supervision` times the tags of both sides."""
        training, space = self.module.training, self.space
        directions = space.directions(self._embedding())
        gains = torch.stack([space.gain(self._read(side, batch[side]), directions) for side in SIDES])
        keys, tags = batch["keys"], batch["tags"]
        if training:  # in validation every process has all the rows
            gains, keys, tags = (distributed.gather(each, dim=1) for each in (gains, keys, tags))
        a, b = (conceptspace.unit(space.components(gain, self.spec.active)) for gain in gains)
        total = ops.ranking(a, b, keys, self.spec.scale)
        if self.spec.space == "concepts" and self.spec.supervision:
            told = ops.tagging(gains.flatten(0, 1), space.prior, tags.flatten(0, 1), space.groups)
            total = total + self.spec.supervision * told
        return distributed.whole_batch(total) if training else total

    def _read(self, side: str, batch: dict[str, Any]) -> torch.Tensor:
        towers: Any = self.module["towers"]  # type: ignore[index]
        tower = towers[side if side in towers else "query"]
        device = next(tower.parameters()).device
        return torch.cat([tower(on(device, chunk)).float() for chunk in batch["chunks"]])[batch["places"]]

    def fit(
        self,
        rows: Dataset,
        settings: Training,
        folder: Path,
        *,
        validation: Dataset | None = None,
        show_progress: bool = False,
    ) -> float:
        """Train in place under the shared Trainer, and then, for the card, the opaque twin; returns the seconds without it."""
        seconds = super().fit(rows, settings, folder, validation=validation, show_progress=show_progress)
        self._engines.clear()
        if self.spec.held_out and self.spec.twin and self.spec.space == "concepts":
            self._twin = twin.trained(self, rows, settings, folder, validation)
        return seconds

    def finish(self, rows: Dataset) -> None:
        """Try concepts and explanations on the held-out pairs, for the card."""
        if self.spec.held_out and self.spec.space == "concepts":
            self._facts = trust.tried(self, self.table("held_out"), self._twin)

    def baseline(self) -> base.Encoder | None:
        """The sentence encoder alone; None without one."""
        if not self.spec.backbone:
            return None
        try:
            return _Plain.build(_plain(self.spec), folder=self.folder)
        except ZooError:
            return None

    # -- artefact --------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Towers (a backbone's as stock sentence-transformers modules, that of documents, if it is separate, below `document`),
        concepts.json, and the space. Raises ZooError before `prepare`."""
        from safetensors.torch import save_file

        if self.listed is None:
            raise ZooError("the encoder has not been trained: there is nothing to save")
        for side, reader in self.readers.items():
            if isinstance(reader, readers.BackboneReader):
                reader.save(folder if side == "query" else folder / side)
            else:
                reader.pieces.save(folder / SUBWORDS)  # type: ignore[attr-defined]
        parts = {SPACE: self.space}
        if not self.spec.backbone:
            parts["model"] = self.module["towers"]  # type: ignore[index]
        for stem, part in parts.items():
            state = {name: tensor.detach().cpu().contiguous() for name, tensor in part.state_dict().items()}
            save_file(state, folder / f"{stem}.safetensors", metadata={"format": "pt"})
        self.listed.save(folder / LIST)

    @classmethod
    def load(cls, spec: Spec, folder: Path, config: Mapping[str, Any]) -> Self:
        """Open what `save` wrote; every tensor must be there, fit the concepts and the subwords and be finite."""
        encoder, listed, words = cls(spec), Concepts.load(folder / LIST), None
        if spec.backbone:
            for side in encoder._sides():
                reader = readers.BackboneReader.load(folder if side == "query" else folder / side, spec.backbone)
                encoder.readers[side] = reader
                encoder.prompts = dict(reader.body.prompts)
                encoder.base, encoder.base_revision = reader.body.name, reader.body.revision
        else:
            words = pieces.Pieces.load(folder / SUBWORDS)
        with torch.device("meta"):  # shapes without memory
            shell = cls(spec)
            shell.readers = dict(encoder.readers)
            shell._make(listed, words)
        preflight.fits(folder, _shapes(shell.space), SPACE)
        if words is not None:
            preflight.fits(folder, _shapes(shell.module["towers"]))  # type: ignore[index]
        encoder._make(listed, words)
        tensors.fill(encoder.space, tensors.read(folder, SPACE), folder)
        if words is not None:
            tensors.fill(encoder.module["towers"], tensors.read(folder), folder)  # type: ignore[index]
        encoder.module.eval()
        facts = config.get("facts")
        encoder._facts = {k: v for k, v in facts.items() if k in trust.FACTS} if isinstance(facts, dict) else {}
        return encoder

    def card_facts(self) -> dict[str, Any]:
        """Sizes, and what was found on the held-out pairs."""
        shape: dict[str, Any] = {"dim": self.dim, "active": min(self.spec.active, self.dim), "space": self.spec.space}
        if self.readers:
            shape["max_length"] = self.readers["query"].max_length
        return {**shape, **self._facts}


class _Plain(Cuttable):
    """A sentence encoder, whatever view of a SESA encoder it stands beside."""

    def view(self, **options: Any) -> Self:
        return self.truncate()


def _plain(spec: Spec) -> CuttableSpec:
    return CuttableSpec(family="sesa", backbone=spec.backbone or "", revision=spec.revision, max_length=spec.max_length)


def _key(text: str) -> int:
    """63 bits that are the same for a text in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest()) >> 1


def _shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


PICTURES = {"deletion": trust.picture}

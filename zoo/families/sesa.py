"""SESA: texts compared in a space whose dimensions are the concepts of a knowledge base, with an explanation for every score.

Source: Bogdanova and Yazdani, "SESA: Supervised Explicit Semantic Analysis", arXiv 1708.03246: two towers read the texts, the
ranking of pairs and the concepts that texts are tagged with train them together. What a component is, is in
`zoo.conceptspace`.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from zoo import encoding, inverted, preflight, references, tensors, trust
from zoo.concepts import Concepts
from zoo.cuttable import Cuttable, CuttableSpec, on
from zoo.data.spec import Data
from zoo.errors import ZooError
from zoo.explaining import Contribution, Explanation
from zoo.families import base
from zoo.lazy import lazy
from zoo.ops import concepts as ops
from zoo.ops import distributed
from zoo.schema import EncoderSpec, Kind, Positive, Section, Training

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
SIDES = {"query": "anchor", "document": "positive"}  # the towers, and the column that each one reads
TAGS = {"query": "anchor_concepts", "document": "positive_concepts"}
LEARNED = ("reader", "pieces", "dim", "hidden")


class Spec(EncoderSpec):
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
    space: Literal["concepts", "opaque"] = Field(
        default="concepts", description="opaque: as many components, without concepts: what explanations cost."
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
    active: Positive = Field(default=64, description="Components of a vector that are not 0, at most.")
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


class View(Section):
    """`active`: keep fewer components; `edit`: concepts, by id or name, and how often their contribution counts."""

    active: Positive | None = None
    edit: dict[str, Annotated[float, Field(ge=0, le=1e6)]] | None = None


class Encoder(base.Encoder):
    """Encodes texts as (n, C) float32 of unit norm, one non-negative component a concept; a score is their dot product.

    Attributes:
        listed: the concepts, once they are known.
    """

    View = View
    training = {"learning_rate": 2e-3, "epochs": 10.0}
    spec: Spec

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec, self.dim = spec, 0
        self.listed: Concepts | None = None
        self.readers: dict[str, readers.Reader] = {}
        self.prompts: dict[str, str] = {}
        self.module = torch.nn.Module()
        self._engines: dict[tuple[str, bool], encoding.Engine] = {}
        self._facts: dict[str, Any] = {}
        self._twin: Encoder | None = None

    # -- before torch ----------------------------------------------------------------------------------------------

    @classmethod
    def roles(cls, spec: Spec) -> tuple[dict[str, Kind], dict[str, Kind]]:
        """Pairs of texts, and perhaps the concepts of either."""
        return dict.fromkeys(SIDES.values(), "text"), dict.fromkeys(TAGS.values(), "ids")

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

    @classmethod
    def check_view(cls, spec: Spec, view: Mapping[str, Any], folder: Path) -> str | None:
        """Concepts where there are none."""
        return "an opaque space has no concepts" if spec.space == "opaque" and (view.get("edit") or {}) else None

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
            texts = [*dict.fromkeys(text for column in SIDES.values() for text in rows[column]), *listed.names]
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
        for number, (side, column) in enumerate(SIDES.items()):
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

    def _embedding(self) -> torch.Tensor | None:
        return None if self.spec.backbone else self.readers["query"].module.embedding.weight  # type: ignore[union-attr, return-value]

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

    # -- use -------------------------------------------------------------------------------------------------------

    def encode(
        self,
        inputs: Iterable[Any],
        *,
        show_progress: bool = False,
        precision: str = "fp32",
        prompt_type: str | None = None,
        sparse: bool = False,
    ) -> Any:
        """Texts to (n, C) float32 of unit norm, in order, none of it below 0; with `sparse` a scipy CSR array. A text of which
        nothing is known is zero. Of separate towers `prompt_type` says which: "query" (the one that None stands for) or
        "document". Raises ZooError for an input that is not a string, and before `prepare`."""
        if sparse:
            return inverted.csr(self.stream(inputs, precision=precision, prompt_type=prompt_type))
        engine = self._engine(prompt_type)
        return engine.encode(self._prompted(inputs, prompt_type), show_progress=show_progress, precision=precision)

    def stream(
        self, inputs: Iterable[Any], *, precision: str = "fp32", prompt_type: str | None = None
    ) -> Iterator[np.ndarray]:
        """`encode` in pieces of constant memory."""
        return self._engine(prompt_type).stream(self._prompted(inputs, prompt_type), precision=precision)

    def probabilities(self, texts: Iterable[str], *, prompt_type: str | None = None) -> np.ndarray:
        """p(c | text), (n, C) float32: of each level's concepts a distribution."""
        self._named_components()
        return self._engine(prompt_type, probabilities=True).encode(self._prompted(texts, prompt_type))

    def _prompted(self, inputs: Iterable[Any], role: str | None) -> Iterable[Any]:
        prompt = self.prompts.get(role or "")
        if not prompt:
            return inputs
        texts = (prompt + text for text in encoding.texts(inputs))
        return list(texts) if isinstance(inputs, list | tuple) else texts

    def _engine(self, role: str | None, *, probabilities: bool = False) -> encoding.Engine:
        if role not in (None, *SIDES):
            raise ZooError(f"prompt_type: {role!r} is not one of {', '.join(SIDES)}")
        if self.listed is None:
            raise ZooError("the encoder has not been trained: it knows no concepts yet")
        side = role if role in self.readers else "query"
        if (side, probabilities) not in self._engines:
            reader, options = self.readers[side], self.view_options
            factors = torch.ones(self.dim)
            for word, weight in (options.get("edit") or {}).items():
                factors[self.listed.find(word)] = weight**0.5  # on both sides: a contribution counts `weight` times
            active = min(options.get("active") or self.spec.active, self.spec.active)
            directions = self.space.directions(self._embedding())
            tower = conceptspace.Tower(
                reader.module, self.space, directions, active, factors, probabilities=probabilities
            )
            self._engines[side, probabilities] = encoding.Engine(
                tower, reader.tokenize, reader.pad, self.dim, reader.max_length
            )
        return self._engines[side, probabilities]

    def _named_components(self) -> Concepts:
        if self.spec.space == "opaque" or self.listed is None:
            raise ZooError(
                "the components of this encoder have no names: its space is opaque, or it is not trained yet"
            )
        return self.listed

    def explain(self, a: str, b: str, top: int = 5) -> Explanation:
        """Why `a` (as a query) and `b` (as a document) score as they do: the `top` concepts by what they add to the dot product
        of their vectors. Raises ZooError where components have no names."""
        self._named_components()
        left = self.encode([a], prompt_type="query")[0].astype(np.float64)
        right = self.encode([b], prompt_type="document")[0].astype(np.float64)
        parts, rest = self._largest(left * right, top)
        return Explanation(float((left * right).sum()), parts, rest)

    def concepts(self, text: str, top: int = 5, *, prompt_type: str | None = None) -> list[Contribution]:
        """The `top` most active concepts of a text, the most active first."""
        self._named_components()
        return list(self._largest(self.encode([text], prompt_type=prompt_type)[0], top)[0])

    def _largest(self, values: np.ndarray, top: int) -> tuple[tuple[Contribution, ...], float]:
        listed = self._named_components()
        best = [int(i) for i in np.argsort(-values, kind="stable")[: max(top, 0)] if values[i] > 0]
        rest = float(np.delete(values, best).sum())
        return tuple(Contribution(listed.ids[i], listed.names[i], float(values[i])) for i in best), rest

    def edit(self, weights: Mapping[str, float]) -> Self:
        """A view in which concepts, by id or name, count `weights` times in every score, 0 for not at all; vectors have unit
        norm again afterwards. Raises ZooError for a concept that there is not."""
        return self.view(**{**self.view_options, "edit": {**(self.view_options.get("edit") or {}), **weights}})

    def view(self, **options: Any) -> Self:
        """`active` and `edit`, see `View`."""
        if unknown := set(options) - set(View.model_fields):
            raise ZooError(f"a SESA encoder has the views active and edit, not {', '.join(sorted(unknown))}")
        try:
            asked = View.model_validate(options)
        except ValueError as error:
            raise ZooError(f"this is no view of a SESA encoder: {str(error).splitlines()[-2].strip()}") from None
        if problem := self.check_view(self.spec, options, self.folder):
            raise ZooError(problem)
        for word in asked.edit or {} if self.listed else ():
            self._named_components().find(word)
        view = copy.copy(self)
        view.view_options, view._engines = asked.model_dump(exclude_none=True), {}
        return view

    def index(self, texts: Iterable[str]) -> inverted.Index:
        """An inverted index of texts as documents, for `search`."""
        return inverted.Index.of(self.encode(texts, prompt_type="document", sparse=True))

    def search(self, index: inverted.Index, queries: Sequence[str], top: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """The `top` items of an index for each query: places and scores, (q, top) each, the best first."""
        return index.search(self.encode(queries, prompt_type="query", sparse=True), top)

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

"""SESA: texts compared in a space whose dimensions are the concepts of a knowledge base, with an explanation for every score.

Source: Bogdanova and Yazdani, "SESA: Supervised Explicit Semantic Analysis", arXiv 1708.03246: two towers read the texts, the
ranking of pairs and the concepts that texts are tagged with train them together. What a component is, is in
`concept_space`.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from zoo.core.lazy import lazy
from zoo.encoder import TrainingRun
from zoo.families.sesa import faithfulness
from zoo.families.sesa import hierarchy as ops
from zoo.families.sesa.concept_encoder import ConceptEncoder
from zoo.families.sesa.concepts import Concepts
from zoo.families.sesa.spec import SIDES, TAG_COLUMNS, Spec
from zoo.families.sesa.towers import Towers
from zoo.ops import distributed
from zoo.schema import Training

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

    from zoo.families.sesa import concept_space, opaque_baseline
else:
    torch, concept_space, opaque_baseline = (
        lazy("torch"),
        lazy("zoo.families.sesa.concept_space"),
        lazy("zoo.families.sesa.opaque_baseline"),
    )

SOME = 1000  # rows whose texts say where the middle of all texts is, tagged or not
MANY = 20_000  # tagged texts at most that say where concepts begin


class Encoder(ConceptEncoder):
    """Two towers into a space of concepts; what they give is in `concept_encoder`."""

    spec: Spec

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self._facts: dict[str, Any] = {}
        self._twin: ConceptEncoder | None = None

    # -- before torch ----------------------------------------------------------------------------------------------

    # -- training --------------------------------------------------------------------------------------------------

    @classmethod
    def build(cls, spec: Spec, *, seed: int = 42, folder: Path = Path()) -> Self:
        """The backbone as it comes; without one, towers are made in `prepare`, which knows the subwords."""
        encoder = cls(spec)
        encoder.seed, encoder.folder = seed, folder
        if spec.backbone:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                encoder.towers = Towers.open(spec, folder)
            encoder.backbone_name, encoder.backbone_revision = (
                encoder.towers.backbone_name,
                encoder.towers.backbone_revision,
            )
        return encoder

    def prepare(self, rows: Dataset, cache: Path) -> None:
        """Read the concepts, look at every tag, learn the subwords. Raises DataError, before any step, for an id that the list
        lacks, twice has or puts below itself, and for a concept without an example where its name is of no use."""
        listed = Concepts.of(self.table("concepts"), [self.table(name) for name in self.spec.parent_concepts])
        counts = faithfulness.counted(listed, rows)
        if self.spec.held_out:
            faithfulness.counted(listed, self.table("held_out"), "held_out")
        if self.spec.space == "concepts" and self.spec.supervision:
            bare = faithfulness.without_example(listed, counts, by_name=self._by_name)
            if bare:
                told = ", ".join(listed.ids[i] for i in bare[: faithfulness.LISTED]) + " …" * (
                    len(bare) > faithfulness.LISTED
                )
                warnings.warn(f"{len(bare)} concepts without an example, known by name alone: {told}", stacklevel=2)
            self._facts = {"bare": [listed.names[i] for i in bare[: faithfulness.LISTED]], "bare_count": len(bare)}
        every = list(dict.fromkeys([*(text for column in SIDES.values() for text in rows[column]), *listed.names]))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            if not self.spec.backbone:
                self.towers = Towers.learn(self.spec, every)
            assert self.towers is not None  # built or learned
            self.make(self.towers, listed)
        self.towers.weigh(every)
        if self.towers.frozen:
            self.towers.hold(every, cache)
        self.space.start(counts + 1)
        if self.spec.space == "concepts" and not self.spec.supervision:
            for unused in (self.space.sharpness, self.space.habit):
                unused.requires_grad_(False)
        if self._by_name:
            some = self._examples(rows)
            vectors = self.towers.vectors([text for text, _ in some])
            self.space.start_from(self.towers.vectors(listed.names), vectors, [concepts for _, concepts in some])

    def _examples(self, rows: Dataset) -> list[tuple[str, tuple[int, ...]]]:
        """Distinct texts with the concepts that they are tagged with, and SOME texts of each side without any."""
        assert self.listed is not None  # `prepare` has read them
        found: dict[tuple[str, tuple[int, ...]], None] = {}
        for column in SIDES.values():
            found |= dict.fromkeys((text, ()) for text in rows[column][:SOME])
        for column, tags in zip(SIDES.values(), TAG_COLUMNS, strict=True):
            told = zip(rows[column], rows[tags], strict=True) if tags in rows.column_names else ()
            found |= dict.fromkeys((text, tuple(self.listed.tagged(ids))) for text, ids in told if ids)
        return list(found)[-MANY:]

    @property
    def _by_name(self) -> bool:
        return self.spec.names and self.spec.space == "concepts" and self.spec.supervision > 0

    def parameter_groups(self, training: Training) -> list[dict[str, Any]]:
        """The backbone at `backbone_lr_scale` of the recipe's rate, everything else at the recipe's."""
        if not self.spec.backbone:
            return super().parameter_groups(training)
        assert self.towers is not None  # built with the backbone
        inner = {id(p): p for p in self.towers.pretrained() if p.requires_grad}
        rest = [p for p in self.module.parameters() if p.requires_grad and id(p) not in inner]
        rate = training.learning_rate * self.spec.backbone_lr_scale
        return [*([{"params": list(inner.values()), "lr": rate}] if inner else []), {"params": rest}]

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The texts of each side, a key for each text, and the tags (2, rows, C) with what stands above them."""
        assert self.listed is not None  # `prepare` has run
        assert self.towers is not None
        texts = [[row[column] for row in rows] for column in SIDES.values()]
        batch = {side: self.towers.batch(side, cells) for side, cells in zip(SIDES, texts, strict=True)}
        tags = torch.zeros(2, len(rows), len(self.listed), dtype=torch.bool)
        for side, column in enumerate(TAG_COLUMNS):
            for i, row in enumerate(rows):
                tags[side, i, self.listed.tagged(row.get(column) or ())] = True
        return {**batch, "keys": torch.tensor([[_key(text) for text in cells] for cells in texts]), "tags": tags}

    def loss(self, batch: dict[str, Any]) -> torch.Tensor:
        """The ranking of the pairs, and `supervision` times the tags of both sides."""
        assert self.towers is not None  # `prepare` has run
        training, space, weight = self.module.training, self.space, self.spec.supervision
        raw = torch.stack([space(self.towers.read(side, batch[side])) for side in SIDES])
        keys, tags = batch["keys"], batch["tags"]
        if training:  # in validation every process has all the rows
            raw, keys, tags = (distributed.all_gather_with_grad(each, dim=1) for each in (raw, keys, tags))
        a, b = (concept_space.unit(space.components(each, self.spec.max_active)) for each in raw)
        total = ops.ranking(a, b, keys, 1 / self.spec.temperature)
        if weight and not space.opaque:
            known = tags.flatten(0, 1)
            some = known.any(1)  # a text without tags says nothing
            total = total + weight * ops.tagging(space.likelihood(raw.flatten(0, 1)[some]), known[some], space.groups)
        if not training:
            return total
        total = distributed.global_batch_gradient(total)
        return total + weight * self._names(len(keys[0])) if self._by_name else total

    def _names(self, count: int) -> torch.Tensor:
        """The names of `count` concepts as texts that are tagged with them, drawn from (seed, step): of every concept one
        example, and of some the only one."""
        assert self.listed is not None  # `prepare` has run
        assert self.towers is not None
        draw = torch.Generator().manual_seed((self.seed + 1) * 1_000_003 + self.step)
        drawn = torch.randperm(len(self.listed), generator=draw)[:count].tolist()
        batch = self.towers.batch("document", [self.listed.names[i] for i in drawn])
        told = self.space.likelihood(self.space(self.towers.read("document", batch)))
        tags = torch.zeros(told.shape, dtype=torch.bool, device=told.device)
        for row, i in enumerate(drawn):
            tags[row, [i, *self.listed.ancestors[i]]] = True
        return ops.tagging(told, tags, self.space.groups)

    def train(self, run: TrainingRun) -> float:
        """Train in place under the shared Trainer, and then, for the card, the opaque twin; returns the seconds without it."""
        if run.validation is not None and self.listed is not None:
            faithfulness.counted(self.listed, run.validation, "validation")
        seconds = super().train(run)
        self._engines.clear()
        if self.spec.held_out and self.spec.train_baseline and self.spec.space == "concepts":
            self._twin = opaque_baseline.trained(self, run.rows, run.settings, run.folder, run.validation)
        return seconds

    def finish(self, rows: Dataset) -> None:
        """Try concepts and explanations on the held-out pairs, for the card."""
        if self.spec.held_out and self.spec.space == "concepts":
            self._facts |= faithfulness.tried(self, self.table("held_out"), self._twin)

    @classmethod
    def load(cls, spec: Spec, folder: Path, config: Mapping[str, Any]) -> Self:
        """Also what was found on the held-out pairs."""
        encoder, facts = super().load(spec, folder, config), config.get("facts")
        encoder._facts = {k: v for k, v in facts.items() if k in faithfulness.FACTS} if isinstance(facts, dict) else {}
        return encoder

    def card_facts(self) -> dict[str, Any]:
        """Sizes, and what was found on the held-out pairs."""
        return super().card_facts() | self._facts


def _key(text: str) -> int:
    """63 bits that are the same for a text in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest()) >> 1

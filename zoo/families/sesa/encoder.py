"""SESA: texts compared in a space whose dimensions are the concepts of a knowledge base, with an explanation for every score.

Source: Bogdanova and Yazdani, "SESA: Supervised Explicit Semantic Analysis", arXiv 1708.03246. Two towers read the texts. Two
objectives train them together: the ranking of pairs, and the concepts that texts are tagged with. `concept_space` says how
the components are computed.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch

from zoo.encoder import TrainingRun
from zoo.families.sesa import (
    concept_space,
    faithfulness,
    held_out_choice,
    objectives,
    opaque_baseline,
    tag_counts,
)
from zoo.families.sesa.concept_encoder import ConceptEncoder
from zoo.families.sesa.concepts import Concepts
from zoo.families.sesa.spec import SIDES, TAG_COLUMNS, Spec
from zoo.families.sesa.towers import Towers
from zoo.ops import distributed
from zoo.ops.false_negatives import compute_text_key
from zoo.ops.random_state import step_generator
from zoo.schema import Training
from zoo.text import lexical

if TYPE_CHECKING:
    from datasets import Dataset

CENTRE_ROWS = 1000  # rows whose texts, tagged or not, give the centre of all texts
MAX_EXAMPLES = 20_000  # texts from which the weights of concepts are initialised
MAX_LISTED_CONCEPTS = faithfulness.MAX_LISTED_CONCEPTS


class Encoder(ConceptEncoder):
    """Trains two towers and a concept space. `ConceptEncoder` is its use after the training."""

    spec: Spec

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self._facts: dict[str, Any] = {}
        self._opaque_baseline: ConceptEncoder | None = None

    # -- before training -------------------------------------------------------------------------------------------

    @classmethod
    def build(cls, spec: Spec, *, seed: int = 42, folder: Path = Path()) -> Self:
        """Build the encoder with its backbone. Towers without a backbone follow in `prepare`, which learns the subwords."""
        encoder = cls(spec)
        encoder.seed, encoder.folder = seed, folder
        if spec.backbone:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                encoder._set_towers(Towers.load_backbone(spec, folder))
        return encoder

    def prepare(self, rows: Dataset, cache: Path) -> None:
        """Read the concepts, check every tag, learn the subwords and initialise the space.

        Raise DataError for mistakes in the list of concepts, for tags that are not in the list, and for a concept without
        any example.
        """
        concepts = self._read_concepts()
        counts = tag_counts.count_tags(concepts, rows)
        if self.spec.held_out:  # the counts are not used: a wrong tag must stop the run before training
            tag_counts.count_tags(concepts, self.table("held_out"), "held_out")
        if self._trains_tags:
            self._check_examples(concepts, counts)
        self._initialise(concepts, counts, rows, cache)

    def _read_concepts(self) -> Concepts:
        parents = [self.table(name) for name in self.spec.parent_concepts]
        return Concepts.from_rows(self.table("concepts"), parents)

    def build_candidate(self, rows: Dataset, cache: Path) -> Encoder:
        """Build an encoder of the same kind, initialised by a part of the rows. It shares what a frozen backbone read."""
        candidate = type(self).build(self.spec, seed=self.seed, folder=self.folder)
        candidate.tables = dict(self.tables)
        if candidate.towers is not None and self.towers is not None:
            candidate.towers.share_frozen_vectors(self.towers)
        concepts = candidate._read_concepts()
        candidate._initialise(concepts, tag_counts.count_tags(concepts, rows), rows, cache)
        return candidate

    def set_lexical_weight(self, weight: float) -> None:
        """Set how much equal words count in the fixed vectors of subwords. Call `initialise_weights` afterwards."""
        towers, _ = self._require_trained()
        towers.scale_lexical(weight / (self.spec.lexical_weight or lexical.WEIGHTS[0]))
        self.spec = self.spec.model_copy(update={"lexical_weight": weight})

    def _initialise(self, concepts: Concepts, counts: torch.Tensor, rows: Dataset, cache: Path) -> None:
        """Learn the subwords and initialise the space. `counts` are the texts that are tagged with each concept."""
        texts = _collect_texts(concepts, rows)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            towers = self.towers if self.spec.backbone else Towers.learn(self.spec, texts)
            assert towers is not None  # `build` loads the backbone
            self.build_module(towers, concepts)
        if towers.is_frozen:
            towers.compute_frozen_vectors(texts, cache)
        weight = self.spec.lexical_weight
        towers.initialise_lexical(texts, lexical.WEIGHTS[0] if weight is None else weight, self.seed)
        self.space.set_prior(counts + 1)
        if self.spec.space == "concepts" and not self.spec.supervision:
            for unused in (self.space.log_inverse_temperature, self.space.tag_bias):
                unused.requires_grad_(False)
        self.initialise_weights(rows)

    def initialise_weights(self, rows: Dataset) -> None:
        """Initialise the weights of subwords and of concepts."""
        towers, concepts = self._require_trained()
        towers.initialise_rarity(_collect_texts(concepts, rows), by_texts=self.spec.rarity == "texts")
        if self._uses_names:
            examples = _collect_examples(concepts, rows)
            vectors = towers.encode_queries([text for text, _ in examples])
            self.space.initialise_weights(
                towers.encode_queries(concepts.names), vectors, [concept_rows for _, concept_rows in examples]
            )

    def _check_examples(self, concepts: Concepts, counts: torch.Tensor) -> None:
        """Warn about concepts that no text is tagged with, and keep them for the card."""
        untagged = tag_counts.find_concepts_without_example(concepts, counts, use_names=self._uses_names)
        listed = untagged[:MAX_LISTED_CONCEPTS]
        if untagged:
            more = " …" if len(untagged) > MAX_LISTED_CONCEPTS else ""
            ids = ", ".join(concepts.ids[row] for row in listed)
            warnings.warn(
                f"{len(untagged)} concepts without an example, known by name alone: {ids}{more}", stacklevel=3
            )
        self._facts = {"bare": [concepts.names[row] for row in listed], "bare_count": len(untagged)}

    @property
    def _trains_tags(self) -> bool:
        return self.spec.space == "concepts" and self.spec.supervision > 0

    @property
    def _uses_names(self) -> bool:
        return self.spec.names and self._trains_tags

    # -- training --------------------------------------------------------------------------------------------------

    def parameter_groups(self, training: Training) -> list[dict[str, Any]]:
        """Group the backbone's parameters, whose learning rate is multiplied by `backbone_lr_scale`, and all others."""
        if not self.spec.backbone or self.towers is None:
            return super().parameter_groups(training)
        backbone = [parameter for parameter in self.towers.get_pretrained_parameters() if parameter.requires_grad]
        backbone_ids = {id(parameter) for parameter in backbone}
        others = [p for p in self.module.parameters() if p.requires_grad and id(p) not in backbone_ids]
        groups: list[dict[str, Any]] = [{"params": others}]
        if backbone:
            groups.insert(0, {"params": backbone, "lr": training.peak_learning_rate * self.spec.backbone_lr_scale})
        return groups

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Turn n rows into a batch.

        Its entries are the towers' batch of each side; `text_keys` (2, n) int64, equal for equal texts; and `tags`
        (2, n, C) bool, which include the ancestors of each tag.
        """
        towers, concepts = self._require_trained()
        texts = [[row[column] for row in rows] for column in SIDES.values()]
        batch = {side: towers.build_batch(side, side_texts) for side, side_texts in zip(SIDES, texts, strict=True)}
        tags = torch.zeros(2, len(rows), len(concepts), dtype=torch.bool)
        for side_number, column in enumerate(TAG_COLUMNS):
            for row_number, row in enumerate(rows):
                tags[side_number, row_number, concepts.find_rows_with_ancestors(row.get(column) or ())] = True
        text_keys = torch.tensor([[compute_text_key(text) for text in side_texts] for side_texts in texts])
        return {**batch, "text_keys": text_keys, "tags": tags}

    def loss(self, batch: dict[str, Any]) -> torch.Tensor:
        """Compute the ranking loss of the pairs plus `supervision` times the tagging loss of both sides."""
        towers, _ = self._require_trained()
        is_training, space, weight = self.module.training, self.space, self.spec.supervision
        logits = torch.stack([space(towers.compute_vectors(side, batch[side])) for side in SIDES])
        # The space is applied to this process's rows alone: a parameter must see every row of the global batch once.
        vectors = torch.stack(
            [concept_space.normalize_rows(space.compute_components(rows, self.spec.max_active)) for rows in logits]
        )
        (queries, documents), text_keys = (
            distributed.all_gather_with_grad(tensor, dim=1) if is_training else tensor  # validation has all rows
            for tensor in (vectors, batch["text_keys"])
        )
        total = objectives.compute_ranking_loss(queries, documents, text_keys, self.spec.temperature)
        if self._trains_tags:
            log_probabilities, tags = space.compute_log_probabilities(logits.flatten(0, 1)), batch["tags"].flatten(0, 1)
            if is_training:
                log_probabilities, tags = map(distributed.all_gather_with_grad, (log_probabilities, tags))
            is_tagged = tags.any(1)
            total = total + weight * objectives.compute_tagging_loss(
                log_probabilities[is_tagged], tags[is_tagged], space.level_concepts
            )
        if not is_training:
            return total
        total = distributed.global_batch_gradient(total)
        return total + weight * self._compute_name_loss(len(text_keys[0])) if self._uses_names else total

    def _compute_name_loss(self, count: int) -> torch.Tensor:
        """Compute the tagging loss of the names of `count` random concepts, read as texts tagged with these concepts.

        Every concept thereby gets an example. The draw depends on seed and step only, so every process draws the same.
        """
        towers, concepts = self._require_trained()
        draw = step_generator(self.seed, self.step)
        concept_rows = torch.randperm(len(concepts), generator=draw)[:count].tolist()
        batch = towers.build_batch("document", [concepts.names[row] for row in concept_rows])
        vectors = towers.compute_vectors("document", batch)
        log_probabilities = self.space.compute_log_probabilities(self.space(vectors))
        tags = torch.zeros(log_probabilities.shape, dtype=torch.bool, device=log_probabilities.device)
        for text_number, row in enumerate(concept_rows):
            tags[text_number, [row, *concepts.ancestors[row]]] = True
        return objectives.compute_tagging_loss(log_probabilities, tags, self.space.level_concepts)

    def train(self, run: TrainingRun) -> float:
        """Train in place, then train the opaque baseline for the card. Return the seconds without the baseline's."""
        if run.validation is not None and self.concept_list is not None:
            tag_counts.count_tags(self.concept_list, run.validation, "validation")
        seconds = self._settle(run) if "training.epochs" in self.chosen else 0.0
        if self._is_trained:
            seconds += self.train_concepts(run)
        self._engines.clear()
        has_baseline = self.spec.held_out and self.spec.train_baseline and self.spec.space == "concepts"
        has_baseline = has_baseline and self._is_trained
        if has_baseline and not run.finish:
            self._opaque_baseline = opaque_baseline.train_opaque_baseline(
                self, run.rows, run.settings, run.folder, run.validation
            )
        return seconds

    def train_concepts(self, run: TrainingRun) -> float:
        """Train in place with the shared Trainer, and choose nothing but the learning rate. Return the seconds it took."""
        return super().train(run)

    @property
    def _is_trained(self) -> bool:
        return bool(self.chosen.get("encoder.train_concepts", self.spec.train_concepts is not False))

    def _settle(self, run: TrainingRun) -> float:
        """Choose what the recipe leaves open beside the epochs: by held-out pairs the unnamed share and whether to train.

        Recipes with a number of epochs, such as those of earlier versions, choose nothing. Return the seconds it took.
        """
        start_time = time.monotonic()
        if not self.spec.backbone:
            self._settle_words(run)
        if self.spec.can_choose:
            choice = held_out_choice.choose(self, run)
            if run.say is not None:
                run.say(choice.describe())
            if choice.lexical_weight is not None:
                self.set_lexical_weight(choice.lexical_weight)
                self.initialise_weights(run.rows)
                self.chosen["encoder.lexical_weight"] = choice.lexical_weight
            self.set_unnamed_share(choice.unnamed_share)
            self._facts["choice"] = asdict(choice)
            self.chosen["encoder.unnamed_share"] = choice.unnamed_share
            self.chosen["encoder.train_concepts"] = choice.trains
        return time.monotonic() - start_time

    def _settle_words(self, run: TrainingRun) -> None:
        """Choose how subwords start if the recipe leaves it open, and build the towers again with it."""
        defaults = {"rarity": "texts", "lexical_dim": lexical.DIM}
        new = {name: value for name, value in defaults.items() if getattr(self.spec, name) is None}
        if new:
            self.spec = self.spec.model_copy(update=new)
            self.chosen |= {f"encoder.{name}": value for name, value in new.items()}
            _, concepts = self._require_trained()
            self._initialise(concepts, tag_counts.count_tags(concepts, run.rows), run.rows, run.folder / "cache")

    def finish(self, rows: Dataset) -> None:
        """Measure concepts and explanations on the held-out pairs, for the card."""
        if self.spec.held_out and self.spec.space == "concepts":
            _, concepts = self._require_trained()
            self._facts |= faithfulness.measure_held_out(self, concepts, self.table("held_out"), self._opaque_baseline)

    # -- model folder ----------------------------------------------------------------------------------------------

    @classmethod
    def load(cls, spec: Spec, folder: Path, config: Mapping[str, Any]) -> Self:
        """Open what `save` wrote, with the measurements on the held-out pairs. Raise ArtefactError."""
        encoder = super().load(spec, folder, config)
        facts = config.get("facts")
        if isinstance(facts, dict):
            encoder._facts = {key: value for key, value in facts.items() if key in faithfulness.FACT_KEYS}
        return encoder

    def card_facts(self) -> dict[str, Any]:
        """Return sizes, and the measurements on the held-out pairs."""
        return super().card_facts() | self._facts


def _collect_texts(concepts: Concepts, rows: Dataset) -> list[str]:
    """Collect the distinct texts of rows and the names of concepts."""
    return list(dict.fromkeys([*(text for column in SIDES.values() for text in rows[column]), *concepts.names]))


def _collect_examples(concepts: Concepts, rows: Dataset) -> list[tuple[str, tuple[int, ...]]]:
    """Collect distinct texts with the rows of their concepts, at most MAX_EXAMPLES.

    The texts of the first CENTRE_ROWS rows also appear without concepts: they give the centre of all texts.
    """
    examples: dict[tuple[str, tuple[int, ...]], None] = {}  # a dict removes duplicates and keeps the order
    for column in SIDES.values():
        examples |= dict.fromkeys((text, ()) for text in rows[column][:CENTRE_ROWS])
    for column, tag_column in zip(SIDES.values(), TAG_COLUMNS, strict=True):
        if tag_column not in rows.column_names:
            continue
        for text, ids in zip(rows[column], rows[tag_column], strict=True):
            if ids:
                examples[text, tuple(concepts.find_rows_with_ancestors(ids))] = None
    return list(examples)[-MAX_EXAMPLES:]

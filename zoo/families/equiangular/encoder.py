"""Equiangular basis vectors: a classifier of images or texts whose head is a fixed geometry, with room for new classes.

Source: Shen, Sun, Wei, "Equiangular Basis Vectors", arXiv 2303.11637. The vectors are made in `basis_vectors`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from zoo.core.errors import ArtefactError, ZooError
from zoo.core.lazy import lazy
from zoo.encoder import TrainingRun
from zoo.families.equiangular import basis_file, new_classes, prediction, towers
from zoo.families.equiangular.classifier import ClassifierEncoder
from zoo.families.equiangular.spec import Spec
from zoo.schema import Training
from zoo.vision import backbone

if TYPE_CHECKING:
    import numpy as np
    import torch
    from datasets import Dataset

    from zoo.families.equiangular import augmentation, dataset, ema, metrics, procrustes
else:
    np, torch, ema = lazy("numpy"), lazy("torch"), lazy("zoo.families.equiangular.ema")
    dataset, metrics = lazy("zoo.families.equiangular.dataset"), lazy("zoo.families.equiangular.metrics")
    augmentation, procrustes = (
        lazy("zoo.families.equiangular.augmentation"),
        lazy("zoo.families.equiangular.procrustes"),
    )

NAMED = 30  # classes that the card names
ALIGNED = 4096  # rows by which the map begins turned


class Encoder(ClassifierEncoder):
    """Trains a backbone and its map towards class vectors that stay where they are; what it gives is in
    `classifier`."""

    spec: Spec

    def __init__(self, spec: Spec, tower: towers.Tower, project: torch.nn.Module) -> None:
        super().__init__(spec, tower, project)
        self._average: ema.Average | None = None
        self._facts: dict[str, Any] = {}

    @classmethod
    def build(cls, spec: Spec, *, seed: int = 42, folder: Path = Path()) -> Self:
        """The backbone with a fresh map to `dim` components; classes and their vectors come with `prepare`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            tower = towers.build(spec.backbone, revision=spec.revision, max_length=spec.max_length, folder=folder)
            project = torch.nn.Linear(tower.width, spec.dim) if spec.head == "equiangular" else torch.nn.Identity()
        encoder = cls(spec, tower, project)
        encoder.seed, encoder.folder = seed, folder
        return encoder

    def prepare(self, rows: Dataset, cache: Path) -> None:
        """Find the classes and make their vectors, which `cache` keeps. Raises ZooError for a single class, for more classes than
        vectors, and for an `alpha` that no such basis has."""
        self.classes = sorted(set(rows["label"]))
        self.places = list(range(len(self.classes)))
        if len(self.classes) < 2:
            raise ZooError(f"every row has the label {self.classes[0]!r}; it takes two classes")
        if self.spec.head == "softmax":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                self.module["head"] = torch.nn.Linear(self.dim, len(self.classes))
            return
        self.basis = basis_file.asked(cache, self.spec, len(self.classes), self.seed, show_progress=sys.stderr.isatty())
        if self.backbone_name:
            self._align(dataset.some(rows, ALIGNED))

    def _align(self, rows: Dataset) -> None:
        """Turn the fresh map so that the classes of `rows` point to their vectors."""
        assert self.basis is not None  # `prepare` has made it
        known = {label: place for place, label in enumerate(self.classes)}
        gold = torch.tensor([known[label] for label in rows["label"]])
        self.tower.module.to("cuda" if torch.cuda.is_available() else "cpu")
        found = procrustes.towards(self.features(rows[self.spec.modality]), gold, self.basis.rows(0, len(self.classes)))
        with torch.no_grad():
            for parameter, value in zip((self.project.weight, self.project.bias), found, strict=True):
                parameter.copy_(value)  # type: ignore[operator]

    # -- training --------------------------------------------------------------------------------------------------

    def train(self, run: TrainingRun) -> float:
        """Train under the shared Trainer; then fit probability and threshold to the validation rows, if there are some, and
        train the twin, if one is asked for."""
        if self.spec.train_baseline and run.validation is None:
            raise ZooError("encoder.train_baseline: both heads are measured on validation rows: give `validation`")
        known = {label: place for place, label in enumerate(self.classes)}
        train = dataset.LabelledDataset(run.rows, known, self.tower)
        held = None if run.validation is None else dataset.LabelledDataset(run.validation, known, self.tower)
        if isinstance(self.tower, backbone.ImageBackbone):
            self.tower.learn_scale(self.tower.batch(train.sample())["pixels"])
        if self.spec.ema is not None:
            self._average = self.module["average"] = ema.Average(self._body(), self.spec.ema)
        seconds = super().train(replace(run, rows=train, validation=held))
        self.scale = 1.0 if self.basis is None else 1 / self.spec.tau(len(self.classes))
        if self._average is not None:
            self._average.into(self._body())
            del self.module["average"]
            self._average = None
        if run.validation is not None:
            prediction.calibrate(self, run.validation)
        if self.spec.train_baseline and run.validation is not None:
            self._facts["twin"] = metrics.beside_softmax(
                self, run.rows, run.validation, run.settings, run.folder / "twin"
            )
        return seconds

    def _body(self) -> torch.nn.Module:
        return torch.nn.ModuleDict({name: part for name, part in self.module.items() if name != "average"})

    def parameter_groups(self, training: Training) -> list[dict[str, Any]]:
        """The backbone at the recipe's rate, what is new on top of it at `head_rate` times that."""
        groups = [{"params": [p for p in self.tower.module.parameters() if p.requires_grad]}]
        fresh = [p for name in ("project", "head") if name in self.module for p in self.module[name].parameters()]
        return [*groups, {"params": fresh, "lr": training.learning_rate * self.spec.head_lr_scale}] if fresh else groups

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Inputs of the backbone and `gold` (n,) int64."""
        return {**self.tower.batch([row["input"] for row in rows]), "gold": torch.tensor([row["gold"] for row in rows])}

    def loss(self, batch: dict[str, Any]) -> torch.Tensor:
        """Cross-entropy over cos/τ (section 3.3) with label smoothing; in training on images changed by (seed, step)."""
        training = self.module.training
        gold = batch["gold"]
        partner = share = None
        if training and self._average is not None:
            self._average.follow(self._body(), self.step)
        if training and self.spec.modality == "image":
            spec, seed = self.spec, (self.seed + 1) * 1_000_003 + self.step
            pixels, partner, share = augmentation.changed(
                batch["pixels"], seed, crop=spec.crop, flip=spec.flip, mixup=spec.mixup, cutmix=spec.cutmix
            )
            batch = {**batch, "pixels": pixels}
        whole = self._average.inside(self._body()) if self._average is not None and not training else nullcontext()
        with whole:
            vectors = self.project(self.tower.features(batch))
            with torch.autocast(vectors.device.type, enabled=False):
                vectors = vectors.float()
                losses = self.losses(vectors, gold)
                if partner is not None and share is not None:
                    losses = share * losses + (1 - share) * self.losses(vectors, gold[partner])
        return losses.mean()

    def losses(self, vectors: torch.Tensor, gold: torch.Tensor) -> torch.Tensor:
        """Cross-entropy (n,) of outputs (n, dim) of the map, not normalised, with their classes."""
        scores = self.scores(vectors) if self.basis is None else self.scores(vectors) / self.spec.tau(len(self.classes))
        return torch.nn.functional.cross_entropy(scores, gold, label_smoothing=self.spec.smoothing, reduction="none")

    def finish(self, rows: Dataset) -> None:
        """Keep what `add_classes` must not change: second moments of the features of training rows."""
        if self.basis is not None:
            self.moments = new_classes.moments(self.features(dataset.some(rows)[self.spec.modality]))

    # -- use -------------------------------------------------------------------------------------------------------

    def predict(self, inputs: Iterable[Any]) -> list[prediction.Prediction]:
        """The class of each input, or None where even the best score is below the threshold of the validation rows."""
        return prediction.given(self, inputs)

    def add_classes(
        self,
        names: Sequence[str | int],
        examples: Sequence[Sequence[Any]],
        *,
        keep: float | None = None,
        held: tuple[Iterable[Any], Sequence[str | int]] | None = None,
        lose: float = 0.005,
    ) -> float:
        """Give each new class the free vector nearest to its examples, and change the map to `dim` components, in closed form, so
        that they point there; vectors of old classes stay as they are, and so, as far as it can, does what the map makes of
        old inputs. Returns the `keep` it was done with.

        Args:
            examples: some inputs of each name; keep: how much an old input weighs against a new one, by default 2.
            held: inputs of old classes that training has not seen, and their classes; `keep` is then as small as it can be
                while the share of them that is right falls by `lose` at most, and 256 where even that costs more.

        Raises ZooError for a name that is taken, too few free vectors, a class without examples, held inputs of a class that is
        not there, and a `lose` that is no share.
        """
        return new_classes.add(self, names, examples, keep, held, lose)

    def evaluate_recognition(self, tables: Mapping[str, Dataset]) -> tuple[dict[str, float], dict[str, Any]]:
        """Figures on the rows of `data`, with neighbours from `train` and strangers from `unknown`, and what pictures show."""
        return metrics.measure(self, tables)

    # -- artefact --------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """The backbone and its map; the generators of the basis, moments, or the softmax head beside it."""
        self.tower.save(folder, self.project, self.dim)
        head = self.module["head"] if "head" in self.module else None
        basis_file.write(folder, self.basis if self.spec.basis == "stored" else None, self.moments, head)

    @classmethod
    def load(cls, spec: Spec, folder: Path, config: Mapping[str, Any]) -> Self:
        """Open what `save` wrote; a basis that is made from its seed must have the sha256 that the folder tells."""
        told = basis_file.told(folder, config)
        tower, project = towers.read(spec.backbone, folder, told["tower"], told["dim"])
        encoder = cls(spec, tower, project)
        if encoder.dim != told["dim"]:
            raise ArtefactError(
                f"{folder / 'config.json'}: dim {told['dim']} is not the {encoder.dim} of its encoder section"
            )
        encoder.classes, encoder.places, encoder.seed = told["classes"], told["places"], told["seed"]
        encoder.scale, encoder.threshold = told["scale"], told["threshold"]
        encoder.basis, encoder.moments, head = basis_file.read(folder, spec, told, tower.width)
        if head is not None:
            encoder.module["head"] = head
        encoder._facts = told["facts"]
        encoder.module.eval()
        return encoder

    def extra_config(self) -> dict[str, Any]:
        """Classes, their places in the basis, how it was made, and what calibrates `predict`."""
        return {
            "dim": self.dim,
            "seed": self.seed,
            "classes": self.classes,
            "places": self.places,
            "scale": self.scale,
            "threshold": self.threshold,
            "basis": None if self.basis is None else basis_file.made(self.basis),
            "tower": self.tower.state(),
        }

    def card_facts(self) -> dict[str, Any]:
        """Size and geometry of the head, and the softmax twin's figures."""
        shape = {"modality": self.spec.modality, "dim": self.dim, "head": self.spec.head, "classes": len(self.classes)}
        names = [str(name) for name in self.classes[:NAMED]]
        length = {"max_length": self.tower.max_length} if self.tower.max_length else {}
        geometry = {} if self.basis is None else basis_file.geometry(self.basis, self.places)
        return {**shape, "names": names, **length, **geometry, **self._facts}

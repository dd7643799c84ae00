"""`Encoder` of the family equiangular: a classifier of images or texts with fixed class vectors, and room for new classes.

Source: Shen, Sun, Wei, "Equiangular Basis Vectors", arXiv 2303.11637. `basis_vectors` makes the vectors.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch

from zoo.core.errors import ArtefactError, ZooError
from zoo.core.findings import Finding, find_unused_labels
from zoo.encoder import TrainingRun
from zoo.families.equiangular import (
    augmentation,
    basis_file,
    class_graph,
    dataset,
    ema,
    first_projection,
    metrics,
    new_classes,
    towers,
)
from zoo.families.equiangular import prediction as predictions
from zoo.families.equiangular.classifier import ClassifierEncoder
from zoo.families.equiangular.spec import TEXT_WIDTH, Spec
from zoo.graph import Graph
from zoo.label_geometry import LabelMetric
from zoo.ops.random_state import step_seed
from zoo.schema import Training
from zoo.vision import backbone

if TYPE_CHECKING:
    from datasets import Dataset

MAX_NAMED_CLASSES = 30  # classes that the card names
ALIGNMENT_ROWS = 4096  # training rows to which the projection is aligned before training
MAX_CHECKED = 2000  # rows in which never predicted classes are looked for
MIN_CHECKED = 5  # rows of a class that this takes


class Encoder(ClassifierEncoder):
    """Trains backbone and projection to point inputs to fixed class vectors. Using the result is in `classifier`."""

    spec: Spec

    def __init__(self, spec: Spec, tower: towers.Tower, projection: torch.nn.Module) -> None:
        super().__init__(spec, tower, projection)
        self._ema: ema.MovingAverage | None = None
        self._facts: dict[str, Any] = {}

    @classmethod
    def build(cls, spec: Spec, *, seed: int = 42, folder: Path = Path()) -> Self:
        """Load or make the backbone, with a random projection. `prepare` adds classes and their vectors."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            tower = towers.build(spec.backbone, revision=spec.revision, max_length=spec.max_length, folder=folder)
            if spec.head == "equiangular":
                projection: torch.nn.Module = torch.nn.Linear(tower.width, spec.dim)
            else:
                projection = torch.nn.Identity()
        side = tower.size if isinstance(tower, backbone.ImageBackbone) else 0
        # A model folder holds the number, which any version can read.
        encoder = cls(spec.model_copy(update={"crop": spec.compute_crop(side)}), tower, projection)
        encoder.seed, encoder.folder = seed, folder
        return encoder

    def prepare(self, rows: Dataset, cache: Path) -> None:
        """Find the classes and make their vectors, which are kept in `cache`.

        Raises ZooError for a single class, for more classes than vectors, and for an `alpha` below the Welch bound.
        """
        self.classes = sorted(set(rows["label"]))
        self.vector_ids = list(range(len(self.classes)))
        if len(self.classes) < 2:
            raise ZooError(f"every row has the label {self.classes[0]!r}: give rows of at least two classes")
        if self.spec.head == "softmax":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                self.module["head"] = torch.nn.Linear(self.dim, len(self.classes))
            return
        self.basis = basis_file.load_or_make_basis(
            cache, self.spec, len(self.classes), self.seed, show_progress=sys.stderr.isatty()
        )
        if self.backbone_name:
            class_vectors = self.basis.get_rows(0, len(self.classes))
            self._align_projection(dataset.select_evenly(rows, ALIGNMENT_ROWS), class_vectors)

    def _align_projection(self, rows: Dataset, class_vectors: torch.Tensor) -> None:
        """Set the projection so that the classes of `rows` point to their vectors."""
        class_ids = torch.tensor(dataset.find_class_ids(rows["label"], self.classes))
        self.tower.module.to("cuda" if torch.cuda.is_available() else "cpu")
        features = self.compute_features(rows[self.spec.modality])
        weight, bias = first_projection.fit_projection(features, class_ids, class_vectors)
        linear: Any = self.projection
        with torch.no_grad():
            linear.weight.copy_(weight)
            linear.bias.copy_(bias)

    # -- training --------------------------------------------------------------------------------------------------

    @property
    def usual_learning_rate(self) -> float:
        """The rate of the spec, which is lower for text backbones wider than TEXT_WIDTH."""
        rate = super().usual_learning_rate
        return rate * min(1.0, TEXT_WIDTH / self.tower.width) if self.spec.modality == "text" else rate

    def train(self, run: TrainingRun) -> float:
        """Train with the shared Trainer, and return the seconds it took.

        With validation rows, scale and threshold of `predict` are then fitted to them, and the softmax baseline is trained
        if `train_baseline` is set. Raises ZooError for `train_baseline` without validation rows.
        """
        if self.spec.train_baseline and run.validation is None:
            raise ZooError(
                "encoder.train_baseline: both heads are measured on validation rows: give `validation`, or leave it out"
            )
        if "training.epochs" in self.chosen:
            self._facts["settings"] = {"training.epochs": self.chosen["training.epochs"]}
        rows = dataset.LabelledDataset(run.rows, self.classes, self.tower)
        validation = None
        if run.validation is not None:
            validation = dataset.LabelledDataset(run.validation, self.classes, self.tower)
        if isinstance(self.tower, backbone.ImageBackbone):
            self.tower.learn_scale(self.tower.batch(rows.sample_inputs())["pixels"])
        if self.spec.ema is not None:
            # Training checkpoints name its tensors by this key.
            self._ema = self.module["average"] = ema.MovingAverage(self._get_trained_module(), self.spec.ema)
        share = self.spec.compute_start_share(len(run.rows))
        if share and self.spec.start_share is None:
            self.chosen["encoder.start_share"] = share
            self._facts["settings"] = {**self._facts.get("settings", {}), "encoder.start_share": share}
            if run.say is not None:
                run.say(f"encoder.start_share is not set: {share:g} for {len(run.rows):,} rows")
        start = self._copy_weights() if share else {}  # before a checkpoint of a killed run is read
        seconds = super().train(replace(run, rows=rows, validation=validation))
        self.scale = 1.0 if self.basis is None else 1 / self.spec.compute_temperature(len(self.classes))
        if self._ema is not None:
            self._ema.copy_to(self._get_trained_module())
            del self.module["average"]
            self._ema = None
        self._average_with(start, share)
        if run.validation is not None:
            predictions.calibrate(self, run.validation)
            if self.spec.train_baseline and not run.finish:
                self._facts["twin"] = metrics.compare_with_softmax(
                    self, run.rows, run.validation, run.settings, run.folder / "twin"
                )
        return seconds

    def _copy_weights(self) -> dict[str, torch.Tensor]:
        """Return copies of the weights that training changes, on the CPU."""
        parameters = self._get_trained_module().named_parameters()
        return {name: parameter.detach().cpu().clone() for name, parameter in parameters if parameter.requires_grad}

    @torch.no_grad()
    def _average_with(self, start: Mapping[str, torch.Tensor], share: float) -> None:
        """Replace each trained weight by its average with that of the start, which has this share."""
        parameters = dict(self._get_trained_module().named_parameters())
        for name, first in start.items():
            parameters[name].lerp_(first.to(parameters[name]), share)

    def _get_trained_module(self) -> torch.nn.Module:
        """Return all modules but the moving average."""
        return torch.nn.ModuleDict({name: module for name, module in self.module.items() if name != "average"})

    def parameter_groups(self, training: Training) -> list[dict[str, Any]]:
        """Return the backbone's parameters, and those of the new layers with the learning rate times `head_lr_scale`."""
        groups: list[dict[str, Any]] = [{"params": [p for p in self.tower.module.parameters() if p.requires_grad]}]
        new_layers = [self.module[name] for name in ("project", "head") if name in self.module]
        new = [parameter for layer in new_layers for parameter in layer.parameters()]
        if new:
            groups.append({"params": new, "lr": training.peak_learning_rate * self.spec.head_lr_scale})
        return groups

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the inputs of the backbone, and `class_ids` (n,) int64."""
        inputs = self.tower.batch([row["input"] for row in rows])
        return {**inputs, "class_ids": torch.tensor([row["class_id"] for row in rows])}

    def loss(self, batch: dict[str, Any]) -> torch.Tensor:
        """Return the cross-entropy over cos/τ (section 3.3) with label smoothing, averaged over the batch.

        In training, images are augmented as seed and step draw. In validation, the loss is that of the averaged weights.
        """
        training = self.module.training
        class_ids = batch["class_ids"]
        partners = weights = None
        if training and self._ema is not None:
            self._ema.update(self._get_trained_module(), self.step)
        if training and self.spec.modality == "image":
            spec, seed, crop = self.spec, step_seed(self.seed, self.step), self.spec.crop or 0
            pixels, partners, weights = augmentation.augment(
                batch["pixels"], seed, crop=crop, flip=spec.flip, mixup=spec.mixup, cutmix=spec.cutmix
            )
            batch = {**batch, "pixels": pixels}
        with nullcontext() if self._ema is None or training else self._ema.swap_into(self._get_trained_module()):
            vectors = self.projection(self.tower.features(batch))
            with torch.autocast(vectors.device.type, enabled=False):
                vectors = vectors.float()
                losses = self.compute_losses(vectors, class_ids)
                if partners is not None and weights is not None:
                    losses = weights * losses + (1 - weights) * self.compute_losses(vectors, class_ids[partners])
        return losses.mean()

    def compute_losses(self, vectors: torch.Tensor, class_ids: torch.Tensor) -> torch.Tensor:
        """Return the cross-entropy (n,) of outputs (n, dim) of the projection, not normalised, with class ids (n,)."""
        scores = self.score_vectors(vectors)
        if self.basis is not None:
            scores = scores / self.spec.compute_temperature(len(self.classes))
        return torch.nn.functional.cross_entropy(
            scores, class_ids, label_smoothing=self.spec.smoothing, reduction="none"
        )

    def finish(self, rows: Dataset) -> None:
        """Keep the second moments of training features, which `add_classes` needs to leave old inputs unchanged."""
        if self.basis is not None:
            inputs = dataset.select_evenly(rows)[self.spec.modality]
            self.second_moments = new_classes.compute_second_moments(self.compute_features(inputs))

    # -- use -------------------------------------------------------------------------------------------------------

    def predict(
        self,
        inputs: Iterable[Any],
        *,
        rule: str = "argmax",
        metric: LabelMetric | None = None,
        answers: str = "classes",
    ) -> list[predictions.Prediction]:
        """Predict the class of each input. The label is None if the best score is below `threshold`.

        Args:
            rule: `argmax` for the most probable class; `frechet` for the label with the smallest expected squared distance to
                the truth (see `zoo.label_geometry.frechet`).
            metric: distances between the labels, for the rule `frechet`.
            answers: labels that the rule `frechet` may give: `classes`, `leaves` or `all` labels of the metric.

        Raises ZooError for an unknown rule, for the rule `frechet` without a metric or without calibrated probabilities, and
        for a class that the metric does not have.
        """
        return predictions.predict(self, inputs, rule=rule, metric=metric, answers=answers)

    def calibrate(self, inputs: Iterable[Any], labels: Sequence[str | int]) -> None:
        """Fit `scale` and `threshold` of `predict` to inputs that training has not seen.

        Raises ZooError if no label is a class of the encoder.
        """
        predictions.calibrate_by_inputs(self, inputs, labels)

    def rank_classes(self, inputs: Iterable[Any], top: int = 5) -> list[list[predictions.ClassScore]]:
        """Return the `top` classes of each input with cosines and probabilities, the best first, whatever the threshold."""
        return predictions.rank_classes(self, inputs, top)

    def add_classes(
        self,
        names: Sequence[str | int],
        examples: Sequence[Sequence[Any]],
        *,
        keep: float | None = None,
        held_out: new_classes.HeldOut | None = None,
        max_accuracy_drop: float = 0.005,
        held: new_classes.HeldOut | None = None,
        lose: float | None = None,
    ) -> float:
        """Add classes from a few examples, without training. Returns the `keep` that was used.

        Each new class gets the free vector nearest to its examples. The projection is changed in closed form, so that the
        examples point there. The vectors of old classes stay, and the outputs for old inputs change as little as possible.

        Args:
            names: names of the new classes.
            examples: some inputs for each name.
            keep: the weight of an old input against a new one, by default 2.
            held_out: inputs of old classes that training has not seen, and the class of each input. They choose `keep`: the
                smallest one that lowers the accuracy on them by at most `max_accuracy_drop`, or 256 if no candidate does.
            max_accuracy_drop: a share, from 0 to 1.
            held: the old name of `held_out`.
            lose: the old name of `max_accuracy_drop`.

        Raises ZooError for a name that is in use, for too few free vectors, for a class without examples, for held-out inputs
        of an unknown class, for both `keep` and `held_out`, and for a `max_accuracy_drop` that is not a share.
        """
        if held is not None:
            _warn_about_old_name("held", "held_out", is_given_twice=held_out is not None)
            held_out = held
        if lose is not None:
            _warn_about_old_name("lose", "max_accuracy_drop", is_given_twice=False)
            max_accuracy_drop = lose
        return new_classes.add_classes(self, names, examples, keep, held_out, max_accuracy_drop)

    def find_faults(self, rows: Dataset) -> list[Finding]:
        """Classes that are never predicted for rows that have them."""
        sample = dataset.select_evenly(rows, MAX_CHECKED)
        if len(sample) < MIN_CHECKED * len(self.classes):
            return []
        best = self.compute_scores(sample[self.spec.modality]).argmax(1)
        class_ids = dataset.find_class_ids(sample["label"], self.classes)
        advice = "raise `training.epochs`, try another `training.learning_rate`, or give these classes more rows"
        return find_unused_labels(
            [self.classes[place] for place in class_ids], [self.classes[int(place)] for place in best], advice
        )

    def evaluate_recognition(
        self, tables: Mapping[str, Dataset], metric: LabelMetric | None = None, answers: str = "classes"
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Return scores by name and details for the card's pictures; see `metrics.evaluate`."""
        return metrics.evaluate(self, tables, metric, answers)

    def find_class_vectors(self) -> tuple[Sequence[str | int], Any]:
        """The classes and their fixed vectors (classes, dim), or the weights of the softmax head."""
        return self.classes, metrics.get_class_vectors(self)

    def make_graph(self) -> Graph:
        """The graph of the tower, with the scores of the classes as a second output."""
        return class_graph.make_graph(self)

    # -- model folder ----------------------------------------------------------------------------------------------

    def write_weights(self, folder: Path) -> None:
        """Write the tower with its projection, and classes.safetensors with class vectors, second moments or softmax head."""
        self.tower.save(folder, self.projection, self.dim)
        basis = self.basis if self.spec.basis == "stored" else None
        head = self.module["head"] if "head" in self.module else None
        basis_file.write_tensors(folder, basis, self.second_moments, head)

    @classmethod
    def load(cls, spec: Spec, folder: Path, config: Mapping[str, Any]) -> Self:
        """Open what `write_weights` wrote. A basis that is made from its seed must have the sha256 in `config`.

        Raises ArtefactError.
        """
        config = basis_file.validate_config(folder, config)
        tower, projection = towers.load(spec.backbone, folder, config["tower"], config["dim"])
        encoder = cls(spec, tower, projection)
        if encoder.dim != config["dim"]:
            raise ArtefactError(
                f"{folder / 'config.json'}: dim {config['dim']} differs from {encoder.dim}, the dim of its encoder section"
            )
        encoder.classes, encoder.vector_ids, encoder.seed = config["classes"], config["places"], config["seed"]
        encoder.scale, encoder.threshold = config["scale"], config["threshold"]
        encoder.basis, encoder.second_moments, head = basis_file.read_tensors(folder, spec, config, tower.width)
        if head is not None:
            encoder.module["head"] = head
        encoder._facts = config["facts"]
        encoder.module.eval()
        return encoder

    def list_token_ids(self, texts: Sequence[str]) -> Sequence[Sequence[int]] | None:
        """The tokens of each text, if the encoder reads texts."""
        return self.tower.body.tokenize(texts) if isinstance(self.tower, towers.TextTower) else None

    def extra_config(self) -> dict[str, Any]:
        """Return the classes, their rows in the basis, how the basis was made, and the calibration of `predict`."""
        return {
            "dim": self.dim,
            "seed": self.seed,
            "classes": self.classes,
            "places": self.vector_ids,
            "scale": self.scale,
            "threshold": self.threshold,
            "basis": None if self.basis is None else basis_file.describe_basis(self.basis),
            "tower": self.tower.state(),
        }

    def card_facts(self) -> dict[str, Any]:
        """Return size and geometry of the head, and the scores of the softmax baseline."""
        facts: dict[str, Any] = {
            "modality": self.spec.modality,
            "dim": self.dim,
            "head": self.spec.head,
            "classes": len(self.classes),
            "names": [str(name) for name in self.classes[:MAX_NAMED_CLASSES]],
        }
        if self.tower.max_length:
            facts["max_length"] = self.tower.max_length
        settings: dict[str, Any] = dict(self._facts.get("settings", {}))
        if self.spec.modality == "image":
            settings["encoder.crop"] = self.spec.crop
        if self.basis is not None:
            facts |= basis_file.describe_geometry(self.basis, self.vector_ids)
            temperature = self.spec.compute_temperature(len(self.classes))
            settings |= {"encoder.temperature": temperature, "encoder.capacity": facts["capacity"]}
        return facts | self._facts | ({"settings": settings} if settings else {})


def _warn_about_old_name(old: str, new: str, *, is_given_twice: bool) -> None:
    """Warn the caller of `add_classes` about an argument's old name. Raises ZooError if the new name was given too."""
    if is_given_twice:
        raise ZooError(f"`{old}` is the old name of `{new}`: give one of them, not both")
    warnings.warn(f"the argument `{old}` of add_classes is now called `{new}`", FutureWarning, stacklevel=3)

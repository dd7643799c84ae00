"""What a family is: a `Spec` (its `encoder:` section) and an `Encoder`. Imported by `zoo check`, so torch stays lazy.

A family module defines the two classes under exactly these names. Adding one is one module here, one recipe, one card and
one test file; nothing that exists is edited.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from zoo.core.errors import ZooError
from zoo.schema import EncoderSpec, Kind, Section, Training

if TYPE_CHECKING:
    import numpy as np
    import torch
    from datasets import Dataset

    from zoo.data import Roles
    from zoo.data.spec import Data


class NoView(Section):
    """The view options of a family without views."""


class Encoder:
    """A trained or trainable encoder. It holds its torch modules in `module`; views share them.

    Attributes that evaluation, card and hub read:
        spec: the family's section of the recipe.
        module: every trainable tensor, or None for families that hold none.
        dim: components of an encoded vector (bits for binary codes).
        view_options: the view this object is, e.g. {"layers": 3, "dim": 128}; {} for the whole encoder.
        similarity: "cosine" or "hamming".
        backbone_name, backbone_revision: id and content hash (or commit) of the pretrained model it starts from, if any.
        seed, step: what a loss may draw from; `step` is the optimiser step under way, set by the Trainer.
        folder: where relative paths in `spec` start.
        tables: the rows of the data sections that `further` names.
    """

    View: ClassVar[type[Section]] = NoView
    similarity: ClassVar[str] = "cosine"
    modalities: tuple[str, ...] = ("text",)
    accepts_mixed_inputs: ClassVar[bool] = False
    """Whether one input may hold several modalities, as {"image": …, "text": …}."""
    training: ClassVar[Mapping[str, Any]] = {}
    """What `training:` of a recipe holds where its author is silent and the family needs other values than the schema's."""
    min_reader_version: ClassVar[str] = "0.1.0"
    """The first version of embedding-zoo that reads what `save` writes; a folder tells it to those that are older."""
    uses_validation: ClassVar[bool] = True
    """Whether training looks at held-out rows; a recipe of another family may not have `validation:`."""

    recognises: ClassVar[bool] = False
    """Whether the family has classes of its own, and `measure` tells how well it recognises them."""

    spec: EncoderSpec
    module: torch.nn.Module
    dim: int
    backbone_name: str | None = None

    def __init__(self) -> None:
        self.view_options: dict[str, Any] = {}
        self.name = "encoder"
        self.revision = "untrained"
        self.seed = 42
        self.step = 0
        self.folder = Path()
        self.backbone_revision = ""
        self.tables: dict[str, Dataset] = {}

    # -- known without torch, before anything is read -------------------------------------------------------------

    @classmethod
    def roles(cls, spec: Any) -> tuple[dict[str, Kind], dict[str, Kind]]:
        """Columns of the training data that `spec` needs, and those it uses when they are there."""
        raise NotImplementedError

    @classmethod
    def extra_datasets(cls, spec: Any) -> Mapping[tuple[str, ...], tuple[Data, Roles] | tuple[Data, Roles, Roles]]:
        """Data sections inside `spec`, by their path below `encoder`, and the columns they need and may use. They are checked and
        locked like the recipe's own, and given to `prepare` as `tables`, under the last step of the path."""
        return {}

    @classmethod
    def check(cls, spec: Any, folder: Path) -> list[tuple[tuple[str | int, ...], str]]:
        """Mistakes that only this family can see, as (path below `encoder`, message). `folder` is the recipe's."""
        return []

    @classmethod
    def check_view(cls, spec: Any, view: Mapping[str, Any], folder: Path) -> str | None:
        """What is wrong with a view that has the right keys and types, or None."""
        return None

    def table(self, name: str) -> Dataset:
        """The rows of a data section that `further` names, by the last step of its path; read now where nobody has given them
        in `tables`. Raises DataError."""
        if name not in self.tables:
            from zoo import data

            wanted = next(each for path, each in self.extra_datasets(self.spec).items() if path[-1] == name)
            self.tables[name] = data.read(*wanted, folder=self.folder).rows
        return self.tables[name]

    # -- life of an encoder ----------------------------------------------------------------------------------------

    @classmethod
    def build(cls, spec: Any, *, seed: int = 42, folder: Path = Path()) -> Self:
        """The untrained encoder. Raises ZooError where the backbone cannot be had or is not supported."""
        raise NotImplementedError

    def prepare(self, rows: Dataset, cache: Path) -> None:
        """See the training rows once before training (vocabulary, fixed bases, teacher vectors). Deterministic; what takes
        long is kept in `cache`, which survives a killed run."""

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Rows of the data set to a batch of tensors."""
        raise NotImplementedError

    def loss(self, batch: dict[str, Any]) -> torch.Tensor:
        """Scalar training loss of one batch, under the shared Trainer."""
        raise NotImplementedError

    def parameter_groups(self, training: Training) -> list[dict[str, Any]]:
        """Optimiser groups; by default every trainable parameter at the recipe's rate."""
        return [{"params": [p for p in self.module.parameters() if p.requires_grad]}]

    def fit(
        self,
        rows: Dataset,
        settings: Training,
        folder: Path,
        *,
        validation: Dataset | None = None,
        show_progress: bool = False,
    ) -> float:
        """Train in place and return the seconds it took, those before an interruption included; by default `loss` under the
        shared Trainer. A family with a trainer of its own keeps checkpoints and metrics.jsonl in `folder` as that one does."""
        from zoo.training import trainer

        return trainer.fit(self, rows, settings, folder, validation=validation, show_progress=show_progress)

    def without_validation(self, validation: Dataset | None) -> None:
        """For a `fit` that has no use for held-out rows. Raises ZooError where it is given some."""
        if validation is not None:
            raise ZooError(f"the family {self.spec.family} does not look at held-out rows: leave `validation` out")

    def finish(self, rows: Dataset) -> None:
        """See the training rows once after training (label vectors, outlier cleaning)."""

    # -- use -------------------------------------------------------------------------------------------------------

    def encode(self, inputs: Iterable[Any], *, show_progress: bool = False, precision: str = "fp32") -> np.ndarray:
        """Vectors in the order of `inputs`: (n, dim) float32, or packed uint8 codes (n, ceil(dim / 8)).

        `inputs` may be a list or any iterable; a bare string is refused (ZooError), as is None among the inputs. `precision`
        is fp32, so that vectors are the same everywhere; bf16 and fp16 are faster and close; auto is bf16 where the hardware
        is fast at it.
        """
        raise NotImplementedError

    def stream(self, inputs: Iterable[Any], *, precision: str = "fp32") -> Iterator[np.ndarray]:
        """`encode` in pieces, in order, with memory that does not grow with the length of `inputs`."""
        raise NotImplementedError

    def view(self, **options: Any) -> Self:
        """A cheap view that shares this encoder's tensors. Raises ZooError for options the family does not know."""
        if options:
            raise ZooError(f"the family {self.spec.family} has no views, so nothing can be asked for: {options}")
        return copy.copy(self)

    def views_sharing_a_pass(self, views: Sequence[Mapping[str, Any]]) -> list[Self]:
        """One view each, for scores and not for timings: a family whose views have work in common may do it once."""
        return [self.view(**view) for view in views]

    def baseline(self) -> Encoder | None:
        """What the encoder was before training, for the report's baseline column; None where that says nothing."""
        return None

    def evaluate_recognition(self, tables: Mapping[str, Dataset]) -> tuple[dict[str, float], dict[str, Any]]:
        """For a task `recognition`: figures by name, the main one first, and JSON-able details for the card's pictures."""
        raise NotImplementedError

    def as_float_vectors(self, vectors: np.ndarray) -> np.ndarray:
        """What mteb's similarities and probes compute with, (n, d) float32, of vectors that `encode` gave: by default these."""
        return vectors

    @property
    def bytes_per_vector(self) -> int:
        """Storage of one encoded vector in bytes."""
        return self.dim * 4

    # -- artefact --------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write weights (safetensors), tokenizer and, where stock sentence-transformers can open it, modules.json into an
        empty `folder`. config.json, if written, is the backbone's own; the caller adds the `zoo` block."""
        raise NotImplementedError

    @classmethod
    def load(cls, spec: Any, folder: Path, config: Mapping[str, Any]) -> Self:
        """The inverse of `save`. `config` is the `zoo` block. Strict: missing, extra or mis-shaped tensors are an error."""
        raise NotImplementedError

    def extra_config(self) -> dict[str, Any]:
        """JSON-able state that `load` needs besides spec and tensors; becomes part of the `zoo` block."""
        return {}

    def card_facts(self) -> dict[str, Any]:
        """Values that the family's own card template uses."""
        return {}

    def push_to_hub(self, repo: str, *, private: bool = False) -> str:
        """Save and publish in one commit; returns the commit's URL. Raises HubError."""
        from zoo.artefact import model_folder

        return model_folder.publish(self, repo, private=private)

"""`Encoder`, the base of every family's encoder: what a trained or trainable encoder can do.

A family defines a subclass called `Encoder` in its encoder.py, and a subclass of `EncoderSpec` called `Spec` in its spec.py.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from zoo.artefact import reopening
from zoo.core.errors import ZooError
from zoo.schema import Training
from zoo.spec import EncoderSpec
from zoo.training import objective_checks

if TYPE_CHECKING:
    import numpy as np
    import torch
    from datasets import Dataset


@dataclass(frozen=True)
class TrainingRun:
    """What `Encoder.train` gets.

    Attributes:
        rows: the training rows.
        settings: the recipe's `training:` section.
        folder: receives checkpoints/ and metrics.jsonl.
        validation: held-out rows, or None; never test data.
        show_progress: whether a progress bar is shown on stderr.
    """

    rows: Dataset
    settings: Training
    folder: Path
    validation: Dataset | None = None
    show_progress: bool = False


class Encoder:
    """A trained or trainable encoder. It holds its torch modules in `module`; views share them.

    Attributes that evaluation, card and hub read:
        spec: the family's section of the recipe.
        module: every trainable tensor; an empty module for families without any.
        dim: components of an encoded vector (bits for binary codes).
        view_options: the options of this view, e.g. {"layers": 3, "dim": 128}; {} for the whole encoder.
        similarity: "cosine" or "hamming".
        backbone_name, backbone_revision: id and content hash (or commit) of the pretrained model that training starts from.
        seed, step: a loss may draw random numbers from these two only. The trainer sets `step`, the current optimiser step.
        folder: where relative paths in `spec` start.
        tables: rows of the data sections that `spec.extra_datasets` names, by the last step of their path.
    """

    similarity: ClassVar[str] = "cosine"

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

    @property
    def modalities(self) -> tuple[str, ...]:
        """Kinds of inputs that `encode` takes: text, image, vector."""
        return self.spec.modalities

    @property
    def accepts_mixed_inputs(self) -> bool:
        """Whether one input may hold several modalities."""
        return self.spec.accepts_mixed_inputs

    def table(self, name: str) -> Dataset:
        """The rows of a data section that `spec.extra_datasets` names, by the last step of its path.

        Read the data if `tables` does not hold it yet. Raises DataError.
        """
        if name not in self.tables:
            from zoo import data

            dataset = next(entry for path, entry in self.spec.extra_datasets().items() if path[-1] == name)
            table = data.read(dataset.data, dataset.roles, dataset.optional, folder=self.folder)
            self.tables[name] = table.rows
        return self.tables[name]

    # -- training --------------------------------------------------------------------------------------------------

    @classmethod
    def build(cls, spec: Any, *, seed: int = 42, folder: Path = Path()) -> Self:
        """The untrained encoder. Raises ZooError if the backbone cannot be loaded or is not supported."""
        raise NotImplementedError

    def prepare(self, rows: Dataset, cache: Path) -> None:
        """See the training rows once before training, for example to build a vocabulary or to compute teacher vectors.

        The result is deterministic. Whatever takes long is kept in the folder `cache`, which survives a killed run.
        """

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Turn rows of the data set into a batch of tensors."""
        raise NotImplementedError

    def loss(self, batch: dict[str, Any]) -> torch.Tensor:
        """Scalar training loss of one batch."""
        raise NotImplementedError

    def parameter_groups(self, training: Training) -> list[dict[str, Any]]:
        """Parameter groups for the optimiser. Default: every trainable parameter, at the recipe's learning rate."""
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
        """Train in place, and return the seconds it took, including those before an interruption.

        The arguments are those of `TrainingRun`. Raises ZooError for validation rows that the family does not use, and for
        rows from which its loss can learn nothing.
        """
        if validation is not None and not self.spec.uses_validation:
            raise ZooError(f"the family {self.spec.family} does not look at held-out rows: leave `validation` out")
        objective_checks.check_rows(self.spec, settings, rows, validation)
        return self.train(TrainingRun(rows, settings, folder, validation, show_progress))

    def train(self, run: TrainingRun) -> float:
        """Train in place, and return the seconds it took. Default: train `loss` with `zoo.training`.

        A family with a trainer of its own overrides this; it keeps checkpoints and metrics.jsonl in `run.folder` too.
        """
        from zoo.training import trainer

        return trainer.fit(
            self, run.rows, run.settings, run.folder, validation=run.validation, show_progress=run.show_progress
        )

    def finish(self, rows: Dataset) -> None:
        """See the training rows once after training, for example to place label vectors."""

    # -- use -------------------------------------------------------------------------------------------------------

    def encode(self, inputs: Iterable[Any], *, show_progress: bool = False, precision: str = "fp32") -> np.ndarray:
        """Vectors in the order of `inputs`: (n, dim) float32, or packed uint8 codes (n, ceil(dim / 8)).

        Args:
            inputs: a list or any iterable. Raises ZooError for a bare string and for None among the inputs.
            precision: fp32 gives the same vectors everywhere; bf16 and fp16 are faster and close to it; auto uses bf16 on
                hardware that is fast at it.
        """
        raise NotImplementedError

    def stream(self, inputs: Iterable[Any], *, precision: str = "fp32") -> Iterator[np.ndarray]:
        """Encode in blocks, in order. The memory does not grow with the length of `inputs`."""
        raise NotImplementedError

    def view(self, **options: Any) -> Self:
        """A view with these options, which shares this encoder's tensors.

        Raises ZooError for an unknown option and for a value of the wrong type.
        """
        return self._make_view(self.spec.check_view(options))

    def _make_view(self, options: Mapping[str, Any]) -> Self:
        """A view with options of the right names and types. Raises ZooError for a value that this encoder does not have."""
        return copy.copy(self)

    def views_sharing_a_pass(self, views: Sequence[Mapping[str, Any]]) -> list[Self]:
        """One view for each set of options. A family may encode an input once for all of them.

        Use these for scores only: timings of such views say nothing.
        """
        return [self.view(**view) for view in views]

    def baseline(self) -> Encoder | None:
        """The encoder before training, for the baseline column of the report; None if its scores say nothing."""
        return None

    def evaluate_recognition(self, tables: Mapping[str, Dataset]) -> tuple[dict[str, float], dict[str, Any]]:
        """Scores of the task `recognition` by name, the main score first, and JSON-able details for the card's pictures."""
        raise NotImplementedError

    def as_float_vectors(self, vectors: np.ndarray) -> np.ndarray:
        """Turn vectors from `encode` into (n, d) float32 for mteb's similarities and probes. Default: leave them as is."""
        return vectors

    @property
    def bytes_per_vector(self) -> int:
        """Storage of one encoded vector in bytes."""
        return self.dim * 4

    # -- model folder ----------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write weights (safetensors) and tokenizer into an empty `folder`.

        Also write modules.json if stock sentence-transformers can open the result. config.json, if written, is the
        backbone's own; the caller adds the `zoo` block.
        """
        raise NotImplementedError

    @classmethod
    def load(cls, spec: Any, folder: Path, config: Mapping[str, Any]) -> Self:
        """Open what `save` wrote. `config` is the `zoo` block of config.json.

        Raises ArtefactError for a missing, extra or mis-shaped tensor.
        """
        raise NotImplementedError

    def make_probes(self) -> list[Any]:
        """Inputs of every kind that `encode` takes, with which a saved folder is compared with this encoder."""
        texts = list(reopening.TEXTS) if "text" in self.modalities else []
        images = reopening.make_images() if "image" in self.modalities else []
        pairs = [{"image": images[0], "text": texts[0]}] if self.accepts_mixed_inputs and images and texts else []
        return [*texts, *images, *pairs]

    def list_token_ids(self, texts: Sequence[str]) -> Sequence[Sequence[int]] | None:
        """The tokens of each text, or None for a family without a tokenizer."""
        return None

    def find_stock_folder(self, folder: Path) -> Path | None:
        """The folder that stock sentence-transformers opens, or None if it cannot open what `save` wrote."""
        return folder if (folder / "modules.json").exists() else None

    def is_read_by_stock(self, text: str) -> bool:
        """Whether stock sentence-transformers reads this text as `encode` does."""
        return True

    def check_saved(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Open what `save` wrote, and raise ArtefactError unless it gives this encoder's tokens and vectors.

        `config` is the `zoo` block of config.json.
        """
        if self.is_usable():
            reopening.check(self, folder, config)

    def is_usable(self) -> bool:
        """Whether `encode` works; an encoder that learns its vocabulary or its input format in training needs that first."""
        return True

    def extra_config(self) -> dict[str, Any]:
        """JSON-able state that `load` needs besides spec and tensors. It becomes part of the `zoo` block."""
        return {}

    def card_facts(self) -> dict[str, Any]:
        """Values that the family's own card template uses."""
        return {}

    def push_to_hub(self, repo: str, *, private: bool = False) -> str:
        """Save and publish in one commit; return the URL of the commit. Raises HubError."""
        from zoo.artefact import manifest, model_folder
        from zoo.card import render
        from zoo.hub import push

        with tempfile.TemporaryDirectory() as parent:
            folder = model_folder.save(self, Path(parent) / self.name)
            render.write_card(folder, type(self.spec))
            manifest.write(folder)
            return push.push(folder, repo, private=private).url

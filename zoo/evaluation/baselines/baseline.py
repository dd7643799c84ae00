"""`Baseline`, the base of everything that is scored beside an encoder and needs no training of its own kind."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta, ScoringFunction

from zoo.core.errors import ZooError
from zoo.data.mapped import read_column
from zoo.data.split import draw_positions
from zoo.evaluation import scoring
from zoo.evaluation.task import ReadyTask
from zoo.metrics.outcomes import Outcomes
from zoo.schema import Training

if TYPE_CHECKING:
    from zoo.encoder import Encoder

Array = npt.NDArray[Any]

MAX_TEXTS = 50_000
"""Baselines learn from at most so many training texts. The rows are drawn with a fixed seed."""
TEXT_KINDS = ("text", "texts", "caption", "captions")


@dataclass(frozen=True)
class BaselineScore:
    """The score of a baseline on one task.

    Attributes:
        name: how tables and sentences call the baseline, for example "BM25".
        value: the main score, or None if it could not be computed.
        outcomes: what the score is made of, or None.
        seconds: the time of fitting and scoring.
        reason: why there is no value.
        bytes_per_vector: storage of a vector or code, or None if there is none.
        figures: further measures by name, for example the AUROC for unknown inputs.
    """

    name: str
    value: float | None
    outcomes: Outcomes | None = None
    seconds: float = 0.0
    reason: str = ""
    bytes_per_vector: int | None = None
    figures: Mapping[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return what the report keeps."""
        entry = {"name": self.name, "value": self.value, "seconds": self.seconds}
        others = {"reason": self.reason, "bytes_per_vector": self.bytes_per_vector, "figures": dict(self.figures)}
        return entry | {name: value for name, value in others.items() if value}


@dataclass(frozen=True)
class TrainingRows:
    """Baselines learn from these: the rows and settings of the training, and the encoder for its spec and sizes."""

    encoder: Encoder
    rows: Any
    settings: Training | None = None

    @cached_property
    def texts(self) -> list[str]:
        """All texts of the training rows, at most MAX_TEXTS."""
        required, optional = self.encoder.spec.roles()
        roles = {**required, **optional}
        columns = [name for name in self.rows.column_names if roles.get(name) in TEXT_KINDS]
        if not columns:
            return []
        share = max(1, MAX_TEXTS // len(columns))
        rows = self.rows
        if len(rows) > share:
            rows = rows.select(draw_positions(len(rows), share))
        return [text for name in columns for value in read_column(rows, name) for text in _list_texts(value)]


def _list_texts(value: Any) -> Iterator[str]:
    """Yield the texts of a cell: a text, a list of texts, or nothing."""
    for text in [value] if isinstance(value, str) else value or ():
        if isinstance(text, str) and text:
            yield text


class Baseline:
    """Base of all baselines.

    Attributes of the class:
        name: how tables and sentences call it.
        needs_rows: whether it learns from the training rows.
        is_cheap: whether it takes seconds. Others run with `baselines: full` only.
    """

    name: ClassVar[str]
    needs_rows: ClassVar[bool] = True
    is_cheap: ClassVar[bool] = True

    def __init__(self, training: TrainingRows) -> None:
        self.training = training

    def suits(self, task: ReadyTask) -> bool:
        """Whether the baseline can be scored on this task."""
        raise NotImplementedError

    def score(self, task: ReadyTask) -> list[BaselineScore]:
        """Score the baseline. Most have one score; a family's own may have several."""
        raise NotImplementedError

    def measure(self, task: ReadyTask) -> list[BaselineScore]:
        """Score the baseline and time it. Data that it cannot be computed on gives a score without value, not an error."""
        start_time = time.perf_counter()
        try:
            scores = self.score(task)
        except (ValueError, ZooError) as error:
            return [BaselineScore(self.name, None, reason=str(error)[:200])]
        seconds = (time.perf_counter() - start_time) / max(len(scores), 1)
        return [replace(entry, seconds=round(seconds, 3)) for entry in scores]


class VectorModel(AbsEncoder):
    """A model of mteb whose vectors are computed by a subclass and compared by cosine."""

    def __init__(self, name: str, modality: str = "text") -> None:
        self.modality = modality
        self.mteb_model_meta = ModelMeta.create_empty(
            overwrites={
                "name": f"zoo/{name}",
                "revision": "baseline",
                "similarity_fn_name": ScoringFunction.COSINE,
                "modalities": [modality],
            }
        )

    def compute_vectors(self, inputs: Sequence[Any]) -> Array:
        """Return float32 vectors (n, d) of texts or images."""
        raise NotImplementedError

    def encode(self, inputs: Any, **_: Any) -> Array:
        """Encode the inputs of mteb's loader in order. An input of another kind than the baseline reads is an error."""
        items = []
        for batch in inputs:
            if self.modality not in batch:
                raise ZooError(f"an input holds no {self.modality}")
            items += list(batch[self.modality])
        return np.ascontiguousarray(self.compute_vectors(items), dtype=np.float32)


def score_model(name: str, model: Any, task: ReadyTask, bytes_per_vector: int | None = None) -> BaselineScore:
    """Score a model of mteb on a task of mteb. Raises ZooError for a score that is not finite."""
    run = scoring.run_mteb(model, task)
    if not np.isfinite(run.value):
        raise ZooError("its vectors are all equal")
    return BaselineScore(name, run.value, run.outcomes, bytes_per_vector=bytes_per_vector)


def ends_with(task: ReadyTask, *endings: str) -> bool:
    """Whether mteb's type of the task has one of these endings, for example Retrieval. False for a task measured here."""
    return task.measure is None and task.make().metadata.type.endswith(endings)

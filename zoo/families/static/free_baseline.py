"""The token vectors of an encoder's backbone, without any training, as a free baseline beside encoders of other families."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from zoo.evaluation.baselines.baseline import Array, Baseline, BaselineScore, VectorModel, ends_with, score_model
from zoo.evaluation.task import ReadyTask
from zoo.families.static.encoder import Encoder
from zoo.families.static.spec import Spec

DIM = 256


class TokenVectors(Baseline):
    """Each token of the backbone encoded alone, and a text as the mean of its tokens, on tasks that search texts."""

    name = "token vectors of the backbone (static)"
    needs_rows = False
    is_cheap = False  # the whole vocabulary runs through the backbone

    def suits(self, task: ReadyTask) -> bool:
        """Searches of texts, if another family starts from a sentence encoder."""
        spec = self.training.encoder.spec
        has_backbone = isinstance(getattr(spec, "backbone", None), str)
        is_search = task.modalities == {"text"} and ends_with(task, "Retrieval", "Reranking")
        return has_backbone and is_search and spec.modalities == ("text",) and spec.family != "static"

    @cached_property
    def model(self) -> _TokenVectorModel:
        """The distilled encoder, made once."""
        trained = self.training.encoder
        section = {"family": "static", "backbone": getattr(trained.spec, "backbone", "")}
        section |= {"revision": getattr(trained.spec, "revision", None), "dim": min(DIM, trained.dim)}
        return _TokenVectorModel(Encoder.build(Spec.model_validate(section), folder=trained.folder))

    def score(self, task: ReadyTask) -> list[BaselineScore]:
        """Distil the backbone and rank by cosine."""
        return [score_model(self.name, self.model, task, bytes_per_vector=self.model.encoder.bytes_per_vector)]


class _TokenVectorModel(VectorModel):
    def __init__(self, encoder: Encoder) -> None:
        super().__init__("static")
        self.encoder = encoder

    def compute_vectors(self, inputs: Sequence[str]) -> Array:
        vectors: Array = self.encoder.encode(list(inputs))
        return vectors

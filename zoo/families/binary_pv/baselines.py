"""Codes that need no training of their own: signs of latent semantic analysis, plain and after iterative quantisation."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from zoo.evaluation.baselines.baseline import Array, Baseline, BaselineScore, VectorModel, score_model
from zoo.evaluation.baselines.lsa import LsaModel
from zoo.evaluation.task import ReadyTask
from zoo.families.binary_pv.spec import Spec
from zoo.ops import codes

SEED = 0


class LsaCodes(Baseline):
    """Signs of LSA, and of LSA after iterative quantisation, with as many bits as the encoder."""

    name = "codes of LSA"

    def suits(self, task: ReadyTask) -> bool:
        """Every task of mteb on texts."""
        return task.modalities == {"text"} and task.measure is None

    def score(self, task: ReadyTask) -> list[BaselineScore]:
        """Fit the decomposition to the training texts. Words that are too few for the bits give shorter codes."""
        spec = self.training.encoder.spec
        assert isinstance(spec, Spec)
        model = LsaModel(self.training.texts, spec.bits, SEED)
        vectors = torch.from_numpy(model.compute_vectors(self.training.texts)).double()
        mean = vectors.mean(0)
        bits = vectors.shape[1]
        rotation = codes.fit_iterative_quantisation(vectors - mean, bits, SEED)
        size = -(-bits // 8)
        return [
            score_model(name, _Signs(model, mean, axes), task, bytes_per_vector=size)
            for name, axes in ((f"signs of LSA ({bits} bits)", None), (f"LSA with ITQ ({bits} bits)", rotation))
        ]


class _Signs(VectorModel):
    """Codes as vectors of -1 and 1, whose cosine falls with the Hamming distance."""

    def __init__(self, model: LsaModel, mean: torch.Tensor, axes: torch.Tensor | None) -> None:
        super().__init__("lsa-codes")
        self.model, self.mean, self.axes = model, mean, axes

    def compute_vectors(self, inputs: Sequence[str]) -> Array:
        """Return (n, bits) float32 of -1 and 1."""
        vectors = torch.from_numpy(self.model.compute_vectors(inputs)).double() - self.mean
        if self.axes is not None:
            vectors = vectors @ self.axes
        signs: Array = torch.where(vectors > 0, 1.0, -1.0).float().numpy()
        return signs

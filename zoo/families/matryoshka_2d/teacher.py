"""A frozen teacher: its vectors of the training texts and of unlabelled texts are computed once and then looked up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from zoo.core.errors import DataError
from zoo.encoder import Encoder
from zoo.families.matryoshka_2d.spec import SMALLEST_TEXT_COUNT, TeacherSpec
from zoo.ops import losses
from zoo.text.frozen_vectors import FrozenVectors


class Teacher:
    """Vectors of a frozen encoder, and the loss that draws a student's similarities to those of the teacher.

    Args:
        spec: the section `teacher:` of the recipe.
        encoder: the frozen encoder.
        texts: texts of the training data.
        unlabelled: further texts, from which `draw_texts` takes.
        temperature: cosines are divided by it before the softmax.
        cache: the folder that keeps the vectors in a .npy file.
    """

    def __init__(
        self,
        spec: TeacherSpec,
        encoder: Encoder,
        texts: Sequence[str],
        unlabelled: Sequence[str],
        temperature: float,
        cache: Path,
    ) -> None:
        self.spec, self.temperature = spec, temperature
        self.unlabelled = list(dict.fromkeys(unlabelled))
        if 0 < len(self.unlabelled) < SMALLEST_TEXT_COUNT:
            raise DataError(
                f"teacher.unlabelled: {len(self.unlabelled)} different texts have no similarities to compare: give "
                f"{SMALLEST_TEXT_COUNT} or more"
            )
        self._vectors = FrozenVectors(encoder, [*texts, *self.unlabelled], cache)

    def find_rows(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the rows of the vectors of n texts, (n,) int64. Raises KeyError for a text that `__init__` did not get."""
        return self._vectors.find_rows(texts)

    def compute_loss(self, rows: torch.Tensor, layers: Mapping[int, torch.Tensor], width: int) -> torch.Tensor:
        """Scalar: spec.weight times the mean KL divergence from the teacher's similarities to the student's.

        The mean is over `layers`, each once at full width and once at `width`.

        Args:
            rows: rows of n texts, as `find_rows` returns them.
            layers: the student's vectors (n, d) of these texts by layer.
        """
        target = self._vectors.get(rows, next(iter(layers.values())).device)
        terms = [
            losses.compute_relational_loss(target, student, 1 / self.temperature)
            for vectors in layers.values()
            for student in (vectors, vectors[:, :width])
        ]
        return self.spec.weight * torch.stack(terms).mean()

    def draw_texts(self, seed: int, step: int) -> list[str]:
        """Unlabelled texts for one step, without repeats. The same seed and step give the same texts."""
        if not self.unlabelled:
            return []
        generator = torch.Generator().manual_seed((seed + 1) * 7_000_003 + step)
        count = min(self.spec.texts_per_step, len(self.unlabelled))
        places = torch.randint(len(self.unlabelled), (count,), generator=generator)
        return list(dict.fromkeys(self.unlabelled[i] for i in places.tolist()))

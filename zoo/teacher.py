"""A frozen teacher: its vectors of the training texts, and of unlabelled ones, are computed once and looked up after."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from zoo import files
from zoo.data.spec import Data
from zoo.lazy import lazy
from zoo.schema import Positive, Section

if TYPE_CHECKING:
    import numpy as np
    import torch

    from zoo.families import Encoder
else:
    np, torch = lazy("numpy"), lazy("torch")


class TeacherSpec(Section):
    """`teacher:` of a family that can follow one."""

    model: str | None = Field(
        default=None, description="Hub id, folder or package:NAME; by default the untrained backbone."
    )
    weight: float = Field(default=1.0, ge=0)
    unlabelled: Data | None = Field(
        default=None, description="More texts (column `text`), for the teacher's terms only."
    )
    texts_per_step: Positive = 64


class Teacher:
    """Vectors of every text it will be asked for, (texts, d) float32, in memory and in `cache`.

    Args:
        encoder: the frozen encoder.
        texts: those of the training data.
        unlabelled: further ones, from which `draw` takes.
    """

    def __init__(self, encoder: Encoder, texts: Sequence[str], unlabelled: Sequence[str], cache: Path) -> None:
        self.unlabelled = list(dict.fromkeys(unlabelled))
        every = list(dict.fromkeys([*texts, *self.unlabelled]))
        self._place = {text: i for i, text in enumerate(every)}
        key = hashlib.sha256("\0".join([encoder.name, encoder.base_revision, *every]).encode()).hexdigest()
        path = cache / f"teacher-{key[:16]}.npy"
        if not path.exists():
            vectors = encoder.encode(every, precision="fp32")
            with files.whole_file(path) as partial, partial.open("wb") as file:
                np.save(file, vectors)
        self._vectors = np.load(path, mmap_mode="r")

    def vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """(texts, d) float32. KeyError for a text it was not made with."""
        return torch.from_numpy(np.array(self._vectors[[self._place[text] for text in texts]]))

    def draw(self, count: int, seed: int, step: int) -> list[str]:
        """Unlabelled texts of one step, the same whenever asked again."""
        if not self.unlabelled:
            return []
        generator = torch.Generator().manual_seed((seed + 1) * 7_000_003 + step)
        places = torch.randint(len(self.unlabelled), (min(count, len(self.unlabelled)),), generator=generator)
        return list(dict.fromkeys(self.unlabelled[i] for i in places.tolist()))

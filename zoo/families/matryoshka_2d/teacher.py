"""A frozen teacher: its vectors of the training texts, and of unlabelled ones, are computed once and looked up after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from zoo.core import atomic_files
from zoo.core.lazy import lazy
from zoo.data.spec import Data
from zoo.ops import losses
from zoo.schema import Positive, Section

if TYPE_CHECKING:
    import numpy as np
    import torch

    from zoo.encoder import Encoder
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
    """What a student is drawn to: the frozen encoder's vectors of every text it will be asked for, kept in `cache`.

    Args:
        spec: the recipe's section.
        encoder: the frozen encoder.
        texts: those of the training data.
        unlabelled: further ones, from which `draw` takes.
        scale: multiplies cosines before the softmax.
    """

    def __init__(
        self,
        spec: TeacherSpec,
        encoder: Encoder,
        texts: Sequence[str],
        unlabelled: Sequence[str],
        scale: float,
        cache: Path,
    ) -> None:
        self.spec, self.scale = spec, scale
        self.unlabelled = list(dict.fromkeys(unlabelled))
        every = list(dict.fromkeys([*texts, *self.unlabelled]))
        self._place = {text: i for i, text in enumerate(every)}
        path = (
            cache / f"teacher-{atomic_files.digest([encoder.backbone_name, encoder.backbone_revision, every])[:16]}.npy"
        )
        if not path.exists():
            vectors = encoder.encode(every, precision="fp32")
            with atomic_files.whole_file(path) as partial, partial.open("wb") as file:
                np.save(file, vectors)
        self._vectors = np.load(path, mmap_mode="r")

    def terms(self, texts: Sequence[str], layers: Mapping[int, torch.Tensor], width: int) -> torch.Tensor:
        """weight · mean over `layers` of the KL from the teacher's similarities to the student's (texts, d), at full width and
        at `width`. KeyError for a text it was not made with."""
        device = next(iter(layers.values())).device
        target = torch.from_numpy(np.array(self._vectors[[self._place[text] for text in texts]])).to(device)
        cuts = [cut for vectors in layers.values() for cut in (vectors, vectors[:, :width])]
        return (
            self.spec.weight
            * torch.stack([losses.compute_relational_loss(target, cut, self.scale) for cut in cuts]).mean()
        )

    def draw(self, seed: int, step: int) -> list[str]:
        """Unlabelled texts of one step, the same whenever asked again."""
        if not self.unlabelled:
            return []
        generator = torch.Generator().manual_seed((seed + 1) * 7_000_003 + step)
        count = min(self.spec.texts_per_step, len(self.unlabelled))
        places = torch.randint(len(self.unlabelled), (count,), generator=generator)
        return list(dict.fromkeys(self.unlabelled[i] for i in places.tolist()))

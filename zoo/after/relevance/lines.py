"""Small networks that give each query the slope and the offset of its own line from evidence to log-odds.

A line with a positive slope keeps the order of a list. `zoo.after.relevance.line_training` fits the networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Array = npt.NDArray[np.float32]

FOLDS = 5
"""Number of networks. Each leaves out one fold of the queries."""
HIDDEN = 64


@dataclass(frozen=True)
class Lines:
    """The weights of all networks, FOLDS of them.

    Attributes:
        skip: (networks, f, 2), from features straight to slope and offset.
        inner: (networks, w + f, HIDDEN), from whitened queries and features.
        inner_bias: (networks, 1, HIDDEN).
        outer: (networks, HIDDEN, 2).
        common: (networks, 1, 2), slope before softplus and offset of the common line.
    """

    NAMES: ClassVar[tuple[str, ...]] = ("skip", "inner", "inner_bias", "outer", "common")

    skip: Array
    inner: Array
    inner_bias: Array
    outer: Array
    common: Array

    def apply(self, whitened: Floats, features: Floats) -> tuple[Floats, Floats]:
        """Return slope > 0 and offset (networks, m) for whitened queries (m, w) and standardised features (m, f)."""
        skip, inner, inner_bias, outer, common = (getattr(self, name).astype(np.float64) for name in self.NAMES)
        hidden = np.maximum(np.concatenate([whitened, features], axis=1) @ inner + inner_bias, 0)
        output = features @ skip + hidden @ outer + common
        return np.logaddexp(0, output[..., 0]), output[..., 1]

    def tensors(self) -> dict[str, Array]:
        """Return the arrays by name."""
        return {f"lines.{name}": getattr(self, name) for name in self.NAMES}

    @classmethod
    def read(cls, tensors: Mapping[str, npt.NDArray[Any]]) -> Lines:
        """Return what `tensors` gave."""
        return cls(**{name: tensors[f"lines.{name}"] for name in cls.NAMES})

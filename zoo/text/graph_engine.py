"""`GraphEngine`: an engine whose network is a graph of ONNX Runtime or OpenVINO, with the tokens and the batches of zoo.

`EngineBySize` leaves a few short texts to one engine, and all others to another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch

from zoo.core.errors import ZooError
from zoo.core.progress import Advance
from zoo.runtime.errors import PackError
from zoo.text.engine import Array, Engine, find_cpu_budget, plan_batches

FEW_TEXTS, FEW_CHARACTERS = 8, 400
"""So many texts, with so many characters together, are few. Then the time around the products counts as much as the products."""
Compute = Callable[[Mapping[str, Array]], Array]


class EngineSource(Protocol):
    """Chooses the engine that encodes. `zoo.deploy.engines` has the one that makes graphs."""

    def choose(self, encoder: Any, precision: str) -> tuple[Engine, str]:
        """Return the engine of a view of `TextEncoder` at a precision, and the precision that it is asked for."""
        ...


class GraphEngine(Engine):
    """Encodes texts with a graph. May be called from several threads if `compute` may.

    Args:
        compute: maps input_ids and attention_mask, each (batch, tokens) int64, to vectors (batch, dim) float32.
        torch_engine: the engine of the same view, for its tokenizer and its padding.
        name: the graph, for messages.
    """

    def __init__(self, compute: Compute, torch_engine: Engine, name: str) -> None:
        super().__init__(
            torch.nn.Module(),
            torch_engine.tokenize,
            torch_engine.pad,
            torch_engine.dim,
            torch_engine.max_length,
        )
        self._compute, self.name = compute, name

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    def can_use_int8(self) -> bool:
        """Whether the graph may be of int8: its own precision was chosen with it."""
        return True

    def _run_batches(
        self, ids: Sequence[list[int]], dtype: torch.dtype, advance: Advance
    ) -> Iterator[tuple[list[int], Array]]:
        """Yield the positions of the texts of a batch, and their vectors. The graph computes in its own precision."""
        for places in plan_batches([len(row) for row in ids], find_cpu_budget()):
            batch = {name: values.numpy() for name, values in self.pad([ids[place] for place in places]).items()}
            try:
                vectors = self._compute(batch)
            except PackError as error:
                raise ZooError(f"{self.name}: {error}") from None
            yield places, vectors
            advance(len(places))


class EngineBySize(Engine):
    """Encodes a few short texts with one engine, and all others with another.

    Args:
        few, many: an engine, and the precision that it is asked for.
    """

    def __init__(self, few: tuple[Engine, str], many: tuple[Engine, str]) -> None:
        engine = many[0]
        super().__init__(engine.module, engine.tokenize, engine.pad, engine.dim, engine.max_length)
        self._few, self._many = few, many

    @property
    def device(self) -> torch.device:
        """The device of the engine for many texts."""
        return self._many[0].device

    def encode(self, inputs: Iterable[str], *, show_progress: bool = False, precision: str = "fp32") -> Array:
        """Return vectors (n, dim) float32 in the order of `inputs`. Each engine has its own precision."""
        engine, own = self._few if are_few(inputs) else self._many
        return engine.encode(inputs, show_progress=show_progress, precision=own)

    def stream(self, inputs: Iterable[str], *, precision: str = "fp32") -> Iterator[Array]:
        """Yield the vectors of the engine for many texts in blocks."""
        engine, own = self._many
        return engine.stream(inputs, precision=own)


def are_few(inputs: Iterable[Any]) -> bool:
    """Return whether the inputs are a list of a few short texts."""
    is_short = isinstance(inputs, list | tuple) and len(inputs) <= FEW_TEXTS
    return is_short and sum(len(text) for text in inputs if isinstance(text, str)) <= FEW_CHARACTERS

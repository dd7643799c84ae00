"""The steps after training that an encoder carries, and what they do with its vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo.core.errors import ZooError

if TYPE_CHECKING:
    import numpy as np


class FittedSteps:
    """Steps that were fitted on the vectors of a whole encoder.

    Args:
        steps: objects of `zoo.after.step`, in order.
        view: the options of the whole encoder as a view. Another view has other vectors, which the steps do not know.
        dim: components of its vectors.

    Raises ZooError for anything but a list of fitted steps, and for a step that takes vectors of another size.
    """

    def __init__(self, steps: Sequence[Any] = (), view: Mapping[str, Any] | None = None, dim: int = 0) -> None:
        for step in steps:
            if not hasattr(step, "spec"):
                raise ZooError(
                    f"steps: give a list of fitted steps, as zoo.after.open_step returns them, not {step!r}"[:200]
                )
            if step.dim != dim:
                raise ZooError(
                    f"the step {step.spec.step} takes vectors of {step.dim} components, not {dim}: fit it again"
                )
            # A step of scores is fitted on the vectors that the codes before it stand for.
            dim = getattr(step, "decoded_dim", dim)
        self.all = tuple(steps)
        self._view = dict(view or {})

    def fits(self, view: Mapping[str, Any]) -> bool:
        """Whether the steps were fitted on this view: the whole encoder."""
        return not view or dict(view) == self._view

    def choose(self, view: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the steps of a view: all of them for the whole encoder, else none."""
        return self.all if self.fits(view) else ()

    def find_codes(self, view: Mapping[str, Any]) -> Any:
        """Return the step that turns vectors into codes. Raise ZooError if there is none, and for another view."""
        step = next((step for step in self.all if step.spec.kind == "codes"), None)
        if step is None:
            raise ZooError(
                "the encoder has no codes: train it with a step such as int8 or binary in `after:` of its recipe"
            )
        if not self.fits(view):
            shown = ", ".join(f"{name}={value}" for name, value in view.items())
            raise ZooError(
                f"the step {step.spec.step} was fitted on vectors of the whole encoder, not on those of the view {shown}: use "
                "the encoder without a view, or fit the step on vectors of the view with `zoo fit`"
            )
        return step


def prepare_vectors(vectors: np.ndarray, similarity: str) -> np.ndarray:
    """Return float32 vectors as steps take them: with unit norm if the encoder compares by cosine, else as they are."""
    import numpy as np

    rows = np.asarray(vectors, np.float32)
    if similarity != "cosine":
        return rows
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: np.ndarray = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    return unit

"""σReparam: train each linear layer as a learned gain times its weights of spectral norm 1.

Source: Zhai et al., "Stabilizing Transformer Training by Preventing Attention Entropy Collapse", arXiv 2303.06296, equation 3.
The largest singular value of a layer then grows only as its gain does, which keeps attention from collapsing to single tokens at
high learning rates. A layer starts with the gain that its weights have, so that the network computes the same as before. After
the training, gain and weights are multiplied, and the network is a plain one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.utils import parametrize

from zoo.core.errors import ZooError

LAYERS = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d)
FIRST_ITERATIONS = 30  # of the power method, before the training
"""After them the estimate follows the weights with one iteration a step."""


class SpectralGain(torch.nn.Module):
    """The weights γ W / σ(W), where σ(W) is the largest singular value of W as a matrix (outputs, rest).

    Attributes:
        gain: γ, a learned number; it starts at σ(W).
        left, right: the estimate of the singular vectors, (outputs,) and (rest,) float32. A forward pass in training mode moves
            them by one iteration of the power method.
    """

    left: torch.Tensor
    right: torch.Tensor

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        matrix = weight.detach().float().flatten(1)
        generator = torch.Generator().manual_seed(0)
        self.register_buffer(
            "left", torch.nn.functional.normalize(torch.randn(len(matrix), generator=generator), dim=0)
        )
        self.register_buffer("right", torch.zeros(matrix.shape[1]))
        self.to(weight.device)
        for _ in range(FIRST_ITERATIONS):
            self._iterate(matrix)
        self.gain = torch.nn.Parameter(self._estimate(matrix))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the weights that the layer uses, with the shape and dtype of `weight`."""
        with torch.autocast(weight.device.type, enabled=False):
            matrix = weight.float().flatten(1)
            if self.training:
                self._iterate(matrix.detach())
            scaled = self.gain / self._estimate(matrix) * matrix
            return scaled.view_as(weight).to(weight.dtype)

    @torch.no_grad()
    def _iterate(self, matrix: torch.Tensor) -> None:
        self.right.copy_(torch.nn.functional.normalize(matrix.T @ self.left, dim=0))
        self.left.copy_(torch.nn.functional.normalize(matrix @ self.right, dim=0))

    def _estimate(self, matrix: torch.Tensor) -> torch.Tensor:
        # The vectors are copied, because an iteration changes them before the gradient is computed.
        return self.left.clone() @ (matrix @ self.right.clone())


@contextmanager
def reparametrise(module: torch.nn.Module, *, wanted: bool = True) -> Iterator[list[str]]:
    """Inside the block, the trainable linear and convolutional layers of `module` have a gain; afterwards they are plain again.

    Yields the names of these layers. Layers whose weights are zero or shared with another module stay as they are. Raises
    ZooError if `module` has no other layer.
    """
    layers = _list_layers(module) if wanted else {}
    if wanted and not layers:
        raise ZooError("training.sigma_reparam: this encoder has no linear layer that is trained: leave it out")
    for layer in layers.values():
        parametrize.register_parametrization(layer, "weight", SpectralGain(layer.weight))
    try:
        yield list(layers)
    finally:
        for layer in layers.values():
            layer.eval()  # reading the weights must not move the estimate
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
            if "bias" in layer._parameters:  # the weight comes first again, in files and in optimisers
                layer._parameters["bias"] = layer._parameters.pop("bias")


def _list_layers(module: torch.nn.Module) -> dict[str, Any]:
    """Return the layers by name."""
    uses = Counter(
        id(parameter) for part in module.modules() for parameter in part.parameters(recurse=False) if parameter.ndim > 1
    )

    def is_fit(layer: Any) -> bool:
        weight = layer.weight
        return bool(weight.requires_grad and uses[id(weight)] == 1 and weight.any())

    return {name: layer for name, layer in module.named_modules() if isinstance(layer, LAYERS) and is_fit(layer)}

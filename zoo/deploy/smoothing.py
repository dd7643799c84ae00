"""Prepare the linear layers of a module for 8 bits, without a change of its vectors in float32.

Activations have few components that are far larger than the others, and one scale for all of them loses the small ones. So each
component of a layer's input is centred and divided by a factor, by which the weights are multiplied (Xiao et al., "SmoothQuant",
ICML 2023, arXiv 2211.10438, equation 4). A few components that are still too large stay in float32.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from zoo.deploy import tracing
from zoo.graph import Graph
from zoo.text import calibration, flat_layout
from zoo.text.text_encoder import TextEncoder

EXACT = "exact"
"""The name of the module that multiplies the components in float32."""
OUTLIERS, OUTLIER_RATIO = 64, 3.0
"""How many components of an input stay in float32, if the largest one is so many times the median."""
ONE_SIDED = 0.3
SMALLEST = 1e-5
CALIBRATED, UNCALIBRATED = 0.7, 0.4
"""How much of a component's range moves to its weights. Ranges of other texts than those that come later say less."""
FEWEST_TEXTS = 50
"""Texts from which on their ranges are taken for those of the texts that come later."""
SITES = {
    "query": "qkv",
    "key": "qkv",
    "value": "qkv",
    "attention_output": "attention_output",
    "up": "up",
    "down": "down",
}
"""Fields of `BlockNames` → those of `BlockRanges`."""
Range = tuple[torch.Tensor, torch.Tensor]


class _InputMap(torch.nn.Module):
    """Subtracts the middle of each component's range, and divides by factors. Outliers become 0.

    Layers that share the input share the result, which the graph then computes once.
    """

    scale: torch.Tensor
    offset: torch.Tensor

    def __init__(self, factors: torch.Tensor, middle: torch.Tensor, outliers: torch.Tensor) -> None:
        super().__init__()
        scale = (1 / factors).index_fill(0, outliers, 0.0)
        self.register_buffer("scale", scale)
        self.register_buffer("offset", -middle * scale)
        self._last: tuple[torch.Tensor, torch.Tensor] | None = None

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self._last is None or self._last[0] is not inputs:
            self._last = inputs, inputs * self.scale + self.offset
        return self._last[1]


class _SmoothedLinear(torch.nn.Module):
    """A linear layer with a map of its input. Outliers, components of the input, are multiplied by a layer of their own."""

    places: torch.Tensor

    def __init__(
        self,
        linear: torch.nn.Linear,
        inputs: _InputMap,
        factors: torch.Tensor,
        middle: torch.Tensor,
        outliers: torch.Tensor,
    ) -> None:
        super().__init__()
        weight = linear.weight.detach()
        plain = weight.index_fill(1, outliers, 0.0)
        bias = plain @ middle if linear.bias is None else linear.bias.detach() + plain @ middle
        self.inputs = inputs
        self.weight = torch.nn.Parameter(plain * factors, requires_grad=False)
        self.bias = torch.nn.Parameter(bias, requires_grad=False)
        self.exact: torch.nn.Module | None = None
        if len(outliers):
            self.exact = torch.nn.Linear(len(outliers), len(weight), bias=False)
            self.exact.weight = torch.nn.Parameter(weight[:, outliers].contiguous(), requires_grad=False)
            self.register_buffer("places", outliers)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs = torch.nn.functional.linear(self.inputs(inputs), self.weight, self.bias)
        return outputs if self.exact is None else outputs + self.exact(inputs[..., self.places])


def smooth(module: torch.nn.Module, ranges: Mapping[str, Range], strength: float) -> torch.nn.Module:
    """Return a copy of the module whose linear layers are smoothed. Layers with equal ranges have the same input.

    Args:
        module: from `tracing.copy_module`.
        ranges: of `find_ranges`.
        strength: how much of a component's range moves to its weights, from 0 to 1.
    """
    twin = copy.deepcopy(module)
    groups: dict[bytes, list[str]] = {}
    for name, span in ranges.items():
        groups.setdefault(torch.stack(span).numpy().tobytes(), []).append(name)
    for names in groups.values():
        layers: list[Any] = [twin.get_submodule(name) for name in names]
        weights = torch.stack([layer.weight.detach().abs().amax(0) for layer in layers]).amax(0)
        low, high = ranges[names[0]]
        outliers = find_outliers(torch.maximum(high, -low))
        # After an activation most values are 0, which is exact as long as it is not moved.
        is_one_sided = float((-low).median()) < ONE_SIDED * float(high.median())
        middle = torch.zeros_like(low) if is_one_sided else (low + high) / 2
        half = torch.maximum(high - middle, middle - low).clamp(min=SMALLEST)
        factors = half**strength / weights.clamp(min=SMALLEST) ** (1 - strength)
        factors = (factors / factors.mean()).clamp(min=1e-3)
        inputs = _InputMap(factors, middle, outliers)
        for name, layer in zip(names, layers, strict=True):
            replace(twin, name, _SmoothedLinear(layer, inputs, factors, middle, outliers))
    return twin


def find_outliers(largest: torch.Tensor) -> torch.Tensor:
    """Return the places of the components that stay in float32, in order; none if no component is far larger than the median.

    Such components follow the activation of an inner layer, for example. Smoothing alone would leave the others too few steps.
    `largest` are the largest magnitudes (components,).
    """
    order = largest.argsort(descending=True)
    count = min(OUTLIERS, len(largest) // 4)
    if not count or float(largest[order[0]]) < OUTLIER_RATIO * float(largest.median()):
        return order[:0]
    return order[:count].sort().values


def replace(module: torch.nn.Module, name: str, part: torch.nn.Module) -> None:
    """Replace the part of a module that has this name."""
    parent, _, last = name.rpartition(".")
    setattr(module.get_submodule(parent), last, part)


def choose_strength(view: Any, texts: int) -> float:
    """Return how much of the range moves to the weights: more if the model holds ranges of its own, or enough texts are given."""
    own = isinstance(view, TextEncoder) and calibration.find_own_blocks(view) is not None
    return CALIBRATED if own or texts >= FEWEST_TEXTS else UNCALIBRATED


def find_ranges(module: torch.nn.Module, graph: Graph, view: Any, texts: Sequence[str]) -> dict[str, Range]:
    """Return the smallest and the largest value (width,) of each component of every linear layer's input, by the layer's name.

    They are those of the texts without a prompt, and of the model's own calibration, if its network is a known one.
    """
    ranges = _measure(module, graph, texts)
    blocks = calibration.find_blocks(view) if isinstance(view, TextEncoder) else None
    if blocks is None:
        return ranges
    layout = flat_layout.recognise(view.backbone.model)
    assert layout is not None  # the blocks are those of a known network
    for number, block in enumerate(blocks):
        spans = {
            name: getattr(block, SITES[field]) for field, name in layout.name_block(number).items() if field in SITES
        }
        for name, span in spans.items():
            for own in [own for own in ranges if own.endswith(f".{name}")]:
                ranges[own] = _join(ranges[own], span)
    return ranges


def _measure(module: torch.nn.Module, graph: Graph, texts: Sequence[str]) -> dict[str, Range]:
    ranges: dict[str, Range] = {}

    def make_hook(name: str) -> Any:
        def note(_layer: Any, arguments: tuple[torch.Tensor, ...]) -> None:
            values = arguments[0].detach().flatten(0, -2)
            found = values.amin(0), values.amax(0)
            ranges[name] = _join(ranges[name], found) if name in ranges else found

        return note

    layers = {name: part for name, part in module.named_modules() if type(part) is torch.nn.Linear}
    hooks = [part.register_forward_pre_hook(make_hook(name)) for name, part in layers.items()]
    try:
        tracing.run_module(module, graph, list(texts))
    finally:
        for hook in hooks:
            hook.remove()
    return ranges


def _join(left: Range, right: Range) -> Range:
    return torch.minimum(left[0], right[0]), torch.maximum(left[1], right[1])

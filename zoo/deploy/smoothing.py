"""Prepare the linear layers of a module for 8 bits, without a change of its vectors in float32.

Activations have few components that are far larger than the others, and one scale for all of them loses the small ones. So each
component of a layer's input is divided by a factor, by which the weights are multiplied (Xiao et al., "SmoothQuant", ICML 2023,
arXiv 2211.10438, equation 4). A few components that are still too large stay in float32, but not those of query, key and value,
where they take more time than they gain. An input without such components stays as it is.

Centring the components as well was tried: with the outliers apart, it takes time and the loss does not fall.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from zoo.deploy import tracing
from zoo.graph import Graph
from zoo.text import calibration, flat_layout
from zoo.text.text_encoder import TextEncoder

EXACT = "exact"
"""The name of the module that multiplies the components in float32."""
MOST_OUTLIERS, OUTLIER_SHARE, OUTLIER_RATIO = 64, 1 / 48, 3.0
"""How many components of an input stay in float32, if the largest one is so many times the median. More cost more time than they
gain."""
ATTENTION_LAYERS = 3
"""So many layers that share an input are query, key and value. Two are the gate and the values of an inner layer."""
STRENGTH = 0.55
"""How much of a component's range moves to its weights."""
SMALLEST = 1e-5
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


class _SmoothedProduct(torch.nn.Module):
    """The linear layers that share an input, as one product of that input divided by factors.

    Outliers, components of the input, become 0 there, and are multiplied by a layer of their own, if there are any. So the graph
    computes each of these steps once for all layers.

    A layer that narrows is the last one of a block, and in its input tokens differ most in size. So each token is divided by its
    largest value there, and the other tokens of a batch hardly change its scale.
    """

    scale: torch.Tensor
    places: torch.Tensor

    def __init__(self, linears: Sequence[torch.nn.Linear], factors: torch.Tensor, outliers: torch.Tensor) -> None:
        super().__init__()
        weight = torch.cat([linear.weight.detach() for linear in linears])
        biases: list[torch.Tensor] = [
            linear.weight.new_zeros(len(linear.weight)) if linear.bias is None else linear.bias for linear in linears
        ]
        self.weight = torch.nn.Parameter(weight.index_fill(1, outliers, 0.0) * factors, requires_grad=False)
        self.bias = torch.nn.Parameter(torch.cat(biases).detach(), requires_grad=False)
        self.exact: torch.nn.Linear | None = None
        if len(outliers):
            self.exact = torch.nn.Linear(len(outliers), len(weight), bias=False)
            self.exact.weight = torch.nn.Parameter(weight[:, outliers].contiguous(), requires_grad=False)
        self.register_buffer("scale", (1 / factors).index_fill(0, outliers, 0.0))
        self.register_buffer("places", outliers)
        self._last: tuple[torch.Tensor, torch.Tensor] | None = None

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the outputs (…, out) of all layers, one after the other. Those of the last input are kept."""
        if self._last is None or self._last[0] is not inputs:
            scaled = inputs * self.scale
            if self.weight.shape[1] > self.weight.shape[0]:
                sizes = scaled.abs().amax(-1, keepdim=True).clamp(min=SMALLEST)
                outputs = torch.nn.functional.linear(scaled / sizes, self.weight) * sizes + self.bias
            else:
                outputs = torch.nn.functional.linear(scaled, self.weight, self.bias)
            if self.exact is not None:
                outputs = outputs + self.exact(inputs[..., self.places])
            self._last = inputs, outputs
        return self._last[1]


class _SmoothedLinear(torch.nn.Module):
    """One of the layers of a `_SmoothedProduct`: the outputs from `start` to `stop`."""

    def __init__(self, product: _SmoothedProduct, start: int, stop: int) -> None:
        super().__init__()
        self.product, self.start, self.stop = product, start, stop

    @property
    def weight(self) -> torch.Tensor:
        """The rows of the product's weight. Some networks, T5 for example, ask a layer for the type of its weight."""
        return self.product.weight[self.start : self.stop]

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.product(inputs)
        is_whole = self.stop - self.start == outputs.shape[-1]
        return outputs if is_whole else outputs[..., self.start : self.stop]


def smooth(module: torch.nn.Module, ranges: Mapping[str, Range]) -> torch.nn.Module:
    """Return a copy of the module whose linear layers are smoothed. Layers with equal ranges have the same input.

    Args:
        module: from `tracing.copy_module`.
        ranges: of `find_ranges`.
    """
    twin = copy.deepcopy(module)
    groups: dict[bytes, list[str]] = {}
    for name, span in ranges.items():
        groups.setdefault(torch.stack(span).numpy().tobytes(), []).append(name)
    for names in groups.values():
        layers: list[Any] = [twin.get_submodule(name) for name in names]
        weights = torch.stack([layer.weight.detach().abs().amax(0) for layer in layers]).amax(0)
        low, high = ranges[names[0]]
        largest = torch.maximum(high, -low)
        outliers = find_outliers(largest)
        if not len(outliers):
            continue
        factors = largest.clamp(min=SMALLEST) ** STRENGTH / weights.clamp(min=SMALLEST) ** (1 - STRENGTH)
        factors = (factors / factors.mean()).clamp(min=1e-3)
        is_attention = len(names) == ATTENTION_LAYERS
        product, start = _SmoothedProduct(layers, factors, outliers[: 0 if is_attention else None]), 0
        for name, layer in zip(names, layers, strict=True):
            replace(twin, name, _SmoothedLinear(product, start, start + layer.out_features))
            start += layer.out_features
    return twin


def find_outliers(largest: torch.Tensor) -> torch.Tensor:
    """Return the places of the components that stay in float32, in order; none if no component is far larger than the median.

    Such components follow the activation of an inner layer, for example. Smoothing alone would leave the others too few steps.
    `largest` are the largest magnitudes (components,).
    """
    order = largest.argsort(descending=True)
    count = min(MOST_OUTLIERS, math.ceil(len(largest) * OUTLIER_SHARE))
    if float(largest[order[0]]) < OUTLIER_RATIO * float(largest.median()):
        return order[:0]
    return order[:count].sort().values


def replace(module: torch.nn.Module, name: str, part: torch.nn.Module) -> None:
    """Replace the part of a module that has this name."""
    parent, _, last = name.rpartition(".")
    setattr(module.get_submodule(parent), last, part)


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

"""Graphs in int8 for ONNX Runtime: weights by output channel, activations by batch, token tables by row.

Activations have few components that are far larger than the others, and one scale for all of them loses the small ones. So
each linear layer divides its input by a factor for each component, and multiplies its weights by it, which changes nothing in
float32 (Xiao et al., "SmoothQuant", ICML 2023, arXiv 2211.10438, equation 4). Factors come from calibration texts.
"""

from __future__ import annotations

import copy
import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoo.core.errors import ZooError
from zoo.deploy import tracing
from zoo.graph import Graph
from zoo.runtime.network import Network

STRENGTHS = (0.0, 0.7, 0.8)
"""How much of the range moves from activations to weights; 0 for none. The strength with the least loss is taken."""
CODED_ROWS = 256
"""Fewest rows of a table that is coded."""
LARGEST_CODE = 127
SMALLEST = 1e-5
Array = np.ndarray[Any, Any]


class RowCodedEmbedding(torch.nn.Module):
    """A table in int8 with one scale for each row. Rows are decoded as they are looked up."""

    codes: torch.Tensor
    scales: torch.Tensor

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        scales = weight.abs().amax(1, keepdim=True).clamp(min=1e-12) / LARGEST_CODE
        self.register_buffer("codes", (weight / scales).round().to(torch.int8))
        self.register_buffer("scales", scales)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the rows (…, dim) float32 of ids (…)."""
        rows = torch.nn.functional.embedding(ids, self.codes).float()
        return rows * torch.nn.functional.embedding(ids, self.scales)


class _InputScale(torch.nn.Module):
    """Divides an input by factors. Layers that share the input share the result, which the graph then computes once."""

    factors: torch.Tensor

    def __init__(self, factors: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("factors", 1 / factors)
        self._last: tuple[torch.Tensor, torch.Tensor] | None = None

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self._last is None or self._last[0] is not inputs:
            self._last = inputs, inputs * self.factors
        return self._last[1]

    def forget(self) -> None:
        self._last = None


class _SmoothedLinear(torch.nn.Module):
    """A linear layer whose input is scaled."""

    def __init__(self, linear: torch.nn.Linear, scale: _InputScale, factors: torch.Tensor) -> None:
        super().__init__()
        self.scale, self.bias = scale, linear.bias
        self.weight = torch.nn.Parameter(linear.weight.detach() * factors, requires_grad=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(self.scale(inputs), self.weight, self.bias)


def write_int8(module: torch.nn.Module, graph: Graph, path: Path, family: str, texts: Sequence[str]) -> None:
    """Write the int8 graph of a module from `tracing.copy_module` to `path`. Texts without a prompt calibrate it.

    Raises ZooError for a graph that reads no texts.
    """
    check(graph)
    exact = tracing.run_module(module, graph, list(texts))
    ranges = _measure_ranges(module, graph, texts)
    _code_tables(module)
    results: list[tuple[float, bytes]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for strength in STRENGTHS if ranges else STRENGTHS[:1]:
            trial = _smooth(module, ranges, strength) if strength else module
            plain, small = Path(scratch) / "plain.onnx", Path(scratch) / "int8.onnx"
            tracing.write_onnx(trial, graph, plain, family)
            _quantise(plain, small)
            results.append((_compute_loss(small, graph, texts, exact), small.read_bytes()))
    path.write_bytes(min(results, key=lambda result: result[0])[1])


def check(graph: Graph) -> None:
    """Raise ZooError for a graph that cannot be computed in 8 bits."""
    if graph.modality != "text" or not graph.takes_int8:
        raise ZooError("--int8 is for models that read texts with a Transformer or a table: export this one without it")


def _code_tables(module: torch.nn.Module) -> None:
    """Replace large tables of floats in place."""
    for name, part in list(module.named_modules()):
        if type(part) is torch.nn.Embedding and part.num_embeddings >= CODED_ROWS:
            _replace(module, name, RowCodedEmbedding(part.weight.detach()))


def _replace(module: torch.nn.Module, name: str, part: torch.nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(module.get_submodule(parent), last, part)


def _measure_ranges(module: torch.nn.Module, graph: Graph, texts: Sequence[str]) -> dict[str, torch.Tensor]:
    """Return the largest magnitude (width,) of each component of every linear layer's input, by the layer's name."""
    ranges: dict[str, torch.Tensor] = {}

    def make_hook(name: str) -> Any:
        def note(_layer: Any, arguments: tuple[torch.Tensor, ...]) -> None:
            largest = arguments[0].detach().abs().flatten(0, -2).amax(0)
            ranges[name] = torch.maximum(ranges[name], largest) if name in ranges else largest

        return note

    layers = {name: part for name, part in module.named_modules() if type(part) is torch.nn.Linear}
    hooks = [part.register_forward_pre_hook(make_hook(name)) for name, part in layers.items()]
    try:
        tracing.run_module(module, graph, list(texts))
    finally:
        for hook in hooks:
            hook.remove()
    return ranges


def _smooth(module: torch.nn.Module, ranges: dict[str, torch.Tensor], strength: float) -> torch.nn.Module:
    """Return a copy of the module whose linear layers are smoothed. Layers with equal ranges have the same input."""
    twin = copy.deepcopy(module)
    groups: dict[bytes, list[str]] = {}
    for name, largest in ranges.items():
        groups.setdefault(largest.numpy().tobytes(), []).append(name)
    for names in groups.values():
        layers: list[Any] = [twin.get_submodule(name) for name in names]
        weights = torch.stack([layer.weight.detach().abs().amax(0) for layer in layers]).amax(0)
        activations = ranges[names[0]].clamp(min=SMALLEST)
        factors = activations**strength / weights.clamp(min=SMALLEST) ** (1 - strength)
        factors = factors / factors.mean()
        factors = factors.clamp(min=1e-3)
        scale = _InputScale(factors)
        for name, layer in zip(names, layers, strict=True):
            _replace(twin, name, _SmoothedLinear(layer, scale, factors))
    return twin


@contextmanager
def _silence_logs() -> Iterator[None]:
    """Hide the advice of the quantiser to run another program first."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(previous)


def _quantise(plain: Path, small: Path) -> None:
    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise ZooError(f"{error}: pip install 'embedding-zoo[onnx]'") from None
    with _silence_logs():
        quantize_dynamic(plain, small, weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=["MatMul"])


def _compute_loss(path: Path, graph: Graph, texts: Sequence[str], exact: Array) -> float:
    """Return 1 minus the mean cosine of the vectors of a graph file and exact ones (n, dim)."""
    assert graph.reader is not None
    network, rows = Network(path), tracing.tokenize(graph.reader, list(texts))
    losses = []
    for row, right in zip(rows, exact, strict=True):
        arguments = [argument.numpy() for argument in tracing.pad(graph, [row])]
        left = network.run(dict(zip(tracing.list_inputs(graph), arguments, strict=True)))["vector"][0]
        norm = float(np.linalg.norm(left) * np.linalg.norm(right))
        losses.append(1 - float(left @ right) / norm if norm else float((left != right).any()))
    return float(np.mean(losses))

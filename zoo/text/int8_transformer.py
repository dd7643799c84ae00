"""`Int8Transformer`: a `FlatTransformer` whose products are of 8-bit integers.

The scales of activations are fixed once, by the ranges of `int8_ranges`. So the vector of a text depends on no other text. Three
things keep the loss small:

- Before a product, each input component is divided by a power of its own range and its weights are multiplied by it
  (SmoothQuant, Xiao et al. 2022, section 4), and the middle of its range is subtracted.
- The few components of the inner layer that are far larger than the others stay in float32.
- Residual sums, layer norms and attention are computed in floats.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from zoo.ops.attention import attend, is_short
from zoo.ops.few_rows_linear import can_multiply_few_rows
from zoo.ops.inference import stamp_weights
from zoo.ops.int8_linear import ZERO, Int8Linear
from zoo.ops.packed_linear import PackedLinear, activate
from zoo.text import int8_ranges
from zoo.text.flat_layout import Layout
from zoo.text.flat_transformer import FlatTransformer, Tensors, flatten, read_layer, round_up
from zoo.text.int8_ranges import BlockRanges, Calibration, Range

OUTLIERS = 48  # components of the inner layer that stay in float32
BLAS_ROWS = 64  # up to so many, small products are faster by the BLAS than by oneDNN
FBGEMM_ROWS = 40  # up to so many, products of integers are faster by FBGEMM than by oneDNN
SMOOTHING = 0.7  # how much of a component's range moves to its weights


@dataclass(frozen=True)
class Margins:
    """How many times larger than the measured ranges those of the products are.

    Attributes:
        outer: for the inputs of attention and of the inner layer.
        inner: for the output of the inner layer, which varies most.
    """

    outer: float
    inner: float


CALIBRATED, UNCALIBRATED = Margins(1.0, 1.0), Margins(1.2, 1.3)
"""Training texts are like those that come later. Other texts say less, so their ranges are widened."""


@dataclass(frozen=True, eq=False)
class QuantisedLayer:
    """A product with the map of its inputs to integers.

    Attributes:
        linear: the product.
        factor, offset: (in,) float32. x · factor + offset are the inputs of `linear` before they are rounded to its steps.
    """

    linear: Int8Linear
    factor: torch.Tensor
    offset: torch.Tensor
    _to_integers: tuple[torch.Tensor, torch.Tensor] = field(init=False)

    def __post_init__(self) -> None:
        step = self.linear.scale
        object.__setattr__(self, "_to_integers", (self.factor / step, self.offset / step + ZERO + 0.5))

    def __call__(self, x: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Return (rows, out) in `dtype` for x (rows, in) of a float type."""
        return self.linear(self._quantise(x), dtype)

    def add_to(self, x: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
        """Add the output for x (rows, in) of a float type to `total` (rows, out) float32, and return that."""
        return self.linear.add_to(self._quantise(x), total)

    def multiply_few(self, x: torch.Tensor) -> torch.Tensor:
        """Return (rows, out) float32 before the activation, for x (rows, in) float32 of few rows."""
        assert self.linear.few_rows is not None  # the caller has asked `can_multiply_few_rows`
        return self.linear.few_rows(torch.addcmul(self.offset, x, self.factor))

    def _quantise(self, x: torch.Tensor) -> torch.Tensor:
        factor, offset = self._to_integers
        return torch.addcmul(offset, x, factor).clamp_(0, 255).to(torch.uint8)


class Outliers:
    """The components of the inner layer that stay in float32, and their part of the output.

    Args:
        up: weight (components, width) and bias (components,).
        down: weight (width, components).
        activation: a key of `zoo.ops.packed_linear.ACTIVATIONS`.
    """

    def __init__(self, up: tuple[torch.Tensor, torch.Tensor], down: torch.Tensor, activation: str) -> None:
        self._bias, self._activation = up[1], activation
        self._up, self._down = up[0].t().contiguous(), down.t().contiguous()
        self._packed_up, self._packed_down = PackedLinear(*up, activation), PackedLinear(down, None)

    @property
    def bytes(self) -> int:
        """Bytes of the weights in both orders."""
        return 2 * (self._packed_up.bytes + self._packed_down.bytes)

    def add_to(self, x: torch.Tensor) -> torch.Tensor:
        """Return x (rows, width) plus the part of the output that follows from x."""
        if len(x) > BLAS_ROWS:
            return self._packed_down.add_to(self._packed_up(x), x)
        # oneDNN takes twice as long for few rows. It computes no GELU of a transposed view, so PyTorch does.
        inner = torch.addmm(self._bias, x, self._up)
        return torch.addmm(x, activate(inner.t(), self._activation).t(), self._down)


@dataclass(frozen=True, eq=False)
class Int8Block:
    """The weights of one block.

    Attributes:
        qkv, attention_output, up: products whose inputs are quantised first. The output of `up` has 8 bits.
        down: takes the output of `up`.
        outliers: computes the components that stay in float32.
    """

    qkv: QuantisedLayer
    attention_output: QuantisedLayer
    up: QuantisedLayer
    down: Int8Linear
    outliers: Outliers
    attention_norm: tuple[torch.Tensor, torch.Tensor]
    output_norm: tuple[torch.Tensor, torch.Tensor]

    @property
    def bytes(self) -> int:
        """Bytes of the packed weights."""
        quantised = sum(layer.linear.bytes for layer in (self.qkv, self.attention_output, self.up))
        return quantised + self.down.bytes + self.outliers.bytes


@dataclass(frozen=True, eq=False)
class Int8Network:
    """The blocks of a network, from the first one.

    Attributes:
        owner: the module of the first block, while it exists; None without modules.
        stamp: describes the weights that the blocks were made of.
        calibration: the ranges that they were made with; None for those of texts that zoo has.
    """

    blocks: tuple[Int8Block, ...]
    owner: weakref.ref[torch.nn.Module] | None = None
    stamp: Any = None
    calibration: Calibration | None = None


class Int8Transformer(FlatTransformer):
    """Computes the last hidden states of a recognised Transformer with 8-bit products; the states are float32."""

    def __init__(self, layout: Layout, tensors: Tensors, words: Any, network: Int8Network) -> None:
        super().__init__(layout, tensors, words, (), torch.float32)
        self.network = network  # networks of other depths share it as long as one of them is in use
        self.int8_blocks = network.blocks[: layout.depth]

    @property
    def parts(self) -> dict[int, int]:
        """Bytes of the packed blocks, by the id of the block."""
        return {id(block): block.bytes for block in self.int8_blocks}

    def choose_rows(self, rows: int) -> int:
        """Return the number of rows to compute for so many tokens."""
        return rows if _are_few(rows) else round_up(rows)

    def run_blocks(self, x: torch.Tensor, batch: int, length: int, bias: torch.Tensor | None) -> torch.Tensor:
        """Return the states (batch · tokens, width) after the last block."""
        if _are_few(len(x)):
            return self._run_few_rows(x, batch, length, bias)
        heads, shape, epsilon = self.layout.heads, (self.layout.width,), self.layout.epsilon
        dtype = torch.float32 if is_short(batch, heads, length) else torch.bfloat16
        for block in self.int8_blocks:
            attended = attend(block.qkv(x, dtype), batch, length, heads, bias)
            x = torch.layer_norm(block.attention_output.add_to(attended, x), shape, *block.attention_norm, epsilon)
            total = block.outliers.add_to(x)
            x = torch.layer_norm(block.down.add_to(block.up(x), total), shape, *block.output_norm, epsilon)
        return x

    def _run_few_rows(self, x: torch.Tensor, batch: int, length: int, bias: torch.Tensor | None) -> torch.Tensor:
        shape, epsilon = (self.layout.width,), self.layout.epsilon
        for block in self.int8_blocks:
            assert block.down.few_rows is not None  # `_are_few` has asked for it
            attended = attend(block.qkv.multiply_few(x), batch, length, self.layout.heads, bias)
            x = block.attention_output.multiply_few(attended).add_(x)
            x = torch.layer_norm(x, shape, *block.attention_norm, epsilon)
            inner = activate(block.up.multiply_few(x).t(), self.layout.activation).t()  # as in `Outliers`
            x = block.down.few_rows(inner).add_(block.outliers.add_to(x))
            x = torch.layer_norm(x, shape, *block.output_norm, epsilon)
        return x


def _are_few(rows: int) -> bool:
    """Return whether FBGEMM multiplies so many rows, which need no rounding up."""
    return rows <= FBGEMM_ROWS and can_multiply_few_rows()


_networks: weakref.WeakValueDictionary[int, Int8Network] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def flatten_int8(
    model: Any,
    layout: Layout,
    tokenize: Callable[[Sequence[str]], list[list[int]]],
    calibration: Calibration | None = None,
) -> Int8Transformer:
    """Return the 8-bit form of a module that `flat_layout.recognise` has recognised.

    Args:
        model: the module.
        layout: its layout.
        tokenize: makes token ids of texts.
        calibration: the ranges of its activations; ones of other weights are not used.
    """
    tensors, words = dict(model.named_parameters()), model.get_input_embeddings()
    modules: list[torch.nn.Module] = list(model.get_submodule(layout.architecture.blocks))
    stamp = stamp_network(model, layout)
    if calibration is not None and not is_calibrated_for(calibration, stamp):
        calibration = None
    with _lock:
        network = _networks.get(id(modules[0]))
    is_same = network is not None and network.owner is not None and network.owner() is modules[0]
    if network is None or not is_same or network.stamp[: len(stamp)] != stamp or network.calibration is not calibration:
        blocks = quantise_blocks(flatten(model, layout, torch.float32), tensors, tokenize, calibration)
        network = Int8Network(tuple(blocks), weakref.ref(modules[0]), stamp, calibration)
        with _lock:
            _networks[id(modules[0])] = network
    return Int8Transformer(layout, tensors, words, network)


def stamp_network(model: Any, layout: Layout) -> list[Any]:
    """Return values that change when the weights of a recognised module do: those of the embeddings, then of each block."""
    modules = list(model.get_submodule(layout.architecture.blocks))
    return [stamp_weights(model.embeddings), *(stamp_weights(module) for module in modules)]


def is_calibrated_for(calibration: Calibration, stamp: Sequence[Any]) -> bool:
    """Return whether ranges belong to the weights that `stamp_network` describes, or to a deeper network with them."""
    return calibration.stamp is None or calibration.stamp[: len(stamp)] == stamp


def quantise_blocks(
    flat: FlatTransformer,
    tensors: Tensors,
    tokenize: Callable[[Sequence[str]], list[list[int]]],
    calibration: Calibration | None = None,
) -> list[Int8Block]:
    """Return the blocks of a float32 network in 8 bits.

    Args:
        flat: the network.
        tensors: its tensors, with the names of transformers.
        tokenize: makes token ids of texts, which give the ranges without a calibration.
        calibration: the ranges of its activations.
    """
    if calibration is None:
        ranges, margins = int8_ranges.measure_without_data(flat, tokenize), UNCALIBRATED
    else:
        ranges, margins = list(calibration.blocks[: flat.layout.depth]), CALIBRATED
    return [_quantise_block(tensors, flat.layout, number, own, margins) for number, own in enumerate(ranges)]


def _quantise_block(tensors: Tensors, layout: Layout, number: int, ranges: BlockRanges, margins: Margins) -> Int8Block:
    names = layout.name_block(number)
    layers = {field: read_layer(tensors, name) for field, name in names.items()}
    scale = (layout.width // layout.heads) ** -0.5
    query, key, value = (layers[field] for field in ("query", "key", "value"))
    weight = torch.cat([query[0] * scale, key[0], value[0]])
    bias = torch.cat([query[1] * scale, key[1], value[1]])
    low, high = ranges.down
    count = min(OUTLIERS, len(high) // 4)
    order = torch.maximum(high, -low).argsort(descending=True)
    outliers, others = order[:count], order[count:].sort().values
    bottom = min(0.0, float(low[others].min())) * margins.inner
    step = max(float(high[others].max()) * margins.inner - bottom, 1e-6) / 255
    zero = round(-bottom / step)
    up, down = layers["up"], layers["down"]
    return Int8Block(
        _quantise(weight, bias, ranges.qkv, margins.outer),
        _quantise(*layers["attention_output"], ranges.attention_output, margins.outer),
        _quantise(
            up[0][others], up[1][others], ranges.up, margins.outer, activation=layout.activation, output=(step, zero)
        ),
        Int8Linear(down[0][:, others], down[1], step, zero=zero),
        Outliers((up[0][outliers], up[1][outliers]), down[0][:, outliers].contiguous(), layout.activation),
        layers["attention_norm"],
        layers["output_norm"],
    )


def _quantise(
    weight: torch.Tensor,
    bias: torch.Tensor,
    span: Range,
    margin: float,
    *,
    activation: str = "none",
    output: tuple[float, int] | None = None,
) -> QuantisedLayer:
    """Return a layer for inputs in the range `span`, smoothed and centred."""
    low, high = span
    middle, half = (low + high) / 2, ((high - low) / 2).clamp(min=1e-6) * margin
    smooth = half**SMOOTHING / weight.abs().amax(0).clamp(min=1e-6) ** (1 - SMOOTHING)
    step = float((half / smooth).max()) / 127
    linear = Int8Linear(weight * smooth, bias + weight @ middle, step, activation=activation, output=output)
    return QuantisedLayer(linear, 1 / smooth, -middle / smooth)

"""`FlatTransformer`: the forward pass of BERT and its relatives without modules inside, for inference on a CPU.

Query, key and value are one product, the activation and the residual sum are computed inside the products, and nothing is
masked where nothing is padded. Blocks are packed once for each precision, and networks of different depth share them.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F

from zoo.ops.attention import attend
from zoo.ops.inference import stamp_weights
from zoo.ops.packed_linear import PackedLinear
from zoo.text import flat_layout
from zoo.text.flat_layout import Layout

Tensors = Mapping[str, torch.Tensor]
MAX_DISTANCE = 128  # of MPNet's relative positions


@dataclass(frozen=True, eq=False)
class PackedBlock:
    """The packed weights of one block, in one precision.

    Attributes:
        qkv: query, key and value in one layer; the query is scaled by 1/√d already.
        attention_output, up, down: the other linear layers. `up` has the activation.
        attention_norm, output_norm: weight and bias of the layer norms.
        owner: the module that they were made of, while it exists.
        stamp: describes the weights that they were made of.
    """

    qkv: PackedLinear
    attention_output: PackedLinear
    up: PackedLinear
    down: PackedLinear
    attention_norm: tuple[torch.Tensor, torch.Tensor]
    output_norm: tuple[torch.Tensor, torch.Tensor]
    owner: weakref.ref[torch.nn.Module] | None = None
    stamp: Any = None

    @property
    def bytes(self) -> int:
        """Bytes of the packed weights."""
        return sum(layer.bytes for layer in (self.qkv, self.attention_output, self.up, self.down))


@dataclass(frozen=True)
class States:
    """The result of a forward pass, under the name that it has in transformers.

    Attributes:
        last_hidden_state: (batch, tokens, width).
    """

    last_hidden_state: torch.Tensor


def pack_block(
    tensors: Tensors, layout: Layout, number: int, dtype: torch.dtype, owner: torch.nn.Module | None = None
) -> PackedBlock:
    """Pack block `number` of a network, which counts from 0. `owner` is the module that holds its weights, if any."""
    names = layout.name_block(number)

    def read(field: str) -> tuple[torch.Tensor, torch.Tensor]:
        return read_layer(tensors, names[field])

    def pack(field: str, activation: str = "none") -> PackedLinear:
        weight, bias = read(field)
        return PackedLinear(weight.to(dtype), bias.to(dtype), activation)

    scale = (layout.width // layout.heads) ** -0.5
    sides = [read(field) for field in ("query", "key", "value")]
    sides[0] = (sides[0][0] * scale, sides[0][1] * scale)
    weights, biases = (torch.cat([side[i] for side in sides]).to(dtype) for i in range(2))
    norms = [tuple(part.to(dtype) for part in read(field)) for field in ("attention_norm", "output_norm")]
    return PackedBlock(
        PackedLinear(weights, biases),
        pack("attention_output"),
        pack("up", layout.activation),
        pack("down"),
        norms[0],  # type: ignore[arg-type]
        norms[1],  # type: ignore[arg-type]
        None if owner is None else weakref.ref(owner),
        None if owner is None else stamp_weights(owner),
    )


def read_layer(tensors: Tensors, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weight and the bias of a layer."""
    return tensors[f"{name}.weight"].detach(), tensors[f"{name}.bias"].detach()


class FlatTransformer(torch.nn.Module):
    """Computes the last hidden states of a recognised Transformer. Holds no parameters of its own.

    Args:
        layout: its shape.
        tensors: float32 on the CPU, with the names of transformers; all but the word embeddings.
        words: token ids to embeddings; it is shared, not copied.
        blocks: packed blocks, from the first one, in `dtype`.
        dtype: float32 or bfloat16. Embeddings are always summed in float32.
    """

    def __init__(
        self, layout: Layout, tensors: Tensors, words: Any, blocks: Sequence[PackedBlock], dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.layout, self.blocks, self.dtype = layout, tuple(blocks), dtype
        self._words = (words,)  # in a tuple, so that `eval` and `to` leave the owner's embeddings as they are
        positions = tensors[flat_layout.POSITIONS].detach()
        self.positions = positions
        if layout.architecture.has_types:
            self.positions = positions + tensors[flat_layout.TYPES].detach()[0]
        self.norm_weight, self.norm_bias = read_layer(tensors, flat_layout.NORM)
        self.projection: PackedLinear | None = None
        if layout.is_projected:
            weight, bias = read_layer(tensors, flat_layout.PROJECTION)
            self.projection = PackedLinear(weight, bias)
        has_bias = layout.architecture.has_relative_bias
        self.relative_bias = tensors[flat_layout.RELATIVE_BIAS].detach() if has_bias else None

    @property
    def parts(self) -> dict[int, int]:
        """Bytes of the packed blocks, by the id of the block."""
        return {id(block): block.bytes for block in self.blocks}

    def __deepcopy__(self, memo: dict[int, Any]) -> FlatTransformer:
        return self  # nothing in it ever changes

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> States:
        """Compute the states of token ids (batch, tokens). `attention_mask` is 1 for the tokens that others see."""
        if attention_mask is not None and bool(attention_mask.all()):
            attention_mask = None
        batch, length = input_ids.shape
        rows = batch * length
        x = self.embed(input_ids).view(rows, -1)
        tokens = length
        if missing := self.choose_rows(rows) - rows:
            x = F.pad(x, (0, 0, 0, missing))
            if batch == 1 and attention_mask is None and self.relative_bias is None:
                tokens += missing  # the rows that are added are tokens that no other sees, and need no copies
        bias = _hide_end(length, tokens, self.dtype) if tokens > length else self.make_bias(attention_mask, length)
        return States(self.run_blocks(x, batch, tokens, bias)[:rows].view(batch, length, -1))

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the embeddings (batch, tokens, width) in `dtype` that enter the first block."""
        x = self._words[0](ids) + self._find_positions(ids)
        x = torch.layer_norm(x, (x.shape[-1],), self.norm_weight, self.norm_bias, self.layout.epsilon)
        return (x if self.projection is None else self.projection(x)).to(self.dtype)

    def _find_positions(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the rows of the position table. RoBERTa and its relatives skip padding tokens, wherever they stand."""
        padding = self.layout.padding
        if padding is None:
            return self.positions[: ids.shape[1]]
        is_text = ids != padding
        return F.embedding(is_text.cumsum(1) * is_text + padding, self.positions)

    def make_bias(self, mask: torch.Tensor | None, length: int) -> torch.Tensor | None:
        """Return what is added to the scores of attention, broadcastable to (batch, heads, tokens, tokens); None for nothing."""
        bias = None
        if mask is not None:
            bias = torch.zeros(mask.shape, dtype=self.dtype).masked_fill_(mask == 0, torch.finfo(self.dtype).min)
            bias = bias[:, None, None, :]
        if self.relative_bias is None:
            return bias
        relative = F.embedding(find_buckets(length), self.relative_bias).permute(2, 0, 1).to(self.dtype)
        return relative.unsqueeze(0) if bias is None else relative + bias

    def choose_rows(self, rows: int) -> int:
        """Return the number of rows to compute for so many tokens."""
        return round_up(rows)

    def run_blocks(self, x: torch.Tensor, batch: int, length: int, bias: torch.Tensor | None) -> torch.Tensor:
        """Return the states (batch · tokens, width) after the last block."""
        for block in self.blocks:
            x = self._run_block(block, x, batch, length, bias)
        return x

    def _run_block(
        self, block: PackedBlock, x: torch.Tensor, batch: int, length: int, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the output (batch · tokens, width) of a block."""
        shape, epsilon = (self.layout.width,), self.layout.epsilon
        attended = attend(block.qkv(x), batch, length, self.layout.heads, bias)
        x = torch.layer_norm(block.attention_output.add_to(attended, x), shape, *block.attention_norm, epsilon)
        return torch.layer_norm(block.down.add_to(block.up(x), x), shape, *block.output_norm, epsilon)


@lru_cache(256)
def _hide_end(length: int, tokens: int, dtype: torch.dtype) -> torch.Tensor:
    """Return what is added to the scores of attention, (1, 1, 1, tokens), to hide the tokens from `length` on."""
    with torch.inference_mode(False):
        bias = torch.zeros(1, 1, 1, tokens, dtype=dtype)
        bias[..., length:] = torch.finfo(dtype).min
        return bias


def round_up(rows: int) -> int:
    """Return a number of rows that repeats: oneDNN compiles kernels for each, in 3 ms, and they are slow if seldom used."""
    step = 8 if rows <= 64 else 32 if rows <= 512 else 64
    return -(-rows // step) * step


def find_buckets(length: int) -> torch.Tensor:
    """Return MPNet's bucket (length, length) of the distance between each two tokens, of 32 buckets."""
    half, exact = 16, 8
    places = torch.arange(length)
    distance = places[:, None] - places[None, :]  # positive for earlier keys
    far = distance.abs()
    large = exact + (torch.log(far.float() / exact) / math.log(MAX_DISTANCE / exact) * (half - exact)).long()
    buckets = torch.where(far < exact, far, large.clamp(max=half - 1))
    return buckets + (distance < 0).long() * half


_packed: weakref.WeakValueDictionary[tuple[int, torch.dtype], PackedBlock] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def flatten(model: Any, layout: Layout, dtype: torch.dtype) -> FlatTransformer:
    """Return the flat form of a module that `flat_layout.recognise` has recognised.

    Its blocks are packed if no other flat form holds them at their present weights.
    """
    tensors = dict(model.named_parameters())
    blocks = []
    modules: list[torch.nn.Module] = list(model.get_submodule(layout.architecture.blocks))
    for number, module in enumerate(modules):
        with _lock:
            block = _packed.get((id(module), dtype))
        if block is None or block.owner is None or block.owner() is not module or block.stamp != stamp_weights(module):
            block = pack_block(tensors, layout, number, dtype, module)
            with _lock:
                _packed[id(module), dtype] = block
        blocks.append(block)
    return FlatTransformer(layout, tensors, model.get_input_embeddings(), blocks, dtype)

"""Trace known Transformers in their flat form for ONNX Runtime: attention is one of its own operations, without shapes and masks.

In 8 bits a product of few tokens is so short that the operations around it count, above all where nothing is in the cache.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch.onnx import symbolic_helper

from zoo.text import flat_layout
from zoo.text.flat_layout import Layout
from zoo.text.flat_transformer import States, find_buckets


class MultiHeadAttention(torch.autograd.Function):
    """The operation `com.microsoft.MultiHeadAttention` of ONNX Runtime.

    The arguments are query, key and value (batch, tokens, width), a mask (batch, tokens) int32, which is 1 for the keys that are
    seen, a bias (1, heads, tokens, tokens) or None, and the number of heads. It returns (batch, tokens, width).
    """

    @staticmethod
    def forward(
        _context: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor,
        bias: torch.Tensor | None,
        heads: int,
    ) -> torch.Tensor:
        batch, tokens, width = query.shape
        shape = (batch, tokens, heads, width // heads)
        query, key, value = (side.view(shape).transpose(1, 2) for side in (query, key, value))
        hidden = torch.zeros(mask.shape).masked_fill(mask == 0, torch.finfo(torch.float32).min)[:, None, None]
        hidden = hidden if bias is None else hidden + bias
        return F.scaled_dot_product_attention(query, key, value, attn_mask=hidden).transpose(1, 2).flatten(2)

    @staticmethod
    def symbolic(graph: Any, query: Any, key: Any, value: Any, mask: Any, bias: Any, heads: int) -> Any:
        # the input that is left out is a bias of query, key and value
        nothing = symbolic_helper._optional_input_placeholder_tensor(graph)  # type: ignore[no-untyped-call]
        inputs = [query, key, value, nothing, mask]
        inputs += [] if symbolic_helper._is_none(bias) else [bias]
        return graph.op("com.microsoft::MultiHeadAttention", *inputs, num_heads_i=heads).setType(query.type())


class FlatGraph(torch.nn.Module):
    """Computes the last hidden states of a Transformer with its own layers, which may have been replaced.

    Args:
        model: a copy of a module of transformers that `flat_layout` has recognised.
        layout: its shape.
    """

    positions: torch.Tensor

    def __init__(self, model: torch.nn.Module, layout: Layout) -> None:
        super().__init__()
        self.model, self.layout = model, layout
        tensors = dict(model.named_parameters())
        positions = tensors[flat_layout.POSITIONS].detach()
        if layout.architecture.has_types:
            positions = positions + tensors[flat_layout.TYPES].detach()[0]
        self.register_buffer("positions", positions)
        self.bias = tensors[flat_layout.RELATIVE_BIAS].detach() if layout.architecture.has_relative_bias else None

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> States:
        """Compute the states of token ids (batch, tokens). `attention_mask` is 1 for the tokens that others see."""
        states, mask = self._embed(input_ids), attention_mask.to(torch.int32)
        bias = None if self.bias is None else F.embedding(find_buckets(input_ids.shape[1]), self.bias)
        bias = None if bias is None else bias.permute(2, 0, 1).unsqueeze(0)
        for number in range(self.layout.depth):
            states = self._run_block(number, states, mask, bias)
        return States(states)

    def _embed(self, ids: torch.Tensor) -> torch.Tensor:
        words: Any = self.model.get_input_embeddings()  # type: ignore[operator]
        states: torch.Tensor = self._find(flat_layout.NORM)(words(ids) + self._find_positions(ids))
        return self._find(flat_layout.PROJECTION)(states) if self.layout.is_projected else states

    def _find_positions(self, ids: torch.Tensor) -> torch.Tensor:
        padding = self.layout.padding
        if padding is None:
            return self.positions[: ids.shape[1]]
        is_text = (ids != padding).long()
        return F.embedding(is_text.cumsum(1) * is_text + padding, self.positions)

    def _run_block(
        self, number: int, states: torch.Tensor, mask: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        layers = {field: self._find(name) for field, name in self.layout.name_block(number).items()}
        query, key, value = (layers[name](states) for name in ("query", "key", "value"))
        attend: Any = MultiHeadAttention.apply
        attended = attend(query, key, value, mask, bias, self.layout.heads)
        states = layers["attention_norm"](layers["attention_output"](attended) + states)
        result: torch.Tensor = layers["output_norm"](layers["down"](self._activate(layers["up"](states))) + states)
        return result

    def _activate(self, values: torch.Tensor) -> torch.Tensor:
        if self.layout.activation == "relu":
            return F.relu(values)
        return F.gelu(values, approximate="tanh" if self.layout.activation == "gelu_tanh" else "none")

    def _find(self, name: str) -> Any:
        return self.model.get_submodule(name)


def flatten_networks(twin: torch.nn.Module, original: torch.nn.Module) -> None:
    """Replace the Transformers of `twin` that are known by their flat form, in place.

    They are recognised in `original`, of which `twin` is a copy by `tracing.copy_module`.
    """
    for name, part in list(original.named_modules()):
        layout = flat_layout.recognise(part) if name and hasattr(part, "config") else None
        if layout is not None:
            parent, _, last = name.rpartition(".")
            setattr(twin.get_submodule(parent), last, FlatGraph(twin.get_submodule(name), layout))

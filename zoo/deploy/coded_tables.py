"""Coded token tables in a graph: codes stay codes, and rows that are kept exact are found without a search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from zoo.ops import tables
from zoo.text.coded_table import CodedEmbedding


class GraphTable(torch.nn.Module):
    """A `CodedEmbedding` of operations that ONNX has.

    `CodedEmbedding` finds kept and finer rows by a binary search, for which ONNX has no operation. Here, each row of the table
    has the number of its kept row, or 0.
    """

    def __init__(self, table: CodedEmbedding) -> None:
        super().__init__()
        self.facts, parts = table.facts, {name: part.detach() for name, part in table.parts.items()}
        for name in ("codes", "scales", "words", "finer_codes", "finer_scales"):
            if name in parts:
                self.register_buffer(name, parts[name])
        self.register_buffer("kept_rows", _prepend_zeros(parts["kept_rows"]))
        self.register_buffer("kept_slots", self._number_rows(parts["kept_ids"]))
        self.has_finer = "finer_ids" in parts
        if self.has_finer:
            self.register_buffer("finer_slots", self._number_rows(parts["finer_ids"]))
            self.register_buffer("finer_codes", _prepend_zeros(parts["finer_codes"]))
            self.register_buffer("finer_scales", _prepend_zeros(parts["finer_scales"]))

    def _number_rows(self, ids: torch.Tensor) -> torch.Tensor:
        """Return for each row of the table its place among `ids`, counted from 1, or 0."""
        slots = torch.zeros(self.facts.rows, dtype=torch.uint8 if len(ids) < 256 else torch.int32)
        slots[ids] = torch.arange(1, len(ids) + 1, dtype=slots.dtype)
        return slots

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the rows (…, dim) float32 of token ids (…)."""
        buffers: Mapping[str, Any] = dict(self.named_buffers())
        flat, dim = ids.reshape(-1), self.facts.dim
        nothing = {"kept_ids": torch.zeros(0, dtype=torch.int64), "kept_rows": buffers["kept_rows"]}
        coded = {name: buffers[name] for name in ("codes", "scales", "words") if name in buffers}
        rows = tables.decode({**coded, **nothing}, self.facts.codec, flat, dim)
        if self.has_finer:
            slots = buffers["finer_slots"][flat].long()
            finer = {"codes": buffers["finer_codes"], "scales": buffers["finer_scales"]}
            rows = torch.where(slots[:, None] > 0, tables.decode({**finer, **nothing}, "int8", slots, dim), rows)
        slots = buffers["kept_slots"][flat].long()
        rows = torch.where(slots[:, None] > 0, buffers["kept_rows"][slots], rows)
        return rows.view(*ids.shape, dim)


def _prepend_zeros(rows: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.zeros(1, rows.shape[1], dtype=rows.dtype), rows])


def replace_tables(module: torch.nn.Module) -> None:
    """Replace every coded table of a module in place."""
    for name, part in list(module.named_modules()):
        if isinstance(part, CodedEmbedding):
            parent, _, last = name.rpartition(".")
            setattr(module.get_submodule(parent), last, GraphTable(part))

"""Graphs in int8 for ONNX Runtime: weights by output channel, activations by batch, token tables by row.

`smoothing` prepares the linear layers first.
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from zoo.core.errors import ZooError
from zoo.deploy import smoothing, tracing
from zoo.graph import Graph

CODED_ROWS = 256
"""Fewest rows of a table that is coded."""
LARGEST_CODE = 127
_EXACT_NODE = re.compile(rf"/{smoothing.EXACT}(_\d+)?/")


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


def write_int8(
    module: torch.nn.Module,
    graph: Graph,
    path: Path,
    family: str,
    ranges: Mapping[str, smoothing.Range],
) -> None:
    """Write the int8 graph of a module from `tracing.copy_module` to `path`.

    Args:
        module, graph, path, family: as in `tracing.write_onnx`.
        ranges: as in `smoothing.smooth`.
    """
    _code_tables(module)
    with tempfile.TemporaryDirectory() as scratch:
        plain = Path(scratch) / "plain.onnx"
        tracing.write_onnx(smoothing.smooth(module, ranges), graph, plain, family)
        _quantise(plain, path)


def _code_tables(module: torch.nn.Module) -> None:
    """Replace large tables of floats in place."""
    for name, part in list(module.named_modules()):
        if type(part) is torch.nn.Embedding and part.num_embeddings >= CODED_ROWS:
            smoothing.replace(module, name, RowCodedEmbedding(part.weight.detach()))


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
        quantize_dynamic(
            plain,
            small,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["MatMul"],
            nodes_to_exclude=_list_exact_nodes(plain),
        )


def _list_exact_nodes(plain: Path) -> list[str]:
    """Return the names of the products of outliers. The exporter names a product after the modules that it is in.

    It numbers modules of the same name in one scope.
    """
    import onnx

    model = onnx.load(str(plain), load_external_data=False)
    return [node.name for node in model.graph.node if node.op_type == "MatMul" and _EXACT_NODE.search(node.name)]

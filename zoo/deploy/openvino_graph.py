"""Turn a graph of ONNX into one of OpenVINO, and quantise it to int8 with NNCF."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from zoo.core.errors import ZooError
from zoo.deploy import smoothing, tracing
from zoo.graph import Graph


def convert(source: Path, target: Path, graph: Graph, *, int8_rows: Sequence[Sequence[int]] | None = None) -> None:
    """Write the graph of `source` as `target` (.xml) and its weights as .bin beside it, in float32.

    Args:
        source: a graph of ONNX; for int8, one whose linear layers `smoothing` has prepared.
        target: the new file.
        graph: what the source holds.
        int8_rows: texts of token ids that calibrate int8, with weights by channel and activations in fixed ranges; None for
            float32.

    Raises ZooError if OpenVINO or NNCF is not installed.
    """
    try:
        import openvino
    except ImportError:
        raise ZooError("OpenVINO is not installed: pip install 'embedding-zoo[openvino]'") from None
    model = openvino.convert_model(str(source))
    if int8_rows is not None:
        model = _quantise(model, graph, int8_rows)
    openvino.save_model(model, str(target), compress_to_fp16=False)


def _quantise(model: Any, graph: Graph, rows: Sequence[Sequence[int]]) -> Any:
    try:
        import nncf
    except ImportError:
        raise ZooError("NNCF is not installed: pip install 'embedding-zoo[openvino]'") from None
    from nncf.quantization import advanced_parameters

    feeds = []
    for row in rows:
        arguments = [argument.numpy() for argument in tracing.pad(graph, [row])]
        feeds.append(dict(zip(tracing.list_inputs(graph), arguments, strict=True)))
    products = [op.get_friendly_name() for op in model.get_ops() if op.get_type_name() == "MatMul"]
    exact = [name for name in products if f"/{smoothing.EXACT}/" in name]
    is_smooth = advanced_parameters.AdvancedSmoothQuantParameters(matmul=-1)  # it was done before
    nncf.set_log_level(40)  # errors alone
    with redirect_stdout(StringIO()):  # its progress bars
        return nncf.quantize(
            model,
            nncf.Dataset(feeds),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(feeds),
            ignored_scope=nncf.IgnoredScope(names=exact),
            advanced_parameters=nncf.AdvancedQuantizationParameters(smooth_quant_alphas=is_smooth),
        )

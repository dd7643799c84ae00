"""Turn a graph of ONNX into one of OpenVINO, and quantise it to int8 with NNCF."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from zoo.core.errors import ZooError
from zoo.deploy import int8, tracing
from zoo.graph import Graph


def convert(source: Path, target: Path, graph: Graph, *, int8_texts: Sequence[str] | None = None) -> None:
    """Write the graph of `source` as `target` (.xml) and its weights as .bin beside it, in float32.

    Args:
        int8_texts: texts that calibrate int8, with weights by channel and activations in fixed ranges; None for float32.

    Raises ZooError if OpenVINO or NNCF is not installed, and for int8 of a graph that reads no texts.
    """
    if int8_texts is not None:
        int8.check(graph)
    try:
        import openvino
    except ImportError:
        raise ZooError("OpenVINO is not installed: pip install 'embedding-zoo[openvino]'") from None
    model = openvino.convert_model(str(source))
    if int8_texts is not None:
        model = _quantise(model, graph, int8_texts)
    openvino.save_model(model, str(target), compress_to_fp16=False)


def _quantise(model: Any, graph: Graph, texts: Sequence[str]) -> Any:
    try:
        import nncf
    except ImportError:
        raise ZooError("NNCF is not installed: pip install 'embedding-zoo[openvino]'") from None
    assert graph.reader is not None
    feeds = []
    for row in tracing.tokenize(graph.reader, list(texts)):
        arguments = [argument.numpy() for argument in tracing.pad(graph, [row])]
        feeds.append(dict(zip(tracing.list_inputs(graph), arguments, strict=True)))
    nncf.set_log_level(40)  # errors alone
    with redirect_stdout(StringIO()):  # its progress bars
        return nncf.quantize(model, nncf.Dataset(feeds), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(feeds))

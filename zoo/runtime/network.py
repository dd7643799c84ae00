"""`Network`: one graph, opened by ONNX Runtime or by OpenVINO."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import PackError

Array = npt.NDArray[Any]
SLOW_FUSIONS = ("SkipLayerNormFusion",)
"""Optimisations of ONNX Runtime that cost time on a CPU: there, a sum and a layer norm are faster than both in one operation."""


class Network:
    """A graph from an input's numbers to its outputs by name.

    Args:
        path: a file that ends in .onnx or .xml.
        threads: of one call; None for OMP_NUM_THREADS, or as many as the engine likes.
        precision: of the arithmetic in OpenVINO: fp32, bf16 or auto. ONNX Runtime computes as the graph says.
    """

    def __init__(self, path: Path, threads: int | None = None, precision: str = "fp32") -> None:
        count = threads or read_thread_count()
        open_graph = _open_onnx if path.suffix == ".onnx" else _open_openvino
        try:
            self._run = open_graph(path, count, precision)
        except ImportError as error:
            package = "onnxruntime" if path.suffix == ".onnx" else "openvino"
            raise PackError(f"{path.name} needs {package}, which is not installed: pip install {package}") from error
        except (RuntimeError, ValueError, OSError) as error:
            raise PackError(f"{path}: cannot be opened: {str(error).strip()[:200]}; copy the folder again") from None
        except Exception as error:  # ONNX Runtime has error classes of its own, without a public base
            if "onnxruntime" not in type(error).__module__:
                raise
            raise PackError(f"{path}: cannot be opened: {str(error).strip()[:200]}; copy the folder again") from None

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs by name. The names and dtypes of the inputs are those of the graph."""
        try:
            outputs: dict[str, Array] = self._run(inputs)
        except Exception as error:  # both engines raise classes of their own
            raise PackError(
                f"the graph failed: {str(error).strip()[:300]}; verify() says whether the folder is sound"
            ) from error
        return outputs


def read_thread_count() -> int:
    """Return the number of threads that OMP_NUM_THREADS asks for; 0 for all cores."""
    value = os.environ.get("OMP_NUM_THREADS", "")
    return int(value) if value.isdecimal() else 0


def _open_onnx(path: Path, threads: int, precision: str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=list(SLOW_FUSIONS)
    )
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(None, dict(inputs)), strict=True))


def _open_openvino(path: Path, threads: int, precision: str) -> Any:
    import openvino

    settings: dict[str, Any] = {"NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    if precision != "auto":
        settings["INFERENCE_PRECISION_HINT"] = {"fp32": "f32", "bf16": "bf16"}[precision]
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    names = [output.get_any_name() for output in compiled.outputs]

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        # A request of its own for each call: two threads must not share buffers.
        found = compiled.create_infer_request().infer(dict(inputs))
        return {name: np.array(found[place]) for place, name in enumerate(names)}

    return run

"""Encode with a folder that `zoo export --to onnx|openvino` or `zoo pack` wrote. Needs NumPy, ONNX Runtime and tokenizers alone.

The same files are published as the package `embedding-zoo-runtime`, whose module is `zoo_runtime`. So they import nothing of zoo.
"""

from .errors import PackError
from .model import Model, Prediction, Verification, open_model

__all__ = ["Model", "PackError", "Prediction", "Verification", "open_model"]

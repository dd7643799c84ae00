"""Conversions of a model as sources of vectors: an ONNX graph, and a folder of sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.core import faults
from zoo.core.errors import ZooError, first_line
from zoo.text.text_encoder import TextEncoder

OUTPUTS = ("vector", "sentence_embedding", "embedding", "embeddings")
"""Names of outputs with one vector for each text, the first choice first."""
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class OnnxGraph:
    """An ONNX graph from token ids to vectors, on the CPU.

    Args:
        path: the file. A tokenizer.json beside it or one folder above is used; otherwise that of the model.
        encoder: the model.

    Raises ZooError without onnxruntime, for a file that it does not open, and for a graph of another kind.
    """

    def __init__(self, path: str | Path, encoder: Any) -> None:
        path = Path(path)
        try:
            import onnxruntime
        except ModuleNotFoundError:
            raise ZooError("--onnx needs onnxruntime, which is not installed: pip install onnxruntime") from None
        self.name = str(path)
        try:
            self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # the library raises types of its own for files that are missing or damaged
            faults.refuse_full_memory(error, path)
            raise ZooError(f"--onnx {path}: cannot be opened: {first_line(error)}") from None
        self._inputs = [entry.name for entry in self._session.get_inputs()]
        unknown = [name for name in self._inputs if name not in INPUTS]
        if unknown or "input_ids" not in self._inputs:
            raise ZooError(
                f"--onnx {path}: its inputs are {', '.join(self._inputs)[:120]}; only {', '.join(INPUTS)} are supported"
            )
        self._output = self._find_output()
        self._tokenizer = self._open_tokenizer(path, encoder)

    def _find_output(self) -> str:
        outputs = self._session.get_outputs()
        whole = [entry.name for entry in outputs if len(entry.shape) == 2]
        named = [name for name in OUTPUTS if name in whole]
        if not whole:
            raise ZooError(
                f"--onnx {self.name}: gives vectors of tokens, not one vector for each text, so the pooling is missing; export "
                "the whole model, with pooling and later modules inside the graph"
            )
        return str((named or whole)[0])

    def _open_tokenizer(self, path: Path, encoder: Any) -> Any:
        from tokenizers import Tokenizer

        files = [folder / "tokenizer.json" for folder in (path.parent, path.parent.parent)]
        file = next((file for file in files if file.is_file()), None)
        if file is None:
            if not isinstance(encoder, TextEncoder):
                raise ZooError(f"--onnx {path}: has no tokenizer.json beside it, and the model has no tokenizer either")
            return encoder.backbone
        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises plain Exception
            raise ZooError(f"{file}: cannot be opened: {first_line(error)}") from None
        tokenizer.no_padding()
        if tokenizer.truncation is None and isinstance(encoder, TextEncoder):
            tokenizer.enable_truncation(encoder.backbone.max_length)
        return tokenizer

    def embed(self, inputs: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return the vectors (n, d) of texts, which are padded on the right to the longest one."""
        if hasattr(self._tokenizer, "encode_batch"):
            rows = [encoding.ids for encoding in self._tokenizer.encode_batch(list(inputs))]
        else:
            rows = self._tokenizer.tokenize(inputs)
        width = max(map(len, rows))
        mask = np.array([[1] * len(row) + [0] * (width - len(row)) for row in rows], np.int64)
        ids = np.array([[*row, *[0] * (width - len(row))] for row in rows], np.int64)
        values = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        try:
            (vectors,) = self._session.run([self._output], {name: values[name] for name in self._inputs})
        except Exception as error:  # for example for a graph without dynamic axes
            raise ZooError(f"--onnx {self.name}: does not run: {first_line(error)}") from None
        return np.asarray(vectors, np.float64)


class StockFolder:
    """A folder that stock sentence-transformers opens. Only safetensors are read, and no code of the folder runs.

    Args:
        folder: the folder.
        role: "query" or "document" for `encode_query` and `encode_document`; None for `encode`.
        adds_prompt: whether the library puts its own prompt before a text.
    """

    def __init__(self, folder: str | Path, role: str | None = None, *, adds_prompt: bool = True) -> None:
        import sentence_transformers

        from zoo.artefact import preflight
        from zoo.text.backbone import hide_progress_bars

        self.name, self.role, self.adds_prompt = str(folder), role, adds_prompt
        folder = Path(folder)
        if not folder.is_dir():
            raise ZooError(f"--folder {folder}: there is no such folder")
        preflight.check_sizes(folder, {})
        preflight.check(folder)
        try:
            with hide_progress_bars():
                self._model: Any = sentence_transformers.SentenceTransformer(
                    str(folder),
                    device="cpu",
                    trust_remote_code=False,
                    local_files_only=True,
                    token=False,
                    model_kwargs={"use_safetensors": True},
                )
        except Exception as error:  # the library raises many types
            faults.refuse_full_memory(error, folder)
            raise ZooError(
                f"--folder {folder}: does not open in sentence-transformers: {type(error).__name__}: {first_line(error)}"
            ) from None

    def embed(self, inputs: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return the vectors (n, d) of texts."""
        names = {"query": self._model.encode_query, "document": self._model.encode_document}
        encode = names.get(self.role or "", self._model.encode)
        options = {} if self.adds_prompt else {"prompt": ""}
        return np.asarray(encode(list(inputs), show_progress_bar=False, convert_to_numpy=True, **options), np.float64)

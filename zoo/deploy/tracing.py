"""Trace the module of a graph and write it as ONNX, with a dynamic batch and dynamic tokens."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout  # torch prints the whole graph if an operation has no counterpart
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer

from zoo.core import faults
from zoo.core.errors import ZooError, first_line
from zoo.deploy import coded_tables
from zoo.deploy.probe_texts import SENTENCES
from zoo.graph import Graph, TextReader
from zoo.ops.inference import evaluation_mode
from zoo.runtime import token_sets

OPSET = 18
LARGEST = 1_900_000_000
"""Bytes of the largest graph. A file of ONNX holds less than 2 GB."""
TRACED_TOKENS = (7, 5)
"""Tokens of the two texts that are traced. Different numbers leave padding to be masked."""
INPUTS = {"text": ("input_ids", "attention_mask"), "image": ("pixels",), "vector": ("vectors",)}


def list_inputs(graph: Graph) -> tuple[str, ...]:
    """Return the names of the arguments of a graph's modules."""
    return INPUTS[graph.modality] if graph.token_sets is None else (*INPUTS[graph.modality], "scored")


def copy_module(module: torch.nn.Module, name: str) -> torch.nn.Module:
    """Return a copy of a module for a graph: on the CPU, in float32, with attention of plain operations.

    Raises ZooError, which names the model, if the graph would not fit into one file.
    """
    size = sum(tensor.numel() * tensor.element_size() for tensor in (*module.parameters(), *module.buffers()))
    if size > LARGEST:
        raise ZooError(f"{name}: has {size / 1e9:.1f} GB of weights, and a file of ONNX holds less than 2 GB")
    twin = copy.deepcopy(module).cpu().eval()
    for part in twin.modules():
        config = getattr(part, "config", None)
        if isinstance(config, transformers.PreTrainedConfig):
            config._attn_implementation = "eager"  # the blocks of a cut backbone have a config of their own
            config.use_cache = False
    coded_tables.replace_tables(twin)
    return twin


def make_example(graph: Graph) -> tuple[torch.Tensor, ...]:
    """Return the arguments with which a module of the graph is traced: a batch of two inputs."""
    if graph.modality == "image":
        return (torch.zeros(2, graph.channels, graph.size, graph.size, dtype=torch.uint8),)
    if graph.modality == "vector":
        return (torch.zeros(2, graph.components),)
    assert graph.reader is not None  # graphs of texts have one
    rows = tokenize(graph.reader, [" ".join(SENTENCES)] * 2)
    return pad(graph, [row[:count] for row, count in zip(rows, TRACED_TOKENS, strict=True)])


def tokenize(reader: TextReader, texts: list[str]) -> list[list[int]]:
    """Return the token ids of texts, at least one for each text."""
    tokenizer = Tokenizer.from_str(reader.tokenizer)
    encodings = tokenizer.encode_batch(texts, add_special_tokens=reader.adds_special_tokens)
    return [encoding.ids or [reader.empty_id or reader.pad_id] for encoding in encodings]


def pad(graph: Graph, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, ...]:
    """Return the arguments of a graph of texts for rows of token ids of documents: (rows, longest row) int64 each."""
    assert graph.reader is not None
    longest = max(map(len, rows))
    ids = np.array([[*row, *[graph.reader.pad_id] * (longest - len(row))] for row in rows], np.int64)
    mask = np.array([[1] * len(row) + [0] * (longest - len(row)) for row in rows], np.int64)
    if graph.token_sets is None:
        return torch.from_numpy(ids), torch.from_numpy(mask)
    return tuple(map(torch.from_numpy, token_sets.mark_tokens(ids, mask, graph.token_sets, is_query=False)))


def write_onnx(module: torch.nn.Module, graph: Graph, path: Path, family: str) -> None:
    """Trace a module from `copy_module` and write it to `path`.

    Raises ZooError if an operation has no counterpart in ONNX.
    """
    inputs = list_inputs(graph)
    whole = {0: "batch", 1: "tokens"}
    axes = whole if graph.modality == "text" else {0: "batch"}
    dynamic = {name: whole if name == "tokens" else {0: "batch"} for name in graph.outputs}
    dynamic |= dict.fromkeys(inputs, axes)
    example = make_example(graph)
    with evaluation_mode(module), torch.no_grad(), warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")  # of values that a trace takes for constants; `verification` finds those
        try:
            exporter: Any = torch.onnx.export
            exporter(
                module,
                example,
                str(path),
                input_names=list(inputs),
                output_names=list(graph.outputs),
                dynamic_axes=dynamic,
                opset_version=OPSET,
                dynamo=False,  # the newer exporter needs onnxscript, and fixes the sizes of masks of transformers
            )
            outputs = module(*example)
            _fix_widths(path, outputs if isinstance(outputs, tuple) else (outputs,))
        except ImportError as error:
            raise ZooError(f"{first_line(error)}: pip install 'embedding-zoo[onnx]'") from None
        except Exception as error:  # torch raises many types
            faults.refuse_full_memory(error, "the trace of the model")
            raise ZooError(
                f"the family {family} cannot be exported as a graph: {type(error).__name__}: {first_line(error)[:200]}"
            ) from error


def _fix_widths(path: Path, outputs: Sequence[torch.Tensor]) -> None:
    """Give the outputs of a graph the sizes of their last dimension, which a trace leaves open."""
    import onnx

    model = onnx.load(str(path))
    for entry, output in zip(model.graph.output, outputs, strict=True):
        entry.type.tensor_type.shape.dim[-1].dim_value = output.shape[-1]
    onnx.save(model, str(path))


def run_module(module: torch.nn.Module, graph: Graph, texts: list[str]) -> np.ndarray[Any, Any]:
    """Return the vectors (n, dim) of texts by the module itself, batch by batch, in the order of the texts."""
    assert graph.reader is not None
    rows = tokenize(graph.reader, texts)
    order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
    vectors: dict[int, np.ndarray[Any, Any]] = {}
    with evaluation_mode(module), torch.inference_mode():
        for start in range(0, len(order), 16):
            places = order[start : start + 16]
            outputs = module(*pad(graph, [rows[place] for place in places]))
            batch = outputs[0] if isinstance(outputs, tuple) else outputs
            vectors |= zip(places, batch.numpy(), strict=True)
    return np.stack([vectors[place] for place in range(len(rows))])

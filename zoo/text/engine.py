"""Encode many texts: sort them by token length, batch them by a token budget, tokenise ahead of the model.

Padding is the largest waste of bulk encoding. So the texts of one window are sorted by their number of tokens, and a batch
takes as many as fit into a budget of padded tokens. Equal texts are encoded once. While the model runs, a thread tokenises the
next window, because fast tokenizers release the interpreter lock. A single window needs no thread. The output has the order of
the input.

`encode` may be called from several threads: what is shared between them never changes, or is behind a lock.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeGuard

import numpy as np
import torch

from zoo.core import hardware
from zoo.core.errors import ZooError
from zoo.core.inputs import check_texts, read_in_windows
from zoo.core.progress import Advance, show_progress_bar
from zoo.ops.inference import check_finite, list_modules, stamp_weights
from zoo.ops.int8_linear import can_multiply
from zoo.ops.packed_linear import pack_layer
from zoo.text import flat_layout
from zoo.text.conversions import CACHE
from zoo.text.flat_transformer import flatten
from zoo.text.int8_ranges import Calibration
from zoo.text.int8_transformer import flatten_int8

Array = np.ndarray[Any, Any]
Tokenize = Callable[[Sequence[str]], list[list[int]]]
Pad = Callable[[Sequence[Sequence[int]]], dict[str, torch.Tensor]]

WINDOW = 8192  # texts sorted together; a stream holds two windows
TOKENIZER_CALL = 512  # texts per tokenizer call: the tokenizer's own records take far more memory than the ids
BUDGET_THREAD = 768  # padded tokens per batch and thread of a CPU: more take memory, and are no faster
BUDGET_CPU = 2048  # of all threads: the activations stay in the processor's cache
BUDGET_ACCELERATOR = 32768
CHARACTERS_PER_TOKEN = 8  # more than running text has; a text that has more is tokenised whole

_tokenizer_lock = threading.Lock()  # a fast tokenizer fails if its truncation is set while another thread is inside it


class Engine:
    """Encodes texts with one module at one depth and width.

    Args:
        module: float32; takes the tensors that `pad` makes and returns (batch, dim).
        tokenize: texts to token ids with special tokens, truncated on the right at `max_length` tokens.
        pad: rows of ids to the module's tensors, each (batch, tokens).
        dim: components of a vector.
        max_length: tokens after which `tokenize` truncates.

    Attributes:
        calibration: the ranges of activations for int8; None for those of texts that zoo has.
    """

    calibration: Calibration | None = None

    def __init__(self, module: torch.nn.Module, tokenize: Tokenize, pad: Pad, dim: int, max_length: int) -> None:
        self.module, self.tokenize, self.pad = module, tokenize, pad
        self.dim, self.max_length = dim, max_length

    def encode(self, inputs: Iterable[str], *, show_progress: bool = False, precision: str = "fp32") -> Array:
        """Return vectors (n, dim) float32 in the order of `inputs`.

        At float32 the choice of batches changes a component by less than 1e-5. Raises ZooError for an input that is not a
        string, with its position, and for a single string.
        """
        texts, dtype = check_texts(inputs), self._resolve_dtype(precision)
        if isinstance(inputs, list | tuple) and len(inputs) == 1:  # one text needs no windows
            hardware.keep_large_blocks()
            return self._encode_ids(self._tokenize_window(list(texts))[0], dtype, lambda count: None)
        with show_progress_bar(len(inputs) if isinstance(inputs, Sized) else None, show_progress) as advance:
            blocks = self._encode_windows(texts, dtype, advance)
            if not isinstance(inputs, list | tuple):
                return np.concatenate(list(blocks))
            vectors, row = np.empty((len(inputs), self.dim), dtype=np.float32), 0
            for block in blocks:
                vectors[row : row + len(block)] = block
                row += len(block)
            return vectors

    def stream(self, inputs: Iterable[str], *, precision: str = "fp32") -> Iterator[Array]:
        """Yield the vectors of `encode` in blocks of at most WINDOW rows; one empty block for no input.

        Memory does not grow with the number of inputs. The caller's thread reads the inputs of the next block before a block
        is yielded.
        """
        return self._encode_windows(check_texts(inputs), self._resolve_dtype(precision), lambda count: None)

    def _resolve_dtype(self, precision: str) -> torch.dtype:
        if precision == "int8" and self.can_use_int8():
            return torch.int8
        if precision == "int8":
            raise ZooError(
                "precision: 'int8' is not one of auto, fp32, bf16, fp16 here: it needs a BERT-like text model on a CPU with VNNI "
                "instructions; use auto"
            )
        return hardware.resolve_precision(precision, self.device)

    def can_use_int8(self) -> bool:
        """Whether the network and the processor allow 8-bit products."""
        return self.device.type == "cpu" and can_multiply() and any(True for _ in find_networks(self.module))

    @property
    def device(self) -> torch.device:
        """The device that encodes."""
        return next(self.module.parameters()).device

    def _encode_windows(self, texts: Iterator[str], dtype: torch.dtype, advance: Advance) -> Iterator[Array]:
        hardware.keep_large_blocks()
        windows = read_in_windows(texts, WINDOW)
        window = next(windows)
        next_window = next(windows, None)
        if next_window is None:
            yield self._encode_window(*self._tokenize_window(window), dtype, advance)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="tokenise") as pool:
            tokenised = self._tokenize_window(window)
            while next_window is not None:
                next_tokenised = pool.submit(self._tokenize_window, next_window)
                yield self._encode_window(*tokenised, dtype, advance)
                next_window, tokenised = next(windows, None), next_tokenised.result()
            yield self._encode_window(*tokenised, dtype, advance)

    def _encode_window(
        self, ids: Sequence[list[int]], places: list[int], dtype: torch.dtype, advance: Advance
    ) -> Array:
        vectors = self._encode_ids(ids, dtype, advance)
        advance(len(places) - len(ids))
        return vectors if len(ids) == len(places) else vectors[places]

    def _tokenize_window(self, window: Sequence[str]) -> tuple[list[list[int]], list[int]]:
        """Return token ids of the distinct texts, and for each text of the window its place among them."""
        rank: dict[str, int] = {}
        places = [rank.setdefault(text, len(rank)) for text in window]
        # a lone surrogate cannot be encoded as UTF-8, which the tokenizers library needs
        texts = [text if text.isascii() else text.encode("utf-8", "replace").decode() for text in rank]
        ids: list[list[int]] = []
        with _tokenizer_lock:
            for start in range(0, len(texts), TOKENIZER_CALL):
                ids += self._tokenize_beginnings(texts[start : start + TOKENIZER_CALL])
        return ids, places

    def _tokenize_beginnings(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids that `tokenize` gives for whole texts, without reading far beyond the token limit.

        If the beginning of a text already fills the limit, its rest cannot change the ids. Otherwise the whole text is
        tokenised.
        """
        beginnings = [take_beginning(text, self.max_length * CHARACTERS_PER_TOKEN) for text in texts]
        ids = self.tokenize(beginnings)
        unfilled = [i for i, row in enumerate(ids) if len(row) < self.max_length and len(beginnings[i]) < len(texts[i])]
        if unfilled:
            for i, row in zip(unfilled, self.tokenize([texts[i] for i in unfilled]), strict=True):
                ids[i] = row
        return ids

    def _encode_ids(self, ids: Sequence[list[int]], dtype: torch.dtype, advance: Advance) -> Array:
        vectors = np.empty((len(ids), self.dim), dtype=np.float32)
        for places, outputs in self._run_batches(ids, dtype, advance):
            vectors[places] = outputs
        check_finite(vectors)
        return vectors

    def _run_batches(
        self, ids: Sequence[list[int]], dtype: torch.dtype, advance: Advance
    ) -> Iterator[tuple[list[int], Array]]:
        """Yield the positions of the texts of a batch, and the module's float32 outputs for them."""
        module, device = self._convert_module(dtype), self.device
        budget = find_cpu_budget() if device.type == "cpu" else BUDGET_ACCELERATOR
        for places in plan_batches([len(row) for row in ids], budget):
            with torch.inference_mode():
                batch = {name: values.to(device) for name, values in self.pad([ids[i] for i in places]).items()}
                outputs = module(batch).float().cpu().numpy()
            yield places, outputs
            advance(len(places))

    def _convert_module(self, dtype: torch.dtype) -> torch.nn.Module:
        """Return a copy of the module in `dtype` and in evaluation mode, made once and again after the weights were trained.

        Autocast would convert the weights at every batch instead. At float32 the copy shares all weights; on a CPU, linear
        layers hold theirs a second time, in the order that is multiplied fastest, and a Transformer that is recognised is
        computed by `FlatTransformer`. Buffers stay float32, because rotary frequencies need the precision.
        """
        parts = list_modules(self.module)
        is_cpu = self.device.type == "cpu"
        is_training = any(part.training for part in parts)
        if dtype == torch.float32 and not is_training and not (is_cpu and any(map(_is_linear, parts))):
            return self.module
        stamp = stamp_weights(self.module)
        module: torch.nn.Module = CACHE.get(self, dtype, stamp, lambda: self._convert(dtype, is_cpu))
        return module

    def _convert(self, dtype: torch.dtype, is_cpu: bool) -> tuple[torch.nn.Module, dict[int, int]]:
        return convert(self.module, dtype, is_cpu=is_cpu, tokenize=self._tokenize_locked, calibration=self.calibration)

    def _tokenize_locked(self, texts: Sequence[str]) -> list[list[int]]:
        with _tokenizer_lock:
            return self.tokenize(texts)


def find_networks(module: torch.nn.Module) -> Iterator[tuple[torch.nn.Module, flat_layout.Layout]]:
    """Yield the Transformers inside `module` that are recognised, with their layouts."""
    for part in module.modules():
        layout = flat_layout.recognise(part) if hasattr(part, "config") else None
        if layout is not None:
            yield part, layout


def convert(
    module: torch.nn.Module,
    dtype: torch.dtype,
    *,
    is_cpu: bool,
    tokenize: Tokenize | None = None,
    calibration: Calibration | None = None,
) -> tuple[torch.nn.Module, dict[int, int]]:
    """Return a copy of `module` for inference, and the bytes of each tensor that it does not share with the original.

    With int8, products of recognised Transformers are of 8-bit integers, and everything else is float32. That needs `tokenize`,
    and is nearer to the exact vectors with a `calibration`.
    """
    # deepcopy takes these as copied already, so that no second set of float32 weights exists in between
    memo: dict[int, Any] = {}
    if is_cpu and dtype in (torch.float32, torch.bfloat16, torch.int8):
        for part, layout in find_networks(module):
            if dtype != torch.int8:
                memo[id(part)] = flatten(part, layout, dtype)
                continue
            assert tokenize is not None  # engines pass it
            memo[id(part)] = flatten_int8(part, layout, tokenize, calibration)
    dtype = torch.float32 if dtype == torch.int8 else dtype
    sizes = {number: size for flat in memo.values() for number, size in flat.parts.items()}
    flat_parameters = {id(p) for part in module.modules() if id(part) in memo for p in part.parameters()}
    for parameter in module.parameters():
        if dtype == torch.float32 or id(parameter) in flat_parameters:
            memo[id(parameter)] = parameter
        else:
            memo[id(parameter)] = torch.nn.Parameter(parameter.detach().to(dtype), requires_grad=False)
            sizes[id(memo[id(parameter)])] = parameter.numel() * dtype.itemsize
    twin = copy.deepcopy(module, memo).eval()
    if is_cpu:
        for part in filter(_is_linear, twin.modules()):
            packed = pack_layer(part)
            part.forward = packed  # type: ignore[assignment]
            sizes[id(packed)] = packed.bytes
    return twin, sizes


def _is_linear(part: torch.nn.Module) -> TypeGuard[torch.nn.Linear]:
    return type(part) is torch.nn.Linear


def find_cpu_budget() -> int:
    """Return the most padded tokens of a batch on a CPU, which depend on the number of threads."""
    return min(BUDGET_CPU, BUDGET_THREAD * torch.get_num_threads())


def plan_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield the positions of texts in batches of similar length, the longest first.

    The padded size of a batch is at most `budget` tokens; a longer text is a batch of its own. If a batch has used a quarter of
    the budget, it ends before a text that is more than a twentieth shorter than its first one. Otherwise a few texts of mixed
    length would be mostly padding.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    start = 0
    while start < len(order):
        longest = max(1, lengths[order[start]])
        end = min(start + max(1, budget // longest), len(order))
        quarter = start + max(1, budget // (4 * longest))
        end = next((i for i in range(quarter, end) if lengths[order[i]] < 0.95 * longest), end)
        yield order[start:end]
        start = end


def take_beginning(text: str, limit: int) -> str:
    """Return `text` up to a space before character `limit`, or whole if it has no such space.

    The space must follow a word. Tokenizers split there before anything else, so the tokens of the beginning are the first
    tokens of `text`. Inside a run of white space they are not, because vocabularies hold whole runs.
    """
    end = text.rfind(" ", 0, limit) if len(text) > limit else -1
    while end > 0:
        if not text[end - 1].isspace():
            return text[:end]
        end = text.rfind(" ", 0, end)
    return text

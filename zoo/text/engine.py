"""Bulk encoding of texts: sorted by token length, batched by a token budget, tokenised ahead of the model.

Padding is what bulk encoding wastes most on, so the texts of one window are sorted by their number of tokens and a batch
takes as many as fit into a budget of padded tokens; equal texts are encoded once. The next window is tokenised in a thread
(fast tokenizers release the interpreter lock) while the model runs. The order of the output is the order of the input.
"""

from __future__ import annotations

import copy
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeGuard

from zoo.core import atomic_files, hardware
from zoo.core.errors import ZooError
from zoo.core.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import torch

    Tokenize = Callable[[Sequence[str]], list[list[int]]]
    Pad = Callable[[Sequence[Sequence[int]]], dict[str, torch.Tensor]]
    Advance = Callable[[int], object]
else:
    np, torch = lazy("numpy"), lazy("torch")

WINDOW = 8192  # texts sorted together; a stream holds two windows
SLICE = 512  # texts tokenised in one call: a tokenizer's own records take far more memory than the ids
BUDGET_CPU = 2048  # padded tokens a batch: on a CPU, activations that stay in its cache
BUDGET_ACCELERATOR = 32768
CHARACTERS = 8  # per token of the limit: more than running text has, and what has more is tokenised whole

_one_at_a_time = threading.Lock()  # a fast tokenizer fails if its truncation is set while another thread is inside it


class Engine:
    """Encodes texts with one module at one cut.

    Args:
        module: float32; takes the tensors that `pad` makes, puts out (batch, dim).
        tokenize: texts to token ids with special tokens, cut on the right at `max_length` tokens.
        pad: rows of ids to the module's tensors, each (batch, tokens).
        dim: components of a vector.
        max_length: tokens after which `tokenize` cuts.
    """

    def __init__(self, module: torch.nn.Module, tokenize: Tokenize, pad: Pad, dim: int, max_length: int) -> None:
        self.module, self.tokenize, self.pad = module, tokenize, pad
        self.dim, self.max_length = dim, max_length
        self._converted: tuple[Any, torch.nn.Module] | None = None

    def encode(self, inputs: Iterable[str], *, show_progress: bool = False, precision: str = "fp32") -> np.ndarray:
        """(n, dim) float32 in the order of `inputs`; at float32 the batches change a component by less than 1e-5.

        Raises ZooError for an input that is not a string (with its position) and for one bare string.
        """
        source, dtype = texts(inputs), self._dtype(precision)
        with bar(len(inputs) if isinstance(inputs, Sized) else None, show_progress) as advance:
            blocks = self._blocks(source, dtype, advance)
            if not isinstance(inputs, list | tuple):
                return np.concatenate(list(blocks))
            out, row = np.empty((len(inputs), self.dim), dtype=np.float32), 0
            for block in blocks:
                out[row : row + len(block)] = block
                row += len(block)
            return out

    def stream(self, inputs: Iterable[str], *, precision: str = "fp32") -> Iterator[np.ndarray]:
        """`encode` in blocks of at most WINDOW rows, one empty block for no input; the memory it takes does not depend on how
        many inputs there are. A block comes when the inputs of the next one have been read, by the caller's thread."""
        return self._blocks(texts(inputs), self._dtype(precision), lambda count: None)

    def _dtype(self, precision: str) -> torch.dtype:
        return hardware.resolve_precision(precision, next(self.module.parameters()).device)

    def _blocks(self, texts: Iterator[str], dtype: torch.dtype, advance: Advance) -> Iterator[np.ndarray]:
        hardware.keep_large_blocks()
        with ThreadPoolExecutor(1, thread_name_prefix="tokenise") as pool:
            ahead = pool.submit(self._ids, list(islice(texts, WINDOW)))
            while True:
                ids, places = ahead.result()
                window = list(islice(texts, WINDOW))
                if window:
                    ahead = pool.submit(self._ids, window)
                vectors = self._run(ids, dtype, advance)
                advance(len(places) - len(ids))
                yield vectors if len(ids) == len(places) else vectors[places]
                if not window:
                    return

    def _ids(self, window: Sequence[str]) -> tuple[list[list[int]], list[int]]:
        """Token ids of the distinct texts of a window, and where each text of the window stands among them."""
        rank: dict[str, int] = {}
        places = [rank.setdefault(text, len(rank)) for text in window]
        texts = [text if text.isascii() else text.encode("utf-8", "replace").decode() for text in rank]
        ids: list[list[int]] = []
        with _one_at_a_time:
            for start in range(0, len(texts), SLICE):
                ids += self._tokens(texts[start : start + SLICE])
        return ids, places

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """What `tokenize` gives, without reading far beyond the limit: a beginning that fills the limit decides."""
        starts = [beginning(text, self.max_length * CHARACTERS) for text in texts]
        ids = self.tokenize(starts)
        short = [i for i, row in enumerate(ids) if len(row) < self.max_length and len(starts[i]) < len(texts[i])]
        if short:
            for i, row in zip(short, self.tokenize([texts[i] for i in short]), strict=True):
                ids[i] = row
        return ids

    def _run(self, ids: Sequence[list[int]], dtype: torch.dtype, advance: Advance) -> np.ndarray:
        module, device = self._in(dtype), next(self.module.parameters()).device
        budget = BUDGET_CPU if device.type == "cpu" else BUDGET_ACCELERATOR
        out = np.empty((len(ids), self.dim), dtype=np.float32)
        with evaluating(module), torch.inference_mode():
            for places in batches([len(row) for row in ids], budget):
                batch = {name: values.to(device) for name, values in self.pad([ids[i] for i in places]).items()}
                out[places] = module(batch).float().cpu().numpy()
                advance(len(places))
        if not np.isfinite(out).all():  # from finite weights that are far too large, say
            raise ZooError(
                "the encoder gives vectors that are not finite: its weights are damaged, or none of a training"
            )
        return out

    def _in(self, dtype: torch.dtype) -> torch.nn.Module:
        """The module in `dtype`: a copy made once, since autocast would convert the weights at every batch, and made again
        when they were trained on; in float32 it shares them. The linear layers hold theirs once more on a CPU, in the order that
        is multiplied fastest. Buffers stay float32: rotary frequencies do not survive fewer bits."""
        exact = dtype == torch.float32
        device = next(self.module.parameters()).device
        if exact and not (device.type == "cpu" and any(map(_is_linear, self.module.modules()))):
            return self.module
        stamp = (dtype, [(p.data_ptr(), p._version) for p in self.module.parameters()])
        if self._converted is None or self._converted[0] != stamp:
            # given to deepcopy as already copied, so that there is no second set of float32 weights in between
            known: dict[int, Any] = {
                id(p): p if exact else torch.nn.Parameter(p.detach().to(dtype), requires_grad=False)
                for p in self.module.parameters()
            }
            module = copy.deepcopy(self.module, known)
            for part in filter(_is_linear, module.modules()) if device.type == "cpu" else ():
                part.forward = hardware.pack_linear(part)  # type: ignore[assignment]
            self._converted = (stamp, module)
        return self._converted[1]


def _is_linear(part: torch.nn.Module) -> TypeGuard[torch.nn.Linear]:
    return type(part) is torch.nn.Linear


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Positions in batches of similar length, the longest first, whose padded size is within `budget` tokens; a row longer
    than that is a batch of its own. A batch that has a quarter of the budget ends before a row it would pad by a twentieth:
    few texts of mixed length would otherwise be mostly padding."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    start = 0
    while start < len(order):
        longest = max(1, lengths[order[start]])
        end = min(start + max(1, budget // longest), len(order))
        least = start + max(1, budget // (4 * longest))
        end = next((i for i in range(least, end) if lengths[order[i]] < 0.95 * longest), end)
        yield order[start:end]
        start = end


def beginning(text: str, limit: int) -> str:
    """`text` cut to less than `limit` characters between a word and a space, or whole where there is no such place.
    Tokenizers split there before all else, so the tokens of what is left begin the tokens of `text`; inside a run of white
    space that is not so, because vocabularies hold whole runs."""
    end = limit if len(text) > limit else 0
    while (end := text.rfind(" ", 0, end)) > 0:
        if not text[end - 1].isspace():
            return text[:end]
    return text


def write_npy(blocks: Iterable[np.ndarray], target: str | IO[bytes]) -> int:
    """Write blocks of rows as one .npy without holding them all; returns the number of rows. The header, which needs that
    number, is written last: into a file beside the target, or, for a pipe, into a temporary one that is then copied."""

    def fill(file: IO[bytes]) -> int:
        count, first = 0, None
        for block in blocks:
            if first is None:
                first = block
                _header(file, block, 0)
            file.write(np.ascontiguousarray(block).tobytes())
            count += len(block)
        _header(file, first if first is not None else np.empty((0, 0), np.float32), count)
        return count

    if isinstance(target, str):
        with atomic_files.replace_file(Path(target)) as partial, partial.open("wb+") as file:
            return fill(file)
    with tempfile.TemporaryFile() as file:
        count = fill(file)
        file.seek(0)
        shutil.copyfileobj(file, target)
        target.flush()
    return count


def _header(file: IO[bytes], like: np.ndarray, rows: int) -> None:
    """A .npy 1.0 header of 128 bytes whatever `rows` is, at the start of the file; leaves the position at its end if the
    file was empty, where it was otherwise."""
    kind = np.lib.format.dtype_to_descr(like.dtype)
    text = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {(rows, *like.shape[1:])}, }}"
    here = file.seek(0, 1)
    file.seek(0)
    file.write(b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + text.ljust(117).encode("latin1") + b"\n")
    file.seek(max(here, 128))


def texts(inputs: Any) -> Iterator[str]:
    """What `encode` takes, one text after the other; a list is checked before the first. Raises ZooError, which names the
    place, for an input that is not a string, and for a bare one."""
    if isinstance(inputs, str | bytes):
        raise ZooError("encode takes a list of texts, not one text: write encode([text])")
    try:
        source = iter(inputs)
    except TypeError:
        raise ZooError(f"encode takes a list of texts or another iterable, not {_kind(inputs)}") from None
    strings = _strings(source)
    return iter(list(strings)) if isinstance(inputs, list | tuple) else strings


def _strings(source: Iterator[Any]) -> Iterator[str]:
    for place, text in enumerate(source):
        if not isinstance(text, str):
            raise ZooError(f"input {place} is {_kind(text)}, expected a string")
        yield text


def _kind(value: Any) -> str:
    return "None" if value is None else type(value).__name__


@contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards what was in training mode is so again, part by part."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


@contextmanager
def bar(total: int | None, show: bool) -> Iterator[Advance]:
    """A progress bar on stderr, or nothing."""
    if not show:
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("encoding", total=total)
        yield lambda count: progress.advance(task, count)

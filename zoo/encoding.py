"""Bulk encoding of texts: sorted by token length, batched by a token budget, tokenised ahead of the model.

Padding is what bulk encoding wastes most on, so texts of one window are sorted by their number of tokens and a batch takes
as many as fit into a budget of padded tokens. The next window is tokenised in a thread (fast tokenizers release the
interpreter lock) while the model runs. The order of the output is the order of the input.
"""

from __future__ import annotations

import copy
import ctypes
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from zoo.errors import ZooError
from zoo.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import torch

    Tokenize = Callable[[Sequence[str]], list[list[int]]]
    Forward = Callable[[dict[str, torch.Tensor]], torch.Tensor]
else:
    np, torch = lazy("numpy"), lazy("torch")

WINDOW = 8192  # texts tokenised and sorted together: the memory that a stream needs
BUDGET = {"cpu": 1024, "cuda": 32768}  # padded tokens a batch; on a CPU what keeps activations in its cache
CHARACTERS = 64  # per token of the limit: no tokenizer in use makes longer tokens of running text


class Engine:
    """Encodes texts with one module at one cut.

    Args:
        module: input_ids and attention_mask, both (batch, tokens) int64, to (batch, dim).
        tokenize: texts to truncated token ids with special tokens.
        pad: rows of ids to the module's tensors.
        dim: components of a vector.
        max_length: tokens after which `tokenize` cuts.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        tokenize: Tokenize,
        pad: Callable[[Any], dict[str, torch.Tensor]],
        dim: int,
        max_length: int,
    ) -> None:
        self.module, self.tokenize, self.pad = module, tokenize, pad
        self.dim, self.max_length = dim, max_length
        self._half: dict[Any, torch.nn.Module] = {}

    def encode(self, inputs: Iterable[str], *, show_progress: bool = False, precision: str = "auto") -> np.ndarray:
        """(n, dim) float32 in the order of `inputs`. Raises ZooError for an input that is not a string."""
        total = len(inputs) if isinstance(inputs, Sized) else None
        with _bar(total if not isinstance(inputs, str) else None, show_progress) as advance:
            blocks = []
            for block in self.stream(inputs, precision=precision):
                blocks.append(block)
                advance(len(block))
        if len(blocks) == 1:
            return blocks[0]
        return np.concatenate(blocks) if blocks else np.empty((0, self.dim), dtype=np.float32)

    def stream(self, inputs: Iterable[str], *, precision: str = "auto") -> Iterator[np.ndarray]:
        """The same in blocks of at most WINDOW rows, with memory that does not depend on how many inputs there are."""
        if isinstance(inputs, str | bytes):
            raise ZooError("encode takes a list of texts, not one text: write encode([text])")
        keep_large_blocks()
        device = next(self.module.parameters()).device
        module = self._in(resolve_precision(precision, device))
        module.eval()
        windows = self._windows(inputs)
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(next, windows, None)
            while (ids := ahead.result()) is not None:
                ahead = pool.submit(next, windows, None)
                yield self._run(module, ids, device)

    def _windows(self, inputs: Iterable[str]) -> Iterator[list[list[int]]]:
        source, seen = iter(inputs), 0
        while window := list(islice(source, WINDOW)):
            for i, text in enumerate(window):
                if not isinstance(text, str):
                    raise ZooError(
                        f"input {seen + i} is {'None' if text is None else type(text).__name__}, expected a string"
                    )
            yield self._tokens(window)
            seen += len(window)

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        """Token ids; what lies far beyond the limit is cut off first, and a text that came out short is done whole."""
        limit = self.max_length * CHARACTERS
        clean = [text if text.isascii() else text.encode("utf-8", "replace").decode() for text in texts]
        ids = self.tokenize([text[:limit] for text in clean])
        for i, text in enumerate(clean):
            if len(text) > limit and len(ids[i]) < self.max_length:
                ids[i] = self.tokenize([text])[0]
        return ids

    def _run(self, module: torch.nn.Module, ids: list[list[int]], device: torch.device) -> np.ndarray:
        out = np.empty((len(ids), self.dim), dtype=np.float32)
        with torch.inference_mode():
            for places in batches([len(row) for row in ids], BUDGET.get(device.type, BUDGET["cuda"])):
                batch = {k: v.to(device) for k, v in self.pad([ids[i] for i in places]).items()}
                out[places] = module(batch).float().cpu().numpy()
        return out

    def _in(self, dtype: torch.dtype) -> torch.nn.Module:
        if dtype == torch.float32:
            return self.module
        if dtype not in self._half:  # converted once: autocast would convert the weights at every batch
            self._half[dtype] = copy.deepcopy(self.module).to(dtype)
        return self._half[dtype]


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Positions in batches of similar length, the longest first, whose padded size is within `budget` tokens; a row longer
    than that is a batch of its own."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    start = 0
    while start < len(order):
        fit = max(1, budget // max(1, lengths[order[start]]))
        yield order[start : start + fit]
        start += fit


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """The dtype a precision stands for on a device: `auto` is bfloat16 where the hardware multiplies it natively (CUDA from
    Ampere, CPUs with AVX512-BF16 or AMX), float32 elsewhere. Raises ZooError for an unknown name."""
    known = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if name in known:
        return known[name]
    if name != "auto":
        raise ZooError(f"precision: {name!r} is not one of auto, {', '.join(known)}")
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        fast = device.type == "cpu" and bool(_cpu_flags() & {"avx512_bf16", "amx_bf16"})
    return torch.bfloat16 if fast else torch.float32


@cache
def _cpu_flags() -> frozenset[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    return frozenset(
        next((line.split(":", 1)[1] for line in text.splitlines() if line.startswith("flags")), "").split()
    )


@cache
def keep_large_blocks() -> None:
    """Ask glibc to reuse large freed blocks instead of giving them back to the kernel after every operation, whose page
    faults can cost more than the arithmetic of an activation. Elsewhere than on glibc this does nothing."""
    trim_threshold, mmap_threshold = -1, -3
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(mmap_threshold, 1 << 30)
            mallopt(trim_threshold, 512 << 20)


def write_npy(blocks: Iterable[np.ndarray], target: str | IO[bytes]) -> int:
    """Write blocks of rows as one .npy without holding them all; returns the number of rows. The header, which needs that
    number, is written last: into a file beside the target, or, for a pipe, into a temporary one that is then copied."""
    import shutil
    import tempfile

    from zoo import files

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
        with files.whole_file(Path(target)) as partial, partial.open("wb+") as file:
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


class _bar:  # noqa: N801 - used as a function
    """A progress bar, or nothing."""

    def __init__(self, total: int | None, show: bool) -> None:
        self.total, self.show = total, show

    def __enter__(self) -> Callable[[int], Any]:
        if not self.show:
            return lambda n: None
        from rich.progress import Progress

        self.progress = Progress(transient=True)
        self.progress.start()
        task = self.progress.add_task("encoding", total=self.total)
        return lambda n: self.progress.advance(task, n)

    def __exit__(self, *_: object) -> None:
        if self.show:
            self.progress.stop()

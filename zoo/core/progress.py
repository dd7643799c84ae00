"""Progress bars for encoding. They go to stderr, because stdout may carry the vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

Advance = Callable[[int], object]
"""Called with the number of inputs that were finished since the last call."""


@contextmanager
def show_progress_bar(total: int | None, show: bool) -> Iterator[Advance]:
    """Show a progress bar of `total` inputs on stderr inside the block if `show` is true."""
    if not show:
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("encoding", total=total)
        yield lambda count: progress.advance(task, count)


def concatenate_with_progress(
    blocks: Iterable[np.ndarray[Any, Any]], inputs: Any, show_progress: bool
) -> np.ndarray[Any, Any]:
    """Concatenate the blocks (n, dim) that encode `inputs`, and show a bar meanwhile if `show_progress` is true."""
    import numpy as np

    total = len(inputs) if isinstance(inputs, list | tuple) else None
    finished = []
    with show_progress_bar(total, show_progress) as advance:
        for block in blocks:
            finished.append(block)
            advance(len(block))
    return np.concatenate(finished)

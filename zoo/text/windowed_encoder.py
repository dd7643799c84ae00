"""`WindowedEncoder`: a text encoder that cuts texts beyond its limit, refuses them, or reads them whole in windows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from zoo import encoding as encodings
from zoo.artefact.canaries import Canary
from zoo.core.errors import ZooError
from zoo.core.inputs import check_texts, read_in_windows
from zoo.graph import Graph
from zoo.ops.inference import evaluation_mode
from zoo.text import windows
from zoo.text.engine import WINDOW
from zoo.text.text_encoder import TextEncoder


class WindowedEncoder(TextEncoder):
    """Base of text encoders whose spec has `long` and `windows`.

    Attributes:
        normalizes: whether vectors have unit norm.
    """

    spec: Any
    normalizes: bool = True

    def _encode(
        self,
        inputs: Iterable[Any],
        *,
        show_progress: bool = False,
        precision: str = "fp32",
        prompt_type: str | None = None,
    ) -> np.ndarray:
        """Encode texts to (n, dim) float32 vectors; `long` of the spec says what happens to texts beyond the limit."""
        if self.spec.long == "cut":
            return super()._encode(inputs, show_progress=show_progress, precision=precision, prompt_type=prompt_type)
        texts = list(check_texts(inputs))
        if self.spec.long == "error":
            prompt = self.find_prompt(prompt_type)
            windows.refuse_long_texts(self.backbone, [prompt + text for text in texts])
            return super()._encode(texts, show_progress=show_progress, precision=precision, prompt_type=prompt_type)
        found = self.encode_windows(texts, mode=self.spec.windows, precision=precision, prompt_type=prompt_type)
        return windows.average_windows(found, len(texts), normalizes=self.normalizes)

    def _stream(
        self, inputs: Iterable[Any], *, precision: str = "fp32", prompt_type: str | None = None
    ) -> Iterator[np.ndarray]:
        """Encode in blocks, in order. The memory does not grow with the length of `inputs`."""
        if self.spec.long == "cut":
            yield from super()._stream(inputs, precision=precision, prompt_type=prompt_type)
            return
        for block in read_in_windows(check_texts(inputs), WINDOW):
            yield self._encode(block, precision=precision, prompt_type=prompt_type)

    def encode_windows(
        self,
        texts: Sequence[str],
        *,
        mode: windows.WindowMode = "mean",
        precision: str = "fp32",
        prompt_type: str | None = None,
    ) -> windows.Windows:
        """Encode every window of at most `max_length` tokens, and keep the link to its text and its characters.

        Args:
            texts: texts of any length.
            mode: `mean` encodes each window by itself; `late` pools it from one pass over the whole text, at fp32.
            precision, prompt_type: as in `encode`. `late` takes no prompt.
        """
        texts = list(check_texts(texts))
        splits = [windows.split_text(self.backbone, text) for text in texts]
        numbers = np.repeat(np.arange(len(texts)), [len(split) for split in splits])
        spans = np.array([window.characters for split in splits for window in split], dtype=np.int64).reshape(-1, 2)
        if mode == "mean":
            parts = [texts[number][start:end] for number, (start, end) in zip(numbers, spans, strict=True)]
            vectors = super()._encode(parts, precision=precision, prompt_type=prompt_type)
            return windows.Windows(vectors, numbers, spans)
        with evaluation_mode(self.module), torch.inference_mode():
            late = [windows.encode_late(self.backbone, text, split) for text, split in zip(texts, splits, strict=True)]
        vectors = np.concatenate([*late, np.empty((0, self.backbone.width), np.float32)])[:, : self.dim]
        return windows.Windows(encodings.normalize(vectors) if self.normalizes else vectors, numbers, spans)

    def make_graph(self) -> Graph:
        """The graph of this view. Raises ZooError unless long texts are cut, because a graph reads one window."""
        if self.spec.long != "cut":
            raise ZooError(
                f"`long: {self.spec.long}` cannot be exported as a graph: train or save the model with `long: cut`"
            )
        return replace(super().make_graph(), can_be_cut=True, normalizes=self.normalizes)

    def is_read_by_stock(self, text: str) -> bool:
        """Whether the text is short enough. sentence-transformers cuts a long one, whatever `long` says."""
        return self.spec.long == "cut" or len(windows.split_text(self.backbone, text)) == 1

    def make_probes(self) -> list[Any]:
        """Texts of many kinds, without long ones if they are refused."""
        probes = super().make_probes()
        return [text for text in probes if self.is_read_by_stock(text)] if self.spec.long == "error" else probes

    def make_canaries(self) -> list[Canary]:
        """Texts of many kinds, without long ones if they are refused."""
        whole = super().make_canaries()
        if self.spec.long != "error":
            return whole
        return [
            canary for canary in whole if self.is_read_by_stock(self.find_prompt(canary.role) + str(canary.content))
        ]

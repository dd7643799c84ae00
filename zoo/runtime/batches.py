"""Texts to padded batches of token ids, and images and vectors to arrays."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .description import Description
from .errors import PackError
from .network import read_thread_count
from .token_sets import mark_tokens

Array = npt.NDArray[Any]
BUDGET_THREAD, BUDGET = 768, 2048
"""Padded tokens of a batch for each thread, and at most: the activations stay in the processor's cache."""
LARGEST_PADDING, FEW_TOKENS = 1.25, 32
"""A batch has at most so many times its own tokens when it is padded, and so many more. Padding costs time, and in int8 it widens
the range that all tokens of the batch share."""
IMAGES = 64
"""Images, or input vectors, of a batch."""
SLICE = 512
"""Texts of one call of the tokenizer."""


class Reader:
    """Turns inputs of a model into batches of the arrays that its graphs take."""

    def __init__(self, folder: Path, description: Description) -> None:
        self.description = description
        self.tokenizer: Any = None
        if description.modality == "text":
            from tokenizers import Tokenizer

            try:
                self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            except Exception as error:  # the library raises plain Exceptions
                raise PackError(
                    f"{folder / 'tokenizer.json'}: cannot be read as a tokenizer: {str(error)[:120]}"
                ) from None
            self.tokenizer.no_padding()

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text, truncated, not padded."""
        rows: list[list[int]] = []
        for start in range(0, len(texts), SLICE):
            part = [_replace_surrogates(text) for text in texts[start : start + SLICE]]
            encodings = self.tokenizer.encode_batch_fast(part, add_special_tokens=self.description.adds_special_tokens)
            rows += [encoding.ids for encoding in encodings]
        empty = [] if self.description.empty_id is None else [self.description.empty_id]
        return [row or empty for row in rows]

    def iterate_batches(
        self, inputs: Sequence[Any], *, is_query: bool = False
    ) -> Iterator[tuple[list[int], dict[str, Array]]]:
        """Yield the places of the inputs of a batch, and the arrays of the graph.

        Texts of similar length share a batch. `is_query` decides which tokens count, if the model gives a vector for each token.
        Raise PackError for a wrong input.
        """
        if self.description.modality == "text":
            yield from self._iterate_texts(inputs, is_query)
            return
        name, read = (
            ("pixels", self._read_image) if self.description.modality == "image" else ("vectors", self._read_vector)
        )
        for start in range(0, len(inputs), IMAGES):
            places = list(range(start, min(start + IMAGES, len(inputs))))
            yield places, {name: np.stack([read(inputs[place], place) for place in places])}

    def _iterate_texts(self, texts: Sequence[Any], is_query: bool) -> Iterator[tuple[list[int], dict[str, Array]]]:
        for place, text in enumerate(texts):
            if not isinstance(text, str):
                raise PackError(f"input {place} is {type(text).__name__}, expected a text")
        rows = self.tokenize(texts)
        order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
        budget = min(BUDGET, BUDGET_THREAD * (read_thread_count() or os.cpu_count() or 1))
        start = 0
        while start < len(order):
            end, tokens = start + 1, len(rows[order[start]])
            while end < len(order):
                padded, tokens = (end + 1 - start) * len(rows[order[end]]), tokens + len(rows[order[end]])
                if padded > min(budget, FEW_TOKENS + LARGEST_PADDING * tokens):
                    break
                end += 1
            places = order[start:end]
            yield places, self._pad([rows[place] for place in places], is_query)
            start = end

    def _pad(self, rows: Sequence[Sequence[int]], is_query: bool) -> dict[str, Array]:
        longest = max(1, *map(len, rows)) if rows else 1
        ids = np.full((len(rows), longest), self.description.pad_id, np.int64)
        mask = np.zeros((len(rows), longest), np.int64)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = row
            mask[number, : len(row)] = 1
        sets = self.description.token_sets
        if sets is None:
            return {"input_ids": ids, "attention_mask": mask}
        names = ("input_ids", "attention_mask", "scored")
        return dict(zip(names, mark_tokens(ids, mask, sets, is_query=is_query), strict=True))

    def _read_image(self, image: Any, place: int) -> Array:
        """Return an image (size, size[, channels]) of uint8 as (channels, size, size)."""
        size, channels = self.description.size, self.description.channels
        array = np.asarray(image)
        array = array[..., None] if array.ndim == 2 else array
        if array.dtype != np.uint8 or array.shape != (size, size, channels):
            raise PackError(
                f"input {place} is an array {array.shape} of {array.dtype}, expected ({size}, {size}, {channels}) of uint8: "
                "resize and crop the image first"
            )
        return np.ascontiguousarray(array.transpose(2, 0, 1))

    def _read_vector(self, vector: Any, place: int) -> Array:
        array = np.asarray(vector, np.float32)
        if array.shape != (self.description.components,) or not np.isfinite(array).all():
            raise PackError(f"input {place} is not a vector of {self.description.components} finite numbers")
        return array


def _replace_surrogates(text: str) -> str:
    """Return the text with `?` for halves of surrogate pairs, which tokenizers cannot read."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()

"""Training rows of one data set or of several: check them, order them, and read their inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow
from pyarrow import compute

from zoo.core.errors import DataError
from zoo.data.formats import image_files
from zoo.data.mapped import iterate_batches
from zoo.families.vlm2vec.mixed_inputs import place_images
from zoo.families.vlm2vec.spec import MMEB_COLUMNS, Share
from zoo.training import mixture

if TYPE_CHECKING:
    from datasets import Dataset

BLOCK = 1000  # rows that are checked at once


@dataclass(frozen=True)
class LazyInput:
    """One input of a training batch whose images are not decoded yet.

    Attributes:
        text: "" if the input has no text.
        images: images as {"bytes", "path"}, one of which is None.
        instruction: the text before the input's own text, if any.
        location: data set, row and side, for error messages.
    """

    text: str
    images: tuple[Mapping[str, Any], ...]
    instruction: str | None
    location: str

    def open_parts(self) -> list[Any]:
        """Return texts and decoded images in reading order. Raise DataError, which names the file, for a damaged image."""
        return place_images(self.text, [self._open_image(image) for image in self.images])

    def _open_image(self, image: Mapping[str, Any]) -> Any:
        path = image["path"]
        try:
            content = image["bytes"] if image["bytes"] is not None else Path(path).read_bytes()
            return image_files.normalise_image(image_files.decode_image(content))
        except (OSError, ValueError) as error:
            problem = getattr(error, "strerror", None) or error
            raise DataError(f"{self.location}: {path or 'its image'} {problem}") from None

    @property
    def content_key(self) -> int:
        """63 bits of a hash of instruction, text and images; equal inputs have equal keys."""
        digest = hashlib.blake2b(digest_size=8)
        digest.update((self.instruction or "").encode() + b"\0")
        digest.update(self.text.encode() + b"\0")
        for image in self.images:
            digest.update((image["bytes"] or str(image["path"]).encode()) + b"\0")
        return int.from_bytes(digest.digest()) >> 1


class MixtureDataset:
    """The rows of several data sets as one sequence. `order`, which the trainer calls, mixes the sets in every epoch."""

    def __init__(self, tables: Mapping[str, Dataset], shares: Mapping[str, Share], sub_batch: int | None) -> None:
        """Check the rows of `tables`. Raise DataError for a table without the columns, or with rows, that training needs.

        Args:
            tables: the rows of each set, by the set's name.
            shares: weight and instructions of a set, by the set's name; `Share()` for all others.
            sub_batch: consecutive rows that come from the same set; without effect if there is one set.
        """
        self.names: list[str] = list(tables)
        self.tables: list[Any] = list(tables.values())
        self.shares = [shares.get(name, Share()) for name in self.names]
        self.spans: dict[str, range] = {}
        start = 0
        for name, table in tables.items():
            _check_sides(name, table)
            self.spans[name] = range(start, start + len(table))
            start += len(table)
        self.sub_batch = sub_batch if len(tables) > 1 else None

    def __len__(self) -> int:
        return sum(map(len, self.tables))

    def __getitem__(self, index: int) -> dict[str, Any]:
        name = mixture.find_source(self.spans, index)
        number, row_number = self.names.index(name), index - self.spans[name].start
        return {"row": self.tables[number][row_number], "share": self.shares[number], "location": (name, row_number)}

    def order(self, seed: int, epoch: int) -> Any:
        """Return the row numbers of an epoch. If there are several sets, each sub-batch is from one, drawn by weight."""
        if self.sub_batch is None:
            return mixture.shuffle(len(self), seed, epoch)
        weights = [share.weight for share in self.shares]
        return mixture.order_by_chance(self.spans, weights, self.sub_batch, len(self), seed, epoch)


# -- checks before training ---------------------------------------------------------------------------------------------


def _check_sides(name: str, table: Dataset) -> None:
    """Raise DataError if `table` has no column for a side, or rows in which a side is empty. No image is opened."""
    for side in ("query", "positive"):
        known_columns = {side, f"{side}_image", MMEB_COLUMNS[side][0], MMEB_COLUMNS[f"{side}_image"][0]}
        columns = [column for column in table.column_names if column in known_columns]
        if not columns:
            raise DataError(f"{name}: needs a column `{side}`, a column `{side}_image`, or both")
        blocks = iterate_batches(table.select_columns(columns), BLOCK)
        empty_rows = [row for number, block in enumerate(blocks) for row in _find_empty_rows(block, number * BLOCK)]
        if empty_rows:
            total = f" ({len(empty_rows)} such rows)" if len(empty_rows) > 1 else ""
            raise DataError(f"{name}, row {empty_rows[0] + 1}: {side}: neither text nor image{total}")


def _find_empty_rows(block: pyarrow.Table, start: int) -> list[int]:
    """Return the numbers, counted from `start`, of the rows in which every column is empty. No image is decoded."""
    has_content = np.zeros(len(block), dtype=bool)
    for column in block.columns:
        values = column.combine_chunks()
        if not pyarrow.types.is_nested(values.type):
            has_content |= _has_text(values)
            continue
        images, image_rows = compute.list_flatten(values), np.asarray(compute.list_parent_indices(values))
        has_bytes = np.asarray(compute.struct_field(images, "bytes").is_valid())
        is_image = _has_text(compute.struct_field(images, "path")) | has_bytes
        has_content[image_rows[is_image]] = True
    empty_rows: list[int] = (start + np.flatnonzero(~has_content)).tolist()
    return empty_rows


def _has_text(texts: pyarrow.Array) -> npt.NDArray[np.bool_]:
    """Whether each text has a character that is not whitespace; False for null."""
    lengths = compute.utf8_length(compute.utf8_trim_whitespace(texts.cast("string"))).fill_null(0)
    return np.asarray(lengths) > 0


# -- rows to inputs -----------------------------------------------------------------------------------------------------


def read_row(
    row: Mapping[str, Any],
    query_instruction: str | None,
    document_instruction: str | None,
    location: tuple[str, int],
) -> list[LazyInput]:
    """Return the inputs of a row: its query, its positive, and its hard negatives.

    `location` is the name of the set and the number of the row. Raise DataError for a query or positive that is empty, and
    for texts and images of negatives that do not pair up.
    """
    name, row_number = location
    row_location = f"{name}, row {row_number + 1}"

    def read_input(side: str, text: Any, images: Any, instruction: str | None) -> LazyInput | None:
        present_images = tuple(image for image in images or () if image["bytes"] is not None or image["path"])
        if not text and not present_images:
            return None
        return LazyInput(text or "", present_images, instruction, f"{row_location}: {side}")

    values = {role: row.get(role) or row.get(mmeb_name) for role, (mmeb_name, _) in MMEB_COLUMNS.items()}
    query = read_input("query", values["query"], values["query_image"], query_instruction)
    positive = read_input("positive", values["positive"], values["positive_image"], document_instruction)
    if query is None or positive is None:
        raise DataError(f"{row_location}: {'query' if query is None else 'positive'}: neither text nor image")
    texts, images = values["negative"] or [], values["negative_image"] or []
    if texts and images and len(texts) != len(images):
        raise DataError(
            f"{row_location}: has {len(texts)} texts and {len(images)} images of negatives; give as many of both, "
            "or only one kind"
        )
    negatives = [
        read_input("negative", texts[i] if texts else "", images[i : i + 1], document_instruction)
        for i in range(max(len(texts), len(images)))
    ]
    return [query, positive, *(negative for negative in negatives if negative is not None)]


def iterate_texts(tables: Sequence[Dataset]) -> Iterator[str]:
    """Yield every text of the rows, for a tokenizer that is trained on them."""
    columns = [name for role in ("query", "positive", "negative") for name in (role, MMEB_COLUMNS[role][0])]
    for table in tables:
        for column in columns:
            if column in table.column_names:
                for value in table[column]:
                    yield from value if isinstance(value, list) else [value or ""]

"""Training rows of queries and what answers them, of one set or several: how they are opened, and in which order they come."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.core.errors import DataError
from zoo.core.lazy import lazy
from zoo.data.formats import image_files
from zoo.families.vlm2vec.mixed_inputs import placed
from zoo.families.vlm2vec.spec import MMEB, Share

if TYPE_CHECKING:
    import numpy as np
    import pyarrow
    import torch
    from datasets import Dataset
    from pyarrow import compute
else:
    np, torch = lazy("numpy"), lazy("torch")
    pyarrow, compute = lazy("pyarrow"), lazy("pyarrow.compute")

BLOCK = 1000  # rows looked at together


@dataclass(frozen=True)
class Cell:
    """One input of a batch, not yet opened.

    Attributes:
        text, images: what it holds; an image is {"bytes", "path"}.
        instruction: what stands before the text, if anything.
        where: for an error about it.
    """

    text: str
    images: tuple[Mapping[str, Any], ...]
    instruction: str | None
    where: str

    def parts(self) -> list[Any]:
        """Texts and opened images in order. Raises DataError, which names the file, for an image that is damaged."""
        return placed(self.text, [self._opened(image) for image in self.images])

    def _opened(self, image: Mapping[str, Any]) -> Any:
        path = image["path"]
        try:
            content = image["bytes"] if image["bytes"] is not None else Path(path).read_bytes()
            return image_files.normalise_image(image_files.decode_image(content))
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self.where}: {path or 'its image'} {getattr(error, 'strerror', None) or error}"
            ) from None

    @property
    def key(self) -> int:
        """Equal for inputs that hold the same (63 bits of a hash)."""
        seen = hashlib.blake2b(digest_size=8)
        parts: list[Any] = [self.instruction or "", self.text, *self.images]
        for part in parts:
            given = part if isinstance(part, str) else part["bytes"] or str(part["path"])
            seen.update(given if isinstance(given, bytes) else given.encode())
            seen.update(b"\0")
        return int.from_bytes(seen.digest()) >> 1


class MixtureDataset:
    """Rows of several sets as one sequence, for the Trainer; `order` says in which order an epoch takes them."""

    def __init__(self, tables: Mapping[str, Dataset], shares: Mapping[str, Share], sub_batch: int | None) -> None:
        self.names: list[str] = list(tables)
        self.tables: list[Any] = list(tables.values())
        self.shares = [shares.get(name, Share()) for name in self.names]
        self.sub_batch = sub_batch if len(self.tables) > 1 else None
        self.starts = [0]
        for name, table in tables.items():
            _sides(name, table)
            self.starts.append(self.starts[-1] + len(table))

    def __len__(self) -> int:
        return self.starts[-1]

    def __getitem__(self, index: int) -> dict[str, Any]:
        which = next(i for i, end in enumerate(self.starts[1:]) if index < end)
        place = index - self.starts[which]
        return {"row": self.tables[which][place], "share": self.shares[which], "where": (self.names[which], place)}

    def order(self, seed: int, epoch: int) -> list[int]:
        """Row numbers of an epoch, a function of seed and epoch alone. Several sets come in sub-batches of one set each, drawn by
        weight; each set's own rows are shuffled and start over when they are used up. Source: Meng et al., "VLM2Vec-V2",
        arXiv 2507.04590, section 3.3 (interleaved sub-batches)."""
        draw = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        if self.sub_batch is None:
            return torch.randperm(len(self), generator=draw).tolist()
        own = [self._cycle(i, draw) for i in range(len(self.tables))]
        weights = torch.tensor([share.weight for share in self.shares])
        out: list[int] = []
        while len(out) < len(self):
            which = int(torch.multinomial(weights, 1, generator=draw))
            out += [next(own[which]) for _ in range(self.sub_batch)]
        return out[: len(self)]

    def _cycle(self, which: int, draw: torch.Generator) -> Iterator[int]:
        while True:
            places = torch.randperm(len(self.tables[which]), generator=draw)
            yield from (places + self.starts[which]).tolist()


def _sides(name: str, table: Dataset) -> None:
    """Raises DataError for a side without a column, and, before an image is opened, for rows in which it is empty."""
    for side in ("query", "positive"):
        told = {side, f"{side}_image", MMEB[side][0], MMEB[f"{side}_image"][0]}
        held = [column for column in table.column_names if column in told]
        if not held:
            raise DataError(f"{name}: needs a column `{side}`, a column `{side}_image`, or both")
        blocks = table.select_columns(held).with_format("arrow").iter(BLOCK)
        empty = [i for start, block in enumerate(blocks) for i in _empty(block, start * BLOCK)]
        if empty:
            more = f" ({len(empty)} such rows)" if len(empty) > 1 else ""
            raise DataError(f"{name}, row {empty[0] + 1}: {side}: neither text nor image{more}")


def _empty(block: pyarrow.Table, start: int) -> list[int]:
    """Numbers, from `start` on, of the rows that hold nothing; bytes of images are not touched."""
    found = np.zeros(len(block), dtype=bool)

    def said(texts: pyarrow.Array) -> np.ndarray:
        return np.asarray(compute.utf8_length(compute.utf8_trim_whitespace(texts.cast("string"))).fill_null(0)) > 0

    for column in block.columns:
        values = column.combine_chunks()
        if not pyarrow.types.is_nested(values.type):
            found |= said(values)
            continue
        images, rows = compute.list_flatten(values), np.asarray(compute.list_parent_indices(values))
        there = said(compute.struct_field(images, "path")) | np.asarray(
            compute.struct_field(images, "bytes").is_valid()
        )
        found[rows[there]] = True
    return (start + np.flatnonzero(~found)).tolist()


def cells(row: Mapping[str, Any], query: str | None, document: str | None, where: tuple[str, int]) -> list[Cell]:
    """The query, its positive, and its hard negatives. Raises DataError for a side that is empty."""
    name, place = where
    said = f"{name}, row {place + 1}"

    def cell(text: Any, images: Any, side: str, instruction: str | None) -> Cell | None:
        held = tuple(each for each in images or () if each["bytes"] is not None or each["path"])
        return Cell(text or "", held, instruction, f"{said}: {side}") if text or held else None

    given = {role: row.get(role) or row.get(other) for role, (other, _) in MMEB.items()}
    first = cell(given["query"], given["query_image"], "query", query)
    second = cell(given["positive"], given["positive_image"], "positive", document)
    if first is None or second is None:
        raise DataError(f"{said}: {'query' if first is None else 'positive'}: neither text nor image")
    texts, images = given["negative"] or [], given["negative_image"] or []
    if texts and images and len(texts) != len(images):
        raise DataError(f"{said}: {len(texts)} texts and {len(images)} images of negatives")
    rest = [
        cell(texts[i] if texts else "", images[i : i + 1], "negative", document)
        for i in range(max(len(texts), len(images)))
    ]
    return [first, second, *(each for each in rest if each is not None)]


def texts(tables: Sequence[Dataset]) -> Iterator[str]:
    """Every text of the rows, for a tokenizer that is trained on them."""
    for table in tables:
        for name in (name for role in ("query", "positive", "negative") for name in (role, MMEB[role][0])):
            if name in table.column_names:
                for value in table[name]:
                    yield from value if isinstance(value, list) else [value or ""]

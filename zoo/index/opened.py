"""`OpenIndex`: the open files of an index, and the searches over vectors that all its verbs share."""

from __future__ import annotations

import datetime
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.core.errors import ZooError
from zoo.core.suggest import suggest
from zoo.index import conditions, folder, identity, words
from zoo.index.arrays import Mask, Numbers, Vectors
from zoo.index.column_kinds import KINDS
from zoo.index.hybrid_map import HybridMap, open_map
from zoo.index.lexical import Lexical
from zoo.index.model_file import ModelFile, open_codec, require_score_step
from zoo.index.rows import ID
from zoo.index.shard import ROWS_OF_GROUP, Found, Shard, merge_found
from zoo.index.vectors import RowEncoder

if TYPE_CHECKING:
    from zoo.bridge.bridge import Bridge
    from zoo.encoder import Encoder


@dataclass(frozen=True)
class Hit:
    """A row that was found.

    Attributes:
        id: the id of the row.
        score: the similarity of the encoder; with `hybrid` the sum of reciprocal ranks, or the probability.
        text: the text that was encoded; the path of an image.
        row: the columns of the row by name.
        place: the first character of the window that was found and the one after its last; None if texts are not cut.
        probability: that the row answers the query, by the model's step `relevance` or the map of a hybrid search; else None.
    """

    id: str
    score: float
    text: str
    row: Mapping[str, Any] = field(repr=False)
    place: tuple[int, int] | None = None
    probability: float | None = None

    def describe(self) -> dict[str, Any]:
        """Return the hit as values that JSON can hold. Bytes, NaN and infinity in a column become null."""
        return {
            "id": self.id,
            "score": self.score,
            "text": self.text,
            "probability": self.probability,
            "place": None if self.place is None else list(self.place),
            "columns": _make_plain(self.row),
        }


def _make_plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _make_plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_make_plain(part) for part in value]
    if isinstance(value, datetime.date | datetime.datetime):
        return value.isoformat()
    if isinstance(value, bytes) or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value


class OpenIndex:
    """The open files of an index. It shows the rows as they were when it was opened, or after its own last change.

    Attributes:
        path: the folder.
        manifest: its shards, files and figures.
        model: the content of model.json: encoder, columns, code.
        codec: how vectors are stored.
        shards: the open shards, in the order of their rows.
        starts: (shards + 1,) the number of the first row of each shard, and the number of all rows.
        removed: sorted numbers of the rows that were removed.
    """

    def __init__(self, path: Path, model: Any = None, bridge: Bridge | None = None) -> None:
        self.path, self._model_argument, self._bridge = path, model, bridge
        self._encoder: Encoder | None = None
        self._lexical: Lexical | None = None
        self._hybrid_map: HybridMap | None = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None  # words of an index that keeps none
        self._read()
        if model is not None:
            self._encoder = self._open_encoder()

    def _read(self) -> None:
        """Read the folder as it is now, and check every file by its sha256."""
        self.manifest = folder.read_manifest(self.path)
        self.model = ModelFile.read(folder.check_file(self.path, self.manifest, self.manifest.parts["model"]))
        needs_encoder = self.model.code["kind"] == "step"
        if needs_encoder and self._bridge is not None:
            raise ZooError(
                f"{self.path}: holds codes of its own model, which a bridge cannot read; search it with that model"
            )
        codec = open_codec(self.path, self.manifest, self.model, self.encoder if needs_encoder else None)
        self.codec = codec
        self.shards = [Shard(self.path, self.manifest, entry, codec) for entry in self.manifest.shards]
        self.starts = np.concatenate([[0], np.cumsum([shard.count for shard in self.shards])]).astype(np.int64)
        name = self.manifest.parts.get("removed")
        path = folder.check_file(self.path, self.manifest, name) if name else None
        self.removed: Numbers = np.load(path, allow_pickle=False) if path else np.empty(0, np.int64)
        self._lexical = self._hybrid_map = None

    def find_rows(self, where: str | None = None) -> list[Mask | None]:
        """Return for each shard which rows fulfil a condition and are not removed; None stands for all of them."""
        kinds = {name: KINDS[kind] for name, kind in {ID: "text", **self.model.layout.columns}.items()}
        condition = conditions.parse(where, kinds) if where is not None else None
        masks: list[Mask | None] = []
        for number, shard in enumerate(self.shards):
            mask = None if condition is None else shard.find_rows(condition)
            own = self.removed[(self.removed >= self.starts[number]) & (self.removed < self.starts[number + 1])]
            if len(own):
                mask = np.ones(shard.count, bool) if mask is None else mask
                mask[own - self.starts[number]] = False
            masks.append(mask)
        return masks

    def search_vectors(self, queries: Vectors, top: int, masks: Sequence[Mask | None]) -> tuple[Found, Numbers]:
        """Return the best rows for query vectors (m, d), and the number (m, top) of the shard of each row."""
        if not self.shards:  # all rows were removed
            nothing = np.full((len(queries), top), -1, np.int64)
            return Found(np.full(nothing.shape, -np.inf, np.float32), nothing, nothing), nothing.clip(0)
        if len(self.shards) == 1:
            found = self.shards[0].search(queries, top, masks[0])
            return found, np.zeros(found.rows.shape, np.int64)
        parts = [shard.search(queries, top, mask) for shard, mask in zip(self.shards, masks, strict=True)]
        return merge_found(parts, top)

    @property
    def encoder(self) -> Encoder:
        """The encoder that built the index, or the new one of a bridge. It is opened once, and compared with the record."""
        if self._encoder is None:
            self._encoder = self._open_encoder()
        return self._encoder

    def _open_encoder(self) -> Encoder:
        arguments = self.path, self.model.encoder
        if self._bridge is not None:
            return identity.open_bridged_encoder(*arguments, self._bridge, self._model_argument)
        return identity.open_recorded_encoder(*arguments, self._model_argument)

    @property
    def row_encoder(self) -> RowEncoder:
        """The encoder, as it encodes rows and queries."""
        if self._bridge is not None:
            return RowEncoder(self.encoder, bridge=self._bridge)
        return RowEncoder(self.encoder, self.model.long)

    @property
    def lexical(self) -> Lexical:
        """BM25 over all rows. Its files are opened at the first hybrid search."""
        if self._lexical is None:
            if self.model.layout.image is not None:
                raise ZooError(f"{self.path}: hybrid: the rows are images, which BM25 cannot read; leave --hybrid out")
            self._lexical = Lexical([self._open_words(shard) for shard in self.shards])
        return self._lexical

    @property
    def hybrid_map(self) -> HybridMap:
        """The map of `--fit-hybrid`. Raise ZooError if none was fitted, and ArtefactError for another step `relevance`."""
        if self._hybrid_map is None:
            if self._bridge is not None:
                raise ZooError(f"{self.path}: the map of hybrid searches is that of the old model; use --hybrid rank")
            if "hybrid" not in self.manifest.parts:
                raise ZooError(
                    f"{self.path}: has no map for hybrid searches; fit one with zoo index DIR --fit-hybrid QUERIES, or use "
                    "--hybrid rank"
                )
            opened = open_map(folder.check_file(self.path, self.manifest, self.manifest.parts["hybrid"]))
            require_score_step(self.path, opened.step, self.encoder)
            self._hybrid_map = opened
        return self._hybrid_map

    def _open_words(self, shard: Shard) -> words.ShardWords:
        """Open the counted words of a shard. Those of an index without such files are counted anew in each process."""
        names = [f"{shard.name}{ending}" for ending in words.ENDINGS]
        if names[0] in self.manifest.files:
            return words.ShardWords([folder.check_file(self.path, self.manifest, name) for name in names])
        self._temporary = self._temporary or tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        place = Path(self._temporary.name)
        texts = words.read_texts(shard.rows_file, self.model.layout, ROWS_OF_GROUP)
        return words.ShardWords([place / name for name in words.write_words(texts, place, shard.name, place / "work")])

    # -- sizes and ids -------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return int(self.starts[-1]) - len(self.removed)

    @property
    def byte_count(self) -> int:
        """Bytes of all files of the index."""
        return sum(int(entry["size"]) for entry in self.manifest.files.values())

    def find_ids(self, ids: Sequence[str]) -> Numbers:
        """Return the numbers of the rows with these ids. Raise ZooError for an id that is not there."""
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted, numbers = pa.array(list(dict.fromkeys(ids)), pa.string()), []
        found: set[str] = set()
        for start, shard in zip(self.starts, self.shards, strict=False):
            column = shard.read_columns([ID])[ID]
            places = np.flatnonzero(pc.is_in(column, wanted).to_numpy())
            places = places[~np.isin(places + start, self.removed)]
            found.update(column.take(places).to_pylist())
            numbers.append(places + start)
        missing = [one for one in wanted.to_pylist() if one not in found]
        if missing:
            some = self.shards[0].read_columns([ID])[ID][:1000].to_pylist() if self.shards else []
            raise ZooError(
                f"{self.path}: there is no row with the id {missing[0]!r}{suggest(missing[0], some, listing='')}"
            )
        return np.concatenate(numbers) if numbers else np.empty(0, np.int64)

    def __repr__(self) -> str:
        return f"<index {str(self.path)!r}: {len(self):,} rows, {self.codec.name}, {self.byte_count:,} bytes>"

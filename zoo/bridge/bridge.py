"""`Bridge`: maps between the vectors of an old and a new encoder, in one file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from zoo.bridge import bridge_file, identity
from zoo.bridge.fitting import KINDS, FittedMap, Kind, fit_map, split_texts
from zoo.bridge.maps import SpaceMap
from zoo.bridge.recall import Kept, normalise
from zoo.core.errors import ArtefactError, ZooError, first_line
from zoo.core.suggest import suggest

if TYPE_CHECKING:
    from zoo.encoder import Encoder

Vectors = npt.NDArray[np.float32]
SIDES = ("old", "new")


def say_nothing(_: str) -> None:
    """Take a line, and show it to nobody."""


class Bridge:
    """Lets queries of a new encoder search vectors of an old one, and the other way round.

        bridge = zoo.Bridge.fit(old, new, texts)
        vectors = bridge.map_queries(new.encode_query(queries))     # they search the index of the old encoder

    Attributes:
        old, new: JSON-able records of the two encoders: name, sha256 of the weights, components, view.
        facts: kind, seed, number of texts, and the recall that is kept in both directions, with intervals.
    """

    def __init__(
        self,
        to_old: SpaceMap,
        to_new: SpaceMap,
        old: Mapping[str, Any],
        new: Mapping[str, Any],
        facts: Mapping[str, Any],
    ) -> None:
        self._maps = {"old": to_old, "new": to_new}
        self.old, self.new, self.facts = dict(old), dict(new), dict(facts)

    @classmethod
    def fit(
        cls,
        old: Encoder,
        new: Encoder,
        texts: Iterable[str],
        *,
        kind: Kind = "auto",
        seed: int = 42,
        references: tuple[str | None, str | None] = (None, None),
        say: Callable[[str], Any] = say_nothing,
    ) -> Self:
        """Fit the maps on texts that both encoders read as queries. Equal texts count once.

        Args:
            old, new: encoders of float vectors, or views of them.
            texts: at least 100 different texts. They should be like the queries, or like the documents of the index.
            kind: `orthogonal`, `ridge`, `mlp`, `relative`, or `auto`, the one that keeps most on held-out texts.
            seed: the seed of the split, of anchors and of first weights.
            references: the names by which the two encoders are opened again, if they are known.
            say: receives lines about the progress.

        Raises ZooError for too few texts, and for an encoder of codes.
        """
        unique = list(dict.fromkeys(texts))
        split_texts(len(unique), seed)  # too few texts are refused before they are encoded
        vectors = []
        for side, encoder in zip(SIDES, (old, new), strict=True):
            say(f"encoding {len(unique):,} texts with the {side} model {encoder.name}")
            vectors.append(_encode(encoder, unique, side))
        records = [
            identity.describe_encoder(encoder, name) for encoder, name in zip((old, new), references, strict=True)
        ]
        return cls.fit_vectors(*vectors, kind=kind, seed=seed, old=records[0], new=records[1], say=say)

    @classmethod
    def fit_vectors(
        cls,
        old_vectors: Vectors,
        new_vectors: Vectors,
        *,
        kind: Kind = "auto",
        seed: int = 42,
        old: Mapping[str, Any] | None = None,
        new: Mapping[str, Any] | None = None,
        say: Callable[[str], Any] = say_nothing,
    ) -> Self:
        """Fit the maps on vectors (n, d) and (n, d') of the same n different texts; the other arguments are those of `fit`.

        `old` and `new` are records of the encoders. Without them, vectors are compared by cosine.
        """
        if kind not in KINDS:
            raise ZooError(f"unknown kind of bridge {kind!r}{suggest(str(kind), KINDS)}")
        pair = [np.asarray(part, np.float32) for part in (old_vectors, new_vectors)]
        if any(part.ndim != 2 for part in pair) or len(pair[0]) != len(pair[1]):
            shapes = " and ".join(str(part.shape) for part in pair)
            raise ZooError(
                f"a bridge needs the vectors of the same texts from both encoders, not of the shapes {shapes}"
            )
        for side, part in zip(SIDES, pair, strict=True):
            if not np.isfinite(part).all():
                raise ZooError(f"the {side} vectors hold NaN or infinity; encode the texts again")
        split = split_texts(len(pair[0]), seed)
        say("fitting maps from the new vectors to the old ones")
        to_old = fit_map(pair[1], pair[0], split, kind, seed, say)
        say("fitting maps from the old vectors to the new ones")
        to_new = fit_map(pair[0], pair[1], split, kind, seed, say)
        records = [
            dict(record or {"name": side, "dim": part.shape[1], "similarity": "cosine"})
            for record, side, part in zip((old, new), SIDES, pair, strict=True)
        ]
        facts = {
            "seed": seed,
            "texts": len(pair[0]),
            "measured_texts": len(split.measured),
            "to_old": _describe(to_old),
            "to_new": _describe(to_new),
        }
        return cls(to_old.map, to_new.map, records[0], records[1], facts)

    def map(self, vectors: npt.NDArray[Any], to: str = "old") -> Vectors:
        """Map vectors (n, d) of one encoder to (n, d') float32 of the other.

        They get unit norm if the other encoder compares by cosine. `to` is "old" for vectors of the new encoder, and "new" for
        those of the old one. Raises ZooError for vectors of another width.
        """
        if to not in SIDES:
            raise ZooError(f"to: {to!r} is neither 'old' nor 'new'")
        record = self.new if to == "old" else self.old
        rows = np.asarray(vectors, np.float32)
        if rows.ndim != 2 or rows.shape[1] != record["dim"]:
            raise ZooError(
                f"vectors of the shape {rows.shape} are not those of {record['name']}, which have the shape (n, {record['dim']})"
            )
        mapped = self._maps[to].apply(rows)
        target = self.old if to == "old" else self.new
        return normalise(mapped) if target["similarity"] == "cosine" else mapped

    def map_queries(self, vectors: npt.NDArray[Any]) -> Vectors:
        """Map queries (m, d) of the new encoder to float32 (m, d') with which the index of the old encoder is searched."""
        return self.map(vectors)

    def require_encoders(self, *, old: Encoder | None = None, new: Encoder | None = None) -> None:
        """Raise ArtefactError unless the encoders are those of the bridge, by the sha256 of their weights."""
        for side, encoder in zip(SIDES, (old, new), strict=True):
            if encoder is not None:
                identity.require_encoder("the bridge", side, getattr(self, side), encoder)

    def describe(self) -> str:
        """Say in one sentence for each direction how much of the first ten rows is kept."""
        lines = []
        for to, queries, index in (("to_old", self.new, self.old), ("to_new", self.old, self.new)):
            facts = self.facts[to]
            neighbours, itself = (str(Kept(**facts[name])) for name in ("neighbours", "itself"))
            lines.append(
                f"queries of {queries['name']} in vectors of {index['name']} ({facts['kind']}): they find {neighbours} of the "
                f"ten rows that a query of {index['name']} finds; {itself} of the texts find their own row among the first ten"
            )
        return "\n".join(lines)

    def tensors(self) -> dict[str, Vectors]:
        """The arrays of both maps by name."""
        return {
            f"to_{side}.{name}": np.ascontiguousarray(array)
            for side, part in self._maps.items()
            for name, array in part.tensors().items()
        }

    def save(self, path: str | Path) -> Path:
        """Write the bridge as one safetensors file, atomically, and return its path."""
        description = {"old": self.old, "new": self.new, "facts": self.facts}
        return bridge_file.write(Path(path), self.tensors(), description)

    @classmethod
    def open(cls, path: str | Path, *, old: Encoder | None = None, new: Encoder | None = None) -> Self:
        """Open a bridge, and compare the encoders that are given with those that it was fitted to.

        Raises ArtefactError for a damaged or altered file, and for other encoders.
        """
        arrays, description = bridge_file.read(Path(path))
        try:
            to_old, to_new = (_read_map(arrays, side) for side in SIDES)
            bridge = cls(to_old, to_new, description["old"], description["new"], description["facts"])
            bridge._check(arrays)
        except (KeyError, TypeError, ValueError, AttributeError, ZooError) as error:
            raise ArtefactError(
                f"{path}: is not a bridge that this version reads ({type(error).__name__}: {first_line(error)}); fit it again "
                "with `zoo bridge`"
            ) from None
        bridge.require_encoders(old=old, new=new)
        return bridge

    def _check(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Raise ValueError unless arrays and records fit together."""
        if self.tensors().keys() != arrays.keys():
            raise ValueError("it has further arrays")
        self.describe()
        for side, record in (("old", self.new), ("new", self.old)):
            mapped = self.map(np.zeros((1, int(record["dim"])), np.float32), to=side)
            if mapped.shape[1] != getattr(self, side)["dim"] or not np.isfinite(mapped).all():
                raise ValueError("its arrays do not fit its encoders")


def _read_map(arrays: Mapping[str, npt.NDArray[Any]], side: str) -> SpaceMap:
    prefix = f"to_{side}."
    return SpaceMap.read(
        {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    )


def _encode(encoder: Encoder, texts: list[str], side: str) -> Vectors:
    vectors = encoder.encode_query(texts)
    if vectors.dtype.kind != "f":
        raise ZooError(f"the {side} model {encoder.name} gives codes, and a bridge maps float vectors")
    found: Vectors = np.asarray(vectors, np.float32)
    return found


def _describe(fitted: FittedMap) -> dict[str, Any]:
    return {
        "kind": fitted.kind,
        "neighbours": asdict(fitted.neighbours),
        "itself": asdict(fitted.itself),
        "recalls": fitted.recalls,
    }

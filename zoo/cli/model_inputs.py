"""Inputs on the command line for models of any kind: texts of a table or of lines, images of a folder, vectors of an .npy."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.core.errors import DataError, ZooError
from zoo.core.output import say

if TYPE_CHECKING:
    from zoo.encoder import Encoder
    from zoo.spec import EncoderSpec


def check_rows(names: Iterable[str | None]) -> None:
    """Look at the first row of each file that is named, before a model is opened.

    Raises DataError for a file that is missing, that cannot be read, or that has no rows.
    """
    for name in filter(None, names):
        _read_first_row(name)


def check_same_kind(encoder: Encoder, name: str, kinds: Collection[str]) -> None:
    """Raise ZooError unless an encoder reads one of `kinds`, the kinds of input that the encoder `name` reads."""
    if not set(encoder.modalities) & set(kinds):
        raise ZooError(
            f"{encoder.name} reads {' and '.join(encoder.modalities)}, and {name} reads {' and '.join(kinds)}; "
            "they have no inputs in common"
        )


def choose_kind(spec: EncoderSpec, name: str, column: str | None) -> str:
    """Return the kind of input that an encoder takes of the rows `name`: text, image or vector.

    It is the encoder's main kind. If the encoder reads several, it is the first one that the rows have as a column.
    """
    kinds = list(dict.fromkeys((spec.main_modality, *spec.modalities)))
    first = _read_first_row(name)
    if column is not None:
        return "image" if "image" in kinds and isinstance(first.get(column), bytes) else kinds[0]
    return next((kind for kind in kinds if kind in first), kinds[0])


def read_inputs(name: str, spec: EncoderSpec, column: str | None) -> list[Any]:
    """Read all inputs that an encoder takes of the rows `name`, in order. By default the column is called as their kind.

    Raises DataError for rows that cannot be read.
    """
    kind = choose_kind(spec, name, column)
    return list(read_columns(name, {kind: column}, {kind: kind})[kind])


def read_texts(name: str, column: str, limit: int) -> list[str]:
    """Read the different texts of a column of a table, or the lines of a file; at most `limit` of them, drawn by chance."""
    return draw_different(name, list(read_columns(name, {"text": column}, {"text": "text"})["text"]), limit)


def read_columns(name: str, columns: Mapping[str, str | None], roles: Mapping[str, Any]) -> Any:
    """Read columns of the rows `name` as a data set: `columns` gives the column of a role, or None for that of its name."""
    from zoo import data
    from zoo.index.row_names import read_section

    section, folder = read_section(name, Path())
    given = {role: column for role, column in columns.items() if column is not None and column != role}
    section = section.model_copy(update={"columns": {**section.columns, **given}})
    return data.read(section, roles, folder=folder).rows


def draw_different(name: str, values: Sequence[Any], limit: int) -> list[Any]:
    """Return at most `limit` of the values, drawn by seed 0. A text that occurs again is left out."""
    kept = list(dict.fromkeys(values)) if values and isinstance(values[0], str) else list(values)
    if len(kept) <= limit:
        return kept
    import numpy as np

    say(f"{name}: {limit:,} of {len(kept):,} inputs are drawn")
    return [kept[number] for number in np.random.default_rng(0).permutation(len(kept))[:limit]]


def _read_first_row(name: str) -> Mapping[str, Any]:
    from zoo import data
    from zoo.index.row_names import read_section

    section, folder = read_section(name, Path())
    first = next(iter(data.stream(section, folder=folder)), None)
    if first is None:
        raise DataError(f"{name}: there are no rows")
    return first[1]

"""The `data:` section: where rows come from. Three sources, told apart by `source`; pydantic only, nothing is read."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from zoo.schema import Positive, Renamed, Section

Scalar = str | int | float | bool


def _whole(size: float) -> float:
    if size >= 1 and size != int(size):
        raise ValueError(f"must be a whole number of rows, or a share below 1, not {size}")
    return size


Size = Annotated[float, Field(gt=0, strict=True), AfterValidator(_whole)]
"""Rows held out: a share below 1, or a count."""


class Holdout(Section):
    """A deterministic split into a training and a test side. The seed decides which rows are on the test side."""

    renamed_fields = {
        "take": Renamed("side", lambda value: {"kept": "train", "held-out": "test"}.get(str(value), value))
    }

    size: Size = Field(description="Rows held out: a share below 1, or a count.")
    side: Literal["train", "test"] = Field(
        description="The side to read: the training rows, or those held out for tests."
    )
    by: str | None = Field(default=None, description="Rows with the same value in this column stay on one side.")
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


class Rows(Section):
    """What every source understands, in the order it is applied: columns, where, on_bad_row, holdout, limit. `where`
    and `holdout.by` may name a column by its role or by what the data calls it."""

    columns: dict[str, str] = Field(default={}, description="role the task or family asks for: column name in the data")
    where: dict[str, Scalar | tuple[Scalar, ...]] = Field(
        default={}, description="Keep rows whose column has (one of) these values."
    )
    images: str | None = Field(
        default=None, description="Folder at which relative paths of images start; by default where the file lies."
    )
    on_bad_row: Literal["error", "skip"] = "error"
    holdout: Holdout | None = None
    limit: Positive | None = Field(
        default=None, description="Rows drawn by seed 0 when there are more; the order is kept."
    )


class HubData(Rows):
    """A data set on the Hugging Face Hub, read through `datasets`."""

    source: Literal["hub"]
    name: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$",
            description="the name of a data set on the Hub, owner/name",
        ),
    ]
    config: str | None = None
    revision: str | None = Field(
        default=None, description="Commit, tag or branch; the commit it stood for goes into lock.json."
    )
    split: str = "train"


class FileData(Rows):
    """A file, a glob or a folder of csv, tsv, json, jsonl or parquet, plain or .gz; of images, whose class is the folder that
    each lies in; an idx file of images, with the one of its labels beside it; or arrays: npy, npz, h5. Relative paths start
    at the recipe; `$ZOO_DATA` at the front names the data folder of the environment. UTF-8; csv and tsv have a header and
    quote alike; json is a list of records, jsonl one record a line."""

    source: Literal["file"]
    path: Annotated[str, Field(min_length=1)]


class BuiltinData(Rows):
    """Data that ships inside an installed package or is drawn by code."""

    source: Literal["builtin"]
    name: Annotated[str, Field(min_length=1)]
    table: str | None = Field(default=None, description="Which of its tables; the first one by default.")


Data = Annotated[HubData | FileData | BuiltinData, Field(discriminator="source")]

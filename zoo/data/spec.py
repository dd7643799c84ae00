"""The `data:` section: where rows come from. `source` chooses one of three sections. Nothing is read here.

The training data may also be a list of such sections, each with the fields of `SourceFields`.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from zoo.data.limits import CELL_MB
from zoo.schema import Positive, Renamed, Section

Scalar = str | int | float | bool


def _check_whole_number(size: float) -> float:
    if size >= 1 and size != int(size):
        raise ValueError(f"must be a whole number of rows, or a share below 1, not {size}")
    return size


Size = Annotated[float, Field(gt=0, strict=True), AfterValidator(_check_whole_number)]
"""The number of rows that are held out: a share below 1, or a count."""


class Holdout(Section):
    """A deterministic split of the rows into two sides. The seed decides which rows are held out."""

    renamed_fields = {
        "take": Renamed("side", lambda value: {"kept": "train", "held-out": "test"}.get(str(value), value))
    }

    size: Size = Field(description="The number of rows that are held out: a share below 1, or a count.")
    side: Literal["train", "test"] = Field(
        description="The side to read: the training rows, or those held out for tests."
    )
    by: str | None = Field(
        default=None, description="Put all rows with the same value in this column on the same side."
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        default=0, description="Another seed holds out other rows. Use one seed for both sides."
    )


class Mine(Section):
    """`mine:`, hard negatives for the training rows: texts that an encoder takes for answers by mistake.

    Columns `negative`, `negative_1` … are added after those that the data has. The loss must read anchor, positive and negatives.
    """

    model: Annotated[str, Field(min_length=1)] = Field(
        default="backbone",
        description="The model that searches: a Hub id, a folder, package:NAME, or `backbone`, the encoder before the training.",
    )
    corpus: Data | None = Field(
        default=None,
        description="Texts to search (column `text`). Default: the positives and negatives of the training rows.",
    )
    range: tuple[Positive, Annotated[int, Field(ge=1, le=10_000)]] = Field(
        default=(1, 100),
        description="First and last rank of the candidates that are looked at. Known positives have no rank.",
    )
    margin: Annotated[float, Field(gt=0)] | None = Field(
        default=0.95,
        description="Drop candidates that score above this share of the positive's score, as probable positives. null keeps all.",
    )
    count: Annotated[int, Field(ge=1, le=32)] = Field(default=1, description="Mined negatives for each row.")
    sample: Literal["top", "random"] = Field(
        default="top", description="Take the best candidates, or random ones by the seed of the training."
    )
    every: Literal["epoch"] | None = Field(
        default=None,
        description="epoch: mine anew with the model in training at the start of each epoch but the first.",
    )
    cache: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="Folder that keeps vectors and search results for several runs. Default: `cache` in the run folder.",
    )
    examples: Annotated[int, Field(ge=0, le=100)] = Field(
        default=10, description="Training rows with a mined negative that lock.json and the card show. 0 shows none."
    )

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        first, last = self.range
        if last - first + 1 < self.count:
            raise ValueError(
                f"range: {first} to {last} has fewer than the {self.count} candidates that `count` asks for"
            )
        return self


class Rows(Section):
    """Fields of every source. They are applied in this order: columns, where, on_bad_row, holdout, limit.

    `where` and `holdout.by` name a column by its role or by its name in the data.
    """

    union_tag: ClassVar[str] = "section"

    columns: dict[str, str | None] = Field(
        default={},
        description="For each role that the task or family asks for, the name of its column in the data. `title: null` leaves "
        "an optional role out. If one role is named, optional roles that are not named are left out too.",
    )
    classes: tuple[str, ...] = Field(
        default=(), description="Names of the classes whose labels are the numbers 0, 1, 2 …, for example in idx files."
    )
    where: dict[str, Scalar | tuple[Scalar, ...]] = Field(
        default={}, description="Keep the rows whose column has this value, or one of these values."
    )
    images: str | None = Field(
        default=None, description="Folder where relative paths of images start. The default is the folder of the file."
    )
    on_bad_row: Literal["error", "skip"] = Field(
        default="error",
        description="error: stop at a row that cannot be used. skip: leave such rows out and count them.",
    )
    max_cell_mb: Positive = Field(
        default=CELL_MB, description="The largest cell, line or image file in MB. Larger ones are bad rows."
    )
    holdout: Holdout | None = Field(
        default=None, description="Split the rows, and read one side. Another data section reads the other side."
    )
    limit: Positive | None = Field(
        default=None,
        description="The largest number of rows. If there are more, draw them by seed 0 and keep their order.",
    )
    mine: Mine | None = Field(
        default=None, description="Add hard negatives to the training rows. Only for training data."
    )


class HubData(Rows):
    """A data set on the Hugging Face Hub. It is read through `datasets`."""

    source: Literal["hub"]
    name: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$",
            description="the name of a data set on the Hub, owner/name",
        ),
    ]
    config: str | None = Field(default=None, description="Name of a configuration of the data set.")
    revision: str | None = Field(
        default=None, description="Commit, tag or branch. The commit that it means is written to lock.json."
    )
    split: str = Field(default="train", description="Name of a split of the data set.")
    streaming: bool = Field(
        default=False, description="Read the rows one after the other instead of downloading the data set first."
    )


class FileData(Rows):
    """A file, a glob or a folder. Relative paths start at the recipe; a path may begin with `$ZOO_DATA` or `~`.

    The files are one of
    - tables: csv, tsv, json, jsonl (each may be compressed as .gz) or parquet. Text is UTF-8. csv and tsv have a header and
      the same rules for quotes. json holds a list of records, jsonl one record per line.
    - txt: one text per line, in the column `text`. A folder's own txt files are not read; write `folder/*.txt`.
    - images: the label of an image is the name of its folder.
    - idx files of images, with the file of labels beside them.
    - arrays: npy, npz or h5.
    """

    source: Literal["file"]
    path: Annotated[
        str, Field(min_length=1, description="A file, a folder, or a glob. It starts at the folder of the recipe.")
    ]


class BuiltinData(Rows):
    """A data set that ships inside an installed package or is drawn by code."""

    source: Literal["builtin"]
    name: Annotated[str, Field(min_length=1, description="Name of the data set, for example icd10cm or digits.")]
    table: str | None = Field(default=None, description="Name of one of its tables. The default is the first table.")


Data = Annotated[HubData | FileData | BuiltinData, Field(discriminator="source")]


# -- several sources -----------------------------------------------------------------------------------------------------


class Prompts(Section):
    """Texts before the queries and before the documents of one source. They replace those of the encoder."""

    query: str | None = Field(default=None, description="Text before each query. Default: the encoder's.")
    document: str | None = Field(default=None, description="Text before each document. Default: the encoder's.")


class SourceFields(Section):
    """Fields that a data section has besides its own in a list of training data."""

    union_tag: ClassVar[str] = "list"

    alias: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")] | None = Field(
        default=None,
        description="Name of the source on the card and in metrics.jsonl. Default: the name of the file or data set.",
    )
    weight: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="How often a row is drawn from this source, relative to the others. Default: 1."
    )
    rows: Positive | None = Field(
        default=None,
        description="Rows that are drawn from this source in an epoch, instead of a share. The next epoch goes on behind them.",
    )
    prompts: Prompts = Field(
        default=Prompts(), description="Texts before queries and documents of this source, instead of the encoder's."
    )
    loss: str | None = Field(
        default=None,
        description="Loss of this source, if the family has several. Its columns are those of this loss. Default: the encoder's.",
    )

    @model_validator(mode="after")
    def _has_one_size(self) -> Self:
        if self.weight is not None and self.rows is not None:
            raise ValueError("give either `weight` or `rows`, not both: rows is a number, weight a share of the others")
        return self


class HubSource(SourceFields, HubData):
    """A data set on the Hub in a list of training data."""


class FileSource(SourceFields, FileData):
    """A file in a list of training data."""


class BuiltinSource(SourceFields, BuiltinData):
    """A builtin data set in a list of training data."""


SourceEntry = Annotated[HubSource | FileSource | BuiltinSource, Field(discriminator="source")]
DataList = Annotated[tuple[SourceEntry, ...], Field(min_length=1)]


def _choose_form(value: Any) -> str:
    return SourceFields.union_tag if isinstance(value, list | tuple) else Rows.union_tag


TrainingData = Annotated[
    Annotated[Data, Tag("section")] | Annotated[DataList, Tag("list")], Discriminator(_choose_form)
]
"""One data section, or a list of them."""


class Mixture(Section):
    """How batches are made of several sources."""

    batches: Literal["source", "mixed"] = Field(
        default="source",
        description="source: the rows of a batch are from one source. mixed: a batch has rows of all sources.",
    )
    draw: Literal["auto", "proportional", "equal", "weighted"] = Field(
        default="auto",
        description="proportional: each row once in an epoch. equal: as many rows of each source. weighted: by the `weight` of "
        "the sources. auto: weighted if a source has a weight, else proportional.",
    )


for _section in (Mine, HubData, FileData, BuiltinData):  # `Data` was not known when they were defined
    _section.model_rebuild()

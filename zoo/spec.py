"""The fields that a recipe may have for an encoder: `EncoderSpec`, the base of every family's `encoder:` section.

A family's Spec declares and its Encoder computes. The Spec says which columns the family needs, which further data sets it
reads, what is wrong with a section, which views exist, and what the card, the command line and the model folder have to know
of the family. It imports pydantic only, so that `zoo check` and `zoo list` answer without importing torch.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

from pydantic import ValidationError

from zoo.core.errors import ZooError
from zoo.core.suggest import suggest
from zoo.data.spec import Data
from zoo.schema import Roles, Section, Training

Mistake = tuple[tuple[str | int, ...], str]
"""Where a section is wrong (a path below it), and what is wrong."""


FREE_BASELINES = ("chance", "most_frequent_class", "tfidf", "lsa", "bm25", "pixels")


@dataclass(frozen=True)
class EpochRule:
    """How many epochs a family trains if the recipe leaves it open.

    Attributes:
        rows_read: rows that the training reads, counted as often as they are read.
        least, most: limits of the number of epochs, for many and for few rows.
    """

    rows_read: int
    least: int
    most: int

    def choose(self, row_count: int) -> int:
        """Return the number of epochs over `row_count` rows."""
        return min(self.most, max(self.least, math.ceil(self.rows_read / max(1, row_count))))


class NoView(Section):
    """The view options of a family without views."""


class ExtraDataset(NamedTuple):
    """A data section inside `encoder:`.

    Attributes:
        data, roles, optional: the data, the columns that it needs, and those that it uses if they are there.
        use: whether its rows are trained on, measured on, or neither, as a list of concepts.
    """

    data: Data
    roles: Roles
    optional: Roles = {}
    use: Literal["training", "evaluation", "neither"] = "neither"


class TextLimit(NamedTuple):
    """How many tokens of a text an encoder reads, and with which tokenizer it counts them.

    Attributes:
        backbone, revision: the model whose tokenizer is used.
        max_length: the limit that the section sets; None for the backbone's own.
        field: the field of the section that sets the limit, or None if there is no such field.
        special_tokens: whether the limit includes special tokens such as [CLS].
        prompts: texts before each "query" and each "document"; None for the backbone's own.
        has_windows: whether the encoder can also read long texts in windows.
    """

    backbone: str
    revision: str | None = None
    max_length: int | None = None
    field: str | None = "max_length"
    special_tokens: bool = True
    prompts: Mapping[Any, str] | None = {}
    has_windows: bool = False


class RowNeeds(NamedTuple):
    """The needs of a loss for its rows. Without them the loss would be the same for every model.

    Attributes:
        rows: rows that the loss must see at once. An in-batch loss without hard negatives is 0 for a single row.
        rows_per_process: rows that every process must see at once.
        distinct: groups of columns. Of each group at least two rows must differ in at least one column.
        negatives: columns of hard negatives, which a row needs if the loss sees it alone.
        reason: why a single row is not enough, as a clause.
        positive: columns of the positive of an in-batch loss. Rows with equal positives do not count as negatives.
    """

    rows: int = 1
    rows_per_process: int = 1
    distinct: tuple[tuple[str, ...], ...] = ()
    negatives: tuple[str, ...] = ()
    reason: str = ""
    positive: tuple[str, ...] = ()

    @classmethod
    def in_batch(cls, anchor: tuple[str, ...], positive: tuple[str, ...], negatives: tuple[str, ...] = ()) -> RowNeeds:
        """The needs of an in-batch contrastive loss; `negatives` are the columns of hard negatives that the data has."""
        if negatives:
            return cls(negatives=negatives, positive=positive)
        reason = "an in-batch loss needs the other rows, or hard negatives, as negatives"
        return cls(rows=2, distinct=(anchor, positive), reason=reason, positive=positive)


class Command(NamedTuple):
    """A command line verb that a family adds, for example `zoo explain`.

    `module` is a module of the family's folder with `add_arguments(parser)` and `run(encoder, arguments)`; it is imported only
    when the verb is used.
    """

    help: str
    module: str


class EncoderSpec(Section):
    """Base of every family's `encoder:` section.

    Attributes of the class, which a family overrides where it differs:
        View: the section that holds the family's view options.
        training_defaults: `training:` values of this family, used if the recipe gives none. Its `learning_rate` is the usual
            one, from which a range test starts.
        tests_learning_rate: whether `learning_rate: auto` is the default of a recipe.
        uses_validation: whether training looks at held-out rows; otherwise a recipe may not have `validation:`.
        trains_in_processes: whether several processes, as under torchrun, can share a training.
        can_divide_weights: whether accelerate may divide the weights over several processes (FSDP).
        trains_whole_epochs: whether a fractional number of epochs is rounded, as `zoo.schema.round_epochs` does.
        recognises: whether the family has classes of its own, which the task `recognition` scores.
        source_losses: losses that one source of several may choose for itself, instead of the field `loss`.
        has_source_prompts: whether one source of several may have prompts of its own.
        mixes_sources: whether training draws batches of several sources. Otherwise their rows are read as one table.
        accepts_mixed_inputs: whether one input may hold several modalities, as in {"image": …, "text": …}.
        min_reader_version: the first version of embedding-zoo that reads what `Encoder.save` writes.
        pictures: pictures of the card besides those that every card has: name → `module:draw_X` in the family's folder. Beside
            `draw_X` stands `describe_X`, which says the finding in a sentence.
        commands: verbs that the family adds to the command line, by name.
        text_files: text files of the model folder that may be large: name → largest size in bytes.
        free_baselines: what is scored beside the encoder: files of `zoo/evaluation/baselines`, or `module:Class` in the
            family's folder. Each says which tasks it suits.
    """

    View: ClassVar[type[Section]] = NoView
    training_defaults: ClassVar[Mapping[str, Any]] = {}
    tests_learning_rate: ClassVar[bool] = True
    uses_validation: ClassVar[bool] = True
    trains_in_processes: ClassVar[bool] = True
    can_divide_weights: ClassVar[bool] = False
    trains_whole_epochs: ClassVar[bool] = False
    recognises: ClassVar[bool] = False
    source_losses: ClassVar[tuple[str, ...]] = ()
    has_source_prompts: ClassVar[bool] = False
    mixes_sources: ClassVar[bool] = True
    accepts_mixed_inputs: ClassVar[bool] = False
    min_reader_version: ClassVar[str] = "0.2.0"
    pictures: ClassVar[Mapping[str, str]] = {}
    commands: ClassVar[Mapping[str, Command]] = {}
    text_files: ClassVar[Mapping[str, int]] = {}
    free_baselines: ClassVar[tuple[str, ...]] = FREE_BASELINES

    family: str

    @classmethod
    def choose_training_defaults(cls, section: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return `training:` values for the fields that a recipe leaves open. Default: `training_defaults`.

        `section` is the recipe's encoder section as it was written, perhaps with mistakes.
        """
        return cls.training_defaults

    @property
    def usual_learning_rate(self) -> float:
        """The learning rate that fits most data of this family."""
        defaults = self.choose_training_defaults(self.model_dump())
        return float(defaults.get("learning_rate", Training.model_fields["learning_rate"].default))

    @property
    def epoch_rule(self) -> EpochRule | None:
        """How many epochs are trained if the recipe leaves it open. None, the default: one."""
        return None

    @property
    def modalities(self) -> tuple[str, ...]:
        """Kinds of inputs that the encoder reads: text, image, vector."""
        return ("text",)

    @property
    def main_modality(self) -> Literal["text", "image", "vector"]:
        """The kind of column that holds one input: text if the encoder reads texts, else its first modality."""
        return "text" if "text" in self.modalities else self.modalities[0]  # type: ignore[return-value]

    @property
    def codes_problem(self) -> str:
        """Why `encode` gives no float vectors, as a clause with the cure; empty if it gives them, which is the default."""
        return ""

    @property
    def text_limit(self) -> TextLimit | None:
        """How many tokens of a text are read, for families whose texts pass a pretrained tokenizer. Default: not known."""
        return None

    def learns_vocabulary(self, spelled: float) -> bool:
        """Whether tokens are learned from the training texts, if the backbone spells this share of their words. Default: no."""
        return False

    @property
    def extras(self) -> tuple[str, ...]:
        """Extras of the package that training and loading need, in the order of an install command."""
        return ("image",) if "image" in self.modalities else ()

    @property
    def adapter_folder(self) -> str | None:
        """The folder inside the model folder that holds an adapter on another model; None if the weights are whole."""
        return None

    @classmethod
    def load_family_attribute(cls, reference: str) -> Any:
        """Import `module:attribute` from the family's folder."""
        module, _, attribute = reference.partition(":")
        package = cls.__module__.rpartition(".")[0]
        return getattr(importlib.import_module(f"{package}.{module}"), attribute)

    def roles(self) -> tuple[Roles, Roles]:
        """Columns of the training data that this section needs, and those that it uses if they are there."""
        raise NotImplementedError

    def for_source(self, loss: str | None) -> Self:
        """Return the section as a source with this loss has it; `None` is the loss of the section."""
        return self if loss is None else self.model_copy(update={"loss": loss})

    def reads_training_field(self, name: str) -> bool:
        """Whether training reads this field of `training:`. Default: the shared Trainer does the training and reads all."""
        return True

    def list_unused_fields(self, has_validation: bool) -> set[str]:
        """Fields of this section that had no effect beside the others, as dotted paths. The card does not list them."""
        return set()

    def describe_row_needs(self, columns: Container[str]) -> RowNeeds:
        """Describe the needs of the loss for data with these columns. Default: one row at a time, and no further needs."""
        return RowNeeds()

    def extra_datasets(self) -> Mapping[tuple[str, ...], ExtraDataset]:
        """Data sections inside this one, by their path below `encoder`.

        They are checked and locked like the recipe's own data. The encoder finds their rows in `tables`, under the last step of
        the path.
        """
        return {}

    def find_mistakes(self, folder: Path) -> list[Mistake]:
        """Mistakes that only this family can see, without reading data. Relative paths start at `folder`."""
        return []

    def check_view(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of a view without those that are None.

        Types are strict: neither `"3"`, `3.0` nor `True` is the number 3. Raises ZooError that names the option.
        """
        known = self.View.model_fields
        values = {name: as_plain_number(value) for name, value in options.items() if value is not None}
        for name in values:
            if name not in known:
                has = f"its view options are: {', '.join(known)}" if known else "it has no view options"
                hint = suggest(name, known, listing="")
                raise ZooError(f"{name}: the family {self.family} has no such view option{hint}; {has}")
        try:
            self.View.model_validate(values, strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"])) or "view"
            reason = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
            raise ZooError(f"{name}: {reason}, not {repr(first['input'])[:60]}") from None
        return values

    def suggest_for_columns(self, columns: Container[str]) -> list[Mistake]:
        """Report fields that do not fit training data with these columns, as mistakes of this section. Default: nothing.

        It is asked for data that lacks a column.
        """
        return []

    def suggest_when_worse(self, facts: Mapping[str, float]) -> str:
        """Say what to change if a free baseline is better, as a clause.

        `facts` may hold `rows`, the training rows, and `words`, the median number of words of a training text. Nothing is asked
        if the backbone does not know the words (`zoo.text.spelled_words`).
        """
        return "try more rows, more `training.epochs` or another `training.learning_rate`"

    def find_list_mistakes(self) -> list[Mistake]:
        """Mistakes of this section if `data` is a list of sources. Default: none."""
        return []

    def find_view_mistake(self, view: Mapping[str, Any], folder: Path) -> str | None:
        """Say what is wrong with a view that has the right options and types, or return None."""
        return None


def as_plain_number(value: Any) -> Any:
    """Return a numpy number as Python's own; return any other value as it is."""
    is_scalar = type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0
    return value.item() if is_scalar else value

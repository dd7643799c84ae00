"""The base class of all sections of a recipe, and the sections that are the same for every family.

This module imports only pydantic, so that a recipe can be checked in a fraction of a second.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from zoo.core import repo_names
from zoo.core.errors import RenamedFieldWarning

Kind = Literal["text", "texts", "number", "label", "image", "vector", "id", "ids", "caption", "captions", "pictures"]
"""What a column must hold:

- `text`: a string that is not empty.
- `texts`: a list of at least one text.
- `number`: a finite number.
- `label`: a string or an integer.
- `image`: an image that Pillow can open.
- `vector`: a list of finite numbers, with the same length in every row.
- `id`: a string or an integer, used as a key.
- `ids`: a list of ids, or one id. It may be empty or missing.
- `caption`: a text that may be empty or missing.
- `captions`: a list of captions, or one caption.
- `pictures`: a list of images, or one image. Each may be missing. They are opened only when they are used.
"""


Baselines = Literal["cheap", "full", "none"]
"""Which free baselines are scored: those that take seconds, also those that train a network, or none."""

Roles = Mapping[str, Kind]
"""What each role's column must hold, for example {"anchor": "text", "score": "number"}."""


class Renamed(NamedTuple):
    """The new name of a field, and how a value of the old field becomes one of the new field."""

    name: str
    convert: Callable[[Any], Any] = lambda value: value


class Section(BaseModel):
    """Base of all recipe sections. Sections are frozen, and an unknown field is an error.

    A section that renames a field lists the old name in `renamed_fields`. Recipes and model folders that use the old name stay
    valid for ever; a RenamedFieldWarning gives the new name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())
    renamed_fields: ClassVar[Mapping[str, Renamed]] = {}

    @model_validator(mode="before")
    @classmethod
    def _read_renamed_fields(cls, value: Any) -> Any:
        old_names = cls.renamed_fields.keys() & value.keys() if isinstance(value, dict) else ()
        if not old_names:
            return value
        fields = dict(value)
        for old in sorted(old_names):
            new = cls.renamed_fields[old]
            if new.name in fields:
                raise ValueError(f"`{old}` is the old name of `{new.name}`: give one of them, not both")
            warnings.warn(f"the recipe field `{old}` is now called `{new.name}`", RenamedFieldWarning, stacklevel=2)
            fields[new.name] = new.convert(fields.pop(old))
        return fields

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with some fields changed. Unlike pydantic's own, it raises TypeError for a field that does not exist."""
        unknown = set(update or ()) - type(self).model_fields.keys()
        if unknown:
            raise TypeError(f"{type(self).__name__} has no field {', '.join(sorted(unknown))}")
        return super().model_copy(update=update, deep=deep)


def invert(value: Any) -> Any:
    """1 / value, for a field that became its own inverse; a value that has none is left for the field's own check."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return 1 / value if is_number and value > 0 else value


Positive = Annotated[int, Field(ge=1)]


Tracker = Literal["tensorboard", "trackio", "wandb", "mlflow"]

SpaceFigure = Literal[
    "vendi",
    "attention_entropy",
    "rankme",
    "rankme_centred",
    "participation",
    "coding_rate",
    "components_in_use",
    "mean_cosine",
    "norm_spread",
    "dead_components",
    "intrinsic_dimension",
    "hubness",
]
"""A figure of a space that needs no labels, as the task `diagnose` has it."""


class Training(Section):
    """`training:`, the settings of all families that are trained by gradient descent. Steps are optimiser steps."""

    epochs: Annotated[float, Field(gt=0)] | Literal["auto"] | None = Field(
        "auto",
        description="Passes over the data. `auto` is a number that the family derives from the number of rows, or 1.",
    )
    max_steps: Positive | None = Field(
        None, description="Stop after this many optimiser steps, even if `epochs` asks for more."
    )
    batch_size: Positive = Field(
        64, description="Rows per optimiser step, summed over all processes and accumulation steps."
    )
    gradient_accumulation: Positive = Field(
        1, description="Number of equal parts that a batch is run in. It must divide `batch_size`."
    )
    learning_rate: Annotated[float, Field(gt=0, lt=10)] | Literal["auto"] = Field(
        2e-5,
        description="The highest learning rate of the schedule. `auto`, the default in a recipe of most families, "
        "corrects the family's usual rate by a short range test on training rows.",
    )
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="How the learning rate goes on after the warmup: it falls to 0, or it stays."
    )
    warmup: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1, description="Share of the steps in which the learning rate rises."
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="Weight decay of the optimiser.")
    optimizer: Literal["adamw", "adamw-8bit", "muon"] = Field(
        "adamw",
        description="adamw-8bit keeps its state in 8 bits (bitsandbytes, on a GPU). muon is Muon for the hidden matrices, at the "
        "rates of AdamW, and AdamW for the rest.",
    )
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="Learning rate of each layer of a text backbone, as a multiple of that of the layer above it."
    )
    sigma_reparam: bool = Field(
        False,
        description="Train linear layers as a learned gain times weights of spectral norm 1, for high rates and networks from "
        "scratch. The model that is saved is a plain one.",
    )
    compile: Literal["auto"] | bool = Field(
        False, description="Compile the backbone for the training with torch.compile. `auto` does so on a GPU only."
    )
    max_grad_norm: Annotated[float, Field(gt=0)] = Field(
        1.0, description="Gradients with a larger norm are scaled down to it."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="`auto` is bf16 if the hardware computes it natively, else fp32."
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        42, description="Seed of all random numbers: first weights, order of the rows, dropout."
    )
    checkpoint_every: Positive | None = Field(
        None, description="Steps between checkpoints. By default a run writes ten."
    )
    keep_checkpoints: Positive | Literal["all"] | None = Field(
        None,
        description="How many of the newest checkpoints stay, also after the training, for example for `zoo diagnose`. `all` "
        "keeps every one. By default a run keeps two, and removes them at its end.",
    )
    validate_every: Positive | None = Field(
        None, description="Steps between validations. By default each checkpoint is validated."
    )
    early_stop: Positive | Literal["auto"] | None = Field(
        "auto",
        description="Stop after this many validations in a row without a better one. `auto` is 5 if the best weights of a "
        "validation are kept; null never stops early.",
    )
    keep_best: bool = Field(
        True,
        description="With `validation`, keep the weights with the best score of its tasks, or with the lowest loss if it has no "
        "task.",
    )
    report: tuple[Tracker, ...] = Field(
        (),
        description="Trackers that follow the training, and get the final scores and the pictures of the card. Their files are "
        "in `trackers/` of the run folder; keys come from their own login.",
    )

    watch: tuple[SpaceFigure, ...] = Field(
        (),
        description="Figures of the space that are followed along the training, without labels, for example rankme. They are of "
        "1,000 validation rows, or of training rows without a validation.",
    )

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate as a number. Raises ValueError if it is still to be chosen."""
        if self.learning_rate == "auto":
            raise ValueError("training.learning_rate is `auto`: Encoder.fit chooses it")
        return float(self.learning_rate)

    def for_baseline(self) -> Self:
        """Return the settings for a training that is not the author's own: no trackers, figures or lasting checkpoints."""
        return self.model_copy(update={"report": (), "watch": (), "keep_checkpoints": None})

    @property
    def fixed_epochs(self) -> float | None:
        """The number of epochs, or None if the recipe leaves it open."""
        return None if self.epochs in (None, "auto") else float(self.epochs)

    @field_validator("gradient_accumulation")
    @classmethod
    def _divides(cls, value: int, info: ValidationInfo) -> int:
        if (size := info.data.get("batch_size")) and size % value:
            raise ValueError(f"must divide batch_size: {size} rows cannot be run in {value} equal parts")
        return value


def round_epochs(epochs: float) -> int:
    """Return the number of epochs that a family trains which only reads its rows as a whole."""
    return max(1, round(epochs))


class Card(Section):
    """`card:`, the facts about the model that only its author knows."""

    license: str = Field("other", description="Licence of the model, as the Hub writes it, for example apache-2.0.")
    language: str | tuple[str, ...] = Field((), description="Languages of the texts, for example en.")
    tags: tuple[str, ...] = Field((), description="Further tags of the model on the Hub.")
    summary: str = Field("", description="One sentence that the card begins with.")
    title: str | None = Field(None, description="Title of the card. Default: the name of the recipe.")


class Publish(Section):
    """`publish:`, the repository on the Hub that the finished model is pushed to."""

    repo: Annotated[str, Field(pattern=r"^[^/]+/[^/]+$", description="owner/name, as the Hub has it")]
    private: bool = Field(True, description="Create the repository as a private one.")

    @field_validator("repo")
    @classmethod
    def _is_a_name_of_the_hub(cls, value: str) -> str:
        if problem := repo_names.find_problem(value):
            raise ValueError(problem)
        return value

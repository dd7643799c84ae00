"""A recipe: one YAML file becomes one frozen, typed `Recipe`, or every mistake in it with file, line and column.

Nothing here imports torch, so that `zoo check` answers at once.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, Self, TypeVar, Union

from pydantic import Field, PrivateAttr, ValidationError

from zoo import after, families
from zoo.after.sections import AfterStep
from zoo.core import confinement, located_yaml
from zoo.core.errors import RecipeError, RenamedFieldWarning, UnreadFieldWarning
from zoo.data.data_source import DataSource, describe_sources
from zoo.data.spec import Mine, Mixture, TrainingData
from zoo.evaluation.spec import Task, Validation
from zoo.recipe import error_messages, overrides, shipped, untrusted, validation
from zoo.recipe.error_messages import Loc, Mistake
from zoo.schema import Baselines, Card, Publish, Section, Training
from zoo.spec import EncoderSpec

SpecT = TypeVar("SpecT", bound=EncoderSpec)
SAVED_BESIDE = "lock.json"  # stands beside the recipe of a run, and of a model
SAVED_ADVICE = (
    "is the recipe of a run: its relative paths start where the original was, so name that folder with --data"
)


class Recipe(Section, Generic[SpecT]):
    """The whole experiment. `encoder` is the Spec of the family it names."""

    name: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$",
            description="a name of letters, digits, `.`, `_` and `-` that begins with a letter or digit",
        ),
    ]
    encoder: SpecT = Field(description="What is trained. Its field `family` names the family.")
    data: TrainingData = Field(
        description="The training rows: a data section, or a list of data sections, each with a name, a share and prompts."
    )
    mixture: Mixture | None = Field(None, description="How batches are made if `data` is a list.")
    validation: Validation | None = Field(
        None,
        description="Rows or tasks to watch during training. Rows: a data section, or a share (below 1) or count held out of "
        "`data`. `auto`, the default, holds out up to 256 rows of at least 2,000 if the recipe does not say how long to train. "
        "null holds out none. Or a task as in `evaluation`, which may have a `metric`; or a list of tasks and at most one entry "
        "of rows. With tasks, the mean of their scores decides early stop and best weights.",
    )
    on_overlap: Literal["report", "drop", "error"] = Field(
        "report",
        description="Rows of validation or evaluation that are training rows as well: count them, drop them from training, or "
        "stop before training. Rows of a validation task are never counted only.",
    )
    training: Training = Field(Training(), description="Settings of the training.")
    evaluation: tuple[Task, ...] = Field((), description="Tasks that the model is scored on after the training.")
    baselines: Baselines = Field(
        "cheap",
        description="Free baselines beside every score: those that take seconds, also those that train a network (`full`), or "
        "none.",
    )
    card: Card = Field(Card(), description="Facts about the model that only its author knows.")
    publish: Publish | None = Field(None, description="Push the finished model to this repository.")
    after: tuple[AfterStep, ...] = Field(
        (), description="Steps after the training, in order. Each is fitted, measured and saved with the model."
    )

    _folder: Path = PrivateAttr(default=Path())

    @property
    def sources(self) -> dict[str, DataSource]:
        """The sources of the training rows by name; {} if `data` is one section."""
        return describe_sources(self.data) if isinstance(self.data, tuple) else {}

    @property
    def folder(self) -> Path:
        """Where the recipe's relative paths start."""
        return self._folder

    @property
    def mine(self) -> Mine | None:
        """How hard negatives are mined; None if they are not. A list of sources has no mining."""
        return None if isinstance(self.data, tuple) else self.data.mine

    def fill_in(self, chosen: Mapping[str, Any]) -> Self:
        """Return the recipe with values for the fields that it leaves open: `validation`, and fields of `training` and `encoder`.

        `chosen` has them by their dotted path.
        """
        return _fill_in(self, chosen)

    def dump(self) -> str:
        """YAML with every default filled in; `load` reads it back to an equal recipe."""
        return located_yaml.dump(self.dump_values())

    def dump_values(self) -> dict[str, Any]:
        """Return the sections as plain values with every default filled in, as JSON can hold them."""
        return self.model_dump(mode="json")


SectionT = TypeVar("SectionT", bound=Section)


def _fill_in(section: SectionT, chosen: Mapping[str, Any]) -> SectionT:
    """Return a section with new values of fields, and of fields of the sections inside it, by their dotted paths.

    Values may be from JSON, where tuples are lists.
    """
    update = {
        path: tuple(value) if isinstance(value, list) else value for path, value in chosen.items() if "." not in path
    }
    inside: dict[str, dict[str, Any]] = {}
    for path, value in chosen.items():
        name, _, rest = path.partition(".")
        if rest:
            inside.setdefault(name, {})[rest] = value
    update |= {name: _fill_in(getattr(section, name), values) for name, values in inside.items()}
    return section.model_copy(update=update)


def load(path: str | Path, *changes: str, folder: Path | None = None) -> Recipe[Any]:
    """Read and check a recipe.

    Args:
        path: a YAML file, or the name of a shipped recipe (`quickstart`).
        changes: overrides `key.path=value`; list items are numbered (`evaluation.0.at_least=.5`).
        folder: where relative paths in the recipe start. Default: the folder of the file.

    Raises RecipeError that lists every mistake as `file:line:col: path: what is wrong`.
    """
    file = shipped.find(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{file}: not UTF-8 (byte {error.start}); save the recipe as UTF-8") from None
    except OSError as error:
        raise RecipeError(f"{file}: cannot be read: {error.strerror}") from None
    try:
        return loads(text, *changes, folder=file.parent if folder is None else folder, file=str(file))
    except RecipeError as error:
        if folder is None and (file.parent / SAVED_BESIDE).exists():
            raise RecipeError(*error.problems, f"{file}: {SAVED_ADVICE}") from None
        raise


def loads(
    text: str, *changes: str, folder: Path = Path(), file: str = "<recipe>", confined: bool = False
) -> Recipe[Any]:
    """Read and check a recipe from text.

    Relative paths in it start at `folder`. With `confined`, a path that leaves `folder` is a mistake, and so is a training that
    never ends. Run such a recipe inside `confinement.confine_to(folder)`, because links are followed only when files are read.
    """
    untrusted.refuse_tokens(text, changes, file)
    try:
        tree = located_yaml.parse(text)
    except located_yaml.YamlError as error:
        raise RecipeError(f"{file}:{error.line}:{error.column}: {error.message}") from None
    if not isinstance(tree.value, dict):
        raise RecipeError(f"{file}:1:1: a recipe is a mapping that starts with `name:`, `encoder:` and `data:`")
    lines = [f"{file}:{line}:{column}: {message}" for line, column, message in sorted(tree.problems)]
    changed: list[tuple[str, Loc]] = []
    for change in changes:
        try:
            changed.append((change, overrides.apply(tree, change)))
        except RecipeError as error:
            lines += error.problems
    mistakes = untrusted.find_outside_paths(tree.value) if confined else []
    given = list(tree.value["training"]) if isinstance(tree.value.get("training"), dict) else []
    recipe = None
    if not mistakes:
        with _warn_once_of_renamed_fields(file), confinement.confine_to(folder) if confined else nullcontext():
            recipe, mistakes = _validate(tree.value, folder)
            mistakes += untrusted.find_excesses(recipe.model_dump()) if confined and recipe is not None else []
    lines += _format_mistakes(mistakes, tree, changed, file)
    if lines or recipe is None:
        raise RecipeError(*lines)
    recipe._folder = folder
    unread = validation.find_unread_fields(given, recipe.training, recipe.encoder)
    for line in _format_mistakes(unread, tree, changed, file):
        warnings.warn(line, UnreadFieldWarning, stacklevel=3)
    return recipe


@contextmanager
def _warn_once_of_renamed_fields(file: str) -> Iterator[None]:
    """Give one warning for each renamed field of a file, although a section may be validated more than once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RenamedFieldWarning)
        yield
    messages = {str(entry.message): entry for entry in caught if issubclass(entry.category, RenamedFieldWarning)}
    for message in messages:
        warnings.warn(f"{file}: {message}", RenamedFieldWarning, stacklevel=4)
    for entry in caught:
        if not issubclass(entry.category, RenamedFieldWarning):
            warnings.warn_explicit(entry.message, entry.category, entry.filename, entry.lineno)


def _validate(value: dict[str, Any], folder: Path) -> tuple[Recipe[Any] | None, list[Mistake]]:
    """The recipe, or None and every mistake."""
    spec_class, mistakes = validation.find_family(value)
    training = value.get("training")
    stops_early = isinstance(training, dict) and training.get("early_stop") not in (None, "auto")
    validation.normalise(value, spec_class)
    model: Any = Recipe.__class_getitem__(spec_class or validation.AnyEncoder)
    recipe = None
    try:
        recipe = model.model_validate(value)
    except ValidationError as error:
        mistakes += error_messages.translate(error, model, value)
    mistakes += validation.find_mistakes(value, spec_class, folder, stops_early=stops_early)
    mistakes = error_messages.drop_fields_of_unknown_tasks(mistakes)
    return (None if mistakes else recipe), mistakes


def _format_mistakes(
    mistakes: list[Mistake], tree: located_yaml.Tree, changed: list[tuple[str, Loc]], file: str
) -> list[str]:
    """One line for each mistake, in the order of the file. A mistake in an override names the override."""
    entries = [(error_messages.locate(tree, loc), ".".join(map(str, loc)), text, loc) for loc, text in mistakes]
    lines = []
    for (line, column), dotted, text, loc in dict.fromkeys(sorted(entries)):
        override = next((change for change, path in changed if loc[: len(path)] == path), None)
        start = f"override {override}" if override else f"{file}:{line}:{column}"
        lines.append(f"{start}: {dotted}: {text}" if dotted else f"{start}: {text}")
    return lines


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a recipe of any family."""
    specs = tuple(families.load_spec(name) for name in families.names())
    spec = specs[0] if len(specs) == 1 else Annotated[Union[specs], Field(discriminator="family")]  # noqa: UP007
    built = Recipe[spec].model_json_schema()  # type: ignore[valid-type]
    task = built["properties"]["evaluation"]["items"]
    built["properties"]["evaluation"]["items"] = {"anyOf": [{"type": "string"}, task]}
    step = built["properties"]["after"]["items"]
    built["properties"]["after"]["items"] = {"anyOf": [{"type": "string", "enum": after.names()}, step]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **built, "title": "zoo recipe"}

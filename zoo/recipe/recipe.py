"""A recipe: one YAML file to one frozen, typed `Recipe`, or every mistake in it at once with file, line and column.

Nothing here imports torch, so `zoo check` answers at once; what only the data can tell (a missing column, an empty row) is
asked of `zoo.data` and `zoo.evaluation`, and what only a family can tell of the family.
"""

from __future__ import annotations

import types
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, Union

import yaml
from pydantic import Field, PrivateAttr, ValidationError, field_validator

from zoo import data as zoo_data
from zoo import evaluation, families
from zoo.core import located_yaml
from zoo.core.errors import RecipeError, ZooError
from zoo.core.suggest import suggest
from zoo.data.spec import Data, Size
from zoo.evaluation.spec import Recognition, Task, TaskSpec
from zoo.recipe import error_messages, untrusted
from zoo.recipe.error_messages import Loc, Mistake
from zoo.schema import Card, EncoderSpec, Publish, Section, Training

SpecT = TypeVar("SpecT", bound=EncoderSpec)


class Recipe(Section, Generic[SpecT]):
    """The whole experiment. `encoder` is the Spec of the family it names."""

    name: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$",
            description="a name of letters, digits, `.`, `_` and `-` that begins with a letter or digit",
        ),
    ]
    encoder: SpecT
    data: Data
    validation: Data | Size | None = Field(
        None,
        description="Rows to watch during training: a data section, or a share (below 1) or count held out of `data`.",
    )
    training: Training = Training()
    evaluation: tuple[Task, ...] = ()
    card: Card = Card()
    publish: Publish | None = None
    after: tuple[()] = Field((), description="Reserved for post-processors.")

    _folder: Path = PrivateAttr(default=Path())

    @field_validator("after", mode="before")
    @classmethod
    def _reserved(cls, value: Any) -> Any:
        if value:
            raise ValueError("post-processors are reserved and none exists yet; remove `after`")
        return ()

    @property
    def folder(self) -> Path:
        """Where the recipe's relative paths start."""
        return self._folder

    @property
    def family(self) -> types.ModuleType:
        """The module of the recipe's family."""
        return families.load(self.encoder.family)

    def dump(self) -> str:
        """YAML with every default filled in; `load` reads it back to an equal recipe."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)


def load(path: str | Path, *overrides: str) -> Recipe[Any]:
    """Read and check a recipe.

    Args:
        path: a YAML file, or the name of a shipped recipe (`quickstart`).
        overrides: `key.path=value`, the value written as in YAML; list items by number (`evaluation.0.at_least=.5`).

    Raises RecipeError that lists every mistake as `file:line:col: path: what is wrong`.
    """
    file = find(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{file}: not UTF-8 (byte {error.start}); save the recipe as UTF-8") from None
    except OSError as error:
        raise RecipeError(f"{file}: cannot be read: {error.strerror}") from None
    return loads(text, *overrides, folder=file.parent, file=str(file))


def loads(
    text: str, *overrides: str, folder: Path = Path(), file: str = "<recipe>", confined: bool = False
) -> Recipe[Any]:
    """`load` from text. Relative paths in it start at `folder`, and, of a `confined` recipe, may not leave it."""
    untrusted.no_token(text, overrides, file)
    try:
        tree = located_yaml.parse(text)
    except located_yaml.YamlError as error:
        raise RecipeError(f"{file}:{error.line}:{error.column}: {error.message}") from None
    found = [(line, column, message) for line, column, message in tree.problems]
    if not isinstance(tree.value, dict):
        raise RecipeError(f"{file}:1:1: a recipe is a mapping that starts with `name:`, `encoder:` and `data:`")
    lines = [f"{file}:{line}:{column}: {message}" for line, column, message in sorted(found)]
    given: list[tuple[str, Loc]] = []
    for each in overrides:
        try:
            given.append(_override(tree, each))
        except RecipeError as error:
            lines += error.problems
    outside = untrusted.leaving(tree.value) if confined else []
    recipe, wrong = (None, outside) if outside else _validate(tree.value, folder)
    placed = sorted((error_messages.place(tree, loc), ".".join(map(str, loc)), text, loc) for loc, text in wrong)
    for (line, column), dotted, text_of, loc in dict.fromkeys(placed):
        start = next((f"override {o}" for o, path in given if loc[: len(path)] == path), f"{file}:{line}:{column}")
        lines.append(f"{start}: {dotted}: {text_of}" if dotted else f"{start}: {text_of}")
    if lines or recipe is None:
        raise RecipeError(*lines)
    recipe._folder = folder
    return recipe


def shipped() -> dict[str, Path]:
    """Name → file of the recipes that come with the package."""
    import importlib.resources

    folder = Path(str(importlib.resources.files("zoo.recipes")))
    return {p.stem: p for p in sorted(folder.glob("*.yaml"))}


def find(path: str | Path) -> Path:
    """A recipe file by path or by shipped name. Raises RecipeError with the closest name."""
    file = Path(path)
    if file.is_file():
        return file
    if str(path) in shipped():
        return shipped()[str(path)]
    around = [*shipped(), *(str(p) for p in file.parent.glob("*.y*ml"))] if file.parent.is_dir() else list(shipped())
    raise RecipeError(f"{path}: there is no such recipe{suggest(str(path), around)}")


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a recipe of any family."""
    specs = tuple(families.load(name).Spec for name in families.names())
    spec = specs[0] if len(specs) == 1 else Annotated[Union[specs], Field(discriminator="family")]  # noqa: UP007
    built = Recipe[spec].model_json_schema()  # type: ignore[valid-type]
    task = built["properties"]["evaluation"]["items"]
    built["properties"]["evaluation"]["items"] = {"anyOf": [{"type": "string"}, task]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **built, "title": "zoo recipe"}


def _override(tree: located_yaml.Tree, text: str) -> tuple[str, Loc]:
    dotted, equals, value = text.partition("=")
    if not equals or not dotted:
        raise RecipeError(f"override {text}: write it as key.path=value")
    path: Loc = tuple(int(p) if p.isdigit() else p for p in dotted.split("."))
    holder = tree.value
    try:
        new = located_yaml.parse_value(value)
    except located_yaml.YamlError as error:
        raise RecipeError(f"override {text}: {error.message}") from None
    for step in path[:-1]:
        if isinstance(holder, dict):
            if holder.get(step) is None:
                holder[step] = {}
            holder = holder[step]
        elif isinstance(holder, list) and isinstance(step, int) and step < len(holder):
            if isinstance(holder[step], str):
                holder[step] = {"task": holder[step]}
            holder = holder[step]
        else:
            raise RecipeError(f"override {text}: there is nothing at {step}")
    if isinstance(holder, dict) or (isinstance(holder, list) and isinstance(path[-1], int) and path[-1] < len(holder)):
        holder[path[-1]] = new  # type: ignore[index]
    else:
        raise RecipeError(f"override {text}: there is nothing to set at {dotted}")
    return text, path


def _validate(value: dict[str, Any], folder: Path) -> tuple[Recipe[Any] | None, list[Mistake]]:
    """Shape first, then meaning, also of what is good in a section that holds a mistake, so that one pass finds all."""
    if isinstance(value.get("evaluation"), list):
        value["evaluation"] = [{"task": t} if isinstance(t, str) else t for t in value["evaluation"]]
    found: list[Mistake] = []
    encoder = value.get("encoder")
    spec_type: type[EncoderSpec] = _AnyEncoder
    family = None
    if isinstance(encoder, dict) and isinstance(encoder.get("family"), str):
        try:
            family = families.load(encoder["family"]).Encoder
            spec_type = families.load(encoder["family"]).Spec
        except ZooError as error:
            found.append((("encoder", "family"), str(error)))
    given = value.get("training")
    if family and family.training and isinstance(given, dict | None):
        value["training"] = {**family.training, **(given or {})}
    recipe = None
    try:
        recipe = Recipe[spec_type].model_validate(value)  # type: ignore[valid-type]
    except ValidationError as error:
        found += error_messages.of(error, Recipe[spec_type], value)  # type: ignore[valid-type]

    spec, gone = error_messages.partial(spec_type, encoder) if family else (None, [])
    need: dict[str, Any] = {}  # without a whole spec nobody knows the roles, but a missing file is still missing
    if family and spec:
        found += _below(("encoder",), error_messages.aside(family.check(spec, folder), gone))
        need = {} if gone else family.roles(spec)[0]
        for path, (more, roles, *_) in family.extra_datasets(spec).items():
            found += _below(("encoder", *path), zoo_data.problems(more, roles, folder=folder))
    for field in ("data", "validation"):
        if isinstance(value.get(field), dict):
            found += _data((field,), value[field], need, folder)
    if family and not family.uses_validation and value.get("validation") is not None:
        name = value["encoder"]["family"]
        found.append((("validation",), f"the family {name} does not look at held-out rows: leave it out"))
    if isinstance(given, dict) and given.get("early_stop") and value.get("validation") is None:
        found.append((("training", "early_stop"), "there is nothing to stop by: give `validation` as well"))
    names: dict[str, int] = {}
    tasks = value.get("evaluation")
    for index, each in enumerate(tasks if isinstance(tasks, list) else []):
        loc = ("evaluation", index)
        task, without = error_messages.partial(Task, each)
        if task is None:  # what it is called or made of is missing, but what is there can be looked at
            parts = each.items() if isinstance(each, dict) else ()
            for part, inside in parts:
                if isinstance(inside, dict) and "source" in inside:
                    found += _data((*loc, part), inside, {}, folder)
            continue
        unsure = frozenset(str(path[0]) for path in without if path)
        found += _below(loc, error_messages.aside(evaluation.problems(task, folder=folder, unsure=unsure), without))
        found += _below(loc, _views(task, family, spec, folder))
        if isinstance(task, Recognition) and family:
            found += _below(loc, _recognised(task, family, need, folder))
        name = task.name or task.task
        if name in names:
            found.append((loc, f"two tasks are called {name!r}; give one a `name`"))
        names[name] = index
    return (recipe if not found else None), found


def _below(loc: Loc, found: list[Mistake]) -> list[Mistake]:
    return [((*loc, *path), text) for path, text in found]


def _data(loc: Loc, value: Any, need: Any, folder: Path) -> list[Mistake]:
    source, gone = error_messages.partial(Data, value)
    if source is None:
        return []
    return _below(loc, error_messages.aside(zoo_data.problems(source, {} if gone else need, folder=folder), gone))


def _views(task: TaskSpec, family: Any, spec: Any, folder: Path) -> list[Mistake]:
    if family is None:
        return []
    found: list[Mistake] = []
    for index, view in enumerate(task.views):
        try:
            family.View.model_validate(view)
        except ValidationError as error:
            found += _below(("views", index), error_messages.of(error, family.View, view))
            continue
        if spec is not None and (wrong := family.check_view(spec, view, folder)):
            found.append((("views", index), wrong))
    return found


def _recognised(task: Recognition, family: Any, need: Any, folder: Path) -> list[Mistake]:
    """What the family needs of the parts of its own task: the input, and where there are classes, the label."""
    if not family.recognises:
        return [(("task",), "the family has no classes of its own to recognise")]
    found: list[Mistake] = []
    for part in ("data", "train", "unknown"):
        source = getattr(task, part)
        if source is not None:
            inputs = {role: kind for role, kind in need.items() if role != "label"}
            found += _below((part,), zoo_data.problems(source, inputs, folder=folder))
    return found


class _AnyEncoder(EncoderSpec, extra="ignore"):
    """Stands in when the family is unknown, so that the other sections are still checked."""

"""A recipe: one YAML file to one frozen, typed `Recipe`, or every mistake in it at once with file, line and column.

Nothing here imports torch, so `zoo check` answers at once; what only the data can tell (a missing column, an empty row) is
asked of `zoo.data` and `zoo.evaluation`, and what only a family can tell of the family.
"""

from __future__ import annotations

import types
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, PrivateAttr, TypeAdapter, ValidationError, field_validator

from zoo import data as zoo_data
from zoo import evaluation, families, guard, yamltree
from zoo.data.spec import Data
from zoo.errors import RecipeError, ZooError
from zoo.evaluation.spec import Task, TaskSpec
from zoo.schema import Card, EncoderSpec, Publish, Section, Training
from zoo.suggest import suggest

SpecT = TypeVar("SpecT", bound=EncoderSpec)
Loc = tuple[str | int, ...]


class Recipe(Section, Generic[SpecT]):
    """The whole experiment. `encoder` is the Spec of the family it names."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$")]
    encoder: SpecT
    data: Data
    validation: Data | Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Rows to watch during training: a data section, or a share (below 1) or count held out of `data`.",
    )
    training: Training = Training()
    evaluation: tuple[Task, ...] = ()
    card: Card = Card()
    publish: Publish | None = None
    after: tuple[()] = Field((), description="Reserved for post-processors.")

    _folder: Path = PrivateAttr(default=Path())

    @field_validator("evaluation", mode="before")
    @classmethod
    def _tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

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
    guard.no_token(text, overrides, file)
    try:
        tree = yamltree.parse(text)
    except yamltree.YamlError as error:
        raise RecipeError(f"{file}:{error.line}:{error.column}: {error.message}") from None
    found = [(line, column, message) for line, column, message in tree.problems]
    if not isinstance(tree.value, dict):
        raise RecipeError(f"{file}:1:1: a recipe is a mapping that starts with `name:`, `encoder:` and `data:`")
    given = [_override(tree, each) for each in overrides]
    outside = guard.leaving(tree.value) if confined else []
    recipe, mistakes = (None, outside) if outside else _validate(tree.value, folder)
    lines = [f"{file}:{line}:{column}: {message}" for line, column, message in sorted(found)]
    placed = sorted((_place(tree, loc), _dotted(loc, tree.value), message, loc) for loc, message in mistakes)
    for (line, column), dotted, message, loc in dict.fromkeys(placed):
        start = next((f"override {o}" for o, path in given if loc[: len(path)] == path), f"{file}:{line}:{column}")
        lines.append(f"{start}: {dotted}: {message}" if dotted else f"{start}: {message}")
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


def _override(tree: yamltree.Tree, text: str) -> tuple[str, Loc]:
    dotted, equals, value = text.partition("=")
    if not equals or not dotted:
        raise RecipeError(f"override {text}: write it as key.path=value")
    path: Loc = tuple(int(p) if p.isdigit() else p for p in dotted.split("."))
    holder = tree.value
    try:
        new = yamltree.scalar(value)
    except yamltree.YamlError as error:
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


def _validate(value: dict[str, Any], folder: Path) -> tuple[Recipe[Any] | None, list[tuple[Loc, str]]]:
    """Shape first, then meaning for every section whose shape is right, so that one pass finds both."""
    if isinstance(value.get("evaluation"), list):
        value["evaluation"] = [{"task": t} if isinstance(t, str) else t for t in value["evaluation"]]
    mistakes: list[tuple[Loc, str]] = []
    encoder = value.get("encoder")
    spec_type: type[EncoderSpec] = _AnyEncoder
    family = None
    if isinstance(encoder, dict) and "family" in encoder:
        try:
            family = families.load(encoder["family"]).Encoder
            spec_type = families.load(encoder["family"]).Spec
        except ZooError as error:
            mistakes.append((("encoder", "family"), str(error)))
    given = value.get("training")
    if family and family.training and isinstance(given, dict | None):
        value["training"] = {**family.training, **(given or {})}
    model = Recipe[spec_type]  # type: ignore[valid-type]
    recipe = None
    try:
        recipe = model.model_validate(value)
    except ValidationError as error:
        mistakes += [(tuple(e["loc"]), _message(e, model)) for e in error.errors(include_url=False)]

    def section(loc: Loc, kind: Any) -> Any:
        part: Any = value
        for step in loc:
            try:
                part = part[step]
            except (KeyError, IndexError, TypeError):
                return None
        try:
            return TypeAdapter(kind).validate_python(part)
        except ValidationError:
            return None

    spec = section(("encoder",), spec_type) if family else None
    need = {}  # without a spec nobody knows the roles, but a missing file is still missing
    if family and spec:
        mistakes += [(("encoder", *loc), message) for loc, message in family.check(spec, folder)]
        need, _ = family.roles(spec)
    for field in ("data", "validation"):
        if source := section((field,), Data):
            mistakes += [((field, *loc), m) for loc, m in zoo_data.problems(source, need, folder=folder)]
    if family and not family.validates and value.get("validation") is not None:
        name = value["encoder"]["family"]
        mistakes.append((("validation",), f"the family {name} does not look at held-out rows: leave it out"))
    names: dict[str, int] = {}
    tasks = value.get("evaluation")
    for index in range(len(tasks) if isinstance(tasks, list) else 0):
        loc = ("evaluation", index)
        if not (task := section(loc, Task)):
            continue
        mistakes += [((*loc, *below), message) for below, message in evaluation.problems(task, folder=folder)]
        mistakes += [((*loc, *below), message) for below, message in _views(task, family, spec, folder)]
        name = task.name or task.task
        if name in names:
            mistakes.append((loc, f"two tasks are called {name!r}; give one a `name`"))
        names[name] = index
    return (recipe if not mistakes else None), mistakes


def _views(task: TaskSpec, family: Any, spec: Any, folder: Path) -> list[tuple[Loc, str]]:
    if family is None:
        return []
    found: list[tuple[Loc, str]] = []
    for index, view in enumerate(task.views):
        try:
            family.View.model_validate(view)
        except ValidationError as error:
            found += [(("views", index, *e["loc"]), _message(e, family.View)) for e in error.errors(include_url=False)]
            continue
        if spec is not None and (wrong := family.check_view(spec, view, folder)):
            found.append((("views", index), wrong))
    return found


class _AnyEncoder(EncoderSpec, extra="ignore"):
    """Stands in when the family is unknown, so that the other sections are still checked."""


def _message(error: Any, model: type[BaseModel]) -> str:
    kind, given = error["type"], error.get("input")
    if kind == "extra_forbidden":
        key = str(error["loc"][-1])
        return f"unknown key{suggest(key, sorted(_keys(model, error['loc'][:-1])))}"
    if kind == "missing":
        return "is missing"
    if kind in ("literal_error", "union_tag_invalid"):
        context = error["ctx"]
        wanted = [
            w.strip(" '\"")
            for w in str(context.get("expected_tags") or context["expected"]).replace(" or ", ",").split(",")
        ]
        value = context.get("tag", given)
        return f"{value!r} is not one of {', '.join(wanted)}{suggest(str(value), wanted, listing='')}"
    if kind == "union_tag_not_found":
        return "`source` is missing; it is one of hub, file, builtin"
    if kind == "value_error":
        return str(error["ctx"]["error"])
    text = error["msg"][0].lower() + error["msg"][1:]
    text = text.replace("input should be", "must be")
    shown = "" if isinstance(given, dict | list) else f", not {given!r}"
    return f"{text}{shown}"


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Every pydantic model an annotation may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for arg in get_args(annotation) if not isinstance(arg, str) for m in _models(arg)]


def _keys(model: type[BaseModel], loc: Loc) -> set[str]:
    """Field names that could stand at `loc`; steps that are pydantic's union tags narrow the choice."""
    models = [model]
    for step in loc:
        inside = [m.model_fields[step].annotation for m in models if isinstance(step, str) and step in m.model_fields]
        if inside:
            models = [found for annotation in inside for found in _models(annotation)]
        elif isinstance(step, str):
            tagged = [m for m in models if step in _tags(m)]
            models = tagged or models
    return {name for m in models for name in m.model_fields}


def _tags(model: type[BaseModel]) -> set[str]:
    fields = [f.annotation for name, f in model.model_fields.items() if name in ("source", "task", "family")]
    return {a for f in fields if get_origin(f) is Literal for a in get_args(f)} | {
        model.__name__.lower(),
        model.__name__,
    }


_TAGS = {"hub", "file", "builtin", "official", *evaluation.spec.OWN}


def _real(loc: Loc, value: Any) -> Loc:
    """`loc` without the union tags that pydantic puts between the steps of the user's own tree."""
    path: list[str | int] = []
    for index, step in enumerate(loc):
        last = index == len(loc) - 1
        if (isinstance(value, dict) and step in value) or (
            isinstance(value, list) and isinstance(step, int) and step < len(value)
        ):
            value = value[step]  # type: ignore[index]
        elif not (last and isinstance(value, dict) and step not in _TAGS):
            continue
        path.append(step)
    return tuple(path)


def _place(tree: yamltree.Tree, loc: Loc) -> tuple[int, int]:
    path = _real(loc, tree.value)
    while path not in tree.where:
        path = path[:-1]
    return tree.where[path]


def _dotted(loc: Loc, value: Any) -> str:
    return ".".join(str(step) for step in _real(loc, value))

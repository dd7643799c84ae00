"""What pydantic found wrong in a recipe, in the words of whoever wrote it: the place in their file, and one clear line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from zoo.core import located_yaml
from zoo.core.suggest import suggest
from zoo.evaluation.spec import OWN

Loc = tuple[str | int, ...]
Mistake = tuple[Loc, str]

_TAGS = {"hub", "file", "builtin", "official", *OWN}
_WANTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list",
    "list": "a list",
    "dict": "a mapping",
    "model": "a mapping",
    "none": "empty",
}


def of(error: ValidationError, model: type[BaseModel], value: Any) -> list[Mistake]:
    """The mistakes of `error` about `value`. Where one value may be several things, pydantic tells what is wrong with each of
    them: here it is one line that says what it may be, or only what is wrong with the one that was meant."""
    found: dict[Loc, list[tuple[str, str]]] = {}
    for each in error.errors(include_url=False):
        found.setdefault(_real(each, value), []).append((_wanted(each), message(each, model)))
    out: list[Mistake] = []
    for loc, some in found.items():
        meant = [text for wanted, text in some if not wanted]
        if meant:
            out += [(loc, text) for text in dict.fromkeys(meant)]
        elif not any(len(other) > len(loc) and other[: len(loc)] == loc for other in found):
            given = _at(value, loc)
            shown = "" if isinstance(given, dict | list) else f", not {given!r}"
            out.append((loc, f"must be {' or '.join(dict.fromkeys(wanted for wanted, _ in some))}{shown}"))
    return out


def partial(kind: Any, value: Any) -> tuple[Any, list[Loc]]:
    """`value` as `kind`, if need be without what is wrong in it, so that the rest can still be checked for its meaning; and
    the places that were left out. (None, …) where nothing can be made of it."""
    adapter, gone = TypeAdapter(kind), []
    try:
        return adapter.validate_python(value), []
    except ValidationError as error:
        for each in error.errors(include_url=False):
            loc = _real(each, value)
            while loc and not isinstance(loc[-1], str):
                loc = loc[:-1]
            gone.append(loc)
    try:
        return adapter.validate_python(_without(value, gone)), gone
    except ValidationError:
        return None, gone


def aside(found: Iterable[Mistake], gone: Iterable[Loc]) -> list[Mistake]:
    """The mistakes that do not follow from a place that was left out."""
    places = list(gone)
    return [(loc, text) for loc, text in found if not any(loc[: len(p)] == p[: len(loc)] for p in places)]


def _without(value: Any, gone: list[Loc], here: Loc = ()) -> Any:
    if isinstance(value, dict):
        return {k: _without(v, gone, (*here, k)) for k, v in value.items() if (*here, k) not in gone}
    if isinstance(value, list | tuple):
        return [_without(v, gone, (*here, i)) for i, v in enumerate(value)]
    return value


def _wanted(error: Any) -> str:
    """`a number` and the like for a value of the wrong type, else nothing."""
    kind = error["type"]
    if kind == "model_attributes_type":
        return "a section"
    name, _, what = kind.removesuffix("_from_float").rpartition("_")
    return _WANTED.get(name or what, "") if what in ("type", "parsing", "int") else ""


def message(error: Any, model: type[BaseModel]) -> str:
    """One error of pydantic in a line that goes on from the place: `must be a number, not 'x'`."""
    kind, given = error["type"], error.get("input")
    if kind == "extra_forbidden":
        key = str(error["loc"][-1])
        return f"unknown key{suggest(key, sorted(_keys(model, error['loc'][:-1])))}"
    if kind == "missing":
        last = error["loc"][-1]
        return f"value {last + 1} is missing" if isinstance(last, int) else "is missing"
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
    if kind == "too_long":
        return f"has more than {error['ctx']['max_length']} values"
    if kind == "value_error":
        return str(error["ctx"]["error"])
    shown = "" if isinstance(given, dict | list | tuple) else f", not {given!r}"
    if kind == "string_pattern_mismatch" and (about := _description(model, error["loc"])):
        return f"must be {about}{shown}"
    if wanted_type := _wanted(error):
        return f"must be {wanted_type}{shown}"
    return (error["msg"][0].lower() + error["msg"][1:]).replace("input should be", "must be") + shown


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Every pydantic model an annotation may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for arg in get_args(annotation) if not isinstance(arg, str) for m in _models(arg)]


def _inside(model: type[BaseModel], loc: Loc) -> list[type[BaseModel]]:
    """The models that could stand at `loc`; steps that are pydantic's union tags narrow the choice."""
    models = [model]
    for step in loc:
        inside = [m.model_fields[step].annotation for m in models if isinstance(step, str) and step in m.model_fields]
        if inside:
            models = [found for annotation in inside for found in _models(annotation)]
        elif isinstance(step, str):
            tagged = [m for m in models if step in _tags(m)]
            models = tagged or models
    return models


def _keys(model: type[BaseModel], loc: Loc) -> set[str]:
    return {name for m in _inside(model, loc) for name in m.model_fields}


def _description(model: type[BaseModel], loc: Loc) -> str:
    fields = [m.model_fields[str(loc[-1])] for m in _inside(model, loc[:-1]) if str(loc[-1]) in m.model_fields]
    return next((f.description for f in fields if f.description), "")


def _tags(model: type[BaseModel]) -> set[str]:
    fields = [f.annotation for name, f in model.model_fields.items() if name in ("source", "task", "family")]
    return {a for f in fields if get_origin(f) is Literal for a in get_args(f)} | {
        model.__name__.lower(),
        model.__name__,
    }


def _real(error: Any, value: Any) -> Loc:
    """Where an error stands in the user's own tree: without the union tags that pydantic puts between the steps, and, of what is
    missing, with the key that is not there."""
    path: list[str | int] = []
    for step in error["loc"]:
        if (isinstance(value, dict) and step in value) or (
            isinstance(value, list | tuple) and isinstance(step, int) and step < len(value)
        ):
            value = value[step]
            path.append(step)
    last = error["loc"][-1:]
    if error["type"] == "missing" and isinstance(value, dict) and last[0] not in _TAGS:
        path += last
    return tuple(path)


def _at(value: Any, loc: Loc) -> Any:
    for step in loc:
        value = value[step]
    return value


def place(tree: located_yaml.Tree, loc: Loc) -> tuple[int, int]:
    """Line and column of what stands at `loc`, or of what would hold it."""
    while loc not in tree.positions:
        loc = loc[:-1]
    return tree.positions[loc]

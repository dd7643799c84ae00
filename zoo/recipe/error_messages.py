"""Turns pydantic's errors into mistakes that the author of a recipe understands: a place in the file and one clear line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from zoo import after
from zoo.core import located_yaml
from zoo.core.suggest import suggest
from zoo.evaluation import tasks

Loc = tuple[str | int, ...]
Mistake = tuple[Loc, str]

_TAGS = {"hub", "file", "builtin", "official", *tasks.names(), *after.names()}
OTHER_NAMES = {
    **dict.fromkeys(("lr", "rate"), "learning_rate"),
    **dict.fromkeys(("num_epochs", "num_train_epochs", "n_epochs", "epoch"), "epochs"),
    **dict.fromkeys(("steps", "num_steps", "iterations"), "max_steps"),
    **dict.fromkeys(("per_device_train_batch_size", "train_batch_size", "batch", "bs"), "batch_size"),
    **dict.fromkeys(("gradient_accumulation_steps", "accumulation", "grad_accum"), "gradient_accumulation"),
    **dict.fromkeys(("warmup_ratio", "warmup_steps"), "warmup"),
    **dict.fromkeys(("lr_scheduler", "lr_scheduler_type", "lr_schedule", "scheduler"), "schedule"),
    **dict.fromkeys(("wd", "decay"), "weight_decay"),
    **dict.fromkeys(("grad_clip", "clip", "clip_grad_norm", "gradient_clipping"), "max_grad_norm"),
    **dict.fromkeys(("fp16", "bf16", "amp", "mixed_precision"), "precision"),
    **dict.fromkeys(("random_seed", "random_state"), "seed"),
    **dict.fromkeys(("save_steps", "save_every"), "checkpoint_every"),
    **dict.fromkeys(("eval_steps", "eval_every"), "validate_every"),
    **dict.fromkeys(("patience", "early_stopping", "early_stopping_patience"), "early_stop"),
    **dict.fromkeys(("optimiser", "optim"), "optimizer"),
    **dict.fromkeys(("layerwise_lr_decay", "llrd", "layer_wise_decay"), "layer_decay"),
    **dict.fromkeys(("torch_compile",), "compile"),
    **dict.fromkeys(("report_to", "tracker", "trackers", "logger"), "report"),
    **dict.fromkeys(("load_best_model_at_end", "save_best"), "keep_best"),
}
"""Fields of `training:` by the names that other libraries give them."""
_TYPE_NAMES = {
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


def translate(error: ValidationError, model: type[BaseModel], value: Any) -> list[Mistake]:
    """The mistakes that `error` reports about `value`, which was validated as `model`.

    If a value may have several types, pydantic reports each of them. Here they become one line that lists the types, or only
    the mistake in the type that was meant.
    """
    by_loc: dict[Loc, list[tuple[str, str]]] = {}
    for problem in error.errors(include_url=False):
        by_loc.setdefault(_strip_tags(problem, value), []).append((_name_type(problem), format_problem(problem, model)))
    mistakes: list[Mistake] = []
    for loc, problems in by_loc.items():
        specific = [text for type_name, text in problems if not type_name]
        if specific:
            mistakes += [(loc, text) for text in dict.fromkeys(specific)]
        elif not any(len(other) > len(loc) and other[: len(loc)] == loc for other in by_loc):
            actual = _get_at(value, loc)
            shown = "" if isinstance(actual, dict | list) else f", not {actual!r}"
            mistakes.append((loc, f"must be {' or '.join(dict.fromkeys(name for name, _ in problems))}{shown}"))
    return mistakes


def validate_partly(kind: Any, value: Any) -> tuple[Any, list[Loc]]:
    """`value` as `kind`, without the fields that are wrong, so that the rest can still be checked.

    Returns the object and the places that were removed; (None, places) if nothing can be made of the rest.
    """
    adapter, removed = TypeAdapter(kind), []
    try:
        return adapter.validate_python(value), []
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            loc = _strip_tags(problem, value)
            while loc and not isinstance(loc[-1], str):
                loc = loc[:-1]
            removed.append(loc)
    try:
        return adapter.validate_python(_remove(value, removed)), removed
    except ValidationError:
        return None, removed


def drop_consequences(mistakes: Iterable[Mistake], removed: Iterable[Loc]) -> list[Mistake]:
    """The mistakes that do not follow from a place that was removed."""
    places = list(removed)
    return [(loc, text) for loc, text in mistakes if not any(loc[: len(p)] == p[: len(loc)] for p in places)]


def drop_fields_of_unknown_tasks(mistakes: Iterable[Mistake]) -> list[Mistake]:
    """The mistakes without unknown keys of a task whose name is wrong, because its right keys are not known."""
    mistakes = list(mistakes)
    unknown = {loc[:-1] for loc, _ in mistakes if loc[:1] == ("evaluation",) and loc[-1] == "task"}
    return [(loc, text) for loc, text in mistakes if loc[:-1] not in unknown or not text.startswith("unknown key")]


def _remove(value: Any, removed: list[Loc], here: Loc = ()) -> Any:
    if isinstance(value, dict):
        return {k: _remove(v, removed, (*here, k)) for k, v in value.items() if (*here, k) not in removed}
    if isinstance(value, list | tuple):
        return [_remove(v, removed, (*here, i)) for i, v in enumerate(value)]
    return value


def _name_type(error: Any) -> str:
    """The type that a value of the wrong type should have, e.g. `a number`; empty for any other error."""
    kind = error["type"]
    if kind == "model_attributes_type":
        return "a section"
    if kind == "literal_error" and str(error["loc"][-1]).startswith("literal["):  # one of several types
        return f"`{error['ctx']['expected'].strip(chr(39))}`"
    name, _, what = kind.removesuffix("_from_float").rpartition("_")
    return _TYPE_NAMES.get(name or what, "") if what in ("type", "parsing", "int") else ""


def format_problem(error: Any, model: type[BaseModel]) -> str:
    """One error of pydantic as a line that follows the place: `must be a number, not 'x'`."""
    kind, actual = error["type"], error.get("input")
    if kind == "extra_forbidden":
        key, keys = str(error["loc"][-1]), _keys(model, error["loc"][:-1])
        return f"unknown key{_suggest_training_field(key, keys) or suggest(key, sorted(keys))}"
    if kind == "missing":
        last = error["loc"][-1]
        return f"value {last + 1} is missing" if isinstance(last, int) else "is missing"
    if kind in ("literal_error", "union_tag_invalid"):
        context = error["ctx"]
        expected = [
            w.strip(" '\"")
            for w in str(context.get("expected_tags") or context["expected"]).replace(" or ", ",").split(",")
        ]
        value = context.get("tag", actual)
        return f"{value!r} is not one of {', '.join(expected)}{suggest(str(value), expected, listing='')}"
    if kind == "union_tag_not_found":
        if "step" in str(error["ctx"]["discriminator"]):
            return f"`step` is missing; it is one of {', '.join(after.names())}"
        return "`source` is missing; it is one of hub, file, builtin"
    if kind == "too_long":
        return f"has more than {error['ctx']['max_length']} values"
    if kind == "value_error":
        return str(error["ctx"]["error"])
    shown = "" if isinstance(actual, dict | list | tuple) else f", not {actual!r}"
    if kind == "string_pattern_mismatch" and (description := _description(model, error["loc"])):
        return f"must be {description}{shown}"
    if type_name := _name_type(error):
        return f"must be {type_name}{shown}"
    message = str(error["msg"])
    return (message[0].lower() + message[1:]).replace("input should be", "must be") + shown


def _suggest_training_field(key: str, keys: set[str]) -> str:
    """The end of the message about a setting of the training that other libraries call `key`; empty for any other key."""
    field = OTHER_NAMES.get(key, "")
    if not field:
        return ""
    return f"; did you mean {field}?" if field in keys else f"; did you mean training.{field}?"


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
            models = [model for annotation in inside for model in _models(annotation)]
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
    fields = [f.annotation for name, f in model.model_fields.items() if name in ("source", "task", "family", "step")]
    return {a for f in fields if get_origin(f) is Literal for a in get_args(f)} | {
        model.__name__.lower(),
        model.__name__,
        getattr(model, "union_tag", ""),
    }


def _strip_tags(error: Any, value: Any) -> Loc:
    """Where an error stands in the user's own tree.

    Union tags, which pydantic puts between the steps, are left out. A missing key is part of the path.
    """
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


def _get_at(value: Any, loc: Loc) -> Any:
    for step in loc:
        value = value[step]
    return value


def locate(tree: located_yaml.Tree, loc: Loc) -> tuple[int, int]:
    """Line and column of the value at `loc`, or of the section that would hold it."""
    while loc not in tree.positions:
        loc = loc[:-1]
    return tree.positions[loc]

"""Checks a recipe: first the shape of each section, then its meaning, so that one pass finds every mistake.

A section with a mistake is still checked without the bad fields. Mistakes that only follow from another mistake are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from zoo import data as zoo_data
from zoo import families
from zoo.core.errors import ZooError
from zoo.core.metric_direction import is_higher_better
from zoo.data.spec import Data
from zoo.evaluation import task_metrics
from zoo.evaluation.spec import Task, ValidationTask
from zoo.evaluation.task import TaskSpec
from zoo.recipe import error_messages, mining_checks, source_checks, step_checks
from zoo.recipe.error_messages import Loc, Mistake
from zoo.schema import Roles, Training, round_epochs
from zoo.spec import EncoderSpec
from zoo.training import objective_checks


class AnyEncoder(EncoderSpec, extra="ignore"):
    """Stands in for an unknown family, so that the other sections are still checked."""


class _Checked(NamedTuple):
    """The known facts when tasks are checked: the family, its section, the columns that it needs, and the folder."""

    spec_class: type[EncoderSpec] | None
    spec: EncoderSpec | None
    required: Roles
    folder: Path


def normalise(value: dict[str, Any], spec_class: type[EncoderSpec] | None) -> None:
    """Write out what a recipe may abbreviate: tasks and steps by their bare name, and the defaults that depend on the family."""
    if isinstance(value.get("evaluation"), list):
        value["evaluation"] = [{"task": task} if isinstance(task, str) else task for task in value["evaluation"]]
    if isinstance(value.get("after"), list):
        value["after"] = [{"step": step} if isinstance(step, str) else step for step in value["after"]]
    training = value.get("training", {})
    if spec_class and isinstance(training, dict):
        encoder = value.get("encoder")
        defaults = dict(spec_class.choose_training_defaults(encoder if isinstance(encoder, dict) else {}))
        if spec_class.tests_learning_rate:
            defaults["learning_rate"] = "auto"
        value["training"] = {**defaults, **training}
        if spec_class.uses_validation:
            value.setdefault("validation", "auto")


def find_family(value: Mapping[str, Any]) -> tuple[type[EncoderSpec] | None, list[Mistake]]:
    """The Spec class of the family that a recipe names; None, and the mistake, if there is no such family."""
    encoder = value.get("encoder")
    if not isinstance(encoder, dict) or not isinstance(encoder.get("family"), str):
        return None, []
    try:
        return families.load_spec(encoder["family"]), []
    except ZooError as error:
        return None, [(("encoder", "family"), str(error))]


def find_unread_fields(given: Iterable[str], training: Training, spec: EncoderSpec) -> list[Mistake]:
    """Return the fields of `training:` that have no effect, or another one than they say.

    A field with its default value says nothing: a saved recipe holds all of them.

    Args:
        given: names of the fields that the recipe holds.
        training, spec: the checked sections.
    """
    found: list[Mistake] = []
    family_defaults = spec.choose_training_defaults(spec.model_dump())
    for name in given:
        value = getattr(training, name)
        if value in (None, Training.model_fields[name].default, family_defaults.get(name)):
            continue
        if not spec.reads_training_field(name):
            found.append(
                (("training", name), f"{spec.family} does not read this field, so it has no effect; remove it")
            )
        elif name == "epochs" and spec.trains_whole_epochs and value != round_epochs(value):
            found.append(
                (("training", name), f"{spec.family} trains whole epochs: {value:g} becomes {round_epochs(value)}")
            )
    return found


def find_mistakes(
    value: Mapping[str, Any], spec_class: type[EncoderSpec] | None, folder: Path, *, stops_early: bool
) -> list[Mistake]:
    """Mistakes in the meaning of a recipe's sections. Relative paths start at `folder`.

    `stops_early` says whether the author, not the family's defaults, asks for `early_stop`.
    """
    spec, removed = error_messages.validate_partly(spec_class, value.get("encoder")) if spec_class else (None, [])
    mistakes: list[Mistake] = []
    required: Roles = {}  # unknown without a whole spec; a missing file is still reported
    if spec is not None:
        mistakes += _check_encoder(spec, removed, folder)
        required = {} if removed else spec.roles()[0]
        mistakes += _check_objective(value, spec, folder)
    if isinstance(value.get("data"), dict):
        mistakes += _check_data(("data",), value["data"], required, folder)
    mistakes += _check_validation(value.get("validation"), _Checked(spec_class, spec, required, folder))
    mistakes += mining_checks.find_mistakes(value, None if removed else spec, folder)
    if isinstance(value.get("data"), list):
        mistakes += source_checks.find_mistakes(value, None if removed else spec, folder)
    elif spec is not None and not removed and any(loc[0] == "data" for loc, _ in mistakes):
        mistakes += _suggest_for_columns(value["data"], spec, folder)
    if value.get("mixture") is not None and isinstance(value.get("data"), dict):
        mistakes.append((("mixture",), "needs several sources: write `data` as a list, or leave `mixture` out"))
    has_validation = value.get("validation") not in (None, "auto")
    if value.get("validation") is not None and spec_class and not spec_class.uses_validation:
        family = value["encoder"]["family"]
        mistakes.append((("validation",), f"the family {family} does not look at held-out rows: leave it out"))
    if stops_early and not has_validation:
        mistakes.append((("training", "early_stop"), "there is nothing to stop by: give `validation` as well"))
    entries = value.get("evaluation")
    places = [(("evaluation", n), entry) for n, entry in enumerate(entries if isinstance(entries, list) else [])]
    mistakes += step_checks.find_mistakes(value, None if removed else spec, folder)
    return mistakes + _check_tasks(places, Task, _Checked(spec_class, spec, required, folder))[1]


def _check_encoder(spec: EncoderSpec, removed: list[Loc], folder: Path) -> list[Mistake]:
    direct_mistakes = error_messages.drop_consequences(spec.find_mistakes(folder), removed)
    mistakes = _nest(("encoder",), direct_mistakes)
    for path, dataset in spec.extra_datasets().items():
        problems = zoo_data.problems(dataset.data, dataset.roles, folder=folder)
        mistakes += _nest(("encoder", *path), problems)
    return mistakes


def _check_data(loc: Loc, value: Any, required: Roles, folder: Path) -> list[Mistake]:
    source, removed = error_messages.validate_partly(Data, value)
    return [] if source is None else source_checks.check_section(loc, source, removed, required, folder)


def _suggest_for_columns(value: Any, spec: EncoderSpec, folder: Path) -> list[Mistake]:
    """Another setting of the encoder that the columns of the data would fit, if the family knows one."""
    source, _ = error_messages.validate_partly(Data, value)
    try:
        columns = zoo_data.peek(source, folder=folder) if source is not None else None
    except ZooError:
        columns = None
    return [] if columns is None else _nest(("encoder",), spec.suggest_for_columns(columns))


def _check_objective(value: Mapping[str, Any], spec: EncoderSpec, folder: Path) -> list[Mistake]:
    """Batches and numbers of rows from which the loss can learn nothing. Data that cannot be opened is reported elsewhere."""
    training, removed = error_messages.validate_partly(Training, value.get("training") or {})
    if training is None or removed:
        return []
    validation = value.get("validation")
    watched = validation if isinstance(validation, list) else [validation]
    count = next((n for n in watched if isinstance(n, int) and not isinstance(n, bool)), None)
    mistakes: list[Mistake] = []
    for loc, source in source_checks.list_sections(value.get("data")):
        own_spec = source_checks.choose_spec(spec, getattr(source, "loss", None))
        if own_spec is None:
            continue
        try:
            columns = zoo_data.peek(source, folder=folder)
        except ZooError:
            columns = None
        found = objective_checks.find_recipe_mistakes(
            own_spec,
            training,
            columns=[name for roles in own_spec.roles() for name in roles] if columns is None else columns,
            rows=source.limit,
            validation_rows=count,
        )
        mistakes += [((*loc, *path[1:]) if path[0] == "data" else path, text) for path, text in found]
    return list(dict.fromkeys(mistakes))


def _check_validation(value: Any, checked: _Checked) -> list[Mistake]:
    """Mistakes in the rows and the tasks that are watched."""
    if isinstance(value, list):
        entries: list[tuple[Loc, Any]] = [(("validation", index), entry) for index, entry in enumerate(value)]
    else:
        entries = [(("validation",), value)]
    mistakes: list[Mistake] = []
    rows = [(loc, entry) for loc, entry in entries if not (isinstance(entry, dict) and "task" in entry)]
    for loc, entry in rows:
        if isinstance(entry, dict):
            mistakes += _check_data(loc, entry, checked.required, checked.folder)
    if len(rows) > 1:
        mistakes.append(
            (rows[1][0], "only one entry can be rows whose loss is computed: remove one, or make it a task")
        )
    tasks = [(loc, entry) for loc, entry in entries if isinstance(entry, dict) and "task" in entry]
    sections, task_mistakes = _check_tasks(tasks, ValidationTask, checked)
    mistakes += task_mistakes
    directions: dict[bool, str] = {}
    for loc, task in sections:
        metric = getattr(task, "metric", None)
        if problem := task_metrics.find_problem(task.task, metric):
            mistakes.append(((*loc, "metric"), problem))
            continue
        if task.at_least is not None:
            mistakes.append(((*loc, "at_least"), "has no effect during training: move it to a task of `evaluation`"))
        metric = metric or task_metrics.list_metrics(task.task)[0]
        other = directions.setdefault(is_higher_better(metric), metric)
        if len(directions) > 1:
            other = next(name for name in directions.values() if name != other)
            message = (
                f"{metric} and {other} have no common mean, because one is better if it is lower; watch one of them"
            )
            mistakes.append(((*loc, "metric"), message))
    return mistakes


def _check_tasks(
    entries: Iterable[tuple[Loc, Any]], kind: Any, checked: _Checked
) -> tuple[list[tuple[Loc, TaskSpec]], list[Mistake]]:
    """Return the tasks by their places, and the mistakes in them. `kind` is the type of an entry."""
    spec_class, folder = checked.spec_class, checked.folder
    sections: list[tuple[Loc, TaskSpec]] = []
    mistakes: list[Mistake] = []
    names: set[str] = set()
    for loc, entry in entries:
        task, removed = error_messages.validate_partly(kind, entry)
        if task is None:  # its type is unknown, but its data sections can be checked
            for field, section in entry.items() if isinstance(entry, dict) else ():
                if isinstance(section, dict) and "source" in section:
                    mistakes += _check_data((*loc, field), section, {}, folder)
            continue
        unsure = frozenset(str(path[0]) for path in removed if path)
        direct_mistakes = error_messages.drop_consequences(task.find_mistakes(folder, unsure), removed)
        mistakes += _nest(loc, direct_mistakes)
        if spec_class:
            mistakes += _nest(loc, _check_views(task, spec_class, checked.spec, folder))
        if spec_class and task.needs_own_classes:
            mistakes += _nest(loc, _check_own_classes(task, spec_class, checked.required, folder))
        if task.title in names:
            mistakes.append((loc, f"two tasks are called {task.title!r}; give one a `name`"))
        names.add(task.title)
        sections.append((loc, task))
    return sections, mistakes


def _check_views(
    task: TaskSpec, spec_class: type[EncoderSpec], spec: EncoderSpec | None, folder: Path
) -> list[Mistake]:
    mistakes: list[Mistake] = []
    for index, view in enumerate(task.views):
        try:
            spec_class.View.model_validate(view, strict=True)
        except ValidationError as error:
            mistakes += _nest(("views", index), error_messages.translate(error, spec_class.View, view))
            continue
        problem = spec.find_view_mistake(view, folder) if spec is not None else None
        if problem:
            mistakes.append((("views", index), problem))
    return mistakes


def _check_own_classes(task: TaskSpec, spec_class: type[EncoderSpec], required: Roles, folder: Path) -> list[Mistake]:
    """Each data field of the family's own task needs the family's input; labels are the task's own affair."""
    if not spec_class.recognises:
        return [(("task",), "the family has no classes of its own to recognise")]
    inputs = {role: kind for role, kind in required.items() if role != "label"}
    mistakes: list[Mistake] = []
    for field in task.roles:
        source = getattr(task, field)
        if source is not None:
            mistakes += _nest((field,), zoo_data.problems(source, inputs, folder=folder))
    return mistakes


def _nest(loc: Loc, mistakes: Iterable[Mistake]) -> list[Mistake]:
    return [((*loc, *path), text) for path, text in mistakes]

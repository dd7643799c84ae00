"""Finds mistakes in the `after:` section of a recipe without reading rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo import data as zoo_data
from zoo.after.sections import AfterStep
from zoo.after.spec import StepSpec
from zoo.recipe import error_messages
from zoo.recipe.error_messages import Loc, Mistake
from zoo.spec import EncoderSpec

PAIR = ("anchor", "positive")
"""Columns of training rows in which a positive answers its anchor."""
Steps = Sequence[tuple[Loc, StepSpec]]


def find_mistakes(value: Mapping[str, Any], spec: EncoderSpec | None, folder: Path) -> list[Mistake]:
    """Return the mistakes of the steps of a recipe.

    Args:
        value: the recipe as values; a step has its fields, never its bare name.
        spec: the encoder section, or None if it has mistakes of its own.
        folder: where relative paths start.
    """
    entries = value.get("after")
    if not isinstance(entries, list):
        return []
    steps: list[tuple[Loc, StepSpec]] = []
    mistakes: list[Mistake] = []
    for index, entry in enumerate(entries):
        step, removed = error_messages.validate_partly(AfterStep, entry)
        if step is None:
            continue
        loc: Loc = ("after", index)
        steps.append((loc, step))
        own = [*step.find_mistakes(folder), *_check_data(step, spec, folder)]
        mistakes += [((*loc, *path), text) for path, text in error_messages.drop_consequences(own, removed)]
    mistakes += _check_order(steps)
    if steps and spec is not None:
        mistakes += _check_family(steps, spec)
    return mistakes


def _check_data(step: StepSpec, spec: EncoderSpec | None, folder: Path) -> Iterator[Mistake]:
    kind = "text" if spec is None else spec.main_modality
    for field, section in step.list_data(kind).items():
        roles = {} if spec is None else section.roles
        yield from (((field, *path), text) for path, text in zoo_data.problems(section.data, roles, folder=folder))
    foreign = getattr(step, "none", None)
    if "foreign" in step.needs and foreign is None:
        yield (), f"{step.step} needs queries that nothing answers: give them as `none`, a data section with `query`"


def _check_order(steps: Steps) -> Iterator[Mistake]:
    """Yield a second step of one kind, and a step of scores before the step whose scores they are."""
    for kind, noun in (("codes", "turns vectors into codes"), ("scores", "maps scores")):
        same = [(loc, step) for loc, step in steps if step.kind == kind]
        for loc, step in same[1:]:
            yield loc, f"{step.step} {noun}, and so does {same[0][1].step} of {_name(same[0][0])}; keep one of them"
    coded = next((loc for loc, step in steps if step.kind == "codes"), None)
    for loc, step in steps:
        if coded is not None and step.kind == "scores" and loc < coded:
            yield loc, f"{step.step} maps scores, and {_name(coded)} changes them: put it after that step"


def _name(loc: Loc) -> str:
    return ".".join(map(str, loc))


def _check_family(steps: Steps, spec: EncoderSpec) -> Iterator[Mistake]:
    """Yield steps that the vectors or the training rows of the family do not suit."""
    if problem := spec.codes_problem:
        yield steps[0][0], f"a step takes float vectors, and {spec.family}: {problem}"
        return
    roles = {name for each in spec.roles() for name in each}
    for loc, step in steps:
        if step.data is not None:
            continue
        if step.needs_queries and not roles >= {*PAIR}:
            yield loc, f"{step.step} needs queries and their answers, which the training rows lack: {_advise(step)}"
        elif not roles & {*PAIR, "sentence1", spec.main_modality}:
            yield loc, f"{step.step} needs documents, and the training rows have no column of them: {_advise(step)}"


def _advise(step: StepSpec) -> str:
    return f"give `data`, a data section with `document`{' and `query`' if step.reads_queries else ''}"

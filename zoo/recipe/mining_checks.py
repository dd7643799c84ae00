"""Finds mistakes in `mine:` of a data section without reading rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zoo import data as zoo_data
from zoo.core.errors import ZooError
from zoo.data.spec import Data
from zoo.hub import model_references
from zoo.recipe import error_messages
from zoo.recipe.error_messages import Loc, Mistake
from zoo.schema import Roles
from zoo.spec import EncoderSpec

BACKBONE = "backbone"
CORPUS_ROLES: Roles = {"text": "text"}
_TRAINING: tuple[Loc, ...] = (("data", "mine"),)
"""The places where `mine:` may stand."""


def list_negative_roles(spec: EncoderSpec) -> list[str]:
    """Return the roles of hard negatives in the order in which they are filled; [] if the loss reads none."""
    required, optional = spec.roles()
    if not {"anchor", "positive"} <= required.keys():
        return []
    return [role for role in optional if role == "negative" or role.startswith("negative_")]


def find_mistakes(value: Mapping[str, Any], spec: EncoderSpec | None, folder: Path) -> list[Mistake]:
    """Return the mistakes of every `mine:` of a recipe. Relative paths start at `folder`.

    `spec` is the encoder section, or None if it has mistakes of its own.
    """
    mistakes: list[Mistake] = []
    for loc in _find_sections(value, ()):
        if loc in _TRAINING:
            mistakes += [((*loc, *path), text) for path, text in _check_section(value["data"], spec, folder)]
        elif loc[:1] == ("data",):
            mistakes.append(
                (
                    loc,
                    "negatives are mined for one data section, not for a list: mine this source by itself",
                )
            )
        else:
            mistakes.append((loc, "only training rows get mined negatives; remove it"))
    return mistakes


def _find_sections(value: Any, loc: Loc) -> Iterator[Loc]:
    """Yield the places of `mine:` in data sections."""
    if isinstance(value, dict):
        if "source" in value and value.get("mine") is not None:
            yield (*loc, "mine")
        for key, entry in value.items():
            yield from _find_sections(entry, (*loc, key))
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from _find_sections(entry, (*loc, index))


def _check_section(value: Any, spec: EncoderSpec | None, folder: Path) -> list[Mistake]:
    source, _ = error_messages.validate_partly(Data, value)
    if source is None or source.mine is None:
        return []
    mine = source.mine
    mistakes: list[Mistake] = []
    if mine.model != BACKBONE:
        try:
            model_references.locate(mine.model, folder)
        except ZooError as error:
            mistakes.append((("model",), str(error)))
    if mine.every is not None and getattr(spec, "teacher", None) is not None:
        message = "the teacher's answers are computed before the training, but negatives of later epochs are new texts"
        mistakes.append((("every",), f"{message}; remove `every` or `teacher`"))
    if mine.corpus is not None:
        problems = zoo_data.problems(mine.corpus, CORPUS_ROLES, folder=folder)
        mistakes += [(("corpus", *path), text) for path, text in problems]
    return mistakes if spec is None else mistakes + _check_roles(source, spec, folder)


def _check_roles(source: Any, spec: EncoderSpec, folder: Path) -> list[Mistake]:
    """The loss must read negatives, and as many as there will be."""
    roles = list_negative_roles(spec)
    if not roles:
        message = f"this loss of {spec.family} reads no hard negatives"
        return [((), f"{message}: choose a loss that reads anchor, positive and negative, or remove `mine`")]
    try:
        columns = zoo_data.find_roles(source, *spec.roles(), folder=folder) or {}
    except ZooError:
        columns = {}
    filled = [role for role in roles if role in columns]
    if len(filled) + source.mine.count > len(roles):
        message = f"{source.mine.count} besides the {len(filled)} columns of negatives in the data are more than the"
        return [(("count",), f"{message} {len(roles)} that {spec.family} reads")]
    return []

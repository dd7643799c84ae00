"""Checks a list of training data: each source by itself, then what they have to have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zoo import data as zoo_data
from zoo.core.errors import ZooError
from zoo.core.suggest import suggest
from zoo.data.data_source import name_source
from zoo.data.spec import Data, Mixture, SourceEntry
from zoo.recipe import error_messages
from zoo.recipe.error_messages import Loc, Mistake
from zoo.schema import Roles, Training
from zoo.spec import EncoderSpec

Entries = list[tuple[Loc, Any]]
"""(place, data section) of the entries of a list that have a source."""


def list_sections(value: Any) -> Entries:
    """Return the places and sections of training data, without the fields that are wrong."""
    if not isinstance(value, list):
        source, _ = error_messages.validate_partly(Data, value)
        return [] if source is None else [(("data",), source)]
    sections = (
        (("data", index), error_messages.validate_partly(SourceEntry, entry)[0]) for index, entry in enumerate(value)
    )
    return [(loc, source) for loc, source in sections if source is not None]


def check_section(loc: Loc, source: Any, removed: list[Loc], required: Roles, folder: Path) -> list[Mistake]:
    """Return the mistakes of one data section. `removed` are the places that were already reported."""
    problems = zoo_data.problems(source, {} if removed else required, folder=folder)
    return [((*loc, *path), text) for path, text in error_messages.drop_consequences(problems, removed)]


def find_mistakes(value: Mapping[str, Any], spec: EncoderSpec | None, folder: Path) -> list[Mistake]:
    """Return the mistakes of a recipe whose `data` is a list. `spec` is None if its encoder section has mistakes."""
    mistakes: list[Mistake] = []
    for index, entry in enumerate(value["data"]):
        source, removed = error_messages.validate_partly(SourceEntry, entry)
        if source is None:
            continue
        own_spec = None if spec is None else choose_spec(spec, source.loss)
        required = {} if own_spec is None else own_spec.roles()[0]
        mistakes += check_section(("data", index), source, removed, required, folder)
    entries = list_sections(value["data"])
    mistakes += _list_equal_names(entries)
    if spec is None:
        return mistakes
    mixture, _ = error_messages.validate_partly(Mixture, value.get("mixture") or {})
    mistakes += [(("encoder", *path), text) for path, text in spec.find_list_mistakes()]
    mistakes += _check_family(entries, spec, has_mixture=value.get("mixture") is not None)
    if mixture is not None:
        mistakes += _check_mixture(entries, mixture, value)
    return mistakes or list(_check_common_roles(entries, spec, folder))


def choose_spec(spec: EncoderSpec, loss: str | None) -> EncoderSpec | None:
    """Return the section with the loss of a source, or None if the family has no such loss."""
    return spec.for_source(loss) if loss is None or loss in spec.source_losses else None


def _list_equal_names(entries: Entries) -> Iterator[Mistake]:
    first_place: dict[str, Loc] = {}
    for loc, source in entries:
        name = name_source(source)
        if name in first_place:
            first = ".".join(map(str, first_place[name]))
            yield loc, f"is called {name!r}, and so is {first}: give one of them an `alias`"
        first_place.setdefault(name, loc)


def _check_family(entries: Entries, spec: EncoderSpec, *, has_mixture: bool) -> Iterator[Mistake]:
    """Yield what an entry asks for and the family does not have."""
    for loc, source in entries:
        if source.loss is not None and source.loss not in spec.source_losses:
            losses = spec.source_losses
            hint = suggest(source.loss, losses) if losses else "; leave `loss` out"
            yield (*loc, "loss"), f"{spec.family} has no loss {source.loss!r} for a source{hint}"
        if not spec.has_source_prompts and any(source.prompts.model_dump().values()):
            yield (*loc, "prompts"), f"{spec.family} has no prompts for a source; leave `prompts` out"
        for name in ("weight", "rows"):
            if not spec.mixes_sources and getattr(source, name) is not None:
                yield (*loc, name), f"{spec.family} reads all rows as one table, so it has no effect; leave it out"
    if has_mixture and not spec.mixes_sources:
        yield ("mixture",), f"{spec.family} reads all rows as one table, so it has no effect; leave it out"


def _check_mixture(entries: Entries, mixture: Mixture, value: Mapping[str, Any]) -> Iterator[Mistake]:
    training, _ = error_messages.validate_partly(Training, value.get("training") or {})
    for loc, source in entries:
        if source.weight is not None and mixture.draw in ("equal", "proportional"):
            yield (*loc, "weight"), f"has no effect with mixture.draw: {mixture.draw}; leave one of them out"
        if mixture.batches == "mixed" and source.loss is not None:
            yield (*loc, "loss"), "needs batches of one source: leave it out, or set mixture.batches: source"
        is_small = training is not None and source.limit is not None and source.limit < training.batch_size
        if is_small and mixture.batches == "source":
            text = f"{source.limit} rows are fewer than training.batch_size, {training.batch_size}, and a batch is of one source"
            yield (*loc, "limit"), f"{text}: raise it, lower batch_size, or set mixture.batches: mixed"


def _check_common_roles(entries: Entries, spec: EncoderSpec, folder: Path) -> Iterator[Mistake]:
    """Yield sources with the same loss as an earlier one and no column in common with it."""
    earlier: dict[str | None, tuple[Loc, set[str]]] = {}
    for loc, source in entries:
        try:
            roles = zoo_data.find_roles(source, *spec.for_source(source.loss).roles(), folder=folder)
        except ZooError:
            roles = None
        if roles is None:
            continue
        first, columns = earlier.setdefault(source.loss, (loc, set(roles)))
        if not columns & set(roles):
            place = ".".join(map(str, first))
            yield (
                loc,
                (
                    f"has no role in common with {place}: it has {', '.join(roles) or 'none'}, and that has "
                    f"{', '.join(sorted(columns)) or 'none'}; name its columns with `columns`"
                ),
            )

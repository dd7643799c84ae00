"""The settings of a training that had an effect, for the card."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import Any

from zoo.card import markdown
from zoo.card.run_record import Record, as_mapping
from zoo.schema import Training
from zoo.spec import EncoderSpec


def list_settings(record: Record, spec: EncoderSpec | None) -> list[tuple[str, str]]:
    """Return the settings that had an effect, as (dotted path, text), with the values of those that the recipe leaves open."""
    sections = {key: record.recipe[key] for key in ("encoder", "training") if key in record.recipe}
    settings = dict(_list_settings(sections))
    used = as_mapping(record.facts.get("settings"))
    settings |= {str(path): str(value) for path, value in used.items() if path not in settings and sections}
    training = as_mapping(record.recipe.get("training"))
    if "training.epochs" not in settings and "training.max_steps" not in settings and training:
        settings["training.epochs"] = "1"
    if settings.get("training.precision") == "auto" and record.lock.get("precision"):
        settings["training.precision"] = f"auto ({markdown.as_line(record.lock['precision'])})"
    has_validation = bool(record.recipe.get("validation"))
    unused = {f"encoder.{path}" for path in spec.list_unused_fields(has_validation)} if spec else set()
    unused |= {f"training.{name}" for name in Training.model_fields if spec and not spec.reads_training_field(name)}
    if training.get("max_steps"):
        unused.add("training.epochs")
    if not has_validation:
        unused |= {"training.early_stop", "training.keep_best"}
    return [(path, text) for path, text in settings.items() if not _is_below(path, unused)]


def _is_below(path: str, places: Container[str]) -> bool:
    """Whether `path`, or a section that holds it, is among `places`."""
    steps = path.split(".")
    return any(".".join(steps[:count]) in places for count in range(1, len(steps) + 1))


def _list_settings(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted path, text) for every setting that has a value."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _list_settings(entry, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(entry, Mapping | list) for entry in value):
        for index, entry in enumerate(value):
            yield from _list_settings(entry, f"{path}.{index}")
    elif value not in (None, "", []):
        yield path, ", ".join(map(str, value)) if isinstance(value, list) else str(value)

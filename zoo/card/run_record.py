"""The record of a run as a model folder keeps it: what the card and the pictures are made from.

Every part may be missing. Values are taken for what they are: a number that is not finite is no number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.core import located_yaml
from zoo.core.errors import ArtefactError


@dataclass(frozen=True)
class Result:
    """One task on one view.

    Attributes:
        view: as it was asked for; `corner` adds what it left open, e.g. {"layers": 6, "dim": 128}.
        value, baseline: the score and that of the same view before training; None where there is no finite one.
        speed: sentences/s; memory: peak MB; size: bytes of one stored vector; at_least: the recipe's bar.
    """

    view: Mapping[str, Any]
    corner: Mapping[str, Any]
    value: float | None
    baseline: float | None
    at_least: float | None
    speed: float | None
    memory: float | None
    size: int | None

    @property
    def label(self) -> str:
        """`3 layers · 128`, and so on for whatever a family's views are made of."""
        return label(self.corner)

    @property
    def gain(self) -> float | None:
        """What training added."""
        return None if self.value is None or self.baseline is None else self.value - self.baseline

    @property
    def rank(self) -> tuple[float, ...]:
        """Deeper, then wider, then larger views come later."""
        return tuple(number(each) or 0.0 for each in (self.corner.get("layers"), self.corner.get("dim"), self.size))


@dataclass(frozen=True)
class Task:
    """The results of one task; its views from the largest to the smallest. `figures` are what its largest view was measured by
    besides, where the family measures itself."""

    name: str
    type: str
    metric: str
    official: bool
    revision: str
    results: tuple[Result, ...]
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def whole(self) -> Result:
        """The largest view that was measured."""
        return self.results[0]

    @property
    def smallest(self) -> Result | None:
        """The smallest view that was measured, when there are two or more."""
        return self.results[-1] if len(self.results) > 1 else None

    def grid(self) -> tuple[list[int], list[int], dict[tuple[int, int], Result]] | None:
        """(depths from deep to shallow, dims from narrow to wide, results by (layers, dim)); None unless both vary."""
        cells = {
            (int(r.corner["layers"]), int(r.corner["dim"])): r
            for r in reversed(self.results)
            if number(r.corner.get("layers")) and number(r.corner.get("dim"))
        }
        depths = sorted({depth for depth, _ in cells}, reverse=True)
        dims = sorted({dim for _, dim in cells})
        return (depths, dims, cells) if min(len(depths), len(dims)) > 1 else None


@dataclass(frozen=True)
class Record:
    """The parts of a model folder; an empty mapping or list stands for a part that is missing.

    Attributes:
        zoo: the `zoo` block of config.json; facts: its part that only the encoder knew.
        recipe, recipe_text: as values, and as the YAML that trains the model again.
        training, validation: (step, loss) in order.
        plots: path below the folder by stem, e.g. {"grid": "plots/grid.png"}.
        standalone: whether stock sentence-transformers can open the folder.
    """

    zoo: dict[str, Any]
    facts: dict[str, Any]
    recipe: dict[str, Any]
    recipe_text: str
    lock: dict[str, Any]
    report: dict[str, Any]
    training: list[tuple[int, float]]
    validation: list[tuple[int, float]]
    tasks: list[Task] = field(default_factory=list)
    plots: dict[str, str] = field(default_factory=dict)
    standalone: bool = False


def read(folder: Path) -> Record:
    """Read the record of `folder`. Raises ArtefactError for a part that is there but cannot be read."""
    config = mapping(_json(folder / "config.json"))
    block = mapping(config.get("zoo"))
    facts = mapping(block.get("facts"))
    report = mapping(_json(folder / "report.json"))
    text = _text(folder / "recipe.yaml") or ""
    try:
        recipe = mapping(located_yaml.parse(text).value) if text else mapping(block.get("recipe"))
    except located_yaml.YamlError as error:
        raise ArtefactError(f"{folder / 'recipe.yaml'}:{error.line}:{error.column}: {error.message}") from None
    if recipe and not text:
        import yaml

        text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=110)
    lines = _metrics(folder / "metrics.jsonl")
    return Record(
        zoo=block,
        facts=facts,
        recipe=recipe,
        recipe_text=text,
        lock=mapping(_json(folder / "lock.json")),
        report=report,
        training=_curve(lines, "loss"),
        validation=_curve(lines, "validation_loss"),
        tasks=_tasks(report, facts),
        plots={p.stem: f"plots/{p.name}" for p in sorted((folder / "plots").glob("*.png"))},
        standalone=(folder / "modules.json").exists(),
    )


def mapping(value: Any) -> dict[str, Any]:
    """`value` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def label(corner: Mapping[str, Any]) -> str:
    """A view in words; `whole` for one that cuts nothing."""
    parts = []
    layers, dim = corner.get("layers"), corner.get("dim")
    if layers is not None:
        parts.append(f"{layers} layer" if layers == 1 else f"{layers} layers")
    if dim is not None:
        parts.append(f"{dim}" if layers is not None else f"{dim} dims")
    parts += [f"{key} {value}" for key, value in corner.items() if key not in ("layers", "dim")]
    return " · ".join(parts) or "whole"


def _tasks(report: Mapping[str, Any], facts: Mapping[str, Any]) -> list[Task]:
    entries: dict[tuple[str, str], list[dict[str, Any]]] = {}
    results = report.get("results")
    for entry in map(mapping, results if isinstance(results, list) else []):
        entries.setdefault((str(entry.get("task", "task")), str(entry.get("metric", "score"))), []).append(entry)
    return [
        Task(
            name=name,
            type=str(same[0].get("type", "")),
            metric=metric,
            official=same[0].get("official") is True,
            revision=str(same[0].get("data_revision") or ""),
            results=tuple(sorted((_result(e, facts) for e in same), key=lambda r: r.rank, reverse=True)),
            figures={
                str(k): value for k, v in mapping(same[0].get("figures")).items() if (value := number(v)) is not None
            },
        )
        for (name, metric), same in entries.items()
    ]


def _result(entry: Mapping[str, Any], facts: Mapping[str, Any]) -> Result:
    view = mapping(entry.get("view"))
    size = number(entry.get("bytes_per_vector"))
    return Result(
        view=view,
        corner={**{key: facts[key] for key in ("layers", "dim") if number(facts.get(key))}, **view},
        value=number(entry.get("value")),
        baseline=number(entry.get("baseline")),
        at_least=number(entry.get("at_least")),
        speed=number(entry.get("sentences_per_second")),
        memory=number(entry.get("peak_memory_mb")),
        size=None if size is None else int(size),
    )


def _curve(lines: list[dict[str, Any]], key: str) -> list[tuple[int, float]]:
    """(step, value) in order; a step that was run again after a resume counts once, with what it gave last."""
    found: dict[int, float] = {}
    for each in lines:
        step, value = number(each.get("step")), number(each.get(key))
        if step is not None and value is not None:
            found[int(step)] = value
    return sorted(found.items())


def _metrics(path: Path) -> list[dict[str, Any]]:
    lines = []
    for index, text in enumerate((_text(path) or "").splitlines(), 1):
        try:
            lines.append(mapping(json.loads(text)) if text.strip() else {})
        except (ValueError, RecursionError):
            raise ArtefactError(f"{path}:{index}: is not JSON; train again, or remove the line") from None
    return lines


def _json(path: Path) -> Any:
    text = _text(path)
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{path}: is not JSON: {str(error)[:120]}") from None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ArtefactError(f"{path}: cannot be read: {str(error)[:120]}") from None

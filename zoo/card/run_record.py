"""Read the record of a run from a model folder. The card and its pictures are made from this record.

Every part of the record may be missing. A number that is not finite counts as missing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.core import located_yaml
from zoo.core.errors import ArtefactError
from zoo.core.metric_direction import is_higher_better

DIAGNOSIS = "diagnose"
"""The type of results whose figures are not scores."""


@dataclass(frozen=True)
class Result:
    """The result of one task on one view.

    Attributes:
        view: the view as the recipe asks for it.
        corner: `view` with the layers and dimensions that it leaves open, for example {"layers": 6, "dim": 128}.
        value: the score, or None if there is no finite score.
        baseline: the score of the same view before training, or None.
        at_least: the lowest score that the recipe accepts, or None.
        speed: sentences per second.
        memory: peak memory in MB.
        size: bytes of one stored vector.
        verdict: the sentence that compares the score with the best free baseline, or "".
        has_interval: whether the sentence gives an interval.
    """

    view: Mapping[str, Any]
    corner: Mapping[str, Any]
    value: float | None
    baseline: float | None
    at_least: float | None
    speed: float | None
    memory: float | None
    size: int | None
    verdict: str = ""
    has_interval: bool = False

    @property
    def label(self) -> str:
        """The view in words, for example `3 layers · 128`."""
        return describe_view(self.corner)

    @property
    def gain(self) -> float | None:
        """The difference of the scores after and before training."""
        return None if self.value is None or self.baseline is None else self.value - self.baseline

    @property
    def rank(self) -> tuple[float, ...]:
        """A sort key: deeper, then wider, then larger views come later."""
        return tuple(as_number(part) or 0.0 for part in (self.corner.get("layers"), self.corner.get("dim"), self.size))


@dataclass(frozen=True)
class Task:
    """The results of one task: the whole encoder if it was measured, then from the largest view to the smallest.

    `figures` are the other measures of the largest view, by name; only tasks that zoo or the family measures itself have them.
    `free_baselines` are the names and scores of the baselines beside the encoder, the best first. `notes` are sentences that the
    task says about its results.
    """

    name: str
    type: str
    metric: str
    official: bool
    revision: str
    results: tuple[Result, ...]
    figures: Mapping[str, float] = field(default_factory=dict)
    free_baselines: tuple[tuple[str, float], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def whole(self) -> Result:
        """The result of the whole encoder, or else of the largest measured view."""
        return self.results[0]

    @property
    def smallest(self) -> Result | None:
        """The result of the smallest measured view, or None if no view is smaller than the whole."""
        smallest = min(self.results, key=lambda result: result.rank)
        return smallest if smallest.rank < self.whole.rank else None

    def grid(self) -> tuple[list[int], list[int], dict[tuple[int, int], Result]] | None:
        """Return (depths from deep to shallow, dims from narrow to wide, results by (layers, dim)).

        Return None unless both the depths and the dims vary.
        """
        cells = {
            (int(result.corner["layers"]), int(result.corner["dim"])): result
            for result in reversed(self.results)
            if as_number(result.corner.get("layers")) and as_number(result.corner.get("dim"))
        }
        depths = sorted({depth for depth, _ in cells}, reverse=True)
        dims = sorted({dim for _, dim in cells})
        return (depths, dims, cells) if min(len(depths), len(dims)) > 1 else None


@dataclass(frozen=True)
class Record:
    """The parts of a model folder. An empty mapping or list stands for a missing part.

    Attributes:
        zoo: the `zoo` block of config.json.
        facts: the part of the `zoo` block that the encoder adds.
        recipe: the recipe as values.
        recipe_text: the recipe as YAML, from which the model can be trained again.
        lock: the content of lock.json.
        report: the content of report.json.
        training: (step, training loss), sorted by step.
        phases: the same by phase, of a training whose loss means something else from phase to phase; `training` is then empty.
        validation: (step, validation loss), sorted by step.
        source_losses: (step, training loss) of each source of a list of data, sorted by step.
        scores: (step, score of the validation tasks), sorted by step.
        space: (step, value) of each watched figure of the space, sorted by step.
        tasks: the results of the report, by task. Diagnoses are left out, because their figures are not scores.
        plots: the path of each picture below the folder by its stem, for example {"grid": "plots/grid.png"}.
        standalone: whether sentence-transformers alone can open the folder.
    """

    zoo: dict[str, Any]
    facts: dict[str, Any]
    recipe: dict[str, Any]
    recipe_text: str
    lock: dict[str, Any]
    report: dict[str, Any]
    training: list[tuple[int, float]]
    phases: dict[str, list[tuple[int, float]]]
    validation: list[tuple[int, float]]
    source_losses: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    scores: list[tuple[int, float]] = field(default_factory=list)
    space: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    tasks: list[Task] = field(default_factory=list)
    plots: dict[str, str] = field(default_factory=dict)
    standalone: bool = False


def find_best_score(record: Record) -> tuple[int, float] | None:
    """Return the step and the score of the best weights by the validation tasks; None without such tasks."""
    if not record.scores:
        return None
    sign = 1 if watches_higher_scores(record) else -1
    return max(record.scores, key=lambda point: (sign * point[1], -point[0]))


def watches_higher_scores(record: Record) -> bool:
    """Whether a higher score of the validation tasks is a better one, as their metrics in the recipe say."""
    validation = record.recipe.get("validation")
    entries = map(as_mapping, validation if isinstance(validation, list) else [validation])
    return all(is_higher_better(str(entry.get("metric"))) for entry in entries)


def read(folder: Path) -> Record:
    """Read the record of `folder`. Raise ArtefactError if a part exists but cannot be read."""
    config = as_mapping(_read_json(folder / "config.json"))
    block = as_mapping(config.get("zoo"))
    facts = as_mapping(block.get("facts"))
    report = as_mapping(_read_json(folder / "report.json"))
    recipe, recipe_text = _read_recipe(folder / "recipe.yaml", block)
    lines = _read_metrics(folder / "metrics.jsonl")
    return Record(
        zoo=block,
        facts=facts,
        recipe=recipe,
        recipe_text=recipe_text,
        lock=as_mapping(_read_json(folder / "lock.json")),
        report=report,
        training=_collect_curve([line for line in lines if "phase" not in line], "loss"),
        phases=_collect_phases(lines),
        validation=_collect_curve(lines, "validation_loss"),
        source_losses=_collect_by_name(lines, "loss_by_source"),
        space=_collect_by_name(lines, "space"),
        scores=_collect_curve(lines, "validation_score"),
        tasks=_group_results(report, facts),
        plots={path.stem: f"plots/{path.name}" for path in sorted((folder / "plots").glob("*.png"))},
        standalone=(folder / "modules.json").exists(),
    )


# -- values ------------------------------------------------------------------------------------------------------------


def as_mapping(value: Any) -> dict[str, Any]:
    """Return `value` if it is a dict, else an empty dict."""
    return value if isinstance(value, dict) else {}


def as_number(value: Any) -> float | None:
    """Return `value` as a float if it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def list_results(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the entries of `results` in a report; an entry that is not an object counts as empty."""
    results = report.get("results")
    return [as_mapping(entry) for entry in results] if isinstance(results, list) else []


def list_diagnoses(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the entries of the task `diagnose`, whose figures do not say which of two models is better."""
    return [entry for entry in list_results(report) if entry.get("type") == DIAGNOSIS]


def list_findings(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return `message` and `advice` of each suspicion after the training."""
    entries = report.get("health")
    found = map(as_mapping, entries if isinstance(entries, list) else [])
    return [
        {name: str(entry.get(name) or "") for name in ("message", "advice")} for entry in found if entry.get("message")
    ]


def describe_view(corner: Mapping[str, Any]) -> str:
    """Describe a view in words. A view without options is `whole`."""
    parts = []
    layers, dim = corner.get("layers"), corner.get("dim")
    if layers is not None:
        parts.append(f"{layers} layer" if layers == 1 else f"{layers} layers")
    if dim is not None:
        parts.append(f"{dim}" if layers is not None else f"{dim} dims")
    parts += [f"{key} {value}" for key, value in corner.items() if key not in ("layers", "dim")]
    return " · ".join(parts) or "whole"


# -- parts of the record -----------------------------------------------------------------------------------------------


def _group_results(report: Mapping[str, Any], facts: Mapping[str, Any]) -> list[Task]:
    """Return one Task for every pair of task and metric in the report."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for entry in list_results(report):
        if entry.get("type") == DIAGNOSIS:
            continue
        groups.setdefault((str(entry.get("task", "task")), str(entry.get("metric", "score"))), []).append(entry)
    free = as_mapping(report.get("free_baselines"))
    return [_make_task(name, metric, entries, facts, free.get(name)) for (name, metric), entries in groups.items()]


def _make_task(name: str, metric: str, entries: list[dict[str, Any]], facts: Mapping[str, Any], free: Any) -> Task:
    first = entries[0]
    results = [_make_result(entry, facts) for entry in entries]
    figures = {str(key): as_number(value) for key, value in as_mapping(first.get("figures")).items()}
    return Task(
        name=name,
        type=str(first.get("type", "")),
        metric=metric,
        official=first.get("official") is True,
        revision=str(first.get("data_revision") or ""),
        results=tuple(sorted(results, key=lambda result: (not result.view, result.rank), reverse=True)),
        figures={key: value for key, value in figures.items() if value is not None},
        free_baselines=_list_free_baselines(free),
        notes=tuple(note for entry in entries for note in _list_notes(entry)),
    )


def _list_notes(entry: Mapping[str, Any]) -> list[str]:
    """Return the sentences in the details of an entry of the report."""
    notes = as_mapping(entry.get("details")).get("notes")
    return [note for note in notes if isinstance(note, str)] if isinstance(notes, list) else []


def _list_free_baselines(entries: Any) -> tuple[tuple[str, float], ...]:
    """Return names and scores, the best first. An entry without a finite score is left out."""
    scored = []
    for entry in map(as_mapping, entries if isinstance(entries, list) else []):
        value = as_number(entry.get("value"))
        if value is not None:
            scored.append((str(entry.get("name")), value))
    return tuple(sorted(scored, key=lambda pair: -pair[1]))


def _make_result(entry: Mapping[str, Any], facts: Mapping[str, Any]) -> Result:
    view, verdict = as_mapping(entry.get("view")), as_mapping(entry.get("verdict"))
    size = as_number(entry.get("bytes_per_vector"))
    return Result(
        view=view,
        corner={**{key: facts[key] for key in ("layers", "dim") if as_number(facts.get(key))}, **view},
        value=as_number(entry.get("value")),
        baseline=as_number(entry.get("baseline")),
        at_least=as_number(entry.get("at_least")),
        speed=as_number(entry.get("sentences_per_second")),
        memory=as_number(entry.get("peak_memory_mb")),
        size=None if size is None else int(size),
        verdict=str(verdict.get("sentence") or ""),
        has_interval=as_number(verdict.get("low")) is not None,
    )


def _collect_phases(lines: Iterable[Mapping[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    by_phase: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        if "phase" in line:
            by_phase.setdefault(str(line["phase"]), []).append(line)
    return {phase: _collect_curve(entries, "loss") for phase, entries in by_phase.items()}


def _collect_by_name(lines: Iterable[Mapping[str, Any]], key: str) -> dict[str, list[tuple[int, float]]]:
    """Return the curve of each name of an entry that holds several values by name."""
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        for name, value in as_mapping(line.get(key)).items():
            by_name.setdefault(name, []).append({"step": line.get("step"), "value": value})
    return {name: _collect_curve(entries, "value") for name, entries in by_name.items()}


def _collect_curve(lines: Iterable[Mapping[str, Any]], key: str) -> list[tuple[int, float]]:
    """Return (step, value), sorted by step. A step that was run again after a resume has its last value."""
    value_by_step: dict[int, float] = {}
    for entry in lines:
        step, value = as_number(entry.get("step")), as_number(entry.get(key))
        if step is not None and value is not None:
            value_by_step[int(step)] = value
    return sorted(value_by_step.items())


# -- files -------------------------------------------------------------------------------------------------------------


def _read_recipe(path: Path, block: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the recipe as values and as YAML, from the file or else from the `zoo` block of config.json."""
    text = _read_text(path) or ""
    if text:
        try:
            return as_mapping(located_yaml.parse(text).value), text
        except located_yaml.YamlError as error:
            raise ArtefactError(f"{path}:{error.line}:{error.column}: {error.message}") from None
    parent = as_mapping(block.get("parent"))
    if parent:  # a view of another model cannot be trained again by itself
        return as_mapping(parent.get("recipe")), ""
    recipe = as_mapping(block.get("recipe"))
    if recipe:
        import yaml

        text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=110)
    return recipe, text


def _read_metrics(path: Path) -> list[dict[str, Any]]:
    lines = []
    for index, text in enumerate((_read_text(path) or "").splitlines(), 1):
        try:
            lines.append(as_mapping(json.loads(text)) if text.strip() else {})
        except (ValueError, RecursionError):
            raise ArtefactError(f"{path}:{index}: is not JSON; train again, or remove the line") from None
    return lines


def _read_json(path: Path) -> Any:
    text = _read_text(path)
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        message = f"{path}: is not JSON ({str(error)[:120]}); restore the file, or train again"
        raise ArtefactError(message) from None


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path}: cannot be read ({str(error)[:120]}); restore the file, or train again"
        raise ArtefactError(message) from None

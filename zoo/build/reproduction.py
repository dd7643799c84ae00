"""Make a published model again from its own recipe, and compare every score with the one that it claims."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zoo.artefact import manifest
from zoo.build import builder
from zoo.build.environment import list_packages
from zoo.card import run_record
from zoo.card.run_record import as_mapping, as_number
from zoo.core import atomic_files
from zoo.core.errors import AcceptanceError, ArtefactError, ZooError
from zoo.core.host import describe_host
from zoo.hub import model_references
from zoo.hub.fetch import fetch
from zoo.recipe import recipe

TOLERANCE = 0.005
"""Absolute difference of a score. Runs on one machine are bit-equal; other processors and versions round otherwise, which
training enlarges."""
HOST = ("cpu", "cores", "device")


@dataclass(frozen=True)
class Figure:
    """One score: as the model claims it, and as it came out here (None: not at all)."""

    task: str
    view: dict[str, Any]
    metric: str
    there: float
    here: float | None
    tolerance: float

    @property
    def within(self) -> bool:
        """Whether the two agree."""
        return self.here is not None and abs(self.here - self.there) <= self.tolerance


@dataclass(frozen=True)
class Reproduction:
    """What differs here from where the model was made, every figure, and whether the weights are the same bytes."""

    model: str
    revision: str
    differences: tuple[str, ...]
    same_data: bool
    figures: tuple[Figure, ...]
    same_weights: bool

    @property
    def reproduced(self) -> bool:
        """On the same data, every figure within its tolerance."""
        return self.same_data and all(figure.within for figure in self.figures)


def reproduce(
    reference: str,
    out: Path,
    *,
    revision: str | None = None,
    data: Path = Path(),
    tolerance: float = TOLERANCE,
    say: Callable[[str], None] = lambda _: None,
    show_progress: bool = False,
) -> Reproduction:
    """Train the model `reference` (a folder or a Hub id) again in the run folder `out` and compare the reports.

    Args:
        data: where the relative paths of the recipe start. A recipe from the Hub may not leave it.
        tolerance: absolute difference up to which two scores agree.

    What differs here is told before training, which is resumable as any run. Nothing is published. Writes
    reproduction.json to `out`. Raises ArtefactError for a folder without a recipe, lock or scores, and what a run raises.
    """
    if not tolerance >= 0:
        raise ZooError(f"the tolerance is {tolerance}; give a difference of scores, 0 or more")
    local = model_references.locate(reference)
    folder = local or fetch(reference, revision)
    manifest.verify(folder)
    about = run_record.read(folder)
    claims = {key: value for key, value in _scores(about.report) if value is not None}
    missing = [n for n, part in (("recipe.yaml", about.recipe_text), ("lock.json", about.lock)) if not part]
    if missing or not claims:
        what = " and no ".join(missing) or "scores in report.json"
        raise ArtefactError(f"{reference}: has no {what}, so there is nothing to reproduce it from")
    whose = f"{reference}/recipe.yaml"
    wanted = recipe.loads(about.recipe_text, folder=data, file=whose, confined=local is None)
    told: list[str] = []
    other_data: list[str] = []

    def compare(locked: Mapping[str, Any]) -> None:
        told.extend(_differences(about.lock))
        other_data.extend(_data_differences(as_mapping(about.lock.get("data")), locked))
        for line in told + other_data:
            say(f"differs: {line}")
        if not told + other_data:
            say("nothing differs: the same data, versions and kind of machine")

    with suppress(AcceptanceError):  # the bar is another question than whether the score came out again
        builder.run(
            wanted.model_copy(update={"publish": None}),
            out,
            say=say,
            show_progress=show_progress,
            before_training=compare,
        )
    here = dict(_scores(atomic_files.read_json(out / "report.json")))
    figures = tuple(
        Figure(task, json.loads(view), metric, value, here.get((task, view, metric)), tolerance)
        for (task, view, metric), value in claims.items()
    )
    same_weights = _weights(folder) == _weights(out / "model")
    commit = "" if local else folder.name
    found = Reproduction(reference, commit, (*told, *other_data), not other_data, figures, same_weights)
    scores = [asdict(figure) | {"within": figure.within} for figure in figures]
    summary = asdict(found) | {"figures": scores, "reproduced": found.reproduced}
    atomic_files.write_json(out / "reproduction.json", {"format": 1, **summary})
    return found


def _scores(report: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str, str], float | None]]:
    results = report.get("results")
    for each in map(as_mapping, results if isinstance(results, list) else []):
        view = json.dumps(as_mapping(each.get("view")), sort_keys=True)
        yield (str(each.get("task")), view, str(each.get("metric"))), as_number(each.get("value"))


def _differences(lock: Mapping[str, Any]) -> Iterator[str]:
    """Versions and machine, there and here."""
    here = list_packages()
    for name, version in as_mapping(lock.get("packages")).items():
        if here.get(name) != version:
            yield f"{name} {str(version)[:40]} there, {here.get(name) or 'not installed'} here"
    machine, there = describe_host(), as_mapping(lock.get("host"))
    for name in HOST:
        if machine[name] != there.get(name):
            yield f"{name} {str(there.get(name))[:60]} there, {machine[name]} here"


def _data_differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(there.keys() | here.keys()):
        was, found = as_mapping(there.get(name)).get("fingerprint"), as_mapping(here.get(name)).get("fingerprint")
        if was != found:
            yield f"data {name}: sha256 {str(was)[:12]} there, {str(found)[:12]} here"


def _weights(folder: Path) -> dict[str, str]:
    return {name: e["sha256"] for name, e in manifest.read(folder).items() if name.endswith(".safetensors")}

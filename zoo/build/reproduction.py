"""Train a published model again from its own recipe and compare every score with the published one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zoo.artefact import canaries, manifest
from zoo.build import builder
from zoo.build.environment import list_packages
from zoo.card import run_record
from zoo.card.run_record import Record, as_mapping, as_number
from zoo.core import atomic_files, confinement
from zoo.core.errors import AcceptanceError, ArtefactError, ZooError
from zoo.core.host import describe_host
from zoo.hub import model_references
from zoo.hub.fetch import fetch
from zoo.recipe import recipe
from zoo.recipe.recipe import Recipe

TOLERANCE = 0.005
"""The largest difference of two scores that agree. Runs on one machine are bit-equal. Other processors and versions round
differently, and training enlarges such differences."""
HOST_FIELDS = ("cpu", "cores", "device")

Say = Callable[[str], None]
ScoreKey = tuple[str, str, str]
"""Task, view as JSON with sorted keys, and metric."""


@dataclass(frozen=True)
class Figure:
    """One score: `there` in the published report and `here` in the new one, or None if the new one has no such score."""

    task: str
    view: dict[str, Any]
    metric: str
    there: float
    here: float | None
    tolerance: float

    @property
    def within(self) -> bool:
        """Whether the two scores agree. The tolerance of a score above 1, for example of a count, is a share of it."""
        return self.here is not None and abs(self.here - self.there) <= self.tolerance * max(1.0, abs(self.there))


@dataclass(frozen=True)
class Reproduction:
    """The comparison of a published model with the one that was trained again.

    Attributes:
        model: the folder or the Hub id of the published model.
        revision: the commit on the Hub, empty for a folder.
        differences: differences of versions, machine and data, as sentences.
        same_data: whether all data sets have the same fingerprints.
        figures: all scores.
        same_weights: whether the weight files are the same bytes.
    """

    model: str
    revision: str
    differences: tuple[str, ...]
    same_data: bool
    figures: tuple[Figure, ...]
    same_weights: bool

    @property
    def reproduced(self) -> bool:
        """Whether the data is the same and every score agrees."""
        return self.same_data and all(figure.within for figure in self.figures)


def reproduce(
    reference: str,
    out: Path,
    *,
    revision: str | None = None,
    data: Path = Path(),
    tolerance: float = TOLERANCE,
    say: Say = lambda _: None,
    show_progress: bool = False,
) -> Reproduction:
    """Train the model `reference` (a folder or a Hub id) again in the run folder `out` and compare the scores.

    Args:
        reference: a model folder or a Hub id.
        out: the run folder. An interrupted run is resumed.
        revision: a branch, tag or commit on the Hub.
        data: the folder from which the relative paths of the recipe start. A recipe from the Hub may not leave it, also not
            through links, and `$ZOO_DATA` in such a recipe is this folder.
        tolerance: the largest absolute difference of two scores that agree.
        say: receives progress messages. It receives all differences before the training starts.
        show_progress: whether to show progress bars.

    Nothing is published. Write reproduction.json to `out`. Raise ArtefactError if the model folder has no recipe, lock or
    scores, and every error that `builder.run` raises.
    """
    if not tolerance >= 0:
        raise ZooError(f"the tolerance is {tolerance}; give a difference of scores, 0 or more")
    local_folder = model_references.locate(reference)
    folder = local_folder or fetch(reference, revision)
    manifest.verify(folder)
    record = run_record.read(folder)
    _check_record(record, reference)
    recipe_file, is_remote = f"{reference}/recipe.yaml", local_folder is None
    with confinement.confine_to(data) if is_remote else nullcontext():
        to_train = recipe.loads(record.recipe_text, folder=data, file=recipe_file, confined=is_remote)
        differences, data_differences = _train(to_train, out, record.lock, say, show_progress)
    reproduction = Reproduction(
        model=reference,
        revision=folder.name if is_remote else "",
        differences=(*differences, *data_differences),
        same_data=not data_differences,
        figures=_compare_scores(record.report, atomic_files.read_json(out / "report.json"), tolerance),
        same_weights=_read_weight_hashes(folder) == _read_weight_hashes(out / "model"),
    )
    _write_summary(reproduction, out / "reproduction.json")
    return reproduction


def _check_record(record: Record, reference: str) -> None:
    """Raise ArtefactError if a part is missing without which nothing can be compared."""
    parts = {"recipe.yaml": record.recipe_text, "lock.json": record.lock}
    missing = [name for name, part in parts.items() if not part]
    has_scores = any(value is not None for _, value in _list_scores(record.report))
    if missing or not has_scores:
        what = " and no ".join(missing) or "scores in report.json"
        raise ArtefactError(f"{reference}: has no {what}, so there is nothing to reproduce it from")


def _train(
    to_train: Recipe[Any], out: Path, lock: Mapping[str, Any], say: Say, show_progress: bool
) -> tuple[list[str], list[str]]:
    """Train without publishing. Return the differences of versions and machine, and those of the data."""
    differences: list[str] = []
    data_differences: list[str] = []

    def compare(locked_data: Mapping[str, Any]) -> None:
        differences.extend(_list_environment_differences(lock))
        data_differences.extend(_list_data_differences(as_mapping(lock.get("data")), locked_data))
        for line in differences + data_differences:
            say(f"differs: {line}")
        if not differences + data_differences:
            say("nothing differs: the same data, versions and kind of machine")

    # The author's trackers are not those of whoever reproduces the model.
    unpublished = to_train.model_copy(update={"publish": None, "training": to_train.training.for_baseline()})
    with suppress(AcceptanceError):  # a score below its `at_least` can still be the published score
        builder.run(unpublished, out, say=say, show_progress=show_progress, before_training=compare)
    return differences, data_differences


def _compare_scores(there: Mapping[str, Any], here: Mapping[str, Any], tolerance: float) -> tuple[Figure, ...]:
    new_scores = dict(_list_scores(here))
    published_scores = {key: value for key, value in _list_scores(there) if value is not None}
    return tuple(
        Figure(task, json.loads(view), metric, value, new_scores.get((task, view, metric)), tolerance)
        for (task, view, metric), value in published_scores.items()
    )


def _list_scores(report: Mapping[str, Any]) -> Iterator[tuple[ScoreKey, float | None]]:
    for result in run_record.list_results(report):
        view = json.dumps(as_mapping(result.get("view")), sort_keys=True)
        yield (str(result.get("task")), view, str(result.get("metric"))), as_number(result.get("value"))


def _write_summary(reproduction: Reproduction, path: Path) -> None:
    figures = [asdict(figure) | {"within": figure.within} for figure in reproduction.figures]
    summary = asdict(reproduction) | {"figures": figures, "reproduced": reproduction.reproduced}
    atomic_files.write_json(path, {"format": 1, **summary})


def _list_environment_differences(lock: Mapping[str, Any]) -> Iterator[str]:
    """Yield the differences of package versions and of the machine."""
    installed = list_packages()
    for name, version in as_mapping(lock.get("packages")).items():
        if installed.get(name) != version:
            yield f"{name} {str(version)[:40]} there, {installed.get(name) or 'not installed'} here"
    this_host, locked_host = describe_host(), as_mapping(lock.get("host"))
    for name in HOST_FIELDS:
        if this_host[name] != locked_host.get(name):
            yield f"{name} {str(locked_host.get(name))[:60]} there, {this_host[name]} here"


def _list_data_differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*there, *here}):
        old, new = (as_mapping(entries.get(name)).get("fingerprint") for entries in (there, here))
        if old != new:
            yield f"data {name}: sha256 {str(old)[:12]} there, {str(new)[:12]} here"


def _read_weight_hashes(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file of weights. Vectors of canaries differ between processors and versions of zoo."""
    entries = manifest.read(folder)
    names = [name for name in entries if name.endswith(".safetensors") and name != canaries.VECTORS]
    return {name: entries[name]["sha256"] for name in names}

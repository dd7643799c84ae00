"""Open the checkpoints of a run with the encoder that its recipe describes. The run need not have a finished model.

Each checkpoint is opened as `zoo train --finish` would take it for the end of the training, in a folder of its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from safetensors import SafetensorError

from zoo.build import builder, health, mined_corpus, mining, overlap, training_data
from zoo.core import atomic_files
from zoo.core.errors import ArtefactError, ZooError, first_line
from zoo.core.findings import Finding
from zoo.data import Table
from zoo.diagnosis.progress import Progress, judge_losses, judge_progress
from zoo.encoder import Encoder
from zoo.evaluation import prepare
from zoo.evaluation.spec import list_tasks
from zoo.evaluation.watching import prepare_watch
from zoo.metrics.encoded_rows import choose_inputs
from zoo.recipe import recipe as recipes
from zoo.recipe.recipe import Recipe
from zoo.schema import Training
from zoo.training.checkpoints import METRICS, is_complete, list_complete_checkpoints, read_record

FOLDER, PREFIX = "checkpoints", "checkpoint-"
RECIPE = "recipe.yaml"
STATE = "trainer_state.json"
"""The file of a checkpoint that says how far the training is."""


class Place(NamedTuple):
    """A run folder, and the checkpoints in it that are asked for; () for all of them."""

    run: Path
    checkpoints: tuple[Path, ...] = ()


def locate(reference: str, *, is_run: bool = False) -> Place | None:
    """Return the run whose checkpoints a path names: `RUN/checkpoints`, or one folder in it. None for another path.

    With `is_run` the path is the run folder itself.
    """
    path = Path(reference)
    if path.name.startswith(PREFIX) and path.parent.name == FOLDER and (path.parent.parent / RECIPE).is_file():
        return Place(path.parent.parent, (path,))
    if path.name == FOLDER and (path.parent / RECIPE).is_file():
        return Place(path.parent)
    return Place(path) if is_run else None


class RunCheckpoints:
    """The checkpoints of a run, the oldest first.

    Attributes:
        run: the run folder.
        checkpoints: folders of complete checkpoints.
        recipe: the recipe of the run.
    """

    def __init__(self, run: Path, checkpoints: Sequence[Path], recipe: Recipe[Any]) -> None:
        self.run, self.checkpoints, self.recipe = run, list(checkpoints), recipe
        self._tables = _read_tables(recipe, run / "cache")

    @classmethod
    def open(cls, place: Place, *, data: Path) -> Self:
        """Find the checkpoints, and read the rows of the recipe. Its relative paths start at `data`.

        Raises ZooError if there is no run, if it has no complete checkpoint, and if its family keeps other ones.
        """
        if not (place.run / RECIPE).is_file():
            raise ZooError(
                f"{place.run}: is not a run folder, because it has no {RECIPE}; name the folder that `zoo train --out` wrote"
            )
        for path in place.checkpoints:
            if not is_complete(path):
                raise ZooError(f"{path}: is not a complete checkpoint; name another one of {path.parent}")
        recipe = recipes.load(place.run / RECIPE, folder=data)
        if not recipe.encoder.reads_training_field("watch"):
            raise ZooError(
                f"{place.run}: the family {recipe.encoder.family} has a trainer of its own, whose checkpoints cannot encode; "
                "diagnose its finished model"
            )
        found = list(place.checkpoints) or list_complete_checkpoints(place.run / FOLDER)
        if not found:
            raise ZooError(
                f"{place.run}: has no complete checkpoint. A run removes them at its end, unless the recipe has "
                "`training: {keep_checkpoints: all}`; without it, diagnose a run that is not finished, or its model"
            )
        return cls(place.run, found, recipe)

    def choose_inputs(self, most: int) -> list[Any]:
        """Return at most `most` different inputs of validation rows, or of training rows without a validation."""
        rows = self._tables.get("validation", self._tables["train"]).rows
        inputs = choose_inputs(self.recipe.encoder, rows, most)
        if not inputs:
            raise ZooError(f"{self.run}: its rows have no column that the encoder reads alone; give inputs with --data")
        return inputs

    def read_progress(self, checkpoint: Path) -> Progress:
        """Return how far the training was."""
        state = atomic_files.read_json(checkpoint / STATE)
        has_ended = bool(read_record(checkpoint).get("finished")) or state["global_step"] >= state["max_steps"]
        return Progress(int(state["global_step"]), int(state["max_steps"]), has_ended)

    def load(self, checkpoint: Path) -> Encoder:
        """Return a new encoder with the weights of a checkpoint.

        Raises ArtefactError if they do not fit, or if the run has removed them meanwhile.
        """
        if not is_complete(checkpoint):
            raise ArtefactError(f"{checkpoint}: is gone; the run has removed it meanwhile: start the command again")
        encoder, rows = builder.build_untrained(self.recipe, self._tables), self._tables["train"].rows
        encoder.space_watch = None
        encoder.prepare(rows, self.run / "cache")
        validation = training_data.get_rows(self._tables, "validation")
        with tempfile.TemporaryDirectory(prefix="zoo-checkpoint-") as name:
            folder = Path(name) / FOLDER
            folder.mkdir()
            (folder / checkpoint.name).symlink_to(checkpoint.resolve(), target_is_directory=True)
            try:
                encoder.fit(rows, self._settings, folder.parent, validation=validation, finish=True)
            except (RuntimeError, OSError, SafetensorError) as error:
                raise ArtefactError(
                    f"{checkpoint}: its weights cannot be read ({first_line(error)}); the recipe is another one, or the file is "
                    "damaged"
                ) from None
        if encoder.finish_trains:
            encoder.finish(rows)
        if not encoder.is_usable():
            raise ZooError(f"{checkpoint}: an encoder of the family {encoder.spec.family} cannot encode before its end")
        return encoder

    @property
    def _settings(self) -> Training:
        """The settings of a training that makes no step: nothing is chosen, reported or followed."""
        settings = self.recipe.training.for_baseline()
        epochs = 1.0 if settings.epochs == "auto" else settings.epochs
        rate = self.recipe.encoder.usual_learning_rate if settings.learning_rate == "auto" else settings.learning_rate
        return settings.model_copy(update={"epochs": epochs, "learning_rate": rate})

    def judge(self, checkpoint: Path) -> list[Finding]:
        """Say whether the training had not ended at a checkpoint, or ended too early."""
        progress = self.read_progress(checkpoint)
        lines = [line for line in health.read_lines(self.run / METRICS) if line.get("step", 0) <= progress.step]
        return judge_progress(progress) or judge_losses(lines)


def judge_model(folder: Path) -> list[Finding]:
    """Say whether the training of a model folder ended too early. [] for a folder without a record of it that can be read."""
    try:
        lock = atomic_files.read_json(folder / "lock.json") if (folder / "lock.json").is_file() else {}
        lines = health.read_lines(folder / METRICS)
        if lock.get("finished_early") and lines:
            message = f"the training was ended at step {lines[-1].get('step', 0):,} by `zoo train --finish`"
            return [
                Finding("warning", message, "the same command without --finish trains on to the end of its schedule")
            ]
        return judge_losses(lines)
    except (
        ValueError,
        TypeError,
        AttributeError,
    ):  # the record is only read along; opening the model checks the folder
        return []


def _read_tables(recipe: Recipe[Any], cache: Path) -> dict[str, Table]:
    """Return the tables as the training of the run got them."""
    tables, corpus = training_data.read_tables(recipe), mining.read_corpus(recipe)
    if recipe.on_overlap == "drop":
        watch = prepare_watch(list_tasks(recipe.validation), recipe.folder)
        tasks = prepare(recipe.evaluation, recipe.folder)
        tables, _, _ = overlap.settle(recipe, tables, tasks, watch)
        corpus, _ = mined_corpus.settle(recipe, corpus, tables["train"], tasks)
    return mining.mine_recipe(recipe, tables, corpus, cache)[0]

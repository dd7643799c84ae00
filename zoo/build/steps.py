"""The stage of a run between training and evaluation: it fits the steps of `after:`, each from its own inputs.

    after/0-int8/  after/1-relevance/  after/scores.json

A step is fitted again only if the trained model, its own fields, its data, or the code step before it changed.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import after, pretrained
from zoo.after import saved
from zoo.after.spec import StepSpec
from zoo.after.step import CodeStep, Step
from zoo.build import step_material
from zoo.build.run_folder import RunFolder
from zoo.build.training_data import make_lock_entry
from zoo.core import atomic_files
from zoo.data import Table
from zoo.encoder import Encoder
from zoo.evaluation import Prepared
from zoo.recipe.recipe import Recipe

if TYPE_CHECKING:
    from zoo.evaluation.kept_vectors import KeptVectors

FOLDER = "after"
SCORES = f"{FOLDER}/scores.json"
Say = Callable[[str], None]


@dataclass(frozen=True)
class PreparedSteps:
    """The steps of a recipe and their own data, which was read and found good.

    Attributes:
        specs: the entries of `after:`.
        tables: for each step, the tables of its data sections by field.
        lock: their entries in lock.json.
    """

    specs: tuple[StepSpec, ...] = ()
    tables: tuple[dict[str, Table], ...] = ()
    lock: dict[str, Any] = field(default_factory=dict)

    def compute_digests(self, trained_from: str, seed: int) -> list[str]:
        """Return a digest of the inputs of each step: the trained model, its fields, its data, and the codes before it."""
        digests: list[str] = []
        codes: list[str] = []
        for spec, tables in zip(self.specs, self.tables, strict=True):
            fingerprints = {name: table.fingerprint for name, table in tables.items()}
            digest = atomic_files.digest([trained_from, spec.model_dump(mode="json"), fingerprints, seed, codes])
            codes = [digest] if spec.kind == "codes" else codes
            digests.append(digest)
        return digests


def prepare(recipe: Recipe[Any]) -> PreparedSteps:
    """Read the data sections of all steps. Raise DataError for data that cannot be read."""
    specs = recipe.after
    tables = tuple(step_material.read_data(spec, recipe.encoder.main_modality, recipe.folder) for spec in specs)
    lock = {
        f"{FOLDER}.{number}.{name}": make_lock_entry(table)
        for number, own in enumerate(tables)
        for name, table in own.items()
    }
    return PreparedSteps(specs, tables, lock)


def name_folder(number: int, spec: StepSpec) -> str:
    """Return the folder of a fitted step below the run folder."""
    return f"{FOLDER}/{number}-{spec.step}"


def fit(
    recipe: Recipe[Any],
    prepared: PreparedSteps,
    digests: Sequence[str],
    folder: RunFolder,
    tables: Mapping[str, Table],
    say: Say,
) -> Encoder | None:
    """Return the trained encoder of a run with its fitted steps, or None if the recipe has no steps.

    `tables` are those of the training. The other arguments are those of `fit_all`.
    """
    if not digests:
        _remove_others(folder.path / FOLDER, set())
        return None
    encoder = pretrained.load(folder.path / "trained")
    encoder.folder = recipe.folder
    encoder.attach_steps(fit_all(prepared, digests, folder, encoder, tables["train"], recipe.training.seed, say))
    return encoder


def evaluate(
    encoder: Encoder | None,
    tasks: Prepared,
    folder: RunFolder,
    made_from: str,
    say: Say,
    *,
    show_progress: bool,
    kept: KeptVectors | None = None,
) -> None:
    """Score the tasks with codes in place of vectors, and keep the scores in the report, which the run has already.

    Args:
        encoder: the encoder with its steps. Without a step for codes, the report has no such scores.
        tasks: the tasks of the evaluation.
        folder: the run folder.
        made_from: the digest of all that the scores depend on.
        say, show_progress: as in `zoo.build.builder.run`.
        kept: the vectors that the evaluation without codes kept.
    """
    codes = next((step for step in encoder.steps if isinstance(step, CodeStep)), None) if encoder else None
    report = atomic_files.read_json(folder.path / "report.json") if (folder.path / "report.json").is_file() else {}
    scores: list[dict[str, Any]] = []
    if encoder is not None and codes is not None:
        if not folder.is_made_from(SCORES, made_from):
            from zoo.evaluation import coded  # imports mteb

            say(f"evaluating {len(tasks.tasks)} tasks with the codes of {codes.spec.step}")
            scores = coded.score_codes(
                encoder, codes, tasks.tasks, report["results"], show_progress=show_progress, kept=kept
            )
            atomic_files.write_json(folder.path / SCORES, scores)
            folder.note(SCORES, made_from)
        scores = atomic_files.read_json(folder.path / SCORES)
    changed = replace_entry(report, "codes", scores)
    if changed != report:
        atomic_files.write_json(folder.path / "report.json", changed)


@contextmanager
def keep_vectors(encoder: Encoder | None, folder: Path) -> Iterator[KeptVectors | None]:
    """Give the block a place for the vectors of an evaluation, if the encoder has codes that are scored as well."""
    if encoder is None or not any(isinstance(step, CodeStep) for step in encoder.steps):
        yield None
        return
    from zoo.evaluation.kept_vectors import KeptVectors as Kept

    with Kept(folder) as kept:
        yield kept


def replace_entry(record: Mapping[str, Any], name: str, value: Any) -> dict[str, Any]:
    """Return the record with another value of an entry, and without the entry if the value is empty."""
    return {key: entry for key, entry in record.items() if key != name} | ({name: value} if value else {})


def fit_all(
    prepared: PreparedSteps,
    digests: Sequence[str],
    folder: RunFolder,
    encoder: Encoder,
    train: Table,
    seed: int,
    say: Say,
) -> tuple[Step, ...]:
    """Fit the steps whose inputs changed, open the others, and return all of them in order.

    Args:
        prepared, digests: the steps, and the digests of their inputs.
        folder: the run folder, whose `trained` is the encoder.
        encoder: the trained encoder.
        train: the training rows.
        seed: the seed of the training.
        say: receives a line about each step.
    """
    steps: list[Step] = []
    for number, (spec, digest) in enumerate(zip(prepared.specs, digests, strict=True)):
        name = name_folder(number, spec)
        path = folder.path / name
        if folder.is_made_from(name, digest):
            steps.append(saved.open_step(path))
            continue
        say(f"fitting the step {spec.step}")
        began = time.monotonic()
        encoding = step_material.Encoding(encoder, encoder.revision, folder.path / "cache" / FOLDER)
        inputs = step_material.list_inputs(spec, train, prepared.tables[number], seed)
        codes = next((step for step in steps if isinstance(step, CodeStep)), None) if spec.kind == "scores" else None
        material = step_material.make_material(spec, inputs, encoding, codes, seed=seed, folder=encoder.folder, say=say)
        step = after.load_step(spec.step).fit(spec, material)
        saved.save_step(step, path)
        folder.note(name, digest)
        say(f"{describe(step)}, fitted on {len(material.documents):,} documents in {time.monotonic() - began:.0f} s")
        steps.append(step)
    _remove_others(folder.path / FOLDER, {Path(name_folder(n, spec)).name for n, spec in enumerate(prepared.specs)})
    return tuple(steps)


def describe(step: Step) -> str:
    """Say what a fitted step is: its name, and the bytes of a code."""
    if not isinstance(step, CodeStep):
        return step.spec.step
    first = f", of which a search reads {step.first_bytes:,} first" if step.first_bytes < step.bytes_per_vector else ""
    return f"{step.spec.step}: {step.bytes_per_vector:,} bytes a vector{first}"


def describe_for_lock(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Return what lock.json and the card hold about each step: its name, bytes and figures of the fit."""
    entries: list[dict[str, Any]] = []
    for step in steps:
        entry: dict[str, Any] = {"step": step.spec.step, "kind": step.spec.kind, "facts": step.card_facts()}
        if isinstance(step, CodeStep):
            entry |= {"bytes_per_vector": step.bytes_per_vector, "first_bytes": step.first_bytes}
        entries.append(entry)
    return entries


def _remove_others(folder: Path, names: set[str]) -> None:
    """Remove the folders of steps that the recipe no longer has."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir() and path.name not in names:
            shutil.rmtree(path)

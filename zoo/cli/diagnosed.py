"""The vectors that `zoo diagnose` looks at: those of views of models, of checkpoints of a run, and of files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.cli import diagnosed_inputs, model_inputs
from zoo.core.errors import ZooError
from zoo.core.output import say

if TYPE_CHECKING:
    from zoo.build.run_checkpoints import Place
    from zoo.core.findings import Finding
    from zoo.diagnosis.attention import AttentionDiagnosis
    from zoo.diagnosis.diagnosis import Diagnosis
    from zoo.diagnosis.labelled import LabelledScores
    from zoo.encoder import Encoder

MOVED_ROWS = 1000
"""Inputs by whose neighbours the move between two checkpoints is measured."""


@dataclass
class Found:
    """The diagnoses, in the order of the table.

    Attributes:
        diagnoses: one for each view or file.
        origins: for each diagnosis a text that is equal for views, runs and checkpoints of one model.
        labelled: the results of a few labels; None without labels.
        attention: the figures of attention by the name of the view; {} if they are not asked for.
        moves: share of the nearest inputs that changed since the checkpoint before, by the name of the view.
        are_checkpoints: whether these are checkpoints of one run.
    """

    diagnoses: list[Diagnosis] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)
    labelled: LabelledScores | None = None
    attention: dict[str, AttentionDiagnosis] = field(default_factory=dict)
    moves: dict[str, float] = field(default_factory=dict)
    are_checkpoints: bool = False


class Group(NamedTuple):
    """Views of one encoder, which lasts until the next group is asked for.

    Attributes:
        views: the views by their names.
        judge: gives the findings of the training, which come with the first view.
    """

    views: Mapping[str, Encoder]
    judge: Callable[[], Sequence[Finding]]


def find_spaces(arguments: argparse.Namespace) -> Found:
    """Diagnose everything that the arguments name. Raises ZooError for arguments that do not belong together."""
    references = [arguments.model, *arguments.more]
    files = [name for name in references if name.endswith(".npy")]
    if arguments.of:
        return _diagnose_made_vectors(references, arguments)
    if arguments.prompt:
        raise ZooError("--prompt: says how the vectors of a file should have been made, so it belongs to --of MODEL")
    needs_models = arguments.data or arguments.across or arguments.labels or arguments.attention
    if files and (needs_models or len(files) < len(references)):
        raise ZooError(
            f"{files[0]}: is a file of vectors; leave --data, --labels, --across, --attention and models out, or name models "
            "only; --of MODEL --data FILE compares the vectors with those of a model"
        )
    if files:
        return Found([_diagnose_file(name, arguments) for name in files], files)
    places = _find_places(references, arguments)
    if places:
        return _diagnose_checkpoints(places, arguments)
    model_inputs.check_rows((arguments.data, arguments.labels))
    if not arguments.data:
        diagnosed_inputs.find_recipe(arguments.model)
    is_alone = len(references) == 1
    groups = (_open_group(reference, arguments, is_alone=is_alone) for reference in references)
    first = next(groups)
    spec = next(iter(first.views.values())).spec
    inputs = diagnosed_inputs.draw(arguments, spec)
    labelled = diagnosed_inputs.read_labelled(arguments, spec) if arguments.labels else None
    every = chain([first], groups)
    del first  # the models after it need the memory
    return _diagnose_groups(every, inputs, labelled, arguments)


# -- files ---------------------------------------------------------------------------------------------------------------


def _diagnose_file(name: str, arguments: argparse.Namespace) -> Diagnosis:
    from zoo.core.npy import open_rows
    from zoo.diagnosis.diagnosis import diagnose

    return diagnose(open_rows(name), neighbours=arguments.rows, seed=arguments.seed, name=Path(name).name)


def _diagnose_made_vectors(references: Sequence[str], arguments: argparse.Namespace) -> Found:
    """Diagnose a file of vectors, and say whether the model of `--of` makes such vectors of the inputs."""
    if len(references) != 1 or not references[0].endswith(".npy"):
        raise ZooError("--of: compares one .npy of vectors with a model; name that file alone")
    if not arguments.data or arguments.across or arguments.labels or arguments.attention:
        raise ZooError("--of: needs --data FILE with the inputs of the vectors, and no other view, label or attention")
    from zoo.cli import views
    from zoo.core.npy import open_rows
    from zoo.verify import stored_vectors

    model_inputs.check_rows((arguments.data, arguments.labels))
    vectors = open_rows(references[0])
    encoder = views.open_encoder(argparse.Namespace(**{**vars(arguments), "model": arguments.of}))
    inputs = model_inputs.read_inputs(arguments.data, encoder.spec, arguments.column)
    stored_vectors.check_rows(vectors, inputs, references[0], arguments.data)
    origin = stored_vectors.compare(encoder, vectors, inputs, role=arguments.prompt, seed=arguments.seed)
    say(f"{references[0]}: {origin.note}")
    found = _diagnose_file(references[0], arguments)
    found = replace(found, findings=(*origin.findings, *found.findings))
    return Found([found], [references[0]])


# -- models --------------------------------------------------------------------------------------------------------------


def _open_group(reference: str, arguments: argparse.Namespace, *, is_alone: bool) -> Group:
    """Open a model, or the model of a run folder, at each combination of the options of `--across`."""
    from zoo.build import run_checkpoints
    from zoo.cli import views

    inner = Path(reference) / "model"
    model = str(inner) if inner.is_dir() and not (Path(reference) / "config.json").exists() else reference
    encoder = views.open_encoder(argparse.Namespace(**{**vars(arguments), "model": model}))
    named = _list_views(encoder, arguments, "" if is_alone else reference, "the whole encoder")
    return Group(named, lambda: run_checkpoints.judge_model(Path(model)) if Path(model).is_dir() else [])


def _list_views(encoder: Encoder, arguments: argparse.Namespace, prefix: str, whole: str) -> dict[str, Encoder]:
    """Return the views that `--across` asks for, or the encoder, by names that begin with `prefix`."""
    combined = [encoder.spec.check_view({**encoder.view_options, **more}) for more in _combine(arguments.across)]
    together = encoder.views_sharing_a_pass(combined) if arguments.across else [encoder]
    named = {}
    for view in together:
        shown = ", ".join(f"{key}={value}" for key, value in view.view_options.items())
        named[": ".join(filter(None, (prefix, shown))) or whole] = view
    return named


def _diagnose_groups(
    groups: Iterable[Group],
    inputs: Sequence[Any],
    labelled: tuple[list[Any], list[Any]] | None,
    arguments: argparse.Namespace,
    *,
    follow_moves: bool = False,
) -> Found:
    """Diagnose every view of every group by the same inputs."""
    from zoo.diagnosis.attention import diagnose_attention
    from zoo.diagnosis.diagnosis import diagnose
    from zoo.diagnosis.labelled import score_views
    from zoo.diagnosis.ordering import identify
    from zoo.diagnosis.progress import measure_move
    from zoo.metrics.neighbours import draw_rows

    result, before = Found(are_checkpoints=follow_moves), list[Any]()
    first: tuple[str, tuple[str, ...]] | None = None
    for group in groups:
        now: list[Any] = []
        for name, view in group.views.items():
            first = first or (view.name, view.modalities)
            model_inputs.check_same_kind(view, *first)
            vectors = _LastVectors(view)
            one = diagnose(vectors, inputs, neighbours=arguments.rows, seed=arguments.seed, name=name)
            if not now:
                one = replace(one, findings=(*group.judge(), *one.findings))
            result.diagnoses.append(one)
            result.origins.append(identify(view))
            if arguments.attention:
                result.attention[name] = diagnose_attention(view, inputs)
            now.append(vectors.last[draw_rows(one.rows, MOVED_ROWS, arguments.seed)] if follow_moves else None)
            if before:
                result.moves[name] = measure_move(before[len(now) - 1], now[-1])
        before = now if follow_moves else before
        if labelled:
            scores = score_views(group.views, *labelled, seed=arguments.seed)
            known = result.labelled.by_view if result.labelled else {}
            result.labelled = scores._replace(by_view={**known, **scores.by_view})
    return result


class _LastVectors:
    """The float vectors of an encoder; `last` are those of the last call."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.last: Any = None

    def encode(self, inputs: list[Any]) -> Any:
        """Return vectors (n, d) float32."""
        from zoo.metrics.encoded_rows import encode_inputs

        self.last = encode_inputs(self.encoder, inputs)
        return self.last


# -- checkpoints ---------------------------------------------------------------------------------------------------------


def _find_places(references: Sequence[str], arguments: argparse.Namespace) -> list[Place]:
    """Return the run, and the checkpoints in it, if the references name checkpoints. [] if they name models."""
    from zoo.build import run_checkpoints

    places = [run_checkpoints.locate(name, is_run=arguments.checkpoints) for name in references]
    found = [place for place in places if place is not None]
    if found and (len(found) < len(places) or len({place.run.resolve() for place in found}) > 1):
        raise ZooError(
            "checkpoints are those of one run; name RUN/checkpoints, or some folders in it, and no other model"
        )
    return found


def _diagnose_checkpoints(places: Sequence[Place], arguments: argparse.Namespace) -> Found:
    """Diagnose checkpoints of one run: with the inputs of --data, or else with rows of its recipe."""
    from zoo.build.run_checkpoints import Place, RunCheckpoints
    from zoo.cli import views
    from zoo.training.checkpoints import read_step

    if arguments.sort:
        raise ZooError(
            "--sort: figures without labels do not say which checkpoint is best; give the recipe a validation task"
        )
    named = sorted({path for place in places for path in place.checkpoints}, key=read_step)
    place = Place(places[0].run, tuple(named) if all(place.checkpoints for place in places) else ())
    run = RunCheckpoints.open(place, data=Path(arguments.recipe_folder))
    model_inputs.check_rows((arguments.data, arguments.labels))
    spec = run.recipe.encoder
    labelled = diagnosed_inputs.read_labelled(arguments, spec) if arguments.labels else None
    if arguments.data:
        inputs = diagnosed_inputs.draw(arguments, spec)
    else:
        inputs = run.choose_inputs(arguments.rows)
        say(f"{run.run}: {len(inputs):,} rows of its recipe are encoded at each of {len(run.checkpoints)} checkpoints")

    def open_groups() -> Iterator[Group]:
        for checkpoint in run.checkpoints:
            encoder = run.load(checkpoint)
            options = views.read_options(arguments, encoder)
            view = encoder.view(**options) if options else encoder
            is_newest = checkpoint == run.checkpoints[-1]
            yield Group(
                _list_views(view, arguments, str(run.read_progress(checkpoint)), ""),
                lambda: run.judge(checkpoint) if is_newest else [],  # noqa: B023, it is called before the next one
            )

    return _diagnose_groups(open_groups(), inputs, labelled, arguments, follow_moves=True)


# -- options -------------------------------------------------------------------------------------------------------------


def _combine(words: Sequence[str]) -> list[dict[str, Any]]:
    """Return the options of every view that `--across` asks for: all combinations of the values of each key."""
    combined: list[dict[str, Any]] = [{}]
    for word in words:
        key, mark, values = word.partition("=")
        if not (key and mark and values):
            raise ZooError(f"--across {word}: write KEY=V1,V2,… for example layers=2,4,6")
        combined = [{**options, key: _read_value(value)} for options in combined for value in values.split(",")]
    return combined


def _read_value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text

"""The verbs of the command line. Each takes the parsed arguments, calls the Python API and returns an exit status or None.

A verb imports what it needs when it runs, so that `zoo list` does not import torch.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli import views
from zoo.cli.output import format_view, print_report, print_table, say, write
from zoo.core.errors import RecipeError, ZooError
from zoo.core.npy import write_npy
from zoo.recipe import shipped

if TYPE_CHECKING:
    from zoo.evaluation import Prepared

VIEWS = "views"  # `zoo show views`


def list_all(arguments: argparse.Namespace) -> None:
    """`zoo list`: families and shipped recipes, each with one line about it."""
    from zoo import families

    write("families")
    for name in families.names():
        write(f"  {name:18} {families.read_summary(name)}")
    write("recipes")
    for name, path in shipped.shipped().items():
        lines = path.read_text(encoding="utf-8").splitlines()[:4]
        comments = [line[1:].strip() for line in lines if line.startswith("#")]
        write(f"  {name:18} {comments[1] if len(comments) > 1 else ''}")


def show(arguments: argparse.Namespace) -> None:
    """`zoo show RECIPE`: the recipe with every default. `zoo show views`: all view options."""
    from zoo.recipe import recipe

    if arguments.recipe != VIEWS:
        write(recipe.load(arguments.recipe, *arguments.overrides).dump())
        return
    for name, uses in views.list_options().items():
        for family, description in uses:
            write(f"  --view {name + '=…':16} {family:18} {description}")


def copy(arguments: argparse.Namespace) -> None:
    """`zoo copy NAME PATH`: a shipped recipe as a starting point. Never overwrites a file."""
    target = Path(arguments.path)
    if target.is_dir():
        target = target / f"{arguments.name}.yaml"
    if target.exists():
        raise ZooError(f"{target} is there already; nothing was overwritten")
    recipes = shipped.shipped()
    if arguments.name not in recipes:
        raise RecipeError(f"{arguments.name}: no recipe of that name is shipped; there are: {', '.join(recipes)}")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(recipes[arguments.name].read_text(encoding="utf-8"), encoding="utf-8")
    write(f"{target}: edit it, then: zoo train {target}")


def check(arguments: argparse.Namespace) -> int:
    """`zoo check RECIPE…`: report every mistake of every recipe. With --rows, the data is read and checked as well."""
    from zoo.recipe import recipe

    problems: list[str] = []
    for path in arguments.recipes:
        try:
            loaded = recipe.load(path)
            if arguments.rows:
                from zoo.build import builder  # imports torch

                builder.check_rows(loaded, write)
            write(f"{path}: good")
        except ZooError as error:
            problems += error.problems
    for problem in problems:
        say(f"error: {problem}")
    return 1 if problems else 0


def print_schema(arguments: argparse.Namespace) -> None:
    """`zoo schema`: the JSON Schema of a recipe."""
    from zoo.recipe import recipe

    write(json.dumps(recipe.schema(), indent=2))


def train(arguments: argparse.Namespace) -> None:
    """`zoo train RECIPE`: build the model, or finish a run that was interrupted."""
    from zoo.recipe import recipe

    loaded = recipe.load(arguments.recipe, *arguments.overrides)
    from zoo.build import builder  # imports torch, so only after the recipe is known to be good

    out = Path(arguments.out or Path("runs") / loaded.name)
    builder.run(loaded, out, say=say, show_progress=sys.stderr.isatty() or arguments.progress)
    if not (out / "report.json").exists():  # another process of a distributed run may not have written it yet
        return
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    if report["results"]:
        print_report(report)


def reproduce(arguments: argparse.Namespace) -> int:
    """`zoo reproduce MODEL`: train a model again from its own recipe and compare every score."""
    from rich.table import Table

    from zoo.build import reproduction

    result = reproduction.reproduce(
        arguments.model,
        Path(arguments.out),
        revision=arguments.revision,
        data=Path(arguments.data),
        tolerance=arguments.tolerance,
        say=say,
        show_progress=sys.stderr.isatty(),
    )
    within = f"within {arguments.tolerance:g}"
    table = Table("task", "view", "metric", "there", "here", "difference", within, box=None)
    for figure in result.figures:
        here = ("missing", "")
        if figure.here is not None:
            here = (f"{figure.here:.4f}", f"{figure.here - figure.there:+.4f}")
        verdict = "yes" if figure.within else "NO"
        table.add_row(figure.task, format_view(figure.view), figure.metric, f"{figure.there:.4f}", *here, verdict)
    print_table(table)
    weights = "the same bytes" if result.same_weights else "other bytes"
    write(f"{'reproduced' if result.reproduced else 'NOT reproduced'}; the weights are {weights}")
    return 0 if result.reproduced else 1


def evaluate(arguments: argparse.Namespace) -> int:
    """`zoo evaluate MODEL TASK…`: score a model on tasks, or on the tasks of a recipe."""
    from zoo import evaluation

    groups = _read_tasks(arguments.tasks)
    encoder = views.open_encoder(arguments)  # before the data, which may have to be downloaded
    prepared: Prepared = evaluation.prepare([], Path())
    for tasks, folder in groups:
        prepared = prepared.join(evaluation.prepare(tasks, folder))
    report = evaluation.evaluate(encoder, prepared, show_progress=sys.stderr.isatty())
    if arguments.json:
        write(json.dumps(report, indent=2))
    else:
        print_report(report)
    missed = evaluation.list_missed(report)
    for line in missed:
        say(f"error: {line}")
    return 1 if missed else 0


def _read_tasks(words: Sequence[str]) -> list[tuple[Sequence[Any], Path]]:
    """Tasks and the folder where their relative paths start, for each word of the command line."""
    from zoo.evaluation import tasks
    from zoo.evaluation.official import Official, find_problem
    from zoo.recipe import recipe, task_arguments

    groups: list[tuple[Sequence[Any], Path]] = []
    for word, settings in task_arguments.group_words(words):
        if word in tasks.names():
            groups.append(([task_arguments.make_task(word, settings)], Path()))
        elif Path(word).is_file() or word in shipped.shipped():
            loaded = recipe.load(word)
            groups.append((loaded.evaluation, loaded.folder))
        elif problem := find_problem(word):
            raise ZooError(problem)
        else:
            groups.append(([Official(task=word)], Path()))
    if not any(entries for entries, _ in groups):
        raise ZooError(
            "say what to evaluate: an mteb task by name, a recipe whose `evaluation:` is meant, or a task over your own data "
            "with its settings: infomec data.source=file data.path=… sources=[…]"
        )
    return groups


def encode(arguments: argparse.Namespace) -> None:
    """`zoo encode MODEL`: lines to an .npy of vectors, in constant memory."""

    encoder = views.open_encoder(arguments)
    prompt = {"prompt_type": arguments.prompt} if arguments.prompt else {}
    if prompt and "prompt_type" not in inspect.signature(encoder.stream).parameters:
        raise ZooError(f"--prompt: the family {encoder.spec.family} has no prompts")
    with open(arguments.input, "rb") if arguments.input else sys.stdin.buffer as source:  # noqa: PTH123
        blocks = encoder.stream(_decode_lines(source), precision=arguments.precision, **prompt)
        write_npy(blocks, arguments.out or sys.stdout.buffer)


def _decode_lines(source: Any) -> Iterator[str]:
    for number, line in enumerate(source, 1):
        try:
            yield line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise ZooError(f"input line {number} is not UTF-8") from None


def export(arguments: argparse.Namespace) -> None:
    """`zoo export MODEL OUT`: save a view as a model of its own."""
    from zoo.artefact import model_folder

    target = Path(arguments.out)
    if target.exists():
        raise ZooError(f"{target} is there already; nothing was overwritten")
    model_folder.save(views.open_encoder(arguments), target)
    write(f"{target}: open it with zoo.from_pretrained or SentenceTransformer")


def print_card(arguments: argparse.Namespace) -> None:
    """`zoo card MODEL`: print the card of a model folder, and write it if asked."""
    from zoo import pretrained
    from zoo.artefact import manifest
    from zoo.card import render

    folder = Path(arguments.model)
    if not folder.is_dir():
        raise ZooError(f"{folder}: there is no such model folder")
    spec_class = pretrained.read_spec_class(folder)
    if arguments.write:
        manifest.verify(folder)
        render.write_card(folder, spec_class)
        manifest.write(folder)
    write(render.render_card(folder, spec_class))


def push(arguments: argparse.Namespace) -> None:
    """`zoo push MODEL REPO`: publish a model folder in one commit."""
    from zoo.hub import push as hub

    folder = Path(arguments.model)
    pushed = hub.push(
        folder,
        arguments.repo,
        private=arguments.private,
        branch=arguments.branch,
        tag=arguments.tag,
        create_pr=arguments.create_pr,
        dry_run=arguments.dry_run,
        say=say,
    )
    if arguments.dry_run:
        for name, size in pushed.files:
            write(f"{size:>12,}  {name}")
        readme = folder / "README.md"
        text = readme.read_text(encoding="utf-8") if readme.exists() else "There is no README.md: zoo card --write"
        write(f"\n{text}")
    write(pushed.url if pushed.created or arguments.dry_run else f"{pushed.url} (nothing had changed)")

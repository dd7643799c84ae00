"""The verbs of the command line. Each takes the parsed arguments, calls the Python API and returns an exit status or None.

A verb imports what it needs when it runs, so that `zoo list` does not import torch.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from zoo.cli import deploying, views
from zoo.cli.output import format_view, print_report
from zoo.core import atomic_files, faults, output_paths, paths
from zoo.core.errors import RecipeError, ZooError
from zoo.core.npy import write_npy
from zoo.core.output import get_stdin, get_stdout, has_terminal, say, say_errors, write
from zoo.core.tables import print_table
from zoo.recipe import shipped

if TYPE_CHECKING:
    from zoo.build.export import Table
    from zoo.evaluation import Prepared

TABLE_TEXTS = 100_000
"""Most texts that are read for a token table."""


def copy(arguments: argparse.Namespace) -> None:
    """`zoo copy NAME PATH`: a shipped recipe as a starting point. Never overwrites a file."""
    target = Path(arguments.path)
    if paths.is_folder(target):
        target = target / f"{arguments.name}.yaml"
    _require_new(target)
    recipes = shipped.shipped()
    if arguments.name not in recipes:
        raise RecipeError(f"{arguments.name}: no recipe of that name is shipped; there are: {', '.join(recipes)}")
    output_paths.check_file(target)
    atomic_files.write_text(target, recipes[arguments.name].read_text(encoding="utf-8"))
    write(f"{target}: edit it, then: zoo train {target}")


def _require_new(target: Path) -> None:
    if os.path.lexists(target):
        raise ZooError(f"{target} is there already; nothing was overwritten")


def check(arguments: argparse.Namespace) -> int:
    """`zoo check RECIPE…`: report every mistake of every recipe. With --rows, the data is read and checked as well."""
    from zoo.recipe import recipe, role_sources, text_lengths

    problems: list[str] = []
    for path in arguments.recipes:
        try:
            loaded = recipe.load(path)
            if arguments.rows:
                from zoo.build import builder  # imports torch

                builder.check_rows(loaded, write)
            lengths = text_lengths.describe(loaded)
            write("\n    ".join([f"{path}: good", *role_sources.describe_roles(loaded), *lengths.notes]))
            for line in lengths.warnings:
                say(f"warning: {path}: {line}")
        except ZooError as error:
            problems += error.problems
    say_errors(problems)
    return 1 if problems else 0


def print_schema(arguments: argparse.Namespace) -> None:
    """`zoo schema`: the JSON Schema of a recipe."""
    from zoo.recipe import recipe

    write(json.dumps(recipe.schema(), indent=2))


def train(arguments: argparse.Namespace) -> None:
    """`zoo train RECIPE`: build the model, or finish a run that was interrupted."""
    from zoo.recipe import recipe

    folder = None if arguments.data is None else Path(arguments.data)
    loaded = recipe.load(arguments.recipe, *arguments.overrides, folder=folder)
    out = Path(arguments.out or Path("runs") / loaded.name)
    output_paths.check_folder(out)
    from zoo.build import builder  # imports torch, so only after the recipe is known to be good

    show_progress = has_terminal() or arguments.progress
    builder.run(
        loaded,
        out,
        say=say,
        show_progress=show_progress,
        finish=arguments.finish,
        anyway=arguments.anyway,
        keep_rows=arguments.keep_rows,
    )
    if not (out / "report.json").exists():  # another process of a distributed run may not have written it yet
        return
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    if report["results"]:
        print_report(report)


def reproduce(arguments: argparse.Namespace) -> int:
    """`zoo reproduce MODEL`: train a model again from its own recipe and compare every score."""
    from zoo.build import reproduction

    output_paths.check_folder(Path(arguments.out))
    result = reproduction.reproduce(
        arguments.model,
        Path(arguments.out),
        revision=arguments.revision,
        data=Path(arguments.data),
        tolerance=arguments.tolerance,
        say=say,
        show_progress=has_terminal(),
    )
    within = f"within {arguments.tolerance:g}"
    rows = []
    for figure in result.figures:
        here = ("missing", "")
        if figure.here is not None:
            here = (f"{figure.here:.4f}", f"{figure.here - figure.there:+.4f}")
        verdict = "yes" if figure.within else "NO"
        rows.append((figure.task, format_view(figure.view), figure.metric, f"{figure.there:.4f}", *here, verdict))
    print_table(("task", "view", "metric", "there", "here", "difference", within), rows)
    weights = "the same bytes" if result.same_weights else "other bytes"
    write(f"{'reproduced' if result.reproduced else 'NOT reproduced'}; the weights are {weights}")
    return 0 if result.reproduced else 1


def evaluate(arguments: argparse.Namespace) -> int:
    """`zoo evaluate MODEL TASK…`: score a model on tasks, on the tasks of a recipe, or on those of its own recipe."""
    from zoo import evaluation
    from zoo.build import own_tasks

    model, data = arguments.model, Path(arguments.data)
    if arguments.tasks:
        groups = _read_tasks(arguments.tasks)
    else:
        is_cut = views.asks_for_view(arguments)
        groups = [(own_tasks.read(model, arguments.revision, data, is_cut=is_cut), data)]
    encoder = views.open_with_step(arguments)  # before the data, which may have to be downloaded
    prepared: Prepared = evaluation.prepare([], Path())
    step = encoder.find_code_step() if arguments.codes else None
    with nullcontext() if arguments.tasks else own_tasks.confine(model, data):
        for tasks, folder in groups:
            prepared = prepared.join(evaluation.prepare(tasks, folder))
        show = has_terminal()
        if step is None:
            report = evaluation.evaluate(encoder, prepared, show_progress=show)
        else:
            from zoo.evaluation import coded
            from zoo.evaluation.kept_vectors import KeptVectors

            with KeptVectors() as kept:
                report = evaluation.evaluate(encoder, prepared, show_progress=show, kept=kept)
                results = report["results"]
                report["codes"] = coded.score_codes(
                    encoder, step, prepared.tasks, results, show_progress=show, kept=kept
                )
    if arguments.json:
        write(json.dumps(report, indent=2))
    else:
        print_report(report)
    missed = evaluation.list_missed(report)
    say_errors(missed)
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
        elif paths.is_file(word) or word in shipped.shipped():
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
    """`zoo encode MODEL`: lines to an .npy of vectors or of codes, in constant memory."""
    if arguments.out:
        output_paths.check_file(Path(arguments.out))
    with _open_lines(arguments.input) as source:  # before the model, which may have to be downloaded
        _encode_lines(arguments, source)


def _encode_lines(arguments: argparse.Namespace, source: BinaryIO) -> None:
    target = arguments.out or get_stdout().buffer
    anchors = _read_anchors(arguments)  # before the model, which may have to be downloaded
    encoder = views.open_with_step(arguments)
    if anchors:
        from zoo.bridge.relative import RelativeEncoder

        encoder = RelativeEncoder(encoder, anchors)
    prompt = {"prompt_name": arguments.prompt} if arguments.prompt else {}
    if prompt and not encoder.has_roles:
        raise ZooError(f"--prompt: the family {encoder.spec.family} has no prompts")
    name = arguments.input or "input"
    if arguments.codes:
        prompt = prompt or ({"prompt_name": "document"} if encoder.has_roles else {})
        step = encoder.find_code_step()
    blocks = encoder.stream(_decode_lines(source, name), precision=arguments.precision, **prompt)
    if arguments.codes:
        blocks = (step.encode(encoder.prepare_vectors(block)) for block in blocks)
    write_npy(blocks, target)


def _read_anchors(arguments: argparse.Namespace) -> list[str]:
    """Read the texts of `--relative`; [] without them. The same file always gives the same ones in the same order."""
    if arguments.relative is None:
        if arguments.anchors is not None:
            raise ZooError("--anchors: is the number of texts that --relative FILE takes; give that file as well")
        return []
    if arguments.codes or arguments.step:
        raise ZooError("--relative: gives vectors of cosines, which have no codes; leave --codes and --step out")
    from zoo.cli.comparing import ANCHORS
    from zoo.cli.model_inputs import read_texts

    return read_texts(arguments.relative, "text", ANCHORS if arguments.anchors is None else arguments.anchors)


def _open_lines(name: str | None) -> AbstractContextManager[BinaryIO]:
    """Open the file of the lines, or stdin, which stays open afterwards."""
    if name is None:
        return nullcontext(get_stdin().buffer)
    if paths.is_folder(name):
        raise ZooError(f"--input {name}: is a folder; name a file with one text per line")
    with faults.as_error_of_file(name):
        return Path(name).open("rb")


def _decode_lines(source: BinaryIO, name: str) -> Iterator[str]:
    for number, line in enumerate(source, 1):
        try:
            yield line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise ZooError(
                f"{name}:{number}: byte {error.start + 1} of the line is not UTF-8; convert the file, for example with "
                "`iconv -t UTF-8`"
            ) from None


def export(arguments: argparse.Namespace) -> None:
    """`zoo export MODEL OUT`: save a view as a model of its own."""
    target = Path(arguments.out)
    _require_new(target)
    output_paths.check_folder(target)
    if arguments.table is None and (arguments.table_texts or arguments.table_steps or arguments.table_finer):
        raise ZooError("--table-texts, --table-steps and --table-finer are for a coded token table: add --table pq")
    deploying.check_arguments(arguments)
    from zoo.cli.model_inputs import read_texts

    texts = read_texts(arguments.table_texts, "text", TABLE_TEXTS) if arguments.table_texts else []
    if arguments.to != "safetensors":
        deploying.run_export(arguments, _read_table(arguments, texts))
        return
    encoder, options = views.open_whole_encoder(arguments)
    from zoo.build import export as exporting
    from zoo.hub import model_references
    from zoo.hub.fetch import fetch

    parent = model_references.locate(arguments.model) or fetch(arguments.model, arguments.revision)
    table = _read_table(arguments, texts)
    exporting.export(parent, encoder, options, target, table=table)
    lost = exporting.find_lost_steps(encoder, options, table)
    if lost:
        fitted = "the encoder with its own token table" if table else "the whole encoder, not a view that cuts it"
        say(f"left out {', '.join(lost)}: a step after training fits {fitted}")
    if table:
        write(exporting.describe_table(target))
        if table.steps and not exporting.is_distilled(target):
            say(
                "the distillation was left out: the texts that were set aside lost by it; take more texts, or fewer steps"
            )
    stock = " or sentence_transformers.SentenceTransformer" if encoder.find_stock_folder(target) else ""
    write(f"{target}: open it with zoo.from_pretrained{stock}")


def _read_table(arguments: argparse.Namespace, texts: Sequence[str]) -> Table | None:
    """Return how the token table is stored, or None if the arguments do not say."""
    from zoo.build import export as exporting

    if not arguments.table:
        return None
    return exporting.Table(arguments.table, texts, arguments.table_finer, arguments.table_steps)


def print_card(arguments: argparse.Namespace) -> None:
    """`zoo card MODEL`: print the card of a model folder, and write it if asked."""
    from zoo import pretrained
    from zoo.artefact import manifest
    from zoo.card import render

    folder = _find_model_folder(arguments.model)
    spec_class = pretrained.read_spec_class(folder)
    if arguments.write:
        manifest.verify(folder)
        render.write_card(folder, spec_class)
        manifest.write(folder)
    write(render.render_card(folder, spec_class))


def _find_model_folder(name: str) -> Path:
    if not name or not paths.is_folder(name):
        raise ZooError(f"{name or 'MODEL'}: there is no such model folder; check the path")
    return Path(name)


def push(arguments: argparse.Namespace) -> None:
    """`zoo push MODEL REPO`: publish a model folder in one commit."""
    from zoo.hub import push as hub

    folder = _find_model_folder(arguments.model)
    if arguments.space and arguments.create_pr:
        raise ZooError(
            "--space: shows a commit of the model; push it after the pull request was merged, without --create-pr"
        )
    pushed = hub.push(
        folder,
        arguments.repo,
        private=arguments.private,
        branch=arguments.branch,
        tag=arguments.tag,
        create_pr=arguments.create_pr,
        dry_run=arguments.dry_run,
        anyway=arguments.anyway,
        say=say,
    )
    if arguments.dry_run:
        print_table((), [(f"{size:,}", name) for name, size in pushed.files])
        readme = folder / "README.md"
        text = readme.read_text(encoding="utf-8") if readme.exists() else "There is no README.md: zoo card --write"
        write(f"\n{text}")
    write(pushed.url if pushed.created or arguments.dry_run else f"{pushed.url} (nothing had changed)")
    if arguments.space:
        _push_space(folder, pushed.commit, arguments)


def _push_space(folder: Path, commit: str, arguments: argparse.Namespace) -> None:
    """Publish a Space that shows a commit of the model, or print its files for a dry run."""
    from zoo import pretrained
    from zoo.hub import space

    extras = pretrained.read_spec(folder).extras
    files = space.make_files(folder, arguments.repo, commit or space.UNKNOWN_COMMIT, extras)
    pushed = space.push_space(arguments.repo, files, private=arguments.private, dry_run=arguments.dry_run, say=say)
    if arguments.dry_run:
        for name, content in files.items():
            write(f"\n{name}\n\n{content.decode()}")
    write(pushed.url if pushed.created or arguments.dry_run else f"{pushed.url} (nothing had changed)")

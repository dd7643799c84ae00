"""The verb `zoo index`: build an index of rows, and change, measure or describe one."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli import views
from zoo.core import faults
from zoo.core.errors import ZooError
from zoo.core.output import has_terminal, say, write
from zoo.core.progress import Advance, show_progress_bar
from zoo.core.tables import print_table

if TYPE_CHECKING:
    from zoo.index.index import Index

CHANGES = ("add", "remove", "compact", "fit_hybrid", "measure")
BUILD_OPTIONS = ("text", "id", "image", "long", "budget", "recall", "code", "queries")


def add_verb(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the verb and its options to the parser of all verbs."""
    verb = add(
        "index", run, "search your own rows: zoo index MODEL ROWS --out DIR builds an index; zoo index DIR changes it"
    )
    views.add_arguments(verb, "a model folder, a Hub id, or package:NAME; to change an index, its folder DIR")
    verb.add_argument(
        "rows",
        nargs="?",
        help="what to index: a file, folder or glob that `data:` reads, builtin:NAME/TABLE, hub:OWNER/NAME, or a yaml file "
        "with a data section",
    )
    verb.add_argument("--out", metavar="DIR", help="the folder of the new index")
    verb.add_argument(
        "--text", nargs="+", metavar="COLUMN", help="columns to encode, joined by a space (default: text)"
    )
    verb.add_argument(
        "--id", metavar="COLUMN", help="the column of the ids (default: _id or id, or else rows are numbered)"
    )
    verb.add_argument("--image", metavar="COLUMN", help="encode the images of this column")
    verb.add_argument(
        "--long", choices=["cut", "windows"], help="windows: a vector for each window of a long text (default: cut)"
    )
    verb.add_argument("--budget", metavar="SIZE", help="largest size of a vector, for example 64B")
    verb.add_argument("--recall", type=float, metavar="SHARE", help="least recall@10, for example .95")
    verb.add_argument("--queries", metavar="FILE", help="texts, one a line, with which recall is measured")
    verb.add_argument(
        "--code",
        choices=["auto", "float32", "model"],
        help="float32: exact search; model: the codes of the model's own step (default: auto, by rows, budget and recall)",
    )
    verb.add_argument(
        "--vectors",
        metavar="FILE",
        help="a .npy file with the vectors of all rows, instead of encoding them; for --measure in the order of the index",
    )
    verb.add_argument("--replace", action="store_true", help="build anew an index that is there already")
    verb.add_argument("--add", metavar="ROWS", help="add rows to the index DIR")
    verb.add_argument("--remove", nargs="+", metavar="ID", help="remove rows from the index DIR")
    verb.add_argument("--compact", action="store_true", help="rewrite the index DIR without its removed rows")
    verb.add_argument(
        "--fit-hybrid",
        metavar="QUERIES",
        help="fit the map of `zoo search --hybrid relevance` to rows of `text` and `relevant` ids",
    )
    verb.add_argument(
        "--measure",
        metavar="QUERIES",
        help="measure the index DIR with rows of `text`, and `relevant` ids if they are known",
    )
    verb.add_argument(
        "-k", "--top", type=int, default=10, help="rows of a search that --measure looks at (default: 10)"
    )
    verb.add_argument(
        "--no-exact",
        action="store_true",
        help="measure no recall, for which the rows of an index of codes are encoded again",
    )
    verb.add_argument("--model", dest="other_model", metavar="MODEL", help="open the index DIR with this model")
    verb.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(arguments: argparse.Namespace) -> None:
    """`zoo index`: build an index, or change, measure or describe the one in the folder that is named first."""
    changes = [name.replace("_", "-") for name in CHANGES if getattr(arguments, name)]
    if len(changes) > 1:
        raise ZooError(f"--{changes[0]} and --{changes[1]} are two changes; run one command for each")
    if arguments.out is not None or arguments.rows is not None:
        if changes:
            raise ZooError(
                f"--{changes[0]} changes an index: write zoo index DIR --{changes[0]} …, without ROWS and --out"
            )
        _build(arguments)
        return
    _refuse_build_options(arguments)
    index = _open(arguments)
    if arguments.add:
        _add(index, arguments)
    elif arguments.remove:
        count = index.remove(arguments.remove)
        write(f"{arguments.model}: {count} rows removed; {len(index):,} are left. --compact frees their space")
    elif arguments.compact:
        freed = index.compact()
        write(f"{arguments.model}: {freed:,} bytes became free; {len(index.shards)} shards")
    elif arguments.fit_hybrid:
        index.fit_hybrid(arguments.fit_hybrid, say=write)
    elif arguments.measure:
        _measure(index, arguments)
    else:
        _describe(index, arguments)


def _refuse_build_options(arguments: argparse.Namespace) -> None:
    named = [name for name in BUILD_OPTIONS if getattr(arguments, name) is not None]
    named += ["replace"] * arguments.replace
    named += ["vectors"] * (arguments.vectors is not None and not arguments.add and not arguments.measure)
    if named or views.asks_for_view(arguments):
        raise ZooError(
            f"--{named[0] if named else 'view'} belongs to building: write zoo index MODEL ROWS --out DIR; an index keeps its own"
        )


def _open(arguments: argparse.Namespace) -> Index:
    from zoo.index.index import Index

    return Index.open(arguments.model, arguments.other_model)


@contextmanager
def _show_progress() -> Iterator[Advance]:
    with show_progress_bar(None, has_terminal()) as advance:
        yield advance


def _build(arguments: argparse.Namespace) -> None:
    if arguments.rows is None:
        raise ZooError("name the rows to index: zoo index MODEL ROWS --out DIR")
    if arguments.out is None:
        raise ZooError(
            "name the folder of the index with --out DIR; to change an index, write zoo index DIR --add ROWS"
        )
    from zoo.index import folder
    from zoo.index.index import Index

    folder.require_free(Path(arguments.out), arguments.replace)  # before the model, which may have to be downloaded
    queries = read_lines(arguments.queries) if arguments.queries else None
    encoder = views.open_encoder(arguments)
    with _show_progress() as advance:
        index = Index.build(
            encoder,
            arguments.rows,
            arguments.out,
            text=arguments.text or (),
            id=arguments.id,
            image=arguments.image,
            long=arguments.long or "cut",
            budget=arguments.budget,
            recall=arguments.recall,
            code=arguments.code or "auto",
            queries=queries,
            vectors=arguments.vectors,
            replace=arguments.replace,
            reference=arguments.model,
            revision=arguments.revision,
            say=say,
            advance=advance,
        )
    size = f"{index.byte_count / 1e6:,.1f} MB" if index.byte_count >= 1e6 else f"{index.byte_count / 1e3:.0f} kB"
    write(
        f"{arguments.out}: {len(index):,} rows, {index.codec.name}, {size}; search it with: zoo search {arguments.out} TEXT"
    )


def read_lines(name: str) -> list[str]:
    """Return the lines of a text file that are not empty. Raise DataError if it cannot be read."""
    with faults.as_error_of_file(name):
        lines = [line.strip() for line in Path(name).read_text(encoding="utf-8").splitlines()]
    if not any(lines):
        raise ZooError(f"{name}: holds no queries; write one a line")
    return [line for line in lines if line]


def _add(index: Index, arguments: argparse.Namespace) -> None:
    with _show_progress() as advance:
        count = index.add(arguments.add, vectors=arguments.vectors, say=say, advance=advance)
    write(f"{arguments.model}: {count:,} rows added; it holds {len(index):,}")


def _measure(index: Index, arguments: argparse.Namespace) -> None:
    from zoo.index import measure

    if arguments.top < 1:
        raise ZooError(f"-k: {arguments.top} is not a number of rows, 1 or more")
    questions = measure.read_questions(arguments.measure)
    exact = not arguments.no_exact
    with _show_progress() as advance:
        figures = measure.measure(
            index, questions, arguments.top, exact=exact, vectors=arguments.vectors, say=say, advance=advance
        )
    _print_facts(figures, as_json=arguments.json)


def _describe(index: Index, arguments: argparse.Namespace) -> None:
    from zoo.index import measure

    _print_facts(measure.describe(index), as_json=arguments.json)


def _print_facts(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        write(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    rows = [(name, f"{value:.4f}" if isinstance(value, float) else str(value)) for name, value in facts.items()]
    print_table((), rows)

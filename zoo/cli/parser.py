"""The parser of the command line: the arguments of every verb."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from zoo import __version__
from zoo.cli import (
    bridging,
    comparing,
    deploying,
    diagnosing,
    fitting,
    indexing,
    listing,
    searching,
    serving,
    starting,
    verbs,
    verifying,
    views,
)
from zoo.cli import help as help_verbs
from zoo.core.output import say_block, write

Add = Callable[..., argparse.ArgumentParser]


class _Parser(argparse.ArgumentParser):
    """Prints its messages as the verbs do."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if message and file is sys.stderr:
            say_block(message)
        elif message:
            write(message)


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = build_parser(words)
    arguments, rest = parser.parse_known_args(words)
    if rest and hasattr(arguments, "view"):
        rest = views.move_old_options(arguments, rest)
    tail = next((name for name in ("tasks", "overrides") if hasattr(arguments, name)), None)
    if rest and (tail is None or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if tail:  # argparse closes a list at the first option; the words after an option belong to the list too
        setattr(arguments, tail, [*getattr(arguments, tail), *rest])
    return arguments


def build_parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of all verbs. The verbs of families are added only if the command line needs them."""
    parser = _Parser(prog="zoo", description="One YAML recipe in, a measured embedding model out.")
    parser.add_argument("--version", action="version", version=f"zoo {__version__}")
    subparsers = parser.add_subparsers(metavar="VERB", required=True)

    def add(name: str, function: Callable[..., Any], text: str) -> argparse.ArgumentParser:
        verb = subparsers.add_parser(name, help=text, description=text)
        verb.add_argument("-v", "--verbose", action="store_true", help="show tracebacks")
        verb.set_defaults(verb=function)
        return verb

    _add_recipe_verbs(add)
    _add_model_verbs(add)
    fitting.add_verbs(add)
    indexing.add_verb(add)
    searching.add_verb(add)
    bridging.add_verb(add)
    diagnosing.add_verb(add)
    comparing.add_verb(add)
    verifying.add_verb(add)
    _add_publishing_verbs(add)
    _add_help_verbs(add, subparsers.choices)
    named = next((word for word in words if not word.startswith("-")), None)
    if named not in subparsers.choices:  # an unknown verb, or `zoo --help`
        _add_family_verbs(add)
    return parser


def _read_path(text: str) -> str:
    """Return the name of a file or folder. An empty one comes from a variable of the shell that is not set."""
    if not text:
        raise argparse.ArgumentTypeError("the name is empty; give a path")
    return text


def _add_recipe_verbs(add: Add) -> None:
    add("list", listing.list_all, "families, steps after training and shipped recipes").add_argument(
        "--json", action="store_true", help="print JSON instead of tables"
    )
    show = add(
        "show",
        listing.show,
        "a recipe with every default filled in, or the fields of a family or a step; `zoo show views` lists the view options",
    )
    copy = add("copy", verbs.copy, "a shipped recipe as a starting point")
    copy.add_argument("name", help="the name of a shipped recipe, as `zoo list` prints it")
    copy.add_argument("path", type=_read_path, help="the new file, or a folder for it")
    _add_init(add)
    check = add("check", verbs.check, "validate recipes, nothing else")
    check.add_argument("recipes", nargs="+", metavar="RECIPE", help="a YAML file, or the name of a shipped recipe")
    check.add_argument(
        "--rows", action="store_true", help="also read all rows: bad rows, rows that training shares with evaluation"
    )
    add("schema", verbs.print_schema, "JSON Schema of a recipe, for editors")
    train = add("train", verbs.train, "data, training, evaluation, card; resumable")
    train.add_argument("--out", type=_read_path, help="run folder (default: runs/NAME)")
    train.add_argument(
        "--data", type=_read_path, help="where the recipe's relative paths start (default: the folder of the recipe)"
    )
    train.add_argument(
        "--finish",
        action="store_true",
        help="evaluate and write the card from the newest checkpoint; without it the run later trains on from there",
    )
    train.add_argument(
        "--anyway", action="store_true", help="publish a model too that was found dead after its training"
    )
    train.add_argument(
        "--keep-rows",
        action="store_true",
        help="keep the files of tables too large for memory when the run is finished",
    )
    train.add_argument("--progress", action="store_true", help="show the bar even if stderr is not a terminal")
    for verb in (show, train):
        names = "a YAML file, or the name of a shipped recipe"
        verb.add_argument("recipe", help=f"{names}, or of a family or a step" if verb is show else names)
        verb.add_argument(
            "overrides", nargs="*", metavar="key=value", help="other values of fields, for example training.epochs=2"
        )


def _add_init(add: Add) -> None:
    init = add("init", starting.init, "look at data and write a commented recipe for it")
    init.add_argument(
        "files",
        nargs="+",
        type=_read_path,
        metavar="FILE",
        help="a table, a txt file of lines, a folder of images or of retrieval data, or vectors; several "
        "tables become several sources; one with test in its name holds test rows, and one may hold topics with keywords",
    )
    init.add_argument(
        "--goal", choices=starting.GOALS, help="what the model is for (default: what the columns suggest)"
    )
    init.add_argument("--out", type=_read_path, default="recipe.yaml", help="the new recipe (default: recipe.yaml)")
    init.add_argument("--force", action="store_true", help="replace a recipe that is there already")
    init.add_argument(
        "--no-timing", action="store_true", help="train no steps to estimate time and memory; imports no torch"
    )


def _add_model_verbs(add: Add) -> None:
    evaluate = add("evaluate", verbs.evaluate, "score a model; exit 1 if an at_least is missed")
    views.add_arguments(evaluate)
    evaluate.add_argument(
        "tasks",
        nargs="*",
        metavar="TASK|RECIPE",
        help="what to score; without any, the tasks of the model's own recipe",
    )
    evaluate.add_argument(
        "--data", type=_read_path, default=".", help="where relative paths of the model's recipe start (default: here)"
    )
    evaluate.add_argument("--json", action="store_true", help="print the report instead of a table")
    evaluate.add_argument("--codes", action="store_true", help="also score with the codes of the model's step")
    evaluate.add_argument(
        "--step", type=_read_path, metavar="DIR", help="score with the codes of this step of `zoo fit`"
    )
    _add_encode(add)
    export = add("export", verbs.export, "a view as a standalone model: zoo export MODEL --layers 3 --dim 128 OUT")
    views.add_arguments(export)
    export.add_argument("out", type=_read_path, help="the new model folder")
    export.add_argument(
        "--table",
        choices=["int8", "int4", "pq", "float"],
        help="store the token table in fewer bits, or as plain numbers again",
    )
    for codec in ("int8", "int4"):
        export.add_argument(
            f"--{codec}-table", action="store_const", const=codec, dest="table", help=f"short for --table {codec}"
        )
    export.add_argument(
        "--table-texts", metavar="FILE", help="unlabelled texts for the table: lines, or a column `text`"
    )
    export.add_argument("--table-steps", type=int, default=0, metavar="N", help="steps of distillation of the codec pq")
    export.add_argument(
        "--table-finer", type=float, default=0.0, metavar="SHARE", help="share of the tokens that pq stores in int8"
    )
    deploying.add_arguments(export)
    deploying.add_verb(add)
    serving.add_arguments(add("serve", serving.serve, "serve models over HTTP with OpenAI's API"))


def _add_encode(add: Add) -> None:
    encode = add("encode", verbs.encode, "lines to vectors: zoo encode MODEL < lines > out.npy")
    views.add_arguments(encode)
    encode.add_argument("--input", type=_read_path, help="read lines from this file")
    encode.add_argument("--out", type=_read_path, help="write the .npy here")
    encode.add_argument(
        "--precision",
        default="auto",
        choices=["auto", "fp32", "bf16", "fp16", "int8"],
        help="auto: bf16 on hardware that is fast at it",
    )
    views.add_engine_arguments(encode)
    encode.add_argument(
        "--codes", action="store_true", help="write packed codes of the model's step (uint8), not vectors"
    )
    encode.add_argument(
        "--step", type=_read_path, metavar="DIR", help="write codes of this step, which `zoo fit` wrote"
    )
    encode.add_argument(
        "--prompt",
        choices=["query", "document"],
        help="whether the lines are queries or documents, for a model with prompts",
    )
    encode.add_argument(
        "--relative",
        type=_read_path,
        metavar="ANCHORS",
        help="write cosines with these texts, a table or lines, which mean the same for every model",
    )
    encode.add_argument("--anchors", type=int, help="use at most so many of the texts of --relative (default: 768)")


def _add_publishing_verbs(add: Add) -> None:
    reproduce = add("reproduce", verbs.reproduce, "train a model again from its recipe and compare every score")
    reproduce.add_argument("model", help="a model folder that zoo wrote, or a Hub id")
    reproduce.add_argument("--revision", help="commit, tag or branch on the Hub")
    reproduce.add_argument("--out", type=_read_path, required=True, help="run folder of the new training")
    reproduce.add_argument(
        "--data", type=_read_path, default=".", help="where the recipe's relative paths start (default: here)"
    )
    reproduce.add_argument(
        "--tolerance", type=float, default=0.005, help="largest difference of equal scores (default: 0.005)"
    )
    card = add("card", verbs.print_card, "print the model card, rendered anew")
    card.add_argument("model", help="a model folder")
    card.add_argument("--write", action="store_true", help="also write README.md and the pictures")
    push = add("push", verbs.push, "publish a model folder in one commit")
    push.add_argument("model", help="a model folder")
    push.add_argument("repo", help="owner/name")
    for flag, text in (
        ("--private", "make the repo private"),
        ("--dry-run", "show what would be sent: files, sizes, the card"),
        ("--create-pr", "as a pull request"),
        ("--anyway", "also a model that was found dead after its training"),
    ):
        push.add_argument(flag, action="store_true", help=text)
    push.add_argument(
        "--space",
        action="store_true",
        help="also publish a Space of the same name, which shows the page of `zoo serve`",
    )
    push.add_argument("--branch", help="push to this branch")
    push.add_argument("--tag", help="tag the commit")


def _add_help_verbs(add: Add, choices: Any) -> None:
    """Add the verbs that show the documentation. `choices` are the parsers of all verbs, whose help they can print."""
    topic = add("help", help_verbs.print_help, "print a page of the documentation; without a topic, list the topics")
    topic.add_argument(
        "topic", nargs="*", metavar="TOPIC", help="a page, a section PAGE#SECTION, a verb, or words to find"
    )
    topic.set_defaults(verbs=choices)
    site = add("docs", help_verbs.open_site, "open the documentation site, or print where it is")
    site.add_argument("--print", action="store_true", help="print the address and open nothing")


def _add_family_verbs(add: Add) -> None:
    """Add the verbs that families declare in `Spec.commands`."""
    from zoo import families

    for family in families.names():
        spec_class = families.load_spec(family)
        for name, command in spec_class.commands.items():
            module = importlib.import_module(f"{spec_class.__module__.rpartition('.')[0]}.{command.module}")
            verb = add(name, partial(_run_on_model, module.run), command.help)
            views.add_arguments(verb)
            module.add_arguments(verb)


def _run_on_model(run: Callable[..., int | None], arguments: argparse.Namespace) -> int | None:
    return run(views.open_encoder(arguments), arguments)

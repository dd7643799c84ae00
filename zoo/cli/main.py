"""`zoo`: reads the command line and calls a verb. Errors are one line each, and the exit status is then 1."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from zoo import __version__
from zoo.artefact import allowed_files
from zoo.cli import listing, verbs, views
from zoo.core import faults
from zoo.core.errors import ZooError, ZooWarning
from zoo.core.output import say, say_block, write

Add = Callable[..., argparse.ArgumentParser]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit status.

    The status is 0, 1 for an error or a missed `at_least`, 2 for a wrong command line, 130 after Ctrl-C and 143 after SIGTERM.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    problem = _find_unusable_word(words)
    if problem:
        say(f"error: {problem}")
        return 1
    arguments = _parse(words)
    with _sigterm_ends_in_order():
        status = _run_verb(arguments)
    if argv is None:
        _detach_broken_stdout()
    return status


def _find_unusable_word(words: Sequence[str]) -> str | None:
    """Return what is wrong with a word that no verb may get: an access token, or a NUL character."""
    if any(allowed_files.find_token(word) is not None for word in words):
        return (
            "the command line holds an access token, and shells keep what they run: revoke it, and use `hf auth login`"
        )
    if any("\0" in word for word in words):
        return "the command line holds a NUL character, which no name of a file can hold; remove it"
    return None


def _run_verb(arguments: argparse.Namespace) -> int:
    """Run the verb, and print its errors. A fault of zoo itself is printed with its traceback."""
    try:
        with warnings.catch_warnings():
            _print_warnings_in_one_line()
            status: int = arguments.verb(arguments) or 0
        _leave_process_group()
        if sys.stdout is not None and not sys.stdout.closed:
            sys.stdout.flush()  # a full disk shows only now
        return status
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt as stop:
        resumes = arguments.verb in (verbs.train, verbs.reproduce)
        say("stopped; the same command goes on from the last checkpoint" if resumes else "stopped")
        return 143 if isinstance(stop, TerminatedError) else 130
    except Exception as error:
        _print_error(error, verbose=arguments.verbose)
        return 1


def _print_error(error: Exception, *, verbose: bool) -> None:
    problem = faults.describe_user_fault(error)
    if problem is None or verbose:
        say_block(traceback.format_exc())
    if problem is None:
        say(f"error: {faults.describe_report()}")
        return
    for line in (error.problems if isinstance(error, ZooError) else ()) or [problem]:
        say(f"error: {line}")


class TerminatedError(KeyboardInterrupt):
    """SIGTERM, as a scheduler sends it. It ends the run in order, like Ctrl-C."""


@contextmanager
def _sigterm_ends_in_order() -> Iterator[None]:
    """Raise TerminatedError at SIGTERM inside the block. A signal handler can be set in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


def _raise_terminated(*_: Any) -> None:
    raise TerminatedError


def _detach_broken_stdout() -> None:
    """Point stdout to nowhere if it cannot be written to, because Python writes to it once more when the process ends."""
    if sys.stdout is None or sys.stdout.closed:
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _leave_process_group() -> None:
    """Leave a distributed run: a process that ends while threads of the group hold its tensors may abort.

    After an error the launcher ends the group, because the other processes may still be waiting.
    """
    torch = sys.modules.get("torch")
    if torch and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _print_warnings_in_one_line() -> None:
    """Print every warning as one line. A warning of zoo needs no place in the code."""

    def print_line(message: Any, category: type[Warning], filename: str, lineno: int, *_: Any) -> None:
        is_own = issubclass(category, ZooWarning)
        say(f"warning: {message}" if is_own else f"{filename}:{lineno}: {category.__name__}: {message}")

    warnings.showwarning = print_line  # type: ignore[assignment]


class _Parser(argparse.ArgumentParser):
    """Prints its messages as the verbs do."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if message and file is sys.stderr:
            say_block(message)
        elif message:
            write(message)


# -- the parser ------------------------------------------------------------------------------------------------------


def _parse(words: Sequence[str]) -> argparse.Namespace:
    parser = _build_parser(words)
    arguments, rest = parser.parse_known_args(words)
    if rest and hasattr(arguments, "view"):
        rest = views.move_old_options(arguments, rest)
    tail = next((name for name in ("tasks", "overrides") if hasattr(arguments, name)), None)
    if rest and (tail is None or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if tail:  # argparse closes a list at the first option; the words after an option belong to the list too
        setattr(arguments, tail, [*getattr(arguments, tail), *rest])
    return arguments


def _build_parser(words: Sequence[str]) -> argparse.ArgumentParser:
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
    _add_publishing_verbs(add)
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
    add("list", listing.list_all, "families and shipped recipes").add_argument(
        "--json", action="store_true", help="print JSON instead of tables"
    )
    show = add(
        "show",
        listing.show,
        "a recipe with every default filled in, or the fields of a family; `zoo show views` lists the view options",
    )
    copy = add("copy", verbs.copy, "a shipped recipe as a starting point")
    copy.add_argument("name")
    copy.add_argument("path", type=_read_path)
    check = add("check", verbs.check, "validate recipes, nothing else")
    check.add_argument("recipes", nargs="+", metavar="RECIPE")
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
    train.add_argument("--progress", action="store_true", help="show the bar even if stderr is not a terminal")
    for verb in (show, train):
        names = "a YAML file, or the name of a shipped recipe"
        verb.add_argument("recipe", help=f"{names}, or of a family" if verb is show else names)
        verb.add_argument("overrides", nargs="*", metavar="key=value")


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
    encode = add("encode", verbs.encode, "lines to vectors: zoo encode MODEL < lines > out.npy")
    views.add_arguments(encode)
    encode.add_argument("--input", type=_read_path, help="read lines from this file")
    encode.add_argument("--out", type=_read_path, help="write the .npy here")
    encode.add_argument(
        "--precision",
        default="auto",
        choices=["auto", "fp32", "bf16", "fp16"],
        help="auto: bf16 on hardware that is fast at it",
    )
    encode.add_argument(
        "--prompt",
        choices=["query", "document"],
        help="whether the lines are queries or documents, for a model with prompts",
    )
    export = add("export", verbs.export, "a view as a standalone model: zoo export MODEL --layers 3 --dim 128 OUT")
    views.add_arguments(export)
    export.add_argument("out", type=_read_path)


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
    card.add_argument("model")
    card.add_argument("--write", action="store_true", help="also write README.md and the pictures")
    push = add("push", verbs.push, "publish a model folder in one commit")
    push.add_argument("model")
    push.add_argument("repo", help="owner/name")
    for flag, text in (
        ("--private", "make the repo private"),
        ("--dry-run", "show what would be sent: files, sizes, the card"),
        ("--create-pr", "as a pull request"),
        ("--anyway", "also a model that was found dead after its training"),
    ):
        push.add_argument(flag, action="store_true", help=text)
    push.add_argument("--branch")
    push.add_argument("--tag")


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


if __name__ == "__main__":
    raise SystemExit(main())

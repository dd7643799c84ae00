"""`zoo`: each verb is a thin function over the Python API. Errors are one line and exit status 1."""

from __future__ import annotations

import argparse
import inspect
import json
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import __version__, families
from zoo import recipe as recipes
from zoo.artefact import allowed_files
from zoo.core import located_yaml
from zoo.core.errors import RecipeError, ZooError

if TYPE_CHECKING:
    from zoo.encoder import Encoder


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status: 0, 1 for an error or a missed `at_least`, 130 after Ctrl-C,
    143 after SIGTERM."""
    words = sys.argv[1:] if argv is None else argv
    if any(allowed_files.token_at(word) is not None for word in words):
        _say(
            "error: the command line holds an access token, and shells keep what they run: revoke it, and use `hf auth login`"
        )
        return 1
    parser = _parser()
    args, rest = parser.parse_known_args(words)
    tail = next((name for name in ("tasks", "overrides") if hasattr(args, name)), None)
    if rest and (tail is None or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if tail:  # argparse closes a list at the first option; what stands after one belongs to it as well
        setattr(args, tail, [*getattr(args, tail), *rest])
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminated)
    try:
        status = args.verb(args) or 0
        _leave()
        return status
    except ZooError as error:
        if args.verbose:
            raise
        for line in error.problems or [str(error)]:
            _say(f"error: {line}")
        return 1
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt as stop:
        _say(
            "stopped; the same command goes on from the last checkpoint"
            if args.verb in (_train, _reproduce)
            else "stopped"
        )
        return 143 if isinstance(stop, TerminatedError) else 130


def _leave() -> None:
    """End the part in a distributed run: a process that ends while threads of the group hold its tensors may abort. After an
    error it is left to the launcher, since the others may still be waiting."""
    torch = sys.modules.get("torch")
    if torch and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class TerminatedError(KeyboardInterrupt):
    """SIGTERM, as a scheduler sends it: an end in order, like Ctrl-C."""


def _terminated(*_: Any) -> None:
    raise TerminatedError


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _out(text: str) -> None:
    sys.stdout.write(text if text.endswith("\n") else f"{text}\n")


def _view_options() -> dict[str, str]:
    """What views can be asked for, over all families, and what it is: {"layers": "…", …}."""
    told: dict[str, str] = {}
    having: dict[str, list[str]] = {}
    for name in families.names():
        for option, field in families.load(name).Encoder.View.model_fields.items():
            told[option] = str(field.description)
            having.setdefault(option, []).append(name)
    return {option: f"{told[option]} ({', '.join(having[option])})" for option in sorted(told)}


def _view_value(encoder: Encoder, name: str, text: str) -> Any:
    """The text itself where the family wants a text, though YAML would read `Find:` as a mapping; else what YAML makes of it."""
    try:
        encoder.View.model_validate({name: text}, strict=True)
    except ValueError:
        return located_yaml.scalar(text)
    return text


def _open(args: argparse.Namespace) -> Encoder:
    import zoo

    encoder = zoo.from_pretrained(args.model, revision=args.revision)
    given = {name: getattr(args, name) for name in _view_options()}
    view = {name: _view_value(encoder, name, value) for name, value in given.items() if value is not None}
    return encoder.view(**view) if view else encoder


def _list(args: argparse.Namespace) -> None:
    _out("families")
    for name in families.names():
        _out(f"  {name:18} {_summary(families.load(name).__doc__ or '')}")
    _out("recipes")
    for name, path in recipes.shipped().items():
        comment = [
            line[1:].strip() for line in path.read_text(encoding="utf-8").splitlines()[:4] if line.startswith("#")
        ]
        _out(f"  {name:18} {comment[1] if len(comment) > 1 else ''}")


def _summary(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else ""


def _show(args: argparse.Namespace) -> None:
    _out(recipes.load(args.recipe, *args.overrides).dump())


def _copy(args: argparse.Namespace) -> None:
    target = Path(args.path)
    if target.is_dir():
        target = target / f"{args.name}.yaml"
    if target.exists():
        raise ZooError(f"{target} is there already; nothing was overwritten")
    known = recipes.shipped()
    if args.name not in known:
        raise RecipeError(f"{args.name}: no recipe of that name is shipped; there are: {', '.join(known)}")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(known[args.name].read_text(encoding="utf-8"), encoding="utf-8")
    _out(f"{target}: edit it, then: zoo train {target}")


def _check(args: argparse.Namespace) -> int:
    found: list[str] = []
    for each in args.recipes:
        try:
            recipes.load(each)
            _out(f"{each}: good")
        except RecipeError as error:
            found += error.problems
    for line in found:
        _say(f"error: {line}")
    return 1 if found else 0


def _schema(args: argparse.Namespace) -> None:
    _out(json.dumps(recipes.schema(), indent=2))


def _train(args: argparse.Namespace) -> None:
    loaded = recipes.load(args.recipe, *args.overrides)
    from zoo.build import builder

    out = Path(args.out or Path("runs") / loaded.name)
    builder.run(loaded, out, say=_say, show_progress=sys.stderr.isatty() or args.progress)
    if not (out / "report.json").exists():  # another process of a distributed run may not have written it yet
        return
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    if report["results"]:
        _table(report)


def _reproduce(args: argparse.Namespace) -> int:
    from rich.table import Table

    from zoo.build import reproduction

    found = reproduction.reproduce(
        args.model,
        Path(args.out),
        revision=args.revision,
        data=Path(args.data),
        tolerance=args.tolerance,
        say=_say,
        show_progress=sys.stderr.isatty(),
    )
    table = Table("task", "view", "metric", "there", "here", "difference", f"within {args.tolerance:g}", box=None)
    for f in found.figures:
        here = ("missing", "") if f.here is None else (f"{f.here:.4f}", f"{f.here - f.there:+.4f}")
        table.add_row(f.task, _view(f.view), f.metric, f"{f.there:.4f}", *here, "yes" if f.within else "NO")
    _print(table)
    weights = "the same bytes" if found.same_weights else "other bytes"
    _out(f"{'reproduced' if found.reproduced else 'NOT reproduced'}; the weights are {weights}")
    return 0 if found.reproduced else 1


def _evaluate(args: argparse.Namespace) -> int:
    from zoo import evaluation
    from zoo.evaluation import mteb_tasks
    from zoo.evaluation.spec import OWN, Official
    from zoo.recipe import task_arguments as words

    asked: list[tuple[Sequence[Any], Path]] = []
    for word, settings in words.words(args.tasks):
        if word in OWN:
            asked.append(([words.task(word, settings)], Path()))
        elif Path(word).is_file() or word in recipes.shipped():
            loaded = recipes.load(word)
            asked.append((loaded.evaluation, loaded.folder))
        elif wrong := mteb_tasks.problem(word):
            raise ZooError(wrong)
        else:
            asked.append(([Official(task=word)], Path()))
    if not any(tasks for tasks, _ in asked):
        raise ZooError(
            "say what to evaluate: an mteb task by name, a recipe whose `evaluation:` is meant, or a task over your own data "
            "with its settings: infomec data.source=file data.path=… sources=[…]"
        )
    encoder = _open(args)  # before the data, which may have to be downloaded
    prepared = evaluation.Prepared([])
    for tasks, folder in asked:
        prepared = prepared.joined(evaluation.prepare(tasks, folder))
    report = evaluation.evaluate(encoder, prepared, show_progress=sys.stderr.isatty())
    _out(json.dumps(report, indent=2)) if args.json else _table(report)
    missed = evaluation.missed(report)
    for line in missed:
        _say(f"error: {line}")
    return 1 if missed else 0


def _table(report: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table("task", "view", "metric", "score", "untrained", "texts/s", "bytes", box=None)
    for r in report["results"]:
        base = "" if r["baseline"] is None else f"{r['baseline']:.4f}"
        table.add_row(
            r["task"],
            _view(r["view"]),
            r["metric"],
            f"{r['value']:.4f}",
            base,
            f"{r['sentences_per_second']:.0f}",
            str(r["bytes_per_vector"]),
        )
    _print(table)


def _view(view: dict[str, Any]) -> str:
    return ", ".join(f"{k} {v}" for k, v in view.items()) or "whole"


def _print(table: Any) -> None:
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 140).print(table)


def _encode(args: argparse.Namespace) -> None:
    from zoo.core.npy import write_npy

    encoder = _open(args)
    prompt = {"prompt_type": args.prompt} if args.prompt else {}
    if prompt and "prompt_type" not in inspect.signature(encoder.stream).parameters:
        raise ZooError(f"--prompt: the family {encoder.spec.family} has no prompts")
    with open(args.input, "rb") if args.input else sys.stdin.buffer as source:  # noqa: PTH123
        blocks = encoder.stream(_lines(source), precision=args.precision, **prompt)
        write_npy(blocks, args.out or sys.stdout.buffer)


def _explain(args: argparse.Namespace) -> None:
    from zoo.families.sesa import explanation

    found = explanation.explain(_open(args), args.a, args.b, args.top)
    _out(explanation.as_json(found)) if args.json else _print(explanation.as_table(found))


def _lines(source: Any) -> Iterator[str]:
    for number, line in enumerate(source, 1):
        try:
            yield line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise ZooError(f"input line {number} is not UTF-8") from None


def _export(args: argparse.Namespace) -> None:
    from zoo.artefact import model_folder

    target = Path(args.out)
    if target.exists():
        raise ZooError(f"{target} is there already; nothing was overwritten")
    encoder = _open(args)
    model_folder.save(encoder, target)
    _out(f"{target}: open it with zoo.from_pretrained or SentenceTransformer")


def _card(args: argparse.Namespace) -> None:
    from zoo.artefact import manifest
    from zoo.card import model_card

    folder = Path(args.model)
    if not folder.is_dir():
        raise ZooError(f"{folder}: there is no such model folder")
    if args.write:
        manifest.verify(folder)
        model_card.write(folder)
        manifest.write(folder)
    _out(model_card.render(folder))


def _push(args: argparse.Namespace) -> None:
    from zoo.hub import push as hub

    pushed = hub.push(
        Path(args.model),
        args.repo,
        private=args.private,
        branch=args.branch,
        tag=args.tag,
        create_pr=args.create_pr,
        dry_run=args.dry_run,
        say=_say,
    )
    if args.dry_run:
        for name, size in pushed.files:
            _out(f"{size:>12,}  {name}")
        readme = Path(args.model) / "README.md"
        _out(
            f"\n{readme.read_text(encoding='utf-8') if readme.exists() else 'There is no README.md: zoo card --write'}"
        )
    _out(pushed.url if pushed.created or args.dry_run else f"{pushed.url} (nothing had changed)")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="zoo", description="One YAML recipe in, a measured embedding model out.")
    parser.add_argument("--version", action="version", version=f"zoo {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    def verb(name: str, function: Any, text: str, *, model: bool = False) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text)
        sub.add_argument("-v", "--verbose", action="store_true", help="show tracebacks")
        sub.set_defaults(verb=function)
        if model:
            sub.add_argument("model", help="a model folder, a Hub id, or package:NAME")
            sub.add_argument("--revision", help="commit, tag or branch on the Hub")
            for option, told in _view_options().items():
                sub.add_argument(f"--{option.replace('_', '-')}", help=told)
        return sub

    verb("list", _list, "families and shipped recipes")
    show = verb("show", _show, "a recipe with every default filled in")
    copy = verb("copy", _copy, "a shipped recipe as a starting point")
    copy.add_argument("name")
    copy.add_argument("path")
    check = verb("check", _check, "validate recipes, nothing else")
    check.add_argument("recipes", nargs="+", metavar="RECIPE")
    verb("schema", _schema, "JSON Schema of a recipe, for editors")
    train = verb("train", _train, "data, training, evaluation, card; resumable")
    train.add_argument("--out", help="run folder (default: runs/NAME)")
    train.add_argument("--progress", action="store_true", help="show the bar even where stderr is no terminal")
    for each in (show, train):
        each.add_argument("recipe", help="a YAML file, or the name of a shipped recipe")
        each.add_argument("overrides", nargs="*", metavar="key=value")
    evaluate = verb("evaluate", _evaluate, "score a model; exit 1 if an at_least is missed", model=True)
    evaluate.add_argument("tasks", nargs="*", metavar="TASK|RECIPE")
    evaluate.add_argument("--json", action="store_true", help="the report instead of a table")
    again = verb("reproduce", _reproduce, "train a model again from its recipe and compare every score")
    again.add_argument("model", help="a model folder that zoo wrote, or a Hub id")
    again.add_argument("--revision", help="commit, tag or branch on the Hub")
    again.add_argument("--out", required=True, help="run folder of the new training")
    again.add_argument("--data", default=".", help="where the recipe's relative paths start (default: here)")
    again.add_argument(
        "--tolerance", type=float, default=0.005, help="difference of scores that is none (default: 0.005)"
    )
    encode = verb("encode", _encode, "lines to vectors: zoo encode MODEL < lines > out.npy", model=True)
    encode.add_argument("--input", help="read lines from this file")
    encode.add_argument("--out", help="write the .npy here")
    encode.add_argument(
        "--precision", default="auto", choices=["auto", "fp32", "bf16", "fp16"], help="auto: bf16 where it is fast"
    )
    encode.add_argument("--prompt", choices=["query", "document"], help="what the lines are, for a model with prompts")
    explain = verb(
        "explain", _explain, 'why two texts score as they do: zoo explain MODEL "text a" "text b"', model=True
    )
    explain.add_argument("a", help="the first text, of separate towers the query")
    explain.add_argument("b", help="the second text")
    explain.add_argument("--top", type=int, default=5, help="contributions to show (default: 5)")
    explain.add_argument("--json", action="store_true", help="JSON instead of a table")
    export = verb(
        "export", _export, "a view as a standalone model: zoo export MODEL --layers 3 --dim 128 OUT", model=True
    )
    export.add_argument("out")
    card = verb("card", _card, "print the model card, rendered anew")
    card.add_argument("model")
    card.add_argument("--write", action="store_true", help="also write README.md and the pictures")
    push = verb("push", _push, "publish a model folder in one commit")
    push.add_argument("model")
    push.add_argument("repo", help="owner/name")
    for flag, text in (
        ("--private", "make the repo private"),
        ("--dry-run", "show what would be sent: files, sizes, the card"),
        ("--create-pr", "as a pull request"),
    ):
        push.add_argument(flag, action="store_true", help=text)
    push.add_argument("--branch")
    push.add_argument("--tag")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())

"""View options on the command line: `--view key=value`, with `--layers` and `--dim` as short forms.

Options of views have a namespace of their own, so a family may call one `precision` or `out` and no verb's option is hidden.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.core.errors import ZooError
from zoo.core.output import say

if TYPE_CHECKING:
    from zoo.encoder import Encoder

SHORT_FORMS = ("layers", "dim")


def add_arguments(parser: argparse.ArgumentParser, model: str = "a model folder, a Hub id, or package:NAME") -> None:
    """Add the arguments that every verb has which opens a model. `model` is the help of the first one."""
    parser.add_argument("model", help=model)
    parser.add_argument("--revision", help="commit, tag or branch on the Hub")
    parser.add_argument(
        "--view",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the model's view, e.g. layers=3; may be given several times. `zoo show views` lists all options",
    )
    for name in SHORT_FORMS:
        parser.add_argument(f"--{name}", help=f"short for --view {name}=…")


def add_side_arguments(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """Add revision and view of each of two models, which the verb calls by these names."""
    for name in names:
        parser.add_argument(f"--{name}-revision", metavar="COMMIT", help=f"commit, tag or branch of the {name} model")
        parser.add_argument(
            f"--{name}-view",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help=f"an option of the view of the {name} model, e.g. layers=5; may be given several times",
        )


def asks_for_view(arguments: argparse.Namespace) -> bool:
    """Whether the arguments ask for a view instead of the whole model."""
    return bool(_read_options(arguments))


def open_encoder(arguments: argparse.Namespace) -> Encoder:
    """Open the model that the arguments name, at the view that they ask for. Raises ZooError."""
    encoder, options = open_whole_encoder(arguments)
    return encoder.view(**options) if options else encoder


def open_with_step(arguments: argparse.Namespace) -> Encoder:
    """Open the model at its view, and attach the step of the folder `--step`, which asks for codes. Raises ZooError."""
    encoder = open_encoder(arguments)
    if arguments.step is not None:
        from zoo.after import saved

        encoder.attach_steps([saved.open_step(arguments.step)])
        arguments.codes = True
    return encoder


def open_whole_encoder(arguments: argparse.Namespace) -> tuple[Encoder, dict[str, Any]]:
    """Open the model that the arguments name, and read the options of the view that they ask for. Raises ZooError."""
    _read_options(arguments)  # before the model, which may have to be downloaded
    encoder = _open(arguments)
    return encoder, read_options(arguments, encoder)


def read_options(arguments: argparse.Namespace, encoder: Encoder) -> dict[str, Any]:
    """Read the options of the view of an encoder that the arguments ask for; {} for the whole one. Raises ZooError."""
    return {name: _parse_value(encoder, name, text) for name, text in _read_options(arguments)}


def _open(arguments: argparse.Namespace) -> Encoder:
    if getattr(arguments, "engine", "torch") == "torch":
        from zoo import pretrained

        return pretrained.from_pretrained(arguments.model, revision=arguments.revision)
    from zoo.deploy import engines

    return engines.open_encoder(
        arguments.model, arguments.revision, engine=arguments.engine, max_loss=arguments.max_loss
    )


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose the engine of a text model."""
    parser.add_argument(
        "--engine",
        default="torch",
        choices=["torch", "onnx", "openvino", "auto"],
        help="the engine that encodes texts: onnx and openvino make a graph once; auto takes the fastest one (default: torch)",
    )
    parser.add_argument(
        "--max-loss",
        type=float,
        default=0.001,
        metavar="LOSS",
        help="with --engine auto, the largest loss in mean cosine to the exact vectors (default: 0.001)",
    )


def move_old_options(arguments: argparse.Namespace, words: Sequence[str]) -> list[str]:
    """Read view options in their old form, `--real true`, and return the words that are not such options.

    Every option of a view used to be an option of the verb. The old form still works; a warning gives the new one.
    """
    rest: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        name, has_value, text = word.removeprefix("--").partition("=")
        name = name.replace("-", "_")
        if not word.startswith("--") or name not in list_options() or not (has_value or queue):
            rest.append(word)
            continue
        text = text if has_value else queue.pop(0)
        say(f"warning: --{name.replace('_', '-')} is now written --view {name}={text}")
        arguments.view.append(f"{name}={text}")
    return rest


def list_options() -> dict[str, list[tuple[str, str]]]:
    """Every view option, with the families that have it and their descriptions. Imports all specs, so call it only if needed."""
    from zoo import families

    options: dict[str, list[tuple[str, str]]] = {}
    for family in families.names():
        for name, field in families.load_spec(family).View.model_fields.items():
            options.setdefault(name, []).append((family, str(field.description)))
    return dict(sorted(options.items()))


def _read_options(arguments: argparse.Namespace) -> list[tuple[str, str]]:
    pairs = [(name, getattr(arguments, name)) for name in SHORT_FORMS if getattr(arguments, name) is not None]
    for word in arguments.view:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise ZooError(f"--view {word}: write it as --view KEY=VALUE, for example --view layers=3")
        pairs.append((name, text))
    return pairs


def _parse_value(encoder: Encoder, name: str, text: str) -> Any:
    """Keep the text if the option is a text, although YAML would read `Find:` as a mapping; parse it as YAML otherwise."""
    from zoo.core import located_yaml

    view = encoder.spec.View
    if name not in view.model_fields:
        return text  # `Encoder.view` says which options there are
    try:
        view.model_validate({name: text}, strict=True)
    except ValueError:
        pass
    else:
        return text
    try:
        return located_yaml.parse_value(text)
    except located_yaml.YamlError as error:
        raise ZooError(f"--view {name}={text}: {error.message}; write the value as in YAML, or quote it") from None

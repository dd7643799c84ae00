"""The verb `zoo bridge`: fit a map between the vectors of two models."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli import model_inputs, views
from zoo.core import output_paths
from zoo.core.output import say, write

if TYPE_CHECKING:
    from zoo.encoder import Encoder

KINDS = ("auto", "orthogonal", "ridge", "mlp", "relative")
TIMED_TEXTS = 256


def add_verb(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the verb and its options to the parser of all verbs."""
    verb = add("bridge", run, "let queries of a new model search the index of an old one: zoo bridge OLD NEW …")
    verb.add_argument("old", help="the model of the index: a model folder, a Hub id, or package:NAME")
    verb.add_argument("new", help="the model of the queries")
    views.add_side_arguments(verb, ("old", "new"))
    verb.add_argument(
        "--data",
        required=True,
        metavar="TEXTS",
        help="texts that both models read: a file that `data:` reads, builtin:NAME/TABLE, hub:OWNER/NAME, or a yaml file with a "
        "data section",
    )
    verb.add_argument("--column", default="text", help="the column of the texts (default: text)")
    verb.add_argument("--out", required=True, metavar="FILE", help="the new file, for example bridge.safetensors")
    verb.add_argument(
        "--kind", choices=KINDS, default="auto", help="the kind of map (default: the one that keeps most recall)"
    )
    verb.add_argument("--limit", type=int, default=20_000, help="use at most so many texts (default: 20,000)")
    verb.add_argument("--seed", type=int, default=42, help="seed of the split and of first weights (default: 42)")
    verb.add_argument(
        "--rows", type=int, help="rows of the index: say what encoding them with the new model would take"
    )


def run(arguments: argparse.Namespace) -> None:
    """`zoo bridge OLD NEW --data FILE --out FILE`: fit a bridge, save it, and say what it keeps."""
    output_paths.check_file(Path(arguments.out))
    texts = model_inputs.read_texts(arguments.data, arguments.column, arguments.limit)
    from zoo.bridge import fitting
    from zoo.bridge.bridge import Bridge

    fitting.split_texts(len(texts), arguments.seed)  # too few texts are refused before a model is opened
    old, new = (open_side(arguments, side) for side in ("old", "new"))
    bridge = Bridge.fit(
        old,
        new,
        texts,
        kind=arguments.kind,
        seed=arguments.seed,
        references=(arguments.old, arguments.new),
        say=say,
    )
    path = bridge.save(arguments.out)
    write(bridge.describe())
    if arguments.rows:
        write(_describe_cost(new, texts, arguments.rows))
    write(f"{path}: open it with zoo.Bridge.open")


def open_side(arguments: argparse.Namespace, side: str) -> Encoder:
    """Open one of two models, for example `old`, at its view."""

    names = ("revision", "view")
    options = {name: getattr(arguments, f"{side}_{name}") for name in names}
    short_forms = dict.fromkeys(views.SHORT_FORMS)
    return views.open_encoder(argparse.Namespace(model=getattr(arguments, side), **options, **short_forms))


def _describe_cost(encoder: Encoder, texts: list[str], rows: int) -> str:
    """Say how long this machine takes to encode `rows` texts like these."""
    timed = texts[:TIMED_TEXTS]
    encoder.encode_document(timed[:8])  # the first call prepares the encoder
    start = time.perf_counter()
    encoder.encode_document(timed)
    seconds = (time.perf_counter() - start) / len(timed)
    total = rows * seconds
    shown = (
        f"{total:.0f} seconds"
        if total < 120
        else f"{total / 60:.0f} minutes"
        if total < 7200
        else f"{total / 3600:.1f} hours"
    )
    return (
        f"encoding {rows:,} rows with {encoder.name} would take about {shown} here, at {1000 * seconds:.2f} ms a text "
        f"({len(timed)} texts were timed)"
    )

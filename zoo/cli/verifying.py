"""The verb `zoo verify`: whether a server or a conversion gives the space of a model, and what is wrong if not."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.core.errors import ZooError
from zoo.core.output import say, write
from zoo.core.tables import print_text

if TYPE_CHECKING:
    from zoo.artefact.canaries import Canaries
    from zoo.encoder import Encoder
    from zoo.verify.verdict import Verdict

PRECISIONS = ("fp32", "fp16", "bf16", "int8")


def add_verb(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the verb and its options to the parser of all verbs."""
    from zoo.cli import views

    verb = add(
        "verify", run, "say whether a server or a conversion gives the vectors of a model, and what is wrong if not"
    )
    views.add_arguments(verb)
    verb.add_argument("--url", help="a server with OpenAI's API, for example http://127.0.0.1:8000/v1/embeddings")
    verb.add_argument(
        "--model", dest="served_model", metavar="NAME", help="the model's name on the server (default: its own)"
    )
    verb.add_argument("--api-key-env", metavar="VAR", help="the environment variable that holds the key of the server")
    verb.add_argument(
        "--field",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a further field of each request, for example dimensions=128; may be given several times",
    )
    verb.add_argument("--onnx", metavar="FILE", help="an ONNX graph from token ids to vectors")
    verb.add_argument("--folder", metavar="DIR", help="a folder of sentence-transformers")
    verb.add_argument(
        "--prompt",
        choices=["query", "document"],
        help="expect the vectors of queries or of documents (default: no role)",
    )
    verb.add_argument(
        "--send-prompt", action="store_true", help="put the prompt before each text, because the server adds none"
    )
    verb.add_argument(
        "--precision", choices=PRECISIONS, default="int8", help="the coarsest arithmetic that passes (default: int8)"
    )
    verb.add_argument("--json", action="store_true", help="print JSON instead of sentences")


def run(arguments: argparse.Namespace) -> int:
    """`zoo verify MODEL`: compare vectors. The exit status is 0 only if the space is the same."""
    chosen = [name for name in ("url", "onnx", "folder") if getattr(arguments, name)]
    if len(chosen) > 1:
        raise ZooError(f"give one of --url, --onnx and --folder, not {' and '.join(f'--{name}' for name in chosen)}")
    if arguments.send_prompt and not arguments.prompt:
        raise ZooError("--send-prompt: say which prompt with --prompt query or --prompt document")
    api_key, fields = _read_key(arguments.api_key_env), _read_fields(arguments.field)
    from zoo.cli import views

    encoder = views.open_encoder(arguments)
    stored = None if encoder.view_options else _read_canaries(arguments)
    if not chosen:
        verdicts = _check_own(arguments, encoder, stored)
    else:
        if stored is not None:
            from zoo.verify import own_canaries

            if not own_canaries.is_same(encoder, stored):
                say(
                    "warning: on this machine, the model gives other vectors than its canaries; run `zoo verify MODEL` first"
                )
        verdicts = _check_source(arguments, encoder, api_key, fields)
    is_same = all(verdict.is_same for verdict in verdicts.values())
    if arguments.json:
        checks = [{"of": name, **verdict.describe()} for name, verdict in verdicts.items()]
        view = dict(encoder.view_options)
        write(json.dumps({"model": arguments.model, "view": view, "is_same": is_same, "checks": checks}, indent=2))
    else:
        for name, verdict in verdicts.items():
            _print(name, verdict)
    return 0 if is_same else 1


def _check_own(arguments: argparse.Namespace, encoder: Encoder, stored: Canaries | None) -> Mapping[str, Verdict]:
    from zoo.verify import own_canaries

    if encoder.view_options:
        raise ZooError("the canaries of a folder are those of the whole model: leave the view out, or name --url")
    if stored is None:
        raise ZooError(
            f"{arguments.model}: has no canaries, because no recent version of zoo wrote it: name something to compare with, "
            "--url, --onnx or --folder, or save it anew with `zoo export`"
        )
    return own_canaries.check(encoder, stored)


def _check_source(
    arguments: argparse.Namespace, encoder: Encoder, api_key: str | None, fields: Mapping[str, Any]
) -> Mapping[str, Verdict]:
    from zoo.verify.conversions import OnnxGraph, StockFolder
    from zoo.verify.examination import examine, list_inputs
    from zoo.verify.hypotheses import Expectation
    from zoo.verify.server import Server
    from zoo.verify.verdict import Source

    if arguments.prompt and not encoder.has_roles:
        raise ZooError(f"--prompt: the family {encoder.spec.family} has no prompts; leave it out")
    expected = Expectation(encoder, list_inputs(encoder), arguments.prompt, has_prompt=arguments.send_prompt)
    if not (arguments.url or expected.reads_texts):
        raise ZooError(f"the model reads {encoder.modalities[0]}s, and --onnx and --folder compare texts only")
    source: Source
    if arguments.url:
        source = Server(arguments.url, arguments.served_model or encoder.name, api_key=api_key, fields=fields)
    elif arguments.onnx:
        source = OnnxGraph(Path(arguments.onnx), encoder)
    else:
        source = StockFolder(Path(arguments.folder), arguments.prompt, adds_prompt=not arguments.send_prompt)
    return {source.name: examine(expected, source, coarsest=arguments.precision)}


def _read_canaries(arguments: argparse.Namespace) -> Canaries | None:
    """Read the canaries of the model's folder. A plain backbone has none, and neither has a folder of an older version."""
    from zoo.artefact import canaries
    from zoo.hub import model_references
    from zoo.hub.fetch import fetch

    folder = model_references.locate(arguments.model) or fetch(arguments.model, arguments.revision)
    return canaries.read(folder)


def _read_key(name: str | None) -> str | None:
    if name is None:
        return None
    key = os.environ.get(name, "").strip()
    if not key:
        raise ZooError(f"--api-key-env {name}: this environment variable is not set; set it to the key of the server")
    if not key.isascii():
        raise ZooError(f"--api-key-env {name}: the key has characters that no header can hold; check the variable")
    return key


def _read_fields(words: Sequence[str]) -> dict[str, Any]:
    """Read `--field KEY=VALUE`. A value that is JSON, for example a number, is taken as such, and any other as a text."""
    fields: dict[str, Any] = {}
    for word in words:
        key, mark, value = word.partition("=")
        if not key or not mark or key in ("model", "input"):
            raise ZooError(f"--field {word}: write KEY=VALUE, for example dimensions=128, and neither model nor input")
        try:
            fields[key] = json.loads(value)
        except ValueError:
            fields[key] = value
    return fields


def _print(name: str, verdict: Verdict) -> None:
    cosines = f"lowest cosine to the model {verdict.lowest_cosine:.6f}, mean {verdict.mean_cosine:.6f}"
    space = "the same space" if verdict.is_same else "NOT the same space"
    print_text(f"{name}: {space}; {verdict.count} inputs, {cosines}")
    for fault in verdict.faults:
        print_text(f"  {fault.cause}: {fault.detail}")
        print_text(f"    to do: {fault.advice}")
    if verdict.explained_cosine is not None:
        print_text(f"  lowest cosine to a model with this fault {verdict.explained_cosine:.6f}")
    for note in verdict.notes:
        print_text(f"  note: {note}")

"""`zoo export --to onnx|openvino` and `zoo pack`: models for other programs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli import views
from zoo.core import output_paths
from zoo.core.errors import ZooError
from zoo.core.output import say, write

if TYPE_CHECKING:
    from zoo.deploy.write import Engine
    from zoo.evaluation import Prepared

FORMATS = ("safetensors", "onnx", "openvino")
READ_TEXTS = 10_000
CALIBRATION_TEXTS = 100


def add_arguments(export: argparse.ArgumentParser) -> None:
    """Add the arguments of graphs to the verb `export`."""
    export.add_argument(
        "--to",
        choices=FORMATS,
        default="safetensors",
        help="safetensors: a model folder of zoo (default); onnx or openvino: one graph that runs without torch",
    )
    _add_graph_arguments(export)


def add_verb(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the verb `pack`."""
    pack = add(
        "pack", run_pack, "a model as one folder for numpy, onnxruntime and tokenizers: zoo pack MODEL --int8 OUT"
    )
    views.add_arguments(pack)
    pack.add_argument("out", type=_read_path, help="the new folder")
    pack.add_argument("--depths", metavar="N,N", help="further numbers of layers, each with a graph of its own")
    _add_graph_arguments(pack)


def _add_graph_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--int8", action="store_true", help="weights and activations of the graph in 8 bits")
    parser.add_argument(
        "--max-loss",
        type=float,
        metavar="LOSS",
        help="refuse int8 that loses more than this in mean cosine (default: 0.01)",
    )
    parser.add_argument(
        "--texts",
        type=_read_path,
        metavar="FILE",
        help="texts that calibrate int8: lines, or a column `text` (default: texts of the training rows)",
    )
    parser.add_argument(
        "--data", type=_read_path, default=".", help="where relative paths of the model's recipe start (default: here)"
    )
    parser.add_argument("--score-tasks", action="store_true", help="score the graph on the tasks of the model's recipe")


def _read_path(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("the name is empty; give a path")
    return text


def check_arguments(arguments: argparse.Namespace) -> None:
    """Raise ZooError for arguments of graphs that fit nothing, before a model is opened."""
    asked = arguments.int8 or arguments.texts or arguments.score_tasks or arguments.max_loss is not None
    if arguments.to == "safetensors" and asked:
        raise ZooError(
            "--int8, --max-loss, --texts and --score-tasks are for graphs: add --to onnx or --to openvino; --table int8 stores "
            "the token table of a model folder in 8 bits"
        )
    _check_loss(arguments)


def _check_loss(arguments: argparse.Namespace) -> None:
    if arguments.max_loss is not None and not 0 < arguments.max_loss < 1:
        raise ZooError(f"--max-loss {arguments.max_loss:g}: give a number between 0 and 1, for example 0.01")


def run_export(arguments: argparse.Namespace, table: Any = None) -> None:
    """Write a graph. `table` is the `Table` of `zoo.build.export`, or None."""
    _write(arguments, arguments.to, (), keeps_steps=False, table=table)


def run_pack(arguments: argparse.Namespace) -> None:
    """`zoo pack MODEL OUT`: graphs, steps and canaries in one folder."""
    target = Path(arguments.out)
    if target.exists() or target.is_symlink():
        raise ZooError(f"{target} is there already; nothing was overwritten")
    output_paths.check_folder(target)
    _check_loss(arguments)
    _write(arguments, "onnx", _read_depths(arguments.depths), keeps_steps=True)


def _read_depths(text: str | None) -> tuple[int, ...]:
    words = text.split(",") if text else []
    if not all(word.strip().isdecimal() and int(word) for word in words):
        raise ZooError(f"--depths {text}: give numbers of layers with commas between them, for example --depths 2,4")
    return tuple(dict.fromkeys(map(int, words)))


def _write(
    arguments: argparse.Namespace, engine: Engine, depths: tuple[int, ...], *, keeps_steps: bool, table: Any = None
) -> None:
    whole, options = views.open_whole_encoder(arguments)
    from zoo.deploy import probe_inputs
    from zoo.deploy import write as writing
    from zoo.hub import model_references
    from zoo.hub.fetch import fetch

    local_folder = model_references.locate(arguments.model)
    parent = local_folder or fetch(arguments.model, arguments.revision)
    view = whole.view(**options) if options else whole
    original = None
    if table is not None:
        original, view = view, table.apply(view)
    depths = tuple(depth for depth in depths if depth != getattr(view, "layers", None))
    texts: list[str] = []
    if arguments.texts:
        from zoo.cli.model_inputs import read_texts

        texts = read_texts(arguments.texts, "text", READ_TEXTS)
    elif arguments.int8 and local_folder:  # a recipe from the Hub may not name files here
        texts = probe_inputs.read_training_texts(local_folder, Path(arguments.data), CALIBRATION_TEXTS)
    settings = writing.Options(
        engine,
        arguments.int8,
        writing.MAX_LOSS if arguments.max_loss is None else arguments.max_loss,
        texts,
        depths,
        keeps_steps,
        _prepare_tasks(arguments) if arguments.score_tasks else None,
        original,
    )
    written = writing.write(parent, view, Path(arguments.out), settings)
    write(written.describe())
    if arguments.int8:
        own = f"{min(len(texts), CALIBRATION_TEXTS)} texts that were given or trained on and " if texts else ""
        write(f"int8 loses {written.deviation.loss:.5f} in mean cosine; it was calibrated on {own}texts of zoo")
    for score in written.scores:
        write(f"{score.task}: {score.metric} {score.exact:.4f} exact, {score.exported:.4f} here")
    if written.left_out:
        say(f"left out {', '.join(written.left_out)}: the runtime has no such step")
    write(f"{arguments.out}: open it with zoo_runtime.open_model, from the package embedding-zoo-runtime")


def _prepare_tasks(arguments: argparse.Namespace) -> Prepared:
    """Read the tasks of the model's recipe, without their views. Raises ZooError if there are none."""
    from zoo import evaluation
    from zoo.build import own_tasks

    data = Path(arguments.data)
    tasks = own_tasks.read(arguments.model, arguments.revision, data, is_cut=True)
    with own_tasks.confine(arguments.model, data):
        return evaluation.prepare(tasks, data)

"""The verb `zoo compare`: how alike the spaces of two models are."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli import model_inputs, views
from zoo.core import output_paths
from zoo.core.errors import ZooError
from zoo.core.output import write
from zoo.core.tables import print_table

if TYPE_CHECKING:
    from zoo.encoder import Encoder

ROWS = 2000
ANCHORS = 768
"""Anchors that are drawn at most from a file, always the same ones."""
MEANINGS: Mapping[str, str] = {
    "cka": "1 for a rotated copy, 0 for unrelated spaces",
    "mutual_neighbours": "share of the ten nearest inputs in common",
    "procrustes_residual": "0 for a rotated copy, 1 for nothing in common",
    "translates_forward": "R² of a linear map of the first space to the second",
    "translates_backward": "R² of a linear map of the second space to the first",
    "cosine_agreement": "rank correlation of the cosines of pairs",
    "direct_cosine": "mean cosine of an input with itself in the other space, by the same anchors",
}
"""The figures of the table, with their meanings."""


def add_verb(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the verb and its options to the parser of all verbs."""
    verb = add("compare", run, "say how alike the spaces of two models are: zoo compare A B --data FILE")
    verb.add_argument("first", help="a model folder, a Hub id, package:NAME, or an .npy of vectors")
    verb.add_argument("second", help="the other one; an .npy has vectors of the same inputs in the same order")
    views.add_side_arguments(verb, ("first", "second"))
    verb.add_argument("--space", action="store_true", help="compare the spaces; this is the default")
    verb.add_argument(
        "--data", metavar="FILE", help="inputs that both models read: a table, lines or a folder of images"
    )
    verb.add_argument("--column", help="the column of the inputs (default: text or image, as the models read)")
    verb.add_argument(
        "--rows", type=int, default=ROWS, help=f"different inputs that are drawn at most (default: {ROWS:,})"
    )
    verb.add_argument("--seed", type=int, default=42, help="seed of the halves for the linear maps (default: 42)")
    verb.add_argument(
        "--relative",
        metavar="ANCHORS",
        help="compare cosines with these inputs, a file as --data, in place of the vectors themselves",
    )
    verb.add_argument(
        "--picture", metavar="FILE", help="draw CKA of all layers and widths of both models into this PNG file"
    )
    verb.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(arguments: argparse.Namespace) -> None:
    """`zoo compare A B`: print figures of both spaces, and the map of all layers and widths."""
    if arguments.picture:
        output_paths.check_file(Path(arguments.picture))
    references = arguments.first, arguments.second
    if any(name.endswith(".npy") for name in references):
        figures, parts = _compare_files(references, arguments)
    else:
        figures, parts = _compare_models(arguments)
    if arguments.picture:
        _draw(parts, references, Path(arguments.picture))
    if arguments.json:
        write(json.dumps({"figures": figures, "views": parts}, indent=2))
    else:
        _print(figures, parts)


def _compare_files(references: Sequence[str], arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    import numpy as np

    from zoo.core.npy import open_rows
    from zoo.diagnosis.two_spaces import compare_spaces

    if arguments.data or not all(name.endswith(".npy") for name in references):
        raise ZooError(
            "two .npy files of the same inputs are compared without --data, and a model is compared with a model"
        )
    if arguments.picture or arguments.relative:
        raise ZooError(
            "--picture and --relative: need two models; vectors of a file have no layers and encode no anchors"
        )
    opened = [open_rows(name) for name in references]
    return compare_spaces(*(np.asarray(rows) for rows in opened), seed=arguments.seed)._asdict(), {}


def _compare_models(arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the figures of the two views, and CKA of every layer and width of both."""
    if not arguments.data:
        raise ZooError(
            "--data: give inputs that both models read, for example --data texts.csv; a thousand or more say something"
        )
    model_inputs.check_rows((arguments.data, arguments.relative))
    from zoo.cli.bridging import open_side
    from zoo.diagnosis.two_spaces import compare_spaces, map_cka, measure_direct_cosine

    encoders = [open_side(arguments, side) for side in ("first", "second")]
    model_inputs.check_same_kind(encoders[1], encoders[0].name, encoders[0].modalities)
    inputs = _draw_inputs(arguments.data, arguments.rows, encoders[0], arguments)
    anchors = _draw_inputs(arguments.relative, ANCHORS, encoders[0], arguments) if arguments.relative else []
    names, vectors = [], []
    for encoder in encoders:
        labels, found = _encode_views(encoder, inputs, anchors)
        names.append(labels)
        vectors.append(found)
    last = vectors[0][-1], vectors[1][-1]
    figures = compare_spaces(*last, seed=arguments.seed)._asdict()
    if anchors:
        figures["direct_cosine"] = measure_direct_cosine(*last)
    table = map_cka(*vectors)
    return figures, {"first": names[0], "second": names[1], "cka": table.round(4).tolist()}


def _draw_inputs(name: str, limit: int, encoder: Encoder, arguments: argparse.Namespace) -> list[Any]:
    return model_inputs.draw_different(name, model_inputs.read_inputs(name, encoder.spec, arguments.column), limit)


def _encode_views(encoder: Encoder, inputs: list[Any], anchors: list[Any]) -> tuple[list[str], list[Any]]:
    """Return the names and the vectors of every width that was trained and of every layer, the whole view last."""
    from zoo.metrics.encoded_rows import encode_inputs, list_depths, list_widths

    widths, depths = list_widths(encoder), list_depths(encoder)
    names = [f"dim {options['dim']}" for options in widths] + [f"layer {options['layers']}" for options in depths]
    options = [*widths, *depths]
    if not depths:
        names, options = [*names, "whole"], [*widths, encoder.view_options]
    views: list[Encoder] = encoder.views_sharing_a_pass(options) if len(options) > 1 else [encoder]
    if anchors:
        from zoo.bridge.relative import RelativeEncoder

        views = [RelativeEncoder(view, anchors) for view in views]
    return names, [encode_inputs(view, inputs) for view in views]


def _draw(parts: Mapping[str, Any], references: tuple[str, str], path: Path) -> None:
    import numpy as np

    from zoo.card.cka_plot import draw_cka
    from zoo.card.plots import save_picture

    names = parts["first"], parts["second"]
    save_picture(lambda: draw_cka(np.array(parts["cka"]), *names, references), path)


def _print(figures: Mapping[str, Any], parts: Mapping[str, Any]) -> None:
    rows = [(name, f"{figures[name]:.4f}", meaning) for name, meaning in MEANINGS.items() if name in figures]
    print_table(("figure", f"{figures['rows']:,} inputs", "meaning"), rows)
    table = parts.get("cka", [[]])
    if len(table) * len(table[0]) > 1:
        lines = [(name, *(f"{value:.3f}" for value in row)) for name, row in zip(parts["first"], table, strict=True)]
        print_table(("cka", *parts["second"]), lines, title="first model down, second model across", gap=True)
    write("These figures say how alike two spaces are, and not which one is better.")

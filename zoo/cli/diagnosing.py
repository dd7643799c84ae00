"""The verb `zoo diagnose`: figures and a verdict on the vectors of a model, without labels."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.core import output_paths
from zoo.core.output import write
from zoo.core.tables import print_table

if TYPE_CHECKING:
    from zoo.cli.diagnosed import Found
    from zoo.diagnosis.attention import AttentionDiagnosis
    from zoo.diagnosis.diagnosis import Diagnosis
    from zoo.diagnosis.labelled import LabelledScores

ROWS = 10_000
MAX_COLUMNS = 4
"""Spaces with a column each. More of them have a row each."""
RANGES: Mapping[str, str] = {
    "vendi": "1 to min(n, d): different inputs as the encoder sees them",
    "rankme": "1 to min(n, d): directions in use",
    "rankme_centred": "the same without the mean vector",
    "components_in_use": "principal directions with 99 % of the coding rate",
    "mean_cosine": "-1 to 1: 1 if all inputs have one direction",
    "norm_spread": "spread of the norms, relative to their mean",
    "dead_components": "components with one value",
}
"""The figures of the table, with their ranges."""
NEIGHBOUR_RANGES: Mapping[str, str] = {
    "twonn": "intrinsic dimension; too low above 10, and noise raises it",
    "hubness": "0 without inputs that are neighbours of very many",
}

ONE_MODEL = (
    "These figures show faults, and order the widths of one model. They do not say which of two models is better."
)
CHECKPOINTS = (
    "These figures show faults. They do not say which checkpoint is best; a validation task, or --labels FILE, does."
)
DIFFERENT_MODELS = "These are different models. No figure without labels says which is better; --labels FILE does."


def add_verb(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the verb and its options to the parser of all verbs."""
    from zoo.cli import views

    verb = add("diagnose", run, "say how healthy the vectors of a model are: zoo diagnose MODEL [--data FILE]")
    views.add_arguments(
        verb, "a model folder, a run folder, RUN/checkpoints, a Hub id, package:NAME, or an .npy of vectors"
    )
    verb.add_argument("more", nargs="*", metavar="MODEL", help="more models or runs, to put beside it")
    verb.add_argument(
        "--data",
        metavar="FILE",
        help="inputs: a table, lines or a folder of images (default: the training rows of the model's recipe)",
    )
    verb.add_argument("--column", help="the column of the inputs (default: text or image, as the model reads)")
    verb.add_argument(
        "--across",
        action="append",
        default=[],
        metavar="KEY=V1,V2,…",
        help="diagnose views beside each other, for example layers=2,4,6; may be given several times",
    )
    verb.add_argument(
        "--labels",
        metavar="FILE",
        help="labelled inputs, five of each class or more: say which view tells classes apart",
    )
    verb.add_argument("--label-column", default="label", help="the column of the labels (default: label)")
    verb.add_argument("--rows", type=int, default=ROWS, help=f"inputs that are drawn at most (default: {ROWS:,})")
    verb.add_argument("--seed", type=int, default=42, help="the seed of the draw (default: 42)")
    verb.add_argument(
        "--sort", metavar="FIGURE", help="put views and runs of one model in the order of a figure, for example vendi"
    )
    verb.add_argument(
        "--attention", action="store_true", help="also print how widely each layer's attention looks; for text encoders"
    )
    verb.add_argument("--picture", metavar="FILE", help="draw spectrum and intrinsic dimension into this PNG file")
    verb.add_argument("--json", action="store_true", help="print JSON instead of tables")
    _add_sources(verb)


def _add_sources(verb: argparse.ArgumentParser) -> None:
    """Add the options about checkpoints of a run, and about a file of vectors."""
    verb.add_argument(
        "--checkpoints",
        action="store_true",
        help="diagnose the checkpoints of a run folder, which needs no finished model; without --data by rows of its recipe",
    )
    verb.add_argument(
        "--recipe-folder",
        default=".",
        metavar="DIR",
        help="where relative paths of the recipe start (default: here)",
    )
    verb.add_argument(
        "--of",
        metavar="MODEL",
        help="say whether this model makes the vectors of an .npy from --data, and name the fault",
    )
    verb.add_argument(
        "--prompt",
        choices=["query", "document"],
        help="the role of the inputs for --of (default: that which fits best)",
    )


def run(arguments: argparse.Namespace) -> int:
    """`zoo diagnose MODEL…`: print figures and a verdict. The exit status is 1 if a model is dead."""
    if arguments.picture:
        output_paths.check_file(Path(arguments.picture))
    from zoo.cli.diagnosed import find_spaces

    found = find_spaces(arguments)
    if arguments.sort:
        from zoo.diagnosis.ordering import order

        found.diagnoses = order(found.diagnoses, found.origins, arguments.sort)
    if arguments.picture:
        _draw(found.diagnoses, Path(arguments.picture))
    if arguments.json:
        write(json.dumps([_describe(one, found) for one in found.diagnoses], indent=2))
    else:
        _print(found)
        for name, one in found.attention.items():
            _print_attention(name if len(found.attention) > 1 else "", one)
    return 1 if any(diagnosis.is_dead for diagnosis in found.diagnoses) else 0


def _describe(one: Diagnosis, found: Found) -> dict[str, Any]:
    """Return everything about a space as plain values."""
    entry = one.describe()
    if found.labelled:
        entry["few_shot"] = found.labelled.describe(one.name)
    if found.attention:
        entry["attention"] = found.attention[one.name].describe()
    if found.are_checkpoints:
        entry["moved"] = found.moves.get(one.name)
    return entry


def _draw(found: Sequence[Diagnosis], path: Path) -> None:
    """Draw the spectra and the intrinsic dimensions of all views into a PNG file."""
    from zoo.card.health import Space
    from zoo.card.health_plot import draw_spaces
    from zoo.card.plots import save_picture

    spaces = [
        Space(
            one.name, list(one.variances), [point[:2] for point in one.neighbourhood.gride] if one.neighbourhood else []
        )
        for one in found
    ]
    save_picture(lambda: draw_spaces(spaces), path)


def _print(found: Found) -> None:
    """Print a table of figures, and then the findings of each space."""
    names = [one.name for one in found.diagnoses]
    rows = _list_rows(found)
    if len(names) <= MAX_COLUMNS:
        print_table(("figure", *names, "range"), [(figure, *cells, meaning) for figure, cells, meaning in rows])
    else:
        lines = zip(names, *(cells for _, cells, _ in rows), strict=True)
        print_table(("space", *(figure for figure, _, _ in rows)), [tuple(line) for line in lines])
    for one in found.diagnoses:
        prefix = f"{one.name}: " if len(names) > 1 else ""
        if not one.findings:
            write(f"{prefix}no fault was found")
        for finding in one.findings:
            write(f"{prefix}{finding}")
    if found.labelled:
        write(found.labelled.summarise())
    are_one = len(set(found.origins)) == 1
    write(CHECKPOINTS if found.are_checkpoints else ONE_MODEL if are_one else DIFFERENT_MODELS)


def _list_rows(found: Found) -> list[tuple[str, list[str], str]]:
    """Return each figure with a cell for every space, and its meaning."""
    all_spaces = found.diagnoses
    rows = [("vectors", [f"{one.rows:,}" for one in all_spaces], "")]
    rows.append(("components", [str(one.dim) for one in all_spaces], ""))
    for name, meaning in RANGES.items():
        rows.append((name, [_format(getattr(one.spectrum, name)) for one in all_spaces], meaning))
    for name, meaning in NEIGHBOUR_RANGES.items():
        cells = [_format(getattr(one.neighbourhood, name)) if one.neighbourhood else "–" for one in all_spaces]
        rows.append((name, cells, meaning))
    if found.moves:
        cells = [_format(found.moves[one.name]) if one.name in found.moves else "–" for one in all_spaces]
        rows.append(("moved", cells, "share of the ten nearest inputs that changed since the checkpoint before"))
    return rows + (_list_accuracies(all_spaces, found.labelled) if found.labelled else [])


def _print_attention(name: str, found: AttentionDiagnosis) -> None:
    """Print a line for each layer, and then the findings."""
    norms = [f"{norm:.1f}" for norm in found.norm_products] or ["–"] * len(found.entropy)
    rows = [
        (str(layer), f"{mean:.3f}", f"{min(heads):.3f}", f"{max(heads):.3f}", norm)
        for layer, (heads, mean, norm) in enumerate(zip(found.entropy, found.layer_means, norms, strict=True), 1)
    ]
    write(f"attention entropy{f' of {name}' if name else ''}: 0 looks at one token, 1 at all equally")
    print_table(("layer", "mean", "lowest head", "highest head", "norms of query × key"), rows)
    for finding in found.findings:
        write(str(finding))


def _list_accuracies(found: Sequence[Diagnosis], labelled: LabelledScores) -> list[tuple[str, list[str], str]]:
    """Return a row of the table for each number of labelled rows."""
    meaning = f"{labelled.sizes.ways} classes; ± is the 95 % interval over episodes"
    rows = []
    for place, shots in enumerate(labelled.sizes.shots):
        results = [labelled.by_view[one.name][place] for one in found]
        cells = [f"{result.accuracy:.3f} ± {result.high - result.accuracy:.3f}" for result in results]
        rows.append((f"accuracy, {shots} shot", cells, meaning))
    return rows


def _format(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"

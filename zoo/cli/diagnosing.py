"""The verb `zoo diagnose`: figures and a verdict on the vectors of a model, without labels."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.core import output_paths
from zoo.core.errors import ZooError
from zoo.core.output import say, write
from zoo.core.tables import print_table

if TYPE_CHECKING:
    from zoo.diagnosis.attention import AttentionDiagnosis
    from zoo.diagnosis.diagnosis import Diagnosis
    from zoo.diagnosis.labelled import LabelledScores
    from zoo.encoder import Encoder

    Found = tuple[list[Diagnosis], list[str], LabelledScores | None, dict[str, AttentionDiagnosis]]

ROWS = 10_000
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
DIFFERENT_MODELS = "These are different models. No figure without labels says which is better; --labels FILE does."


def add_verb(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the verb and its options to the parser of all verbs."""
    from zoo.cli import views

    verb = add("diagnose", run, "say how healthy the vectors of a model are: zoo diagnose MODEL --data FILE")
    views.add_arguments(verb, "a model folder, a run folder, a Hub id, package:NAME, or an .npy of vectors")
    verb.add_argument("more", nargs="*", metavar="MODEL", help="more models or runs, to put beside it")
    verb.add_argument("--data", metavar="FILE", help="inputs: a table or lines; not needed for an .npy of vectors")
    verb.add_argument("--column", default="text", help="the column of the inputs (default: text)")
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


def run(arguments: argparse.Namespace) -> int:
    """`zoo diagnose MODEL…`: print figures and a verdict. The exit status is 1 if a model is dead."""
    if arguments.picture:
        output_paths.check_file(Path(arguments.picture))
    found, origins, labelled, attention = _diagnose(arguments)
    if arguments.sort:
        from zoo.diagnosis.ordering import order

        found = order(found, origins, arguments.sort)
    if arguments.picture:
        _draw(found, Path(arguments.picture))
    if arguments.json:
        entries = [one.describe() | ({"few_shot": labelled.describe(one.name)} if labelled else {}) for one in found]
        for entry in entries if attention else ():
            entry["attention"] = attention[entry["name"]].describe()
        write(json.dumps(entries, indent=2))
    else:
        _print(found, labelled, are_one=len(set(origins)) == 1)
        for name, one in attention.items():
            _print_attention(name if len(attention) > 1 else "", one)
    return 1 if any(diagnosis.is_dead for diagnosis in found) else 0


def _diagnose(arguments: argparse.Namespace) -> Found:
    """Return the diagnosis of every view and file, the model that each is of, and the results of labels and attention."""
    references = [arguments.model, *arguments.more]
    files = [name for name in references if name.endswith(".npy")]
    needs_models = arguments.data or arguments.across or arguments.labels or arguments.attention
    if files and (needs_models or len(files) < len(references)):
        raise ZooError(
            f"{files[0]}: is a file of vectors; leave --data, --labels, --across, --attention and models out, or name models only"
        )
    if files:
        return [_diagnose_file(name, arguments) for name in files], files, None, {}
    return _diagnose_views(references, arguments)


def _diagnose_file(name: str, arguments: argparse.Namespace) -> Diagnosis:
    from zoo.core.npy import open_rows
    from zoo.diagnosis.diagnosis import diagnose

    return diagnose(open_rows(name), neighbours=arguments.rows, seed=arguments.seed, name=Path(name).name)


def _diagnose_views(references: Sequence[str], arguments: argparse.Namespace) -> Found:
    """Diagnose each model at each combination of the options of `--across`, or at the one view that is asked for."""
    if not arguments.data:
        raise ZooError(
            "--data: give a file of inputs, for example --data texts.csv; a thousand rows or more say something"
        )
    inputs = _read_inputs(arguments)
    labelled = _read_labelled(arguments) if arguments.labels else None
    from zoo.diagnosis.diagnosis import diagnose
    from zoo.diagnosis.labelled import score_views
    from zoo.diagnosis.of_encoder import FloatVectors
    from zoo.diagnosis.ordering import identify

    views: dict[str, Encoder] = {}
    for reference in references:
        views |= _open_views(reference, arguments, is_alone=len(references) == 1)
    attention = _diagnose_attention(views, inputs) if arguments.attention else {}
    found = [
        diagnose(FloatVectors(view), inputs, neighbours=arguments.rows, seed=arguments.seed, name=name)
        for name, view in views.items()
    ]
    scores = score_views(views, *labelled, seed=arguments.seed) if labelled else None
    return found, [identify(view) for view in views.values()], scores, attention


def _diagnose_attention(views: Mapping[str, Encoder], inputs: Sequence[Any]) -> dict[str, AttentionDiagnosis]:
    from zoo.diagnosis.attention import diagnose_attention

    return {name: diagnose_attention(view, inputs) for name, view in views.items()}


def _open_views(reference: str, arguments: argparse.Namespace, *, is_alone: bool) -> dict[str, Encoder]:
    """Open a model, or the model of a run folder, at each combination of the options of `--across`, by name."""
    from zoo.cli import views

    inner = Path(reference) / "model"
    model = str(inner) if inner.is_dir() and not (Path(reference) / "config.json").exists() else reference
    encoder = views.open_encoder(argparse.Namespace(**{**vars(arguments), "model": model}))
    combined = [encoder.spec.check_view({**encoder.view_options, **more}) for more in _combine(arguments.across)]
    together = encoder.views_sharing_a_pass(combined) if arguments.across else [encoder]
    opened = {}
    for view in together:
        shown = ", ".join(f"{key}={value}" for key, value in view.view_options.items())
        name = shown or "the whole encoder"
        opened[name if is_alone else f"{reference}: {shown}" if shown else reference] = view
    return opened


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


def _read_labelled(arguments: argparse.Namespace) -> tuple[list[Any], list[Any]]:
    """Read labelled inputs. Raises DataError if there are too few, before a model is opened."""
    from zoo import data
    from zoo.data.spec import FileData
    from zoo.metrics.few_shot import choose_sizes

    columns = {"text": arguments.column, "label": arguments.label_column}
    section = FileData(source="file", path=arguments.labels, columns=columns)
    rows = data.read(section, {"text": "text", "label": "label"}, folder=Path()).rows
    choose_sizes(rows["label"])
    return list(rows["text"]), list(rows["label"])


def _read_inputs(arguments: argparse.Namespace) -> list[Any]:
    """Read the inputs, and draw the wanted number of them by the seed."""
    from zoo import data
    from zoo.data.spec import FileData
    from zoo.metrics.neighbours import draw_rows

    section = FileData(source="file", path=arguments.data, columns={"text": arguments.column})
    values = list(data.read(section, {"text": "text"}, folder=Path()).rows["text"])
    if len(values) > arguments.rows:
        say(f"{arguments.data}: {arguments.rows:,} of {len(values):,} rows are drawn")
    return [values[number] for number in draw_rows(len(values), arguments.rows, arguments.seed)]


def _combine(words: Sequence[str]) -> list[dict[str, Any]]:
    """Return the options of every view that `--across` asks for: all combinations of the values of each key."""
    combined: list[dict[str, Any]] = [{}]
    for word in words:
        key, mark, values = word.partition("=")
        if not (key and mark and values):
            raise ZooError(f"--across {word}: write KEY=V1,V2,… for example layers=2,4,6")
        combined = [{**options, key: _read_value(value)} for options in combined for value in values.split(",")]
    return combined


def _read_value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _print(found: Sequence[Diagnosis], labelled: LabelledScores | None, *, are_one: bool) -> None:
    """Print a column of figures for each diagnosis, and then its findings."""
    rows = [("vectors", *(f"{one.rows:,}" for one in found), "")]
    rows.append(("components", *(str(one.dim) for one in found), ""))
    for name, meaning in RANGES.items():
        rows.append((name, *(_format(getattr(one.spectrum, name)) for one in found), meaning))
    for name, meaning in NEIGHBOUR_RANGES.items():
        cells = [_format(getattr(one.neighbourhood, name)) if one.neighbourhood else "–" for one in found]
        rows.append((name, *cells, meaning))
    rows += _list_accuracies(found, labelled) if labelled else []
    print_table(("figure", *(one.name for one in found), "range"), rows)
    for one in found:
        prefix = f"{one.name}: " if len(found) > 1 else ""
        if not one.findings:
            write(f"{prefix}no fault was found")
        for finding in one.findings:
            write(f"{prefix}{finding}")
    if labelled:
        write(labelled.summarise())
    write(ONE_MODEL if are_one else DIFFERENT_MODELS)


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


def _list_accuracies(found: Sequence[Diagnosis], labelled: LabelledScores) -> list[tuple[str, ...]]:
    """Return a row of the table for each number of labelled rows."""
    meaning = f"{labelled.sizes.ways} classes; ± is the 95 % interval over episodes"
    rows = []
    for place, shots in enumerate(labelled.sizes.shots):
        results = [labelled.by_view[one.name][place] for one in found]
        cells = [f"{result.accuracy:.3f} ± {result.high - result.accuracy:.3f}" for result in results]
        rows.append((f"accuracy, {shots} shot", *cells, meaning))
    return rows


def _format(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"

"""The values that a card prints about the space of a model: figures without labels, by view, and along the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from zoo.card import figures, markdown
from zoo.card.run_record import Record, as_mapping, as_number, describe_view, list_diagnoses

ROWS = (
    "vendi",
    "rankme",
    "rankme_centred",
    "components_in_use",
    "intrinsic_dimension",
    "mean_cosine",
    "hubness",
    "dead_components",
    "equal_vectors",
)
"""The figures of the table, in order."""
COUNTS = ("components_in_use", "dead_components", "equal_vectors")
COLLAPSE = ("cdnv", "v_information")
"""Figures of a task `geometry` that scored the same view."""

Point = tuple[float, float]


class Space(NamedTuple):
    """The curves of one view: shares of variance by principal direction, and intrinsic dimension by neighbours."""

    name: str
    variances: list[Point]
    dimensions: list[Point]


def build_health_context(record: Record) -> dict[str, Any]:
    """Return `health`: the columns and rows of the table, and the remarks. {} if no task diagnosed the model."""
    diagnoses = list_diagnoses(record.report)
    if not diagnoses:
        return {"health": {}}
    first = diagnoses[0]
    same = [entry for entry in diagnoses if entry.get("task") == first.get("task")]
    columns = [_name_view(entry, record) for entry in same]
    rows = [row for name in ROWS if (row := _make_row(name, [as_mapping(entry.get("figures")) for entry in same]))]
    before = [as_number(entry.get("baseline")) for entry in same]
    if any(value is not None for value in before):
        rows.insert(1, ("vendi before training", *(_format("vendi", value) for value in before)))
    geometry = [_find_geometry(record, as_mapping(entry.get("view"))) for entry in same]
    rows += [row for name in COLLAPSE if (row := _make_row(name, geometry))]
    details = as_mapping(first.get("details"))
    remarks = details.get("remarks")
    return {
        "health": {
            "task": markdown.as_line(first.get("task")),
            "inputs": as_number(details.get("rows")),
            "columns": ["Figure", *columns],
            "rows": rows,
            "remarks": [markdown.as_line(remark) for remark in remarks] if isinstance(remarks, list) else [],
        }
    }


def list_spaces(record: Record) -> list[Space]:
    """Return the curves of every diagnosed view that has some."""
    spaces = []
    for entry in list_diagnoses(record.report):
        details = as_mapping(entry.get("details"))
        curves = [_read_points(details.get(name)) for name in ("variances", "dimensions")]
        if any(curves):
            spaces.append(Space(_name_view(entry, record), *curves))
    return spaces


def _read_points(value: Any) -> list[Point]:
    """Return the first two numbers of each entry that has them, above zero."""
    points = []
    for entry in value if isinstance(value, list) else ():
        numbers = [as_number(number) for number in entry[:2]] if isinstance(entry, list) else []
        if len(numbers) == 2 and all(number is not None and number > 0 for number in numbers):
            points.append((float(numbers[0] or 0), float(numbers[1] or 0)))
    return points


def _name_view(entry: Mapping[str, Any], record: Record) -> str:
    sizes = {key: record.facts[key] for key in ("layers", "dim") if as_number(record.facts.get(key))}
    return describe_view({**sizes, **as_mapping(entry.get("view"))})


def _make_row(name: str, columns: Sequence[Mapping[str, Any]]) -> tuple[Any, ...] | None:
    """Return a row of the table; None if no view has the figure."""
    values = [as_number(column.get(name)) for column in columns]
    if all(value is None for value in values):
        return None
    return (name.replace("_", " "), *(_format(name, value) for value in values))


def _format(name: str, value: float | None) -> Markup:
    if value is None:
        return markdown.DASH
    return (
        figures.format_count(value) if name in COUNTS else Markup(f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}")
    )


def _find_geometry(record: Record, view: Mapping[str, Any]) -> Mapping[str, Any]:
    results = record.report.get("results")
    for entry in map(as_mapping, results if isinstance(results, list) else []):
        if entry.get("type") == "geometry" and as_mapping(entry.get("view")) == view:
            return as_mapping(entry.get("figures"))
    return {}

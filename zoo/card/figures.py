"""Turn the figures of a record into words and tables. The templates of the cards call these functions.

Every function returns Markup, so its text is not escaped again. `HELPERS` lists their names in the templates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from zoo.card import markdown
from zoo.card.run_record import Result, Task, as_mapping, as_number, describe_view

FINGERPRINT_DIGITS = 12
MAX_OPEN_ROWS = 8
"""A table of cuts with more rows is folded away."""
MAX_NAMED_TASKS = 4


# -- numbers -----------------------------------------------------------------------------------------------------------


def format_score(value: Any, *, signed: bool = False) -> Markup:
    """Return a score with four decimals, or `not finite` if there is no finite number."""
    number = as_number(value)
    return Markup("not finite") if number is None else Markup(f"{number:+.4f}" if signed else f"{number:.4f}")


def format_count(value: Any, digits: int = 0) -> Markup:
    """Return a number with thousands separators and `digits` decimals, or a dash."""
    number = as_number(value)
    return markdown.DASH if number is None else Markup(f"{number:,.{digits}f}")


def format_percent(share: Any) -> Markup:
    """Return a share from 0 to 1 as `12.5 %`, or a dash."""
    number = as_number(share)
    return markdown.DASH if number is None else Markup(f"{100 * number:.1f} %")


def format_ratio(value: float | None, whole: float | None) -> Markup:
    """Return `value` / `whole` as `2.00×`, or a dash."""
    return Markup(f"{value / whole:.2f}\N{MULTIPLICATION SIGN}") if value and whole else markdown.DASH


def format_duration(seconds: Any) -> Markup:
    """Return seconds as `1 h 5 min`, `12 min 14 s` or `8 s`."""
    total = round(as_number(seconds) or 0)
    hours, minutes, rest = total // 3600, total // 60 % 60, total % 60
    parts = [
        f"{hours} h" if hours else "",
        f"{minutes} min" if minutes else "",
        f"{rest} s" if rest and not hours else "",
    ]
    return Markup(" ".join(part for part in parts if part) or "under 1 s")


def format_list(items: Any) -> Markup:
    """Return the escaped items as `a, b and c`, or a dash if there are none."""
    *first_items, last = [markdown.escape(item) for item in items] or [markdown.DASH]
    return Markup(" and ").join([Markup(", ").join(first_items), last]) if first_items else last


def format_parameter_range(parameters: Any) -> Markup:
    """Return the parameter counts of the deepest and the shallowest cut.

    `parameters` maps the number of layers to the number of parameters.
    """
    counts = {
        int(key): size for key, size in as_mapping(parameters).items() if str(key).isdecimal() and as_number(size)
    }
    if not counts:
        return markdown.DASH
    depths = dict.fromkeys((max(counts), min(counts)))
    return Markup(" to ".join(f"{format_count(counts[n])} ({describe_view({'layers': n})})" for n in depths))


# -- the results of a task ---------------------------------------------------------------------------------------------


def format_baseline(result: Result) -> Markup:
    """Return ` (0.4501 before training)`, or nothing if there is no baseline."""
    return Markup() if result.baseline is None else Markup(f" ({format_score(result.baseline)} before training)")


def format_range(task: Task, attribute: str = "value") -> Markup:
    """Return an attribute of the largest and of the smallest view.

    Example: `0.8123 (6 layers · 384) to 0.5765 (1 layer · 32)`.
    """

    def format_end(result: Result) -> Markup:
        value = getattr(result, attribute)
        is_score, digits = attribute == "value", 1 if attribute == "speed" else 0
        text = format_score(value) if is_score else format_count(value, digits)
        return Markup("{} ({})").format(text, markdown.escape(result.label))

    ends = Markup(" to ".join(format_end(result) for result in (task.whole, task.smallest) if result))
    return ends + Markup(f", {markdown.format_code(task.metric)}" if attribute == "value" else "")


def describe_bar(task: Task) -> Markup:
    """Say which views miss the score that the recipe asks for. Return nothing if the recipe asks for none."""
    results = [result for result in task.results if result.at_least is not None]
    if not results:
        return Markup()
    missed = [result.label for result in results if result.value is None or result.value < (result.at_least or 0.0)]
    levels = format_list(sorted({format_score(result.at_least) for result in results}))
    reached = Markup("reached by every cut it was set for")
    verdict = Markup("missed by {}").format(format_list(missed)) if missed else reached
    return Markup("The bar that the recipe sets, {}, is {}.").format(levels, verdict)


def list_task_names(tasks: Sequence[Task]) -> Markup:
    """Return the names of tasks as `a, b and c`. If there are many, the first are named and the others are counted."""
    if len(tasks) <= MAX_NAMED_TASKS:
        return format_list(task.name for task in tasks)
    names = [markdown.escape(task.name) for task in tasks[: MAX_NAMED_TASKS - 1]]
    return format_list([*names, Markup(f"{len(tasks) - len(names)} further tasks")])


def list_views(pairs: Iterable[tuple[Task, Result]]) -> list[str]:
    """Return `task (view)` for every pair."""
    return [f"{task.name} ({result.label})" for task, result in pairs]


# -- tables ------------------------------------------------------------------------------------------------------------


def make_score_table(task: Task) -> Markup:
    """Return the scores of a task as a table.

    The table is layers × dims if at least half of that grid was measured. Otherwise it has one row per view, and a long one is
    folded away.
    """
    grid = task.grid()
    if grid is None:
        return _make_view_table(task)
    depths, dims, cells = grid
    if 2 * len(cells) < len(depths) * len(dims):
        return _make_view_table(task)
    rows = [[str(depth), *(_format_cell(cells.get((depth, dim))) for dim in dims)] for depth in depths]
    return markdown.format_table(["Layers", *(f"{dim} dims" for dim in dims)], rows)


def _make_view_table(task: Task) -> Markup:
    has_baselines = any(result.baseline is not None for result in task.results)
    header = ["Cut", "Score", *(["Before training", "Gain"] if has_baselines else [])]
    rows = []
    for result in task.results:
        baseline = [_format_or_dash(result.baseline), _format_or_dash(result.gain, signed=True)]
        rows.append([result.label, format_score(result.value), *(baseline if has_baselines else [])])
    table = markdown.format_table(header, rows)
    if len(rows) <= MAX_OPEN_ROWS:
        return table
    return Markup(f"<details><summary>Every cut that was measured</summary>\n\n{table}\n\n</details>")


def make_baseline_table(task: Task) -> Markup:
    """Return the scores of the free baselines, the best first."""
    rows = [(name, format_score(value)) for name, value in task.free_baselines]
    return markdown.format_table(["Free baseline", "Score"], rows)


def _format_cell(result: Result | None) -> Markup:
    if result is None:
        return markdown.DASH
    baseline = "" if result.baseline is None else f" ({format_score(result.baseline)})"
    return Markup(f"**{format_score(result.value)}**{baseline}")


def _format_or_dash(value: float | None, *, signed: bool = False) -> Markup:
    return markdown.DASH if value is None else format_score(value, signed=signed)


def make_figure_table(figures: Mapping[str, Any], **others: Mapping[str, Any]) -> Markup:
    """Return a table of figures by name. `others` are the same figures of other models, with their headings."""
    rows = []
    for name in figures:
        columns = (figures, *others.values())
        cells = [format_score(column.get(name)) if name in column else markdown.DASH for column in columns]
        rows.append([name.replace("_", " "), *cells])
    return markdown.format_table(["Figure", "This model" if others else "Value", *others], rows)


def make_cost_table(task: Task, parameters: Any, unit: str = "Sentences") -> Markup:
    """Return what each view costs: speed, storage, parameters and memory.

    `parameters` maps the number of layers to the number of parameters; it may be missing.
    """
    counts, whole = as_mapping(parameters), task.whole
    rows = []
    for result in task.results:
        parameter_count = format_count(counts.get(str(result.corner.get("layers"))))
        speed = [format_count(result.speed, 1), format_ratio(result.speed, whole.speed)]
        cost = [*speed, format_count(result.size), parameter_count, format_count(result.memory)]
        rows.append([result.label, format_score(result.value), *cost])
    header = ["Cut", "Score", f"{unit}/s", "Speed", "Bytes per vector", "Parameters", "Peak memory, MB"]
    return markdown.format_table(header, rows)


def make_data_table(data_sets: Sequence[Mapping[str, Any]]) -> Markup:
    """Return a table of the data sets: origin, licence, fingerprint, number of rows and of skipped rows."""
    rows = [
        (
            data_set["role"],
            markdown.format_link(data_set["name"], data_set["url"]),
            data_set["licence"] or "not stated",
            markdown.format_code(data_set["fingerprint"][:FINGERPRINT_DIGITS]),
            format_count(data_set["rows"]),
            format_count(data_set["skipped"]),
        )
        for data_set in data_sets
    ]
    return markdown.format_table(["For", "Data", "Licence", "Fingerprint", "Rows", "Skipped"], rows, left=4)


HELPERS = {
    "advice": markdown.format_advice,
    "baselines": make_baseline_table,
    "bar": describe_bar,
    "before": format_baseline,
    "code": markdown.format_code,
    "costs": make_cost_table,
    "count": format_count,
    "data_table": make_data_table,
    "duration": format_duration,
    "fence": markdown.format_fence,
    "figures": make_figure_table,
    "link": markdown.format_link,
    "listing": format_list,
    "number": as_number,
    "paragraphs": markdown.escape_paragraphs,
    "parameter_range": format_parameter_range,
    "percent": format_percent,
    "span": format_range,
    "row": markdown.format_row,
    "score": format_score,
    "scores": make_score_table,
    "table": markdown.format_table,
    "task_names": list_task_names,
    "times": format_ratio,
    "view_names": list_views,
}
"""The functions that a template can call, by their names there."""

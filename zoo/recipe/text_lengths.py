"""Count the texts of a recipe's data that are longer than its encoder reads, for `zoo check`. Imports no torch."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

from zoo import data
from zoo.core.errors import DataError
from zoo.data.spec import BuiltinData
from zoo.recipe.recipe import Recipe
from zoo.recipe.role_sources import list_sections
from zoo.text import long_texts, spelled_words

MOST_ROWS = 20_000  # of a data section that are read, so that `zoo check` answers soon


class Report(NamedTuple):
    """Lines about text lengths: what is good or could not be counted, and warnings about texts that are cut."""

    notes: list[str]
    warnings: list[str]


def describe(recipe: Recipe[Any]) -> Report:
    """Count the long texts of every data section. Nothing is said about a family without a limit in tokens."""
    limit = recipe.encoder.text_limit
    if limit is None:
        return Report([], [])
    counter = long_texts.open_counter(limit, recipe.folder)
    if isinstance(counter, str):
        return Report([f"lengths: not counted, because {counter}"], [])
    report, counts = Report([], []), []
    training = recipe.data if isinstance(recipe.data, tuple) else (recipe.data,)
    for place, source, required, optional in list_sections(recipe):
        if isinstance(source, BuiltinData):  # it ships with a package, takes seconds to read, and `zoo train` counts it
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the check of all rows gives them
                found = data.read_texts(source, {**required, **optional}, folder=recipe.folder, most=MOST_ROWS)
        except DataError as error:
            report.notes.append(f"lengths of {place}: not counted, because of {error.problems[0]}")
            continue
        if found is None:
            report.notes.append(f"lengths of {place}: not counted, because its rows are on the Hub")
            continue
        columns, rows = found
        first = f"; only the first {MOST_ROWS:,} rows were read" if rows > MOST_ROWS else ""
        texts = long_texts.list_texts(columns, counter.prompts, place)
        if any(source is entry for entry in training):
            spelled = counter.measure_spelled(texts)
            if recipe.encoder.learns_vocabulary(spelled):
                return Report(["lengths: not counted, because the tokens are learned from the training texts"], [])
            if spelled > spelled_words.MANY:
                what = spelled_words.describe(spelled, limit.backbone)
                report.warnings.append(f"{place}: {what}; {spelled_words.ADVICE}")
        count = counter.count(place, texts)
        counts.append(count)
        if count.long:
            report.warnings.append(f"{count}{first}; {counter.advise(limit.field, has_windows=limit.has_windows)}")
    counted, total = (sum(getattr(count, name) for count in counts) for name in ("counted", "texts"))
    if counted and not report.warnings:
        drawn = f", drawn of the first {total:,}," if total > counted else ""
        report.notes.append(f"lengths: all {counted:,} texts{drawn} are within {counter.limit:,} tokens")
    return report

"""The verb `zoo search`: find the rows of an index that are nearest to a text."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from zoo.core.errors import ZooError
from zoo.core.output import get_stdin, write
from zoo.core.tables import print_table

if TYPE_CHECKING:
    from zoo.index.index import Index
    from zoo.index.opened import Hit

MOST_COLUMNS = 4
LONGEST_CELL = 40
CONCEPTS = 3


def add_verb(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the verb and its options to the parser of all verbs."""
    verb = add("search", run, "search an index: zoo search DIR \"text\" --where 'year >= 2020'")
    verb.add_argument("index", metavar="DIR", help="the folder of an index that `zoo index` built")
    verb.add_argument("queries", nargs="*", metavar="TEXT", help="what to find; without any, lines of stdin")
    verb.add_argument("-k", "--top", type=int, default=10, help="rows for each text (default: 10)")
    verb.add_argument(
        "--where", metavar="CONDITION", help='search only rows with, for example, year >= 2020 and lang = "en"'
    )
    verb.add_argument(
        "--hybrid",
        nargs="?",
        const="rank",
        metavar="rank|relevance",
        help="join the ranking with that of BM25: by ranks (the default), or by the map that --fit-hybrid of `zoo index` fitted",
    )
    verb.add_argument(
        "--relevant",
        action="store_true",
        help="only rows above the threshold of the model's step `relevance`, or of the map of --hybrid relevance",
    )
    verb.add_argument("--explain", action="store_true", help="show why a row was found: concepts, or words in common")
    verb.add_argument("--columns", nargs="+", metavar="COLUMN", help="columns to show (default: the first few)")
    verb.add_argument("--model", help="open the index with this model, which must be the one that built it")
    verb.add_argument(
        "--bridge", metavar="FILE", help="a file of `zoo bridge`: its new model asks the index of the old one"
    )
    verb.add_argument("--json", action="store_true", help="print one JSON object for each text")


def run(arguments: argparse.Namespace) -> None:
    """`zoo search`: print the best rows for each text."""
    from zoo.index.index import Index

    hybrid, queries = _split_hybrid(arguments.hybrid, arguments.queries)
    index = Index.open(arguments.index, arguments.model, arguments.bridge)
    columns = _choose_columns(index, arguments.columns)
    index.find_rows(arguments.where)  # a mistake is found before the model is opened
    options = {"where": arguments.where, "hybrid": hybrid, "relevant": arguments.relevant}
    for number, query in enumerate(queries or _read_queries()):
        value = _read_query(index, query)
        (hits,) = index.search([value], arguments.top, **options)
        reasons = [_explain(index, query, hit) for hit in hits] if arguments.explain else None
        if arguments.json:
            write(json.dumps(_to_json(query, hits, reasons), ensure_ascii=False))
        else:
            has_title = len(queries) != 1
            _print_hits(query, hits, columns, reasons, title=query if has_title else "", gap=number > 0)


def _split_hybrid(value: str | None, queries: list[str]) -> tuple[bool | str, list[str]]:
    """Return how rankings are joined, and the queries. A text right after `--hybrid` is a query, for it needs no value."""
    from zoo.index.answers import HYBRID

    if value is None or value in HYBRID:
        return value or False, queries
    return HYBRID[0], [value, *queries]


def _read_queries() -> Iterator[str]:
    """Yield the lines of stdin that are not empty."""
    return (line.strip() for line in get_stdin() if line.strip())


def _read_query(index: Index, query: str) -> Any:
    """Return what the encoder gets: the text, or for an encoder of images alone the bytes of the file that is named."""
    if "text" in index.encoder.modalities:
        return query
    from pathlib import Path

    from zoo.core import faults

    with faults.as_error_of_file(query, cure="an encoder of images takes the path of an image as the query"):
        return Path(query).read_bytes()


def _choose_columns(index: Index, names: Sequence[str] | None) -> list[str]:
    from zoo.core.suggest import suggest

    layout = index.model.layout
    if names is None:
        hidden = {*layout.texts, layout.image, layout.id}
        return [name for name in layout.columns if name not in hidden][:MOST_COLUMNS]
    for name in names:
        if name not in layout.columns:
            raise ZooError(f"--columns: there is no column {name!r}{suggest(name, layout.columns)}")
    return list(names)


def _explain(index: Index, query: str, hit: Hit) -> str:
    """Return the concepts that add most to the score if the model has any, or else the words in common."""
    from zoo.index import snippets

    if hasattr(index.encoder, "explain") and hit.text:
        parts = index.encoder.explain(query, hit.text, CONCEPTS).parts
        return ", ".join(f"{part.name} {part.value:.2f}" for part in parts)
    return ", ".join(snippets.list_shared_words(hit.text, query))


def _print_hits(
    query: str, hits: Sequence[Hit], columns: Sequence[str], reasons: Sequence[str] | None, *, title: str, gap: bool
) -> None:
    from zoo.index import snippets

    has_probability = any(hit.probability is not None for hit in hits)
    has_place = any(hit.place is not None for hit in hits)
    header = ["score", *["probability"] * has_probability, "id", "text", *["characters"] * has_place]
    header += [*columns, *["why"] * (reasons is not None)]
    rows = []
    for number, hit in enumerate(hits):
        cells = [f"{hit.score:.4f}"]
        if has_probability:
            cells.append("" if hit.probability is None else f"{hit.probability:.3f}")
        cells += [hit.id, snippets.make_snippet(hit.text, query, hit.place)]
        if has_place:
            cells.append("" if hit.place is None else f"{hit.place[0]}-{hit.place[1]}")
        cells += [_format_cell(hit.row.get(name)) for name in columns]
        rows.append([*cells, *([] if reasons is None else [reasons[number]])])
    if not rows:
        write(f"{title}: nothing was found" if title else "nothing was found")
        return
    print_table(header, rows, title=title, gap=gap)


def _format_cell(value: Any) -> str:
    if value is None:
        return ""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL - 1]}…"


def _to_json(query: str, hits: Sequence[Hit], reasons: Sequence[str] | None) -> dict[str, Any]:
    found = [hit.describe() for hit in hits]
    for entry, reason in zip(found, reasons or (), strict=False):
        entry["why"] = reason
    return {"query": query, "hits": found}

"""Sort the files of the command line: training rows, test rows, topics with keywords, a folder of images, retrieval data."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.core.errors import DataError, ZooError
from zoo.starter import retrieval
from zoo.starter.columns import Column
from zoo.starter.look import Table, look, refuse_missing

TEST_NAMES = re.compile(r"(?:^|[^a-z])(test|eval|dev|val|valid|validation)(?:[^a-z]|$)")
SEPARATORS = re.compile(r"[,;|]")


@dataclass
class Materials:
    """The files of the command line by their use.

    Attributes:
        main: the training rows.
        more: further files of training rows.
        test: rows for the evaluation, or None if they have to be held out.
        topics: keywords of each topic.
        images: the folder where paths of images start, or None for the folder of the table.
        evaluation: sections of a task that were made from retrieval data, or {}.
        notes: what was written beside the recipe.
    """

    main: Table
    more: list[Table] = field(default_factory=list)
    test: Table | None = None
    topics: dict[str, tuple[str, ...]] = field(default_factory=dict)
    images: Path | None = None
    retrieval_data: retrieval.RetrievalData | None = None


def gather(files: Sequence[Path], out: Path, *, force: bool) -> Materials:
    """Look at the files. Raise ZooError for files that do not fit together.

    Retrieval data is joined into a file of pairs beside `out`.
    """
    for path in files:
        refuse_missing(path)
    if len(files) == 1 and retrieval.is_retrieval_folder(files[0]):
        data = retrieval.write_pairs(files[0], out, force=force)
        return Materials(look(data.pairs), retrieval_data=data)
    image_folders = [path for path in files if path.is_dir() and len(files) > 1 and _holds_images_only(path)]
    tables = [look(path) for path in files if path not in image_folders]
    if not tables:
        raise ZooError(f"{files[0]} and {files[1]}: are folders of images; put both into one folder, and give that")
    topics = [table for table in tables if _find_keywords(table) is not None]
    others = [table for table in tables if table not in topics]
    if not others:
        raise ZooError(
            f"{topics[0].path}: holds topics and keywords; give the file of texts as well: zoo init texts.csv {topics[0].path}"
        )
    (main, *more), test = _choose_main(others)
    if more and topics:
        raise ZooError(f"{main.path} and {more[0].path}: topics need one file of texts; put the texts into one")
    materials = Materials(main, more, test, images=image_folders[0] if image_folders else None)
    for table in topics:
        materials.topics |= read_topics(table)
    return materials


def _holds_images_only(path: Path) -> bool:
    try:
        return look(path).is_folder_of_images
    except DataError:
        return False


def _choose_main(tables: Sequence[Table]) -> tuple[list[Table], Table | None]:
    """Return the files of training rows and that of test rows, which its name tells apart."""
    if len(tables) == 1:
        return list(tables), None
    paths = [table.path.absolute() for table in tables]
    twice = next((path for number, path in enumerate(paths) if path in paths[:number]), None)
    if twice is not None:
        raise ZooError(f"{twice}: is given twice; give each file once")
    tests = [table for table in tables if TEST_NAMES.search(table.path.stem.lower())]
    trains = [table for table in tables if table not in tests]
    if not trains or len(tests) > 1:
        names = ", ".join(str(table.path) for table in tests)
        raise ZooError(
            f"{names}: which of them are training rows? Give those, and at most one file with test in its name"
        )
    for test in tests:
        missing = [[name for name in table.names if name not in test.names] for table in trains]
        if all(missing):
            raise ZooError(
                f"{test.path}: lacks the column {missing[0][0]!r} of {trains[0].path}; give both the same columns"
            )
    return trains, tests[0] if tests else None


# -- topics --------------------------------------------------------------------------------------------------------------


def _find_keywords(table: Table) -> tuple[Column, Column] | None:
    """Return the columns of topics and of their keywords, or None if this is another table."""
    words = [c for c in table.columns if c.is_named("keywords") and c.content in ("text", "texts")]
    names = [column for column in table.columns if column not in words and column.content in ("text", "whole")]
    names.sort(key=lambda column: not column.is_named("label"))
    if not words or not names or len(table.columns) > 3:
        return None
    return names[0], words[0]


def read_topics(table: Table) -> dict[str, tuple[str, ...]]:
    """Return the keywords of each topic. A cell holds them with commas between, or as a JSON list.

    Raise DataError for a row without keywords, and for a single topic.
    """
    found = _find_keywords(table)
    assert found is not None
    names, words = found
    topics: dict[str, tuple[str, ...]] = {}
    for number, row in enumerate(table.rows, 1):
        keywords = split_keywords(row.get(words.name))
        name = str(row.get(names.name) or "").strip()
        if not name or not keywords:
            raise DataError(
                f'{table.path}:row {number}: needs a topic and its keywords, for example: sport,"ball,goal,team"'
            )
        topics[name] = tuple(dict.fromkeys((*topics.get(name, ()), *keywords)))
    if len(topics) < 2:
        raise DataError(f"{table.path}: has one topic, and two are needed at least; add a row for each topic")
    return topics


def split_keywords(value: Any) -> list[str]:
    """Return the keywords of a cell."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            value = value.strip().strip("[]")
    items = value if isinstance(value, list | tuple) else SEPARATORS.split(str(value or ""))
    return [word for item in items if (word := str(item).strip().strip("'\""))]

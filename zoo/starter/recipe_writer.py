"""`zoo init`: from files to a recipe that trains, with everything that was unsure as a comment."""

from __future__ import annotations

import itertools
import json
import os
import statistics
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.core import atomic_files, output_paths
from zoo.core.errors import DataError, ZooError
from zoo.data.formats import image_files
from zoo.families import starters
from zoo.families.starters import Facts, Shape
from zoo.recipe import recipe
from zoo.recipe.recipe import Recipe
from zoo.starter import several, shapes
from zoo.starter.draft import Draft, Drafting, make_name
from zoo.starter.materials import Materials, gather
from zoo.starter.shapes import Finding, Goal
from zoo.starter.template import WIDTH, render

Say = Callable[[str], None]
SEEN_IMAGES = 50
DRAWN_ROWS = 2_000  # for the timing, of data that is not read as a whole
TITLES: dict[Shape, str] = {
    "pairs": "pairs of texts that belong together",
    "triplets": "texts with a right and a wrong answer",
    "scored-pairs": "pairs of texts with a score",
    "labels": "texts with a label",
    "texts": "texts without labels",
    "topics": "texts to be sorted by topics from keywords",
    "images": "images with a class",
    "captions": "images with a caption",
    "vectors": "vectors of another model",
}


def write_recipe(
    files: Sequence[Path],
    out: Path,
    *,
    goal: Goal | None = None,
    force: bool = False,
    times_steps: bool = True,
    say: Say = lambda _: None,
) -> Path:
    """Write a recipe for the data in `files` to `out`, and return its path. Raise ZooError, with what to do, if it cannot.

    Args:
        goal: what the model is for. Default: what the columns suggest.
        force: replace a recipe that is there already.
        times_steps: train a few steps on the first rows, to estimate time and memory.
        say: prints a line about what was found and what was unsure.
    """
    if os.path.lexists(out) and not force:
        raise ZooError(f"{out} is there already; give --force to write it anew, or another file with --out")
    output_paths.check_file(out)
    materials = gather(files, out, force=force)
    finding = _find(materials, goal)
    facts = _collect_facts(materials, finding)
    out.parent.mkdir(parents=True, exist_ok=True)  # relative paths start there
    if materials.more:
        draft = several.write_drafts(materials, facts, goal, out.parent, make_name(files[0]))
    else:
        starter = starters.make_starter(finding.shape, facts)
        draft = Drafting(materials, finding, starter, out.parent).write(make_name(files[0]))
    tables = [materials.main, *materials.more]
    count = sum(table.count for table in tables)
    names = ", ".join(table.path.name or str(table.path) for table in tables) if materials.more else files[0].name
    what = f"{count:,} rows of {names or files[0]}: {TITLES[finding.shape]}"
    say(what)
    text = _render(what, draft, "", out)
    loaded = recipe.loads(text, folder=out.parent, file=str(out))
    estimate = ""
    if times_steps:
        say("timing a few steps")
        estimate = _estimate(loaded, draft, count)
        text = _render(what, draft, estimate, out)
    atomic_files.write_text(out, text)
    for doubt in draft.doubts:
        say(f"not sure: {doubt}")
    if estimate:
        say(estimate)
    return out


def _find(materials: Materials, goal: Goal | None) -> Finding:
    """Return the shape, with topics if there are keywords. Raise DataError if the goal does not fit."""
    if materials.retrieval_data is not None:
        columns = {"anchor": "query", "positive": "document"}
        if goal not in (None, "retrieval"):
            raise DataError(
                f"{materials.retrieval_data.folder}: --goal {goal} does not fit queries and documents; use retrieval"
            )
        return Finding("pairs", columns)
    has_topics = bool(materials.topics)
    if has_topics and goal not in (None, "topics"):
        raise DataError(
            f"--goal {goal} does not fit topics with keywords; leave it out, or leave out the file of keywords"
        )
    finding = shapes.find_shape(materials.main, "topics" if has_topics else goal)
    if finding.shape == "topics" and not has_topics:
        materials.topics = _name_topics(materials, finding)
    return finding


def _name_topics(materials: Materials, finding: Finding) -> dict[str, tuple[str, ...]]:
    """Return each label with its own name as the keyword. Raise DataError if there are no labels."""
    label = finding.columns.get("label")
    if label is None:
        raise DataError(
            f"{materials.main.path}: --goal topics needs keywords; give a second file with the columns label and keywords, for "
            'example sport,"ball,goal,team"'
        )
    finding.doubts.append(f"the keywords are the names in {label}; add words that are typical of each topic")
    names = sorted({str(value) for value in materials.main.find_column(label).values})
    return {name: (name.replace("_", " ").replace("-", " "),) for name in names}


def _collect_facts(materials: Materials, finding: Finding) -> Facts:
    table = materials.main
    text = finding.columns.get("text")
    words = table.find_column(text).words if text else 0.0
    vector = finding.columns.get("vector")
    side, is_grey = _look_at_images(materials, finding)
    return Facts(
        rows=table.count,
        words=words,
        side=side,
        is_grey=is_grey,
        width=_count_components(table.find_column(vector).values[0]) if vector else 0,
        topics=materials.topics,
    )


def _count_components(value: Any) -> int:
    """Return the components of a vector, which a csv file holds as JSON."""
    return len(json.loads(value)) if isinstance(value, str) else len(value)


def _look_at_images(materials: Materials, finding: Finding) -> tuple[int, bool]:
    """Return the median longer side of some images, and whether all are grey. Bad images are left to the check of rows."""
    if finding.shape != "images":
        return 32, False
    table = materials.main
    sides, is_grey = [], True
    rows = table.rows[:: max(1, len(table.rows) // SEEN_IMAGES)]
    for row in itertools.islice(rows, SEEN_IMAGES):
        content = _read_image(materials, row, finding.columns["image"])
        if content is None:
            continue
        try:
            image = image_files.decode_image(content)
        except ValueError:
            continue
        sides.append(max(image.size))
        is_grey = is_grey and image.mode in ("1", "L", "LA", "I", "I;16")
    return (round(statistics.median(sides)), is_grey) if sides else (32, False)


def _read_image(materials: Materials, row: Mapping[str, Any], name: str) -> bytes | None:
    value = row.get(name)
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return value
    table = materials.main
    base = materials.images or (table.path if table.path.is_dir() else table.path.parent)
    relative = row.get("path") if table.is_folder_of_images else value
    try:
        return (base / str(relative)).read_bytes()
    except OSError:
        return None


def _estimate(loaded: Recipe[Any], draft: Draft, count: int) -> str:
    """Return a sentence about time and memory, by rows of the first source.

    Rows that are too many to be in memory are drawn. `count` is the number of rows of all sources.
    """
    from zoo import data
    from zoo.starter import timing  # imports torch

    rows = draft.rows
    if rows is None:
        whole: Any = loaded.data[0] if isinstance(loaded.data, tuple) else loaded.data
        section = whole.model_copy(update={"holdout": None, "limit": DRAWN_ROWS})
        rows = data.read(section, *loaded.encoder.roles(), folder=loaded.folder).rows
    elif not isinstance(loaded.data, tuple):
        count = len(rows)
    return timing.estimate(loaded, rows, count - draft.held_out)


def _render(what: str, draft: Draft, estimate: str, out: Path) -> str:
    header = _write_header(what, draft, estimate, out)
    return render(header, draft.values, draft.comments)


def _write_header(what: str, draft: Draft, estimate: str, out: Path) -> list[str]:
    paragraphs = [f"zoo train {out.name}", f"Written by zoo init. {what[0].upper()}{what[1:]}."]
    if draft.doubts:
        paragraphs += ["", "Not sure, so please check:", *(f"- {doubt}" for doubt in draft.doubts)]
    if estimate:
        paragraphs += ["", estimate]
    return [line for text in paragraphs for line in _wrap(text)]


def _wrap(text: str) -> list[str]:
    indent = "  " if text.startswith("- ") else ""
    return textwrap.wrap(text, WIDTH - 2, subsequent_indent=indent, break_long_words=False) or [""]

"""ICD-10-CM, the classification of diagnoses: phrases for a diagnosis, its official description, its place in the tree.

    terms           one row an inclusion term, a phrase that coders accept for a code (12,567): term, description, …
    descriptions    every description that has an inclusion term, once (6,800): the candidates for `terms`
    categories      the three-character categories as documents (1,918): text, description, …
    tree            blocks and then chapters, as a list of concepts with their parents: id, name, parent

Every other table has code, block, block_name, chapter and chapter_name. A term stands once per description, and not at
all if it says what the description says; a few terms (28) belong to several descriptions. Equal descriptions of two
codes keep the first code. White space is collapsed. The order is that of the classification; counts are of April 2026.

Read from the XML that the package simple-icd-10-cm ships, without importing its code, which takes three times as long.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from zoo.core.errors import DataError
from zoo.data.table import Origin

_TREE = ("code", "block", "block_name", "chapter", "chapter_name")
TABLES = {
    "terms": ("term", "description", *_TREE),
    "descriptions": ("description", *_TREE),
    "categories": ("text", "description", *_TREE),
    "tree": ("id", "name", "parent"),
}


def origin() -> Origin:
    """Raises DataError when simple-icd-10-cm is not installed."""
    release = _file().stem.removeprefix("icd10c-tabular-")
    return Origin(
        "ICD-10-CM",
        f"{release} (simple-icd-10-cm {metadata.version('simple-icd-10-cm')})",
        "public domain",
        "https://www.cdc.gov/nchs/icd/icd-10-cm/",
        "National Center for Health Statistics: International Classification of Diseases, Tenth Revision, Clinical "
        "Modification (ICD-10-CM)",
    )


def rows(table: str) -> list[dict[str, Any]]:
    """The rows of one of TABLES. Raises DataError when simple-icd-10-cm is not installed."""
    return _tables(_file())[table]


def _file() -> Path:
    spec = importlib.util.find_spec("simple_icd_10_cm")  # found, not run
    folders = spec.submodule_search_locations if spec else None
    found = [path for folder in folders or () for path in sorted(Path(folder).glob("data/*tabular*.xml"))]
    if not found:
        raise DataError(
            "builtin data icd10cm: the package simple-icd-10-cm is not installed; "
            'pip install "embedding-zoo[quickstart]"'
        )
    return found[0]


@functools.lru_cache(maxsize=1)  # a recipe reads several tables of the same ten megabytes of XML
def _tables(path: Path) -> dict[str, list[dict[str, Any]]]:
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    terms, descriptions = set(), set()
    blocks: dict[str, tuple[str, str]] = {}
    chapters: dict[str, str] = {}
    for code, tree in _diagnoses(path):
        description = _words(code.find("desc"))
        blocks.setdefault(tree["block"], (tree["block_name"], tree["chapter"]))
        chapters.setdefault(tree["chapter"], tree["chapter_name"])
        mine = _notes(code, "inclusionTerm")
        if len(tree["code"]) == 3:
            parts = [description, *mine, *_notes(code, "includes"), *_notes(code, "notes")]
            parts += [_words(child.find("desc")) for child in code.findall("diag")]
            text = ". ".join(part.rstrip(".") for part in dict.fromkeys(parts))
            tables["categories"].append({"text": f"{text}.", "description": description, **tree})
        mine = [term for term in mine if term.casefold() != description.casefold()]
        for term in mine:
            if (term, description) not in terms:
                terms.add((term, description))
                tables["terms"].append({"term": term, "description": description, **tree})
        if mine and description not in descriptions:
            descriptions.add(description)
            tables["descriptions"].append({"description": description, **tree})
    tables["tree"] = [{"id": block, "name": name, "parent": above} for block, (name, above) in blocks.items()]
    tables["tree"] += [{"id": chapter, "name": name, "parent": None} for chapter, name in chapters.items()]
    return tables


def _diagnoses(path: Path) -> Iterator[tuple[ElementTree.Element, dict[str, str]]]:
    """Every code with its place, category before subcategory; a chapter's memory is freed before the next is read."""
    try:
        for _, chapter in ElementTree.iterparse(path):
            if chapter.tag != "chapter":
                continue
            for section in chapter.findall("section"):
                place = {
                    "block": section.get("id", ""),
                    "block_name": _title(section),
                    "chapter": _words(chapter.find("name")),
                    "chapter_name": _title(chapter),
                }
                for code in section.iter("diag"):
                    yield code, {"code": _words(code.find("name")), **place}
            chapter.clear()
    except (ElementTree.ParseError, OSError) as error:
        raise DataError(f"{path}: cannot be read ({error}); reinstall simple-icd-10-cm") from None


def _words(node: ElementTree.Element | None) -> str:
    return " ".join((node.text or "").split()) if node is not None else ""


def _title(node: ElementTree.Element) -> str:
    """A chapter's or block's description without its range of codes in brackets."""
    return re.sub(r" \([A-Z]\w\w(-[A-Z]\w\w)?\)$", "", _words(node.find("desc")))


def _notes(code: ElementTree.Element, kind: str) -> list[str]:
    return [words for field in code.findall(kind) for note in field.iter("note") if (words := _words(note))]

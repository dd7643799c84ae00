"""ICD-10-CM, the classification of diagnoses: phrases for a diagnosis, its official description, its place in the tree.

    terms           one row per inclusion term, a phrase that coders accept for a code (12,567): term, description, …
    descriptions    every description that has an inclusion term, once (6,800): the candidates for `terms`
    categories      the three-character categories as documents (1,918): text, description, …
    tree            blocks and then chapters, as a list of concepts with their parents: id, name, parent

Every table but `tree` also has code, block, block_name, chapter and chapter_name. A term appears once per description, and not
at all if it equals the description; 28 terms belong to several descriptions. If two codes have the same description, the first
code is kept. White space is collapsed. The order is that of the classification; the counts are of April 2026.

The rows come from the XML that the package simple-icd-10-cm ships. The package is not imported, because its code takes three
times as long to read the file.
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

from zoo.core.errors import DataError, first_line
from zoo.data.raw_rows import Origin

EXTRA: str | None = "quickstart"
_TREE = ("code", "block", "block_name", "chapter", "chapter_name")
TABLES = {
    "terms": ("term", "description", *_TREE),
    "descriptions": ("description", *_TREE),
    "categories": ("text", "description", *_TREE),
    "tree": ("id", "name", "parent"),
}


def describe_origin() -> Origin:
    """Return the origin and its release. Raise DataError if simple-icd-10-cm is not installed."""
    release = _find_xml().stem.removeprefix("icd10c-tabular-")
    return Origin(
        name="ICD-10-CM",
        revision=f"{release} (simple-icd-10-cm {metadata.version('simple-icd-10-cm')})",
        licence="public domain",
        url="https://www.cdc.gov/nchs/icd/icd-10-cm/",
        citation="National Center for Health Statistics: International Classification of Diseases, Tenth Revision, Clinical "
        "Modification (ICD-10-CM)",
    )


def read_rows(table: str) -> list[dict[str, Any]]:
    """Return the rows of one of TABLES. Raise DataError if simple-icd-10-cm is not installed."""
    return _read_tables(_find_xml())[table]


def _find_xml() -> Path:
    spec = importlib.util.find_spec("simple_icd_10_cm")  # does not import the package
    folders = spec.submodule_search_locations if spec else None
    files = [path for folder in folders or () for path in sorted(Path(folder).glob("data/*tabular*.xml"))]
    if not files:
        raise DataError(
            "builtin data icd10cm: the package simple-icd-10-cm is not installed; "
            'pip install "embedding-zoo[quickstart]"'
        )
    return files[0]


@functools.lru_cache(maxsize=1)  # a recipe reads several tables of the same ten megabytes of XML
def _read_tables(path: Path) -> dict[str, list[dict[str, Any]]]:
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    seen_terms, seen_descriptions = set(), set()
    blocks: dict[str, tuple[str, str]] = {}
    chapters: dict[str, str] = {}
    for diagnosis, place in _iterate_diagnoses(path):
        blocks.setdefault(place["block"], (place["block_name"], place["chapter"]))
        chapters.setdefault(place["chapter"], place["chapter_name"])
        description = _get_text(diagnosis.find("desc"))
        all_terms = _get_notes(diagnosis, "inclusionTerm")
        if len(place["code"]) == 3:
            text = _describe_category(diagnosis, description, all_terms)
            tables["categories"].append({"text": text, "description": description, **place})
        terms = [term for term in all_terms if term.casefold() != description.casefold()]
        for term in terms:
            if (term, description) not in seen_terms:
                seen_terms.add((term, description))
                tables["terms"].append({"term": term, "description": description, **place})
        if terms and description not in seen_descriptions:
            seen_descriptions.add(description)
            tables["descriptions"].append({"description": description, **place})
    tables["tree"] = [{"id": block, "name": name, "parent": chapter} for block, (name, chapter) in blocks.items()]
    tables["tree"] += [{"id": chapter, "name": name, "parent": None} for chapter, name in chapters.items()]
    return tables


def _describe_category(category: ElementTree.Element, description: str, terms: list[str]) -> str:
    """Return a document: the description of a category, its terms and notes, and the descriptions of its subcategories."""
    parts = [description, *terms, *_get_notes(category, "includes"), *_get_notes(category, "notes")]
    parts += [_get_text(subcategory.find("desc")) for subcategory in category.findall("diag")]
    text = ". ".join(part.rstrip(".") for part in dict.fromkeys(parts))
    return f"{text}."


def _iterate_diagnoses(path: Path) -> Iterator[tuple[ElementTree.Element, dict[str, str]]]:
    """Yield every code with its place in the tree, a category before its subcategories.

    The memory of a chapter is freed before the next chapter is read.
    """
    try:
        for _, chapter in ElementTree.iterparse(path):
            if chapter.tag != "chapter":
                continue
            for section in chapter.findall("section"):
                place = {
                    "block": section.get("id", ""),
                    "block_name": _get_title(section),
                    "chapter": _get_text(chapter.find("name")),
                    "chapter_name": _get_title(chapter),
                }
                for diagnosis in section.iter("diag"):
                    yield diagnosis, {"code": _get_text(diagnosis.find("name")), **place}
            chapter.clear()
    except (ElementTree.ParseError, OSError) as error:
        raise DataError(f"{path}: cannot be read ({first_line(error)}); reinstall simple-icd-10-cm") from None


def _get_text(node: ElementTree.Element | None) -> str:
    return " ".join((node.text or "").split()) if node is not None else ""


def _get_title(node: ElementTree.Element) -> str:
    """Return the description of a chapter or block without its range of codes in brackets."""
    return re.sub(r" \([A-Z]\w\w(-[A-Z]\w\w)?\)$", "", _get_text(node.find("desc")))


def _get_notes(diagnosis: ElementTree.Element, tag: str) -> list[str]:
    """Return the texts of all notes below the children `tag`, without empty ones."""
    texts = [_get_text(note) for field in diagnosis.findall(tag) for note in field.iter("note")]
    return [text for text in texts if text]

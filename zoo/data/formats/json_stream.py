"""A long json list, one value at a time."""

from __future__ import annotations

import codecs
import json
import zlib
from typing import IO, Any

CHUNK = 1 << 20


def is_utf8(text: str) -> bool:
    """Whether `text`, decoded with `surrogateescape`, was UTF-8."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class JsonStream:
    """The characters of a json file, of which only those of the value under way are in memory."""

    def __init__(self, binary: IO[bytes]) -> None:
        self._binary = binary
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
        self._json = json.JSONDecoder()
        self._text, self._at, self._ended = "", 0, False
        self._broken: Exception | None = None

    def _more(self) -> None:
        """Read as much again as is waiting, so that a long value is scanned a few times and not once a chunk. An error is
        raised only when what was read before it has been used."""
        if self._broken:
            raise self._broken
        rest = self._text[self._at :]
        read = self._binary.read1 if hasattr(self._binary, "read1") else self._binary.read
        pieces, size = [], 0
        while size < max(CHUNK, len(rest)):
            try:
                piece = read(CHUNK)
            except (EOFError, OSError, zlib.error) as error:
                self._broken = error
                break
            self._ended = not piece
            pieces.append(self._decoder.decode(piece, final=self._ended))
            size += len(piece)
            if self._ended:
                break
        self._text, self._at = rest + "".join(pieces), 0

    def next(self) -> str:
        """The next character that is not white space, unread; "" at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in " \t\r\n":
                self._at += 1
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._more()

    def skip(self) -> None:
        self._at += 1

    def value(self) -> tuple[Any, bool]:
        """The value that starts here, and whether it is UTF-8. Raises ValueError or RecursionError."""
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self._at)
            except ValueError:
                if self._ended:
                    raise
            else:
                if end < len(self._text) or self._ended or self._text[end - 1] in '}]"':
                    whole, self._at = is_utf8(self._text[self._at : end]), end
                    return value, whole
            self._more()

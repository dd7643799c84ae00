"""Read a long JSON list one value at a time."""

from __future__ import annotations

import codecs
import json
import zlib
from typing import IO, Any

from zoo.data.limits import CELL, TooLargeError

CHUNK = 1 << 20  # bytes


class JsonStream:
    """The text of a JSON file. Only the value that is being read is in memory."""

    def __init__(self, binary: IO[bytes], max_value: int = CELL) -> None:
        self._binary, self._max_value = binary, max_value
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
        self._json = json.JSONDecoder()
        self._text, self._position, self._ended = "", 0, False
        self._error: Exception | None = None

    def peek(self) -> str:
        """Return the next character that is not white space, without moving past it; "" at the end."""
        while True:
            while self._position < len(self._text) and self._text[self._position] in " \t\r\n":
                self._position += 1
            if self._position < len(self._text) or self._ended:
                return self._text[self._position : self._position + 1]
            self._read_more()

    def skip(self) -> None:
        """Move past the character that `peek` returned."""
        self._position += 1

    def read_value(self) -> tuple[Any, str]:
        """Return the value that starts here and its text. Raise ValueError or RecursionError."""
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self._position)
            except ValueError:
                if self._ended:
                    raise
            else:
                # A number at the end of the buffer may go on in the next chunk.
                if end < len(self._text) or self._ended or self._text[end - 1] in '}]"':
                    text, self._position = self._text[self._position : end], end
                    return value, text
            self._read_more()

    def count_rest_lines(self) -> int:
        """Return the number of lines from here to the end, or to the place where the file cannot be read."""
        count = self._text.count("\n", self._position) + 1
        ends_with_newline = self._text.endswith("\n")
        try:
            while chunk := self._binary.read(CHUNK):
                count, ends_with_newline = count + chunk.count(b"\n"), chunk.endswith(b"\n")
        except (EOFError, OSError, zlib.error):
            pass
        return count - ends_with_newline

    def _read_more(self) -> None:
        """Double the buffer, or add one chunk to a short one, so that a long value is not parsed again for each chunk.

        An error is raised only at the next call, so that the text before it can be used.
        """
        if self._error:
            raise self._error
        rest = self._text[self._position :]
        if len(rest) > self._max_value:
            raise TooLargeError(self._max_value)
        read = self._binary.read1 if hasattr(self._binary, "read1") else self._binary.read
        pieces, size = [], 0
        while size < max(CHUNK, len(rest)):
            try:
                piece = read(CHUNK)
            except (EOFError, OSError, zlib.error) as error:
                self._error = error
                break
            self._ended = not piece
            pieces.append(self._decoder.decode(piece, final=self._ended))
            size += len(piece)
            if self._ended:
                break
        self._text, self._position = rest + "".join(pieces), 0

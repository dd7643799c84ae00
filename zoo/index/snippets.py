"""The part of a text that a result shows, with the words of the query marked."""

from __future__ import annotations

from zoo.index.words import find_words, split_words

WIDTH = 120
MARK = "*"
SHORTEST = 3  # letters of a word that is marked


def reduce_word(word: str) -> str:
    """Return a word without the ending of an English plural."""
    return word[:-1] if len(word) > SHORTEST and word.endswith("s") and not word.endswith("ss") else word


def make_snippet(text: str, query: str, place: tuple[int, int] | None = None, width: int = WIDTH) -> str:
    """Return at most `width` characters of a text around its words that the query has too, which stand between asterisks.

    Args:
        text: the text of a row.
        query: what was searched.
        place: the first character of the window that was found and the one after its last; only this part is shown.
    """
    start, end = place or (0, len(text))
    part = " ".join(text[start:end].split())
    wanted = {reduce_word(word) for word in split_words(query) if len(word) >= SHORTEST}
    matches = [span for word, span in find_words(part) if reduce_word(word) in wanted]
    first = 0
    if len(part) > width and matches:
        first = max(0, min(matches[0][0] - width // 4, len(part) - width))
        while 0 < first < len(part) and not part[first - 1].isspace():
            first -= 1
    last = min(len(part), first + width)
    shown, position = "", first
    for left, right in matches:
        if first <= left and right <= last:
            shown += f"{part[position:left]}{MARK}{part[left:right]}{MARK}"
            position = right
    shown += part[position:last]
    return f"{'…' if start + first > 0 else ''}{shown}{'…' if last < len(part) or end < len(text) else ''}"


def list_shared_words(text: str, query: str) -> list[str]:
    """Return the words of the text that the query has too, once each, in their order."""
    wanted = {reduce_word(word) for word in split_words(query) if len(word) >= SHORTEST}
    return list(dict.fromkeys(word for word in split_words(text) if reduce_word(word) in wanted))

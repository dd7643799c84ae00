"""No character of a stranger's text acts on a screen, in a card or in YAML."""

from __future__ import annotations

import pytest

from zoo.core import visible

HOSTILE = {
    "escape": "\x1b[31mred\x1b[0m",
    "title": "\x1b]0;title\x07",
    "one-byte-csi": "\x9b31m",
    "return": "good\rbad",
    "backspace": "bad\b\b\b",
    "bidi": "abc\u202egpj.exe",
    "isolate": "a\u2066b\u2069",
    "zero-width": "pass\u200bword\ufeff",
    "line-separator": "a\u2028b\u2029c",
    "next-line": "a\x85b",
    "tag": "a\U000e0041b",
    "surrogate": "a\udcffb",
    "nul": "a\0b",
    "filler": "a\u3164b",
    "soft-hyphen": "pay\u00adpal",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_invisible_characters_are_shown_as_escapes_on_screens_and_dropped_from_cards(name):
    text = HOSTILE[name]
    shown, dropped = visible.escape(text), visible.remove_invisible(text)
    assert not any(visible.is_invisible(char) for char in shown + dropped)
    assert shown != text != dropped
    assert "\\u" in shown or "\\U" in shown
    assert shown.encode()
    for char in set(text):
        if not visible.is_invisible(char):
            assert char in shown
            assert char in dropped


def test_visible_text_stays_as_it_is():
    for text in (
        "plain",
        "tab\tand\nline",
        "café",
        "漢字",
        "עברית",
        "👩‍👩‍👧",
        "می‌خواهم",
        "e\u0301",
        "क्‍ष",
        "a [red] \\u0041",
    ):
        assert visible.remove_invisible(text) == text
        if "\u200d" not in text and "\u200c" not in text:
            assert visible.escape(text) == text


def test_a_line_stays_one_line():
    assert visible.escape_line("error: a\nerror: b\tc\r") == "error: a\\nerror: b\\tc\\u000d"

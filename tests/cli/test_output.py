"""What verbs print: tables and lines show a stranger's text and are not changed by it."""

from __future__ import annotations

import io
import sys
import warnings

import pytest

from zoo.cli.main import main
from zoo.cli.output import print_report
from zoo.core import output, tables
from zoo.core.errors import ZooError

HOSTILE = "[red]x[/red] [/nothing] \x1b[31m\u202e :smile: \n second"


def make_report(name):
    result = {"task": name, "view": {"instruction": name}, "metric": name, "value": 0.5, "baseline": None}
    return {"results": [result | {"sentences_per_second": 1.0, "bytes_per_vector": 4}]}


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_table_shows_markup_and_control_characters_instead_of_obeying_them(is_terminal, monkeypatch):
    stream = io.StringIO()
    stream.isatty = lambda: is_terminal
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys, "stdout", stream)
    print_report(make_report(HOSTILE))
    text = stream.getvalue()
    assert "[red]x[/red] [/nothing]" in text
    for part in ("\\u001b[31m\\u202e", ":smile:", "\\n"):
        assert part in text
    assert "\x1b[31m" not in text
    assert "\u202e" not in text


@pytest.mark.parametrize(
    ("units", "column"),
    [
        (["texts"], "texts/s"),
        (["images", "images"], "images/s"),
        (["images", "texts"], "inputs/s"),
        ([None], "texts/s"),
    ],
)
def test_the_column_of_the_speed_says_what_the_inputs_are(units, column, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    results = [make_report("t")["results"][0] | ({"unit": unit} if unit else {}) for unit in units]
    print_report({"results": results})
    assert column in capsys.readouterr().out.split()


def test_an_error_with_lines_of_a_stranger_is_one_line(monkeypatch, capsys):
    def fail(*_):
        raise ZooError(f"bad\nerror: {HOSTILE}")

    monkeypatch.setattr("zoo.families.names", fail)
    assert main(["list"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "\x1b" not in err
    assert "bad\\nerror: [red]x" in err


def test_a_warning_is_one_escaped_line(monkeypatch, capsys):
    def warn():
        warnings.warn(f"look: {HOSTILE}", stacklevel=1)
        return []

    monkeypatch.setattr("zoo.families.names", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["list"]) == 0
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "UserWarning: look: [red]x" in err
    assert "\x1b" not in err


def test_a_character_that_the_stream_cannot_hold_is_escaped(monkeypatch):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    monkeypatch.setattr(sys, "stdout", stream)
    output.write("naïve 漢")
    tables.print_table(("é",), [("漢",)])
    assert raw.getvalue().decode("ascii").split() == ["na\\xefve", "\\u6f22", "\\xe9", "\\u6f22"]

"""Tables fit the terminal and lose nothing; piped tables are plain and the same at every width."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys

import pytest
from rich.cells import cell_len

from zoo import families
from zoo.cli.main import main
from zoo.cli.output import print_report
from zoo.core.tables import print_table
from zoo.recipe import shipped
from zoo.recipe.field_table import list_fields
from zoo.schema import Training

WIDTHS = (60, 80, 120)
LONG = "a-recipe-with-a-very-long-name-" * 4
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
VIEWS = ({}, {"layers": 3, "dim": 128}, {"instruction": "Find the picture that shows what the text says"})
VERDICT = {"outcome": "worse", "sentence": "It scores below the best free baseline, tfidf, on these rows." * 4}
REPORT = {
    "results": [
        {
            "task": "sentence-similarity-of-news", "view": view, "metric": "cosine_spearman", "value": 0.8125, "baseline": 0.25,
            "sentences_per_second": 12345.0, "bytes_per_vector": 1536, "verdict": VERDICT,
        }
        for view in VIEWS
    ],
    "free_baselines": {"sentence-similarity-of-news": [{"name": "tfidf", "value": 0.5}]},
}  # fmt: skip


@pytest.fixture
def print_to(monkeypatch):
    """Return a function that runs another one and returns what it prints to a terminal of a width, or to a pipe."""

    def run(function, width, *, is_terminal=True):
        stream = io.StringIO()
        stream.isatty = lambda: is_terminal
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.delenv("NO_COLOR", raising=False)
        monkeypatch.setattr(sys, "stdout", stream)
        function()
        return stream.getvalue()

    return run


PRINTERS = {
    "list": lambda: main(["list"]),
    "views": lambda: main(["show", "views"]),
    **{name: lambda name=name: main(["show", name]) for name in families.names()},
    "report": lambda: print_report(REPORT),
    "long names": lambda: print_table(("name", "text", "n"), [(LONG, LONG, "1.5"), ("漢字" * 40, "short", "12")]),
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PRINTERS)
def test_no_line_is_wider_than_the_terminal(name, width, print_to):
    lines = ESCAPE.sub("", print_to(PRINTERS[name], width)).splitlines()
    assert not [line for line in lines if cell_len(line) > width]
    assert lines


@pytest.mark.parametrize("width", WIDTHS)
def test_no_short_word_and_no_number_is_cut(width, print_to):
    screen = ESCAPE.sub("", print_to(PRINTERS["list"], width)).split()
    words = {word for name in families.names() for word in (name, *families.read_summary(name).split())}
    assert {word for word in words if len(word) <= 10} <= set(screen)
    assert set(shipped.shipped()) <= set(screen) | set(families.names())
    report = ESCAPE.sub("", print_to(PRINTERS["report"], width)).split()
    for number in ("0.8125", "0.2500", "12345", "1536"):
        assert report.count(number) == len(VIEWS)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_long_name_is_folded_and_not_shortened(width, print_to):
    text = ESCAPE.sub("", print_to(lambda: print_table(("name", "n"), [(LONG, "1")]), width))
    assert LONG in "".join(line.split(" ")[0] for line in text.splitlines()[1:])
    assert "…" not in text


def test_columns_that_do_not_fit_become_blocks(print_to):
    assert "score: 0.8125" in ESCAPE.sub("", print_to(PRINTERS["report"], 60))
    assert "score:" not in print_to(PRINTERS["report"], 120)


@pytest.mark.parametrize("name", PRINTERS)
def test_piped_output_is_plain_and_does_not_depend_on_the_width(name, print_to, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    first, second = (print_to(PRINTERS[name], width, is_terminal=False) for width in (20, 300))
    assert first == second
    assert "\x1b" not in first
    assert not [line for line in first.splitlines() if line != line.rstrip()]


def test_a_piped_table_has_one_line_per_row_and_cells_apart_by_two_spaces(print_to):
    rows = [("a b", "", "1.5"), ("漢", LONG, "12")]
    text = print_to(lambda: print_table(("name", "text", "n"), rows), 40, is_terminal=False)
    header, *lines = [re.split(r" {2,}", line) for line in text.splitlines()]
    assert header == ["name", "text", "n"]
    assert lines == [["a b", "-", "1.5"], ["漢", LONG, "12"]]


def test_a_terminal_has_colours_unless_they_are_refused(print_to, monkeypatch):
    assert "\x1b[" in print_to(PRINTERS["list"], 80)
    monkeypatch.setattr("rich.console.Console.is_dumb_terminal", True)
    assert "\x1b[3" not in print_to(PRINTERS["list"], 80)


def test_list_prints_families_and_recipes_as_json(capsys):
    assert main(["list", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in content["families"]] == families.names()
    assert [entry["name"] for entry in content["recipes"]] == list(shipped.shipped())
    assert {entry["family"] for entry in content["recipes"]} == set(families.names())
    for entry in content["families"] + content["recipes"]:
        assert entry["summary"].endswith(".")


@pytest.mark.parametrize("family", families.names())
def test_show_prints_every_field_of_a_family_with_type_default_and_description(family, print_to):
    text = print_to(PRINTERS[family], 80, is_terminal=False)
    cells = [re.split(r" {2,}", line.strip()) for line in text.splitlines()]
    spec_class = families.load_spec(family)
    assert [row.path for row in list_fields(spec_class) if "." not in row.path] == list(spec_class.model_fields)
    for row in list_fields(spec_class):
        assert [cell or "-" for cell in row] in cells
    for name, value in spec_class.choose_training_defaults({}).items():
        assert [name, str(value), list_description(name)] in cells
    for name in spec_class.View.model_fields:
        assert f"--view {name}=…" in text


def list_description(name):
    return Training.model_fields[name].description or "-"


def test_fields_are_described_in_words():
    rows = {row.path: row for row in list_fields(families.load_spec("equiangular"))}
    assert rows["backbone"][1:3] == ("text or section", "required")
    assert rows["backbone.blocks"][1:3] == ("list of integer ≥ 1 and ≤ 50", "[1, 1, 1]")
    assert rows["head"][1:3] == ("equiangular | softmax", "equiangular")
    assert rows["smoothing"][1:3] == ("number ≥ 0 and < 1", "0.1")
    assert rows["flip"][1:3] == ("true or false", "false")
    assert rows["capacity"].default == "null"


def test_a_family_has_no_values_to_override(capsys):
    assert main(["show", "static", "dim=3"]) == 1
    assert "give a recipe" in capsys.readouterr().err


def test_a_file_with_the_name_of_a_family_is_read_as_a_recipe(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "static").write_text(shipped.shipped()["static-icd10cm"].read_text(encoding="utf-8"))
    assert main(["show", "static"]) == 0
    assert "name: static-icd10cm" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["list"], ["list", "--json"], ["show", "static"], ["show", "views"]])
def test_what_there_is_is_shown_without_torch(words):
    code = (
        "import sys\nfrom zoo.cli.main import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "assert not {'torch', 'transformers', 'numpy'} & sys.modules.keys()"
    )
    run = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr

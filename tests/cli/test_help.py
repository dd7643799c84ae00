"""`zoo help` prints pages of the documentation, and `zoo docs` names the site."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import webbrowser
from pathlib import Path

import pytest
from rich.cells import cell_len

from zoo.cli import help as help_verbs
from zoo.cli import pages
from zoo.cli.main import main

ROOT = Path(__file__).parents[2]
PAGE = """<!-- a comment -->
# Data and rows

(csv)=
## Read a csv file

See [columns](../start/columns.md#names), [its picture](x.png), [the table](../measured/data.md), [the site](../../README.md) and
[the Hub](https://example.org).
![a picture](p.png)

```bash
# not a heading
zoo check x.yaml  # [kept](as.md)
```

```{toctree}
other
```

:::{note}
A note.
:::

### Quotes

Two `quotes`.

## Read a csv file

Again.
"""


@pytest.fixture
def docs(tmp_path, monkeypatch):
    """A folder of pages that stands in for the package's own."""
    for name, text in {"guides/data": PAGE, "start/columns": "# Columns\n", "measured/data": "# Figures\n"}.items():
        path = tmp_path / f"{name}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (tmp_path / "index.md").write_text("# The site\n")
    (tmp_path / "more.md").write_text("# More about quotes\n")
    monkeypatch.setattr(pages, "find_folder", lambda: tmp_path)
    return tmp_path


def test_every_page_is_a_topic_in_the_order_of_the_folders(docs, capsys):
    assert list(pages.list_topics(docs)) == ["columns", "data", "more", "measured/data"]
    assert main(["help"]) == 0
    output = capsys.readouterr().out
    assert re.search(r"^  data +Data and rows$", output, re.MULTILINE)
    assert "index" not in output


@pytest.mark.parametrize("name", ["data", "guides/data", "docs/guides/data.md", "Data"])
def test_a_page_is_found_by_name_and_by_path(name, docs, capsys):
    assert main(["help", name]) == 0
    assert capsys.readouterr().out.startswith("# Data and rows\n")


def test_a_page_is_shown_without_comments_and_directives_and_links_name_commands(docs, capsys):
    assert main(["help", "data"]) == 0
    text = capsys.readouterr().out
    for part in ("<!--", "(csv)=", "toctree", "other\n", ":::", "](columns"):
        assert part not in text
    assert (
        "See columns (`zoo help columns#names`), its picture, the table (`zoo help measured/data`), the site and\n"
        "[the Hub](https://example.org)." in text
    )
    assert "*(picture: a picture)*" in text
    assert "# not a heading\nzoo check x.yaml  # [kept](as.md)\n" in text
    assert "A note." in text


@pytest.mark.parametrize("anchor", ["read-a-csv-file", "csv"])
def test_a_section_is_printed_alone_and_with_the_sections_below_it(anchor, docs, capsys):
    assert main(["help", f"data#{anchor}"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("## Read a csv file\n")
    assert "Two `quotes`." in text
    assert "Again." not in text


def test_a_heading_that_stands_twice_has_two_addresses(docs, capsys):
    assert main(["help", "data#read-a-csv-file-1"]) == 0
    assert "Again." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [("`zoo check` says: no!", "zoo-check-says-no"), ("[A link](x.md) & b_c", "a-link--b_c"), ("Größe", "größe")],
)
def test_addresses_are_those_of_github(heading, anchor):
    assert pages.make_anchor(heading) == anchor


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["dta"], ["dta: there is no such topic; did you mean data?"]),
        (["zzz"], ["zzz: there is no such topic; there are: columns, data, more"]),
        (["data#csvs"], ["data#csvs: the page has no such section; did you mean csv?"]),
    ],
)
def test_an_unknown_topic_is_an_error_that_names_the_nearest(words, parts, docs, capsys):
    assert main(["help", *words]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    for part in parts:
        assert part in err


def test_the_address_of_a_section_is_found_without_its_page(docs, capsys):
    assert main(["help", "csv"]) == 0
    assert "zoo help data#read-a-csv-file  " in capsys.readouterr().out.splitlines()[1]
    (docs / "guides" / "data.md").write_text("# Data\n\n(bad-row)=\n## What cannot be used\n")
    assert main(["help", "bad-row"]) == 0
    assert "zoo help data#what-cannot-be-used" in capsys.readouterr().out


def test_words_are_found_in_all_pages_and_first_in_headings(docs, capsys):
    assert main(["help", "quotes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[1] for line in lines[1:]] == [
        "zoo help data#quotes",
        "zoo help more#more-about-quotes",
        "zoo help data#read-a-csv-file",
    ]


def test_help_of_a_verb_is_that_of_its_parser(capsys):
    assert main(["help", "check"]) == 0
    output = capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["check", "--help"])
    assert capsys.readouterr().out == output


@pytest.mark.parametrize("width", [60, 80, 120])
def test_every_page_of_the_project_fits_the_terminal(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm-256color")
    topics = pages.list_topics(pages.find_folder())
    assert {"upgrading", "writing"} <= topics.keys()
    for topic in topics:
        stream = io.StringIO()
        stream.isatty = lambda: True
        monkeypatch.setattr(sys, "stdout", stream)
        assert main(["help", topic]) == 0
        lines = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue()).splitlines()
        assert lines
        assert not [line for line in lines if cell_len(line) > width], topic


def test_a_link_to_a_section_of_a_page_leads_to_a_section_that_exists():
    folder = pages.find_folder()
    topics = pages.list_topics(folder)
    broken = []
    for path in topics.values():
        text = path.read_text(encoding="utf-8")
        for page, anchor in re.findall(r"\]\(([^)\s:#]*\.md)?#([\w-]+)\)", text):
            target = topics.get(pages.find_link(folder, path, page) or "") if page else path
            sections = pages.list_sections(target.read_text(encoding="utf-8")) if target else []
            if target and not any(anchor in section.anchors for section in sections):
                broken.append((path.name, page, anchor))
    assert not broken


def test_commands_in_pages_name_topics_that_exist():
    folder = pages.find_folder()
    topics = pages.list_topics(folder)
    named = {
        (path.name, name)
        for path in topics.values()
        for name in re.findall(r"`zoo help ([\w/-]+)[#`]", path.read_text(encoding="utf-8"))
    }
    assert not [(page, name) for page, name in named if name not in topics and name not in ("TOPIC", "WORDS", "check")]


def test_pages_travel_with_the_package(tmp_path):
    """A built package holds every page as `zoo.docs`, and nothing else of the folder."""
    build = "import setuptools; exec(compile(open('setup.py').read(), 'setup.py', 'exec'))"
    words = ["build", "--build-base", str(tmp_path / "b"), "egg_info", "--egg-base", str(tmp_path)]
    run = subprocess.run([sys.executable, "-c", build, *words], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    built = tmp_path / "b" / "lib" / "zoo" / "docs"
    files = {path.relative_to(built).as_posix() for path in built.rglob("*") if path.is_file()}
    tracked = {path.relative_to(ROOT / "docs").as_posix() for path in pages.list_topics(ROOT / "docs").values()}
    assert tracked <= files
    assert {name for name in files if not name.endswith(".md")} <= {"__init__.py", "conf.py"}


# -- the site ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def screen(monkeypatch):
    """A terminal with a display; the list of addresses that were opened."""
    opened: list[str] = []
    stream = io.StringIO()
    stream.isatty = lambda: True
    monkeypatch.setattr(help_verbs, "get_stdout", lambda: stream)
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    monkeypatch.setattr(help_verbs, "_find_online_address", lambda: None)
    return opened


@pytest.fixture
def site(docs):
    (docs / "_build").mkdir()
    (docs / "_build" / "index.html").write_text("<p>")
    return (docs / "_build" / "index.html").as_uri()


def test_the_built_site_is_opened_and_its_address_printed(screen, site, capsys):
    assert main(["docs"]) == 0
    assert screen == [site]
    assert capsys.readouterr().out == f"{site}\n"


@pytest.mark.parametrize("reason", ["pipe", "ssh", "no display", "--print"])
def test_without_a_screen_the_address_is_printed_alone(reason, screen, site, monkeypatch, capsys):
    if reason == "pipe":
        monkeypatch.setattr(help_verbs, "get_stdout", io.StringIO)
    elif reason == "ssh":
        monkeypatch.setenv("SSH_CONNECTION", "1")
    elif reason == "no display":
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.delenv("DISPLAY")
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert main(["docs", *["--print"] * (reason == "--print")]) == 0
    assert screen == []
    assert capsys.readouterr().out == f"{site}\n"


def test_without_a_built_site_the_online_address_is_opened(screen, docs, monkeypatch):
    monkeypatch.setattr(help_verbs, "_find_online_address", lambda: "https://example.org/zoo")
    assert main(["docs"]) == 0
    assert screen == ["https://example.org/zoo"]


def test_without_any_site_the_command_that_builds_it_is_printed(screen, docs, capsys):
    assert main(["docs"]) == 0
    assert screen == []
    assert "sphinx-build -b html docs docs/_build" in capsys.readouterr().out


def test_help_imports_no_torch():
    code = "import sys\nfrom zoo.cli.main import main\nassert main(['help']) == 0\nassert 'torch' not in sys.modules"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert run.returncode == 0, run.stderr

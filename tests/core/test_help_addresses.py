"""Errors end with the address of their section in the troubleshooting page, and every such section exists."""

from __future__ import annotations

import ast
import pickle
import re
from pathlib import Path

import pytest

import zoo
from zoo.cli import pages
from zoo.cli.main import main
from zoo.core import faults, help_addresses
from zoo.core.errors import DataError, RecipeError, ZooError

PACKAGE = Path(zoo.__file__).parent
OF_THE_SYSTEM = ("No space left on device",)
"""Messages that the operating system writes."""


def list_texts() -> list[str]:
    """Every text of the package's code. A value in an f-string is written as 3."""
    texts = list(OF_THE_SYSTEM)
    for path in PACKAGE.rglob("*.py"):
        if path.stem == "help_addresses":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else "3" for part in node.values]
                texts.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return texts


def test_every_pattern_fits_a_message_of_the_code():
    texts = [text.replace("variable 3 is", "variable ZOO_DATA is") for text in list_texts()]
    unused = [anchor for anchor, pattern in help_addresses.ADDRESSES if not any(re.search(pattern, t) for t in texts)]
    assert not unused


@pytest.fixture(scope="module")
def sections():
    """The sections of the troubleshooting page."""
    page = pages.list_topics(pages.find_folder())[help_addresses.PAGE]
    return [part for part in pages.list_sections(page.read_text(encoding="utf-8")) if part.level > 1]


def test_every_section_has_one_address_and_every_address_a_section(sections):
    named = [section.anchors[-1] for section in sections]
    assert sorted(named) == sorted(anchor for anchor, _ in help_addresses.ADDRESSES)


def test_a_message_of_the_page_has_the_address_of_its_section(sections):
    for section in sections:
        blocks = re.findall(r"^```console\n(.*?)^```", section.text, re.DOTALL | re.MULTILINE)
        messages = [line.removeprefix("error: ") for block in blocks for line in block.splitlines()]
        assert messages
        for message in messages:
            assert help_addresses.find_address(message) == f"zoo help troubleshooting#{section.anchors[-1]}", message


@pytest.mark.parametrize(
    ("message", "anchor"),
    [
        ("recipe.yaml:1:2: training.lr: unknown key; did you mean learning_rate?", "unknown-key"),
        ("images need Pillow, which is not installed: pip install x", "not-installed"),
        ("/data: No space left on device; make room there", "no-space-left"),
        ("t at whole: ndcg is 0.5000, below the 1.0 asked for", "score-below-at-least"),
        ("no data of that name", None),
    ],
)
def test_a_message_has_the_address_of_its_section(message, anchor):
    assert help_addresses.find_address(message) == (anchor and f"zoo help troubleshooting#{anchor}")


def test_problems_of_one_section_name_it_once_at_the_last_of_them(tmp_path, capsys):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "name: x\nnonsense: 1\nencoder: {family: static, backbone: b}\ndata: {source: file, path: missing.csv}\n"
        "training: {learnng_rate: 1, epochs: -1}\n"
    )
    for words in (["show", str(recipe)], ["check", str(recipe)]):
        assert main(words) == 1
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) > 2
        unknown = [line for line in lines if "unknown key" in line]
        assert len(unknown) == 2
        address = "(see `zoo help troubleshooting#unknown-key`)"
        assert [line for line in lines if line.endswith(address)] == unknown[-1:]
        assert sum("troubleshooting#no-such-file" in line for line in lines) == 1


def test_in_python_the_address_is_a_note_and_the_message_is_as_it_was():
    error = RecipeError("r: unknown key", "r: is missing", "s: unknown key", "p: there is no such recipe")
    assert str(error) == "r: unknown key\nr: is missing\ns: unknown key\np: there is no such recipe"
    assert error.__notes__ == [
        "See `zoo help troubleshooting#unknown-key`.",
        "See `zoo help troubleshooting#no-such-recipe`.",
    ]
    assert not hasattr(ZooError("other"), "__notes__")


def test_an_error_of_another_process_has_the_same_notes():
    error = pickle.loads(pickle.dumps(DataError("x is not installed")))
    assert error.__notes__ == ["See `zoo help troubleshooting#not-installed`."]


class OutOfMemoryError(RuntimeError):
    """As torch calls it."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
)
def test_a_full_memory_is_not_a_fault_of_zoo(error):
    message = faults.describe_user_fault(error)
    assert message is not None
    assert help_addresses.find_address(message) == "zoo help troubleshooting#memory-full"

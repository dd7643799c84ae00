"""Read the code blocks of a Markdown page, and run them in order in one folder, as a reader would.

A comment above a block says how it is treated:

    <!-- file: pairs.csv -->            write the block to this file
    <!-- not run: needs the Hub -->     leave the block out, for this reason
    <!-- fails -->                      the block must end with an error
    <!-- run first: zoo train … -->     run this command before the block, unseen by the reader
    <!-- slow -->                       anywhere on a page: leave the page to continuous integration
    <!-- in a copy of the repository -->  anywhere on a page: run it in a copy, because its files are files of zoo

`python tests/support/code_blocks.py` prints how many blocks each page has, and what becomes of them.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
COMMENT = re.compile(r"<!--\s*(file|not run|fails|run first|slow)\s*:?\s*(.*?)\s*-->", re.DOTALL)
SLOW, COPY = "<!-- slow -->", "<!-- in a copy of the repository -->"
SHOWN_ONLY = {"", "text", "console", "csv", "tsv", "jsonl", "diff"}
RUN = {"python", "bash", "yaml", "json"}
# A block with one of these is one script. The lines of other blocks are commands of their own.
SCRIPT = re.compile(r"<<|^\s*(cd|export|for|if|while)\b", re.MULTILINE)
NEVER_RUN = ("pip ", "sudo ", "apt", "git ", "hf ")
SHELL = re.compile(r"[|<>&;$`*(]")


@dataclass
class Block:
    """One fenced block.

    Attributes:
        page, line: where it stands.
        language: the first word after the fence.
        text: its content.
        notes: what the comments above it say, by their first words.
    """

    page: Path
    line: int
    language: str
    text: str
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Page and line, as error messages write them."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def fate(self) -> str:
        """What becomes of the block: not run, run, validated, written, or shown only."""
        if "not run" in self.notes:
            return "not run"
        if self.language in ("yaml", "json"):
            return "validated"
        if "file" in self.notes:
            return "written"
        return "run" if self.language in RUN else "shown"


def list_pages() -> list[Path]:
    """Return the pages at the root, such as README.md, and all pages of the docs."""
    skipped = ("_build", "_extensions", "project", "model-zoo")  # tests of cards run the commands of cards
    pages = [
        page
        for page in sorted((ROOT / "docs").rglob("*.md"))
        if page.relative_to(ROOT / "docs").parts[0] not in skipped
    ]
    return [*sorted(ROOT.glob("*.md")), *pages]


def is_slow(page: Path) -> bool:
    """Whether a page says that its blocks take long."""
    return SLOW in page.read_text(encoding="utf-8")


def read_blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page in order. Raise ValueError for a language that is neither run nor shown."""
    blocks, notes = [], {}
    for token in MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8")):
        if token.type == "html_block":
            notes |= {match[1]: match[2] for match in COMMENT.finditer(token.content)}
        elif token.type == "fence":
            language = token.info.split()[0] if token.info.split() else ""
            if not language.startswith("{"):
                if language not in SHOWN_ONLY | RUN and "file" not in notes:
                    raise ValueError(f"{page}:{token.map[0] + 1}: {language} is no language that a block may have")
                blocks.append(Block(page, token.map[0] + 1, language, token.content, notes))
            notes = {}
        elif token.nesting >= 0:
            notes = {}
    return blocks


# -- running ---------------------------------------------------------------------------------------------------------


class Workplace:
    """Where the blocks of a page run: in this process, which saves the imports, and in `folder`, the working directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = ROOT  # where commands of the shell import zoo from
        self.names: dict[str, Any] = {"__name__": "__main__"}

    def run_python(self, block: Block) -> None:
        """Run a block with the names of the page's earlier blocks."""
        exec(compile(block.text, block.place, "exec"), self.names)

    def run_commands(self, text: str) -> None:
        """Run the commands of a bash block. Raise RuntimeError for one that fails."""
        for command in [text] if SCRIPT.search(text) else split_commands(text):
            if command.startswith(NEVER_RUN):
                raise ValueError(f"`{command}` changes the computer: put `<!-- not run: … -->` above the block")
            self.run_command(command)

    def run_command(self, command: str) -> None:
        """Run a plain command of zoo here, and any other in a shell."""
        if command.startswith("zoo ") and not SHELL.search(command):
            run_zoo(shlex.split(command)[1:])
        else:
            self.run_in_shell(command)

    def run_in_shell(self, command: str) -> None:
        """Run a command with this Python and its `zoo`. Raise RuntimeError if it fails."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.folder,
            env={**os.environ, "PATH": path, "PYTHONPATH": str(self.source)},
            capture_output=True,
            text=True,
            timeout=600,
        )
        if ran.returncode:
            raise RuntimeError(
                f"`{command[:80]}` ended with status {ran.returncode}: {(ran.stdout + ran.stderr)[-3000:]}"
            )


class Copy(Workplace):
    """A copy of the repository, for a page that adds files to zoo. All blocks run in processes that import the copy."""

    PARTS = ("zoo", "tests/support", "tests/conftest.py", "tests/families/test_families.py", "pyproject.toml")
    INSTALLED = ("recipes", "cards")  # as zoo.recipes and zoo.cards

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.source = folder
        for part in self.PARTS:
            source, target = ROOT / part, folder / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, symlinks=True)
            else:
                shutil.copy(source, target)
        for part in self.INSTALLED:
            shutil.copytree(ROOT / part, folder / part)
            with suppress(FileExistsError):
                (folder / "zoo" / part).symlink_to(folder / part)

    def run_python(self, block: Block) -> None:
        """Run a block as a program of its own."""
        script = self.folder / "block.py"
        script.write_text(block.text, encoding="utf-8")
        self.run_in_shell("python block.py")

    def run_command(self, command: str) -> None:
        """Run a command in a shell, because this process has imported another zoo."""
        self.run_in_shell(re.sub(r"^zoo ", "python -m zoo.cli ", command))


def run_page(page: Path, folder: Path) -> Counter[str]:
    """Run the blocks of a page in `folder`, which must be the working directory, and count them by their fate."""
    place = Copy(folder) if COPY in page.read_text(encoding="utf-8") else Workplace(folder)
    counts: Counter[str] = Counter()
    for block in read_blocks(page):
        counts[block.fate] += 1
        if block.fate == "not run":
            continue
        if command := block.notes.get("run first"):
            place.run_commands(command)
        if name := block.notes.get("file"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(block.text, encoding="utf-8")
        try:
            run_block(block, place)
        except Exception as error:
            if "fails" in block.notes:
                continue
            raise AssertionError(f"{block.place}: {type(error).__name__}: {error}") from error
        assert "fails" not in block.notes, f"{block.place}: the block says that it fails, but it runs"
    return counts


def run_block(block: Block, place: Workplace) -> None:
    """Run or validate one block."""
    if block.language == "json":
        is_one_per_line = block.notes.get("file", "").endswith(".jsonl")
        for text in block.text.splitlines() if is_one_per_line else [block.text]:
            json.loads(text)
    elif block.fate == "validated" and isinstance(place, Copy):
        place.run_command(f"zoo check {shlex.quote(block.notes['file'])}")
    elif block.fate == "validated":
        validate_yaml(block.text, place.folder)
    elif block.fate == "run":
        place.run_python(block) if block.language == "python" else place.run_commands(block.text)


def split_commands(text: str) -> Iterator[str]:
    """Join lines that end with a backslash, and leave out comments."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield re.sub(r"\s+#\s.*$", "", line.strip())


def run_zoo(words: list[str]) -> None:
    """Run a verb in this process. Raise RuntimeError for another exit status than 0."""
    from zoo.cli import main

    try:
        status = main.main(words)
    except SystemExit as stop:  # argparse
        status = int(stop.code or 0)
    if status:
        raise RuntimeError(f"`zoo {shlex.join(words)}` ended with status {status}")


# -- recipes ---------------------------------------------------------------------------------------------------------


def validate_yaml(text: str, folder: Path) -> None:
    """Validate a recipe, or a part of one. Raise ZooError or ValueError."""
    from zoo.recipe import recipe

    tree = yaml.safe_load(text)
    if isinstance(tree, dict) and {"name", "encoder"} <= tree.keys():
        recipe.loads(text, folder=folder)
    elif isinstance(tree, list):
        validate_part("evaluation", tree)
    elif isinstance(tree, dict) and tree.keys() <= recipe.Recipe.model_fields.keys():
        for name, value in tree.items():
            validate_part(name, value)
    else:
        refuse_unknown(tree, list_field_names())


def validate_part(name: str, value: Any) -> None:
    """Validate a section of a recipe by its own model. Of `encoder:` the names of the fields are checked."""
    from pydantic import TypeAdapter

    from zoo import families
    from zoo.recipe import recipe

    if name == "encoder":
        chosen = [value["family"]] if "family" in value else families.names()
        refuse_unknown(value, {field for family in chosen for field in families.load_spec(family).model_fields})
    else:
        value = [{"task": v} if isinstance(v, str) else v for v in value] if name == "evaluation" else value
        TypeAdapter(recipe.Recipe.model_fields[name].rebuild_annotation()).validate_python(_freeze(value))


def _freeze(value: Any) -> Any:
    """Lists become tuples, as the reader of recipes makes them."""
    if isinstance(value, dict):
        return {key: _freeze(item) for key, item in value.items()}
    return tuple(map(_freeze, value)) if isinstance(value, list) else value


def list_field_names() -> set[str]:
    """Names of the fields of all sections."""
    from zoo.recipe import recipe

    schema = recipe.schema()
    return {name for section in [schema, *schema["$defs"].values()] for name in section.get("properties", {})}


def refuse_unknown(value: Any, known: set[str]) -> None:
    """Raise ValueError for names that no section of a recipe has."""
    unknown = set(value) - known if isinstance(value, dict) else {str(value)}
    if unknown:
        raise ValueError(f"no section of a recipe has {', '.join(sorted(unknown))}")


def main() -> None:
    """Print a table of all pages."""
    total: Counter[str] = Counter()
    for page in list_pages():
        counts = Counter(block.fate for block in read_blocks(page))
        total += counts
        if counts:
            print(f"{page.relative_to(ROOT)!s:44} " + ", ".join(f"{n} {fate}" for fate, n in sorted(counts.items())))  # noqa: T201
    print(f"{'all':44} " + ", ".join(f"{n} {fate}" for fate, n in sorted(total.items())))  # noqa: T201


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        main()

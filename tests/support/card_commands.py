"""Run the shell commands that a card prints, without training again: a run is replaced by the checks before it."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from zoo.build import builder
from zoo.cli import main


def list_commands(card: str) -> list[list[str]]:
    """The words of every command of a card's `sh` blocks, without comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", card, flags=re.DOTALL | re.MULTILINE)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [words for words in lines if words]


def run_commands(run_folder: Path, folder: Path, data: Path) -> list[str]:
    """Run the commands of the card of a finished run in an empty `folder`, and return their verbs.

    The folder has the model's recipe.yaml, as someone has who follows the card. A command that trains reads the recipe and
    the data, and then takes the result of `run_folder`.
    """
    card = (run_folder / "model" / "README.md").read_text(encoding="utf-8")
    folder.mkdir()
    shutil.copy(run_folder / "model" / "recipe.yaml", folder)

    def check_and_copy(recipe: Any, out: Path, **_: Any) -> None:
        builder.check_rows(recipe, lambda line: None)
        shutil.copytree(run_folder, out, dirs_exist_ok=True)

    verbs = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(builder, "run", check_and_copy)
        for program, *words in list_commands(card):
            assert program == "zoo", f"a command of another program: {program}"
            replaced = {"path/to/model": str(run_folder / "model"), "DATA": str(data)}
            status = main.main([replaced.get(word, word) for word in words])
            assert status == 0, f"zoo {' '.join(words)} ends with status {status}"
            verbs.append(words[0])
    return verbs

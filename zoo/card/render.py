"""Render the model card, README.md, from the files of a model folder. It can be rendered again at any time.

The templates in `cards/` hold the text; this module gives them the values of the folder. Everything that a template
prints is escaped unless it is Markdown already, so that no summary and no name of a data set can break the page.
"""

from __future__ import annotations

import functools
import importlib.resources
from pathlib import Path

import jinja2.sandbox

from zoo.card import figures, front_matter, markdown, run_record
from zoo.card.context import build_context
from zoo.core import atomic_files
from zoo.spec import EncoderSpec


def write_card(folder: Path, spec_class: type[EncoderSpec]) -> Path:
    """Draw the pictures and write README.md into a model folder. The caller writes the manifest afterwards.

    `spec_class` is the Spec class of the folder's family; it names the family's own pictures. Raise ArtefactError if the
    folder cannot be read.
    """
    from zoo.card import plots

    plots.draw(folder, spec_class)
    path = folder / "README.md"
    atomic_files.write_text(path, render_card(folder, spec_class))
    return path


def render_card(folder: Path, spec_class: type[EncoderSpec]) -> str:
    """Return the card of a model folder: YAML front matter and Markdown. A missing file leaves its sections out.

    Raise ArtefactError if the folder cannot be read.
    """
    record = run_record.read(folder)
    family = str(record.zoo.get("family", ""))
    template = _load_environment().get_template(f"{family}.md")
    body = template.render(build_context(record, spec_class))
    return f"---\n{front_matter.build_front_matter(record, family)}\n---\n\n{body.strip()}\n"


# -- templates ---------------------------------------------------------------------------------------------------------


@functools.cache
def _load_environment() -> jinja2.Environment:
    environment = jinja2.sandbox.SandboxedEnvironment(
        loader=jinja2.FunctionLoader(_read_template),
        autoescape=True,  # lets Jinja tell Markup from text; `finalize` decides how text is escaped
        finalize=markdown.escape,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(figures.HELPERS)
    environment.filters["escape"] = environment.filters["e"] = markdown.escape
    return environment


def _read_template(name: str) -> str | None:
    file = importlib.resources.files("zoo.cards") / name
    return file.read_text(encoding="utf-8") if file.is_file() else None

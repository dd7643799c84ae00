"""The model card: README.md from the model folder alone, so that it can be rendered again at any time.

The text is in the templates of `cards/`; this module turns the folder's figures into words and tables. Whatever a
template prints is escaped unless it is Markdown already (`markdown`), so neither a summary nor the name of a data
set can break the page. No figure is typed into a template.
"""

from __future__ import annotations

import functools
import importlib.resources
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jinja2.sandbox
from markupsafe import Markup
from pydantic import ValidationError

from zoo.card import front_matter, markdown, run_record
from zoo.card.run_record import Record, Result, Task, mapping, number
from zoo.core import atomic_files
from zoo.core.errors import RenamedFieldWarning
from zoo.spec import EncoderSpec

LONG = 8  # rows beyond which a table is folded away
DIGITS = 12  # of a fingerprint
SAMPLES = {
    "text": Markup('["A man plays the guitar.", "Someone is making music."]'),
    "image": Markup('["photo.jpg", "another.png"]'),
    "vector": Markup('numpy.load("vectors.npy")'),
    "image-text": Markup('["a red car", {"image": "photo.jpg"}, {"image": "photo.jpg", "text": "which make?"}]'),
}


def write(folder: Path, spec_class: type[EncoderSpec]) -> Path:
    """Draw the pictures and write README.md into a model folder. The caller writes the manifest afterwards.

    `spec_class` is the Spec class of the folder's family; it names the card's template and the family's own pictures. Raises
    ArtefactError for a folder that cannot be read.
    """
    from zoo.card import plots

    plots.draw(folder, spec_class)
    path = folder / "README.md"
    atomic_files.write_text(path, render(folder, spec_class))
    return path


def render(folder: Path, spec_class: type[EncoderSpec]) -> str:
    """The card of a model folder: YAML front matter and Markdown. Sections whose files are missing are left out.

    Raises ArtefactError for a folder that cannot be read.
    """
    about = run_record.read(folder)
    family = str(about.zoo.get("family", ""))
    body = _environment().get_template(f"{family}.md").render(_context(about, family, _read_extras(about, spec_class)))
    return f"---\n{front_matter.front_matter(about, family)}\n---\n\n{body.strip()}\n"


def _read_extras(about: Record, spec_class: type[EncoderSpec]) -> tuple[str, ...]:
    """Extras of the package that the family needs, from the encoder section of the folder; none if the section is damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RenamedFieldWarning)
            return spec_class.model_validate(about.zoo.get("spec")).extras
    except ValidationError:
        return ()


# -- templates -------------------------------------------------------------------------------------------------------


@functools.cache
def _environment() -> jinja2.Environment:
    def source(name: str) -> str | None:
        file = importlib.resources.files("zoo.cards") / name
        return file.read_text(encoding="utf-8") if file.is_file() else None

    environment = jinja2.sandbox.SandboxedEnvironment(
        loader=jinja2.FunctionLoader(source),
        autoescape=True,  # makes Jinja tell Markup from text; what happens to text is decided by `finalize`
        finalize=markdown.escape,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for helper in (
        *HELPERS,
        number,
        markdown.code,
        markdown.fence,
        markdown.link,
        markdown.paragraphs,
        markdown.row,
        markdown.table,
    ):
        environment.globals[helper.__name__] = helper
    environment.filters["escape"] = environment.filters["e"] = markdown.escape
    return environment


def _context(about: Record, family: str, extras: tuple[str, ...]) -> dict[str, Any]:
    card, lock, data, cut = mapping(about.recipe.get("card")), about.lock, _data(about), _example(about)
    repo = str(mapping(about.recipe.get("publish")).get("repo", ""))
    dims = [dim for dim in about.facts.get("dims") or [] if number(dim)]
    results = [(task, r) for task in about.tasks for r in task.results]
    return {
        "about": about,
        "facts": {**about.facts, "dims": dims, "prompts": mapping(about.facts.get("prompts"))},
        "family": family,
        "unit": {"image": "Images", "image-text": "Inputs", "vector": "Vectors"}.get(_modality(about), "Sentences"),
        "sample": SAMPLES[_modality(about)],
        "name": front_matter.name(about),
        "title": card.get("title") or front_matter.name(about),
        "summary": str(card.get("summary") or ""),
        "license": str(card.get("license") or ""),
        "languages": front_matter.languages(about),
        "repo": Markup(repo if front_matter.HUB_ID.fullmatch(repo) else "path/to/model"),
        "cut": cut,
        "cut_arguments": Markup(", ".join(f"{key}={value}" for key, value in cut.items())),
        "cut_options": Markup(" ".join(f"--{key} {value}" for key, value in cut.items())),
        "backbone": mapping(lock.get("backbone")).get("name") or _backbone(about),
        "main": next((task for task in about.tasks if task.whole.value is not None), None),
        "timed": next((task for task in about.tasks if task.whole.speed), None),
        "local": [task for task in about.tasks if not task.official],
        "lost": [(task, r) for task, r in results if r.value is None],
        "worse": [(task, r) for task, r in results if r.gain is not None and r.gain < 0],
        "host": mapping(about.report.get("host")),
        "trainer": mapping(lock.get("host")),
        "data": data,
        "trained_on": next((each for each in data if each["role"] == "train" and each["name"]), None),
        "fingerprint_digits": DIGITS,
        "lowest": min(about.validation, key=lambda each: each[1]) if about.validation else None,
        "settings": [(markdown.code(key), markdown.code(value)) for key, value in _flat(_settings(about))],
        "packages": "\n".join(f"{name}=={version}" for name, version in mapping(lock.get("packages")).items()),
        "image_extra": Markup("[image]" if "image" in extras else ""),
        "extra": Markup(_extra(about, extras)),
        "citations": list(dict.fromkeys(each["citation"] for each in data if each["citation"])),
    }


def _modality(about: Record) -> str:
    told = str(about.facts.get("modality"))
    return told if told in SAMPLES else "text"


def _backbone(about: Record) -> str | None:
    """What the recipe starts from; None for a network that it makes itself."""
    given = mapping(about.recipe.get("encoder")).get("backbone")
    if isinstance(given, Mapping):
        return given.get("model") or (f"timm/{given['timm']}" if given.get("timm") else None)
    return given


def _extra(about: Record, extras: tuple[str, ...]) -> str:
    """The extras of the package that the recipe needs, `extras` for its family and others for its data."""
    needed = ["quickstart"] if re.search(r"package:|source: builtin", about.recipe_text) else []
    needed += ["icons"] if re.search(r"name: icons\b", about.recipe_text) else []
    needed += extras
    return f"[{','.join(needed)}]" if needed else ""


def _settings(about: Record) -> dict[str, Any]:
    return {key: about.recipe[key] for key in ("encoder", "training") if key in about.recipe}


def _example(about: Record) -> dict[str, int]:
    """A cut to show how cutting is written: one in the middle of those that were measured, else of those that exist."""
    measured = [r.corner for r in about.tasks[0].results[1:]] if about.tasks else []
    dims = about.facts.get("dims")
    if number(about.facts.get("layers")) and isinstance(dims, list) and dims and not measured:
        measured = [{"layers": (about.facts["layers"] + 1) // 2, "dim": dims[len(dims) // 2]}]
    corner = measured[(len(measured) - 1) // 2] if measured else {}
    return {key: int(value) for key in ("layers", "dim") if (value := number(corner.get(key))) is not None}


def _data(about: Record) -> list[dict[str, Any]]:
    skipped = mapping(about.report.get("skipped_rows"))
    found = []
    locked = mapping(about.lock.get("data"))
    for role in [*locked, *(name for name, left_out in skipped.items() if number(left_out) and name not in locked)]:
        entry = mapping(locked.get(role))
        origin = mapping(entry.get("origin"))
        text = {key: str(origin.get(key) or "") for key in ("name", "revision", "licence", "url", "citation")}
        fingerprint = markdown.line(entry.get("fingerprint") or "")
        left_out = number(entry.get("skipped", skipped.get(role)))
        found.append(
            {"role": role, "rows": number(entry.get("rows")), "skipped": left_out, "fingerprint": fingerprint, **text}
        )
    return found


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every setting that has a value, as (dotted path, text)."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _flat(each, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(each, Mapping | list) for each in value):
        for index, each in enumerate(value):
            yield from _flat(each, f"{path}.{index}")
    elif value not in (None, "", []):
        yield path, ", ".join(map(str, value)) if isinstance(value, list) else str(value)


# -- figures to text -------------------------------------------------------------------------------------------------


def score(value: Any, *, signed: bool = False) -> Markup:
    """A score with four decimals; `not finite` for one that is missing."""
    found = number(value)
    return Markup("not finite") if found is None else Markup(f"{found:+.4f}" if signed else f"{found:.4f}")


def count(value: Any, digits: int = 0) -> Markup:
    """A count with thousands separators, or a dash."""
    found = number(value)
    return markdown.NOTHING if found is None else Markup(f"{found:,.{digits}f}")


def percent(share: Any) -> Markup:
    """A share as `12.5 %`, or a dash."""
    found = number(share)
    return markdown.NOTHING if found is None else Markup(f"{100 * found:.1f} %")


def times(value: float | None, whole: float | None) -> Markup:
    """How many times `whole` a value is."""
    return Markup(f"{value / whole:.2f}\N{MULTIPLICATION SIGN}") if value and whole else markdown.NOTHING


def duration(seconds: Any) -> Markup:
    """Seconds as `1 h 5 min`, `12 min 14 s` or `8 s`."""
    whole = round(number(seconds) or 0)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    parts = [
        f"{hours} h" if hours else "",
        f"{minutes} min" if minutes else "",
        f"{rest} s" if rest and not hours else "",
    ]
    return Markup(" ".join(part for part in parts if part) or "under 1 s")


def listing(items: Any) -> Markup:
    """`a, b and c`, escaped."""
    *most, last = [markdown.escape(each) for each in items] or [markdown.NOTHING]
    return Markup(" and ").join([Markup(", ").join(most), last]) if most else last


def scores(task: Task) -> Markup:
    """The scores of a task: layers × dims where at least half of that grid was measured, else one row a view."""
    grid = task.grid()
    if grid and 2 * len(grid[2]) >= len(grid[0]) * len(grid[1]):
        depths, dims, cells = grid
        body = [[str(n), *(_cell(cells.get((n, dim))) for dim in dims)] for n in depths]
        return markdown.table(["Layers", *(f"{dim} dims" for dim in dims)], body)
    before = any(r.baseline is not None for r in task.results)
    header = ["Cut", "Trained", *(["Before training", "Gain"] if before else [])]
    body = [
        [r.label, score(r.value), *([_or_dash(r.baseline), _or_dash(r.gain, signed=True)] if before else [])]
        for r in task.results
    ]
    return markdown.table(header, body)


def before(result: Result) -> Markup:
    """` (0.4501 before training)`, or nothing."""
    return Markup() if result.baseline is None else Markup(f" ({score(result.baseline)} before training)")


def ends(task: Task, what: str = "value") -> Markup:
    """A figure of the largest and of the smallest view: `0.8123 (6 layers · 384) to 0.5765 (1 layer · 32)`."""

    def show(result: Result) -> Markup:
        found = getattr(result, what)
        shown = score(found) if what == "value" else count(found, 1 if what == "speed" else 0)
        return Markup("{} ({})").format(shown, markdown.escape(result.label))

    both = " to ".join(show(r) for r in (task.whole, task.smallest) if r)
    return Markup(both) + Markup(f", {markdown.code(task.metric)}" if what == "value" else "")


def bar(task: Task) -> Markup:
    """Which views miss the score that the recipe asks for; nothing when it asks for none."""
    asked = [r for r in task.results if r.at_least is not None]
    if not asked:
        return Markup()
    missed = [r.label for r in asked if r.value is None or r.value < (r.at_least or 0.0)]
    levels = listing(sorted({score(r.at_least) for r in asked}))
    verdict = (
        Markup("missed by {}").format(listing(missed)) if missed else Markup("reached by every cut it was set for")
    )
    return Markup("The bar that the recipe sets, {}, is {}.").format(levels, verdict)


def named(pairs: Iterable[tuple[Task, Result]]) -> list[str]:
    """`task (view)` for each."""
    return [f"{task.name} ({r.label})" for task, r in pairs]


def parameter_range(parameters: Any) -> Markup:
    """Parameters of the whole model and of its shallowest cut, from {layers: count}."""
    found = {int(n): size for n, size in mapping(parameters).items() if str(n).isdecimal() and number(size)}
    shown = (
        [f"{count(found[n])} ({run_record.label({'layers': n})})" for n in dict.fromkeys((max(found), min(found)))]
        if found
        else []
    )
    return Markup(" to ".join(shown)) or markdown.NOTHING


def data_table(data: list[dict[str, Any]]) -> Markup:
    """Where the rows came from, under which licence, how many, how many were skipped, and what they hash to."""
    body = [
        (
            each["role"],
            markdown.link(each["name"], each["url"]),
            each["licence"] or "not stated",
            markdown.code(each["fingerprint"][:DIGITS]),
            count(each["rows"]),
            count(each["skipped"]),
        )
        for each in data
    ]
    return markdown.table(["For", "Data", "Licence", "Fingerprint", "Rows", "Skipped"], body, left=4)


def _cell(result: Result | None) -> Markup:
    if result is None:
        return markdown.NOTHING
    before = "" if result.baseline is None else f" ({score(result.baseline)})"
    return Markup(f"**{score(result.value)}**{before}")


def _or_dash(value: float | None, *, signed: bool = False) -> Markup:
    return markdown.NOTHING if value is None else score(value, signed=signed)


def figures(of: Mapping[str, Any], **besides: Mapping[str, Any]) -> Markup:
    """Figures by name, and those of others `besides` under their own headings."""
    names = {name: name.replace("_", " ") for name in of}
    body = [
        [words, *(score(each.get(name)) if name in each else markdown.NOTHING for each in (of, *besides.values()))]
        for name, words in names.items()
    ]
    return markdown.table(["Figure", "Value" if not besides else "This model", *besides], body)


def costs(task: Task, parameters: Any, unit: str = "Sentences") -> Markup:
    """What each view costs: speed, storage, memory and, where known by depth, parameters."""
    sizes, whole = mapping(parameters), task.whole
    body = []
    for r in task.results:
        size = sizes.get(str(r.corner.get("layers")))
        speed = [count(r.speed, 1), times(r.speed, whole.speed)]
        body.append([r.label, score(r.value), *speed, count(r.size), count(size), count(r.memory)])
    header = ["Cut", "Score", f"{unit}/s", "Speed", "Bytes per vector", "Parameters", "Peak memory, MB"]
    shown = markdown.table(header, body)
    if len(body) <= LONG:
        return shown
    return Markup(f"<details><summary>Every cut that was measured</summary>\n\n{shown}\n\n</details>")


HELPERS = (
    bar,
    before,
    costs,
    count,
    data_table,
    duration,
    ends,
    figures,
    listing,
    named,
    parameter_range,
    percent,
    score,
    scores,
    times,
)

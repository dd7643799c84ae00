"""The values that the templates of the cards print, from the record of a run."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup
from pydantic import ValidationError

from zoo.card import (
    codes,
    figures,
    front_matter,
    health,
    markdown,
    mining,
    plots,
    run_record,
    settings,
    sources,
    token_table,
)
from zoo.card.run_record import Record, Task, as_mapping, as_number
from zoo.core.errors import RenamedFieldWarning
from zoo.data.sources import builtin
from zoo.hub import model_references
from zoo.spec import EncoderSpec

SAMPLES = {
    "text": Markup('["A man plays the guitar.", "Someone is making music."]'),
    "image": Markup('["photo.jpg", "another.png"]'),
    "vector": Markup('numpy.load("vectors.npy")'),
    "image-text": Markup('["a red car", {"image": "photo.jpg"}, {"image": "photo.jpg", "text": "which make?"}]'),
}
"""Example inputs of `encode` by modality, as Python."""
MAX_GLANCE = 4  # tasks in the first table
MAX_NAMED_SOURCES = 3
UNITS = {"text": "Sentences", "image": "Images", "vector": "Vectors", "image-text": "Inputs"}


def build_context(record: Record, spec_class: type[EncoderSpec]) -> dict[str, Any]:
    """Return the variables of the templates."""
    spec = _read_spec(record, spec_class)
    family_extras = spec.extras if spec else ()
    modality = str(record.facts.get("modality"))
    modality = modality if modality in SAMPLES else "text"
    dims = [dim for dim in record.facts.get("dims") or [] if as_number(dim)]
    mappings = {name: as_mapping(record.facts.get(name)) for name in ("prompts", "instructions")}
    return {
        "record": record,
        "spec": spec.model_dump(mode="json") if spec else {},
        **_build_parent_context(record),
        "facts": {**record.facts, "dims": dims, **mappings},
        "family": str(record.zoo.get("family", "")),
        "alt": _describe_pictures(record, spec_class),
        "unit": UNITS[modality],
        "sample": SAMPLES[modality],
        "backbone": _find_backbone(record),
        **_build_recipe_context(record),
        **_build_cut_context(record),
        **_build_result_context(record),
        **_build_data_context(record),
        **_build_training_context(record, spec),
        **codes.build_steps_context(record),
        **health.build_health_context(record),
        "token_table": token_table.describe(record),
        "use_extras": [extra for extra in family_extras if extra == "image"],
        "extras": _list_extras(record, family_extras),
    }


def _describe_pictures(record: Record, spec_class: type[EncoderSpec]) -> dict[str, str]:
    """Return what each picture of the folder shows, by its name.

    A picture is called by its name alone if the record holds something else than zoo writes, as a stranger's folder may.
    """
    pictures = plots.list_pictures(spec_class) if record.plots else {}
    texts = {}
    for name in pictures.keys() & record.plots.keys():
        try:
            texts[name] = pictures[name].describe(record)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            texts[name] = name
    return texts


def _build_recipe_context(record: Record) -> dict[str, Any]:
    """Return what the author of the recipe says about the model."""
    card = as_mapping(record.recipe.get("card"))
    repo = str(as_mapping(record.recipe.get("publish")).get("repo", ""))
    name = front_matter.get_name(record)
    return {
        "name": name,
        "title": card.get("title") or name,
        "summary": str(card.get("summary") or ""),
        "license": str(card.get("license") or ""),
        "languages": front_matter.list_languages(record),
        "repo": Markup(repo if front_matter.HUB_ID.fullmatch(repo) else "path/to/model"),
    }


def _build_parent_context(record: Record) -> dict[str, Any]:
    """Return the model of which this one is a view, and the view in words."""
    parent = as_mapping(record.zoo.get("parent"))
    return {"parent": parent, "parent_view": run_record.describe_view(as_mapping(parent.get("view")))}


def _build_cut_context(record: Record) -> dict[str, Any]:
    """Return an example of a cut, as values, as Python arguments and as options of the command line."""
    cut = _choose_example_cut(record)
    return {
        "cut": cut,
        "cut_arguments": Markup(", ".join(f"{key}={value}" for key, value in cut.items())),
        "cut_options": Markup(" ".join(f"--{key} {value}" for key, value in cut.items())),
    }


def _build_result_context(record: Record) -> dict[str, Any]:
    """Return the tasks and results that the text mentions."""
    pairs = [(task, result) for task in record.tasks for result in task.results]
    return {
        "main_task": next((task for task in record.tasks if task.whole.value is not None), None),
        "timed_task": next((task for task in record.tasks if task.whole.speed), None),
        "first_tasks": record.tasks[:MAX_GLANCE],
        "has_further_figures": bool(record.tasks) and _has_further_figures(record.tasks[0]),
        "local_tasks": [task for task in record.tasks if not task.official],
        "unscored": [(task, result) for task, result in pairs if result.value is None],
        "worsened": [(task, result) for task, result in pairs if result.gain is not None and result.gain < 0],
        "has_intervals": any(result.has_interval for _, result in pairs),
        "has_baselines": any(result.baseline is not None for _, result in pairs),
        "task_types": {task.type for task in record.tasks},
        "host": as_mapping(record.report.get("host")),
        "findings": run_record.list_findings(record.report),
    }


def _has_further_figures(task: Task) -> bool:
    has_verdicts = any(result.verdict for result in task.results)
    return has_verdicts or bool(task.revision or task.free_baselines or task.figures)


def _build_data_context(record: Record) -> dict[str, Any]:
    data_sets = _list_data_sets(record)
    return {
        "data_sets": data_sets,
        "training_data": (training_data := _find_training_data(data_sets)),
        "sources": sources.list_sources(record),
        "mixture": as_mapping(record.recipe.get("mixture")),
        "rows_seen": _find_rows_seen(record, training_data),
        **_build_overlap_context(record),
        "long_texts": _list_long_texts(record),
        **mining.build_mining_context(record),
        "fingerprint_digits": figures.FINGERPRINT_DIGITS,
        "citations": list(dict.fromkeys(data_set["citation"] for data_set in data_sets if data_set["citation"])),
    }


def _find_training_data(data_sets: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the data set that was trained on, with all rows and names if it consists of several sources."""
    for data_set in data_sets:
        if data_set["role"] == "train" and data_set["name"]:
            return data_set
    parts = [data_set for data_set in data_sets if data_set["role"].startswith("train/")]
    if not parts:
        return None
    names = list(dict.fromkeys(part["name"] for part in parts if part["name"]))
    name = figures.format_list(names) if len(names) <= MAX_NAMED_SOURCES else f"{len(parts)} sources"
    return {"role": "train", "name": name, "rows": sum(part["rows"] or 0 for part in parts), "url": ""}


def _build_overlap_context(record: Record) -> dict[str, Any]:
    """Return the counts of rows that training shares with other data sets, and the names of both sides."""
    entries = record.lock.get("overlaps")
    overlaps = [
        {
            "name": markdown.as_line(entry.get("name")),
            "among": markdown.as_line(entry.get("among")),
            "shared": as_number(entry.get("shared")),
            "rows": as_number(entry.get("rows")),
        }
        for entry in map(as_mapping, entries if isinstance(entries, list) else [])
    ]
    return {
        "overlaps": overlaps,
        "shared_rows": [overlap for overlap in overlaps if overlap["shared"]],
        "tested_names": list(dict.fromkeys(overlap["name"] for overlap in overlaps)),
        "trained_names": list(dict.fromkeys(overlap["among"] for overlap in overlaps)),
    }


def _list_long_texts(record: Record) -> list[dict[str, Any]]:
    """Return the data sets with texts that are longer than the encoder reads, with their counts."""
    entries = record.lock.get("long_texts")
    data_sets = []
    for entry in map(as_mapping, entries if isinstance(entries, list) else []):
        numbers = {name: as_number(entry.get(name)) for name in ("counted", "texts", "long", "longest", "limit")}
        if numbers["long"] and None not in numbers.values():
            excess = numbers["longest"] - numbers["limit"]  # type: ignore[operator]
            data_sets.append({"name": markdown.as_line(entry.get("name")), "excess": excess, **numbers})
    return data_sets


def _build_training_context(record: Record, spec: EncoderSpec | None) -> dict[str, Any]:
    packages = as_mapping(record.lock.get("packages"))
    has_folder = _has_relative_path(record.recipe) or _is_folder(record) or mining.needs_model_folder(record)
    needs_data = bool(record.recipe) and has_folder
    return {
        "needs_data": needs_data,
        "data_option": Markup(" --data DATA" if needs_data else ""),
        "training_host": as_mapping(record.lock.get("host")),
        "best_validation": min(record.validation, key=lambda point: point[1]) if record.validation else None,
        "best_score": run_record.find_best_score(record),
        "best_score_name": "highest" if run_record.watches_higher_scores(record) else "lowest",
        "settings": [
            (markdown.format_code(key), markdown.format_code(value))
            for key, value in settings.list_settings(record, spec)
        ],
        "packages": "\n".join(f"{name}=={version}" for name, version in packages.items()),
    }


# -- values of the context ---------------------------------------------------------------------------------------------


def _find_backbone(record: Record) -> str | None:
    """Return the name of the backbone whose weights the training started from, or None if it started from scratch."""
    section = as_mapping(as_mapping(record.recipe.get("encoder")).get("backbone"))
    if section.get("timm") and section.get("pretrained") is False:
        return None
    return as_mapping(record.lock.get("backbone")).get("name") or _describe_backbone(record)


def _describe_backbone(record: Record) -> str | None:
    """Return the backbone that the recipe names. Return None if the family builds its network itself."""
    backbone = as_mapping(record.recipe.get("encoder")).get("backbone")
    if isinstance(backbone, Mapping):
        return backbone.get("model") or (f"timm/{backbone['timm']}" if backbone.get("timm") else None)
    return backbone


def _choose_example_cut(record: Record) -> dict[str, int]:
    """Return a cut that shows how cutting is written: the middle one of the measured cuts, or else of the possible ones."""
    corners = [result.corner for result in record.tasks[0].results[1:]] if record.tasks else []
    layers, dims = record.facts.get("layers"), record.facts.get("dims")
    if not corners and as_number(layers) and isinstance(dims, list) and dims:
        corners = [{"layers": (record.facts["layers"] + 1) // 2, "dim": dims[len(dims) // 2]}]
    corner = corners[(len(corners) - 1) // 2] if corners else {}
    numbers = {key: as_number(corner.get(key)) for key in ("layers", "dim")}
    return {key: int(number) for key, number in numbers.items() if number is not None}


def _list_data_sets(record: Record) -> list[dict[str, Any]]:
    """Return the role, origin, fingerprint and counts of every data set of the lock, and of those with skipped rows."""
    skipped_rows = as_mapping(record.report.get("skipped_rows"))
    locked = as_mapping(record.lock.get("data"))
    unlocked_roles = [role for role, count in skipped_rows.items() if as_number(count) and role not in locked]
    data_sets = []
    for role in [*locked, *unlocked_roles]:
        entry = as_mapping(locked.get(role))
        origin = as_mapping(entry.get("origin"))
        data_sets.append(
            {
                "role": role,
                "rows": as_number(entry.get("rows")),
                "skipped": as_number(entry.get("skipped", skipped_rows.get(role))),
                "fingerprint": markdown.as_line(entry.get("fingerprint") or ""),
                **{key: str(origin.get(key) or "") for key in ("name", "revision", "licence", "url", "citation")},
            }
        )
    return data_sets


def _read_spec(record: Record, spec_class: type[EncoderSpec]) -> EncoderSpec | None:
    """Return the encoder section of the folder, or None if it is damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RenamedFieldWarning)
            return spec_class.model_validate(record.zoo.get("spec"))
    except ValidationError:
        return None


def _find_rows_seen(record: Record, training_data: Mapping[str, Any] | None) -> float | None:
    """Return how many rows of the training data were read, if that is known and fewer than there are."""
    seen, rows = as_number(record.lock.get("rows_seen")), (training_data or {}).get("rows")
    has_one_set = not as_mapping(as_mapping(record.recipe.get("encoder")).get("sets"))
    return seen if seen is not None and rows is not None and seen < rows and has_one_set else None


def _has_relative_path(value: Any) -> bool:
    """Whether a part of a recipe names a file or a folder relative to the recipe."""
    if isinstance(value, list):
        return any(map(_has_relative_path, value))
    if not isinstance(value, Mapping):
        return False
    names = ("path", "images") if value.get("source") == "file" else ("folder",)
    paths = [value[name] for name in names if isinstance(value.get(name), str)]
    return any(not path.startswith(("/", "~", "$")) for path in paths) or any(map(_has_relative_path, value.values()))


def _is_folder(record: Record) -> bool:
    """Whether the backbone was a folder. The revision of a folder is the sha256 of its weights, not a commit."""
    revision = str(as_mapping(record.lock.get("backbone")).get("revision") or "")
    reference = str(_describe_backbone(record) or "")
    is_relative = not reference.startswith(("package:", "/", "~", "$", "timm/"))
    return bool(reference) and is_relative and len(revision) == front_matter.SHA256_LENGTH


# -- extras of the package ---------------------------------------------------------------------------------------------


def _list_extras(record: Record, family_extras: tuple[str, ...]) -> list[str]:
    """Return the extras that training needs, for example quickstart and image: those of data and backbone, then the family's."""
    return list(dict.fromkeys([*_find_extras(record.recipe), *family_extras]))


def _find_extras(value: Any) -> Iterator[str]:
    """Yield the extras of the builtin data sets and of the `package:` references inside a part of a recipe."""
    extra = None
    if isinstance(value, str):
        extra = model_references.find_extra(value)
    elif isinstance(value, Mapping):
        if value.get("source") == "builtin":
            extra = builtin.find_extra(str(value.get("name")))
        for entry in value.values():
            yield from _find_extras(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _find_extras(entry)
    if extra:
        yield extra

"""The front matter of a model card, from which the Hub lists a model and shows its results.

Only finite results are included, each with its view. A result on local data has the name of that data.
"""

from __future__ import annotations

import re
from typing import Any

from zoo.card import markdown
from zoo.card.run_record import Record, Result, as_mapping, as_number

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
SHA256_LENGTH = 64


def build_front_matter(record: Record, family: str) -> str:
    """Return the YAML that stands between the two `---` lines of a card."""
    from huggingface_hub import ModelCardData

    card, results = as_mapping(record.recipe.get("card")), _build_eval_results(record)
    license_id, license_name = _split_license(str(card.get("license") or ""))
    languages, recipe_tags = list_languages(record), card.get("tags")
    tags = ["sentence-transformers"] if record.standalone else []
    task_tags = ["image-feature-extraction"] if _reads_images(record) else ["feature-extraction", "sentence-similarity"]
    tags += ["zoo", family, *task_tags, *(recipe_tags if isinstance(recipe_tags, list) else [])]
    optional: dict[str, Any] = {"model_name": get_name(record), "eval_results": results} if results else {}
    if license_name:
        optional["license_name"] = license_name
    data = ModelCardData(
        language=languages[0] if len(languages) == 1 else languages or None,
        license=license_id,
        library_name="sentence-transformers" if record.standalone else "embedding-zoo",
        pipeline_tag=task_tags[-1],
        tags=[tag for tag in map(markdown.as_line, tags) if tag],
        base_model=_find_base_model(record),
        datasets=_list_hub_data(record),
        **optional,
    )
    return data.to_yaml()


def get_name(record: Record) -> str:
    """Return the name of the recipe."""
    return markdown.as_line(record.recipe.get("name") or record.zoo.get("name") or "model")


def list_languages(record: Record) -> list[str]:
    """Return the language codes of the recipe, or an empty list if the model reads images."""
    if _reads_images(record):
        return []
    languages = as_mapping(record.recipe.get("card")).get("language") or []
    return [markdown.as_line(language) for language in (languages if isinstance(languages, list) else [languages])]


def _reads_images(record: Record) -> bool:
    return record.facts.get("modality") == "image"


def _build_eval_results(record: Record) -> list[Any]:
    from huggingface_hub import EvalResult

    slugs = _make_slugs([task.name for task in record.tasks])
    return [
        EvalResult(
            task_type=markdown.as_line(task.type) or "feature-extraction",
            dataset_type=slugs[task.name],
            dataset_name=markdown.as_line(task.name),
            dataset_revision=markdown.as_line(task.revision) or None,
            metric_type=markdown.as_line(task.metric),
            metric_name=markdown.as_line(f"{task.metric} ({result.label})"),
            metric_value=result.value,
            metric_args=_list_metric_args(result) or None,
        )
        for task in record.tasks
        for result in task.results
        if result.value is not None
    ]


def _make_slugs(names: list[str]) -> dict[str, str]:
    """Return a slug for every task name. Two names that differ only in punctuation get different slugs."""
    slugs: dict[str, str] = {}
    for name in names:
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "task"
        if name not in slugs:
            slugs[name] = slug if slug not in slugs.values() else f"{slug}-{len(slugs) + 1}"
    return slugs


def _list_metric_args(result: Result) -> dict[str, Any]:
    """Return the view of a result, without values that are neither text nor a finite number."""
    return {
        markdown.as_line(key): markdown.as_line(value) if isinstance(value, str) else value
        for key, value in result.corner.items()
        if isinstance(value, str) or as_number(value) is not None
    }


def _split_license(text: str) -> tuple[str, str | None]:
    """Return (`license`, `license_name`). Text that is not an identifier of the Hub becomes `other` with a name."""
    plain = markdown.as_line(text).lower()
    if re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", plain):
        return plain, None
    return "other", re.sub(r"[^a-z0-9.]+", "-", plain).strip("-")[:64] or None


def _find_base_model(record: Record) -> str | None:
    """Return the Hub id of the backbone.

    Return None for a local folder, whose name may be that of somebody else's model on the Hub.
    """
    reference = str(as_mapping(record.recipe.get("encoder")).get("backbone") or "")
    locked_backbone = as_mapping(record.lock.get("backbone"))
    name, revision = str(locked_backbone.get("name") or ""), str(locked_backbone.get("revision") or "")
    # The revision of a folder is the sha256 of its weights, and that of a Hub repository is a commit.
    is_public = reference.startswith("package:") or (revision and len(revision) != SHA256_LENGTH)
    return name if is_public and HUB_ID.fullmatch(name) else None


def _list_hub_data(record: Record) -> list[str] | None:
    data = record.recipe.get("data")
    sections = map(as_mapping, data if isinstance(data, list) else [data])
    names = [str(section.get("name") or "") for section in sections if section.get("source") == "hub"]
    return list(dict.fromkeys(name for name in names if HUB_ID.fullmatch(name))) or None

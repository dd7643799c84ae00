"""The front matter of a model card: what the Hub reads to list a model and to show its results.

Only finite results get in, each with the view it belongs to; what was measured on local data keeps that data's name.
"""

from __future__ import annotations

import re
from typing import Any

from zoo.card import markdown
from zoo.card.run_record import Record, mapping, number

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)


def front_matter(about: Record, family: str) -> str:
    """The YAML between the rules of a card, without them."""
    from huggingface_hub import ModelCardData

    card, results = mapping(about.recipe.get("card")), _eval_results(about)
    license_id, license_name = _license(str(card.get("license") or ""))
    spoken, own = languages(about), card.get("tags")
    tags = ["sentence-transformers"] if about.standalone else []
    kind = ["image-feature-extraction"] if _sees(about) else ["feature-extraction", "sentence-similarity"]
    tags += ["zoo", family, *kind, *(own if isinstance(own, list) else [])]
    optional: dict[str, Any] = {"model_name": name(about), "eval_results": results} if results else {}
    if license_name:
        optional["license_name"] = license_name
    data = ModelCardData(
        language=spoken[0] if len(spoken) == 1 else spoken or None,
        license=license_id,
        library_name="sentence-transformers" if about.standalone else "embedding-zoo",
        pipeline_tag=kind[-1],
        tags=[tag for tag in map(markdown.line, tags) if tag],
        base_model=_base_model(about),
        datasets=_hub_data(about),
        **optional,
    )
    return data.to_yaml()


def _eval_results(about: Record) -> list[Any]:
    from huggingface_hub import EvalResult

    slugs: dict[str, str] = {}
    for task in about.tasks:
        slug = re.sub(r"[^a-z0-9]+", "-", task.name.lower()).strip("-") or "task"
        taken = [other for known, other in slugs.items() if known != task.name]
        slugs.setdefault(task.name, slug if slug not in taken else f"{slug}-{len(slugs) + 1}")
    return [
        EvalResult(
            task_type=markdown.line(task.type) or "feature-extraction",
            dataset_type=slugs[task.name],
            dataset_name=markdown.line(task.name),
            dataset_revision=markdown.line(task.revision) or None,
            metric_type=markdown.line(task.metric),
            metric_name=markdown.line(f"{task.metric} ({r.label})"),
            metric_value=r.value,
            metric_args={
                key: value for key, value in r.corner.items() if isinstance(value, str) or number(value) is not None
            }
            or None,
        )
        for task in about.tasks
        for r in task.results
        if r.value is not None
    ]


def _license(given: str) -> tuple[str, str | None]:
    """(`license`, `license_name`): what does not look like an identifier of the Hub is `other` with a name."""
    plain = markdown.line(given).lower()
    if re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", plain):
        return plain, None
    return "other", re.sub(r"[^a-z0-9.]+", "-", plain).strip("-")[:64] or None


def _base_model(about: Record) -> str | None:
    """The Hub id of the backbone; None for a folder of the author's own, whose name may be that of another's model."""
    reference = str(mapping(about.recipe.get("encoder")).get("backbone") or "")
    locked = mapping(about.lock.get("backbone"))
    origin, pin = str(locked.get("name") or ""), str(locked.get("revision") or "")
    # A folder is pinned by the sha256 of its weights, a repository by a commit, a package by what zoo knows of it.
    public = reference.startswith("package:") or (pin and len(pin) != 64)
    return origin if public and HUB_ID.fullmatch(origin) else None


def _hub_data(about: Record) -> list[str] | None:
    data = mapping(about.recipe.get("data"))
    origin = str(data.get("name") or "")
    return [origin] if data.get("source") == "hub" and HUB_ID.fullmatch(origin) else None


def _sees(about: Record) -> bool:
    return about.facts.get("modality") == "image"


def name(about: Record) -> str:
    """The recipe's name."""
    return markdown.line(about.recipe.get("name") or about.zoo.get("name") or "model")


def languages(about: Record) -> list[str]:
    """Codes of the languages that the recipe names; none where the model reads images."""
    if _sees(about):
        return []
    given = mapping(about.recipe.get("card")).get("language") or []
    return [markdown.line(each) for each in (given if isinstance(given, list) else [given])]

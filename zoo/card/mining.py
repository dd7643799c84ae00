"""The values that a card prints about mined hard negatives."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from zoo.card import figures, markdown
from zoo.card.run_record import Record, as_mapping, as_number

COUNTS = (
    "found",
    "known",
    "above_margin",
    "near_duplicates",
    "short_rows",
    "filled",
    "empty_rows",
    "rows",
    "texts",
    "count",
)


def build_mining_context(record: Record) -> dict[str, Any]:
    """Return {"mining": the counts and the examples of the mining}; its value is {} for a model without one."""
    entry = as_mapping(record.lock.get("mining"))
    if not entry:
        return {"mining": {}}
    counts = {name: as_number(entry.get(name)) or 0.0 for name in COUNTS}
    examples, margin = entry.get("examples"), as_number(entry.get("margin"))
    return {
        "mining": {
            **counts,
            "epochs": len(epochs) if isinstance(epochs := entry.get("epochs"), list) else 0,
            "margin": None if margin is None else Markup(f"{margin:g}"),
            "model": markdown.as_line(as_mapping(entry.get("model")).get("name") or "an unnamed model"),
            "corpus": markdown.as_line(entry.get("corpus") or ""),
            "examples": [
                (
                    str(example.get("anchor") or ""),
                    str(example.get("positive") or ""),
                    figures.format_score(example.get("positive_score")),
                    str(example.get("negative") or ""),
                    figures.format_score(example.get("negative_score")),
                )
                for example in map(as_mapping, examples if isinstance(examples, list) else [])
            ],
        }
    }


def needs_model_folder(record: Record) -> bool:
    """Whether training again needs a folder of the user's own: that of the model which searched."""
    return as_mapping(as_mapping(record.lock.get("mining")).get("model")).get("is_folder") is True

"""The modules and prompts that a backbone in the sentence-transformers format may have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zoo.core.errors import UncuttableError, ZooError


def check_modules(reference: str, names: Sequence[str], is_model_folder: bool, can_be_cut: bool) -> None:
    """Raise ZooError unless a model has a Transformer, a Pooling, and only what may follow them."""
    allowed = {"Normalize", "Dense"} if is_model_folder or not can_be_cut else {"Normalize"}
    after = list(names[2:])
    if list(names[:2]) == ["Transformer", "Pooling"] and set(after) <= allowed and "Normalize" not in after[:-1]:
        return
    listed = "can be cut" if can_be_cut else "with Dense between them, can be read"
    raise (UncuttableError if can_be_cut else ZooError)(
        f"backbone {reference}: has the modules {', '.join(names)}; only Transformer, Pooling, Normalize {listed}"
    )


def replace_token_modules(reference: str, modules: Sequence[Any]) -> list[Any]:
    """Return the Transformer of a MultiVectorEncoder with a mean pooling, in place of its modules for token vectors."""
    from sentence_transformers.models import Normalize, Pooling

    names = [type(module).__name__ for module in modules]
    if names not in (["Transformer", *head, "MultiVectorMask", "Normalize"] for head in ((), ("Dense",))):
        raise ZooError(
            f"{reference}: has the modules {', '.join(names)}; only Transformer, Dense, MultiVectorMask, Normalize can be read"
        )
    return [modules[0], Pooling(modules[0].get_embedding_dimension(), pooling_mode="mean"), Normalize()]


def find_prompts(prompts: Mapping[str, str | None]) -> dict[str, str]:
    """Return the prompts by role, as sentence-transformers chooses them: a document's is the first that exists of three."""
    names_by_role = {"query": ("query",), "document": ("document", "passage", "corpus")}
    by_role = {
        role: next((prompts[name] for name in names if name in prompts), None) for role, names in names_by_role.items()
    }
    return {role: prompt for role, prompt in by_role.items() if prompt}

"""All that the models can do, as the page at `/` asks for it: sizes, classes, concepts, latents, indexes and limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zoo import __version__
from zoo.encoding import PRECISIONS
from zoo.index.index import Index
from zoo.index.model_file import find_score_step
from zoo.serve import card_html
from zoo.serve.model import ServedModel
from zoo.serve.settings import Limits


def describe(models: Sequence[ServedModel], limits: Limits) -> dict[str, Any]:
    """Return the answer of /about."""
    shown = {name: getattr(limits, name) for name in ("items", "body_bytes", "request_tokens", "image_bytes")}
    return {"object": "about", "version": __version__, "limits": shown, "models": list(map(describe_model, models))}


def describe_model(model: ServedModel) -> dict[str, Any]:
    """Return the entry of a model in the list of models, and beside it all that a page has to know.

    `layers` is the number of blocks that a view may cut, or None. `sizes` are numbers of components that were trained, or the
    only one. `classes` are names of classes or topics. `components_named` says that components stand for concepts.
    """
    encoder: Any = model.encoder
    view_options = encoder.spec.View.model_fields
    sizes = [size for size in getattr(encoder.spec, "dims", ()) or () if size < encoder.dim]
    is_text_alone = encoder.modalities == ("text",)
    return {
        **model.describe(),
        "layers": encoder.depth if "layers" in view_options else None,
        "sizes": sorted({*sizes, encoder.dim}) if "dim" in view_options else [encoder.dim],
        "precision": model.precision,
        "precisions": list_precisions(model) if is_text_alone and not model.encodes_to_codes else [model.precision],
        "bytes_per_vector": encoder.bytes_per_vector,
        "code_bytes": encoder.find_code_step().bytes_per_vector if model.has_code_step else None,
        "mixed_inputs": encoder.accepts_mixed_inputs,
        "classes": list_classes(model),
        "threshold": getattr(encoder, "threshold", None),
        "components_named": has_named_components(model),
        "latents": encoder.spec.latents if model.can_traverse else None,
        "searched": [describe_index(name, index) for name, index in model.indexes.items()],
        "has_card": card_html.has_card(model.folder),
    }


def list_precisions(model: ServedModel) -> list[str]:
    """List the precisions that a request may ask for, that of the server among them. fp16 is slow on a CPU and left out."""
    left_out = {"auto", "fp16"} if model.encoder.device.type == "cpu" else {"auto"}
    return [name for name in PRECISIONS.values() if name == model.precision or name not in left_out]


def list_classes(model: ServedModel) -> list[str] | None:
    """List the names of classes or topics, or return None for a model without any."""
    if not model.can_predict:
        return None
    encoder: Any = model.encoder
    names: Sequence[Any] = encoder.classes if hasattr(encoder, "classes") else getattr(encoder, "label_names", ())
    return list(map(str, names))


def has_named_components(model: ServedModel) -> bool:
    """Return whether the first components of a vector stand for concepts with names."""
    encoder: Any = model.encoder
    return getattr(encoder, "concept_list", None) is not None and encoder.spec.space != "opaque"


def list_concepts(model: ServedModel) -> list[dict[str, str]]:
    """List id and name of the concept of each component; the list is empty if components have no names."""
    if not has_named_components(model):
        return []
    encoder: Any = model.encoder
    concepts = encoder.concept_list
    return [{"id": key, "name": name} for key, name in zip(concepts.ids, concepts.names, strict=True)]


def describe_index(name: str, index: Index) -> dict[str, Any]:
    """Describe an index: its rows, and its columns with their kinds, on which a condition may stand."""
    columns = [{"name": column, "kind": kind} for column, kind in index.model.layout.columns.items()]
    return {
        "name": name,
        "rows": len(index),
        "columns": columns,
        "holds_images": index.model.layout.image is not None,
        "has_probabilities": find_score_step(index.encoder) is not None,
    }

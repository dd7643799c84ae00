"""Find what is wrong with the weights of a local text backbone, for `zoo check`. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path

from zoo.artefact import headers, preflight, tensors, transformer_folder, weight_names
from zoo.core.errors import ZooError
from zoo.hub import model_references
from zoo.text import architectures


def find_problem(reference: str, folder: Path) -> str | None:
    """Return what is wrong with a text backbone, or None. A backbone on the Hub is not downloaded.

    A local folder must hold every tensor of its architecture. A relative path in `reference` starts at `folder`.
    """
    try:
        local = model_references.locate(reference, folder)
        if local is not None:
            check(reference, local)
    except (ZooError, OSError, ValueError, KeyError, TypeError) as error:
        return str(error)
    return None


def check(reference: str, model_folder: Path) -> None:
    """Raise ArtefactError unless the weights have the names, shapes and dtypes of the architecture in config.json.

    Only dtypes and depth are checked if the tensors of an architecture are not known without torch.
    """
    weights_folder = transformer_folder.find_transformer(model_folder)
    config = json.loads((weights_folder / "config.json").read_text(encoding="utf-8"))
    preflight.check_integers(weights_folder / "config.json", config)
    entries = headers.read_all(tensors.list_pretrained_files(weights_folder))
    adapter = architectures.DEPTH_ADAPTERS.get(str(config.get("model_type")), architectures.DepthAdapter())
    depth = int(config.get(adapter.count, 0))
    if depth > len(entries):
        raise ZooError(f"{weights_folder}: {depth} layers, but the weights hold {len(entries)} tensors")
    names = weight_names.check(weights_folder, entries, architectures.list_tensors(config), adapter.prefix)
    weight_names.tell(reference, names._replace(unexpected=()))  # the head of a task may be there

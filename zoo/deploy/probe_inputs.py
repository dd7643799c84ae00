"""Inputs on which a graph is compared with the encoder: texts of many lengths and scripts, images, vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from zoo.artefact import reopening
from zoo.build import training_data
from zoo.core.errors import ZooError
from zoo.deploy.probe_texts import SENTENCES
from zoo.graph import Graph
from zoo.recipe import recipe

COUNT, CANARIES = 100, 8
"""Inputs that are compared; those of them that become canaries if they are images or vectors."""
LONGEST = 40
"""Sentences of the longest text, which is beyond the token limit of most models."""


def make_texts() -> list[str]:
    """Return COUNT different texts, the short ones first. The same at every call."""
    generator = np.random.default_rng(0)
    texts = dict.fromkeys([*SENTENCES, *(text for text in reopening.TEXTS if len(text) < 100)])
    while len(texts) < COUNT:
        count = int(generator.integers(2, LONGEST + 1))
        texts.setdefault(" ".join(SENTENCES[int(place)] for place in generator.integers(len(SENTENCES), size=count)))
    return list(texts)


def make_inputs(graph: Graph) -> list[Any]:
    """Return the inputs that a graph is verified on: texts, images of its size, or vectors of its components.

    Texts of the graph's own words follow, and then names of classes that have a vector of their own.
    """
    if graph.modality == "text":
        names = graph.classes if graph.named_vectors is not None else ()
        return [*make_texts(), *graph.probes, *names]
    generator = np.random.default_rng(0)
    if graph.modality == "vector":
        return list(generator.standard_normal((COUNT, graph.components), dtype=np.float32))
    shape = (graph.size, graph.size, graph.channels)
    # A coarse grid is made larger, because plain noise looks the same to a network everywhere.
    coarse = generator.integers(0, 256, (COUNT, 4, 4, graph.channels), dtype=np.uint8)
    places = np.arange(graph.size) * 4 // graph.size
    images = [grid[places][:, places].reshape(shape) for grid in coarse]
    return [image[..., 0] if graph.channels == 1 else image for image in images]


def read_training_texts(model_folder: Path, data: Path, count: int) -> list[str]:
    """Return texts of the training rows that a model folder's recipe names; [] if they cannot be read here.

    Relative paths start at `data`.
    """
    path = model_folder / "recipe.yaml"
    if not path.is_file():
        return []
    try:
        rows = training_data.read_training_rows(recipe.load(path, folder=data), None).rows
    except ZooError:
        return []
    cells = [cell for column in rows.column_names for cell in rows[: 4 * count][column] if isinstance(cell, str)]
    texts = list(dict.fromkeys(cells))
    order = np.random.default_rng(0).permutation(len(texts))[:count]
    return [texts[place] for place in order]

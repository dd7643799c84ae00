"""The task `geometry`: collapse, label sharpness, readable information and the layer that already has it, for any encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zoo.metrics.encoded_rows import encode_rows, find_column, list_depths
from zoo.metrics.label_sharpness import Sharpness, measure_sharpness
from zoo.metrics.linear_information import Information, measure_information
from zoo.metrics.neural_collapse import (
    Classes,
    collect_classes,
    find_nearest_means,
    measure_collapse,
    measure_head_alignment,
)

if TYPE_CHECKING:
    from datasets import Dataset

    from zoo.encoder import Encoder

ENOUGH = 0.95
"""A layer knows the labels if it gives this share of the information that the best layer gives."""
SHOWN = 120
"""Characters of an input in the list of suspected labels."""


class Part(NamedTuple):
    """Vectors (n, d) of a table, and their labels as text."""

    vectors: npt.NDArray[np.float32]
    labels: list[str]


class Layer(NamedTuple):
    """How readable the labels are after the first blocks of an encoder."""

    layers: int
    nearest_mean: float
    v_information: float


def measure(
    encoder: Encoder, tables: Mapping[str, Dataset], *, by_layer: bool, seed: int = 42
) -> tuple[dict[str, float], dict[str, Any], npt.NDArray[np.bool_]]:
    """Return the figures by name, nearest_mean first, JSON-able details, and whether each row of `data` is classified right.

    Means, sharpness and the linear classifier are of the rows `train`; everything else is of the rows `data`. `by_layer` also
    measures every depth of an encoder that can be cut in layers.
    """
    train, test = (_encode(encoder, tables[part]) for part in ("train", "data"))
    hits = _classify(train, test)
    classes = collect_classes(test.vectors, test.labels)
    sharpness = measure_sharpness(train.vectors, train.labels, seed=seed)
    information = measure_information(*train, *test, seed=seed)
    figures = {"nearest_mean": float(hits.mean()), **measure_collapse(classes)._asdict()}
    figures |= _measure_head(encoder, train, test, classes)
    figures |= {
        "label_sharpness": sharpness.label_sharpness,
        "label_sharpness_999": sharpness.label_sharpness_999,
        "v_information": information.v_information,
        "v_information_share": information.v_information_share,
        "label_entropy": information.entropy,
    }
    layers = measure_layers(encoder, tables, information, seed) if by_layer else []
    details = {
        "classes": len(classes.names),
        "single_row_classes": classes.left_out,
        "contradictions": sharpness.contradictions,
        "suspects": _list_suspects(sharpness, tables["train"], find_column(encoder, tables["train"])),
        "layers": [layer._asdict() for layer in layers],
        "remarks": _list_remarks(sharpness, layers),
    }
    return figures, details, hits


def measure_layers(encoder: Encoder, tables: Mapping[str, Dataset], whole: Information, seed: int) -> list[Layer]:
    """Measure every depth up to that of the encoder, from one pass over each input. [] if it cannot be cut in layers."""
    found = []
    for number, view in enumerate(encoder.views_sharing_a_pass(list_depths(encoder)), 1):
        train, test = (_encode(view, tables[part]) for part in ("train", "data"))
        information = measure_information(*train, *test, strength=whole.strength, seed=seed)
        found.append(Layer(number, float(_classify(train, test).mean()), information.v_information))
    return found


def find_knowing_layer(layers: Sequence[Layer]) -> Layer | None:
    """Return the first layer that gives 95 % of the information of the best layer. None without layers."""
    most = max((layer.v_information for layer in layers), default=0.0)
    return next((layer for layer in layers if layer.v_information >= ENOUGH * most), None)


def _encode(encoder: Encoder, rows: Dataset) -> Part:
    return Part(encode_rows(encoder, rows), [str(label) for label in rows["label"]])


def _classify(train: Part, test: Part) -> npt.NDArray[np.bool_]:
    """Return whether the nearest mean of the training rows is that of the right class. A class may have one row."""
    names, positions, counts = np.unique(train.labels, return_inverse=True, return_counts=True)
    means = np.zeros((len(names), train.vectors.shape[1]))
    np.add.at(means, positions, train.vectors)
    classes = Classes(tuple(names), counts, means / counts[:, None], np.zeros(len(names)), 0)
    hits: npt.NDArray[np.bool_] = names[find_nearest_means(test.vectors, classes)] == np.array(test.labels)
    return hits


def _measure_head(encoder: Encoder, train: Part, test: Part, classes: Classes) -> dict[str, float]:
    """Compare the class vectors of the encoder, if it has any, with the means. {} if it lacks a class of the rows."""
    found = encoder.find_class_vectors()
    if found is None:
        return {}
    vectors = dict(zip(map(str, found[0]), np.asarray(found[1], np.float64), strict=True))
    if not set(classes.names) <= set(vectors):
        return {}
    head = np.stack([vectors[name] for name in classes.names])
    means = collect_classes(train.vectors, train.labels)
    by_mean = np.array(means.names)[find_nearest_means(test.vectors, means)]
    by_head = np.array(list(vectors))[(test.vectors @ np.stack(list(vectors.values())).T).argmax(axis=1)]
    return {
        "head_alignment": measure_head_alignment(classes, head),
        "head_disagreement": float((by_mean != by_head).mean()),
    }


def _list_suspects(sharpness: Sharpness, rows: Dataset, column: str) -> list[dict[str, Any]]:
    """Return the suspected rows with their labels and inputs, as JSON can hold them."""
    is_text = isinstance(rows[0][column], str)
    listed = []
    for suspect in sharpness.suspects:
        entry: dict[str, Any] = suspect._asdict()
        for key in ("row", "other"):
            row = rows[entry[key]]
            entry[f"{key}_label"] = row["label"]
            entry[f"{key}_input"] = row[column][:SHOWN] if is_text else ""
        listed.append(entry)
    return listed


def _list_remarks(sharpness: Sharpness, layers: Sequence[Layer]) -> list[str]:
    """Say which layer knows the labels, and which label is the first to look at."""
    remarks = []
    knowing = find_knowing_layer(layers)
    if knowing is not None and knowing.layers < len(layers):
        most = max(layer.v_information for layer in layers)
        remarks.append(
            f"layer {knowing.layers} of {len(layers)} already knows the labels: {knowing.v_information:.2f} of {most:.2f} nats; "
            f"a cut to layers={knowing.layers} keeps them readable"
        )
    if sharpness.contradictions:
        remarks.append(f"{sharpness.contradictions} drawn pairs have equal vectors and different labels")
    doubtful = [suspect for suspect in sharpness.suspects if suspect.agreement < 0.5]
    if doubtful:
        remarks.append(
            f"row {doubtful[0].row} of the training rows may have a wrong label: most of its neighbours have another one; "
            f"the report lists {len(doubtful)} such rows"
        )
    return remarks

"""The task `geometry` finds the layer that knows the labels, and compares class vectors with the means."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny
import tiny_matryoshka
from pydantic import TypeAdapter

from zoo import evaluation
from zoo.cli.output import list_remarks
from zoo.core.errors import DataError
from zoo.evaluation.spec import Task
from zoo.metrics import geometry_of_encoder
from zoo.metrics.geometry_of_encoder import Layer, find_knowing_layer
from zoo.metrics.label_sharpness import Sharpness, Suspect


def write(folder, name, rows):
    (folder / f"{name}.jsonl").write_text(
        "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows)
    )
    return {"source": "file", "path": f"{name}.jsonl"}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return tiny_matryoshka.build(tmp_path_factory.mktemp("encoder"))


def test_every_depth_is_measured_once_and_the_report_names_suspects(encoder, tmp_path):
    rows = [(text, text.split()[0] in tiny.WORDS[::2]) for text in tiny.SENTENCES]
    rows = [(text, "even" if is_even else "odd") for text, is_even in rows]
    rows[0] = (rows[0][0], "odd" if rows[0][1] == "even" else "even")
    entry = {"task": "geometry", "train": write(tmp_path, "a", rows[:90]), "data": write(tmp_path, "b", rows[60:])}
    report = evaluation.evaluate(encoder, [TypeAdapter(Task).validate_python(entry)], folder=tmp_path, baseline=False)
    (result,) = report["results"]
    details, figures = result["details"], result["figures"]
    assert result["metric"] == "nearest_mean"
    assert [layer["layers"] for layer in details["layers"]] == [1, 2, 3]
    assert details["layers"][-1]["v_information"] == pytest.approx(figures["v_information"], abs=1e-3)
    assert details["layers"][-1]["nearest_mean"] == pytest.approx(figures["nearest_mean"])
    assert {"row", "row_label", "row_input", "agreement"} <= details["suspects"][0].keys()
    assert figures["label_entropy"] >= figures["v_information"] >= 0
    json.dumps(report)
    again = TypeAdapter(Task).validate_python({**entry, "by_layer": False, "views": [{"layers": 2}]})
    (cut,) = evaluation.evaluate(encoder, [again], folder=tmp_path, baseline=False)["results"]
    assert cut["details"]["layers"] == []
    assert cut["value"] == pytest.approx(details["layers"][1]["nearest_mean"])


def test_the_first_layer_with_enough_information_knows_the_labels():
    layers = [Layer(1, 0.1, 1.0), Layer(2, 0.5, 1.91), Layer(3, 0.6, 2.0), Layer(4, 0.4, 1.5)]
    assert find_knowing_layer(layers) == layers[1]
    assert find_knowing_layer([]) is None


def test_remarks_name_the_layer_and_the_first_label_to_look_at():
    layers = [Layer(1, 0.1, 1.0), Layer(2, 0.5, 1.91), Layer(3, 0.6, 2.0)]
    suspects = (Suspect(7, 9, 0.1, 0.2, 0.9), Suspect(3, 4, 0.2, 0.9, 0.9))
    found = geometry_of_encoder._list_remarks(Sharpness(3.0, 2.0, 1, suspects), layers)
    assert found[0].startswith("layer 2 of 3 already knows the labels: 1.91 of 2.00 nats")
    assert found[1] == "1 drawn pairs have equal vectors and different labels"
    assert found[2].startswith("row 7 of the training rows may have a wrong label")
    report = {"results": [{"task": "classes", "details": {"remarks": found}}] * 2}
    assert list_remarks(report) == [f"classes: {remark}" for remark in found], "once for each task"


def test_class_vectors_are_compared_with_the_means():
    labels = ["a", "b", "c"] * 4
    vectors = np.tile(np.eye(3, dtype=np.float32), (4, 1))
    part = geometry_of_encoder.Part(vectors, labels)
    classes = geometry_of_encoder.collect_classes(vectors, labels)

    class Named:
        def __init__(self, names, head):
            self.find_class_vectors = lambda: (names, head)

    aligned = geometry_of_encoder._measure_head(Named(["a", "b", "c"], np.eye(3)), part, part, classes)
    assert aligned == pytest.approx({"head_alignment": 0, "head_disagreement": 0}, abs=1e-9)
    swapped = geometry_of_encoder._measure_head(Named(["b", "a", "c"], np.eye(3)), part, part, classes)
    assert swapped["head_disagreement"] == pytest.approx(2 / 3)
    assert geometry_of_encoder._measure_head(Named(["a", "b"], np.eye(2, 3)), part, part, classes) == {}


@pytest.mark.parametrize(
    ("train", "rows", "message"),
    [
        ([("x", "a"), ("y", "a")], [("x", "a")], "every label is 'a'"),
        ([("x", "a"), ("y", "b")], [("x", "a"), ("y", "c")], "labels without a training row: c"),
        ([("x", "a"), ("y", "b")], [("x", "a"), ("y", "b")], "two classes with two rows or more"),
    ],
)
def test_rows_that_give_no_figures_are_refused_before_anything_is_encoded(tmp_path, train, rows, message):
    entry = {"task": "geometry", "train": write(tmp_path, "a", train), "data": write(tmp_path, "b", rows)}
    with pytest.raises(DataError, match=message):
        evaluation.prepare([TypeAdapter(Task).validate_python(entry)], tmp_path)

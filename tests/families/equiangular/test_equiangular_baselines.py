"""Simple classifiers on pixels or frozen vectors stand beside the score of a recognition."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import tiny_equiangular
from datasets import Dataset
from sklearn.neighbors import KNeighborsClassifier
from tiny_equiangular import make_rows

from zoo.core.errors import ZooError
from zoo.data import Origin
from zoo.data.table import Table
from zoo.evaluation.baselines.baseline import TrainingRows
from zoo.evaluation.scoring import score
from zoo.evaluation.tasks.recognition import Recognition
from zoo.families.equiangular import baselines
from zoo.families.equiangular.encoder import Encoder
from zoo.families.equiangular.spec import Spec
from zoo.schema import Training

FILE = {"source": "file", "path": "x"}


def make_task(**tables):
    task = Recognition(task="recognition", **dict.fromkeys(tables, FILE))
    return task.make_ready(
        {part: Table(rows, part, Origin("o"), roles=tuple(rows.column_names)) for part, rows in tables.items()}, {}
    )


def test_three_classifiers_on_pixels_have_an_auroc_for_unknown_images_and_a_row_each_in_the_comparison():
    encoder = Encoder.build(tiny_equiangular.make_spec())
    train, data = make_rows(60), make_rows(30)
    unknown = Dataset.from_dict({"image": data["image"][:5]}, features=data.select_columns("image").features)
    baseline = baselines.FrozenVectors(TrainingRows(encoder, train))
    task = make_task(data=data, unknown=unknown)
    assert baseline.suits(task)
    found = {entry.name: entry for entry in baseline.measure(task)}
    assert list(found) == [
        "logistic regression on pixels",
        "nearest centroid on pixels",
        "10 nearest neighbours on pixels",
    ]
    for entry in found.values():
        assert entry.value == pytest.approx(entry.outcomes.values.mean())
        assert 0 <= entry.figures["ood_auroc"] <= 1
        assert "figures" in entry.as_json()


def test_neighbours_vote_as_in_scikit_learn():
    rng = np.random.default_rng(0)
    train, labels = rng.normal(size=(200, 8)), rng.integers(0, 4, 200)
    train += np.eye(4, 8)[labels] * 3
    train /= np.linalg.norm(train, axis=1, keepdims=True)
    rows = train[:50] + rng.normal(size=(50, 8)) * 0.1
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    model = KNeighborsClassifier(10, metric="cosine", weights=lambda distance: 1 - distance).fit(train, labels)
    votes = baselines._vote(rows, train, np.eye(4)[labels], block=7)
    assert (votes.argmax(1) == model.predict(rows)).all()


def test_a_pretrained_backbone_gives_its_own_vectors(tmp_path):
    spec = Spec(family="equiangular", backbone=tiny.backbone(tmp_path / "bert"), dim=16)
    rows = Dataset.from_dict({"text": tiny.SENTENCES, "label": [text.split()[0] for text in tiny.SENTENCES]})
    encoder = Encoder.build(spec)
    names = [entry.name for entry in baselines.FrozenVectors(TrainingRows(encoder, rows)).measure(make_task(data=rows))]
    assert names[0] == "logistic regression on frozen vectors"


def test_the_same_network_with_a_softmax_head_is_trained_with_the_settings_of_the_recipe(tmp_path):
    encoder = tiny_equiangular.train_encoder(tmp_path)
    rows = make_rows(40)
    task = make_task(data=rows)
    settings = Training(max_steps=3, batch_size=16)
    baseline = baselines.SameNetwork(TrainingRows(encoder, rows, settings))
    assert baseline.suits(task)
    (entry,) = baseline.measure(task)
    assert entry.name == "the same network with a softmax head"
    assert len(entry.outcomes.values) == len(rows)
    (unknown_settings,) = baselines.SameNetwork(TrainingRows(encoder, rows)).measure(task)
    assert (unknown_settings.value, unknown_settings.reason) == (None, "the settings of the training are not known")
    softmax = SimpleNamespace(spec=SimpleNamespace(head="softmax"))
    assert not baselines.SameNetwork(TrainingRows(softmax, rows)).suits(task)


def test_a_recognition_is_compared_row_by_row(tmp_path):
    encoder = tiny_equiangular.train_encoder(tmp_path)
    rows = make_rows(20)
    scored = score(encoder, make_task(data=rows), "fp32", False)
    assert scored.outcomes.compute_score() == pytest.approx(scored.entry["value"])
    assert "hits" not in scored.entry["details"]
    with pytest.raises(ZooError, match="labels that no training row has"):
        score(encoder, make_task(data=make_rows(8, classes=4)), "fp32", False)


def test_classes_that_are_never_predicted_are_a_fault(tmp_path, monkeypatch):
    encoder = tiny_equiangular.train_encoder(tmp_path)
    rows = make_rows(60)
    assert encoder.find_faults(rows) == []
    monkeypatch.setattr(encoder, "compute_scores", lambda inputs: np.eye(3)[np.zeros(len(inputs), int)])
    (finding,) = encoder.find_faults(rows)
    assert finding.level == "dead"
    assert "2 of 3 labels are never predicted" in finding.message
    assert encoder.find_faults(rows.select(range(6))) == [], "too few rows"

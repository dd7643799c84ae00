"""Counting keywords is the free baseline of topics."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from datasets import Dataset

from zoo.evaluation.baselines.baseline import TrainingRows
from zoo.families.lbl2vec.baselines import CountKeywords, count_keywords
from zoo.families.lbl2vec.encoder import Encoder
from zoo.families.lbl2vec.spec import Spec

LABELS = {"car": ("engine", "brake pads"), "sea": ("wave", "tide"), "sky": ("cloud",)}


def make_task(texts, labels):
    table = SimpleNamespace(rows=Dataset.from_dict({"text": texts, "label": labels}))
    return SimpleNamespace(spec=SimpleNamespace(task="zero-shot"), tables={"data": table})


@pytest.fixture
def baseline():
    spec = Spec(family="lbl2vec", labels=LABELS)
    return CountKeywords(TrainingRows(SimpleNamespace(spec=spec), None))


def test_keywords_are_counted_as_whole_words_of_any_case_and_phrases_as_they_stand():
    texts = ["The ENGINE of an engine-room", "Brake, pads", "brake and pads", "waves", "tide; tide (wave)", ""]
    counts = count_keywords(texts, LABELS)
    assert counts.tolist() == [[2, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 3, 0], [0, 0, 0]]


def test_a_tie_is_a_guess_among_its_labels_and_only_labels_that_occur_are_answers(baseline):
    texts = ["an engine", "wave or engine", "nothing", "tide"]
    (score,) = baseline.score(make_task(texts, ["car", "sea", "sea", "car"]))
    np.testing.assert_allclose(score.outcomes.values, [1, 1 / 2, 1 / 2, 0])
    assert score.value == pytest.approx(0.5)
    assert (score.name, score.outcomes.unit) == ("counting the keywords", "rows")


def test_it_suits_zero_shot_tasks_whose_classes_are_the_labels(baseline):
    assert baseline.suits(make_task(["a"], ["car"]))
    assert not baseline.suits(make_task(["a"], ["moon"]))
    other = make_task(["a"], ["car"])
    other.spec.task = "classification"
    assert not baseline.suits(other)


def test_advice_depends_on_how_many_and_how_long_the_texts_are():
    spec = Spec(family="lbl2vec", labels=LABELS)
    assert "encoder.backbone" in spec.suggest_when_worse({"rows": 900, "words": 80})
    assert "encoder.backbone" in spec.suggest_when_worse({"rows": 90_000, "words": 8})
    assert "more keywords" in spec.suggest_when_worse({"rows": 90_000, "words": 80})
    assert "more keywords" in Spec(family="lbl2vec", labels=LABELS, backbone="b").suggest_when_worse({"rows": 9})


def test_labels_that_no_text_gets_are_a_fault(monkeypatch):
    encoder = Encoder.__new__(Encoder)
    encoder.spec = Spec(family="lbl2vec", labels=LABELS)
    rows = Dataset.from_dict({"text": ["a"] * 90})
    for places, level in (([0, 1, 2], None), ([0, 1, 0], "warning"), ([1, 1, 1], "dead")):
        similarities = np.eye(3)[np.resize(places, 90)]
        monkeypatch.setattr(encoder, "compute_similarities", lambda texts, found=similarities: found)
        assert [finding.level for finding in encoder.find_faults(rows)] == ([level] if level else [])
    assert encoder.find_faults(rows.select(range(30))) == [], "too few texts"

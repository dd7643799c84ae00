"""Steps after training: codes are stored in place of vectors, and scores become probabilities."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import zoo
from zoo import after
from zoo.after.material import Material
from zoo.after.spec import StepSpec
from zoo.after.step import ScoreStep
from zoo.core.errors import ArtefactError, ZooError


class Halves(ScoreStep):
    """A score above the mean of its list is an answer."""

    threshold = 0.5
    top = 20
    spec = StepSpec(step="halves")

    def map_scores(self, queries, scores):
        assert scores.shape[1] >= self.top
        real = np.where(np.isfinite(scores), scores, np.nan)
        return np.where(np.isfinite(scores), np.where(real > np.nanmean(real, 1, keepdims=True), 0.9, 0.1), 0)


def fit_codes(encoder, rows, **fields):
    spec = after.load_spec("codes").model_validate({"step": "codes", "dims": 16, "bits": 2, "steps": 0, **fields})
    return after.load_step("codes").fit(spec, Material(encoder.encode_document([row["text"] for row in rows])))


@pytest.fixture
def coded(encoder, rows):
    """The encoder with a step that makes codes."""
    own = copy.copy(encoder)
    own.attach_steps([fit_codes(encoder, rows)])
    return own


def test_codes_of_the_model_are_stored_and_searched(coded, rows, tmp_path):
    (step,) = coded.steps
    index = zoo.Index.build(coded, rows, tmp_path / "index", code="model")
    assert index.codec.bytes_per_vector == step.bytes_per_vector == 4
    documents = coded.encode_document([row["text"] for row in rows])
    scores = step.score(coded.encode_query(["fever"]), step.encode(documents))[0]
    expected = [rows[place]["id"] for place in np.argsort(-scores, kind="stable")[:10]]
    (hits,) = index.search(["fever"])
    assert [hit.score for hit in hits] == pytest.approx(np.sort(scores)[::-1][:10].tolist(), abs=1e-5)
    assert {hit.id for hit in hits} == set(expected)
    index.remove([hits[0].id])
    index.compact()
    assert index.search(["fever"])[0][0].id == hits[1].id


def test_another_step_is_refused(coded, encoder, rows, tmp_path):
    zoo.Index.build(coded, rows, tmp_path / "index", code="model")
    with pytest.raises(ZooError, match="no step that makes codes"):
        zoo.Index.open(tmp_path / "index", copy_without_steps(encoder))
    other = copy.copy(encoder)
    other.attach_steps([fit_codes(encoder, rows[:200], dims=8, bits=4)])
    with pytest.raises(ArtefactError, match="the step that makes codes is another one"):
        zoo.Index.open(tmp_path / "index", other)
    assert len(zoo.Index.open(tmp_path / "index", coded)) == len(rows)


def copy_without_steps(encoder):
    plain = copy.copy(encoder)
    plain.attach_steps([])
    return plain


def test_scores_become_probabilities_and_the_threshold_cuts(index, encoder, monkeypatch):
    (plain,) = index.search(["fever"], 5)
    assert plain[0].probability is None
    with pytest.raises(ZooError, match="relevant: the model has no step `relevance`"):
        index.search(["fever"], relevant=True)
    monkeypatch.setattr(type(encoder), "steps", property(lambda self: (Halves(),)))
    (hits,) = index.search(["fever"], 5)
    assert [hit.id for hit in hits] == [hit.id for hit in plain]
    assert hits[0].probability == pytest.approx(0.9)
    (cut,) = index.search(["fever"], 20, relevant=True)
    (whole,) = index.search(["fever"], 20)
    assert 0 < len(cut) < len(whole)
    assert [hit.id for hit in cut] == [hit.id for hit in whole if hit.probability >= 0.5]
    (few,) = index.search(["fever"], 20, where='_id = "r3"')
    assert [hit.id for hit in few] == ["r3"]
    (joined,) = index.search(["fever"], 20, hybrid=True)
    assert {hit.probability for hit in joined} - {None}

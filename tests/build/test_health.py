"""Signs of a training that went wrong are found, each with what to change, and a sound training shows none."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from datasets import Dataset

from zoo.build import health
from zoo.core.findings import Finding, find_unused_labels, list_dead

TEXTS = [f"text {number}" for number in range(40)]
RNG = np.random.default_rng(0)


def make_encoder(vectors, similarity="cosine", faults=()):
    seen = []

    def encode(inputs):
        seen.append(inputs)
        return vectors[: len(inputs)]

    return SimpleNamespace(
        spec=SimpleNamespace(roles=lambda: ({"label": "label", "text": "text"}, {})),
        encode=encode,
        seen=seen,
        similarity_fn_name=similarity,
        as_float_vectors=lambda encoded: encoded,
        find_faults=lambda rows: list(faults),
    )


def examine_vectors(vectors, similarity="cosine", texts=TEXTS):
    rows = Dataset.from_dict({"label": list(range(len(texts))), "text": texts})
    return health.examine_vectors(make_encoder(vectors, similarity), rows)


SOUND = RNG.normal(size=(40, 8))
EQUAL = np.ones((40, 8)) + 1e-9 * SOUND
NEAR = np.ones((40, 8)) + 0.05 * SOUND
LINE = np.outer(RNG.normal(size=40), np.ones(8))
CODES = RNG.integers(0, 256, (40, 4)).astype(np.uint8)


@pytest.mark.parametrize(
    ("vectors", "similarity", "level", "message"),
    [
        (EQUAL, "cosine", "dead", "the vectors of 40 different inputs are equal (mean cosine 1.0000"),
        (NEAR, "cosine", "warning", "the vectors of 40 different inputs are nearly equal (mean cosine 0.99"),
        (LINE, "cosine", "warning", "are nearly equal (mean cosine"),
        (CODES[:1].repeat(40, 0), "hamming", "dead", "40 different inputs have one and the same code"),
        (np.zeros((40, 3), np.int64), "cosine", "dead", "40 different inputs have one and the same code"),
    ],
)
def test_vectors_and_codes_that_say_nothing_are_found(vectors, similarity, level, message):
    (finding,) = examine_vectors(vectors, similarity)
    assert finding.level == level
    assert message in finding.message
    assert "training.learning_rate" in finding.advice


@pytest.mark.parametrize(("vectors", "similarity"), [(SOUND, "cosine"), (CODES, "hamming")])
def test_vectors_and_codes_that_differ_are_sound(vectors, similarity):
    assert examine_vectors(vectors, similarity) == []


def test_equal_or_too_few_inputs_say_nothing_about_the_encoder():
    assert examine_vectors(EQUAL, texts=["same"] * 40) == []
    assert examine_vectors(EQUAL, texts=TEXTS[:9]) == []
    encoder = make_encoder(EQUAL)
    assert health.examine_vectors(encoder, Dataset.from_dict({"label": list(range(40))})) == []
    many = Dataset.from_dict({"text": [f"t{n}" for n in range(1000)]})
    assert health.examine_vectors(make_encoder(RNG.normal(size=(1000, 8))), many) == []


def log(losses, **figures):
    return [{"step": step, "loss": loss, **figures} for step, loss in enumerate(losses)]


def test_a_loss_that_never_fell_is_found():
    (finding,) = health.examine_losses(log([2.0, 2.1] * 20))
    assert finding.message == "the loss did not fall: 2.0500 in the first quarter of the training, 2.0500 in the last"
    assert health.examine_losses(log(np.linspace(2, 1, 40))) == []
    assert health.examine_losses(log([2.0] * 19)) == [], "too few losses"
    assert health.examine_losses(log([1.0] * 20 + [2.0] * 20, phase="codes")) == [], "losses of other kinds"
    assert health.examine_losses([{"step": 1, "validation_loss": 1.0}] * 40) == []


def test_gradients_that_vanished_are_found():
    lines = log(np.linspace(2, 1, 40), grad_norm=1e-9)
    (finding,) = health.examine_gradients(lines)
    assert "their norm is 1.0e-09" in finding.message
    assert health.examine_gradients(log(np.linspace(2, 1, 40), grad_norm=0.3)) == []
    assert health.examine_gradients(lines[:19]) == []


def test_a_training_of_far_less_than_an_epoch_is_found_and_all_findings_come_together():
    own = Finding("warning", "its own", "see there")
    rows = Dataset.from_dict({"label": list(range(40)), "text": TEXTS})
    encoder = make_encoder(EQUAL, faults=[own])
    lines = log([2.0] * 40, grad_norm=0.0)
    found = health.examine(encoder, rows, lines=lines, rows_seen=100, training_rows=1000)
    assert [finding.level for finding in found] == ["dead", "warning", "warning", "warning", "warning"]
    assert own in found
    assert found[-1].message == "the training read 100 of 1,000 rows"
    sound = health.examine(make_encoder(SOUND), rows, lines=[], rows_seen=200, training_rows=1000)
    assert sound == health.examine(make_encoder(SOUND), rows, lines=[], rows_seen=None, training_rows=1000) == []


def test_the_lines_of_a_log_are_read_if_there_is_one(tmp_path):
    assert health.read_lines(tmp_path / "metrics.jsonl") == []
    (tmp_path / "metrics.jsonl").write_text('{"loss": 1}\n\n{"loss": 2}\n')
    assert [line["loss"] for line in health.read_lines(tmp_path / "metrics.jsonl")] == [1, 2]


def test_labels_that_are_never_predicted_are_found():
    labels = ["a", "b", "c", "d"] * 5
    assert find_unused_labels(labels, labels, "x") == []
    (finding,) = find_unused_labels(labels, ["a", "b"] * 10, "look")
    assert finding == ("warning", "2 of 4 labels are never predicted for 20 inputs: c, d", "look")
    (finding,) = find_unused_labels(labels, ["a"] * 20, "look")
    assert finding.level == "dead"
    assert find_unused_labels(["a"] * 5, ["b"] * 5, "x") == [], "a single label"


def test_only_findings_of_the_level_dead_keep_a_model_from_being_published():
    dead, warning = Finding("dead", "it is gone", "a")._asdict(), Finding("warning", "it limps", "a")._asdict()
    assert list_dead({"health": [warning, dead, "x"]}) == ["it is gone"]
    assert list_dead({"health": [warning]}) == list_dead({}) == list_dead({"health": 3}) == []


def test_a_sound_sentence_encoder_has_no_finding(tmp_path):
    from zoo.families.matryoshka_2d.encoder import Encoder
    from zoo.families.matryoshka_2d.spec import Spec

    encoder = Encoder.build(Spec(family="matryoshka-2d", backbone=tiny.backbone(tmp_path / "bert")))
    rows = Dataset.from_dict({"anchor": tiny.SENTENCES, "positive": tiny.SENTENCES})
    assert [finding for finding in health.examine_vectors(encoder, rows) if finding.level == "dead"] == []

"""The step `codes`: codes of single rows, exact folders, and a training that is kept only if it helps."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from pydantic import ValidationError

from zoo import after
from zoo.after.codes import figures
from zoo.after.codes.spec import Spec
from zoo.after.codes.step import Step
from zoo.after.material import Material
from zoo.core.errors import ArtefactError, ZooError

DIM = 24


def normalise(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def make_material(documents=800, queries=150, seed=0, **others):
    """Documents of few leading directions; a query is a document with noise, and that document answers it."""
    rng = np.random.default_rng(seed)
    scales = 1 / np.arange(1, DIM + 1)
    rows = normalise(rng.standard_normal((documents, DIM)) * scales + 0.2)
    numbers = rng.permutation(documents)[:queries]
    asked = normalise(rows[numbers] + 0.3 * rng.standard_normal((queries, DIM)) * scales)
    return Material(rows, asked, np.stack([np.arange(queries), numbers], axis=1), **others)


MATERIAL = make_material()
SMALL = {"step": "codes", "dims": 12, "bits": 2, "steps": 20, "hidden": 16}
VARIANTS = {
    "neighbours": {},
    "equal": {"allocation": "equal"},
    "nearest": {"rounding": "nearest"},
    "norm": {"norm": True},
    "symmetric": {"symmetric": True},
    "residual": {"head": "residual"},
    "task": {"goal": "task"},
    "task-residual": {"goal": "task", "head": "residual"},
    "compatible": {"compatible_with": "old"},
}


@pytest.fixture(scope="module", params=VARIANTS)
def step(request):
    return fit(**VARIANTS[request.param])


def fit(material=MATERIAL, **fields):
    spec = Spec(**{**SMALL, **fields})
    if spec.compatible_with:
        old = normalise(material.documents[:, ::-1][:, 4:] + 0.01)
        material = dataclasses.replace(material, old_documents=old)
    return Step.fit(spec, material)


def test_the_registry_finds_the_step():
    assert "codes" in after.names()
    assert after.load_spec("codes") is Spec
    assert after.load_step("codes") is Step


def test_a_code_depends_on_its_own_row_only(step):
    vectors = MATERIAL.documents
    codes = step.encode(vectors)
    assert codes.shape == (len(vectors), step.bytes_per_vector)
    assert codes.dtype == np.uint8
    order = np.random.default_rng(1).permutation(len(vectors))
    assert np.array_equal(step.encode(vectors[order]), codes[order])
    for number in range(40):
        assert np.array_equal(step.encode(vectors[number : number + 1]), codes[number : number + 1])
    assert step.encode(vectors[:0]).shape == (0, step.bytes_per_vector)
    assert step.decode(codes[:0]).shape == (0, step.decode(codes[:1]).shape[1])


def test_a_saved_step_gives_the_same_codes_and_vectors(step):
    opened = Step.from_saved(step.spec, step.tensors(), step.state())
    codes = step.encode(MATERIAL.documents)
    assert opened.dim == step.dim == DIM
    assert np.array_equal(opened.encode(MATERIAL.documents), codes)
    assert np.array_equal(opened.decode(codes), step.decode(codes))
    assert np.array_equal(opened.transform_queries(MATERIAL.queries), step.transform_queries(MATERIAL.queries))
    assert opened.card_facts() == step.card_facts()


def test_a_step_that_was_saved_before_trellises_opens_as_it_was():
    saved = fit(rounding="nearest")
    opened = Step.from_saved(Spec(**SMALL), saved.tensors(), saved.state())  # its spec names no rounding
    assert opened.spec.rounding == "nearest"
    assert np.array_equal(opened.encode(MATERIAL.documents), saved.encode(MATERIAL.documents))


def test_levels_of_a_trellis_are_not_taken_for_nearest_levels(step):
    # A version without trellises asks for `levels`, and must not find another meaning under that name.
    expected = {"levels"} if step.spec.rounding == "nearest" else {"trellis_levels"}
    assert {name for name in step.tensors() if name.endswith("levels")} == expected


def test_the_same_seed_gives_the_same_tensors(step):
    again = fit(**step.spec.model_dump())
    for name, tensor in step.tensors().items():
        assert np.array_equal(again.tensors()[name], tensor), name


@pytest.mark.parametrize("fault", ["missing", "extra", "shape", "widths", "dtype"])
def test_tensors_that_do_not_fit_are_refused(step, fault):
    tensors = dict(step.tensors())
    if fault == "missing":
        del tensors["levels" if step.spec.rounding == "nearest" else "trellis_levels"]
    elif fault == "extra":
        tensors["other"] = tensors["bias"]
    elif fault == "shape":
        tensors["decoder"] = tensors["decoder"].T
    elif fault == "widths":
        tensors["widths"] = tensors["widths"] + np.uint8(1)
    else:
        tensors["rotation"] = tensors["rotation"].astype(np.float64)
    with pytest.raises(ArtefactError, match="step codes"):
        Step.from_saved(step.spec, tensors, step.state())


def test_bytes_count_bits_and_norm():
    assert fit(dims=5, bits=1, steps=0).bytes_per_vector == 1
    assert fit(dims=9, bits=1, steps=0).bytes_per_vector == 2
    assert fit(dims=9, bits=1, steps=0, norm=True).bytes_per_vector == 4


def test_decoded_vectors_have_length_1_or_that_of_their_vector():
    vectors = MATERIAL.documents * np.linspace(0.1, 40, len(MATERIAL.documents), dtype=np.float32)[:, None]
    lengths = np.linalg.norm(vectors, axis=1)
    plain, with_norm = fit(steps=0), fit(steps=0, norm=True)
    np.testing.assert_allclose(np.linalg.norm(plain.decode(plain.encode(vectors)), axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(with_norm.decode(with_norm.encode(vectors)), axis=1), lengths, rtol=1e-3)
    # The length of a vector changes nothing else.
    assert np.array_equal(plain.encode(vectors), plain.encode(MATERIAL.documents))


def test_the_zero_vector_and_its_negative_have_one_code():
    step = fit(steps=0)
    zeros = np.zeros((2, DIM), np.float32)
    zeros[1] *= -1
    codes = step.encode(zeros)
    assert np.array_equal(codes[0], codes[1])
    assert np.isfinite(step.decode(codes)).all()


def test_more_bits_lose_less_and_variance_beats_equal_bits():
    def measure_loss(**fields):
        step = fit(steps=0, **fields)
        return np.square(step.decode(step.encode(MATERIAL.documents)) - MATERIAL.documents).sum(1).mean()

    losses = [measure_loss(bits=bits, dims=DIM) for bits in (1, 2, 4)]
    assert losses[0] > 2 * losses[1] > 4 * losses[2]
    assert measure_loss(dims=12, bits=2) < measure_loss(dims=12, bits=2, allocation="equal")


def test_queries_as_float_vectors_find_more_than_rounded_ones():
    exact = figures.search_top(MATERIAL.queries, MATERIAL.documents)
    recalls = {}
    for symmetric in (False, True):
        step = fit(steps=0, symmetric=symmetric)
        scores = step.score(MATERIAL.queries, step.encode(MATERIAL.documents))
        recalls[symmetric] = figures.compute_recall(np.argsort(-scores, axis=1, kind="stable")[:, :10], exact)
    assert recalls[False] > recalls[True] > 0.4


@pytest.mark.parametrize("goal", ["neighbours", "task"])
def test_a_residual_head_begins_as_the_untrained_code(goal, monkeypatch):
    monkeypatch.setattr("zoo.after.codes.fit.train_head", lambda *_: None)
    linear = fit(steps=0, goal="neighbours")
    residual = fit(steps=0, goal=goal, head="residual")
    assert np.array_equal(residual.encode(MATERIAL.documents), linear.encode(MATERIAL.documents))


def test_a_training_that_harms_is_not_kept():
    harmed = fit(learning_rate=0.5)
    assert harmed.facts["trained"]["recall@10"] < harmed.facts["untrained"]["recall@10"]
    assert harmed.facts["kept"] == "untrained"
    untrained = fit(steps=0)
    assert np.array_equal(harmed.encode(MATERIAL.documents), untrained.encode(MATERIAL.documents))


def test_documents_alone_are_not_trained_on():
    step = Step.fit(Spec(**SMALL), Material(MATERIAL.documents))
    assert step.facts["kept"] == "untrained"
    assert 0 < step.facts["untrained"]["recall@10"] < 1


def test_a_task_is_judged_by_answers_and_changes_the_order():
    """The noise of the queries lies in the leading directions, which a head can learn to trust less."""
    rng = np.random.default_rng(5)
    noise = np.where(np.arange(DIM) < 4, 1.5, 0.02)
    rows = normalise(rng.standard_normal((900, DIM)))
    numbers = rng.permutation(900)[:600]
    queries = normalise(rows[numbers] + 0.5 * rng.standard_normal((600, DIM)) * noise)
    material = Material(rows, queries, np.stack([np.arange(600), numbers], axis=1))
    step = fit(material, goal="task", dims=DIM, steps=200)
    assert step.facts["float_head_ndcg@10"] > step.facts["float_ndcg@10"] + 0.02
    kept = step.facts[step.facts["kept"]]
    assert kept["ndcg@10"] > 0.9 * step.facts["float_head_ndcg@10"]


def test_new_queries_search_the_old_codes_of_a_rotated_space():
    """The old model is the new one in another basis. Its vectors are found again, and new codes lie among them."""
    rng = np.random.default_rng(6)
    basis = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0].astype(np.float32)
    old_model = fit(steps=0, dims=DIM, bits=4)
    old_model_vectors = MATERIAL.documents @ basis
    old = Step.fit(old_model.spec, Material(old_model_vectors))
    decoded = old.decode(old.encode(old_model_vectors))
    material = dataclasses.replace(MATERIAL, old_documents=decoded)
    new = Step.fit(Spec(**{**SMALL, "dims": DIM, "bits": 4}, compatible_with="old"), material)
    queries = new.transform_queries(MATERIAL.queries)
    exact = figures.search_top(MATERIAL.queries, MATERIAL.documents)
    without_map = figures.compute_recall(figures.search_top(MATERIAL.queries, decoded), exact)
    found_in_old = figures.compute_recall(figures.search_top(queries, decoded), exact)
    found_in_new = figures.compute_recall(
        figures.search_top(queries, new.decode(new.encode(MATERIAL.documents))), exact
    )
    assert without_map < 0.2
    assert found_in_old > 0.85
    assert found_in_new > 0.85


@pytest.mark.parametrize(
    ("material", "fields", "message"),
    [
        (Material(MATERIAL.documents[:20]), {}, "20 documents are too few .* give 24 or more"),
        (MATERIAL, {"dims": 30, "allocation": "equal"}, "set `dims` to 24 or less"),
        (Material(MATERIAL.documents), {"goal": "task"}, "`goal: task` is trained on pairs"),
        (make_material(queries=20), {"goal": "task"}, "needs 100 queries or more, not 20"),
        (
            dataclasses.replace(MATERIAL, answers=MATERIAL.answers[:0]),
            {"goal": "task"},
            "too few queries with an answer",
        ),
        (
            dataclasses.replace(MATERIAL, old_documents=MATERIAL.documents[:, :1]),
            {"compatible_with": "old"},
            "set `dims` to 1 or less",
        ),
        (MATERIAL, {"compatible_with": "old"}, "needs the old model's vectors"),
        (Material(np.full((30, DIM), np.nan, np.float32)), {}, "not finite"),
    ],
)
def test_material_that_does_not_do_is_refused(material, fields, message):
    with pytest.raises(ZooError, match=message):
        Step.fit(Spec(**{**SMALL, **fields}), material)


def test_vectors_and_codes_of_another_width_are_refused():
    step = fit(steps=0)
    for call in (step.encode, step.transform_queries):
        with pytest.raises(ZooError, match=r"shape \(2, 23\), not \(n, 24\)"):
            call(MATERIAL.documents[:2, 1:])
    with pytest.raises(ZooError, match=r"shape \(2, 4\), not uint8 of the shape \(n, 3\)"):
        step.decode(np.zeros((2, 4), np.uint8))


@pytest.mark.parametrize("fields", [{"bits": 3}, {"dims": 0}, {"steps": -1}, {"goal": "both"}, {"step": "other"}])
def test_fields_that_mean_nothing_are_refused(fields):
    with pytest.raises(ValidationError):
        Spec(**{"step": "codes", **fields})

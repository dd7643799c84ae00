"""What holds for every step that turns vectors into codes: shapes, rows by themselves, equal fits, strict opening."""

from __future__ import annotations

import json

import after_steps
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from zoo.after import saved
from zoo.after.material import Material
from zoo.artefact import manifest, saved_steps
from zoo.core.errors import ArtefactError, ZooError

STEPS = [
    ("int8", {}),
    ("int8", {"clip": 0.01}),
    ("binary", {}),
    ("binary", {"centred": False, "query": "signs"}),
    ("binary", {"rescore": "int8"}),
    ("binary", {"query": "signs", "rescore": "int8", "candidates": 2}),
]
QUERIES, DOCUMENTS = after_steps.draw_clustered(30, seed=7), after_steps.draw_clustered(500, seed=8)


@pytest.fixture(params=STEPS, ids=lambda entry: "-".join([entry[0], *map(str, entry[1].values())]))
def step(request):
    name, fields = request.param
    return after_steps.fit(name, **fields)


def test_a_code_has_the_stated_bytes_and_depends_on_its_row_alone(step):
    codes = step.encode(DOCUMENTS)
    assert (codes.shape, codes.dtype) == ((500, step.bytes_per_vector), np.uint8)
    assert step.first_bytes <= step.bytes_per_vector
    assert np.array_equal(codes[[3, 499]], step.encode(DOCUMENTS[[3, 499]]))
    assert step.encode(DOCUMENTS[:0]).shape == (0, step.bytes_per_vector)


def test_a_decoded_vector_is_near_the_vector(step):
    decoded = step.decode(step.encode(DOCUMENTS))
    assert (decoded.shape, decoded.dtype) == ((500, 64), np.float32)
    wrong = step.decode(step.encode(np.roll(DOCUMENTS, 1, axis=0)))
    cosines = [(rows * DOCUMENTS).sum(1) / np.linalg.norm(rows, axis=1) for rows in (decoded, wrong)]
    assert cosines[0].mean() > 0.75 > cosines[1].mean()


def test_a_search_gives_the_best_rows_by_score(step):
    codes = step.encode(DOCUMENTS)
    scores, ids = step.search(QUERIES, codes, 10)
    whole = step.score(QUERIES, codes)
    assert (whole.shape, whole.dtype) == ((30, 500), np.float32)
    assert np.array_equal(ids, after_steps.find_nearest(whole))
    assert np.allclose(scores, np.take_along_axis(whole, ids, axis=1), atol=1e-5)
    assert step.search(QUERIES, codes[:4], 10)[1].shape == (30, 4)


def test_the_same_material_gives_the_same_step(step):
    again = type(step).fit(step.spec, after_steps.make_material())
    assert all(np.array_equal(array, again.tensors()[name]) for name, array in step.tensors().items())


def test_a_saved_step_opens_as_it_was(step, tmp_path):
    opened = saved.open_step(saved.save_step(step, tmp_path / "step"))
    assert (type(opened), opened.spec, opened.dim) == (type(step), step.spec, step.dim)
    assert np.array_equal(opened.encode(DOCUMENTS), step.encode(DOCUMENTS))
    assert np.array_equal(opened.score(QUERIES, opened.encode(DOCUMENTS)), step.score(QUERIES, step.encode(DOCUMENTS)))


@pytest.mark.parametrize("damage", ["missing", "extra", "shape", "dtype", "nan"])
def test_tensors_that_do_not_fit_are_refused(step, tmp_path, damage):
    folder = saved.save_step(step, tmp_path / "step")
    tensors = load_file(folder / saved.TENSORS)
    name = sorted(tensors)[0]
    if damage == "missing":
        del tensors[name]
    elif damage == "extra":
        tensors["other"] = np.zeros(3, np.float32)
    elif damage == "shape":
        tensors[name] = np.concatenate([tensors[name]] * 2)
    elif damage == "dtype":
        tensors[name] = tensors[name].astype(np.float64)
    else:
        tensors[name][0] = np.nan
    save_file(tensors, folder / saved.TENSORS)
    with pytest.raises(ArtefactError, match="sha256|bytes"):
        saved.open_step(folder)
    manifest.write(folder)
    with pytest.raises(ArtefactError, match=r"tensor|finite|components"):
        saved.open_step(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"step": "int9"}, "not known to this version"),
        ({"spec": {"step": "int8", "clap": 1}}, "do not fit it"),
        ({"dim": 65}, "64 components, not 65"),
        ({"state": []}, "not an object"),
        ({"format": 2}, "of format 1"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(tmp_path, changes, words):
    folder = saved.save_step(after_steps.fit("int8"), tmp_path / "step")
    description = json.loads((folder / saved.DESCRIPTION).read_text())
    (folder / saved.DESCRIPTION).write_text(json.dumps(description | changes))
    manifest.write(folder)
    with pytest.raises(ArtefactError, match=words):
        saved.open_step(folder)


def test_vectors_and_codes_of_the_wrong_form_are_refused(step):
    codes = step.encode(DOCUMENTS)
    for vectors, words in (
        (DOCUMENTS[:, :63], r"shape \(500, 63\), not \(n, 64\)"),
        (codes, "uint8"),
        (np.where(np.arange(500)[:, None] == 5, np.nan, DOCUMENTS), "row 5 is not finite"),
    ):
        with pytest.raises(ZooError, match=words):
            step.encode(vectors)
    with pytest.raises(ZooError, match="codes of this step"):
        step.decode(codes[:, 1:])


@pytest.mark.parametrize("name", ["int8", "binary"])
def test_a_fit_without_vectors_is_refused(name):
    with pytest.raises(ZooError, match="too few"):
        after_steps.fit(name, Material(np.empty((0, 64), np.float32)))


def test_a_step_that_is_not_finite_is_not_saved(tmp_path):
    step = after_steps.fit("int8")
    step.ranges.low[3] = np.inf
    with pytest.raises(ArtefactError, match="low is not finite"):
        saved.save_step(step, tmp_path / "step")
    assert not (tmp_path / "step").exists()


def test_files_of_a_model_folder_are_named_by_place_and_step():
    assert saved_steps.name_file(1, "int8") == "after/1-int8.safetensors"

"""Relative vectors are cosines with anchors: a rotation, a scale and a shift of the space change none of them."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import tiny_dense
import tiny_equiangular

import zoo
from zoo import evaluation
from zoo.artefact import model_folder
from zoo.bridge.anchors import Anchors
from zoo.bridge.relative import RelativeEncoder
from zoo.cli.main import main
from zoo.core.errors import ZooError
from zoo.diagnosis.two_spaces import compare_spaces, measure_direct_cosine
from zoo.metrics.encoded_rows import encode_inputs

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(200, 24)) + 0.5
ROTATION = np.linalg.qr(RNG.normal(size=(24, 24)))[0]
ANCHORS = tiny.SENTENCES[:12]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    prompts = {"query": "the red ", "document": ""}
    return tiny_dense.build(tmp_path_factory.mktemp("relative"), dims=(8, 16), prompts=prompts)


def describe(vectors, *, is_centred=True):
    return Anchors.place(vectors[:50], is_centred=is_centred).compute_cosines(vectors)


@pytest.mark.parametrize("is_centred", [True, False])
def test_a_rotation_and_a_scale_change_nothing(is_centred):
    moved = describe(2.5 * VECTORS @ ROTATION, is_centred=is_centred)
    np.testing.assert_allclose(moved, describe(VECTORS, is_centred=is_centred), atol=1e-6)


def test_a_shift_changes_nothing_if_the_vectors_are_centred():
    np.testing.assert_allclose(describe(VECTORS + 3), describe(VECTORS), atol=1e-6)
    assert np.abs(describe(VECTORS + 3, is_centred=False) - describe(VECTORS, is_centred=False)).max() > 0.3


def test_the_same_anchors_give_two_spaces_the_same_axes_and_other_anchors_do_not():
    first, second = describe(VECTORS), describe(3 * VECTORS @ ROTATION - 1)
    assert measure_direct_cosine(first, second) == pytest.approx(1, abs=1e-6)
    assert abs(measure_direct_cosine(first, second[:, ::-1])) < 0.2
    noise = RNG.normal(size=VECTORS.shape)
    assert abs(measure_direct_cosine(first, describe(noise))) < 0.2
    alike = measure_direct_cosine(*(describe(v + 3, is_centred=False) for v in (VECTORS, noise)))
    assert alike > 0.9, "without centring, unrelated spaces look alike"


def test_a_component_is_the_cosine_with_its_anchor(encoder):
    plain = RelativeEncoder(encoder, ANCHORS, is_centred=False)
    texts = tiny.SENTENCES[10:30]
    expected = encoder.similarity(encoder.encode(texts), encoder.encode(ANCHORS))
    np.testing.assert_allclose(plain.encode(texts), expected, atol=1e-6)
    assert (plain.dim, plain.encode(texts).dtype) == (len(ANCHORS), np.float32)
    mean = encoder.encode(ANCHORS).mean(0)
    expected = encoder.similarity(encoder.encode(texts) - mean, encoder.encode(ANCHORS) - mean)
    view = zoo.RelativeEncoder(encoder, ANCHORS)
    np.testing.assert_allclose(view.encode(texts), expected, atol=1e-5)
    np.testing.assert_array_equal(np.concatenate(list(view.stream(texts))), view.encode(texts))


def test_the_role_of_the_inputs_reaches_the_encoder(encoder):
    view, texts = RelativeEncoder(encoder, ANCHORS), tiny.SENTENCES[10:20]
    prompted = view.encode(["the red " + text for text in texts])
    np.testing.assert_allclose(view.encode_query(texts), prompted, atol=1e-6)
    assert np.abs(view.encode_query(texts) - view.encode_document(texts)).max() > 1e-3
    as_queries = RelativeEncoder(encoder, ANCHORS, prompt_name="query")
    assert np.abs(as_queries.encode(texts) - view.encode(texts)).max() > 1e-3


def test_a_view_and_an_encoder_of_images_can_be_relative(encoder, tmp_path):
    small = RelativeEncoder(encoder.view(dim=8), ANCHORS)
    assert small.encode(tiny.SENTENCES[:3]).shape == (3, len(ANCHORS))
    images, _ = tiny_equiangular.make_images(40)
    network = tiny_equiangular.train_encoder(tmp_path, steps=2)
    relative = RelativeEncoder(network, images[:9])
    expected = Anchors.place(encode_inputs(network, images[:9])).compute_cosines(encode_inputs(network, images))
    np.testing.assert_allclose(relative.encode(images), expected, atol=1e-6)


def test_tasks_score_a_relative_view(encoder, tmp_path):
    rows = "".join(f'{{"text": "{text}", "label": "{text.split()[0]}"}}\n' for text in tiny.SENTENCES[:100])
    (tmp_path / "rows.jsonl").write_text(rows)
    entry = {"task": "few-shot", "data": {"source": "file", "path": "rows.jsonl"}, "ways": 2, "shots": [1]}
    entry["queries"] = 1
    view = RelativeEncoder(encoder, ANCHORS)
    report = zoo.evaluate(view, [entry], folder=tmp_path)
    assert report["results"][0]["value"] > 0.5
    assert evaluation.list_missed(report) == []
    small = RelativeEncoder(encoder.view(dim=8), ANCHORS)
    report = zoo.evaluate(small, [entry], folder=tmp_path)
    assert report["results"][0]["view"] == {"dim": 8, "anchors": small.view_options["anchors"]}


@pytest.mark.parametrize("anchors", [[], ["the dog"], ["the dog", "the dog", "a cat"]])
def test_anchors_that_say_nothing_are_refused(encoder, anchors):
    with pytest.raises(ZooError, match=rf"give 2 or more inputs that differ; these are {len(anchors)}"):
        RelativeEncoder(encoder, anchors)


def test_a_relative_view_is_neither_saved_nor_cut(encoder, tmp_path):
    view = RelativeEncoder(encoder, ANCHORS)
    with pytest.raises(ZooError, match="a relative view is not saved"):
        view.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()
    with pytest.raises(ZooError, match="a relative view has no other views"):
        view.view(dim=8)


def test_other_anchors_are_another_view(encoder):
    records = [
        RelativeEncoder(encoder, anchors, is_centred=is_centred).view_options
        for anchors in (ANCHORS, ANCHORS[::-1])
        for is_centred in (True, False)
    ]
    assert len({str(record) for record in records}) == 4
    assert RelativeEncoder(encoder, ANCHORS).view_options == records[0]


def test_the_verbs_take_a_file_of_anchors(encoder, tmp_path, capsys):
    model = str(model_folder.save(encoder, tmp_path / "model"))
    for name, texts in (("anchors", ANCHORS), ("texts", tiny.SENTENCES)):
        (tmp_path / f"{name}.txt").write_text("\n".join(texts) + "\n")
    anchors, texts, out = (str(tmp_path / name) for name in ("anchors.txt", "texts.txt", "out.npy"))
    assert main(["encode", model, "--input", texts, "--out", out, "--relative", anchors, "--precision", "fp32"]) in (
        None,
        0,
    )
    np.testing.assert_allclose(np.load(out), RelativeEncoder(encoder, ANCHORS).encode(tiny.SENTENCES), atol=1e-6)
    main(["encode", model, "--input", texts, "--out", out, "--relative", anchors, "--anchors", "5"])
    assert np.load(out).shape[1] == 5
    capsys.readouterr()
    assert main(["encode", model, "--input", texts, "--anchors", "5"]) == 1
    assert "give that file as well" in capsys.readouterr().err
    main(["compare", model, model, "--data", texts, "--relative", anchors, "--json"])
    printed = capsys.readouterr().out
    assert '"direct_cosine": 1.0' in printed.replace("0.9999999", "1.0")
    assert main(["compare", out, out, "--relative", anchors]) == 1
    assert "vectors of a file have no layers and encode no anchors" in capsys.readouterr().err


def test_relative_vectors_of_a_rotated_copy_are_one_space():
    found = compare_spaces(describe(VECTORS), describe(2 * VECTORS @ ROTATION))
    assert found.cka == pytest.approx(1, abs=1e-5)

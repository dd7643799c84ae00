"""Steps are saved with their encoder, opened strictly, and used for the whole encoder only."""

from __future__ import annotations

import json
import shutil

import after_steps
import numpy as np
import pytest
import tiny
from safetensors.numpy import save_file
from sentence_transformers import SentenceTransformer

import zoo
from zoo.after.material import Material
from zoo.artefact import manifest
from zoo.core.errors import ArtefactError, ZooError

TEXTS = tiny.SENTENCES[:50]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    opened = zoo.from_pretrained(tiny.backbone(tmp_path_factory.mktemp("steps") / "backbone"))
    vectors = opened.prepare_vectors(opened.encode_document(tiny.SENTENCES))
    opened.attach_steps([after_steps.fit("binary", Material(vectors), rescore="int8")])
    return opened


@pytest.fixture(scope="module")
def saved(encoder, tmp_path_factory):
    return encoder.save(tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture
def copied(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


def edit(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config["zoo"])
    (folder / "config.json").write_text(json.dumps(config))
    manifest.write(folder)


def test_codes_are_packed_decoded_and_scored(encoder):
    codes = encoder.codes(TEXTS)
    assert (codes.shape, codes.dtype) == ((50, 36), np.uint8)
    vectors = encoder.encode(TEXTS)
    assert (encoder.decode(codes) * vectors).sum(1).min() > 0.999
    scores = encoder.scores(TEXTS[:3], codes)
    assert scores.argmax(1).tolist() == [0, 1, 2]
    assert np.array_equal(encoder.scores(vectors[:3], codes), scores)


def test_a_model_folder_keeps_its_steps(encoder, saved):
    assert "after/0-binary.safetensors" in manifest.read(saved)
    opened = zoo.from_pretrained(saved)
    assert [step.spec for step in opened.steps] == [step.spec for step in encoder.steps]
    assert np.array_equal(opened.codes(TEXTS), encoder.codes(TEXTS))


def test_sentence_transformers_opens_the_folder_without_the_steps(encoder, saved):
    stock = SentenceTransformer(str(saved), device="cpu").encode(TEXTS)
    assert np.allclose(stock, encoder.encode(TEXTS), atol=1e-5)


def test_a_view_that_cuts_has_no_codes(encoder, tmp_path):
    view = encoder.view(layers=2)
    for call in (lambda: view.codes(TEXTS), lambda: view.decode(encoder.codes(TEXTS)), lambda: view.scores(TEXTS, [])):
        with pytest.raises(ZooError, match="fitted on vectors of the whole encoder, not on those of the view layers=2"):
            call()
    assert view.steps == ()
    assert np.array_equal(encoder.view(layers=3).codes(TEXTS), encoder.codes(TEXTS))
    cut = view.save(tmp_path / "cut")
    assert not (cut / "after").exists()
    assert zoo.from_pretrained(cut).steps == ()


def test_an_encoder_without_steps_says_how_to_get_codes(tmp_path):
    plain = zoo.from_pretrained(tiny.backbone(tmp_path / "backbone"))
    with pytest.raises(ZooError, match="such as int8 or binary in `after:`"):
        plain.codes(TEXTS)


def test_a_step_of_other_vectors_is_not_attached(encoder):
    with pytest.raises(ZooError, match="takes vectors of 64 components, not 32"):
        encoder.attach_steps([after_steps.fit("int8")])


def test_a_missing_an_extra_and_a_foreign_file_are_refused(copied):
    (copied / "after" / "1-int8.safetensors").write_bytes((copied / "after" / "0-binary.safetensors").read_bytes())
    manifest.write(copied)
    with pytest.raises(ArtefactError, match="no step of config.json has this file"):
        zoo.from_pretrained(copied)
    shutil.rmtree(copied / "after")
    manifest.write(copied)
    with pytest.raises(ArtefactError, match=r"0-binary.safetensors: is missing"):
        zoo.from_pretrained(copied)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda block: block.update(after={}), "is not a list of steps"),
        (lambda block: block.update(after=[3]), "is not a list of steps"),
        (lambda block: block.update(after=block["after"] * 17), "is not a list of steps"),
        (lambda block: block["after"][0].update(step="\x1b[31m"), "not known to this version"),
        (lambda block: block["after"][0].update(step="../../x"), "not known to this version"),
        (lambda block: block["after"][0]["spec"].update(rescore="none"), "extra tensor low"),
        (lambda block: block["after"][0].pop("spec"), "do not fit it"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(copied, change, words):
    edit(copied, change)
    with pytest.raises(ArtefactError, match=words):
        zoo.from_pretrained(copied)


def test_a_step_of_another_encoder_is_refused(copied):
    tensors = {name: np.ones(64, np.float32) for name in ("mean", "low", "width")} | {"size": np.ones(2, np.float32)}
    save_file(tensors, copied / "after" / "0-binary.safetensors")
    edit(copied, lambda block: block["after"][0].update(dim=64))
    with pytest.raises(ArtefactError, match="takes vectors of 64 components, not 32"):
        zoo.from_pretrained(copied)

"""Canaries are fixed inputs with exact vectors, the same in every folder that is saved from one encoder."""

from __future__ import annotations

import hashlib
import json

import golden
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import zoo
from zoo import families
from zoo.artefact import canaries, manifest
from zoo.core.errors import ArtefactError


@pytest.fixture(scope="module")
def encoder():
    return zoo.from_pretrained(golden.GOLDEN / "matryoshka-2d" / "model")


@pytest.fixture
def folder(encoder, tmp_path):
    return encoder.save(tmp_path / "model")


def test_the_inputs_never_change():
    """Vectors of published folders stand for exactly these inputs."""
    digest = hashlib.sha256(json.dumps(canaries.TEXTS).encode())
    for number in range(len(canaries.IMAGE_FORMULAS)):
        digest.update(canaries.make_image(number).tobytes())
    for number in range(canaries.VECTOR_COUNT):
        digest.update(canaries.make_vector(number, 100).tobytes())
    assert digest.hexdigest() == "a48edb43d6f79297c1a94a093efa4d15ea39de47fbae11a4e30c001963b34e72"


def test_there_are_32_different_texts_of_many_kinds():
    texts = canaries.TEXTS
    assert len(texts) == len(set(texts)) == 32
    assert sum(len(text) > 500 for text in texts) == 1
    assert any(text.isupper() for text in texts)
    assert any(len(text) == 1 for text in texts)
    assert sum(not text.isascii() for text in texts) >= 9
    assert sum(any(letter.isdigit() for letter in text) for text in texts) >= 5
    assert len(canaries.LONG_TEXT.split()) > 512
    assert set(texts) > canaries.QUERIES | canaries.DOCUMENTS


def test_images_and_vectors_differ_and_have_many_shapes():
    images = [canaries.make_image(number) for number in range(8)]
    assert len({image.tobytes() for image in images}) == 8
    assert {image.ndim for image in images} == {2, 3}
    assert all(image.dtype == np.uint8 for image in images)
    vectors = np.stack([canaries.make_vector(number, 16) for number in range(8)])
    assert np.linalg.matrix_rank(vectors) == 8
    assert np.abs(vectors).max() <= 2


@pytest.mark.parametrize("family", families.names())
def test_every_family_writes_canaries_that_its_folder_gives_again(family, tmp_path):
    encoder = zoo.from_pretrained(golden.GOLDEN / family / "model")
    folder = encoder.save(tmp_path / "model")
    stored = canaries.read(folder)
    assert stored is not None
    kinds = [canary.kind for canary in stored.canaries]
    reads_texts, reads_images = "text" in encoder.modalities, "image" in encoder.modalities
    assert kinds.count("text") == (32 if reads_texts else 0)
    assert kinds.count("image") == (8 if reads_images else 0)
    assert kinds.count("vector") == (0 if reads_texts or reads_images else 8)
    has_roles = reads_texts and encoder.has_roles
    assert {canary.role for canary in stored.canaries} == ({None, "query", "document"} if has_roles else {None})
    reopened = zoo.from_pretrained(folder)
    np.testing.assert_allclose(canaries.encode(reopened, stored.canaries), stored.vectors, atol=1e-6)


def test_the_same_encoder_gives_the_same_bytes(encoder, folder, tmp_path):
    again = encoder.save(tmp_path / "again")
    for name in (canaries.INPUTS, canaries.VECTORS):
        assert manifest.read(folder)[name] == manifest.read(again)[name]


def test_a_view_that_is_saved_has_canaries_of_its_own(encoder, tmp_path):
    view = encoder.truncate(2, 8)
    stored = canaries.read(view.save(tmp_path / "view"))
    assert stored is not None
    np.testing.assert_allclose(stored.vectors, canaries.encode(view, stored.canaries), atol=1e-6)
    assert stored.vectors.shape == (32, 8)


def test_changed_canaries_are_refused_like_any_other_file(folder):
    vectors = load_file(folder / canaries.VECTORS)["vectors"]
    save_file({"vectors": vectors + np.float32(1)}, folder / canaries.VECTORS)
    with pytest.raises(ArtefactError, match=r"canaries/vectors\.safetensors: its sha256 is not the manifest's"):
        zoo.from_pretrained(folder)


def test_a_folder_without_canaries_still_opens():
    old = golden.GOLDEN / "matryoshka-2d" / "model"
    assert canaries.read(old) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "download the model again"),
        ("[]", "update embedding-zoo"),
        ('{"format": 2, "inputs": []}', "update embedding-zoo"),
        ('{"format": 1}', "download the model again"),
        ('{"format": 1, "inputs": []}', "0 inputs"),
        ('{"format": 1, "inputs": [7]}', "download the model again"),
        ('{"format": 1, "inputs": [{"text": 7}]}', "not of a known kind"),
        ('{"format": 1, "inputs": [{"image": 8}]}', "not of a known kind"),
        ('{"format": 1, "inputs": [{"image": true}]}', "not of a known kind"),
        ('{"format": 1, "inputs": [{"text": "a", "role": "nobody"}]}', "not of a known kind"),
        ('{"format": 1, "inputs": [{"vector": 0, "components": 99999999}]}', "number of components"),
        ('{"format": 1, "inputs": [{"vector": 0}]}', "number of components"),
        ('{"format": 1, "inputs": [{"text": "a"}]}', "not those of the inputs"),
        ('{"format": 1, "inputs": [{"text": "a", "image": 1}]}', "download the model again"),
    ],
)
def test_inputs_that_zoo_did_not_write_are_refused(content, message, folder):
    (folder / canaries.INPUTS).write_text(content)
    with pytest.raises(ArtefactError, match=message):
        canaries.read(folder)


def test_vectors_that_zoo_did_not_write_are_refused(folder):
    count = len(canaries.TEXTS)
    for vectors in ({"vectors": np.full((count, 4), np.nan, np.float32)}, {"other": np.zeros((count, 4))}):
        save_file(vectors, folder / canaries.VECTORS)
        with pytest.raises(ArtefactError, match="download the model again"):
            canaries.read(folder)
    (folder / canaries.VECTORS).write_bytes(b"x")
    with pytest.raises(ArtefactError):
        canaries.read(folder)

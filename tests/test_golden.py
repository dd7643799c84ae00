"""A published model loads for ever, and a model of a newer version names the version that it needs."""

from __future__ import annotations

import json
import shutil

import golden
import numpy as np
import pytest

import zoo
from zoo import families
from zoo.artefact import manifest, model_folder
from zoo.core.errors import ArtefactError


@pytest.mark.parametrize("family", families.names())
def test_a_folder_of_an_older_version_gives_the_vectors_of_that_version(family):
    inputs, expected = golden.read(family)
    vectors = zoo.from_pretrained(golden.GOLDEN / family / "model").encode(inputs)
    assert vectors.dtype == expected.dtype
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


@pytest.mark.parametrize("family", families.names())
def test_a_golden_folder_is_never_written_again(family):
    with pytest.raises(SystemExit, match="it is not written again"):
        golden.write(family)


def test_an_image_survives_json():
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    text = json.dumps([{"image": image, "text": "a"}], default=golden.encode_image)
    (loaded,) = json.loads(text, object_hook=golden.decode_image)
    np.testing.assert_array_equal(loaded["image"], image)
    assert loaded["text"] == "a"


@pytest.fixture
def write_newer(tmp_path):
    """Return a function that writes a model folder with other entries in the `zoo` section of its config."""

    def write(**entries):
        folder = shutil.copytree(golden.GOLDEN / "matryoshka-2d" / "model", tmp_path / "model")
        config = json.loads((folder / "config.json").read_text())
        config["zoo"] |= entries
        (folder / "config.json").write_text(json.dumps(config))
        manifest.write(folder)
        return folder

    return write


@pytest.mark.parametrize("change", [{"format": model_folder.FORMAT + 1}, {"family": "not-yet-known"}])
def test_a_folder_of_a_newer_version_names_the_version_that_it_needs(write_newer, change):
    with pytest.raises(ArtefactError, match="update embedding-zoo to ≥ 7.1.0"):
        zoo.from_pretrained(write_newer(needs="7.1.0", **change))


@pytest.mark.parametrize("needs", [None, "1.0; pip install evil", "9" * 50, [1, 0], {}])
def test_a_text_that_is_not_a_version_is_not_repeated(write_newer, needs):
    with pytest.raises(ArtefactError, match=r"update embedding-zoo$"):
        zoo.from_pretrained(write_newer(needs=needs, format=99))


def test_a_folder_whose_manifest_is_also_newer_names_the_version_that_it_needs(write_newer):
    folder = write_newer(needs="7.1.0", format=model_folder.FORMAT + 1)
    (folder / manifest.NAME).write_text('{"format": 2, "trees": []}')
    with pytest.raises(ArtefactError, match="update embedding-zoo to ≥ 7.1.0"):
        zoo.from_pretrained(folder)

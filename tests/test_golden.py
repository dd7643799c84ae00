"""What was published once loads for ever, and what is newer than this version says which version it needs."""

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
def test_a_folder_written_by_an_older_version_gives_the_vectors_it_gave(family):
    inputs, vectors = golden.read(family)
    found = zoo.from_pretrained(golden.GOLDEN / family / "model").encode(inputs)
    assert found.dtype == vectors.dtype
    np.testing.assert_allclose(found, vectors, atol=1e-5)


@pytest.fixture
def newer(tmp_path):
    def change(**values):
        folder = shutil.copytree(golden.GOLDEN / "matryoshka-2d" / "model", tmp_path / "model")
        config = json.loads((folder / "config.json").read_text())
        config["zoo"] |= values
        (folder / "config.json").write_text(json.dumps(config))
        manifest.write(folder)
        return folder

    return change


@pytest.mark.parametrize("change", [{"format": model_folder.FORMAT + 1}, {"family": "not-yet-known"}])
def test_a_folder_of_a_newer_version_says_which_one_it_needs(newer, change):
    with pytest.raises(ArtefactError, match="update embedding-zoo to ≥ 7.1.0"):
        zoo.from_pretrained(newer(needs="7.1.0", **change))


@pytest.mark.parametrize("needs", [None, "1.0; pip install evil", "9" * 50, [1, 0], {}])
def test_what_is_no_version_is_not_repeated(newer, needs):
    with pytest.raises(ArtefactError, match=r"update embedding-zoo$"):
        zoo.from_pretrained(newer(needs=needs, format=99))


def test_also_one_whose_manifest_is_newer(newer):
    folder = newer(needs="7.1.0", format=model_folder.FORMAT + 1)
    (folder / manifest.NAME).write_text('{"format": 2, "trees": []}')
    with pytest.raises(ArtefactError, match="update embedding-zoo to ≥ 7.1.0"):
        zoo.from_pretrained(folder)

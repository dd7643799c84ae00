"""Class vectors in the cache of a run and in a model folder: what is written is read, and nothing else is believed."""

from __future__ import annotations

import json

import pytest
import tiny_equiangular
import torch
from safetensors.torch import load_file, save_file

import zoo
from zoo.artefact import manifest, model_folder
from zoo.core.errors import ArtefactError, ZooError
from zoo.families.equiangular import basis_file, basis_search, basis_vectors
from zoo.families.equiangular.encoder import Encoder


@pytest.fixture(scope="module")
def trained_encoder(tmp_path_factory) -> Encoder:
    return tiny_equiangular.train_encoder(tmp_path_factory.mktemp("basis-file"), steps=2)


@pytest.fixture
def folder(trained_encoder, tmp_path):
    return model_folder.save(trained_encoder, tmp_path / "model")


@pytest.fixture
def seeded_folder(tmp_path, monkeypatch):
    """The folder of a model whose basis is made again from its seed, by a short search."""
    monkeypatch.setattr(basis_search, "STEPS", 60)
    encoder = tiny_equiangular.train_encoder(tmp_path, steps=2, dim=4, capacity=20, basis="seed")
    assert encoder.basis.method == "orbits"
    return model_folder.save(encoder, tmp_path / "model")


def change_config(folder, **entries) -> None:
    """Change entries of the `zoo` block of config.json, with a manifest that agrees."""
    config = json.loads((folder / "config.json").read_text())
    config["zoo"] |= entries
    (folder / "config.json").write_text(json.dumps(config))
    manifest.write(folder)


def read_basis_config(folder) -> dict:
    return json.loads((folder / "config.json").read_text())["zoo"]["basis"]


def test_a_basis_is_made_once_and_then_read_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(basis_search, "STEPS", 60)
    spec = tiny_equiangular.make_spec(dim=4, capacity=20)
    basis = basis_file.load_or_make_basis(tmp_path, spec, 3, seed=1)
    monkeypatch.setattr(basis_vectors, "make", lambda *_, **__: pytest.fail("the basis was made again"))
    assert basis_file.load_or_make_basis(tmp_path, spec, 3, seed=1).sha256 == basis.sha256


def test_another_seed_or_size_has_its_own_basis_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(basis_search, "STEPS", 60)
    spec = tiny_equiangular.make_spec(dim=4, capacity=20)
    digests = {
        basis_file.load_or_make_basis(tmp_path, spec, 3, seed=1).sha256,
        basis_file.load_or_make_basis(tmp_path, spec, 3, seed=2).sha256,
        basis_file.load_or_make_basis(tmp_path, spec.model_copy(update={"capacity": 21}), 3, seed=1).sha256,
    }
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("fields", "message"), [({"capacity": 2}, "2 vectors are too few for 3"), ({"dim": 1, "alpha": 0.5}, "Welch bound")]
)
def test_an_impossible_basis_is_refused_before_training(tmp_path, fields, message):
    encoder = Encoder.build(tiny_equiangular.make_spec(**fields))
    with pytest.raises(ZooError, match=message):
        encoder.prepare(tiny_equiangular.make_rows(), tmp_path)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"classes": []}, "`classes` must be a list of two or more"),
        ({"classes": [0, 0, 1]}, "must not repeat a name"),
        ({"classes": [True, 1, 2]}, "all strings or all whole numbers"),
        ({"places": [0, 1]}, "one number for each class"),
        ({"places": [0, 1, 12]}, "`places` must be rows of the basis"),
        ({"places": [0, 1, True]}, "`places` must be rows of the basis"),
        ({"places": [0, 0, 1]}, "one vector to two classes"),
        ({"scale": 0}, "`scale` must be a number"),
        ({"scale": "1"}, "`scale` must be a number"),
        ({"threshold": "0"}, "`threshold` must be"),
        ({"threshold": 10**400}, "`threshold` must be"),
        ({"dim": 10**12}, "`dim` must be"),
        ({"dim": 11}, "linear layer from 8 to 11"),
        ({"seed": -1}, "`seed` must be"),
        ({"basis": None}, "`basis` must be null for head: softmax"),
        ({"basis": []}, "`basis.method` must be a known method"),
        ({"tower": []}, "`tower` must be an object"),
        ({"tower": {"size": 10**6, "channels": 1}}, "1000000 pixels"),
    ],
)
def test_a_wrong_entry_of_the_config_is_refused(folder, entries, message):
    change_config(folder, **entries)
    with pytest.raises(ArtefactError, match=message):
        zoo.from_pretrained(folder)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"count": 10**6}, "do not give 1000000 vectors"),
        ({"count": 0}, "`basis.count` must be"),
        ({"method": "magic"}, "`basis.method` must be a known method"),
        ({"seed": 2**32}, "`basis.seed` must be"),
        ({"version": "3"}, "`basis.version` must be"),
        ({"sha256": 0}, "`basis.sha256` must be"),
        ({"sha256": "0"}, "the file was changed"),
    ],
)
def test_a_wrong_description_of_the_basis_is_refused(folder, entries, message):
    change_config(folder, basis=read_basis_config(folder) | entries)
    with pytest.raises(ArtefactError, match=message):
        zoo.from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: {"moments": tensors["moments"]}, "expected generators"),
        (lambda tensors: tensors | {"generators": tensors["generators"] * 2}, "the file was changed"),
        (lambda tensors: tensors | {"generators": tensors["generators"][0]}, "do not give 12 vectors"),
        (lambda tensors: tensors | {"more": torch.ones(1)}, "holds .*more"),
        (lambda tensors: tensors | {"moments": tensors["moments"].double()}, "float32 and finite"),
        (lambda tensors: tensors | {"moments": tensors["moments"] * torch.nan}, "float32 and finite"),
    ],
)
def test_wrong_tensors_are_refused(folder, change, message):
    save_file(change(load_file(folder / "classes.safetensors")), folder / "classes.safetensors")
    manifest.write(folder)
    with pytest.raises(ArtefactError, match=message):
        zoo.from_pretrained(folder)


def test_a_basis_from_its_seed_is_bit_equal(seeded_folder):
    assert "generators" not in load_file(seeded_folder / "classes.safetensors")
    description = read_basis_config(seeded_folder)
    assert zoo.from_pretrained(seeded_folder).basis.sha256 == description["sha256"]


def test_a_basis_from_its_seed_that_differs_is_refused(seeded_folder, monkeypatch):
    monkeypatch.setattr(basis_search, "STEPS", 61)
    with pytest.raises(ArtefactError, match="differ on this machine"):
        zoo.from_pretrained(seeded_folder)


def test_a_basis_from_its_seed_that_takes_too_long_is_refused(seeded_folder, monkeypatch):
    monkeypatch.setattr(basis_search, "MAX_WORK", 1.0)
    with pytest.raises(ArtefactError, match="take too long"):
        zoo.from_pretrained(seeded_folder)


@pytest.mark.parametrize("version", [1, basis_vectors.VERSION + 1])
def test_a_basis_of_an_unknown_version_is_refused(seeded_folder, version):
    change_config(seeded_folder, basis=read_basis_config(seeded_folder) | {"version": version})
    with pytest.raises(ArtefactError, match=f"of version {version}"):
        zoo.from_pretrained(seeded_folder)


def test_a_closed_form_is_made_again_for_an_earlier_version_and_refused_for_a_newer_one(tmp_path):
    encoder = tiny_equiangular.train_encoder(tmp_path, steps=2, basis="seed")
    assert encoder.basis.method == "orthonormal"
    folder = model_folder.save(encoder, tmp_path / "model")
    earlier = basis_vectors.Basis(encoder.basis.generators, 12, 12, "orthonormal", 42, version=1)
    change_config(folder, basis=basis_file.describe_basis(earlier))
    assert torch.equal(zoo.from_pretrained(folder).basis.get_rows(), encoder.basis.get_rows())
    change_config(folder, basis=read_basis_config(folder) | {"version": basis_vectors.VERSION + 1})
    with pytest.raises(ArtefactError, match="update embedding-zoo"):
        zoo.from_pretrained(folder)

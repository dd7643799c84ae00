"""A model folder is complete or absent. It holds the encoder, the recipe and the further files of the caller."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from published import read_folder
from safetensors.torch import save_file

from zoo.artefact import manifest, model_folder
from zoo.core.errors import ArtefactError, ZooError


class FakeEncoder:
    """The members that `save` needs. `error` is raised after the weights are written."""

    name = "fake"
    steps = ()
    spec = SimpleNamespace(
        family="none", min_reader_version="1.2.3", model_dump=lambda mode: {"family": "none", "mode": mode}
    )

    def __init__(self, error: Exception | None = None, **config) -> None:
        self.error, self.config = error, config

    def write_weights(self, folder):
        save_file({"a": torch.ones(20), "b": torch.ones(20)}, folder / "model.safetensors")
        (folder / "config.json").write_text('{"hidden_size": 3}')
        if self.error:
            raise self.error

    def card_facts(self):
        return {"fact": 1}

    def extra_config(self):
        return self.config

    def make_canaries(self):
        return []

    def check_saved(self, folder, config):
        assert (folder / "config.json").exists()
        assert config["family"] == "none"


def test_the_config_keeps_the_encoders_own_entries_and_gets_a_zoo_section(tmp_path):
    folder = model_folder.save(FakeEncoder(dim=3), tmp_path / "model", recipe={"name": "r"})
    assert model_folder.read_config(folder) == {
        "hidden_size": 3,
        "zoo": {
            "format": model_folder.FORMAT,
            "needs": "1.2.3",
            "family": "none",
            "name": "fake",
            "spec": {"family": "none", "mode": "json"},
            "facts": {"fact": 1},
            "dim": 3,
            "recipe": {"name": "r"},
        },
    }


def test_the_config_is_text_for_people_and_names_the_parent_of_a_view(tmp_path):
    folder = model_folder.save(FakeEncoder(note="é"), tmp_path / "model", parent={"name": "p"})
    text = (folder / "config.json").read_text(encoding="utf-8")
    assert text.startswith('{\n  "hidden_size": 3,\n  "zoo": {\n    "format"')
    assert text.endswith('"note": "é",\n    "parent": {\n      "name": "p"\n    }\n  }\n}\n')
    assert (model_folder.FORMAT, model_folder.SHARD) == (1, 5_000_000_000)
    encoder = FakeEncoder()
    encoder.write_weights = lambda folder: save_file({"a": torch.ones(2)}, folder / "model.safetensors")
    config = model_folder.read_config(model_folder.save(encoder, tmp_path / "bare"))
    assert list(config) == ["zoo"], "an encoder need not write a config of its own"
    assert not {"recipe", "parent"} & config["zoo"].keys()


def test_a_saved_folder_is_checked_before_it_appears(tmp_path):
    encoder, checked = FakeEncoder(), []

    def refuse(folder, config):
        checked.append((folder != tmp_path / "model", config["name"], sorted(path.name for path in folder.iterdir())))
        raise ArtefactError("other vectors")

    encoder.check_saved = refuse
    with pytest.raises(ArtefactError, match="other vectors"):
        model_folder.save(encoder, tmp_path / "model", extras={"a.md": ""})
    assert checked == [(True, "fake", ["config.json", "model.safetensors"])]
    assert not (tmp_path / "model").exists()


def test_a_view_that_a_folder_cannot_hold_is_explained_and_other_errors_are_not():
    message = (
        'a folder of the family f cannot hold the view {"dim": 8}: save the model without it, and take the view when'
    )
    with pytest.raises(ZooError, match=message), model_folder.explain_view("f", {"dim": 8}):
        raise ArtefactError("other vectors")
    with pytest.raises(ArtefactError, match="other vectors"), model_folder.explain_view("f", {}):
        raise ArtefactError("other vectors")
    with pytest.raises(ZooError, match="^full disk$"), model_folder.explain_view("f", {"dim": 8}):
        raise ZooError("full disk")


def test_only_an_empty_folder_or_a_model_of_zoo_is_replaced(tmp_path):
    model_folder.require_replaceable(tmp_path / "new")
    model_folder.require_replaceable(tmp_path)
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(
        ZooError, match=f"{tmp_path}: holds other files and was not written by zoo; choose another folder"
    ):
        model_folder.require_replaceable(tmp_path)
    (tmp_path / manifest.NAME).touch()
    model_folder.require_replaceable(tmp_path)
    with pytest.raises(ZooError, match="thesis"):
        model_folder.require_replaceable(tmp_path / "thesis.txt")


def test_further_text_files_are_written_and_listed_in_the_manifest(tmp_path):
    folder = model_folder.save(
        FakeEncoder(), tmp_path / "model", extras={"lock.json": "{}", "a/b/c.md": "é", "a/b.md": "text"}
    )
    assert (folder / "a" / "b.md").read_text() == "text"
    assert (folder / "a" / "b" / "c.md").read_bytes() == "é".encode()
    assert {"lock.json", "a/b.md", "a/b/c.md", "config.json", "model.safetensors"} == manifest.read(folder).keys()
    manifest.verify(folder)


@pytest.mark.parametrize("encoder", [FakeEncoder(error=RuntimeError("NaN")), FakeEncoder(dim=float("nan"))])
def test_a_save_that_fails_leaves_the_old_folder_or_none(tmp_path, encoder):
    with pytest.raises((RuntimeError, ValueError), match="NaN|JSON compliant"):
        model_folder.save(encoder, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
    model_folder.save(FakeEncoder(), tmp_path / "model")
    before = read_folder(tmp_path)
    with pytest.raises((RuntimeError, ValueError), match="NaN|JSON compliant"):
        model_folder.save(encoder, tmp_path / "model")
    assert read_folder(tmp_path) == before


def test_a_folder_that_exists_is_replaced(tmp_path):
    model_folder.save(FakeEncoder(), tmp_path / "model", extras={"old.md": "text"})
    model_folder.save(FakeEncoder(), tmp_path / "model")
    assert not (tmp_path / "model" / "old.md").exists()


def test_large_weights_are_split(tmp_path):
    folder = model_folder.save(FakeEncoder(), tmp_path / "model", max_shard_size=100)
    assert (folder / "model.safetensors.index.json").exists()
    manifest.verify(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"has no config\.json"),
        ("{", r"config\.json cannot be read"),
        ("[" * 100_000, r"config\.json cannot be read"),
        ("[]", "is not an object"),
        ("{}" + " " * (4 << 20), "more than such a file can need"),
    ],
)
def test_a_config_that_cannot_be_read_is_an_error(tmp_path, content, message):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ArtefactError, match=message):
        model_folder.read_config(tmp_path)

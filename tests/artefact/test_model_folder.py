"""A model folder is complete or absent. It holds the encoder, the recipe and the further files of the caller."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from published import read_folder
from safetensors.torch import save_file

from zoo.artefact import manifest, model_folder
from zoo.core.errors import ArtefactError


class FakeEncoder:
    """The members that `save` needs. `error` is raised after the weights are written."""

    name = "fake"
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


def test_further_text_files_are_written_and_listed_in_the_manifest(tmp_path):
    folder = model_folder.save(FakeEncoder(), tmp_path / "model", extras={"lock.json": "{}", "a/b.md": "text"})
    assert (folder / "a" / "b.md").read_text() == "text"
    assert {"lock.json", "a/b.md", "config.json", "model.safetensors"} == manifest.read(folder).keys()
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

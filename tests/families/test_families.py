"""The contract that every family keeps; a new one comes under it by the `contract` of its own test file."""

from __future__ import annotations

import importlib.resources
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import contract as properties
import numpy as np
import pytest
import torch
from contract import Contract, Learning
from safetensors.torch import load_file, save_file

import cards
import zoo
from zoo import families
from zoo.artefact import manifest, model_folder
from zoo.core import atomic_files
from zoo.core.errors import ArtefactError, ZooError
from zoo.encoder import Encoder

FAMILIES = families.names()


class Trained(NamedTuple):
    """A family's contract, its encoder, what the training did, and the folders of its run and of its model."""

    contract: Contract
    encoder: Encoder
    learning: Learning
    run: Path
    model: Path


def train_after(draws: int, contract: Contract, folder: Path) -> Learning:
    """Train after `draws` random numbers: what an encoder draws comes from the recipe's seed, not from torch's state."""
    torch.manual_seed(0)
    torch.rand(draws)
    return properties.measure_learning(contract, folder)


@pytest.fixture(scope="module", params=FAMILIES)
def trained(request, tmp_path_factory) -> Trained:
    folder = tmp_path_factory.mktemp(request.param)
    contract = properties.load_contract(request.param, folder)
    learning = train_after(1, contract, folder / "run")
    model = model_folder.save(learning.encoder, folder / "model")
    return Trained(contract, learning.encoder, learning, folder / "run", model)


def test_a_folder_gives_the_same_vectors_and_keeps_the_same_spec(trained):
    properties.check_folder_gives_the_same_vectors(trained.contract, trained.encoder, trained.model)


def test_stock_sentence_transformers_gives_the_same_vectors(trained):
    properties.check_stock_library_gives_the_same_vectors(trained.contract, trained.encoder, trained.model)


def test_every_input_is_encoded_for_itself_in_order(trained):
    properties.check_every_input_is_encoded_for_itself_in_order(trained.contract, trained.encoder)


def test_an_untrained_encoder_encodes_or_says_why_not(trained):
    properties.check_encode_before_training(trained.contract)


def test_an_encoder_that_was_used_before_is_trained_alike(trained, tmp_path):
    properties.check_training_after_use(trained.contract, trained.encoder, tmp_path)


def test_what_is_no_input_is_refused_with_its_place(trained):
    with pytest.raises(ZooError, match="None"):
        trained.encoder.encode([*trained.contract.inputs[:1], None])
    if "text" in trained.encoder.modalities:
        with pytest.raises(ZooError, match="list"):
            trained.encoder.encode("one bare text")
    with pytest.raises(ZooError, match="unheard"):
        trained.encoder.view(unheard=1)


def test_a_view_on_the_command_line_gives_the_vectors_of_the_view(trained, tmp_path):
    properties.check_view_on_the_command_line(trained.contract, trained.encoder, trained.model, tmp_path)


def test_training_learns_from_its_rows(trained):
    properties.check_training_learns(trained.contract, trained.learning, trained.run)


def test_the_seed_decides_everything_and_unused_fields_nothing(trained, tmp_path):
    changed = properties.change_unused_fields(trained.contract)
    again = train_after(5, changed, tmp_path / "again").encoder
    inputs = trained.contract.inputs
    np.testing.assert_array_equal(again.encode(inputs), trained.encoder.encode(inputs))


def test_an_interrupted_training_goes_on_to_equal_weights(trained, tmp_path):
    properties.check_resumed_training_gives_equal_weights(trained.contract, trained.encoder, tmp_path / "run")


def test_validation_rows_are_measured_or_refused(trained, tmp_path):
    properties.check_validation_rows(trained.contract, tmp_path / "run")


def test_a_faulty_folder_is_refused_or_gives_finite_vectors(trained, tmp_path):
    properties.check_faulty_folders(trained.contract, trained.encoder, tmp_path)


def test_weights_that_are_missing_extra_or_not_finite_are_refused(trained, tmp_path):
    out = model_folder.save(trained.encoder, tmp_path / "model")
    path = max(out.glob("*.safetensors"), key=lambda p: p.stat().st_size)
    honest = load_file(path)
    name = next(n for n, t in honest.items() if t.is_floating_point() and t.numel())
    for change in (
        {n: t for n, t in honest.items() if n != name},
        honest | {"surplus": torch.ones(1)},
        honest | {name: torch.full_like(honest[name], float("nan"))},
        honest | {name: honest[name].flatten()[:1].clone()},
    ):
        save_file(change, path, metadata={"format": "pt"})
        with pytest.raises(ArtefactError):
            zoo.from_pretrained(out)
        manifest.write(out)
        with pytest.raises(ZooError):
            zoo.from_pretrained(out)


def test_the_card_renders_from_the_folder(trained):
    text = cards.render(trained.model)
    assert "zoo.from_pretrained(" in text
    assert trained.contract.spec.family in text


def test_settings_that_the_recipe_leaves_open_are_told_with_their_value(trained):
    sections = {"encoder": trained.contract.spec, "training": trained.contract.training}
    settings = trained.encoder.card_facts().get("settings", {})
    for path, value in settings.items():
        section, field = path.split(".")
        in_recipe = getattr(sections[section], field)
        assert value is not None
        assert in_recipe is None or field == "epochs" or in_recipe == value
    unused = trained.contract.spec.list_unused_fields(has_validation=True)
    assert {path.split(".")[0] for path in unused} <= type(trained.contract.spec).model_fields.keys()
    assert not {path.removeprefix("encoder.") for path in settings} & unused


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_a_module_a_recipe_a_card_and_a_test_file_and_is_read_without_torch(
    family,
):
    recipes = importlib.resources.files("zoo.recipes")
    texts = [p.read_text(encoding="utf-8") for p in recipes.iterdir() if p.name.endswith(".yaml")]
    assert any(f"family: {family}\n" in text for text in texts), f"no recipe for {family}"
    assert (importlib.resources.files("zoo.cards") / f"{family}.md").is_file()
    code = f"import sys; from zoo import families; families.load_spec({family!r}); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_no_folder_of_another_family_is_taken_for_ones_own(trained, tmp_path):
    out = model_folder.save(trained.encoder, tmp_path / "model")
    config = atomic_files.read_json(out / "config.json")
    config["zoo"]["family"] = "unheard-of"
    atomic_files.write_json(out / "config.json", config)
    manifest.write(out)
    with pytest.raises(ArtefactError, match="unheard-of"):
        zoo.from_pretrained(out)

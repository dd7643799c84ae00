"""The contract that every family keeps; a new one comes under it by the `contract` of its own test file."""

from __future__ import annotations

import importlib.resources
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from contract import Contract, load_contract, train
from safetensors.torch import load_file, save_file

import cards
import zoo
from zoo import families
from zoo.artefact import manifest, model_folder
from zoo.core import atomic_files
from zoo.core.errors import ArtefactError, ZooError
from zoo.encoder import Encoder

FAMILIES = families.names()


def trained(told: Contract, folder: Path) -> Encoder:
    torch.manual_seed(0)  # what an encoder draws comes from the recipe's seed, and not from here
    torch.rand(torch.randint(1, 9, ()).item() if folder.name == "again" else 1)
    return train(told, folder)


@pytest.fixture(scope="module", params=FAMILIES)
def made(request, tmp_path_factory) -> tuple[Contract, Encoder, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    told = load_contract(request.param, folder)
    encoder = trained(told, folder / "run")
    return told, encoder, model_folder.save(encoder, folder / "model")


def test_a_folder_gives_the_same_vectors_and_keeps_the_same_spec(made):
    told, encoder, model = made
    again = zoo.from_pretrained(model)
    assert (again.spec, again.dim, again.similarity) == (
        encoder.spec,
        encoder.dim,
        encoder.similarity,
    )
    np.testing.assert_allclose(again.encode(told.inputs), encoder.encode(told.inputs), atol=1e-6)
    one = again.view(**told.view)
    np.testing.assert_allclose(
        one.encode(told.inputs),
        encoder.view(**told.view).encode(told.inputs),
        atol=1e-6,
    )
    assert one.view_options.items() >= told.view.items()


def test_every_input_is_encoded_for_itself_in_order(made):
    told, encoder, _ = made
    whole = encoder.encode(told.inputs)
    assert len(whole) == len(told.inputs)
    assert whole[0].nbytes == encoder.bytes_per_vector
    np.testing.assert_allclose(
        np.concatenate([encoder.encode([each]) for each in told.inputs]),
        whole,
        atol=1e-5,
    )
    np.testing.assert_allclose(encoder.encode(iter(told.inputs)), whole, atol=1e-5)
    np.testing.assert_allclose(np.concatenate(list(encoder.stream(told.inputs))), whole, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(told.inputs[::-1]), whole[::-1], atol=1e-5)
    assert encoder.encode([]).shape == (0, *whole.shape[1:])
    assert encoder.encode([]).dtype == whole.dtype


def test_what_is_no_input_is_refused_with_its_place(made):
    told, encoder, _ = made
    with pytest.raises(ZooError, match="None"):
        encoder.encode([*told.inputs[:1], None])
    if "text" in encoder.modalities:
        with pytest.raises(ZooError, match="list"):
            encoder.encode("one bare text")
    with pytest.raises(ZooError, match="unheard"):
        encoder.view(unheard=1)


def test_the_seed_decides_everything(made, tmp_path):
    told, encoder, _ = made
    twin = trained(told, tmp_path / "again")
    np.testing.assert_array_equal(twin.encode(told.inputs), encoder.encode(told.inputs))


def test_weights_that_are_missing_extra_or_not_finite_are_refused(made, tmp_path):
    _, encoder, _ = made
    out = model_folder.save(encoder, tmp_path / "model")
    path = max(out.glob("*.safetensors"), key=lambda p: p.stat().st_size)
    honest = load_file(path)
    name = next(n for n, t in honest.items() if t.is_floating_point())
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


def test_the_card_renders_from_the_folder(made):
    _, encoder, model = made
    text = cards.render(model)
    assert "zoo.from_pretrained(" in text
    assert encoder.spec.family in text


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


def test_no_folder_of_another_family_is_taken_for_ones_own(made, tmp_path):
    _, encoder, _ = made
    out = model_folder.save(encoder, tmp_path / "model")
    config = atomic_files.read_json(out / "config.json")
    config["zoo"]["family"] = "unheard-of"
    atomic_files.write_json(out / "config.json", config)
    manifest.write(out)
    with pytest.raises(ArtefactError, match="unheard-of"):
        zoo.from_pretrained(out)

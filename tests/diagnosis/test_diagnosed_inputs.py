"""What `zoo diagnose` encodes: rows of a file, images of a folder, or the training rows of a recipe."""

from __future__ import annotations

import json
import sys
import types

import numpy as np
import pytest
import tiny
import tiny_dense
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

import zoo
from zoo.artefact import model_folder
from zoo.cli.main import main
from zoo.core.errors import ZooError
from zoo.vision.spec import Vision

pytest.importorskip("skdim")

SIDE = 16


@pytest.fixture(scope="module")
def vision_model(tmp_path_factory):
    """A model of transformers that reads images of SIDE pixels, with random weights."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = transformers.ViTConfig(image_size=SIDE, patch_size=8, **sizes)
    folder = tmp_path_factory.mktemp("vit")
    transformers.ViTModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for number, pixels in enumerate(make_images(24)):
        (folder / f"class{number % 2}").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / f"class{number % 2}" / f"{number}.png")
    return folder


def make_images(count):
    """Images of one colour with noise: dark ones and bright ones in turns."""
    rng = np.random.default_rng(0)
    return [np.clip(rng.normal(60 + 120 * (n % 2), 30, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8) for n in range(count)]


def test_a_plain_model_of_images_is_diagnosed_by_a_folder_of_images(vision_model, images, capsys):
    main(["diagnose", str(vision_model), "--data", str(images), "--labels", str(images), "--json"])
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["dim"]) == (24, 8)
    assert found["few_shot"]["ways"] == 2
    assert main(["diagnose", str(vision_model), "--data", str(images / "nothing")]) == 1
    assert "nothing" in capsys.readouterr().err


def test_an_untrained_model_of_images_gives_the_features_of_the_library(vision_model):
    encoder = zoo.from_pretrained(vision_model)
    pixels = make_images(3)
    model = transformers.AutoModel.from_pretrained(vision_model).eval()
    batch = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():  # without a preprocessor_config.json there is nothing to subtract
        states = model(pixel_values=(batch - encoder.tower.module.mean) / encoder.tower.module.std).last_hidden_state
    expected = torch.nn.functional.normalize(states.mean(1), dim=-1)
    np.testing.assert_allclose(encoder.encode(pixels), expected, atol=1e-6)


def test_a_folder_that_timm_wrote_is_opened_by_timm(tmp_path, images, monkeypatch, capsys):
    def make_body():
        return torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())

    def create_model(name, *, pretrained, num_classes):
        assert (name, pretrained, num_classes) == (f"local-dir:{tmp_path}", True, 0)
        body = make_body()
        body.load_state_dict(load_file(tmp_path / "model.safetensors"))
        body.pretrained_cfg = {"input_size": (3, 12, 12), "mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)}
        return body

    (tmp_path / "config.json").write_text(json.dumps({"architecture": "tiny", "pretrained_cfg": {}}))
    monkeypatch.setitem(sys.modules, "timm", types.SimpleNamespace(create_model=create_model, __spec__=object()))
    save_file(make_body().state_dict(), tmp_path / "other.safetensors")
    (tmp_path / "pytorch_model.bin").write_bytes(b"a pickle, which timm would prefer to other.safetensors")
    with pytest.raises(ZooError, match=r"has no model\.safetensors"):
        zoo.from_pretrained(tmp_path)
    save_file(make_body().state_dict(), tmp_path / "model.safetensors")
    main(["diagnose", str(tmp_path), "--data", str(images), "--json"])
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["dim"]) == (24, 5)
    assert "write `timm: tiny`" in Vision(model=str(tmp_path)).find_problem(tmp_path)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ZooError, match="pip install timm"):
        zoo.from_pretrained(tmp_path)


def test_without_a_file_the_training_rows_of_the_recipe_are_encoded(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = model_folder.save(tiny_dense.build(tmp_path, dims=(8, 16)), tmp_path / "run" / "model")
    rows = [{"anchor": text, "positive": text[::-1]} for text in tiny.SENTENCES]
    (tmp_path / "pairs.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    recipe = (
        f"name: x\nencoder: {{family: dense, backbone: {tmp_path / 'bert'}}}\n"
        "data: {source: file, path: pairs.jsonl}\n"
    )
    (model / "recipe.yaml").write_text(recipe)
    (model.parent / "recipe.yaml").write_text(recipe)
    monkeypatch.setattr("zoo.artefact.manifest.verify", lambda folder: None)  # the recipe came later
    main(["diagnose", str(model.parent), "--json"])
    (found,) = json.loads(capsys.readouterr().out)
    assert found["rows"] == len({*tiny.SENTENCES})
    main(["diagnose", str(model), "--rows", "5", "--json"])
    assert json.loads(capsys.readouterr().out)[0]["rows"] == 5


def test_models_of_texts_and_of_images_are_not_put_beside_each_other(tmp_path, vision_model, images, capsys):
    model = model_folder.save(tiny_dense.build(tmp_path, dims=(8,)), tmp_path / "model")
    assert main(["diagnose", str(vision_model), str(model), "--data", str(images)]) == 1
    assert "reads text, and" in capsys.readouterr().err
    assert main(["compare", str(vision_model), str(model), "--data", str(images)]) == 1
    assert "they have no inputs in common" in capsys.readouterr().err
    main(["compare", str(vision_model), str(vision_model), "--data", str(images), "--json"])
    assert json.loads(capsys.readouterr().out)["figures"]["cka"] == pytest.approx(1)

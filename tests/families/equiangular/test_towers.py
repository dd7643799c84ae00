"""Towers of texts and images, the rows that feed them, and the rotation that the projection begins with."""

from __future__ import annotations

import io
import json
import sys
import types

import numpy as np
import pytest
import tiny
import tiny_equiangular
import torch
from datasets import Dataset
from PIL import Image
from sklearn.linear_model import LogisticRegression
from tiny_equiangular import make_images, make_rows

import zoo
from zoo.artefact import manifest, model_folder
from zoo.core.errors import ArtefactError, RecipeError, ZooError
from zoo.families.equiangular import dataset, first_projection, logistic_start, procrustes, towers
from zoo.families.equiangular.encoder import Encoder
from zoo.ops.inference import evaluation_mode
from zoo.recipe import recipe
from zoo.schema import Training
from zoo.vision.spec import Vision


@pytest.fixture(scope="module")
def untrained_encoder() -> Encoder:
    encoder = Encoder.build(tiny_equiangular.make_spec())
    encoder.module.eval()
    return encoder


@pytest.fixture
def text_tower(tmp_path) -> towers.TextTower:
    return towers.build(tiny.backbone(tmp_path / "b"), revision=None, max_length=None, folder=tmp_path)


# -- texts -------------------------------------------------------------------------------------------------------------


def test_features_of_texts_do_not_depend_on_the_other_texts(text_tower):
    text_tower.module.eval()
    texts = [" ".join(tiny.SENTENCES[i : i + 1 + i % 5]) for i in range(2 * towers.SIMILAR_LENGTHS + 3)]
    with torch.inference_mode():
        alone = torch.cat([text_tower.features(text_tower.batch([text])) for text in texts])
        assert torch.allclose(text_tower.features(text_tower.batch(texts)), alone, atol=1e-5)


def test_features_without_a_gradient_are_those_of_training_and_follow_the_weights(text_tower):
    texts = tiny.SENTENCES[:20]
    text_tower.module.train()
    for _ in range(2):
        features = towers.compute_features(text_tower, texts)
        assert text_tower.module.training
        with evaluation_mode(text_tower.module), torch.inference_mode():
            np.testing.assert_allclose(features, text_tower.features(text_tower.batch(texts)), atol=1e-5)
        with torch.no_grad():
            for parameter in text_tower.module.parameters():
                parameter.mul_(0.9)


def test_the_pooler_of_a_text_backbone_is_not_trained(text_tower):
    parameters = dict(text_tower.module.named_parameters())
    is_pooler = {name: name.startswith("pooler.") for name in parameters}
    assert any(is_pooler.values())
    assert {name: not parameter.requires_grad for name, parameter in parameters.items()} == is_pooler


def test_features_can_be_used_in_training(text_tower):
    features = towers.compute_features(text_tower, tiny.SENTENCES[:3])
    torch.nn.Linear(text_tower.width, 1)(features).sum().backward()
    assert towers.compute_features(text_tower, []).shape == (0, text_tower.width)


def test_texts_train_the_same_head_and_open_in_sentence_transformers(tmp_path):
    from sentence_transformers import SentenceTransformer

    backbone = tiny.backbone(tmp_path / "b")
    labels = ["dog" if "dog" in sentence else "no dog" for sentence in tiny.SENTENCES]
    rows = Dataset.from_dict({"text": tiny.SENTENCES, "label": labels})
    spec = tiny_equiangular.make_spec(backbone=backbone, dim=16, head_lr_scale=5, ema=0.9)
    encoder = Encoder.build(spec)
    encoder.prepare(rows, tmp_path)
    encoder.fit(rows, Training(max_steps=60, batch_size=32, learning_rate=2e-3), tmp_path / "run", validation=rows)
    encoder.finish(rows)
    assert encoder.modalities == ("text",)
    assert encoder.evaluate_recognition({"data": rows})[0]["top1"] > 0.9
    model_folder.save(encoder, tmp_path / "model")
    stock = SentenceTransformer(str(tmp_path / "model"), device="cpu").encode(tiny.SENTENCES[:5])
    np.testing.assert_allclose(stock, encoder.encode(tiny.SENTENCES[:5]), atol=1e-5)
    np.testing.assert_allclose(zoo.from_pretrained(tmp_path / "model").encode(tiny.SENTENCES[:5]), stock, atol=1e-5)


# -- the first projection ----------------------------------------------------------------------------------------------


def test_on_a_pretrained_backbone_the_projection_begins_as_a_rotation_to_the_class_vectors(
    tmp_path, text_tower, monkeypatch
):
    labels = [sum(map(ord, sentence.split()[1])) % 3 for sentence in tiny.SENTENCES]
    rows = Dataset.from_dict({"text": tiny.SENTENCES, "label": labels})
    width = text_tower.width
    encoder = Encoder.build(tiny_equiangular.make_spec(backbone=str(tmp_path / "b"), dim=width))
    monkeypatch.setattr(first_projection, "MARGIN", 1.0)
    encoder.prepare(rows, tmp_path)
    weight = encoder.projection.weight.detach()
    assert torch.allclose(weight @ weight.T, torch.eye(width), atol=1e-5)
    vectors = torch.from_numpy(encoder.encode(tiny.SENTENCES))
    scores = encoder.compute_scores(tiny.SENTENCES)
    means = np.stack([scores[np.array(labels) == name].mean(0) for name in encoder.classes])
    assert (means.argmax(1) == np.arange(3)).all(), "each class points to its own vector the most"
    features = encoder.compute_features(tiny.SENTENCES)
    centred = torch.nn.functional.normalize(features - features.mean(0), dim=1)
    assert torch.allclose(vectors @ vectors.T, centred @ centred.T, atol=1e-4), "cosines are those of the backbone"


def test_the_fitted_rotation_recovers_the_one_that_made_the_features_also_if_a_class_is_missing():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.eye(6, 8)
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=generator))[0]
    class_ids = torch.arange(5).repeat(40)  # the sixth class has no rows
    features = (vectors[class_ids] + 0.02 * torch.randn(200, 8, generator=generator)) @ rotation + 3
    weight, bias = procrustes.fit_rotation(features, class_ids, vectors)
    centred = features - features.mean(0)
    torch.testing.assert_close(features @ weight.T + bias, centred @ weight.T, atol=1e-4, rtol=0)
    torch.testing.assert_close((centred @ weight.T).norm(dim=1), centred.norm(dim=1))
    scores = (centred @ weight.T @ vectors.T)[:, :5]
    assert (scores.argmax(1) == class_ids).all()
    narrow_weight = procrustes.fit_rotation(features, class_ids, torch.eye(6, 6))[0]
    torch.testing.assert_close(narrow_weight @ narrow_weight.T, torch.eye(6), atol=1e-5, rtol=0)


SIMPLEX = torch.nn.functional.normalize(torch.eye(5) - 1 / 5, dim=1)


@pytest.mark.parametrize("vectors", [torch.eye(5, 8), SIMPLEX], ids=["orthonormal", "simplex"])
@pytest.mark.parametrize("classes", [5, 4, 2], ids=["all classes", "a class without rows", "two classes"])
def test_the_start_decides_as_the_regression_of_scikit_learn_for_independent_and_simplex_vectors(vectors, classes):
    generator = torch.Generator().manual_seed(0)
    class_ids = torch.arange(classes).repeat(40)
    features = torch.eye(5, 6)[class_ids] + 0.7 * torch.randn(40 * classes, 6, generator=generator) + 3
    weight, bias = logistic_start.fit_logistic_regression(features, class_ids, vectors)
    scale = features.norm(dim=1).mean()
    regression = LogisticRegression(C=10.0, max_iter=300).fit((features / scale).double().numpy(), class_ids.numpy())
    scores = (features @ weight.T + bias) @ vectors[:classes].T
    expected = regression.predict((features / scale).double().numpy())
    assert (scores.argmax(1).numpy() == expected).mean() > 0.99
    assert weight.dtype == bias.dtype == torch.float32


@pytest.mark.parametrize(("spread", "starts_as"), [(0.1, "rotation"), (2.0, "regression")])
def test_the_start_is_a_regression_only_where_it_separates_the_classes_clearly_better(spread, starts_as):
    """Noise in the three strongest components hides the classes from distances, but not from a regression on three others."""
    generator = torch.Generator().manual_seed(0)
    class_ids = torch.arange(3).repeat(80)
    noise = 0.1 * torch.randn(240, 8, generator=generator)
    noise[:, :3] += spread * torch.randn(240, 3, generator=generator)
    features = torch.cat([torch.eye(3), 0.5 * torch.eye(3, 5)], 1)[class_ids] + noise
    vectors = torch.eye(3, 8)
    fits = {"rotation": procrustes.fit_rotation, "regression": logistic_start.fit_logistic_regression}
    expected = fits[starts_as](features, class_ids, vectors)
    for ours, theirs in zip(first_projection.fit_projection(features, class_ids, vectors), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


# -- images ------------------------------------------------------------------------------------------------------------


def test_a_vision_model_of_transformers_is_trained_saved_and_opened_strictly(tmp_path):
    import transformers

    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=16, patch_size=8
    )
    transformers.ViTModel(config).save_pretrained(tmp_path / "vit")
    preprocessing = {"image_mean": [0.1, 0.2, 0.3], "size": {"height": 16}}
    (tmp_path / "vit" / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    encoder = Encoder.build(tiny_equiangular.make_spec(backbone=Vision(model="vit"), dim=4), folder=tmp_path)
    assert (encoder.tower.size, encoder.tower.channels) == (16, 3)
    assert encoder.tower.module.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    encoder.prepare(make_rows(), tmp_path)
    encoder.fit(make_rows(), Training(max_steps=2, batch_size=8), tmp_path / "run")
    encoder.finish(make_rows())
    folder = model_folder.save(encoder, tmp_path / "model")
    images, _ = make_images(4)
    opened = zoo.from_pretrained(folder)
    np.testing.assert_allclose(opened.encode(images), encoder.encode(images), atol=1e-6)
    honest = json.loads((folder / "config.json").read_text())
    for change, message in (
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"hidden_size": 10**7}, "cls_token has shape"),
        ({"num_hidden_layers": 3}, "tensor .*layers.2"),
        ({"model_type": "bert"}, "tensor .*cls_token"),
    ):
        (folder / "config.json").write_text(json.dumps(honest | change))
        manifest.write(folder)
        with pytest.raises(ArtefactError, match=message):
            zoo.from_pretrained(folder)


def test_a_missing_timm_is_named_and_an_installed_one_is_used(tmp_path, monkeypatch):
    text = "name: x\nencoder: {family: equiangular, backbone: {timm: tiny}, dim: 4}\ndata: {source: builtin, name: digits}\n"
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(RecipeError, match="pip install timm"):
        recipe.loads(text)

    def create_model(name, *, pretrained, num_classes):
        assert (name, num_classes) == ("tiny", 0)
        body = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        body.pretrained_cfg = {"input_size": (3, 12, 12), "mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)}
        return body

    monkeypatch.setitem(sys.modules, "timm", types.SimpleNamespace(create_model=create_model, __spec__=object()))
    encoder = Encoder.build(recipe.loads(text).encoder)
    assert (encoder.tower.size, encoder.tower.width, encoder.backbone_name) == (12, 5, "timm/tiny")
    encoder.prepare(make_rows(), tmp_path)
    encoder.fit(make_rows(), Training(max_steps=2, batch_size=8), tmp_path / "run")
    encoder.finish(make_rows())
    opened = zoo.from_pretrained(model_folder.save(encoder, tmp_path / "model"))
    images, _ = make_images(4)
    np.testing.assert_allclose(opened.encode(images), encoder.encode(images), atol=1e-6)


@pytest.mark.parametrize(
    ("invalid", "message"),
    [
        (3, "input 1 is int"),
        ("nowhere.png", "nowhere.png"),
        (b"x", "Pillow"),
        (np.ones((2, 2)), "float64"),
        (np.ones((2, 2, 7), np.uint8), "uint8"),
        (np.ones((0, 2), np.uint8), "uint8"),
    ],
)
def test_an_input_that_is_not_an_image_is_named_by_its_position(untrained_encoder, invalid, message):
    with pytest.raises(ZooError, match=message):
        untrained_encoder.encode([make_images(1)[0][0], invalid])


@pytest.mark.parametrize("image", ["photo.jpg", b"bytes"])
def test_a_single_image_instead_of_a_list_is_refused(untrained_encoder, image):
    with pytest.raises(ZooError, match="list of images"):
        untrained_encoder.encode(image)


def test_an_image_has_the_same_vector_in_every_form(untrained_encoder, tmp_path):
    array = make_images(1)[0][0]
    picture = Image.fromarray(array)
    path = tmp_path / "x.png"
    picture.save(path)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    forms = [array, array[..., None], picture, path, str(path), buffer.getvalue(), picture.convert("RGB")]
    vectors = untrained_encoder.encode(forms)
    np.testing.assert_allclose(vectors, np.repeat(vectors[:1], len(forms), 0), atol=1e-6)


def test_transparent_pixels_are_white(untrained_encoder):
    transparent = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    white = np.full((8, 8), 255, np.uint8)
    vectors = untrained_encoder.encode([transparent, white])
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)


# -- rows --------------------------------------------------------------------------------------------------------------


def test_images_that_do_not_fit_in_memory_are_decoded_when_they_are_used(untrained_encoder, monkeypatch):
    rows, tower = make_rows(6), untrained_encoder.tower
    decoded = dataset.LabelledDataset(rows, [0, 1, 2], tower)
    assert decoded.pixels is not None
    monkeypatch.setattr(dataset, "MAX_IMAGE_BYTES", 6 * 8 * 8 - 1)
    undecoded = dataset.LabelledDataset(rows, [0, 1, 2], tower)
    assert undecoded.pixels is None
    for number in range(6):
        first, second = decoded[number], undecoded[number]
        assert first["class_id"] == second["class_id"] == number % 3
        assert torch.equal(tower.batch([first["input"]])["pixels"], tower.batch([second["input"]])["pixels"])


def test_a_label_without_a_class_is_refused(untrained_encoder):
    with pytest.raises(ZooError, match="labels that no training row has: 2; "):
        dataset.LabelledDataset(make_rows(6), [0, 1], untrained_encoder.tower)


def test_selected_rows_are_spread_evenly():
    rows = Dataset.from_dict({"number": list(range(100))})
    assert dataset.select_evenly(rows, 4)["number"][:] == [0, 33, 66, 99]
    assert dataset.select_evenly(rows, 100) is rows

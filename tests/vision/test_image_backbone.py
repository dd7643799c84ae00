"""Image backbones: sections of a recipe, statistics, encoding in blocks, and model folders."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from zoo.core.errors import ArtefactError, ZooError
from zoo.vision import backbone, pretrained, resnet
from zoo.vision.backbone import ImageBackbone
from zoo.vision.preprocessing import decode_image, load_pixels
from zoo.vision.spec import Vision

SPEC = Vision(build="resnet", width=4, blocks=(1, 1), size=8)
DIM = 3


def make_images(count, seed=0):
    return list(np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8))


@pytest.fixture
def model() -> ImageBackbone:
    torch.manual_seed(0)
    return pretrained.build(SPEC)


@pytest.fixture
def project(model):
    return torch.nn.Linear(model.width, DIM)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "give one of build, model and timm, not none"),
        ({"build": "resnet", "timm": "vit"}, "give one of build, model and timm, not build and timm"),
        ({"build": "resnet", "revision": "abc"}, "`revision` belongs to `model`"),
    ],
)
def test_a_section_names_exactly_one_backbone(fields, message):
    with pytest.raises(ValidationError, match=message):
        Vision(**fields)


def test_a_folder_without_a_model_is_found_before_anything_is_opened(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "has no config.json" in Vision(model="empty").find_problem(tmp_path)
    assert "there is no such folder" in Vision(model="./nowhere").find_problem(tmp_path)
    assert Vision(model="me/model").find_problem(tmp_path) is None
    assert SPEC.find_problem(tmp_path) is None


def test_a_new_network_starts_as_pytorch_draws_it():
    network = resnet.build_resnet(3, 8, (1, 1))
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            bound = module.weight[0].numel() ** -0.5
            assert 0.9 * bound < module.weight.abs().max() <= bound
        elif isinstance(module, torch.nn.BatchNorm2d):
            assert torch.equal(module.weight, torch.ones_like(module.weight)), (
                "a block that begins as its shortcut is worse"
            )


@pytest.mark.parametrize(("blocks", "width"), [((1,), 4), ((1, 2), 8), ((1, 1, 1), 16)])
def test_each_stage_doubles_the_channels(blocks, width):
    assert resnet.build_resnet(1, 4, blocks)(torch.zeros(2, 1, 16, 16)).shape == (2, width)


def test_statistics_that_are_not_one_number_per_channel_are_ignored():
    network = resnet.NormalizedInput(torch.nn.Identity(), 3)
    network.set_statistics([0.1, 0.2, 0.3], [0.5])
    assert network.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert network.std.flatten().tolist() == [1.0, 1.0, 1.0]
    network.set_statistics(None, None)
    pixels = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    assert network(pixels)[0, :, 0, 0].tolist() == pytest.approx([0.9, 0.8, 0.7])


def test_a_new_backbone_learns_mean_and_spread_of_its_images_and_a_pretrained_one_keeps_its_own(model):
    pixels = torch.from_numpy(np.stack(make_images(20))).permute(0, 3, 1, 2).contiguous()
    pixels[:, 2] = 7  # a constant channel must not divide by 0
    pretrained_model = ImageBackbone(resnet.NormalizedInput(model.module.body, 3), 8, 3, name="me/model")
    pretrained_model.learn_scale(pixels)
    assert pretrained_model.module.std.flatten().tolist() == [1.0, 1.0, 1.0]
    model.learn_scale(pixels)
    scaled = (pixels / 255 - model.module.mean) / model.module.std
    assert scaled[:, :2].mean().item() == pytest.approx(0.0, abs=1e-4)
    assert scaled[:, :2].std().item() == pytest.approx(1.0, abs=1e-2)
    assert scaled[:, 2].abs().max().item() < 1e-3


def test_blocks_change_no_vector_and_errors_name_the_position_over_all_blocks(model, project, monkeypatch):
    images = make_images(7)
    whole = model.encode(project, DIM, images)
    assert whole.shape == (7, DIM)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-6)
    monkeypatch.setattr(backbone, "BLOCK", 3)
    blocks = list(model.stream(project, DIM, iter(images)))
    assert [len(block) for block in blocks] == [3, 3, 1]
    np.testing.assert_allclose(np.concatenate(blocks), whole, atol=1e-6)
    with pytest.raises(ZooError, match="^input 5 is None, expected an image$"):
        model.encode(project, DIM, [*images[:5], None])


def test_no_image_gives_one_block_without_rows(model, project):
    assert [block.shape for block in model.stream(project, DIM, [])] == [(0, DIM)]


def test_vectors_that_are_not_finite_are_an_error(model, project):
    project.weight.data.fill_(float("nan"))
    with pytest.raises(ZooError, match="not finite"):
        model.encode(project, DIM, make_images(1))


def test_encoding_leaves_the_training_mode_unchanged(model, project):
    model.module.train()
    before = model.module.body[1].running_mean.clone()
    model.encode(project, DIM, make_images(2))
    assert model.module.training
    assert torch.equal(model.module.body[1].running_mean, before)


def test_a_model_folder_holds_the_backbone_and_its_projection(model, project, tmp_path):
    model.save(tmp_path, project, DIM)
    loaded, tensors = pretrained.load_from_model_folder(SPEC, tmp_path, model.state())
    loaded_project = torch.nn.Linear(model.width, DIM)
    loaded_project.load_state_dict(tensors)
    images = make_images(3)
    np.testing.assert_array_equal(loaded.encode(loaded_project, DIM, images), model.encode(project, DIM, images))
    assert loaded.name is None


def test_loading_does_not_change_the_random_state_of_the_caller(model, project, tmp_path):
    model.save(tmp_path, project, DIM)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    pretrained.load_from_model_folder(SPEC, tmp_path, model.state())
    assert torch.equal(torch.rand(3), expected)


def test_shapes_are_compared_before_memory_is_allocated(model, project, tmp_path, monkeypatch):
    model.save(tmp_path, project, DIM)
    devices = []
    build_resnet = resnet.build_resnet

    def record_device(*args):
        network = build_resnet(*args)
        devices.append(next(network.parameters()).device.type)
        return network

    monkeypatch.setattr(resnet, "build_resnet", record_device)
    with pytest.raises(ArtefactError, match="weights do not fit config.json"):
        pretrained.load_from_model_folder(SPEC.model_copy(update={"width": 64}), tmp_path, model.state())
    assert devices == ["meta"]


@pytest.mark.parametrize("config", [{}, {"size": 8, "channels": 2}, {"size": 10**9, "channels": 3}, {"size": True}])
def test_an_impossible_size_of_images_is_refused(config, tmp_path):
    with pytest.raises(ArtefactError, match="pixels a side; expected 1 or 3 channels"):
        pretrained.load_from_model_folder(SPEC, tmp_path, config)


def test_parts_of_a_pretrained_model_that_get_no_gradient_are_frozen(tmp_path):
    import transformers

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = transformers.ViTConfig(**sizes, image_size=8, patch_size=4)
    transformers.ViTModel(config, use_mask_token=True).save_pretrained(tmp_path / "vit")
    (tmp_path / "vit" / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5, 0.5, 0.5]}))
    model = pretrained.build(Vision(model="vit"), tmp_path)
    assert (model.size, model.width) == (8, 8)
    assert model.module.mean.flatten().tolist() == [0.5, 0.5, 0.5]
    model.features(model.batch(make_images(2))).sum().backward()
    without_gradient = [name for name, p in model.module.named_parameters() if p.requires_grad and p.grad is None]
    assert without_gradient == []


def test_an_image_is_rotated_cropped_in_the_middle_and_put_on_white(tmp_path):
    from PIL import Image

    picture = Image.new("RGBA", (12, 4), (0, 0, 0, 0))
    assert (load_pixels(picture, 4, 3) == 255).all()
    stripes = np.zeros((4, 12, 3), np.uint8)
    stripes[:, 4:8] = 200
    assert (load_pixels(stripes, 4, 3) == 200).all()
    assert load_pixels(stripes, 4, 1).shape == (1, 4, 4)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    half = np.zeros((4, 4, 3), np.uint8)
    half[:2] = 255
    Image.fromarray(half).save(tmp_path / "turned.png", exif=exif)
    pixels = load_pixels(tmp_path / "turned.png", 4, 3)
    assert (pixels[:, :2] == 0).all()
    assert (pixels[:, 2:] == 255).all()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "is None, expected an image"),
        ("nowhere.png", "is 'nowhere.png', No such file"),
        (np.zeros((2, 2), np.float64), r"is an array \(2, 2\) of float64"),
        (np.zeros((2, 2, 5), np.uint8), r"is an array \(2, 2, 5\) of uint8, expected \(height, width"),
        (np.zeros((0, 2), np.uint8), r"is an array \(0, 2\) of uint8"),
        ({"bytes": None}, "is None, expected an image"),
    ],
)
def test_a_value_that_is_not_an_image_is_described(source, message):
    with pytest.raises(ZooError, match=message):
        decode_image(source)

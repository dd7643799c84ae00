"""Latent-quantized autoencoders: quantisers, networks, codes and back, baselines, model folder, recipe, the task infomec."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from contract import Contract
from datasets import Dataset, Features, Image, Value
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

import cards
import zoo
from zoo.artefact import manifest, model_folder
from zoo.cli import main
from zoo.core.errors import ArtefactError, RecipeError, ZooError
from zoo.data.formats import image_files
from zoo.evaluation.mteb_model import MtebModel
from zoo.families.latent_quantized import baselines, card_samples, inputs, networks, quantizers
from zoo.families.latent_quantized import spec as spec_module
from zoo.families.latent_quantized.encoder import Encoder
from zoo.families.latent_quantized.spec import Network, Spec, choose_network
from zoo.metrics.disentanglement import infomec
from zoo.recipe import recipe
from zoo.schema import Training
from zoo.spec import EpochRule

TINY = Network(widths=(8, 16), blocks=1, patch=2, dense=(32,), norm="instance")
SOURCES = ("x", "y", "tone")


def squares(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images of 16 × 16 pixels, with a square at one of 4 × 4 places in one of 3 tones, and their sources."""
    sources = np.random.default_rng(seed).integers(0, (4, 4, 3), (count, 3))
    images = np.zeros((count, 16, 16), np.uint8)
    for image, (x, y, tone) in zip(images, sources, strict=True):
        image[4 * y : 4 * y + 4, 4 * x : 4 * x + 4] = (90, 170, 255)[tone]
    return images, sources


def rows(count: int = 64, seed: int = 0) -> Dataset:
    images, sources = squares(count, seed)
    files = [{"bytes": image_files.encode_pnm(image.tobytes(), 16, 16), "path": None} for image in images]
    features = Features({"image": Image(), **{name: Value("int64") for name in SOURCES}})
    return Dataset.from_dict({"image": files, **dict(zip(SOURCES, sources.T, strict=True))}, features=features)


def spec(**fields) -> Spec:
    return Spec(**{"family": "latent-quantized", "latents": 4, "levels": 5, "size": 16, "network": TINY, **fields})


def contract(folder) -> Contract:
    training = Training(max_steps=30, batch_size=16, learning_rate=3e-3, weight_decay=0.1, checkpoint_every=1000)
    network = Network(widths=(8,), blocks=3, patch=2, dense=(16,), norm="instance", decoder="style")
    style_spec = spec(levels=(5, 3, 4, 7), network=network)
    return Contract(style_spec, rows(), training, list(squares(10, seed=3)[0]), {"values": True}, folder)


def train(folder, *, steps: int = 400, learning_rate: float = 3e-3, **fields) -> Encoder:
    encoder = Encoder.build(spec(**fields))
    table = vectors() if fields.get("modality") == "vector" else rows(480)
    encoder.prepare(table, folder)
    training = Training(max_steps=steps, batch_size=32, learning_rate=learning_rate, weight_decay=0.01)
    encoder.fit(table, training, folder)
    encoder.finish(table)
    return encoder


def vectors(count: int = 300, seed: int = 0) -> Dataset:
    """Vectors of 12 components that lie in a space of 3 dimensions."""
    rng = np.random.default_rng(seed)
    basis = np.random.default_rng(9).normal(size=(3, 12))
    table = 5 + 3 * (rng.normal(size=(count, 3)) @ basis)
    return Dataset.from_dict({"vector": table.astype(np.float32).tolist()})


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Encoder:
    return train(tmp_path_factory.mktemp("qlae"))


# -- the quantiser -----------------------------------------------------------------------------------------------------


def test_the_codebook_loss_moves_only_the_scalars_and_the_other_terms_only_the_encoder():
    quantizer = quantizers.ScalarQuantizer((4, 3))
    inputs = torch.tensor([[0.4, -0.1], [0.1, 0.6]], requires_grad=True)
    latent = quantizer(inputs)
    assert latent.decoder_input.tolist() == [[0.5, 0.0], [pytest.approx(1 / 6), 0.5]]

    latent.codebook_loss.backward(retain_graph=True)
    assert inputs.grad is None
    # mean over 4 entries of (z - v)²: dL/dv = -(z - v)/2 for the scalar that is taken, 0 for the others
    assert quantizer.values[0].grad.tolist() == pytest.approx([0, 0, (1 / 6 - 0.1) / 2, (0.5 - 0.4) / 2])
    assert quantizer.values[1].grad.tolist() == pytest.approx([0, 0.05, -0.05])

    for scalars in quantizer.values:
        scalars.grad = None
    (latent.commitment_loss + (3 * latent.decoder_input).sum()).backward()
    assert all(scalars.grad is None for scalars in quantizer.values)
    expected = 3 + (inputs.detach() - latent.decoder_input.detach()) / 2
    torch.testing.assert_close(inputs.grad, expected)


def test_training_moves_the_scalars_and_weight_decay_spares_scalars_biases_and_norms(tmp_path):
    start = torch.linspace(-0.5, 0.5, 5)
    encoder = train(tmp_path / "a", steps=20)
    assert max((scalars - start).abs().max().item() for scalars in encoder.bottleneck.values) > 1e-3
    decayed, not_decayed = encoder.parameter_groups(Training(weight_decay=0.1))
    assert not_decayed["weight_decay"] == 0
    assert "weight_decay" not in decayed
    norms = {
        name
        for name, module in encoder.module.named_modules()
        if isinstance(module, torch.nn.InstanceNorm2d | torch.nn.GroupNorm)
    }
    assert norms
    spared = {id(parameter) for parameter in not_decayed["params"]}
    assert {name for name, parameter in encoder.module.named_parameters() if id(parameter) in spared} == {
        name
        for name, _ in encoder.module.named_parameters()
        if name.startswith("latent.") or name.endswith("bias") or name.rsplit(".", 1)[0] in norms
    }
    encoder = train(tmp_path / "b", steps=20, codebook_weight=0)
    assert all(torch.equal(scalars.detach(), start) for scalars in encoder.bottleneck.values)


def test_each_latent_takes_only_its_own_scalars():
    quantizer = quantizers.ScalarQuantizer((2, 9, 4))
    codes = quantizer.find_nearest(torch.randn(500, 3) * 5)
    assert codes.max(0).values.tolist() == [1, 8, 3]
    torch.testing.assert_close(quantizer.find_nearest(quantizer.look_up(codes)), codes)
    with pytest.raises(ValidationError, match="3 sizes for 4 latents"):
        spec(levels=(2, 3, 4))


def test_vectors_take_the_nearest_codeword_of_the_shared_codebook():
    quantizer = quantizers.VectorQuantizer(3, 20, 4)
    inputs = torch.randn(10, 12)
    codes = quantizer.find_nearest(inputs)
    distances = (inputs.view(10, 3, 1, 4) - quantizer.codebook.detach()).norm(dim=-1)
    assert torch.equal(codes, distances.argmin(-1))
    latent = quantizer(inputs)
    torch.testing.assert_close(latent.decoder_input, quantizer.look_up(codes))
    latent.codebook_loss.backward()
    assert quantizer.codebook.grad.abs().sum() > 0


def test_the_kl_divergence_of_the_gaussian_equals_that_of_torch():
    gaussian = quantizers.Gaussian(5)
    inputs = torch.randn(7, 10)
    mean, log_variance = inputs.chunk(2, dim=1)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, (0.5 * log_variance).exp()), normal(0, 1)).sum(1)
    torch.testing.assert_close(gaussian(inputs).kl, expected)
    torch.testing.assert_close(gaussian.eval()(inputs).decoder_input, mean)


def test_the_noise_of_the_gaussian_depends_on_the_step_alone():
    encoder = Encoder.build(spec(latent="gaussian"))
    batch = {"inputs": torch.from_numpy(squares(8)[0])[:, None]}
    losses = []
    for encoder.step in (3, 4, 3):
        losses.append(encoder.loss(batch).item())
        torch.rand(5)
    assert losses[0] == losses[2] != losses[1]


@pytest.mark.parametrize("latent", ["quantized", "vector", "continuous", "gaussian"])
def test_the_loss_is_the_mean_cross_entropy_plus_the_weighted_terms(latent):
    images = torch.from_numpy(squares(8)[0])[:, None]
    encoder = Encoder.build(spec(latent=latent, beta=3.0))
    encoder.module.eval()
    pixels = images.float() / 255
    result = encoder.bottleneck(encoder.module["encoder"](pixels))
    logits = encoder.module["decoder"](result.decoder_input)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, pixels)
    if latent in ("quantized", "vector"):
        codebook_weight, commitment_weight = {"quantized": (0.01, 0.01), "vector": (1, 0.25)}[latent]
        expected = expected + codebook_weight * result.codebook_loss + commitment_weight * result.commitment_loss
    if latent == "gaussian":
        expected = expected + 3.0 * result.kl.mean() / 256
    torch.testing.assert_close(encoder.loss({"inputs": images}), expected)


# -- networks ----------------------------------------------------------------------------------------------------------


def test_the_default_encoder_is_the_papers_twelve_blocks():
    modules = networks.build_image_encoder(Network(), 1, 64, 10).modules()
    convolutions = [module for module in modules if isinstance(module, torch.nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [32] * 3 + [64] * 3 + [128] * 3 + [256] * 3
    shapes = [(c.kernel_size[0], c.stride[0], c.padding[0]) for c in convolutions]
    assert shapes == [(3, 1, 1), (3, 1, 1), (4, 2, 1)] * 4


@pytest.mark.parametrize(
    "network",
    [
        Network(),
        Network(decoder="style", blocks=1),
        TINY,
        Network(patch=8, widths=(4,), blocks=2, norm="none"),
    ],
)
def test_every_network_gives_back_an_image_of_the_same_size(network):
    images = torch.rand(2, 3, 64, 64)
    latents = networks.build_image_encoder(network, 3, 64, 7)(images)
    assert latents.shape == (2, 7)
    assert networks.build_image_decoder(network, 3, 64, 7)(latents).shape == images.shape


@pytest.mark.parametrize(
    ("size", "patch", "stages", "last_side"),
    [(8, 1, 1, 4), (16, 1, 2, 4), (28, 1, 2, 7), (32, 2, 2, 4), (64, 4, 2, 4), (96, 4, 2, 6), (512, 8, 4, 4)],
)
def test_the_default_network_halves_the_side_to_about_four_pixels(size, patch, stages, last_side):
    network = choose_network(size)
    assert (network.patch, len(network.widths), size / network.downscaling) == (patch, stages, last_side)


def test_the_default_network_takes_every_even_size_and_says_which_sizes_are_near_an_odd_one():
    for size in range(4, 513, 2):
        assert spec(network="auto", size=size).layers == choose_network(size)
    with pytest.raises(ValidationError, match="set 26 or 28"):
        spec(network="auto", size=27)
    with pytest.raises(ValidationError, match="multiple of 16"):
        spec(network="paper", size=28)


def test_a_model_folder_holds_the_layers_that_the_default_network_stands_for():
    encoder = Encoder.build(spec(network="auto", size=28))
    assert encoder.spec.network == choose_network(28)
    settings = encoder.card_facts()["settings"]
    assert {name: settings[f"encoder.network.{name}"] for name in ("widths", "dense", "norm", "decoder")} == {
        "widths": [32, 64],
        "dense": [256],
        "norm": "none",
        "decoder": "style",
    }
    assert Encoder.build(spec(network="paper", size=32)).spec.network == "paper"
    for latent, dense in (("quantized", ()), ("continuous", ()), ("gaussian", (256, 256)), ("vector", (256, 256))):
        assert spec(network="auto", modality="vector", latent=latent).layers == Network(dense=dense)


@pytest.mark.parametrize(
    ("section", "rate", "decay", "rows_read"),
    [
        ({}, 5e-3, 1.0, 150_000),
        ({"network": "small"}, 5e-3, 1.0, 150_000),
        ({"network": {"widths": [8], "norm": "none"}}, 5e-3, 1.0, 150_000),
        ({"network": {"widths": [8]}}, 1e-3, 0.1, 60_000),
        ({"network": "paper"}, 1e-3, 0.1, 60_000),
        ({"modality": "vector"}, 1e-3, 0.1, 20_000),
        ({"network": 3}, 1e-3, 0.1, None),
    ],
)
def test_rate_and_decay_are_high_where_nothing_is_normalised(section, rate, decay, rows_read):
    """Also a section with mistakes has defaults, because the mistakes are told later."""
    values = Spec.choose_training_defaults(section)
    assert (values["learning_rate"], values["weight_decay"]) == (rate, decay)
    Training(**values)
    if rows_read:
        assert spec(**{"network": "auto", **section}).epoch_rule.rows_read == rows_read


def test_with_defaults_every_latent_varies_and_images_come_back(tmp_path, monkeypatch):
    monkeypatch.setattr(spec_module, "IMAGE_EPOCHS", EpochRule(rows_read=20_000, least=1, most=200))
    table, lines = rows(192), []
    encoder = Encoder.build(spec(network="auto"))
    settings = Training(**Spec.training_defaults)
    encoder.fit(table, settings, tmp_path, say=lines.append)
    assert lines[0] == "training.epochs is not set: 105 epochs for 192 rows"
    codes = encoder.encode(squares(60, seed=3)[0])
    assert (np.ptp(codes, axis=0) > 0).all()
    images = squares(60, seed=3)[0]
    of_mean = ((images / 255 - squares(192)[0].mean(0) / 255) ** 2).mean()
    assert card_samples.compute_error(encoder, list(images)) < 0.1 * of_mean
    assert encoder.card_facts()["settings"]["training.epochs"] == 105


def test_latents_that_no_row_uses_are_counted_in_words(tmp_path):
    encoder = Encoder.build(spec(levels=2))
    output = list(encoder.module["encoder"].modules())[-1]
    with torch.no_grad():
        output.weight[1:].zero_()  # only the first latent depends on the image
        output.weight[0].mul_(100)
    images = squares(40)[0]
    output.bias.data[0] -= encoder.module["encoder"](encoder._normalise(next(iter(encoder.read_blocks(images)))))[
        :, 0
    ].mean()
    settings = Training(max_steps=1, batch_size=16, learning_rate=1e-12, weight_decay=0.0)
    encoder.fit(rows(40), settings, tmp_path)
    (finding,) = encoder.find_faults(rows(40))
    assert finding.level == "warning"
    assert finding.message == "1 of 4 latents differ between 40 inputs"


def test_a_size_that_the_network_cannot_halve_is_refused():
    with pytest.raises(ValidationError, match="multiple of 8"):
        spec(size=20)


def test_the_patch_layer_equals_a_convolution_as_wide_as_its_stride():
    layer = networks._build_patch_layer(Network(patch=4), 3)
    images = torch.rand(2, 3, 16, 16)
    kernel = layer[1].weight.detach().view(32, 3, 4, 4)
    expected = torch.nn.functional.leaky_relu(torch.nn.functional.conv2d(images, kernel, layer[1].bias, stride=4), 0.01)
    torch.testing.assert_close(layer(images), expected)


def test_decoder_maps_have_the_channels_last_layout():
    maps = networks.UnflattenChannelsLast(1, (4, 3, 3))(torch.rand(2, 36))
    assert maps.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(maps.flatten(1), maps.reshape(2, 36))


def test_training_inputs_are_the_same_whether_or_not_they_fit_into_memory(monkeypatch):
    table, image_inputs = rows(5), inputs.ImageInputs(1, 16)
    decoded = inputs.TrainingInputs(table, image_inputs)
    monkeypatch.setattr(inputs, "MEMORY_LIMIT", 0)
    read_one_by_one = inputs.TrainingInputs(table, image_inputs)
    assert decoded.decoded is not None
    assert read_one_by_one.decoded is None
    for i in range(5):
        assert torch.equal(decoded[i]["input"], read_one_by_one[i]["input"])


# -- use ---------------------------------------------------------------------------------------------------------------


def test_trained_codes_predict_the_sources_and_decode_to_the_image(model):
    images, sources = squares(300, seed=5)
    codes = model.encode(list(images))
    assert codes.dtype == np.uint8
    assert codes.max() < 5
    assert infomec(sources, codes)["infoe"] > 0.6
    decoded = model.decode(codes)
    assert decoded.shape == images.shape
    variance = np.mean((images - images.mean(0)) ** 2.0)
    assert np.mean((decoded.astype(float) - images) ** 2) < 0.5 * variance
    np.testing.assert_array_equal(model.reconstruct(list(images)), decoded)


def test_no_inputs_give_no_codes(model):
    codes = model.encode([])
    assert (codes.shape, codes.dtype) == ((0, 4), np.uint8)
    assert model.decode(codes).shape == (0, 16, 16)


def test_the_view_values_encodes_to_the_scalars_of_the_codes(model):
    images = list(squares(20, seed=6)[0])
    codes, view = model.encode(images), model.view(values=True)
    values = view.encode(images)
    assert values.dtype == np.float32
    scalars = [parameter.detach().numpy() for parameter in model.bottleneck.values]
    expected = np.stack([numbers[column] for numbers, column in zip(scalars, codes.T, strict=True)], axis=1)
    np.testing.assert_allclose(values, expected)
    np.testing.assert_array_equal(model.decode(values), model.decode(codes))
    assert (model.bytes_per_vector, view.bytes_per_vector) == (4, 16)
    assert model.bits_per_vector == pytest.approx(4 * math.log2(5))
    assert Encoder.build(spec(levels=(2, 300, 2, 2))).encode(images).dtype == np.uint16
    with pytest.raises(ZooError, match="has no such view option.*its view options are: values"):
        model.view(layers=3)


def test_codes_of_another_shape_or_beyond_the_scalars_are_refused(model):
    codes = model.encode(list(squares(20, seed=6)[0]))
    for bad_codes in (codes[:, :2], codes + 5, codes.astype(int) - 5, codes[0]):
        with pytest.raises(ZooError, match="indices below 5"):
            model.decode(bad_codes)
    with pytest.raises(ZooError, match=r"must be \(n, 4\) numbers"):
        model.decode(np.zeros((3, 2), np.float32))


def test_a_traversal_changes_one_latent_through_its_scalars_in_ascending_order(model):
    image = squares(1, seed=7)[0][0]
    code = model.encode([image])[0].astype(int)
    for latent in range(4):
        images = model.traverse(image, latent)
        assert images.shape == (5, 16, 16)
        order = model.bottleneck.values[latent].detach().numpy().argsort()
        expected = np.repeat(code[None], 5, axis=0)
        expected[:, latent] = order
        np.testing.assert_array_equal(images, model.decode(expected))
    for missing_latent in (-1, 4):
        with pytest.raises(ZooError, match="they are 0 to 3"):
            model.traverse(image, missing_latent)


def test_the_cosine_of_two_codes_falls_with_the_steps_between_their_scalars(model):
    codes = model.encode(list(squares(40, seed=8)[0]))
    ranks = [
        scalars.detach().numpy().argsort().argsort()[column]
        for scalars, column in zip(model.bottleneck.values, codes.T, strict=True)
    ]
    ranks = np.stack(ranks, axis=1)
    steps = np.abs(ranks[:, None].astype(int) - ranks[None]).sum(-1)
    vectors = model.as_float_vectors(codes)
    cosines = np.asarray(MtebModel(model, "fp32").similarity(vectors, vectors))
    np.testing.assert_allclose(cosines, 1 - 2 * steps / 16, atol=1e-6)


def test_the_cosine_of_two_codes_falls_with_the_number_of_different_codewords():
    encoder = Encoder.build(spec(latent="vector", vectors=6))
    codes = encoder.encode(list(squares(40, seed=8)[0]))
    differences = (codes[:, None] != codes[None]).sum(-1)
    vectors = encoder.as_float_vectors(codes)
    np.testing.assert_allclose(vectors @ vectors.T / 24, 1 - 4 * differences / 24, atol=1e-6)


@pytest.mark.parametrize("latent", ["continuous", "gaussian", "vector"])
def test_other_kinds_of_latents_share_the_networks_and_the_interface(tmp_path, latent):
    encoder = train(tmp_path, steps=40, latent=latent, vectors=16, vector_dim=3)
    quantized, other = (
        dict(Encoder.build(spec(latent=kind)).module.named_parameters()) for kind in ("quantized", latent)
    )
    shared = [name for name in quantized if name in other and quantized[name].shape == other[name].shape]
    assert len(shared) >= len(quantized) - 8
    images = list(squares(12, seed=6)[0])
    vectors = encoder.encode(images)
    assert vectors.shape == (12, 4)
    assert vectors.dtype == (np.uint8 if latent == "vector" else np.float32)
    assert encoder.decode(vectors).shape == (12, 16, 16)
    assert encoder.traverse(images[0], 2).shape == (16 if latent == "vector" else 8, 16, 16)
    model_folder.save(encoder, tmp_path / "model")
    loaded = zoo.from_pretrained(tmp_path / "model")
    np.testing.assert_array_equal(loaded.traverse(images[0], 1), encoder.traverse(images[0], 1))
    if latent != "vector":
        with pytest.raises(ZooError, match="has values alone"):
            encoder.view(values=True)


def test_a_baseline_with_figures_in_the_folder_is_not_trained_again(tmp_path, monkeypatch):
    encoder = Encoder.build(spec(baselines=("continuous",), sources=SOURCES))
    table, settings = rows(80), Training(max_steps=2, batch_size=16)
    first = baselines.compare_with_baselines(encoder, table, table, settings, tmp_path)
    assert set(first["baselines"]) == {"continuous"}
    monkeypatch.setattr(baselines, "train_baseline", lambda *_: pytest.fail("trained again"))
    assert baselines.compare_with_baselines(encoder, table, table, settings, tmp_path) == first


def test_baselines_without_validation_rows_are_refused_before_training(tmp_path):
    encoder = Encoder.build(spec(baselines=("continuous",), sources=SOURCES))
    with pytest.raises(ZooError, match="set `validation` in the recipe"):
        encoder.fit(rows(), Training(), tmp_path)
    with pytest.raises(ValidationError, match="list their columns in `sources`"):
        spec(baselines=("continuous",))


def test_vectors_of_another_model_get_codes_and_are_decoded(tmp_path):
    encoder = train(tmp_path, learning_rate=1e-2, modality="vector", levels=24, latents=6, network=Network(dense=(64,)))
    table = np.array(vectors(100, seed=4)["vector"], dtype=np.float32)
    codes = encoder.encode(table)
    assert codes.shape == (100, 6)
    error = ((encoder.decode(codes) - table) ** 2).sum() / ((table - table.mean(0)) ** 2).sum()
    assert error < 0.2
    assert encoder.card_facts()["error"] < 0.2
    model_folder.save(encoder, tmp_path / "model")
    loaded = zoo.from_pretrained(tmp_path / "model")
    np.testing.assert_array_equal(loaded.encode(table), codes)
    np.testing.assert_array_equal(np.concatenate(list(loaded.stream(iter(table)))), codes)
    assert "numpy.load" in cards.render(tmp_path / "model")
    for bad_inputs, message in (
        (table[:, :5], "expected a vector of 12"),
        ([None], "input 0"),
        ([[np.nan] * 12], "not finite"),
        (table[0], "not one"),
        ("text", "not one"),
    ):
        with pytest.raises(ZooError, match=message):
            encoder.encode(bad_inputs)


def test_an_encoder_of_vectors_encodes_only_after_training():
    with pytest.raises(ZooError, match="not known yet"):
        Encoder.build(spec(modality="vector")).encode([[1.0, 2.0]])


# -- model folder ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latents": 4000, "levels": 60_000}, "missing tensor latent.values"),
        ({"network": {"widths": [4096, 4096]}}, "extra tensor decoder"),
        ({"latent": "vector"}, "extra tensor latent.values"),
        ({"channels": 3}, "has shape"),
    ],
)
def test_a_config_that_claims_other_tensors_than_the_folder_holds_is_refused(model, tmp_path, change, message):
    folder = model_folder.save(model, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["zoo"]["spec"] |= change
    (folder / "config.json").write_text(json.dumps(config))
    manifest.write(folder)
    with pytest.raises(ArtefactError, match=message):
        zoo.from_pretrained(folder)


@pytest.mark.parametrize("seed", ["x", -1])
def test_a_seed_that_is_not_a_seed_is_refused(model, tmp_path, seed):
    folder = model_folder.save(model, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["zoo"]["seed"] = seed
    (folder / "config.json").write_text(json.dumps(config))
    manifest.write(folder)
    with pytest.raises(ArtefactError, match="seed"):
        zoo.from_pretrained(folder)


def test_a_codebook_that_is_not_finite_is_refused(model, tmp_path):
    folder = model_folder.save(model, tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    infinite = {name: t * float("inf") if name.startswith("latent") else t for name, t in tensors.items()}
    save_file(infinite, folder / "model.safetensors")
    manifest.write(folder)
    with pytest.raises(ArtefactError, match="NaN or infinity"):
        zoo.from_pretrained(folder)


# -- recipe, task and card ---------------------------------------------------------------------------------------------

RECIPE = """
name: tiny
encoder:
  family: latent-quantized
  latents: 4
  levels: 5
  size: 16
  network: {widths: [8, 16], blocks: 1, patch: 2, dense: [32], norm: none}
  baselines: [continuous]
  sources: [x, y, tone]
data: {source: file, path: squares.parquet}
validation: 0.2
training: {max_steps: 30, batch_size: 16}
evaluation:
  - task: infomec
    data: {source: file, path: squares.parquet, limit: 150}
    sources: [x, y, tone]
    views: [{}, {values: true}]
card: {license: apache-2.0}
"""


@pytest.mark.slow
def test_a_recipe_trains_an_encoder_whose_card_and_command_line_show_the_same_scores(tmp_path, capsys):
    rows(300).to_parquet(tmp_path / "squares.parquet")
    loaded = recipe.loads(RECIPE, folder=tmp_path)
    assert loaded.training.weight_decay == 1.0, "that of a network without normalisation"
    zoo.train(loaded, tmp_path / "run")
    folder = tmp_path / "run" / "model"
    report = json.loads((folder / "report.json").read_text())
    first = report["results"][0]
    assert (first["task"], first["metric"], first["bytes_per_vector"]) == ("infomec", "infom", 4)
    assert set(first["figures"]) >= {"infom", "infoe", "infoc", "mig", "sap", "dci_disentanglement", "active_latents"}
    assert np.shape(first["details"]["nmi"]) == (3, 4)
    for name in ("traversal", "nmi", "reconstructions", "codebook"):
        assert (folder / "plots" / f"{name}.png").is_file()
    text = (folder / "README.md").read_text()
    assert all(f"plots/{name}.png" in text for name in ("traversal", "nmi", "reconstructions", "codebook"))
    table = text[text.index("<summary>Other kinds of latents</summary>") :]
    assert "| Figure | This model | continuous |" in table
    assert "infom" in table

    data = f"data.path={tmp_path / 'squares.parquet'}"
    arguments = ["infomec", "data.source=file", data, "data.limit=150", "sources=[x, y, tone]"]
    assert main.main(["evaluate", str(folder), *arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)["results"][0]
    assert result["figures"] == first["figures"]
    assert main.main(["evaluate", str(folder), "infomec", data]) == 1
    assert "sources" in capsys.readouterr().err
    with pytest.raises(RecipeError, match="sources"):
        recipe.loads(RECIPE.replace("    sources: [x, y, tone]\n", ""), folder=tmp_path)
    with pytest.raises(RecipeError, match="there is no column|needs a column 'z'"):
        recipe.loads(RECIPE.replace("[x, y, tone]\n    views", "[x, y, z]\n    views"), folder=tmp_path)


def test_infomec_measures_any_encoder_that_reads_the_rows(tmp_path, model):
    import tiny

    table = [{"text": s, "first": s.split()[0], "last": s.split()[-1]} for s in tiny.SENTENCES]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    task = {"task": "infomec", "data": {"source": "file", "path": "t.jsonl"}, "sources": ["first", "last"]}
    text_encoder = zoo.from_pretrained(tiny.backbone(tmp_path / "b", hidden=8))
    result = zoo.evaluate(text_encoder, [task], folder=tmp_path)["results"][0]
    assert 0 <= result["figures"]["infom"] <= 1
    assert np.shape(result["details"]["nmi"]) == (2, 8)
    with pytest.raises(ZooError, match="holds text, which"):
        zoo.evaluate(model, [task], folder=tmp_path)

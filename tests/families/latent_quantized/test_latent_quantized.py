"""Latent-quantized autoencoders: gradients of the quantiser, codes and back, baselines, artefact, recipe, the task infomec."""

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
from zoo import evaluation
from zoo.artefact import manifest, model_folder
from zoo.cli import main
from zoo.core.errors import ArtefactError, RecipeError, ZooError
from zoo.data.formats import image_files
from zoo.evaluation.mteb_model import MtebModel
from zoo.families.latent_quantized import networks, quantizers
from zoo.families.latent_quantized.encoder import Encoder
from zoo.families.latent_quantized.spec import Network, Spec
from zoo.metrics.disentanglement import infomec
from zoo.recipe import recipe
from zoo.schema import Training

TINY = Network(widths=(8, 16), blocks=1, patch=2, dense=(32,), norm="instance")
SOURCES = ("x", "y", "tone")


def squares(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """16 × 16 pixels with a square at one of 4 × 4 places in one of 3 tones; images and their sources."""
    sources = np.random.default_rng(seed).integers(0, (4, 4, 3), (count, 3))
    images = np.zeros((count, 16, 16), np.uint8)
    for image, (x, y, tone) in zip(images, sources, strict=True):
        image[4 * y : 4 * y + 4, 4 * x : 4 * x + 4] = (90, 170, 255)[tone]
    return images, sources


def rows(count: int = 64, seed: int = 0) -> Dataset:
    images, sources = squares(count, seed)
    held = [{"bytes": image_files.encode_pnm(image.tobytes(), 16, 16), "path": None} for image in images]
    features = Features({"image": Image(), **{name: Value("int64") for name in SOURCES}})
    return Dataset.from_dict({"image": held, **dict(zip(SOURCES, sources.T, strict=True))}, features=features)


def spec(**more) -> Spec:
    return Spec(**{"family": "latent-quantized", "latents": 4, "levels": 5, "size": 16, "network": TINY, **more})


def contract(folder) -> Contract:
    training = Training(max_steps=30, batch_size=16, learning_rate=3e-3, weight_decay=0.1, checkpoint_every=1000)
    net = Network(widths=(8,), blocks=3, patch=2, dense=(16,), norm="instance", decoder="style")
    told = spec(levels=(5, 3, 4, 7), network=net)
    return Contract(told, rows(), training, list(squares(10, seed=3)[0]), {"values": True}, folder)


def trained(folder, *, steps: int = 400, rate: float = 3e-3, **more) -> Encoder:
    encoder = Encoder.build(spec(**more))
    table = vectors() if more.get("modality") == "vector" else rows(480)
    encoder.prepare(table, folder)
    encoder.fit(table, Training(max_steps=steps, batch_size=32, learning_rate=rate, weight_decay=0.01), folder)
    encoder.finish(table)
    return encoder


def vectors(count: int = 300, seed: int = 0) -> Dataset:
    draw = np.random.default_rng(seed)
    basis = np.random.default_rng(9).normal(size=(3, 12))
    held = 5 + 3 * (draw.normal(size=(count, 3)) @ basis)
    return Dataset.from_dict({"vector": held.astype(np.float32).tolist()})


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Encoder:
    return trained(tmp_path_factory.mktemp("qlae"))


# -- the quantiser -----------------------------------------------------------------------------------------------------


def test_the_gradient_reaches_the_values_by_the_first_term_and_the_encoder_by_the_others():
    between = quantizers.ScalarQuantizer((4, 3))
    given = torch.tensor([[0.4, -0.1], [0.1, 0.6]], requires_grad=True)
    found = between(given)
    assert found.decoded.tolist() == [[0.5, 0.0], [pytest.approx(1 / 6), 0.5]]

    found.codebook.backward(retain_graph=True)
    assert given.grad is None
    # mean over 4 entries of (z - v)²: dL/dv = -(z - v)/2 at the value that is taken, 0 at the others
    assert between.values[0].grad.tolist() == pytest.approx([0, 0, (1 / 6 - 0.1) / 2, (0.5 - 0.4) / 2])
    assert between.values[1].grad.tolist() == pytest.approx([0, 0.05, -0.05])

    for value in between.values:
        value.grad = None
    (found.commitment + (3 * found.decoded).sum()).backward()
    assert all(value.grad is None for value in between.values)
    expected = 3 + (given.detach() - found.decoded.detach()) / 2
    torch.testing.assert_close(given.grad, expected)


def test_training_moves_the_values_and_no_decay_does(tmp_path):
    start = torch.linspace(-0.5, 0.5, 5)
    moved = trained(tmp_path / "a", steps=20)
    assert max((value - start).abs().max().item() for value in moved.between.values) > 1e-3
    groups = moved.parameter_groups(Training(weight_decay=0.1))
    still = {id(p) for p in groups[1]["params"]}
    assert groups[1]["weight_decay"] == 0
    assert "weight_decay" not in groups[0]
    norms = {
        n for n, part in moved.module.named_modules() if isinstance(part, torch.nn.InstanceNorm2d | torch.nn.GroupNorm)
    }
    assert norms
    assert {n for n, p in moved.module.named_parameters() if id(p) in still} == {
        n
        for n, _ in moved.module.named_parameters()
        if n.startswith("latent.") or n.endswith("bias") or n.rsplit(".", 1)[0] in norms
    }
    fixed = trained(tmp_path / "b", steps=20, codebook_weight=0)
    assert all(torch.equal(value.detach(), start) for value in fixed.between.values)


def test_each_latent_has_as_many_values_as_it_was_given_and_never_another():
    between = quantizers.ScalarQuantizer((2, 9, 4))
    codes = between.nearest(torch.randn(500, 3) * 5)
    assert codes.max(0).values.tolist() == [1, 8, 3]
    torch.testing.assert_close(between.nearest(between.looked_up(codes)), codes)
    with pytest.raises(ValidationError, match="3 sizes for 4 latents"):
        spec(levels=(2, 3, 4))


def test_vectors_take_the_nearest_of_the_shared_codebook():
    between = quantizers.VectorQuantizer(3, 20, 4)
    given = torch.randn(10, 12)
    codes = between.nearest(given)
    distances = (given.view(10, 3, 1, 4) - between.codebook.detach()).norm(dim=-1)
    assert torch.equal(codes, distances.argmin(-1))
    found = between(given)
    torch.testing.assert_close(found.decoded, between.looked_up(codes))
    found.codebook.backward()
    assert between.codebook.grad.abs().sum() > 0


def test_the_gaussians_divergence_is_that_of_torch():
    between = quantizers.Gaussian(5)
    given = torch.randn(7, 10)
    mean, log_variance = given.chunk(2, dim=1)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, (0.5 * log_variance).exp()), normal(0, 1)).sum(1)
    torch.testing.assert_close(between(given).kl, expected)
    torch.testing.assert_close(between.eval()(given).decoded, mean)


def test_the_loss_is_the_mean_cross_entropy_and_the_weighted_terms():
    images = torch.from_numpy(squares(8)[0])[:, None]
    for kind in ("quantized", "vector", "continuous", "gaussian"):
        encoder = Encoder.build(spec(latent=kind, beta=3.0))
        encoder.module.eval()
        x = images.float() / 255
        middle = encoder.between(encoder.module["encoder"](x))
        expected = torch.nn.functional.binary_cross_entropy_with_logits(encoder.module["decoder"](middle.decoded), x)
        if kind in ("quantized", "vector"):
            a, b = {"quantized": (0.01, 0.01), "vector": (1, 0.25)}[kind]
            expected = expected + a * middle.codebook + b * middle.commitment
        if kind == "gaussian":
            expected = expected + 3.0 * middle.kl.mean() / 256
        torch.testing.assert_close(encoder.loss({"inputs": images}), expected)


# -- networks ----------------------------------------------------------------------------------------------------------


def test_the_papers_networks_are_its_twelve_blocks_and_every_net_gives_an_image_of_the_size():
    net = Network()
    found = [m for m in networks.image_encoder(net, 1, 64, 10).modules() if isinstance(m, torch.nn.Conv2d)]
    assert [m.out_channels for m in found] == [32] * 3 + [64] * 3 + [128] * 3 + [256] * 3
    assert [(m.kernel_size[0], m.stride[0], m.padding[0]) for m in found] == [(3, 1, 1), (3, 1, 1), (4, 2, 1)] * 4
    for each in (net, Network(decoder="style", blocks=1), TINY, Network(patch=8, widths=(4,), blocks=2, norm="none")):
        x = torch.rand(2, 3, 64, 64)
        z = networks.image_encoder(each, 3, 64, 7)(x)
        assert z.shape == (2, 7)
        assert networks.image_decoder(each, 3, 64, 7)(z).shape == x.shape
    with pytest.raises(ValidationError, match="multiple of 8"):
        spec(size=20)


# -- use ---------------------------------------------------------------------------------------------------------------


def test_training_makes_codes_that_tell_the_sources_and_bring_the_image_back(model):
    images, sources = squares(300, seed=5)
    codes = model.encode(list(images))
    assert codes.dtype == np.uint8
    assert codes.max() < 5
    found = infomec(sources, codes)
    assert found["infoe"] > 0.6
    again = model.decode(codes)
    assert again.shape == images.shape
    untrained = np.mean((images - images.mean(0)) ** 2.0)
    assert np.mean((again.astype(float) - images) ** 2) < 0.5 * untrained
    np.testing.assert_array_equal(model.reconstruct(list(images)), again)


def test_codes_values_and_views_are_one_another(model):
    images = list(squares(20, seed=6)[0])
    codes, view = model.encode(images), model.view(values=True)
    values = view.encode(images)
    assert values.dtype == np.float32
    table = [value.detach().numpy() for value in model.between.values]
    np.testing.assert_allclose(values, np.stack([v[c] for v, c in zip(table, codes.T, strict=True)], axis=1))
    np.testing.assert_array_equal(model.decode(values), model.decode(codes))
    assert (model.bytes_per_vector, view.bytes_per_vector) == (4, 16)
    assert model.bits_per_vector == pytest.approx(4 * math.log2(5))
    assert Encoder.build(spec(levels=(2, 300, 2, 2))).encode(images).dtype == np.uint16
    for wrong in (codes[:, :2], codes + 5, codes.astype(int) - 5, codes[0]):
        with pytest.raises(ZooError, match="indices below 5"):
            model.decode(wrong)
    with pytest.raises(ZooError, match="has the view `values`"):
        model.view(layers=3)
    assert model.decode(codes[:0]).shape == (0, 16, 16)


def test_a_traversal_changes_one_latent_through_its_values_in_order(model):
    image = squares(1, seed=7)[0][0]
    code = model.encode([image])[0].astype(int)
    for latent in range(4):
        shown = model.traverse(image, latent)
        assert shown.shape == (5, 16, 16)
        order = model.between.values[latent].detach().numpy().argsort()
        expected = np.repeat(code[None], 5, axis=0)
        expected[:, latent] = order
        np.testing.assert_array_equal(shown, model.decode(expected))
    for wrong in (-1, 4):
        with pytest.raises(ZooError, match="they are 0 to 3"):
            model.traverse(image, wrong)


def test_codes_are_searched_by_the_steps_between_them(model):
    images = list(squares(40, seed=8)[0])
    codes = model.encode(images)
    ranks = np.stack(
        [v.detach().numpy().argsort().argsort()[c] for v, c in zip(model.between.values, codes.T, strict=True)], 1
    )
    steps = np.abs(ranks[:, None].astype(int) - ranks[None]).sum(-1)
    adapter = MtebModel(model, "fp32")
    vectors = model.as_float_vectors(codes)
    cosines = np.asarray(adapter.similarity(vectors, vectors))
    np.testing.assert_allclose(cosines, 1 - 2 * steps / 16, atol=1e-6)
    other = Encoder.build(spec(latent="vector", vectors=6))
    codes = other.encode(images)
    differ = (codes[:, None] != codes[None]).sum(-1)
    vectors = other.as_float_vectors(codes)
    np.testing.assert_allclose(vectors @ vectors.T / 24, 1 - 4 * differ / 24, atol=1e-6)


@pytest.mark.parametrize("kind", ["continuous", "gaussian", "vector"])
def test_the_baselines_share_everything_but_the_latents(tmp_path, kind):
    encoder = trained(tmp_path, steps=40, latent=kind, vectors=16, vector_dim=3)
    mine, theirs = (dict(Encoder.build(spec(latent=k)).module.named_parameters()) for k in ("quantized", kind))
    shared = [n for n in mine if n in theirs and mine[n].shape == theirs[n].shape]
    assert len(shared) >= len(mine) - 8
    images = list(squares(12, seed=6)[0])
    vectors = encoder.encode(images)
    assert vectors.shape == (12, 4)
    assert vectors.dtype == (np.uint8 if kind == "vector" else np.float32)
    assert encoder.decode(vectors).shape == (12, 16, 16)
    assert encoder.traverse(images[0], 2).shape == (16 if kind == "vector" else 8, 16, 16)
    model_folder.save(encoder, tmp_path / "model")
    again = zoo.from_pretrained(tmp_path / "model")
    np.testing.assert_array_equal(again.traverse(images[0], 1), encoder.traverse(images[0], 1))
    if kind != "vector":
        with pytest.raises(ZooError, match="has values alone"):
            encoder.view(values=True)


def test_embeddings_of_another_model_get_codes_and_come_back(tmp_path):
    encoder = trained(tmp_path, rate=1e-2, modality="vector", levels=24, latents=6, network=Network(dense=(64,)))
    held = np.array(vectors(100, seed=4)["vector"], dtype=np.float32)
    codes = encoder.encode(held)
    assert codes.shape == (100, 6)
    lost = ((encoder.decode(codes) - held) ** 2).sum() / ((held - held.mean(0)) ** 2).sum()
    assert lost < 0.2
    assert encoder.card_facts()["error"] < 0.2
    model_folder.save(encoder, tmp_path / "model")
    again = zoo.from_pretrained(tmp_path / "model")
    np.testing.assert_array_equal(again.encode(held), codes)
    np.testing.assert_array_equal(np.concatenate(list(again.stream(iter(held)))), codes)
    assert "numpy.load" in cards.render(tmp_path / "model")
    for wrong, message in (
        (held[:, :5], "expected a vector of 12"),
        ([None], "input 0"),
        ([[np.nan] * 12], "not finite"),
    ):
        with pytest.raises(ZooError, match=message):
            encoder.encode(wrong)
    for wrong in (held[0], "text"):
        with pytest.raises(ZooError, match="not one"):
            encoder.encode(wrong)
    with pytest.raises(ZooError, match="not known yet"):
        Encoder.build(spec(modality="vector")).encode(held)


# -- artefact ----------------------------------------------------------------------------------------------------------


def test_a_folder_that_claims_more_than_it_holds_is_refused(model, tmp_path):
    out = model_folder.save(model, tmp_path / "model")
    honest = json.loads((out / "config.json").read_text())
    for change in (
        {"latents": 4000, "values": 60_000},
        {"network": {"widths": [4096, 4096]}},
        {"latent": "vector"},
        {"channels": 3},
    ):
        told = json.loads(json.dumps(honest))
        told["zoo"]["spec"] |= change
        (out / "config.json").write_text(json.dumps(told))
        manifest.write(out)
        with pytest.raises(ArtefactError):
            zoo.from_pretrained(out)
    for change in ({"seed": "x"}, {"seed": -1}):
        (out / "config.json").write_text(json.dumps({"zoo": {**honest["zoo"], **change}}))
        manifest.write(out)
        with pytest.raises(ArtefactError, match="seed"):
            zoo.from_pretrained(out)
    (out / "config.json").write_text(json.dumps(honest))
    tensors = load_file(out / "model.safetensors")
    save_file(
        {n: t * float("inf") if n.startswith("latent") else t for n, t in tensors.items()}, out / "model.safetensors"
    )
    manifest.write(out)
    with pytest.raises(ArtefactError, match="NaN or infinity"):
        zoo.from_pretrained(out)


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


def test_a_recipe_trains_measures_shows_and_the_command_line_agrees(tmp_path, capsys):
    rows(300).to_parquet(tmp_path / "squares.parquet")
    loaded = recipe.loads(RECIPE, folder=tmp_path)
    assert loaded.training.weight_decay == 0.1
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
    table = text[text.index("### Other kinds of latents") :]
    assert "| Figure | This model | continuous |" in table
    assert "infom" in table

    data = f"data.path={tmp_path / 'squares.parquet'}"
    words = ["infomec", "data.source=file", data, "data.limit=150", "sources=[x, y, tone]"]
    assert main.main(["evaluate", str(folder), *words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["results"][0]
    assert told["figures"] == first["figures"]
    assert main.main(["evaluate", str(folder), "infomec", data]) == 1
    assert "sources" in capsys.readouterr().err
    with pytest.raises(RecipeError, match="sources"):
        recipe.loads(RECIPE.replace("    sources: [x, y, tone]\n", ""), folder=tmp_path)
    with pytest.raises(RecipeError, match="there is no column|needs a column 'z'"):
        recipe.loads(RECIPE.replace("[x, y, tone]\n    views", "[x, y, z]\n    views"), folder=tmp_path)


def test_infomec_is_for_any_encoder_and_says_what_it_cannot_read(tmp_path, model):
    import tiny

    table = [{"text": s, "first": s.split()[0], "last": s.split()[-1]} for s in tiny.SENTENCES]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    task = {"task": "infomec", "data": {"source": "file", "path": "t.jsonl"}, "sources": ["first", "last"]}
    texts = zoo.from_pretrained(tiny.backbone(tmp_path / "b", hidden=8))
    found = zoo.evaluate(texts, [task], folder=tmp_path)["results"][0]
    assert 0 <= found["figures"]["infom"] <= 1
    assert np.shape(found["details"]["nmi"]) == (2, 8)
    with pytest.raises(ZooError, match="holds text, which"):
        zoo.evaluate(model, [task], folder=tmp_path)
    assert evaluation.INPUTS == ("text", "image", "vector")

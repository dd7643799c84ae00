"""Principal components are the free baseline of latents with one meaning each."""

from __future__ import annotations

import json

import numpy as np
import pytest
from datasets import Dataset

from zoo import evaluation
from zoo.data import Origin
from zoo.data.table import Table
from zoo.evaluation.baselines.baseline import TrainingRows
from zoo.evaluation.tasks.infomec import Infomec
from zoo.families.latent_quantized import free_baselines
from zoo.families.latent_quantized.encoder import Encoder
from zoo.families.latent_quantized.spec import Spec
from zoo.schema import Training

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, (600, 2))


@pytest.fixture
def task_and_training():
    """Two sources along orthogonal directions with different spread, as vectors of four components."""
    vectors = LABELS @ np.array([[3.0, 0, 0, 0], [0, 1.0, 0, 0]]) + RNG.normal(0, 0.25, (600, 4))
    rows = Dataset.from_dict({"vector": vectors.tolist(), "a": LABELS[:, 0].tolist(), "b": LABELS[:, 1].tolist()})
    spec = Spec(family="latent-quantized", modality="vector", latents=2, levels=4, network={"dense": [8]})
    task = Infomec(task="infomec", data={"source": "file", "path": "x"}, sources=("a", "b"))
    table = Table(rows, "f", Origin("o"), roles=tuple(rows.column_names))
    encoder = Encoder.build(spec)
    encoder.prepare(rows, None)
    return task.make_ready({"data": table}, {}), TrainingRows(encoder, rows, Training(max_steps=2, batch_size=16))


def test_components_find_sources_that_are_directions_of_the_vectors(task_and_training):
    task, training = task_and_training
    baseline = free_baselines.SimpleCodes(training)
    assert baseline.suits(task)
    components, centroids = baseline.measure(task)
    assert (components.name, centroids.name) == ("PCA", "product quantisation (4 bits)")
    assert components.value > 0.5  # a leak of a small rotation stays below the noise
    assert 0 <= centroids.value <= 1


def test_each_part_of_a_vector_has_the_number_of_its_nearest_centroid():
    vectors = np.repeat([[0.0, 0, 9], [5.0, 5, 1]], 20, axis=0) + RNG.normal(0, 0.1, (40, 3))
    codes = free_baselines._Centroids(vectors.astype(np.float32), 2, 1).encode(vectors.tolist())
    assert codes.shape == (40, 2)
    for column in codes.T:
        assert len(set(column[:20])) == len(set(column[20:])) == 1
        assert column[0] != column[20]


def test_a_plain_autoencoder_is_trained_with_the_settings_of_the_recipe(task_and_training):
    task, training = task_and_training
    baseline = free_baselines.PlainAutoencoder(training)
    assert baseline.suits(task)
    (entry,) = baseline.measure(task)
    assert (entry.name, 0 <= entry.value <= 1) == ("a plain autoencoder", True)
    (unknown,) = free_baselines.PlainAutoencoder(TrainingRows(training.encoder, training.rows)).measure(task)
    assert unknown.reason == "the settings of the training are not known"


def test_images_are_shrunk_to_vectors_of_equal_length():
    from PIL import Image

    images = [Image.new("L", (size, size), size) for size in (20, 40)]
    assert free_baselines._flatten(images).shape == (2, 3 * 32 * 32)
    assert free_baselines._flatten([[1.0, 2.0]]).tolist() == [[pytest.approx(1.0), pytest.approx(2.0)]]


def test_latents_that_never_change_are_a_fault(monkeypatch):
    encoder = Encoder.build(Spec(family="latent-quantized", modality="vector", latents=4))
    rows = Dataset.from_dict({"vector": RNG.normal(size=(40, 3)).tolist()})
    encoder.prepare(rows, None)
    for changing, level in ((4, None), (3, "warning"), (1, "warning"), (0, "dead")):
        codes = np.zeros((40, 4), np.int64)
        codes[:, :changing] = RNG.integers(0, 5, (40, changing))
        monkeypatch.setattr(encoder, "encode", lambda inputs, codes=codes: codes)
        findings = encoder.find_faults(rows)
        assert [finding.level for finding in findings] == ([level] if level else [])
    assert findings[0].message == "0 of 4 latents differ between 40 inputs"
    assert "training.epochs" in findings[0].advice


def test_an_autoencoder_with_one_active_latent_is_not_praised_without_a_word_about_it(monkeypatch, tmp_path):
    directions = np.array(
        [[3.0, 1.0, 1.0, 0.0], [3.0, -1.0, 0.0, 1.0]]
    )  # not orthogonal, so components mix the sources
    vectors = (LABELS @ directions).tolist()
    values = [{"vector": vector, "a": int(a), "b": int(b)} for vector, (a, b) in zip(vectors, LABELS, strict=True)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, values)))
    encoder, rows = (
        Encoder.build(Spec(family="latent-quantized", modality="vector", latents=10)),
        Dataset.from_list(values),
    )
    encoder.prepare(rows, None)

    def encode(inputs, **options):
        codes = np.zeros((len(inputs), 10), np.int64)
        codes[:, 0] = (np.asarray(inputs) @ np.linalg.pinv(directions))[:, 0].round()  # the first source alone
        return codes

    monkeypatch.setattr(encoder, "encode", encode)
    task = Infomec(task="infomec", data={"source": "file", "path": "rows.jsonl"}, sources=("a", "b"))
    verdict = evaluation.evaluate(encoder, [task], folder=tmp_path, training_rows=rows)["results"][0]["verdict"]
    assert verdict["outcome"] == "better"
    assert verdict["sentence"].endswith("; but only 1 of 10 latents differ between inputs.")

"""Principal components are the free baseline of latents with one meaning each."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from datasets import Dataset

from zoo.data import Origin
from zoo.data.table import Table
from zoo.evaluation.baselines.baseline import TrainingRows
from zoo.evaluation.tasks.infomec import Infomec
from zoo.families.latent_quantized import free_baselines
from zoo.families.latent_quantized.encoder import Encoder
from zoo.families.latent_quantized.spec import Spec

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, (600, 2))


def test_components_find_sources_that_are_directions_of_the_vectors():
    """Two sources along orthogonal directions with different spread are the two first components."""
    vectors = LABELS @ np.array([[3.0, 0, 0, 0], [0, 1.0, 0, 0]]) + RNG.normal(0, 0.25, (600, 4))
    rows = Dataset.from_dict({"vector": vectors.tolist(), "a": LABELS[:, 0].tolist(), "b": LABELS[:, 1].tolist()})
    spec = Spec(family="latent-quantized", modality="vector", latents=2)
    task = Infomec(task="infomec", data={"source": "file", "path": "x"}, sources=("a", "b"))
    ready = task.make_ready({"data": Table(rows, "f", Origin("o"), roles=tuple(rows.column_names))}, {})
    baseline = free_baselines.PrincipalComponents(TrainingRows(SimpleNamespace(spec=spec), rows))
    assert baseline.suits(ready)
    (entry,) = baseline.measure(ready)
    assert entry.name == "PCA"
    assert entry.value > 0.5  # a leak of a small rotation stays below the noise


def test_images_are_shrunk_to_vectors_of_equal_length():
    from PIL import Image

    images = [Image.new("L", (size, size), size) for size in (20, 40)]
    assert free_baselines._flatten(images).shape == (2, 3 * 32 * 32)
    assert free_baselines._flatten([[1.0, 2.0]]).tolist() == [[pytest.approx(1.0), pytest.approx(2.0)]]


def test_latents_that_never_change_are_a_fault(monkeypatch):
    encoder = Encoder.build(Spec(family="latent-quantized", modality="vector", latents=4))
    rows = Dataset.from_dict({"vector": RNG.normal(size=(40, 3)).tolist()})
    encoder.prepare(rows, None)
    for changing, level in ((4, None), (1, "warning"), (0, "dead")):
        codes = np.zeros((40, 4), np.int64)
        codes[:, :changing] = RNG.integers(0, 5, (40, changing))
        monkeypatch.setattr(encoder, "encode", lambda inputs, codes=codes: codes)
        findings = encoder.find_faults(rows)
        assert [finding.level for finding in findings] == ([level] if level else [])
    assert findings[0].message == "0 of 4 latents differ between 40 inputs"
    assert "weight_decay" in findings[0].advice

"""Codes are compared with codes of LSA of as many bits."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from datasets import Dataset
from tiny_documents import texts

from zoo.data import Origin
from zoo.data.table import Table
from zoo.evaluation import comparison
from zoo.evaluation.baselines.baseline import BaselineScore, TrainingRows
from zoo.evaluation.tasks.clustering import Clustering
from zoo.families.binary_pv.baselines import LsaCodes
from zoo.families.binary_pv.spec import Spec
from zoo.metrics.outcomes import Outcomes


@pytest.fixture
def scores():
    rows = Dataset.from_dict({"text": texts(), "label": [f"topic {number % 3}" for number in range(len(texts()))]})
    task = Clustering(task="clustering", data={"source": "file", "path": "x.csv"})
    ready = task.make_ready({"data": Table(rows, "f", Origin("o"))}, {})
    encoder = SimpleNamespace(spec=Spec(family="binary-pv", bits=16))
    baseline = LsaCodes(TrainingRows(encoder, rows))
    assert baseline.suits(ready)
    return baseline.measure(ready)


def test_there_are_plain_signs_and_rotated_ones_of_as_many_bits(scores):
    assert [(score.name, score.bytes_per_vector) for score in scores] == [
        ("signs of LSA (16 bits)", 2),
        ("LSA with ITQ (16 bits)", 2),
    ]
    assert all(0 <= score.value <= 1 and score.outcomes.unit == "repetitions" for score in scores)


def test_vectors_of_more_than_eight_times_the_storage_are_not_compared_with_a_code():
    hits = Outcomes("rows", "mean", np.ones(50))
    large = BaselineScore("LSA", 1.0, hits, bytes_per_vector=1024)
    code = BaselineScore("signs", 0.4, Outcomes("rows", "mean", np.arange(50) % 5 < 2), bytes_per_vector=16)
    entry = {"value": 0.9, "bytes_per_vector": 16}
    own = Outcomes("rows", "mean", np.arange(50) % 10 < 9)
    spec = Spec(family="binary-pv")
    assert comparison.judge_entry(entry, own, [large, code], spec, {})["verdict"]["baseline"] == "signs"
    entry["bytes_per_vector"] = 128
    assert comparison.judge_entry(entry, own, [large, code], spec, {})["verdict"]["baseline"] == "LSA"

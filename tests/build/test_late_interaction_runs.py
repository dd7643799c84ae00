"""Late interaction as `zoo train` makes it: sources with losses of their own, scores by MaxSim, and the card."""

from __future__ import annotations

import json

import numpy as np
import tiny
import tiny_dense

import zoo
from zoo.ops.maxsim import compute_maxsim
from zoo.recipe import recipe


def test_a_run_scores_its_views_and_trains_again_to_the_same_token_vectors(tmp_path):
    for name, loss in (("pairs", "contrastive"), ("scores", "kl")):
        rows = [json.dumps(row) + "\n" for row in tiny_dense.rows(loss, 32)]
        (tmp_path / f"{name}.jsonl").write_text("".join(rows))
    text = f"""
name: tokens
encoder: {{family: late-interaction, backbone: {tiny.backbone(tmp_path / "backbone")}, dim: 12}}
data:
  - {{source: file, path: pairs.jsonl}}
  - {{source: file, path: scores.jsonl, loss: kl}}
training: {{epochs: 2, batch_size: 8, learning_rate: 1e-3, precision: fp32}}
evaluation:
  - task: retrieval
    name: own
    data: {{source: file, path: pairs.jsonl, columns: {{query: anchor, document: positive}}}}
    views: [{{scoring: maxsim}}, {{scoring: mean}}, {{scoring: fixed-dimensional, repetitions: 2, bits: 2, project: 4}}]
"""
    encoder = zoo.train(recipe.loads(text, folder=tmp_path), tmp_path / "run")
    model = tmp_path / "run" / "model"
    results = json.loads((model / "report.json").read_text())["results"]
    assert [entry["view"]["scoring"] for entry in results] == ["maxsim", "mean", "fixed-dimensional"]
    assert results[0]["bytes_per_vector"] > results[1]["bytes_per_vector"] == 48
    assert all(entry["baseline"] is not None for entry in results)
    assert "MultiVectorEncoder" in (model / "README.md").read_text()
    again = zoo.train(recipe.load(model / "recipe.yaml", folder=tmp_path), tmp_path / "again")
    texts = tiny.SENTENCES[:9]
    first, second = (each.encode_tokens(texts, "document") for each in (encoder, again))
    np.testing.assert_array_equal(first[0], second[0])
    assert np.isfinite(compute_maxsim(first, second)).all()

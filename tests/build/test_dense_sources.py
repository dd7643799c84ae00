"""A dense encoder on two sources with losses and prompts of their own, as `zoo train` runs it."""

from __future__ import annotations

import json

import tiny
import tiny_dense

import zoo
from zoo.recipe import recipe


def test_each_source_is_trained_by_its_own_loss_and_named_on_the_card(tmp_path):
    for name, loss in (("pairs", "contrastive"), ("scores", "cosent")):
        rows = [json.dumps(row) + "\n" for row in tiny_dense.rows(loss, 32)]
        (tmp_path / f"{name}.jsonl").write_text("".join(rows))
    text = f"""
name: two
encoder: {{family: dense, backbone: {tiny.backbone(tmp_path / "backbone")}}}
data:
  - {{source: file, path: pairs.jsonl, weight: 2, prompts: {{query: "the "}}}}
  - {{source: file, path: scores.jsonl, loss: cosent}}
training: {{epochs: 2, batch_size: 8, learning_rate: 1e-3}}
"""
    zoo.train(recipe.loads(text, folder=tmp_path), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    sources = {name for line in lines for name in line.get("loss_by_source", {})}
    assert sources == {"pairs", "scores"}
    assert "| scores |" in (tmp_path / "run" / "model" / "README.md").read_text()

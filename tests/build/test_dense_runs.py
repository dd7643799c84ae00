"""Dense encoders as `zoo train` makes them: sources with losses of their own, and adapters."""

from __future__ import annotations

import json

import numpy as np
import pytest
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


def write_lora_recipe(folder, **lora) -> str:
    rows = [json.dumps(row) + "\n" for row in tiny_dense.rows(n=32)]
    (folder / "pairs.jsonl").write_text("".join(rows))
    lora = {"rank": 2, **lora}
    return f"""
name: adapted
encoder: {{family: dense, backbone: {tiny.backbone(folder / "backbone", "qwen3")}, lora: {json.dumps(lora)}}}
data: {{source: file, path: pairs.jsonl}}
training: {{epochs: 2, batch_size: 8, learning_rate: 1e-3, precision: fp32}}
"""


@pytest.mark.filterwarnings("error::UserWarning:pydantic")
@pytest.mark.parametrize("keep", ["merged", "adapter"])
def test_a_saved_recipe_lists_the_adapted_layers_and_trains_the_same_model(tmp_path, keep):
    text = write_lora_recipe(tmp_path, keep=keep)
    encoder = zoo.train(recipe.loads(text, folder=tmp_path), tmp_path / "run")
    model = tmp_path / "run" / "model"
    saved = recipe.load(model / "recipe.yaml", folder=tmp_path)
    names = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")
    assert saved.encoder.lora.targets == names
    again = zoo.train(saved, tmp_path / "again")
    np.testing.assert_array_equal(again.encode(tiny.SENTENCES[:9]), encoder.encode(tiny.SENTENCES[:9]))
    assert "A low-rank adapter of rank 2" in (model / "README.md").read_text()
    assert (model / "adapter" / "adapter_model.safetensors").exists() == (keep == "adapter")

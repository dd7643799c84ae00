"""Two processes train like one with the same global batch."""

from __future__ import annotations

import json
import types
from pathlib import Path

import contract as properties
import numpy as np
import pytest
import tiny
import tiny_run
import train_contracts
from forked_commands import run_in_processes, run_main
from safetensors.torch import load_file

from zoo import families
from zoo.build import builder
from zoo.core.errors import ZooError

PROCESSES = {"one": 1, "two": 2}
CASES = train_contracts.list_cases()
FAMILIES_OF_ONE_PROCESS = [name for name in families.names() if name not in CASES]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, Path]:
    """The folders in which every case was trained by one and by two processes."""
    folder = tmp_path_factory.mktemp("trained")
    for name, count in PROCESSES.items():
        run_in_processes(count, train_contracts.main, folder / name)
    return {name: folder / name for name in PROCESSES}


@pytest.mark.parametrize("case", CASES)
def test_two_processes_have_the_losses_and_the_vectors_of_one_process(trained, case, tmp_path):
    tolerance = CASES[case](tmp_path).process_tolerance
    one, two = (properties.read_metrics(folder / case, "loss") for folder in trained.values())
    assert len(one) == 8
    assert two == pytest.approx(one, rel=tolerance)
    one_vectors, two_vectors = (np.load(folder / case / "vectors.npy") for folder in trained.values())
    np.testing.assert_allclose(two_vectors, one_vectors, atol=tolerance)


@pytest.mark.parametrize("family", FAMILIES_OF_ONE_PROCESS)
def test_a_family_of_one_process_says_so_before_it_reads_data(family, tmp_path, monkeypatch):
    recipe = types.SimpleNamespace(encoder=properties.load_contract(family, tmp_path).spec)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ZooError, match=f"{family} trains in one process"):
        builder.run(recipe, tmp_path / "run")


def test_two_processes_of_zoo_train_equal_one_with_gradient_accumulation(tmp_path):
    tiny.backbone(tmp_path / "backbone")
    rows = [json.dumps({"anchor": t, "positive": tiny.SENTENCES[-i]}) for i, t in enumerate(tiny.SENTENCES)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    recipe = tiny_run.recipe(
        tmp_path,
        encoder={
            "family": "matryoshka-2d",
            "backbone": "backbone",
            "dims": [8, 16],
            "loss": "contrastive",
            "dropout": 0.0,
        },
        data={"source": "file", "path": "rows.jsonl"},
        training={
            "epochs": 3,
            "batch_size": 32,
            "gradient_accumulation": 2,
            "learning_rate": 1e-3,
            "precision": "fp32",
        },
        evaluation=[],
    )
    curves, weights = {}, {}
    for name, count in PROCESSES.items():
        run_in_processes(count, run_main, ["train", str(recipe), "--out", str(tmp_path / name)])
        curves[name] = properties.read_metrics(tmp_path / name, "loss")
        weights[name] = load_file(tmp_path / name / "trained" / "model.safetensors")
    assert len(curves["one"]) == 9
    assert curves["two"] == pytest.approx(curves["one"], rel=1e-5)
    for key, tensor in weights["one"].items():
        assert (tensor - weights["two"][key]).abs().max() < 2e-3, key  # a gradient near 0 may change its sign
    messages = run_in_processes(2, run_main, ["train", str(recipe), "--out", str(tmp_path / "two")])
    assert "nothing to do" in messages, "no process waits for the other one"

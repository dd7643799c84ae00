"""A training goes on with another number of processes: the same batches, and weights that differ by rounding only."""

from __future__ import annotations

import pytest
import resumed_training
from contract import read_metrics
from forked_commands import run_in_processes
from safetensors.torch import load_file

TOLERANCE = 2e-3
"""Of a weight. AdamW makes a step of the same size for a gradient near 0, whose sign rounding may change."""


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_a_training_goes_on_with_another_number_of_processes(before, after, tmp_path):
    for name in ("whole", "resumed"):
        (tmp_path / name).mkdir()
    run_in_processes(1, resumed_training.main, tmp_path / "whole", None)
    run_in_processes(before, resumed_training.main, tmp_path / "resumed", 7)
    warning = run_in_processes(after, resumed_training.main, tmp_path / "resumed", None)
    assert f"the run began on {before} process" in warning
    whole, resumed = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "resumed"))
    for key, tensor in whole.items():
        assert (tensor - resumed[key]).abs().max() < TOLERANCE, key
    losses = [read_metrics(tmp_path / name / "run", "loss") for name in ("whole", "resumed")]
    assert len(losses[0]) == 12
    assert losses[1] == pytest.approx(losses[0], rel=1e-5), "other batches would have other losses"

"""The table of losses: the columns of each, and messages about columns and scores that a loss does not take."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import torch

from zoo.ops import loss_names
from zoo.ops.distillation import compute_kl_loss, compute_margin_mse_loss
from zoo.ops.loss_names import (
    LOSS_COLUMNS,
    LossName,
    find_column_mistake,
    find_margin_mistake,
    find_score_mistake,
    find_wide_scores_mistake,
)
from zoo.schema import Kind

SCORED = [name for name, entry in LOSS_COLUMNS.items() if entry.scores]


def test_the_table_has_every_name_and_its_kinds_are_those_of_the_schema():
    assert set(LOSS_COLUMNS) == set(get_args(LossName))
    for entry in LOSS_COLUMNS.values():
        assert {*entry.required.values(), *entry.optional.values()} <= set(get_args(Kind))
        assert not entry.required.keys() & entry.optional.keys()
        assert set(entry.scores) == {
            name for name, kind in (entry.required | entry.optional).items() if kind == "number"
        }
        assert bool(entry.scores) == bool(entry.score_note)
        assert entry.use.endswith(".")


def test_every_negative_has_a_score_of_its_name():
    optional = LOSS_COLUMNS["kl"].optional
    for name in loss_names.NEGATIVES:
        assert optional[name] == "text"
        assert optional[f"score_{name}"] == "number"
    assert loss_names.NEGATIVES[:2] == ("negative", "negative_1")
    assert loss_names.NEGATIVES[-1] == "negative_32"


def test_the_table_needs_no_torch():
    code = "import sys, zoo.ops.loss_names; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("loss", SCORED)
def test_a_score_must_be_finite_and_may_be_any_finite_number(loss):
    column = LOSS_COLUMNS[loss].scores[0]
    for score in (-1e9, -1.0, 0.0, 0.3, 5.0, 1e9):
        assert find_score_mistake(loss, column, score) is None
    for score in (math.nan, math.inf, -math.inf):
        mistake = find_score_mistake(loss, column, score)
        assert mistake.startswith(f"{column}: {score} is not a finite number, which {loss} needs")
    assert find_score_mistake(loss, "another", math.nan) is None


def test_a_score_outside_the_range_of_its_loss_is_named_with_the_range(monkeypatch):
    narrow = LOSS_COLUMNS["cosent"]._replace(score_range=(0.0, 1.0))
    monkeypatch.setitem(LOSS_COLUMNS, "cosent", narrow)
    assert find_score_mistake("cosent", "score", 1.0) is None
    assert find_score_mistake("cosent", "score", 4.2) == (
        "score: 4.2 is out of range for cosent: give a number from 0 to 1"
    )


def test_a_margin_that_cosines_cannot_reach_is_named_with_a_temperature_that_can():
    assert find_margin_mistake(9.0, -9.0, 20.0) is None
    assert find_margin_mistake(0.5, -0.5, 0.5) is None
    mistake = find_margin_mistake(9.0, -1.0, 1.0)
    assert "the margin 9 - -1 = 10 is beyond ±2" in mistake
    assert "set temperature to 0.2 or lower" in mistake
    # The best that cosines times the scale can do leaves an error exactly if there is a mistake.
    for scale in (1.0, 5.0):
        best = compute_margin_mse_loss(torch.tensor([[scale, -scale]]), torch.tensor([[9.0, -1.0]])).item()
        assert (best == 0) == (find_margin_mistake(9.0, -1.0, scale) is None)


def test_scores_that_count_nothing_in_the_softmax_are_named_with_a_temperature_at_which_they_do():
    assert find_wide_scores_mistake([5.0, -90.0], 1.0) is None
    mistake = find_wide_scores_mistake([100.0, -100.0, 0.0], 1.0)
    assert "differ by 200, 200 times the teacher's temperature" in mistake
    assert mistake.endswith("set the teacher's temperature to 10 or higher")
    assert find_wide_scores_mistake([100.0, -100.0, 0.0], 10.0) is None
    scores = torch.tensor([[100.0, -100.0]])
    assert (scores / 1.0).softmax(1)[0, 1] == 0 < (scores / 10.0).softmax(1)[0, 1]
    assert compute_kl_loss(scores, scores).item() == 0.0


def test_missing_negatives_and_scores_are_named():
    triplet = ["anchor", "positive", "negative", "negative_2"]
    for loss in ("margin-mse", "kl"):
        assert "add a column `negative`" in find_column_mistake(loss, ["anchor", "positive"])
        assert "add a column `score_positive`" in find_column_mistake(loss, triplet)
        scores = ["score_positive", "score_negative"]
        assert "add a column `score_negative_2`" in find_column_mistake(loss, [*triplet, *scores])
        assert find_column_mistake(loss, [*triplet, *scores, "score_negative_2"]) is None
        assert find_column_mistake(loss, triplet, has_teacher=True) is None
    for loss in ("contrastive", "triplet", "cosent", "icnn"):
        assert find_column_mistake(loss, ["anchor", "positive"]) is None


def test_the_guide_lists_every_loss_with_its_columns():
    page = (Path(__file__).parents[2] / "docs" / "guides" / "losses.md").read_text(encoding="utf-8")
    lines = {line.split("|")[2].strip(" `"): line for line in page.splitlines() if line.startswith("| `")}
    assert set(lines) == set(LOSS_COLUMNS)
    for name, entry in LOSS_COLUMNS.items():
        columns = lines[name].split("|")[1]
        assert all(f"`{column}`" in columns for column in entry.required)
        assert ("perhaps `negative`" in columns) == ("negative" in entry.optional and not entry.least_negatives)
        assert ("`negative`, scores or a teacher" in columns) == bool(entry.least_negatives)

"""A sentence says whether the simple thing is better; it is as sure as its interval."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from datasets import Dataset

from zoo.evaluation import comparison
from zoo.evaluation.baselines.baseline import BaselineScore
from zoo.evaluation.tasks.infomec import Infomec
from zoo.metrics.outcomes import Outcomes
from zoo.spec import TextLimit
from zoo.text import spelled_words

HITS = (np.arange(400) % 4 > 0).astype(float)  # .75


def rows(values):
    return Outcomes("rows", "mean", np.asarray(values, dtype=float))


def flip(count):
    """The outcomes with `count` hits made misses."""
    flipped = HITS.copy()
    flipped[np.flatnonzero(flipped)[:count]] = 0
    return flipped


def judge(own, *others):
    return comparison.judge(float(np.mean(own)), rows(own), others)


def test_the_best_baseline_counts_and_names_the_outcome():
    weak, strong = BaselineScore("weak", 0.1, rows(flip(260))), BaselineScore("strong", 0.65, rows(flip(40)))
    missing = BaselineScore("missing", None, reason="no words")
    verdict = judge(HITS, weak, strong, missing)
    assert (verdict["baseline"], verdict["outcome"], verdict["unit"], verdict["count"]) == (
        "strong",
        "better",
        "rows",
        400,
    )
    assert 0 < verdict["low"] < verdict["difference"] < verdict["high"]
    assert judge(flip(40), BaselineScore("whole", 0.75, rows(HITS)))["outcome"] == "worse"
    noisy = np.random.default_rng(0).permutation(HITS)
    assert judge(HITS, BaselineScore("shuffled", 0.75, rows(noisy)))["outcome"] == "level"
    assert judge(HITS, missing) is None


def test_a_baseline_without_outcomes_is_a_fixed_score():
    verdict = judge(HITS, BaselineScore("chance", 0.5))
    assert verdict["outcome"] == "better"
    assert verdict["low"] > 0.2


def test_scores_without_outcomes_or_of_other_units_have_no_interval():
    for own, other in ((None, rows(HITS)), (rows(HITS), rows(HITS[:10]))):
        verdict = comparison.judge(0.75, own, [BaselineScore("b", 0.8, other)])
        assert (verdict["low"], verdict["outcome"]) == (None, "worse")
        assert "no interval" in comparison.describe(verdict, 0.75)


@pytest.mark.parametrize(
    ("outcome", "difference", "sentence"),
    [
        (
            "better",
            0.031,
            "Better than the best free baseline, BM25, by 0.031 (interval +0.020 to +0.042, 90 queries): 0.612 against 0.581.",
        ),
        (
            "level",
            0.031,
            "Level with the best free baseline, BM25: 0.612 against 0.581 (difference +0.031, interval +0.020 to +0.042, "
            "90 queries).",
        ),
        (
            "worse",
            -0.031,
            "WORSE than BM25: 0.612 against 0.581 (difference -0.031, interval +0.020 to +0.042, 90 queries); 300 training "
            "rows, texts have 8 words in the median; try `backbone:`.",
        ),
    ],
)
def test_the_sentence_has_both_scores_the_interval_and_for_a_loss_advice(outcome, difference, sentence):
    verdict = {"baseline": "BM25", "value": 0.581, "difference": difference, "low": 0.02, "high": 0.042}
    advice = comparison.join_advice({"rows": 300, "words": 8.0}, "try `backbone:`") if outcome == "worse" else ""
    verdict |= {"outcome": outcome, "unit": "queries", "count": 90}
    assert comparison.describe(verdict, 0.612, advice) == sentence


def test_latents_that_are_the_same_for_most_inputs_are_named_beside_the_praise():
    task = Infomec(task="infomec", data={"source": "file", "path": "x"}, sources=("a",))
    assert task.find_caveat({"active": [True] * 5 + [False] * 5}) == ""
    assert task.find_caveat({}) == ""
    caveat = task.find_caveat({"active": [True] + [False] * 9})
    entry, spec = {"value": 0.61, "bytes_per_vector": 40}, SimpleNamespace(suggest_when_worse=lambda facts: "try")

    def describe(value):
        return comparison.judge_entry(entry, None, [BaselineScore("PCA", value)], spec, {}, caveat)["verdict"][
            "sentence"
        ]

    end = "; but only 1 of 10 latents differ between inputs."
    assert describe(0.5) == f"Better than the best free baseline, PCA, by 0.110 (no interval): 0.610 against 0.500{end}"
    assert describe(0.61).startswith("Level")
    assert describe(0.61).endswith(end)
    assert describe(0.7).endswith("; try.")


def test_a_loss_has_the_advice_of_the_family():
    spec = SimpleNamespace(suggest_when_worse=lambda facts: f"{facts['rows']} are few")
    entry = {"value": float(np.mean(flip(40))), "bytes_per_vector": 8}
    baselines = [BaselineScore("b", 0.75, rows(HITS))]
    sentence = comparison.judge_entry(entry, rows(flip(40)), baselines, spec, {"rows": 12})["verdict"]["sentence"]
    assert sentence.endswith("12 training rows; 12 are few.")
    better = comparison.judge_entry(
        entry | {"value": 0.75}, rows(HITS), [BaselineScore("b", 0.65, rows(flip(40)))], spec, {}
    )
    assert "few" not in better["verdict"]["sentence"]
    assert comparison.judge_entry(entry, None, [], spec, {}) == {}


def test_facts_about_the_training_rows_are_their_number_and_their_median_length(tmp_path):
    spec = SimpleNamespace(roles=lambda: ({"text": "text"}, {}), text_limit=None)
    encoder = SimpleNamespace(spec=spec, folder=tmp_path)
    texts = Dataset.from_dict({"text": ["a b", "a b c d", "a b c d e f"]})
    assert comparison.describe_rows(encoder, texts) == {"rows": 3, "words": 4}
    assert comparison.describe_rows(encoder, None) == {}
    assert comparison.describe_rows(encoder, texts.rename_column("text", "other")) == {"rows": 3}


@pytest.mark.parametrize(("learns", "known"), [(False, False), (True, False), (False, True)])
def test_a_loss_on_words_that_the_backbone_does_not_know_says_so(tmp_path, learns, known):
    backbone = tiny.backbone(tmp_path / "backbone", layers=1, hidden=16)
    spec = SimpleNamespace(
        roles=lambda: ({"text": "text"}, {}),
        text_limit=TextLimit(backbone),
        learns_vocabulary=lambda share: learns,
        suggest_when_worse=lambda facts: "try more rows",
    )
    texts = tiny.SENTENCES[:3] if known else ["совсем другие слова", "и ещё слова"]
    encoder = SimpleNamespace(spec=spec, folder=tmp_path)
    facts = comparison.describe_rows(encoder, Dataset.from_dict({"text": texts}))
    entry = {"value": 0.5, "bytes_per_vector": 8}
    sentence = comparison.judge_entry(entry, None, [BaselineScore("BM25", 0.75)], spec, facts)["verdict"]["sentence"]
    if learns or known:
        assert sentence.endswith("in the median; try more rows.")
    else:
        clause = spelled_words.describe(1.0, backbone)
        assert sentence.endswith(f"in the median, {clause}; {spelled_words.ADVICE}.")

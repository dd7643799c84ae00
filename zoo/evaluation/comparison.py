"""Says in plain words whether an encoder is better than the best free baseline, by a paired bootstrap."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from zoo.data.split import draw_positions
from zoo.spec import EncoderSpec
from zoo.text import long_texts, spelled_words

if TYPE_CHECKING:
    from zoo.encoder import Encoder
    from zoo.evaluation.baselines.baseline import BaselineScore
    from zoo.metrics.outcomes import Outcomes

Outcome = Literal["better", "level", "worse"]

MAX_SIZE_RATIO = 8
FACT_ROWS = 2000
"""The median length of training texts is estimated from at most so many rows."""


def describe_rows(encoder: Encoder, rows: Any) -> dict[str, Any]:
    """Return what advice depends on.

    It is `rows`, their number, and `words`, the median number of words if they hold texts. `unknown_words` is a clause about a
    backbone that does not know most of their words.
    """
    if rows is None:
        return {}
    facts: dict[str, Any] = {"rows": len(rows)}
    required, optional = encoder.spec.roles()
    column = next((name for name, kind in {**required, **optional}.items() if kind == "text"), None)
    if column in rows.column_names and len(rows):
        sample = rows.select(draw_positions(len(rows), min(len(rows), FACT_ROWS)))[column]
        texts = [text for text in sample if text is not None]  # one source of several may lack the column
        if texts:
            facts["words"] = statistics.median(len(text.split()) for text in texts)
            clause = long_texts.describe_unknown_words(encoder.spec, encoder.folder, lambda: texts)
            facts |= {"unknown_words": clause} if clause else {}
    return facts


def judge_entry(
    entry: Mapping[str, Any],
    own: Outcomes | None,
    baselines: Sequence[BaselineScore],
    spec: EncoderSpec,
    facts: Mapping[str, Any],
    caveat: str = "",
) -> dict[str, Any]:
    """Return `{"verdict": …}` with its sentence for an entry of the report, or nothing without a baseline.

    Baselines whose vectors take more than MAX_SIZE_RATIO times the storage are left out: codes are compared with codes.
    `caveat` says why the score may be too good, and ends the sentence.
    """
    size = entry["bytes_per_vector"]
    comparable = [b for b in baselines if b.bytes_per_vector is None or b.bytes_per_vector <= MAX_SIZE_RATIO * size]
    verdict = judge(entry["value"], own, comparable)
    if verdict is None:
        return {}
    advice = ""
    if verdict["outcome"] == "worse":
        suggestion = spelled_words.ADVICE if "unknown_words" in facts else spec.suggest_when_worse(facts)
        advice = join_advice(facts, suggestion)
    return {"verdict": verdict | {"sentence": describe(verdict, entry["value"], advice, caveat)}}


def judge(value: float, own: Outcomes | None, baselines: Sequence[BaselineScore]) -> dict[str, Any] | None:
    """Compare a score with the best baseline.

    Args:
        value, own: the encoder's score and its outcomes.
        baselines: scores on the same task.

    Returns None without baselines. Otherwise `baseline` (its name), `value`, `difference`, `low` and `high` (the bounds of the
    95 % interval, None if the task has no outcomes by row or query), `unit`, `count`, and `outcome`: "better" or "worse" if the
    interval does not hold 0, else "level".
    """
    from zoo.metrics import outcomes

    scored = [(entry.value, entry) for entry in baselines if entry.value is not None]
    if not scored:
        return None
    best_value, best = max(scored, key=lambda pair: pair[0])
    difference = value - best_value
    verdict = {"baseline": best.name, "value": best_value, "difference": difference, "low": None, "high": None}
    low = high = difference
    if own is not None and (best.outcomes is None or _are_pairs(own, best.outcomes)):
        result = outcomes.compare(own, best_value if best.outcomes is None else best.outcomes)
        low, high = result.low, result.high
        verdict |= {"low": low, "high": high, "unit": own.unit, "count": len(own.values)}
    outcome: Outcome = "better" if low > 0 else "worse" if high < 0 else "level"
    return {**verdict, "outcome": outcome}


def _are_pairs(own: Outcomes, other: Outcomes) -> bool:
    return (own.unit, len(own.values)) == (other.unit, len(other.values))


def describe(verdict: Mapping[str, Any], value: float, advice: str = "", caveat: str = "") -> str:
    """Return the verdict as a sentence. `advice` ends that of a loss, and `caveat` that of any other outcome."""
    name, difference = verdict["baseline"], verdict["difference"]
    interval = (
        "no interval"
        if verdict["low"] is None
        else f"interval {verdict['low']:+.3f} to {verdict['high']:+.3f}, {verdict['count']} {verdict['unit']}"
    )
    scores = f"{value:.3f} against {verdict['value']:.3f}"
    but = f"; but {caveat}" if caveat else ""
    if verdict["outcome"] == "better":
        return f"Better than the best free baseline, {name}, by {difference:.3f} ({interval}): {scores}{but}."
    if verdict["outcome"] == "level":
        return f"Level with the best free baseline, {name}: {scores} (difference {difference:+.3f}, {interval}){but}."
    return f"WORSE than {name}: {scores} (difference {difference:+.3f}, {interval}){f'; {advice}' if advice else ''}."


def join_advice(facts: Mapping[str, Any], suggestion: str) -> str:
    """Return the facts about the training rows, then what to change."""
    parts = []
    if "rows" in facts:
        parts.append(f"{facts['rows']} training rows")
    if "words" in facts:
        parts.append(f"texts have {facts['words']:g} words in the median")
    if "unknown_words" in facts:
        parts.append(facts["unknown_words"])
    return "; ".join(part for part in (", ".join(parts), suggestion) if part)

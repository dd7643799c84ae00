"""What concepts and explanations are worth: which concepts have examples, how often the model is right about each, and whether
the concepts that explain a score are those that make it. Held-out pairs only.

A score is explained well if deleting its leading concepts takes more from it than deleting any others (deletion curves as of
Samek et al., arXiv 1509.06321). What is left is brought to unit length again, as in an edited view, or the sum of the
contributions would decide it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.core.errors import DataError
from zoo.core.lazy import lazy
from zoo.families.sesa.concepts import SHOWN, Concepts
from zoo.families.sesa.spec import TAG_COLUMNS
from zoo.metrics import ranking

if TYPE_CHECKING:
    import numpy as np
    import torch
    from datasets import Dataset
    from matplotlib.figure import Figure

    from zoo.card.run_record import Record
    from zoo.families.sesa.concept_encoder import ConceptEncoder
else:
    np, torch = lazy("numpy"), lazy("torch")

FACTS = ("bare", "bare_count", "examples", "reliable", "unreliable", "deletion", "deleted_more", "ranking", "pairs")
LEAST = 5  # held-out texts for which a concept leads, before anything is said about its precision
LISTED, EXAMPLES, PARTS, CHARACTERS = 8, 4, 3, 160
DELETED = 5  # concepts that are compared with as many random ones
LONGEST = 20  # deletions on the curve
PAIRS = 2000  # held-out pairs that are tried, at most


def counted(listed: Concepts, rows: Dataset, name: str = "data") -> torch.Tensor:
    """Texts that are tagged with each concept or with one below it, (C,) float32; rows that share a text count each. Raises
    DataError, with the `name` of the rows, for ids that the list lacks."""
    counts, problems = np.zeros(len(listed), np.float32), []
    for column in TAG_COLUMNS:
        for number, ids in enumerate(rows[column] if column in rows.column_names else (), 1):
            try:
                counts[listed.tagged(ids or ())] += 1
            except DataError as error:
                problems.append(f"{name}: row {number}: {column}: {error}")
    if problems:
        more = [f"and {len(problems) - SHOWN} more rows"] if len(problems) > SHOWN else []
        raise DataError(*problems[:SHOWN], *more, "add these to the concepts, or mend the rows")
    return torch.from_numpy(counts)


def without_example(listed: Concepts, counts: torch.Tensor, *, by_name: bool) -> list[int]:
    """Rows of the concepts that no text is tagged with. Raises DataError that names them, where `by_name` is not set, or those
    of them that have no name but their id: a name is read as an example."""
    bare = [int(i) for i in (counts == 0).nonzero()[:, 0]]
    lost = [listed.ids[i] for i in bare if not by_name or listed.names[i] == listed.ids[i]]
    if lost:
        more = f" and {len(lost) - SHOWN} more" if len(lost) > SHOWN else ""
        how = "give them names" if by_name else "set names: true, which reads their names as examples"
        raise DataError(
            f"concepts without an example: {', '.join(lost[:SHOWN])}{more}; take them off the list, tag rows with them, or {how}"
        )
    return bare


def tried(encoder: ConceptEncoder, held: Dataset, twin: ConceptEncoder | None) -> dict[str, Any]:
    """What the card says of the held-out pairs, as plain values under the keys FACTS."""
    held = held.select(range(min(len(held), PAIRS)))
    anchors, positives = list(held["anchor"]), list(held["positive"])
    listed = encoder.listed
    assert listed is not None  # it is trained
    known = [column for column in TAG_COLUMNS if column in held.column_names and any(held[column])]
    a, b = encoder.encode(anchors, prompt_type="query"), encoder.encode(positives, prompt_type="document")
    curve, more = deletion(a, b, encoder.seed)
    lines = [encoder] if twin is None else [encoder, twin]
    right: list[dict[str, Any]] = []
    if known:
        texts = dict(zip(TAG_COLUMNS, ((anchors, "query"), (positives, "document")), strict=True))
        told = [encoder.probabilities(texts[column][0], prompt_type=texts[column][1]) for column in known]
        right = precision(listed, np.concatenate(told), [ids for column in known for ids in held[column]])
    best = np.argsort(-(a * b).sum(1), kind="stable")
    shown = best[np.linspace(0, len(best) // 2, EXAMPLES).astype(int)] if len(best) else []
    return {
        "pairs": len(held),
        "ranking": {each.spec.space: list(between(each, anchors, positives)) for each in lines},
        "deletion": curve,
        "deleted_more": more,
        "reliable": right[:LISTED],
        "unreliable": right[LISTED:][-LISTED:][::-1],
        "examples": [_example(encoder, anchors[i], positives[i]) for i in dict.fromkeys(int(i) for i in shown)],
    }


def between(encoder: ConceptEncoder, anchors: list[str], positives: list[str]) -> ranking.Quality:
    """How well distinct anchors find their positives among all distinct ones."""
    asked, held = list(dict.fromkeys(anchors)), list(dict.fromkeys(positives))
    relevant = np.zeros((len(asked), len(held)), dtype=bool)
    place = [{text: i for i, text in enumerate(texts)} for texts in (asked, held)]
    for left, right in zip(anchors, positives, strict=True):
        relevant[place[0][left], place[1][right]] = True
    found = encoder.encode(asked, prompt_type="query") @ encoder.encode(held, prompt_type="document").T
    return ranking.quality(found, relevant)


def deletion(a: np.ndarray, b: np.ndarray, seed: int, most: int = LONGEST) -> tuple[dict[str, list[float]], float]:
    """What is left of the scores of n pairs of unit vectors (n, C) once 0, 1, … concepts are deleted.

    Returns the mean score by number of deleted concepts, those with the largest contributions first ("explained") and those
    active in either text in a random order ("random"); and the share of pairs whose score falls lower by the DELETED largest
    contributions than by as many random ones.
    """
    draw = np.random.default_rng(seed)
    active = (a > 0) | (b > 0)
    orders = {
        "explained": np.argsort(-(a * b), axis=1, kind="stable"),
        "random": np.argsort(np.where(active, draw.random(a.shape), 2.0), axis=1, kind="stable"),
    }
    curves: dict[str, list[float]] = {}
    at: dict[str, np.ndarray] = {}
    rows = np.arange(len(a))
    for name, order in orders.items():
        x, y = a.astype(np.float64), b.astype(np.float64)
        curves[name] = []
        for count in range(min(most, a.shape[1]) + 1):
            if count:
                x[rows, order[:, count - 1]] = y[rows, order[:, count - 1]] = 0
            norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
            scores = (x * y).sum(1) / np.maximum(norms, 1e-12)
            curves[name].append(round(float(scores.mean()), 6) if len(scores) else 0.0)
            if count == min(DELETED, most, a.shape[1]):
                at[name] = scores
    return curves, float((at["explained"] < at["random"]).mean()) if len(a) else 0.0


def precision(listed: Concepts, probabilities: np.ndarray, tags: list[list[str]]) -> list[dict[str, Any]]:
    """Of the texts (n, C) in which a concept is the likeliest of its level, how many are tagged with it, for every concept with
    LEAST such texts or more; texts without a tag on that level are left out. The most precise first."""
    levels = np.asarray(listed.levels)
    told = np.zeros(probabilities.shape, dtype=bool)
    for row, ids in zip(told, tags, strict=True):
        row[listed.tagged(ids or ())] = True
    found = []
    for level in range(levels.max() + 1):
        columns = np.flatnonzero(levels == level)
        texts = np.flatnonzero(told[:, columns].any(1))
        leading = columns[probabilities[np.ix_(texts, columns)].argmax(1)] if len(texts) else np.zeros(0, int)
        for i in columns:
            led = texts[leading == i]
            if len(led) >= LEAST:
                share = float(told[led, i].mean())
                found.append({"id": listed.ids[i], "name": listed.names[i], "precision": share, "texts": len(led)})
    return sorted(found, key=lambda each: (-each["precision"], -each["texts"], each["id"]))


def _example(encoder: ConceptEncoder, left: str, right: str) -> dict[str, Any]:
    found = encoder.explain(left, right, top=PARTS)
    parts = [{"name": each.name, "share": each.value / max(found.score, 1e-12)} for each in found.parts]
    texts = {"a": " ".join(left.split())[:CHARACTERS], "b": " ".join(right.split())[:CHARACTERS]}
    return {**texts, "score": found.score, "parts": parts}


def picture(about: Record) -> Figure | None:
    """Mean score of the held-out pairs by the number of deleted concepts; None where none was tried."""
    from zoo.card import plots, run_record

    told = run_record.as_mapping(about.facts.get("deletion"))
    curves = {name: told.get(name) for name in ("explained", "random")}
    if not all(isinstance(each, list) and each and all(map(_finite, each)) for each in curves.values()):
        return None
    figure = plots.new_figure(3.4)
    axes = figure.subplots()
    words = {"explained": "those that explain the score", "random": "as many random active ones"}
    for (name, values), colour in zip(curves.items(), (plots.ACCENT, plots.SECOND), strict=True):
        axes.plot(range(len(values or [])), values or [], color=colour, label=words[name], marker="o", markersize=3)
    axes.set(xlabel="concepts deleted", ylabel="mean score of held-out pairs", ylim=(0, None))
    axes.legend(frameon=False)
    axes.set_title("What is left of a score without some of its concepts", fontweight="bold", fontsize=10)
    return figure


def _finite(value: Any) -> bool:
    from zoo.card import run_record

    return run_record.as_number(value) is not None

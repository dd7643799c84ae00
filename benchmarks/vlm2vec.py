"""VLM2Vec from scratch on small images: what it finds, and what exact large batches cost.

    ZOO_DATA=… python benchmarks/vlm2vec.py [--only NAME…] [--quick] [--seeds 3] [--work FOLDER] [--write FILE] [--threads 2]

    scenes      a shape in a colour somewhere on grey: 8 colours × 4 shapes. A model of 64 components is trained on 600 images of
                each of the 32 classes and asked about 10 new ones of each; and once more without one shape of every colour, which
                it must then put together from what it has seen
    icons       the recipe recipes/vlm2vec-icons.yaml as it stands: held-out search terms of known icons, icons that were never
                seen, and their categories
    emoji       the same recipe on emoji_twitter64 of ZOO_DATA: keywords for search terms, names for labels
    gradcache   gradients against those of the whole batch, and of the same chunks in one graph; memory and seconds a step
    peer        sentence-transformers on the same weights: gradients of its CachedMultipleNegativesRankingLoss, seconds a step

Chance is the expected figure of a random order. Tags: candidates are ordered by the words they share with the query, rare words
counting more, an image having those of its label and, of known icons, of the training terms; where the label itself is sought,
those of all its search terms: what a search without a model would do; it sees names, which the encoder never does. --quick: a
tenth of the steps. --seeds: of weights and of the order of rows; figures are their mean ± spread, and those of the baselines have
no seed. With --work an interrupted run goes on, finished parts are kept.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Results, data_folder, finish, peak_mb
from datasets import Dataset
from PIL import Image, ImageDraw

import zoo
from zoo import data, evaluation
from zoo.data.sources import builtin
from zoo.families.vlm2vec import dataset
from zoo.families.vlm2vec.encoder import Encoder
from zoo.families.vlm2vec.spec import Spec, VLMSpec
from zoo.recipe.recipe import loads
from zoo.schema import Training

PARTS = ("scenes", "icons", "emoji", "gradcache", "peer")
COLOURS = {
    "red": (215, 25, 28),
    "green": (26, 150, 65),
    "blue": (44, 90, 200),
    "yellow": (250, 220, 40),
    "purple": (130, 50, 160),
    "orange": (245, 140, 30),
    "white": (245, 245, 245),
    "black": (15, 15, 15),
}
SHAPES = ("circle", "square", "triangle", "cross")
SIDE = 56
EACH, TESTS = 600, 10  # images of a class


# -- scenes ------------------------------------------------------------------------------------------------------------


def scene(colour: str, shape: str, draw: np.random.Generator) -> bytes:
    """A PNG: the shape at a random place, in a random size, on a grey of its own with some noise."""
    noise = (draw.integers(90, 170) + draw.integers(-8, 9, (SIDE, SIDE, 1))).repeat(3, axis=2).astype(np.uint8)
    image = Image.fromarray(noise)
    pen, size = ImageDraw.Draw(image), int(draw.integers(24, 40))
    left, top = (int(n) for n in draw.integers(0, SIDE - size, 2))
    right, bottom, third = left + size, top + size, size // 3
    fill = tuple(int(np.clip(c + draw.integers(-12, 12), 0, 255)) for c in COLOURS[colour])
    if shape == "circle":
        pen.ellipse((left, top, right, bottom), fill=fill)
    elif shape == "square":
        pen.rectangle((left, top, right, bottom), fill=fill)
    elif shape == "triangle":
        pen.polygon([(left, bottom), (right, bottom), ((left + right) // 2, top)], fill=fill)
    else:
        pen.rectangle((left + third, top, right - third, bottom), fill=fill)
        pen.rectangle((left, top + third, right, bottom - third), fill=fill)
    held = io.BytesIO()
    image.save(held, "PNG")
    return held.getvalue()


def scenes(each: int, seed: int) -> list[dict[str, Any]]:
    draw = np.random.default_rng(seed)
    return [
        {"query": f"a {colour} {shape}", "positive_image": [{"bytes": scene(colour, shape, draw), "path": None}]}
        for colour in COLOURS
        for shape in SHAPES
        for _ in range(each)
    ]


def scene_figures(steps: int, without: frozenset[str], seed: int) -> dict[str, float]:
    """Hit@1 on unseen images, over all 32 texts, and of the classes `without` training rows apart."""
    backbone = VLMSpec(build="idefics3", hidden=64, layers=2, vision_layers=2, size=SIDE, patch=14, vocab_size=400)
    encoder = Encoder.build(Spec(family="vlm2vec", backbone=backbone, temperature=0.1, symmetric=True), seed=seed)
    table = Dataset.from_list([row for row in scenes(EACH, 1) if row["query"] not in without])
    encoder.prepare(table, Path())
    settings = Training(
        max_steps=steps, batch_size=32, learning_rate=3e-3, schedule="cosine", precision="fp32", seed=41 + seed
    )
    with tempfile.TemporaryDirectory() as folder:
        seconds = encoder.fit(table, settings, Path(folder))
    test = scenes(TESTS, 3)  # settings were chosen on those of other seeds
    texts = list(dict.fromkeys(row["query"] for row in test))
    asked = encoder.encode(texts)
    images = encoder.encode([row["positive_image"][0]["bytes"] for row in test])
    scores, gold = images @ asked.T, np.array([texts.index(row["query"]) for row in test])
    strict = scores[np.arange(len(gold)), gold]
    rivals = np.where(np.arange(len(texts))[None] == gold[:, None], -np.inf, scores).max(1)
    hit = strict > rivals
    new = np.array([row["query"] in without for row in test])
    found = (asked @ images.T).argmax(1)
    figures = {"image_to_text": hit.mean(), "text_to_image": (gold[found] == np.arange(len(texts))).mean()}
    if without:
        figures = {"seen_pairs": hit[~new].mean(), "new_pairs": hit[new].mean()}
    return {name: float(value) for name, value in figures.items()} | {"seconds": seconds}


def spread(values: list[float]) -> str:
    """Mean ± spread over seeds."""
    return f"{np.mean(values):.3f}" + (f" ± {np.std(values):.3f}" if len(values) > 1 else "")


def listed(values: list[float]) -> str:
    return ", ".join(f"{value:.0f}" for value in values)


def part_scenes(results: Results, quick: bool, seeds: int) -> dict[str, Any]:
    steps = 60 if quick else 5000
    unseen = frozenset(f"a {colour} {SHAPES[i % 4]}" for i, colour in enumerate(COLOURS))
    numbers = range(1, seeds + 1)
    whole = [results.get(f"scenes-{n}", lambda n=n: scene_figures(steps, frozenset(), n)) for n in numbers]
    apart = [results.get(f"scenes-new-{n}", lambda n=n: scene_figures(steps, unseen, n)) for n in numbers]
    print(f"\n## Colours and shapes\n\n{steps} steps of 32 rows, {EACH} images a class; 320 unseen images;")
    print(f"hit@1, ties counted as misses; seeds: {seeds}.\n")
    print("| trained on | asked | hit@1 | chance |")
    print("|:---|:---|---:|---:|")
    for runs, told, name in (
        (whole, "all 32 classes | image → 32 texts", "image_to_text"),
        (whole, "all 32 classes | text → 320 images", "text_to_image"),
        (apart, "24 classes | image of those 24 → 32 texts", "seen_pairs"),
        (apart, "24 classes | image of the 8 new pairs → 32 texts", "new_pairs"),
    ):
        print(f"| {told} | {spread([run[name] for run in runs])} | {1 / 32:.3f} |")
    print(f"\nOn all classes trained in {listed([run['seconds'] for run in whole])} s.")
    return {"whole": whole, "new_pairs": apart}


# -- icons and emoji ---------------------------------------------------------------------------------------------------


def emoji_tables(folder: Path) -> None:
    """emoji.parquet as the three tables that `builtin: icons` has, split in the same way."""
    import pyarrow.parquet as pq

    apart = builtin.load_module("icons")._is_held_out
    rows = pq.read_table(data_folder() / "emoji_twitter64" / "emoji.parquet").to_pylist()
    tables: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        name, held = row["unified"], row["image"]
        common = {"icon": name, "kind": "label", "split": "icons" if apart(name) else "train"}
        tables["icons"].append({"image": held, "label": row["name"], **common})
        tables["terms"].append({"text": row["name"], "image": held, **common})
        tables["categories"].append({"image": held, "label": row["category"], **common})
        for term in dict.fromkeys(word.replace("_", " ").lower() for word in row["keywords"] or []):
            if term.strip() and term != row["name"]:
                split = "icons" if apart(name) else "terms" if apart(f"{name}/{term}") else "train"
                tables["terms"].append({"text": term, "image": held, "icon": name, "kind": "term", "split": split})
    for name, table in tables.items():
        Dataset.from_list(table).to_parquet(folder / f"{name}.parquet")


def recipe(kind: str, folder: Path, *overrides: str) -> Any:
    """The shipped recipe, or the same with its data replaced by files."""
    text = zoo.load_recipe("vlm2vec-icons").dump()
    if kind == "emoji":
        import yaml

        def replaced(value: Any) -> Any:
            if isinstance(value, list):
                return [replaced(each) for each in value]
            if not isinstance(value, dict):
                return value
            if value.get("source") == "builtin":
                kept = {k: v for k, v in value.items() if k not in ("source", "name", "table") and v is not None}
                if "shown" in kept.get("columns", {}):
                    kept["columns"] = {}
                return {"source": "file", "path": str(folder / f"{value['table']}.parquet"), **kept}
            return {key: replaced(each) for key, each in value.items()}

        tree = replaced(yaml.safe_load(text))
        for task in tree["evaluation"]:
            task["name"] = task["name"].replace("icon", "emoji")
        text = yaml.safe_dump({**tree, "name": "vlm2vec-emoji"}, allow_unicode=True)
    return loads(text, *overrides, folder=folder)


def retrieval_figures(kind: str, work: Path, quick: bool, seed: int) -> dict[str, Any]:
    """Train, score with mteb, and score the two baselines on the same queries and candidates."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if kind == "emoji":
            emoji_tables(folder)
        told = recipe(kind, folder, *(["training.max_steps=50"] if quick else []))
        training = told.training.model_copy(update={"seed": told.training.seed + seed - 1})
        table = data.read(told.data, {}, dataset.ROLES, folder=folder).rows
        encoder = Encoder.build(told.encoder, seed=training.seed)
        encoder.prepare(table, folder)
        seconds = encoder.fit(table, training, work / f"run-{kind}-{seed}")
        report = evaluation.evaluate(encoder, told.evaluation, folder=folder, results_folder=folder / "results")
        out: dict[str, Any] = {"seconds": seconds, "steps": 0, "tasks": {}}
        lines = (work / f"run-{kind}-{seed}" / "metrics.jsonl").read_text().splitlines()
        out["steps"] = json.loads(lines[-1])["step"]
        for task, entry in zip(told.evaluation, report["results"], strict=True):
            (path,) = (folder / "results").glob(f"{entry['task']}__*.json")
            scores = json.loads(path.read_text())["scores"]["test"][0]
            if task.task == "any-retrieval":
                names = ("hit_rate_at_1", "hit_rate_at_10", "ndcg_at_10")
                out["tasks"][entry["task"]] = {
                    "model": [scores[name] for name in names],
                    **baselines(task, folder, kind),
                }
            else:
                rows = {
                    part: data.read(getattr(task, part), {"label": "label"}, folder=folder).rows
                    for part in ("train", "data")
                }
                common = Counter(rows["train"]["label"]).most_common(1)[0][0]
                share = sum(label == common for label in rows["data"]["label"]) / len(rows["data"])
                out["tasks"][entry["task"]] = {"model": [entry["value"]], "largest class": [share]}
        return out


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def tags(folder: Path, kind: str, *, labels: bool) -> dict[str, set[str]]:
    """By image (sha256 of its bytes): the words of its label and of the terms that are trained on; or, if the `labels` are what
    is sought, those of all its search terms."""
    if kind == "icons":
        rows: Any = builtin.load_module("icons").read_rows("terms")
    else:
        import pyarrow.parquet as pq

        rows = pq.read_table(folder / "terms.parquet").to_pylist()
    found: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row["kind"] == "term" if labels else row["kind"] == "label" or row["split"] == "train":
            found[hashlib.sha256(row["image"]).hexdigest()] |= words(row["text"])
    return found


def baselines(task: Any, folder: Path, kind: str) -> dict[str, list[float]]:
    """Chance and tags, on the task's own queries and candidates."""
    tables = {
        part: data.read(getattr(task, part), {}, task.optional[part], folder=folder)
        for part in task.roles
        if getattr(task, part)
    }
    from zoo.evaluation import multimodal_retrieval

    held = multimodal_retrieval.shape_pairs(tables, "")["default"]["test"]
    known = tags(folder, kind, labels="label" in task.data.columns.values())
    queries, corpus = said(held["queries"], known), said(held["corpus"], known)
    ranked = held["top_ranked"] or {name: list(corpus) for name in queries}
    common = Counter(word for each in corpus.values() for word in each)
    weight = {word: math.log(1 + len(corpus) / count) for word, count in common.items()}
    chance, found = [], []
    draw = np.random.default_rng(0)
    for query, asked in queries.items():
        right, candidates = held["relevant_docs"][query], ranked[query]
        chance.append(expected(len(right), len(candidates)))
        score = np.array([math.fsum(weight[word] for word in asked & corpus[name]) for name in candidates])
        order = np.lexsort((draw.random(len(score)), -score))
        found.append(measured([candidates[i] in right for i in order[:10]], len(right)))
    return {"chance": _mean(chance), "tags": _mean(found)}


def said(rows: Dataset, known: dict[str, set[str]]) -> dict[str, set[str]]:
    """By id: the words of a text, or those that are known of an image."""
    if "image" not in rows.column_names:
        return {name: words(text) for name, text in zip(rows["id"], rows["text"], strict=True)}
    raw = rows.cast_column("image", _raw())
    hashes = (hashlib.sha256(image["bytes"]).hexdigest() for image in raw["image"])
    return {name: known.get(each, set()) for name, each in zip(rows["id"], hashes, strict=True)}


def _raw() -> Any:
    import datasets

    return datasets.Image(decode=False)


def _mean(rows: list[tuple[float, ...]]) -> list[float]:
    return [statistics.fmean(column) for column in zip(*rows, strict=True)]


GAINS = [1 / math.log2(i + 2) for i in range(10)]


def measured(right: list[bool], total: int) -> tuple[float, float, float]:
    """Hit@1, hit@10 and nDCG@10 of the first ten."""
    gained = sum(gain for gain, hit in zip(GAINS, right, strict=False) if hit)
    return float(right[0]), float(any(right)), gained / sum(GAINS[:total])


def expected(right: int, count: int) -> tuple[float, float, float]:
    """The same of a random order."""
    none = math.comb(count - right, 10) / math.comb(count, 10) if count >= 10 else 0.0
    return right / count, 1 - none, right / count * sum(GAINS[:count]) / sum(GAINS[:right])


def part_retrieval(kind: str, results: Results, quick: bool, seeds: int) -> dict[str, Any]:
    work = results.folder or Path(tempfile.mkdtemp())
    runs = [
        results.get(f"{kind}-{n}", lambda n=n: retrieval_figures(kind, work, quick, n)) for n in range(1, seeds + 1)
    ]
    title = {"icons": "Icons", "emoji": "Emoji"}[kind]
    print(
        f"\n## {title}\n\n{runs[0]['steps']} steps, trained in {listed([run['seconds'] for run in runs])} s. Tags: the words"
    )
    print(
        "that a query shares with a picture's label and the terms it was trained with, or, where the label is sought, with"
    )
    print("all its search terms; names, which the encoder never sees.\n")
    print("| task | | hit@1 | hit@10 | nDCG@10 |")
    print("|:---|:---|---:|---:|---:|")
    tasks = {name: [run["tasks"][name] for run in runs] for name in runs[0]["tasks"]}
    means = {
        task: {name: np.mean([run[name] for run in found], axis=0) for name in found[0]}
        for task, found in tasks.items()
    }
    for task, found in tasks.items():
        for name in found[0]:
            if len(found[0][name]) == 3:
                each = zip(*(run[name] for run in (found if name == "model" else found[:1])), strict=True)
                print(f"| {task} | {name} | {' | '.join(spread(list(values)) for values in each)} |")
    print()
    for task, rows in means.items():
        for name in ("chance", "tags"):
            if name in rows:
                shown = ", ".join(f"{ratio:.2f}" for ratio in rows["model"] / rows[name])
                print(f"- {task}, model over {name}: {shown}")
    for task, found in tasks.items():
        if len(found[0]["model"]) == 1:
            shown = f"model {spread([run['model'][0] for run in found])}, "
            print(f"\n{task}: accuracy of a logistic regression on the vectors: {shown}", end="")
            print(f"largest class {found[0]['largest class'][0]:.3f}.")
    return {"runs": runs}


# -- large batches -----------------------------------------------------------------------------------------------------


def trainee(dropout: float, chunk: int, rows: int, double: bool = False) -> tuple[Encoder, dict[str, Any]]:
    backbone = VLMSpec(build="idefics3", hidden=64, layers=2, vision_layers=2, size=SIDE, patch=14, vocab_size=400)
    encoder = Encoder.build(Spec(family="vlm2vec", backbone=backbone, chunk=chunk), seed=1)
    table = Dataset.from_list((scenes(-(-rows // 32), 1))[:rows])
    encoder.prepare(table, Path())
    encoder.vlm.set_dropout(dropout)
    encoder.module.train()
    if double:
        encoder.module.double()
    encoder._chunk = chunk
    whole = dataset.MixtureDataset({"data": table}, {}, None)
    return encoder, encoder.collate([whole[i] for i in range(rows)])


def gradient(encoder: Encoder, batch: dict[str, Any], again: bool) -> torch.Tensor:
    encoder.module.zero_grad()
    encoder._again = again
    torch.manual_seed(3)
    encoder.loss(batch).backward()
    return torch.cat(
        [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in encoder.module.parameters()]
    )


def errors(rows: int) -> dict[str, float]:
    """|found - wanted| / |wanted| over all gradients, chunks of 8, of a freshly drawn model."""

    def apart(found: torch.Tensor, wanted: torch.Tensor) -> float:
        return float((found.double() - wanted.double()).norm() / wanted.double().norm())

    out, single = {}, torch.zeros(1)
    for name, double in (("fp32", False), ("fp64", True)):
        encoder, batch = trainee(0.0, 8, rows, double)
        found = gradient(encoder, batch, again=True)
        encoder._chunk = 2 * rows
        table = dataset.MixtureDataset({"data": Dataset.from_list(scenes(-(-rows // 32), 1)[:rows])}, {}, None)
        whole = encoder.collate([table[i] for i in range(rows)])
        plain = gradient(encoder, whole, again=False)
        out[f"whole batch, dropout 0, {name}"] = apart(found, plain)
        if double:
            out["fp32 itself, whole batch, against fp64"] = apart(single, plain)
        single = plain
        encoder, batch = trainee(0.1, 8, rows, double)
        out[f"same chunks, dropout 0.1, {name}"] = apart(
            gradient(encoder, batch, again=True), gradient(encoder, batch, again=False)
        )
    return out


def peak(rows: int, again: bool) -> float:
    """The high-water mark of this process's memory after two steps in chunks of 8, which are run again or are one graph."""
    encoder, batch = trainee(0.1, 8, rows)
    for _ in range(2):
        gradient(encoder, batch, again)
    return peak_mb()


def alone(rows: int, again: bool) -> float:
    """`peak` in a process of its own, so that its memory is its own."""
    told = [str(rows), str(int(again)), str(torch.get_num_threads())]
    done = subprocess.run([sys.executable, __file__, "--alone", *told], stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def turns(rows: int, repeats: int) -> dict[str, list[float]]:
    """CPU seconds of steps whose chunks are run again and of those in one graph, in turns: seconds of the clock are of whatever
    else runs."""
    encoder, batch = trainee(0.1, 8, rows)
    times: dict[str, list[float]] = {"again": [], "plain": []}
    for _ in range(repeats):
        for name in times:
            began = time.process_time()
            gradient(encoder, batch, again=name == "again")
            times[name].append(time.process_time() - began)
    return times


def part_gradcache(results: Results, quick: bool) -> dict[str, Any]:
    found = results.get("errors", lambda: errors(16 if quick else 64))
    print("\n## Large batches\n\nRelative error of the gradient of chunks of 8 that are run again:\n")
    print("| against | error |\n|:---|---:|")
    for name, value in found.items():
        print(f"| {name} | {value:.1e} |")
    out: dict[str, Any] = {"errors": found, "steps": {}}
    sizes = (32, 64) if quick else (64, 256, 1024)
    print(
        "\nThe same chunks in one graph are the plain step; times in turns, with the least and the largest ratio of two turns:\n"
    )
    print("| rows | chunks again, MB | CPU s a step | one graph, MB | CPU s a step | time |")
    print("|---:|---:|---:|---:|---:|---:|")
    for rows in sizes:
        memory = {again: results.get(f"peak-{rows}-{again:d}", lambda r=rows, a=again: alone(r, a)) for again in (1, 0)}
        times = results.get(f"turns-{rows}", lambda r=rows: turns(r, 3 if quick else max(9, 2000 // r)))
        again, plain = (np.array(times[name]) for name in ("again", "plain"))
        ratios = again / plain
        print(
            f"| {rows} | {memory[1]:.0f} | {np.median(again):.2f} | {memory[0]:.0f} | {np.median(plain):.2f} ", end=""
        )
        print(f"| {np.median(ratios):.2f}× ({ratios.min():.2f} to {ratios.max():.2f}) |")
        out["steps"][rows] = {"mb": memory, "times": times}
    most = max(each["mb"][1] for each in out["steps"].values())
    least = min(each["mb"][1] for each in out["steps"].values())
    print(
        f"\nThe memory of the whole process grows by {100 * (most / least - 1):.1f} % from {sizes[0]} to {sizes[-1]} rows."
    )
    return out


# -- peer --------------------------------------------------------------------------------------------------------------


def opened_by_the_peer(encoder: Encoder, folder: Path) -> tuple[Any, Any]:
    """The same weights as a model of sentence-transformers, and its loss at our temperature and chunk."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss

    encoder.save(folder)
    model = SentenceTransformer(str(folder), device="cpu")
    model.train()
    scale = 1 / encoder.spec.temperature
    return model, CachedMultipleNegativesRankingLoss(model, scale=scale, mini_batch_size=encoder._chunk)


def peers(rows: int, repeats: int) -> dict[str, Any]:
    """A step of `rows` rows, inputs' preparation included, chunks of 8, in turns: CPU seconds of both. And on one row of each of
    the 32 classes, since the peer takes equal texts for wrong ones, how far the gradients are apart."""
    encoder, _ = trainee(0.0, 8, 32)
    held = scenes(-(-rows // 32), 1)
    one_each = list({row["query"]: row for row in held}.values())

    with tempfile.TemporaryDirectory() as folder:
        model, loss = opened_by_the_peer(encoder, Path(folder))
    theirs = dict(model[0].auto_model.named_parameters())

    def ours_step(some: list[dict[str, Any]]) -> None:
        table = dataset.MixtureDataset({"data": Dataset.from_list(some)}, {}, None)
        gradient(encoder, encoder.collate([table[i] for i in range(len(some))]), again=True)

    def peer_step(some: list[dict[str, Any]]) -> None:
        model.zero_grad()
        images = [Image.open(io.BytesIO(row["positive_image"][0]["bytes"])) for row in some]
        columns = [model.preprocess([row["query"] for row in some]), model.preprocess(images)]
        loss(columns, torch.zeros(len(some))).backward()

    ours_step(one_each)
    peer_step(one_each)
    gap = total = 0.0
    for name, parameter in encoder.module.named_parameters():
        wanted, found = theirs[name].grad, parameter.grad
        zero = torch.zeros_like(parameter)
        found, wanted = zero if found is None else found, zero if wanted is None else wanted
        gap += float((found.double() - wanted.double()).square().sum())
        total += float(wanted.double().square().sum())
    times: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(repeats):
        for name, run in (("ours", ours_step), ("peer", peer_step)):
            began = time.process_time()
            run(held[:rows])
            times[name].append(time.process_time() - began)
    return {"error": math.sqrt(gap / total), "times": times}


def part_peer(results: Results, quick: bool) -> dict[str, Any]:
    rows = 64 if quick else 256
    found = results.get("peer", lambda: peers(rows, 3 if quick else 9))
    ours, peer = (np.array(found["times"][name]) for name in ("ours", "peer"))
    ratios = ours / peer
    print("\n## Beside sentence-transformers\n\nThe same weights and CachedMultipleNegativesRankingLoss, in turns.")
    print(f"Relative error of the gradient, one row of each class: {found['error']:.1e}.\n")
    print(f"| {rows} rows, chunks of 8 | CPU s a step | ours / theirs |")
    print("|:---|---:|---:|")
    print(f"| ours | {np.median(ours):.2f} | {np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f}) |")
    print(f"| sentence-transformers | {np.median(peer):.2f} | |")
    return found


def main(arguments: argparse.Namespace) -> dict[str, Any]:
    results = Results(arguments.work)
    print("# VLM2Vec from scratch\n")
    parts = [name for name in PARTS if name in (arguments.only or PARTS)]
    told = f"{' '.join(parts)} --seeds {arguments.seeds}"
    print(f"Written by `python benchmarks/vlm2vec.py --only {told}` on a machine that was busy with other work.")
    if left := [name for name in PARTS if name not in parts]:
        print(f"Not run: {', '.join(left)}.")
    run = {
        "scenes": lambda: part_scenes(results, arguments.quick, arguments.seeds),
        "icons": lambda: part_retrieval("icons", results, arguments.quick, arguments.seeds),
        "emoji": lambda: part_retrieval("emoji", results, arguments.quick, arguments.seeds),
        "gradcache": lambda: part_gradcache(results, arguments.quick),
        "peer": lambda: part_peer(results, arguments.quick),
    }
    return {name: run[name]() for name in parts}


class Tee(io.TextIOBase):
    """Standard output that also keeps what was printed."""

    def __init__(self) -> None:
        self.out, self.kept = sys.stdout, io.StringIO()

    def write(self, text: str) -> int:
        self.kept.write(text)
        return self.out.write(text)

    def flush(self) -> None:
        self.out.flush()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--alone"]:
        torch.set_num_threads(int(sys.argv[4]))
        print(peak(int(sys.argv[2]), bool(int(sys.argv[3]))))
        sys.exit()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=1, help="of scenes, icons and emoji")
    parser.add_argument("--work")
    parser.add_argument("--write", help="also write the tables to this file")
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    sys.stdout = tee = Tee()
    figures = main(given)
    sys.stdout = tee.out
    if given.write:
        Path(given.write).write_text(tee.kept.getvalue(), encoding="utf-8")
    finish(figures)

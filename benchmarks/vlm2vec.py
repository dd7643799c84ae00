"""VLM2Vec from scratch on small images: how well it retrieves, and what exact large batches cost.

    ZOO_DATA=… python benchmarks/vlm2vec.py [--only NAME…] [--quick] [--seeds 3] [--work FOLDER] [--write FILE] [--threads 2]

    scenes      a shape in a colour somewhere on grey: 8 colours × 4 shapes. A model of 64 components is trained on 600 images of
                each of the 32 classes and tested on 10 new images of each. A second model is trained without one shape of every
                colour, and must put these pairs together from what it has seen
    icons       the recipe recipes/vlm2vec-icons.yaml as it is: held-out search terms of known icons, new icons, and categories
    emoji       the same recipe on emoji_twitter64 of ZOO_DATA: keywords instead of search terms, names instead of labels
    gradcache   gradients against those of the whole batch, and of the same chunks in one graph; memory and seconds a step
    peer        sentence-transformers on the same weights: gradients of its CachedMultipleNegativesRankingLoss, seconds a step

Chance is the expected score of a random order. Tags are what a search without a model would do: candidates are ordered by the
words that they share with the query, and rare words count more. An image has the words of its label and, if the icon is known, of
its training terms; if the label itself is sought, those of all its search terms. So tags see names, which the encoder never does.

--quick takes a tenth of the steps. --seeds sets the number of seeds for weights and the order of rows. Scores are mean ± spread
over the seeds; the baselines have no seed. With --work, an interrupted run continues: finished parts are read from the folder.
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
from zoo.families.vlm2vec.dataset import MixtureDataset
from zoo.families.vlm2vec.encoder import Encoder
from zoo.families.vlm2vec.spec import ROLES, Spec, VLMSpec
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
TRAIN_IMAGES, TEST_IMAGES = 600, 10  # of each class


# -- scenes ------------------------------------------------------------------------------------------------------------


def draw_scene(colour: str, shape: str, generator: np.random.Generator) -> bytes:
    """Draw a PNG: the shape at a random place and in a random size, on a random grey with noise."""
    noise = (
        (generator.integers(90, 170) + generator.integers(-8, 9, (SIDE, SIDE, 1))).repeat(3, axis=2).astype(np.uint8)
    )
    image = Image.fromarray(noise)
    pen, size = ImageDraw.Draw(image), int(generator.integers(24, 40))
    left, top = (int(n) for n in generator.integers(0, SIDE - size, 2))
    right, bottom, third = left + size, top + size, size // 3
    fill = tuple(int(np.clip(c + generator.integers(-12, 12), 0, 255)) for c in COLOURS[colour])
    if shape == "circle":
        pen.ellipse((left, top, right, bottom), fill=fill)
    elif shape == "square":
        pen.rectangle((left, top, right, bottom), fill=fill)
    elif shape == "triangle":
        pen.polygon([(left, bottom), (right, bottom), ((left + right) // 2, top)], fill=fill)
    else:
        pen.rectangle((left + third, top, right - third, bottom), fill=fill)
        pen.rectangle((left, top + third, right, bottom - third), fill=fill)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def make_scenes(count: int, seed: int) -> list[dict[str, Any]]:
    """Make `count` rows of each class, for example of "a red circle"."""
    generator = np.random.default_rng(seed)
    return [
        {
            "query": f"a {colour} {shape}",
            "positive_image": [{"bytes": draw_scene(colour, shape, generator), "path": None}],
        }
        for colour in COLOURS
        for shape in SHAPES
        for _ in range(count)
    ]


def measure_scenes(steps: int, new_classes: frozenset[str], seed: int) -> dict[str, float]:
    """Train on all classes but `new_classes`, and return hit@1 on unseen images of all 32 classes."""
    backbone = VLMSpec(build="idefics3", hidden=64, layers=2, vision_layers=2, size=SIDE, patch=14, vocab_size=400)
    encoder = Encoder.build(Spec(family="vlm2vec", backbone=backbone, temperature=0.1, symmetric=True), seed=seed)
    table = Dataset.from_list([row for row in make_scenes(TRAIN_IMAGES, 1) if row["query"] not in new_classes])
    encoder.prepare(table, Path())
    settings = Training(
        max_steps=steps, batch_size=32, learning_rate=3e-3, schedule="cosine", precision="fp32", seed=41 + seed
    )
    with tempfile.TemporaryDirectory() as folder:
        seconds = encoder.fit(table, settings, Path(folder))
    test_rows = make_scenes(TEST_IMAGES, 3)  # the settings were chosen on images of other seeds
    texts = list(dict.fromkeys(row["query"] for row in test_rows))
    text_vectors = encoder.encode(texts)
    image_vectors = encoder.encode([row["positive_image"][0]["bytes"] for row in test_rows])
    scores = image_vectors @ text_vectors.T
    labels = np.array([texts.index(row["query"]) for row in test_rows])
    is_label = np.arange(len(texts))[None] == labels[:, None]
    hits = scores[is_label] > np.where(is_label, -np.inf, scores).max(1)
    is_new = np.array([row["query"] in new_classes for row in test_rows])
    nearest_images = (text_vectors @ image_vectors.T).argmax(1)
    figures = {
        "image_to_text": hits.mean(),
        "text_to_image": (labels[nearest_images] == np.arange(len(texts))).mean(),
    }
    if new_classes:
        figures = {"seen_pairs": hits[~is_new].mean(), "new_pairs": hits[is_new].mean()}
    return {name: float(value) for name, value in figures.items()} | {"seconds": seconds}


def format_mean(values: list[float]) -> str:
    """Format mean ± spread over seeds."""
    return f"{np.mean(values):.3f}" + (f" ± {np.std(values):.3f}" if len(values) > 1 else "")


def format_list(values: list[float]) -> str:
    """Format numbers without decimals, separated by commas."""
    return ", ".join(f"{value:.0f}" for value in values)


def run_scenes(results: Results, quick: bool, seeds: int) -> dict[str, Any]:
    steps = 60 if quick else 5000
    new_classes = frozenset(f"a {colour} {SHAPES[i % 4]}" for i, colour in enumerate(COLOURS))
    numbers = range(1, seeds + 1)
    all_class_runs = [results.get(f"scenes-{n}", lambda n=n: measure_scenes(steps, frozenset(), n)) for n in numbers]
    new_pair_runs = [results.get(f"scenes-new-{n}", lambda n=n: measure_scenes(steps, new_classes, n)) for n in numbers]
    print(f"\n## Colours and shapes\n\n{steps} steps of 32 rows, {TRAIN_IMAGES} images a class; 320 unseen images;")
    print(f"hit@1, ties counted as misses; seeds: {seeds}.\n")
    print("| trained on | asked | hit@1 | chance |")
    print("|:---|:---|---:|---:|")
    for runs, description, name in (
        (all_class_runs, "all 32 classes | image → 32 texts", "image_to_text"),
        (all_class_runs, "all 32 classes | text → 320 images", "text_to_image"),
        (new_pair_runs, "24 classes | image of those 24 → 32 texts", "seen_pairs"),
        (new_pair_runs, "24 classes | image of the 8 new pairs → 32 texts", "new_pairs"),
    ):
        print(f"| {description} | {format_mean([run[name] for run in runs])} | {1 / 32:.3f} |")
    print(f"\nOn all classes trained in {format_list([run['seconds'] for run in all_class_runs])} s.")
    return {"whole": all_class_runs, "new_pairs": new_pair_runs}


# -- icons and emoji ---------------------------------------------------------------------------------------------------


def write_emoji_tables(folder: Path) -> None:
    """Write emoji.parquet as the three tables of `builtin: icons`, split in the same way."""
    import pyarrow.parquet as pq

    is_held_out = builtin.load_module("icons")._apart
    rows = pq.read_table(data_folder() / "emoji_twitter64" / "emoji.parquet").to_pylist()
    tables: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        name, image = row["unified"], row["image"]
        common = {"icon": name, "kind": "label", "split": "icons" if is_held_out(name) else "train"}
        tables["icons"].append({"image": image, "label": row["name"], **common})
        tables["terms"].append({"text": row["name"], "image": image, **common})
        tables["categories"].append({"image": image, "label": row["category"], **common})
        for term in dict.fromkeys(word.replace("_", " ").lower() for word in row["keywords"] or []):
            if term.strip() and term != row["name"]:
                split = "icons" if is_held_out(name) else "terms" if is_held_out(f"{name}/{term}") else "train"
                tables["terms"].append({"text": term, "image": image, "icon": name, "kind": "term", "split": split})
    for name, table in tables.items():
        Dataset.from_list(table).to_parquet(folder / f"{name}.parquet")


def load_recipe(kind: str, folder: Path, *overrides: str) -> Any:
    """Load the shipped recipe; for `kind` emoji, with the files in `folder` in place of its builtin data."""
    text = zoo.load_recipe("vlm2vec-icons").dump()
    if kind == "emoji":
        import yaml

        sections = replace_builtin_data(yaml.safe_load(text), folder)
        for task in sections["evaluation"]:
            task["name"] = task["name"].replace("icon", "emoji")
        text = yaml.safe_dump({**sections, "name": "vlm2vec-emoji"}, allow_unicode=True)
    return loads(text, *overrides, folder=folder)


def replace_builtin_data(value: Any, folder: Path) -> Any:
    """Replace every builtin data section below `value` by the file of the same table."""
    if isinstance(value, list):
        return [replace_builtin_data(item, folder) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("source") != "builtin":
        return {key: replace_builtin_data(item, folder) for key, item in value.items()}
    fields = {k: v for k, v in value.items() if k not in ("source", "name", "table") and v is not None}
    if "shown" in fields.get("columns", {}):
        fields["columns"] = {}
    return {"source": "file", "path": str(folder / f"{value['table']}.parquet"), **fields}


def measure_retrieval(kind: str, work: Path, quick: bool, seed: int) -> dict[str, Any]:
    """Train, score with mteb, and score the two baselines on the same queries and candidates."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if kind == "emoji":
            write_emoji_tables(folder)
        recipe = load_recipe(kind, folder, *(["training.max_steps=50"] if quick else []))
        training = recipe.training.model_copy(update={"seed": recipe.training.seed + seed - 1})
        table = data.read(recipe.data, {}, ROLES, folder=folder).rows
        encoder = Encoder.build(recipe.encoder, seed=training.seed)
        encoder.prepare(table, folder)
        run_folder = work / f"run-{kind}-{seed}"
        seconds = encoder.fit(table, training, run_folder)
        report = evaluation.evaluate(encoder, recipe.evaluation, folder=folder, results_folder=folder / "results")
        last_line = (run_folder / "metrics.jsonl").read_text().splitlines()[-1]
        tasks = {}
        for task, entry in zip(recipe.evaluation, report["results"], strict=True):
            if task.task == "any-retrieval":
                (path,) = (folder / "results").glob(f"{entry['task']}__*.json")
                scores = json.loads(path.read_text())["scores"]["test"][0]
                model_scores = [scores[name] for name in ("hit_rate_at_1", "hit_rate_at_10", "ndcg_at_10")]
                tasks[entry["task"]] = {"model": model_scores, **measure_baselines(task, folder, kind)}
            else:
                share = measure_largest_class(task, folder)
                tasks[entry["task"]] = {"model": [entry["value"]], "largest class": [share]}
        return {"seconds": seconds, "steps": json.loads(last_line)["step"], "tasks": tasks}


def measure_largest_class(task: Any, folder: Path) -> float:
    """Return the share of test rows with the most frequent label of the training rows."""
    labels = {
        part: data.read(getattr(task, part), {"label": "label"}, folder=folder).rows["label"]
        for part in ("train", "data")
    }
    most_frequent = Counter(labels["train"]).most_common(1)[0][0]
    return sum(label == most_frequent for label in labels["data"]) / len(labels["data"])


def split_words(text: str) -> set[str]:
    """Return the words of a text in lower case."""
    return set(re.findall(r"\w+", text.lower()))


def collect_tags(folder: Path, kind: str, *, for_labels: bool) -> dict[str, set[str]]:
    """Return the words of each image, by the sha256 of its bytes.

    They are the words of its label and of its training terms. `for_labels`: those of all its search terms instead, because the
    label is what is sought.
    """
    if kind == "icons":
        rows: Any = builtin.load_module("icons").read_rows("terms")
    else:
        import pyarrow.parquet as pq

        rows = pq.read_table(folder / "terms.parquet").to_pylist()
    tags: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        is_tag = row["kind"] == "term" if for_labels else row["kind"] == "label" or row["split"] == "train"
        if is_tag:
            tags[hashlib.sha256(row["image"]).hexdigest()] |= split_words(row["text"])
    return tags


def measure_baselines(task: Any, folder: Path, kind: str) -> dict[str, list[float]]:
    """Score chance and tags on the task's own queries and candidates."""
    from zoo.evaluation import any_retrieval

    tables = {
        part: data.read(getattr(task, part), {}, task.optional[part], folder=folder)
        for part in task.roles
        if getattr(task, part)
    }
    test = any_retrieval.shaped(tables, "")["default"]["test"]
    tags = collect_tags(folder, kind, for_labels="label" in task.data.columns.values())
    queries, corpus = find_words(test["queries"], tags), find_words(test["corpus"], tags)
    top_ranked = test["top_ranked"] or {name: list(corpus) for name in queries}
    counts = Counter(word for words in corpus.values() for word in words)
    weights = {word: math.log(1 + len(corpus) / count) for word, count in counts.items()}
    chance_scores, tag_scores = [], []
    generator = np.random.default_rng(0)
    for query, query_words in queries.items():
        relevant_docs, candidates = test["relevant_docs"][query], top_ranked[query]
        chance_scores.append(compute_chance(len(relevant_docs), len(candidates)))
        scores = np.array([math.fsum(weights[word] for word in query_words & corpus[name]) for name in candidates])
        order = np.lexsort((generator.random(len(scores)), -scores))
        is_right = [candidates[i] in relevant_docs for i in order[:10]]
        tag_scores.append(score_ranking(is_right, len(relevant_docs)))
    return {"chance": average_columns(chance_scores), "tags": average_columns(tag_scores)}


def find_words(rows: Dataset, tags: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return the words of each text, or the tags of each image, by id."""
    import datasets

    if "image" not in rows.column_names:
        return {name: split_words(text) for name, text in zip(rows["id"], rows["text"], strict=True)}
    images = rows.cast_column("image", datasets.Image(decode=False))["image"]
    digests = (hashlib.sha256(image["bytes"]).hexdigest() for image in images)
    return {name: tags.get(digest, set()) for name, digest in zip(rows["id"], digests, strict=True)}


def average_columns(rows: list[tuple[float, ...]]) -> list[float]:
    """Return the mean of each column."""
    return [statistics.fmean(column) for column in zip(*rows, strict=True)]


GAINS = [1 / math.log2(i + 2) for i in range(10)]


def score_ranking(is_right: list[bool], total: int) -> tuple[float, float, float]:
    """Return hit@1, hit@10 and nDCG@10 of the first ten candidates, if `total` candidates are right."""
    gain = sum(gain for gain, right in zip(GAINS, is_right, strict=False) if right)
    return float(is_right[0]), float(any(is_right)), gain / sum(GAINS[:total])


def compute_chance(right: int, count: int) -> tuple[float, float, float]:
    """Return the expected hit@1, hit@10 and nDCG@10 of a random order of `count` candidates, `right` of them right."""
    miss = math.comb(count - right, 10) / math.comb(count, 10) if count >= 10 else 0.0
    return right / count, 1 - miss, right / count * sum(GAINS[:count]) / sum(GAINS[:right])


def run_retrieval(kind: str, results: Results, quick: bool, seeds: int) -> dict[str, Any]:
    work = results.folder or Path(tempfile.mkdtemp())
    runs = [
        results.get(f"{kind}-{n}", lambda n=n: measure_retrieval(kind, work, quick, n)) for n in range(1, seeds + 1)
    ]
    title = {"icons": "Icons", "emoji": "Emoji"}[kind]
    seconds = format_list([run["seconds"] for run in runs])
    print(f"\n## {title}\n\n{runs[0]['steps']} steps, trained in {seconds} s. Tags: the words")
    print(
        "that a query shares with a picture's label and the terms it was trained with, or, where the label is sought, with"
    )
    print("all its search terms; names, which the encoder never sees.\n")
    tasks = {name: [run["tasks"][name] for run in runs] for name in runs[0]["tasks"]}
    print_retrieval(tasks)
    print_classification(tasks)
    return {"runs": runs}


def print_retrieval(tasks: dict[str, list[dict[str, list[float]]]]) -> None:
    """Print the scores of retrieval tasks, and the model's relative to those of the baselines. `tasks`: name → scores a run."""
    print("| task | | hit@1 | hit@10 | nDCG@10 |")
    print("|:---|:---|---:|---:|---:|")
    for task, runs in tasks.items():
        for name, scores in runs[0].items():
            if len(scores) == 3:
                runs_with_seed = runs if name == "model" else runs[:1]
                columns = zip(*(run[name] for run in runs_with_seed), strict=True)
                print(f"| {task} | {name} | {' | '.join(format_mean(list(values)) for values in columns)} |")
    print()
    for task, runs in tasks.items():
        means = {name: np.mean([run[name] for run in runs], axis=0) for name in runs[0]}
        for name in ("chance", "tags"):
            if name in means:
                ratios = ", ".join(f"{ratio:.2f}" for ratio in means["model"] / means[name])
                print(f"- {task}, model over {name}: {ratios}")


def print_classification(tasks: dict[str, list[dict[str, list[float]]]]) -> None:
    """Print the scores of classification tasks."""
    for task, runs in tasks.items():
        if len(runs[0]["model"]) == 1:
            accuracy = format_mean([run["model"][0] for run in runs])
            print(f"\n{task}: accuracy of a logistic regression on the vectors: model {accuracy}, ", end="")
            print(f"largest class {runs[0]['largest class'][0]:.3f}.")


# -- large batches -----------------------------------------------------------------------------------------------------


def build_trainee(dropout: float, chunk: int, rows: int, double: bool = False) -> tuple[Encoder, dict[str, Any]]:
    """Build an untrained encoder in training mode, and a batch of `rows` rows in chunks of `chunk` inputs."""
    backbone = VLMSpec(build="idefics3", hidden=64, layers=2, vision_layers=2, size=SIDE, patch=14, vocab_size=400)
    encoder = Encoder.build(Spec(family="vlm2vec", backbone=backbone, chunk=chunk), seed=1)
    scenes = make_scene_rows(rows)
    encoder.prepare(Dataset.from_list(scenes), Path())
    encoder.vlm.set_dropout(dropout)
    encoder.module.train()
    if double:
        encoder.module.double()
    return encoder, collate(encoder, scenes, chunk)


def make_scene_rows(count: int) -> list[dict[str, Any]]:
    """Make `count` rows, over as many of the 32 classes as they fill."""
    return make_scenes(-(-count // 32), 1)[:count]


def collate(encoder: Encoder, rows: list[dict[str, Any]], chunk: int) -> dict[str, Any]:
    """Make a batch in chunks of `chunk` inputs."""
    encoder._chunk_size = chunk
    dataset = MixtureDataset({"data": Dataset.from_list(rows)}, {}, None)
    return encoder.collate([dataset[i] for i in range(len(rows))])


def compute_gradient(encoder: Encoder, batch: dict[str, Any], uses_gradcache: bool) -> torch.Tensor:
    """Return the gradient of all parameters as one vector; the dropout masks are the same in every call."""
    encoder.module.zero_grad()
    encoder._uses_gradcache = uses_gradcache
    torch.manual_seed(3)
    encoder.loss(batch).backward()
    return torch.cat(
        [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in encoder.module.parameters()]
    )


def compute_relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Return |actual - expected| / |expected|."""
    return float((actual.double() - expected.double()).norm() / expected.double().norm())


def measure_errors(rows: int) -> dict[str, float]:
    """Measure relative errors of the gradient of an untrained model, in chunks of 8."""
    errors, single_gradient = {}, torch.zeros(1)
    for name, double in (("fp32", False), ("fp64", True)):
        encoder, batch = build_trainee(0.0, 8, rows, double)
        gradient = compute_gradient(encoder, batch, uses_gradcache=True)
        whole_batch = collate(encoder, make_scene_rows(rows), 2 * rows)
        whole_gradient = compute_gradient(encoder, whole_batch, uses_gradcache=False)
        errors[f"whole batch, dropout 0, {name}"] = compute_relative_error(gradient, whole_gradient)
        if double:
            errors["fp32 itself, whole batch, against fp64"] = compute_relative_error(single_gradient, whole_gradient)
        single_gradient = whole_gradient
        encoder, batch = build_trainee(0.1, 8, rows, double)
        errors[f"same chunks, dropout 0.1, {name}"] = compute_relative_error(
            compute_gradient(encoder, batch, uses_gradcache=True),
            compute_gradient(encoder, batch, uses_gradcache=False),
        )
    return errors


def measure_peak(rows: int, uses_gradcache: bool) -> float:
    """Return the peak memory of this process in MB after two steps in chunks of 8, with GradCache or in one graph."""
    encoder, batch = build_trainee(0.1, 8, rows)
    for _ in range(2):
        compute_gradient(encoder, batch, uses_gradcache)
    return peak_mb()


def measure_peak_in_subprocess(rows: int, uses_gradcache: bool) -> float:
    """Run `measure_peak` in a process of its own, so that no other memory counts."""
    arguments = [str(rows), str(int(uses_gradcache)), str(torch.get_num_threads())]
    command = [sys.executable, __file__, "--alone", *arguments]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(process.stdout.splitlines()[-1])


def measure_step_times(rows: int, repeats: int) -> dict[str, list[float]]:
    """Return the CPU seconds of steps with GradCache ("again") and in one graph ("plain"), taken in turns.

    Seconds of the clock would depend on what else runs on the machine.
    """
    encoder, batch = build_trainee(0.1, 8, rows)
    times: dict[str, list[float]] = {"again": [], "plain": []}
    for _ in range(repeats):
        for name in times:
            start = time.process_time()
            compute_gradient(encoder, batch, uses_gradcache=name == "again")
            times[name].append(time.process_time() - start)
    return times


def run_gradcache(results: Results, quick: bool) -> dict[str, Any]:
    errors = results.get("errors", lambda: measure_errors(16 if quick else 64))
    print("\n## Large batches\n\nRelative error of the gradient of chunks of 8 that are run again:\n")
    print("| against | error |\n|:---|---:|")
    for name, value in errors.items():
        print(f"| {name} | {value:.1e} |")
    print(
        "\nThe same chunks in one graph are the plain step; times in turns, with the least and the largest ratio of two turns:\n"
    )
    print("| rows | chunks again, MB | CPU s a step | one graph, MB | CPU s a step | time |")
    print("|---:|---:|---:|---:|---:|---:|")
    sizes = (32, 64) if quick else (64, 256, 1024)
    steps: dict[int, Any] = {}
    for rows in sizes:
        memory = {
            flag: results.get(f"peak-{rows}-{flag}", lambda r=rows, f=flag: measure_peak_in_subprocess(r, bool(f)))
            for flag in (1, 0)
        }
        repeats = 3 if quick else max(9, 2000 // rows)
        times = results.get(f"turns-{rows}", lambda r=rows, n=repeats: measure_step_times(r, n))
        again, plain = (np.array(times[name]) for name in ("again", "plain"))
        ratios = again / plain
        print(
            f"| {rows} | {memory[1]:.0f} | {np.median(again):.2f} | {memory[0]:.0f} | {np.median(plain):.2f} ", end=""
        )
        print(f"| {np.median(ratios):.2f}× ({ratios.min():.2f} to {ratios.max():.2f}) |")
        steps[rows] = {"mb": memory, "times": times}
    peaks = [step["mb"][1] for step in steps.values()]
    growth = 100 * (max(peaks) / min(peaks) - 1)
    print(f"\nThe memory of the whole process grows by {growth:.1f} % from {sizes[0]} to {sizes[-1]} rows.")
    return {"errors": errors, "steps": steps}


# -- peer --------------------------------------------------------------------------------------------------------------


def open_with_sentence_transformers(encoder: Encoder, folder: Path) -> tuple[Any, Any]:
    """Open the same weights with sentence-transformers, and make its loss with our temperature and chunk size."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss

    encoder.save(folder)
    model = SentenceTransformer(str(folder), device="cpu")
    model.train()
    scale = 1 / encoder.spec.temperature
    return model, CachedMultipleNegativesRankingLoss(model, scale=scale, mini_batch_size=encoder._chunk_size)


def measure_peer(rows: int, repeats: int) -> dict[str, Any]:
    """Compare steps of `rows` rows in chunks of 8 with sentence-transformers.

    Returns the relative error of the gradient, on one row of each class because the peer counts equal texts as negatives; and
    the CPU seconds of both, taken in turns, including the preparation of the inputs.
    """
    encoder, _ = build_trainee(0.0, 8, 32)
    scenes = make_scenes(-(-rows // 32), 1)
    one_of_each_class = list({row["query"]: row for row in scenes}.values())
    with tempfile.TemporaryDirectory() as folder:
        model, loss = open_with_sentence_transformers(encoder, Path(folder))

    def run_our_step(batch_rows: list[dict[str, Any]]) -> None:
        compute_gradient(encoder, collate(encoder, batch_rows, 8), uses_gradcache=True)

    def run_peer_step(batch_rows: list[dict[str, Any]]) -> None:
        model.zero_grad()
        images = [Image.open(io.BytesIO(row["positive_image"][0]["bytes"])) for row in batch_rows]
        columns = [model.preprocess([row["query"] for row in batch_rows]), model.preprocess(images)]
        loss(columns, torch.zeros(len(batch_rows))).backward()

    run_our_step(one_of_each_class)
    run_peer_step(one_of_each_class)
    error = compare_gradients(encoder.module, model[0].auto_model)
    times: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(repeats):
        for name, run_step in (("ours", run_our_step), ("peer", run_peer_step)):
            start = time.process_time()
            run_step(scenes[:rows])
            times[name].append(time.process_time() - start)
    return {"error": error, "times": times}


def compare_gradients(module: torch.nn.Module, peer: torch.nn.Module) -> float:
    """Return the relative error of the gradients of `module` against those of `peer`, which has the same parameters."""
    peer_parameters = dict(peer.named_parameters())
    difference = total = 0.0
    for name, parameter in module.named_parameters():
        zero = torch.zeros_like(parameter)
        gradient, peer_gradient = parameter.grad, peer_parameters[name].grad
        gradient = zero if gradient is None else gradient
        peer_gradient = zero if peer_gradient is None else peer_gradient
        difference += float((gradient.double() - peer_gradient.double()).square().sum())
        total += float(peer_gradient.double().square().sum())
    return math.sqrt(difference / total)


def run_peer(results: Results, quick: bool) -> dict[str, Any]:
    rows = 64 if quick else 256
    comparison = results.get("peer", lambda: measure_peer(rows, 3 if quick else 9))
    ours, peer = (np.array(comparison["times"][name]) for name in ("ours", "peer"))
    ratios = ours / peer
    print("\n## Beside sentence-transformers\n\nThe same weights and CachedMultipleNegativesRankingLoss, in turns.")
    print(f"Relative error of the gradient, one row of each class: {comparison['error']:.1e}.\n")
    print(f"| {rows} rows, chunks of 8 | CPU s a step | ours / theirs |")
    print("|:---|---:|---:|")
    print(f"| ours | {np.median(ours):.2f} | {np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f}) |")
    print(f"| sentence-transformers | {np.median(peer):.2f} | |")
    return comparison


def main(arguments: argparse.Namespace) -> dict[str, Any]:
    results = Results(arguments.work)
    print("# VLM2Vec from scratch\n")
    parts = [name for name in PARTS if name in (arguments.only or PARTS)]
    options = f"{' '.join(parts)} --seeds {arguments.seeds}"
    print(f"Written by `python benchmarks/vlm2vec.py --only {options}` on a machine that was busy with other work.")
    skipped_parts = [name for name in PARTS if name not in parts]
    if skipped_parts:
        print(f"Not run: {', '.join(skipped_parts)}.")
    run_part = {
        "scenes": lambda: run_scenes(results, arguments.quick, arguments.seeds),
        "icons": lambda: run_retrieval("icons", results, arguments.quick, arguments.seeds),
        "emoji": lambda: run_retrieval("emoji", results, arguments.quick, arguments.seeds),
        "gradcache": lambda: run_gradcache(results, arguments.quick),
        "peer": lambda: run_peer(results, arguments.quick),
    }
    return {name: run_part[name]() for name in parts}


class Tee(io.TextIOBase):
    """Standard output that also records everything that is printed."""

    def __init__(self) -> None:
        self.out, self.record = sys.stdout, io.StringIO()

    def write(self, text: str) -> int:
        self.record.write(text)
        return self.out.write(text)

    def flush(self) -> None:
        self.out.flush()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--alone"]:
        torch.set_num_threads(int(sys.argv[4]))
        print(measure_peak(int(sys.argv[2]), bool(int(sys.argv[3]))))
        sys.exit()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds of scenes, icons and emoji")
    parser.add_argument("--work")
    parser.add_argument("--write", help="also write the tables to this file")
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    sys.stdout = tee = Tee()
    figures = main(arguments)
    sys.stdout = tee.out
    if arguments.write:
        Path(arguments.write).write_text(tee.record.getvalue(), encoding="utf-8")
    finish(figures)

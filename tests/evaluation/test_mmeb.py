"""MMEB as mteb tasks, and retrieval of texts and images, with an encoder that knows the answers and one that collapsed."""

from __future__ import annotations

import json
from collections import Counter

import mteb
import numpy as np
import pytest
from datasets import Dataset, Features, Value
from datasets import Image as HubImage
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from tiny_vlm2vec import COLOURS, draw_square, encode_png

import cards
from zoo import evaluation
from zoo.core.errors import DataError, ZooError
from zoo.encoder import Encoder as Base
from zoo.evaluation.mmeb_sets import SETS
from zoo.evaluation.mteb_model import MtebModel
from zoo.evaluation.spec import Task
from zoo.families.vlm2vec import mixed_inputs

NAMES = list(COLOURS)


class Knows(Base):
    """A component for each colour that an input names or shows, and one for a mark."""

    modalities, accepts_mixed_inputs, has_roles, dim = ("text", "image"), True, True, len(NAMES) + 1

    def __init__(self, collapsed: bool = False) -> None:
        super().__init__()
        self.collapsed, self.asked = collapsed, []
        self.spec = type("S", (), {"family": "knows"})()

    def view(self, **options):
        return self

    def encode(self, inputs, *, prompt_type=None, **_):
        self.asked += [(prompt_type, each) for each in inputs]
        draw = np.random.default_rng(0)
        out = []
        for each in inputs:
            vector = np.full(self.dim, 1e-3)
            for part in mixed_inputs.split_into_parts(each):
                if isinstance(part, str):
                    vector[:-1] += [name in part for name in NAMES]
                else:
                    pixels = np.asarray(part).reshape(-1, 3).astype(int)
                    near = [np.abs(pixels - COLOURS[name]).sum(1) < 20 for name in NAMES]
                    vector[:-1] += np.array([n.mean() for n in near]) > 0.1
                    vector[-1] += (pixels[0] == 255).all()  # a mark in the corner, which no text speaks of
            out.append(np.ones(self.dim) + draw.normal(0, 1e-9, self.dim) if self.collapsed else vector)
        out = np.array(out, np.float32)
        return out / np.linalg.norm(out, axis=1, keepdims=True)


def task(**given):
    return TypeAdapter(Task).validate_python(given)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three sets in miniature: image → text, image and text → image, text → image; each query has four candidates."""
    base = tmp_path_factory.mktemp("mmeb")
    (base / "images").mkdir()
    for i in range(8):
        (base / "images" / f"{i}.png").write_bytes(encode_png(draw_square(NAMES[i % 4], i)))
    own = [[NAMES[(i + j) % 4] for j in range(4)] for i in range(8)]
    paths = [[f"{(i + j) % 4 + 4 * (i // 4)}.png" for j in range(4)] for i in range(8)]
    sets = {
        "ImageNet-1K": [
            {
                "qry_text": "<|image_1|>\nWhich?",
                "qry_img_path": f"{i}.png",
                "tgt_text": own[i],
                "tgt_img_path": [""] * 4,
            }
            for i in range(8)
        ],
        "CIRR": [
            {
                "qry_text": "<|image_1|>\nLike it.",
                "qry_img_path": f"{i}.png",
                "tgt_text": ["<|image_1|>\nThis."] * 4,
                "tgt_img_path": paths[i],
            }
            for i in range(8)
        ],
        "EDIS": [
            {
                "qry_text": NAMES[i % 4],
                "qry_img_path": "",
                "qry_inst": "Find:",
                "tgt_text": [""] * 4,
                "tgt_img_path": paths[i],
            }
            for i in range(8)
        ],
    }
    for name, rows in sets.items():
        (base / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return base


def scored(encoder, **given):
    return evaluation.evaluate(encoder, [task(task="mmeb", **given)], baseline=False)


def test_the_benchmark_has_its_36_sets_by_meta_task_and_distribution():
    counts = Counter((group.meta, group.trained) for group in SETS.values())
    assert counts == {
        ("Classification", True): 5,
        ("VQA", True): 6,
        ("Retrieval", True): 8,
        ("Grounding", True): 1,
        ("Classification", False): 5,
        ("VQA", False): 4,
        ("Retrieval", False): 4,
        ("Grounding", False): 3,
    }
    assert len(task(task="mmeb").expand()) == 36


def test_the_encoder_that_knows_scores_1_and_the_collapsed_one_at_most_chance(folder):
    names = ["ImageNet-1K", "CIRR", "EDIS"]
    report = scored(Knows(), folder=str(folder), sets=names)
    assert [entry["task"] for entry in report["results"]] == [f"MMEB {name}" for name in names]
    assert [entry["value"] for entry in report["results"]] == [1.0, 1.0, 1.0]
    details = report["results"][0]["details"]["mmeb"]
    assert details == {
        "set": "ImageNet-1K",
        "meta": "Classification",
        "distribution": "in",
        "candidates": 4.0,
        "chance": 0.25,
    }
    assert report["averages"] == {
        "overall (3 of 36)": 1.0,
        "Classification (1 of 10)": 1.0,
        "Retrieval (2 of 12)": 1.0,
        "in distribution (2 of 20)": 1.0,
        "out of distribution (1 of 16)": 1.0,
    }
    collapsed = scored(Knows(collapsed=True), folder=str(folder), sets=names)
    assert all(entry["value"] <= entry["details"]["mmeb"]["chance"] for entry in collapsed["results"])


def test_every_image_reaches_the_encoder(folder):
    encoder = Knows()
    scored(encoder, folder=str(folder), sets=["CIRR", "EDIS"])
    queries = [each for role, each in encoder.asked if role == "query"]
    documents = [each for role, each in encoder.asked if role == "document"]
    assert all(isinstance(each["image"], Image.Image) and each["text"] for each in queries[:8])
    assert all(isinstance(each, str) and each.startswith("Find: ") for each in queries[8:])
    assert sum(isinstance(each, Image.Image) or each["image"] is not None for each in documents) == len(documents) == 16


def test_missing_parts_of_a_set_are_an_error_before_anything_is_encoded(folder, tmp_path):
    with pytest.raises(ZooError, match="holds no table or folder for NIGHTS"):
        scored(Knows(), folder=str(folder), sets=["NIGHTS"])
    with pytest.raises(ValidationError, match="did you mean OK-VQA"):
        task(task="mmeb", sets=["OKVQA"])
    row = {"qry_text": "a", "qry_img_path": "", "tgt_text": ["b"], "tgt_img_path": [""]}
    (tmp_path / "GQA.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match="row 1 of .* has no candidates"):
        scored(Knows(), folder=str(tmp_path), sets=["GQA"])
    (tmp_path / "GQA.jsonl").write_text(json.dumps(row | {"qry_img_path": "gone.png"}) + "\n")
    with pytest.raises(DataError, match=r"qry_img_path: is 'gone\.png'"):
        scored(Knows(), folder=str(tmp_path), sets=["GQA"])
    reader = Knows()
    reader.modalities = ("text",)
    with pytest.raises(ZooError, match="holds image"):
        scored(reader, folder=str(folder), sets=["CIRR"])


def test_retrieval_leaves_known_pairs_out_of_the_ranking(tmp_path):
    rows = [{"query": NAMES[i % 4], "document_image": f"{i}.png"} for i in range(8)]
    for i in range(8):
        image = draw_square(NAMES[i % 4], 40 + i)
        image[0, 0] = 255 if i < 4 else 0  # what is asked for comes after what is known
        (tmp_path / f"{i}.png").write_bytes(encode_png(image))
    for name, some in (("test", rows[:4]), ("train", rows[4:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps({"image": f"{i}.png"}) + "\n" for i in range(8)))
    parts = {
        part: {"source": "file", "path": f"{name}.jsonl"}
        for part, name in (("data", "test"), ("corpus", "corpus"), ("known", "train"))
    }
    scores = {}
    for label, given in (("without", {"data": parts["data"], "corpus": parts["corpus"]}), ("known", parts)):
        report = evaluation.evaluate(Knows(), [task(task="any-retrieval", **given)], folder=tmp_path, baseline=False)
        (entry,) = report["results"]
        scores[label] = entry["value"]
    assert scores["known"] == 1.0 > scores["without"]
    (first, *_) = entry["details"]["retrieved"]
    assert first["query"] == {"text": "red"}
    assert first["found"][0]["right"] is True
    assert first["found"][0]["image"]


def test_the_card_shows_what_was_retrieved(folder, tmp_path):
    from tiny_vlm2vec import build_encoder

    from zoo.artefact import model_folder
    from zoo.core import atomic_files

    model = model_folder.save(build_encoder(), tmp_path / "model")
    report = scored(Knows(), folder=str(folder), sets=["EDIS"])
    atomic_files.write_json(model / "report.json", report)
    assert "retrieved.png" in {path.name for path in cards.draw(model)}
    text = cards.render(model)
    assert "plots/retrieved.png" in text
    assert "out of distribution" in text


def test_mtebs_own_tasks_of_text_and_images_keep_their_images():
    known = mteb.get_task("Flickr30kT2IRetrieval")
    images = [Image.fromarray(draw_square(name, i)) for i, name in enumerate(NAMES)]
    names = [f"d{i}" for i in range(4)]
    features = Features({"id": Value("string"), "image": HubImage(), "modality": Value("string")})
    corpus = Dataset.from_dict({"id": names, "image": images, "modality": ["image"] * 4}, features=features)
    queries = Dataset.from_dict({"id": NAMES, "text": [f"a {name} square" for name in NAMES], "modality": ["text"] * 4})
    relevant = {name: {document: 1} for name, document in zip(NAMES, names, strict=True)}
    split = {"corpus": corpus, "queries": queries, "relevant_docs": relevant, "top_ranked": None}
    known.dataset, known.data_loaded = {"default": {known.metadata.eval_splits[0]: split}}, True
    encoder = Knows()
    found = mteb.evaluate(MtebModel(encoder, "fp32"), [known], cache=None, co2_tracker=False, show_progress_bar=False)
    assert found.task_results[0].get_score() == 1.0
    assert sum(isinstance(each, Image.Image) for _, each in encoder.asked) == 4

"""Equiangular basis vectors as a family: images and texts, both heads, prediction, new classes, artefact, recipe."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny
import torch
from contract import Contract
from datasets import Dataset, Features, Image, Value
from safetensors.torch import load_file, save_file

import zoo
from zoo.artefact import manifest, model_folder
from zoo.core.errors import ArtefactError, RecipeError, ZooError
from zoo.data.formats import image_files
from zoo.families.equiangular import basis_search, new_classes, procrustes, towers
from zoo.families.equiangular.encoder import Encoder
from zoo.families.equiangular.spec import Spec
from zoo.metrics import classification
from zoo.recipe import recipe
from zoo.schema import Training
from zoo.vision.spec import Vision

TINY = {"build": "resnet", "width": 4, "blocks": (1, 1), "channels": 1, "size": 8}


def stripes(count: int, classes: int = 3, seed: int = 0) -> tuple[list[np.ndarray], list[int]]:
    """Noise of 8 × 8 pixels with a bright bar, whose place and direction are the class."""
    draw = np.random.default_rng(seed)
    images, labels = [], []
    for i in range(count):
        label = i % classes
        image = draw.integers(0, 60, (8, 8), dtype=np.uint8)
        if label % 2:
            image[:, label] = 255
        else:
            image[label + 1, :] = 255
        images.append(image)
        labels.append(label)
    return images, labels


def rows(count: int = 96, classes: int = 3, seed: int = 0) -> Dataset:
    images, labels = stripes(count, classes, seed)
    held = [{"bytes": image_files.encode_pnm(image.tobytes(), 8, 8), "path": None} for image in images]
    features = Features({"image": Image(), "label": Value("int64")})
    return Dataset.from_dict({"image": held, "label": labels}, features=features)


def contract(folder) -> Contract:
    spec = Spec(family="equiangular", backbone=Vision(**TINY), dim=12, crop=1, mixup=0.2, ema=0.9, basis="seed")
    training = Training(max_steps=30, batch_size=16, learning_rate=0.01, checkpoint_every=1000)
    return Contract(spec, rows(), training, stripes(10, seed=3)[0], {}, folder)


def trained(folder, *, classes: int = 3, steps: int = 120, width: int = 4, **more) -> Encoder:
    spec = Spec(family="equiangular", backbone=Vision(**{**TINY, "width": width}), **{"dim": 12, **more})
    encoder = Encoder.build(spec)
    table = rows(240, classes)
    encoder.prepare(table, folder / "cache")
    training = Training(max_steps=steps, batch_size=32, learning_rate=0.01)
    encoder.fit(table, training, folder, validation=rows(60, classes, seed=5))
    encoder.finish(table)
    return encoder


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Encoder:
    return trained(tmp_path_factory.mktemp("ebv"))


def test_training_leads_each_class_to_its_vector(model):
    images, labels = stripes(60, seed=9)
    answers = model.predict(images)
    right = np.mean([a.label == label for a, label in zip(answers, labels, strict=True)])
    assert right > 0.9
    vectors = model.encode(images)
    untrained = Encoder.build(model.spec)
    fixed = model.basis.rows(0, 3).numpy()
    before = classification.compute_neural_collapse(untrained.encode(images), np.array(labels), fixed)["vector_angle"]
    after = classification.compute_neural_collapse(vectors, np.array(labels), fixed)
    assert after["vector_angle"] < 45 < before
    assert after["within_spread"] < 0.3


def test_noise_is_none_of_these_and_the_threshold_is_the_validations(model):
    held = model.scored(rows(60, seed=5)["image"]).max(1)
    assert model.threshold == pytest.approx(np.quantile(held, 0.05))
    draw = np.random.default_rng(1)
    noise = [draw.integers(0, 256, (8, 8), dtype=np.uint8) for _ in range(30)]
    assert sum(a.label is None for a in model.predict(noise)) >= 10
    assert all(0 < a.probability <= 1 for a in model.predict(noise))


def test_predict_agrees_with_encode_and_the_basis(model):
    images, _ = stripes(6, seed=2)
    cosines = model.encode(images) @ model.basis.rows(0, 3).numpy().T
    for answer, row in zip(model.predict(images), cosines, strict=True):
        assert answer.cosine == pytest.approx(row.max(), abs=1e-5)
        assert answer.probability == pytest.approx(
            classification.compute_softmax(row[None], model.scale).max(), abs=1e-5
        )


def test_new_classes_take_free_vectors_and_leave_the_old_where_they_were(tmp_path):
    encoder = trained(tmp_path, classes=4, width=16)
    images, labels = stripes(240, 6, seed=4)
    old = [(x, y) for x, y in zip(images, labels, strict=True) if y < 4]
    before = encoder.basis.rows(0, 4).clone()
    right = [a.label == y for a, (_, y) in zip(encoder.predict([x for x, _ in old]), old, strict=True)]
    by = {k: [x for x, y in zip(images, labels, strict=True) if y == k] for k in (4, 5)}
    free = set(range(encoder.basis.count)) - set(encoder.places)
    encoder.threshold = None
    encoder.add_classes([4, 5], [by[4][:20], by[5][:20]])
    assert encoder.classes == [0, 1, 2, 3, 4, 5]
    assert set(encoder.places[4:]) <= free
    assert torch.equal(encoder.basis.rows(0, 4), before)
    after = [a.label == y for a, (_, y) in zip(encoder.predict([x for x, _ in old]), old, strict=True)]
    assert np.mean(after) >= np.mean(right) - 0.05
    new = [a.label == k for k in (4, 5) for a in encoder.predict(by[k][20:])]
    assert np.mean(new) > 0.8
    model_folder.save(encoder, tmp_path / "model")
    again = zoo.from_pretrained(tmp_path / "model")
    assert [a.label for a in again.predict(images[:12])] == [a.label for a in encoder.predict(images[:12])]
    for names, examples, message in (
        ([4], [images[:1]], "already a class 4"),
        ([7, 8], [images[:1]], "2 names and 1 lists"),
        ([7], [[]], "at least one"),
        (["seven"], [images[:1]], "called by a int"),
        (list(range(10, 20)), [images[:1]] * 10, "only 6 of 12 vectors are free"),
    ):
        with pytest.raises(ZooError, match=message):
            encoder.add_classes(names, examples)


def test_what_new_classes_may_cost_the_old_ones_is_bounded_on_held_rows(tmp_path):
    encoder = trained(tmp_path, classes=4, width=16)
    images, labels = stripes(240, 6, seed=4)
    by = {k: [x for x, y in zip(images, labels, strict=True) if y == k] for k in range(6)}
    held = [x for k in range(4) for x in by[k]], [k for k in range(4) for _ in by[k]]
    state = {name: value.clone() for name, value in encoder.project.state_dict().items()}
    kept = (encoder.moments, encoder.classes, encoder.places)

    def added(lose: float) -> tuple[float, int]:
        encoder.project.load_state_dict(state)
        encoder.moments, encoder.classes, encoder.places = kept
        right = encoder.scored(held[0]).argmax(1) == held[1]
        # the worst that can be asked for: the examples are those of an old class
        keep = encoder.add_classes([4], [by[0][:20]], held=held, lose=lose)
        return keep, int(right.sum() - (encoder.scored(held[0]).argmax(1) == held[1]).sum())

    strict, loose = added(0.0), added(1.0)
    assert strict[1] <= 0 < loose[1]
    assert strict[0] > loose[0] == min(new_classes.KEEPS)
    for wrong, message in (((held[0], [9] * len(held[1])), "9 is no class yet"), (([], []), "0 inputs and 0 labels")):
        with pytest.raises(ZooError, match=message):
            encoder.add_classes([7], [by[4][:1]], held=wrong)
    with pytest.raises(ZooError, match="lose: nan"):
        encoder.add_classes([7], [by[4][:1]], held=held, lose=float("nan"))
    with pytest.raises(ZooError, match="keep and held"):
        encoder.add_classes([7], [by[4][:1]], held=held, keep=2.0)


def test_the_softmax_twin_shares_everything_but_the_head(tmp_path):
    encoder = trained(tmp_path, head="softmax")
    assert encoder.dim == encoder.tower.width == 8
    assert torch.equal(
        Encoder.build(encoder.spec).tower.module.body[0].weight,
        Encoder.build(encoder.spec.model_copy(update={"head": "equiangular"})).tower.module.body[0].weight,
    )
    images, labels = stripes(60, seed=9)
    encoder.threshold = None
    assert np.mean([a.label == y for a, y in zip(encoder.predict(images), labels, strict=True)]) > 0.9
    model_folder.save(encoder, tmp_path / "model")
    again = zoo.from_pretrained(tmp_path / "model")
    np.testing.assert_array_equal(again.scored(images), encoder.scored(images))
    with pytest.raises(ZooError, match="head: equiangular alone"):
        encoder.add_classes([9], [images[:1]])


def test_texts_take_the_same_head_and_open_in_sentence_transformers(tmp_path):
    from sentence_transformers import SentenceTransformer

    backbone = tiny.backbone(tmp_path / "b")
    table = Dataset.from_dict(
        {"text": tiny.SENTENCES, "label": ["dog" if "dog" in s else "no dog" for s in tiny.SENTENCES]}
    )
    encoder = Encoder.build(Spec(family="equiangular", backbone=backbone, dim=16, head_lr_scale=5, ema=0.9))
    encoder.prepare(table, tmp_path)
    encoder.fit(table, Training(max_steps=60, batch_size=32, learning_rate=2e-3), tmp_path / "run", validation=table)
    encoder.finish(table)
    assert encoder.modalities == ("text",)
    assert encoder.evaluate_recognition({"data": table})[0]["top1"] > 0.9
    model_folder.save(encoder, tmp_path / "model")
    stock = SentenceTransformer(str(tmp_path / "model"), device="cpu").encode(tiny.SENTENCES[:5])
    np.testing.assert_allclose(stock, encoder.encode(tiny.SENTENCES[:5]), atol=1e-5)
    np.testing.assert_allclose(zoo.from_pretrained(tmp_path / "model").encode(tiny.SENTENCES[:5]), stock, atol=1e-5)


def test_on_a_pretrained_backbone_the_map_begins_as_a_rotation_that_brings_each_class_to_its_vector(tmp_path):
    backbone = tiny.backbone(tmp_path / "b")
    kinds = [sum(map(ord, sentence.split()[1])) % 3 for sentence in tiny.SENTENCES]
    table = Dataset.from_dict({"text": tiny.SENTENCES, "label": kinds})
    width = towers.build(str(backbone), revision=None, max_length=None, folder=tmp_path).width
    encoder = Encoder.build(Spec(family="equiangular", backbone=backbone, dim=width))
    encoder.prepare(table, tmp_path)
    weight = encoder.project.weight.detach()
    assert torch.allclose(weight @ weight.T, torch.eye(width), atol=1e-5)
    vectors = torch.from_numpy(encoder.encode(tiny.SENTENCES))
    scores = encoder.scored(tiny.SENTENCES)
    means = np.stack([scores[np.array(kinds) == name].mean(0) for name in encoder.classes])
    assert (means.argmax(1) == np.arange(3)).all(), "each class points to its own vector the most"
    features = encoder.features(tiny.SENTENCES)
    centred = torch.nn.functional.normalize(features - features.mean(0), dim=1)
    assert torch.allclose(vectors @ vectors.T, centred @ centred.T, atol=1e-4), "what was near is as near"


def test_procrustes_finds_a_rotation_also_where_classes_are_missing():
    draw = torch.Generator().manual_seed(0)
    vectors = torch.eye(6, 8)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=draw))[0]
    gold = torch.arange(5).repeat(40)  # nothing is known of the last one
    features = (vectors[gold] + 0.02 * torch.randn(200, 8, generator=draw)) @ turn + 3
    weight, bias = procrustes.towards(features, gold, vectors)
    centred = features - features.mean(0)
    torch.testing.assert_close(features @ weight.T + bias, centred @ weight.T, atol=1e-4, rtol=0)
    torch.testing.assert_close((centred @ weight.T).norm(dim=1), centred.norm(dim=1))
    ends = (centred @ weight.T @ vectors.T)[:, :5]
    assert (ends.argmax(1) == gold).all()
    wide = procrustes.towards(features, gold, torch.eye(6, 6))[0]
    torch.testing.assert_close(wide @ wide.T, torch.eye(6), atol=1e-5, rtol=0)


def test_texts_of_like_lengths_together_have_the_features_of_each_alone(tmp_path):
    tower = towers.build(str(tiny.backbone(tmp_path / "b")), revision=None, max_length=None, folder=tmp_path)
    tower.module.eval()
    texts = [" ".join(tiny.SENTENCES[i : i + 1 + i % 5]) for i in range(2 * towers.LIKE + 3)]
    with torch.inference_mode():
        alone = torch.cat([tower.features(tower.batch([text])) for text in texts])
        assert torch.allclose(tower.features(tower.batch(texts)), alone, atol=1e-5)


def test_a_vision_model_of_transformers_is_trained_saved_and_opened_strictly(tmp_path):
    import transformers

    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=16, patch_size=8
    )
    transformers.ViTModel(config).save_pretrained(tmp_path / "vit")
    (tmp_path / "vit" / "preprocessor_config.json").write_text(
        '{"image_mean": [0.1, 0.2, 0.3], "size": {"height": 16}}'
    )
    encoder = Encoder.build(Spec(family="equiangular", backbone=Vision(model="vit"), dim=4), folder=tmp_path)
    assert (encoder.tower.size, encoder.tower.channels) == (16, 3)
    assert encoder.tower.module.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    encoder.prepare(rows(), tmp_path)
    encoder.fit(rows(), Training(max_steps=2, batch_size=8), tmp_path / "run")
    encoder.finish(rows())
    model = model_folder.save(encoder, tmp_path / "model")
    images, _ = stripes(4)
    again = zoo.from_pretrained(model)
    np.testing.assert_allclose(again.encode(images), encoder.encode(images), atol=1e-6)
    honest = json.loads((model / "config.json").read_text())
    for change in (
        {"num_hidden_layers": 10**9},
        {"hidden_size": 10**7},
        {"num_hidden_layers": 3},
        {"model_type": "bert"},
    ):
        (model / "config.json").write_text(json.dumps(honest | change))
        manifest.write(model)
        with pytest.raises(ArtefactError):
            zoo.from_pretrained(model)


def test_what_a_folder_tells_of_its_classes_is_not_believed(model, tmp_path):
    folder = model_folder.save(model, tmp_path / "model")
    honest = json.loads((folder / "config.json").read_text())
    for change in (
        {"classes": []}, {"classes": [0, 0, 1]}, {"classes": [True, 1, 2]}, {"places": [0, 1]}, {"places": [0, 1, 12]},
        {"places": [0, 0, 1]}, {"scale": 0}, {"scale": "1"}, {"threshold": "0"}, {"dim": 10**12}, {"dim": 11}, {"basis": None},
        {"basis": honest["zoo"]["basis"] | {"count": 10**6}}, {"basis": honest["zoo"]["basis"] | {"sha256": "0"}},
        {"tower": {"size": 10**6, "channels": 1}}, {"tower": []}, {"seed": -1},
    ):  # fmt: skip
        (folder / "config.json").write_text(json.dumps({**honest, "zoo": honest["zoo"] | change}))
        manifest.write(folder)
        with pytest.raises(ArtefactError):
            zoo.from_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(honest))
    held = load_file(folder / "classes.safetensors")
    for tensors in (
        {"moments": held["moments"]},
        held | {"generators": held["generators"] * 2},
        held | {"more": torch.ones(1)},
        held | {"moments": held["moments"].double()},
        held | {"moments": held["moments"] * torch.nan},
    ):
        save_file(tensors, folder / "classes.safetensors")
        manifest.write(folder)
        with pytest.raises(ArtefactError):
            zoo.from_pretrained(folder)


def test_a_basis_by_its_seed_is_rebuilt_bit_equal_or_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(basis_search, "STEPS", 60)
    encoder = trained(tmp_path, steps=2, dim=4, capacity=20, basis="seed")
    folder = model_folder.save(encoder, tmp_path / "model")
    assert encoder.basis.method == "orbits"
    assert "generators" not in load_file(folder / "classes.safetensors")
    assert torch.equal(zoo.from_pretrained(folder).basis.rows(), encoder.basis.rows())
    monkeypatch.setattr(basis_search, "STEPS", 61)
    with pytest.raises(ArtefactError, match="differ on this machine"):
        zoo.from_pretrained(folder)
    monkeypatch.setattr(basis_search, "WORK", 1.0)
    with pytest.raises(ArtefactError, match="take too long"):
        zoo.from_pretrained(folder)


def test_what_no_basis_can_be_is_said_before_training(tmp_path):
    for more, message in (({"capacity": 2}, "2 vectors are too few for 3"), ({"dim": 1, "alpha": 0.5}, "Welch bound")):
        encoder = Encoder.build(Spec(family="equiangular", backbone=Vision(**TINY), **{"dim": 12, **more}))
        with pytest.raises(ZooError, match=message):
            encoder.prepare(rows(), tmp_path)
    text = """\
name: x
encoder: {family: equiangular, backbone: {build: resnet, timm: x}, dim: 50, capacity: 100, alpha: 0.05}
data: {source: builtin, name: digits, columns: {image: picture}}
evaluation:
  - {task: recognition, data: {source: file, path: none}}
"""
    with pytest.raises(RecipeError) as caught:
        recipe.loads(text)
    said = "\n".join(caught.value.problems)
    for part in ("give one of build, model and timm", "there is no column 'picture'", "there is no such file"):
        assert part in said
    with pytest.raises(RecipeError, match="cannot be below the Welch bound, 0.1005"):
        recipe.loads(text.replace(", timm: x", ""))
    with pytest.raises(RecipeError, match="`flip` is for images"):
        recipe.loads(text.replace("{build: resnet, timm: x}", "a/b, flip: true"))
    with pytest.raises(RecipeError, match="no classes of its own"):
        recipe.loads(text.replace("family: equiangular", "family: binary-pv"))


def test_a_killed_run_goes_on_to_the_same_weights_average_included(tmp_path):
    def run(folder, steps, interrupt=None):
        spec = Spec(family="equiangular", backbone=Vision(**TINY), dim=12, crop=1, cutmix=1.0, ema=0.9)
        encoder = Encoder.build(spec)
        encoder.prepare(rows(), folder)
        if interrupt:
            honest, count = encoder.loss, iter(range(10**6))
            encoder.loss = lambda batch: (
                honest(batch) if next(count) < interrupt else (_ for _ in ()).throw(KeyboardInterrupt)
            )
        encoder.fit(rows(), Training(max_steps=steps, batch_size=16, learning_rate=0.01, checkpoint_every=4), folder)
        return encoder.encode(stripes(5)[0])

    whole = run(tmp_path / "whole", 12)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", 12, interrupt=6)
    np.testing.assert_array_equal(run(tmp_path / "cut", 12), whole)


def test_a_recipe_over_a_folder_of_images_trains_measures_and_draws(tmp_path):
    from PIL import Image as Picture

    from zoo.build.builder import run

    for part, seed in (("train", 0), ("test", 1)):
        for i, (image, label) in enumerate(zip(*stripes(60, seed=seed), strict=True)):
            path = tmp_path / part / f"class {label}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Picture.fromarray(image).save(path)
    (tmp_path / "train" / "class 1" / "cut.png").write_bytes(
        (tmp_path / "train" / "class 1" / "1.png").read_bytes()[:60]
    )
    text = """\
name: miniature
encoder: {family: equiangular, backbone: {build: resnet, width: 4, blocks: [1], channels: 1, size: 8}, dim: 8,
  train_baseline: true}
data: {source: file, path: train}
validation: 12
training: {max_steps: 20, batch_size: 16, learning_rate: 0.01}
evaluation:
  - {task: image-classification, train: {source: file, path: train, on_bad_row: skip}, data: {source: file, path: test}}
  - {task: image-clustering, data: {source: file, path: test}}
  - task: recognition
    train: {source: file, path: train, on_bad_row: skip}
    data: {source: file, path: test}
    unknown: {source: builtin, name: digits, limit: 50}
"""
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(ZooError, match=r"cut\.png: image: is not an image that Pillow can open"):
        run(zoo.load_recipe(tmp_path / "r.yaml"), tmp_path / "run")
    run(zoo.load_recipe(tmp_path / "r.yaml", "data.on_bad_row=skip"), tmp_path / "run")
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["skipped_rows"].keys() == {"train", "validation", "image-classification/train", "recognition/train"}
    figures = report["results"][2]["figures"]
    assert {"top1", "top5", "knn", "ece", "vector_angle", "within_spread", "ood_auroc", "answered"} <= set(figures)
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    for picture in ("gram", "confusion", "calibration"):
        assert f"plots/{picture}.png" in card
        assert (tmp_path / "run" / "model" / "plots" / f"{picture}.png").stat().st_size > 1000
    for words in ("Softmax twin", "Welch", "photo.jpg", "class 0"):
        assert words in card, words
    assert "A man plays" not in card
    assert zoo.from_pretrained(tmp_path / "run" / "model").card_facts()["twin"]["softmax"]["top1"] >= 0


def test_a_task_of_another_modality_is_refused_before_training(tmp_path):
    from zoo import evaluation

    encoder = Encoder.build(Spec(family="equiangular", backbone=Vision(**TINY), dim=4))
    lines = "".join(json.dumps({"text": w, "label": i % 2}) + "\n" for i, w in enumerate(tiny.WORDS))
    (tmp_path / "t.jsonl").write_text(lines)
    section = {"source": "file", "path": "t.jsonl"}

    from pydantic import TypeAdapter

    from zoo.evaluation.spec import Task

    for told in ({"task": "clustering", "data": section}, {"task": "recognition", "data": section}):
        prepared = evaluation.prepare([TypeAdapter(Task).validate_python(told)], tmp_path)
        with pytest.raises(ZooError, match="holds text, which"):
            evaluation.check_encoder(encoder, prepared)


def test_what_is_no_image_is_refused_with_its_place(model):
    good = stripes(1)[0][0]
    for bad, message in (
        (3, "input 1 is int"), ("nowhere.png", "nowhere.png"), (b"x", "Pillow"), (np.ones((2, 2)), "float64"),
        (np.ones((2, 2, 7), np.uint8), "uint8"), (np.ones((0, 2), np.uint8), "uint8"),
    ):  # fmt: skip
        with pytest.raises(ZooError, match=message):
            model.encode([good, bad])
    for one in ("photo.jpg", b"bytes"):
        with pytest.raises(ZooError, match="list of images"):
            model.encode(one)


def test_an_image_is_the_same_in_every_form(model, tmp_path):
    import io

    from PIL import Image as Picture

    array = stripes(1)[0][0]
    picture = Picture.fromarray(array)
    picture.save(tmp_path / "x.png")
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    forms = [
        array,
        array[..., None],
        picture,
        tmp_path / "x.png",
        str(tmp_path / "x.png"),
        buffer.getvalue(),
        picture.convert("RGB"),
    ]
    vectors = model.encode(forms)
    np.testing.assert_allclose(vectors, np.repeat(vectors[:1], len(forms), 0), atol=1e-6)
    clear = Picture.new("RGBA", (8, 8), (0, 0, 0, 0))
    np.testing.assert_allclose(model.encode([clear]), model.encode([np.full((8, 8), 255, np.uint8)]), atol=1e-6)


def test_a_model_of_timm_where_it_is_installed_and_a_word_where_it_is_not(tmp_path, monkeypatch):
    import sys
    import types

    text = "name: x\nencoder: {family: equiangular, backbone: {timm: tiny}, dim: 4}\ndata: {source: builtin, name: digits}\n"
    if "timm" not in sys.modules:
        with pytest.raises(RecipeError, match="pip install timm"):
            recipe.loads(text)

    def create_model(name, *, pretrained, num_classes):
        assert (name, num_classes) == ("tiny", 0)
        body = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        body.pretrained_cfg = {"input_size": (3, 12, 12), "mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)}
        return body

    monkeypatch.setitem(sys.modules, "timm", types.SimpleNamespace(create_model=create_model, __spec__=object()))
    encoder = Encoder.build(recipe.loads(text).encoder)
    assert (encoder.tower.size, encoder.tower.width, encoder.backbone_name) == (12, 5, "timm/tiny")
    encoder.prepare(rows(), tmp_path)
    encoder.fit(rows(), Training(max_steps=2, batch_size=8), tmp_path / "run")
    encoder.finish(rows())
    again = zoo.from_pretrained(model_folder.save(encoder, tmp_path / "model"))
    images, _ = stripes(4)
    np.testing.assert_allclose(again.encode(images), encoder.encode(images), atol=1e-6)


def test_lines_of_the_command_line_are_paths_of_images(model, tmp_path):
    from PIL import Image as Picture

    from zoo.cli.main import main

    images, _ = stripes(3)
    for i, image in enumerate(images):
        Picture.fromarray(image).save(tmp_path / f"{i}.png")
    model_folder.save(model, tmp_path / "model")
    (tmp_path / "lines").write_text("".join(f"{tmp_path / f'{i}.png'}\n" for i in range(3)))
    out = tmp_path / "out.npy"
    told = [
        "encode",
        str(tmp_path / "model"),
        "--input",
        str(tmp_path / "lines"),
        "--out",
        str(out),
        "--precision",
        "fp32",
    ]
    assert main(told) == 0
    np.testing.assert_allclose(np.load(out), model.encode(images), atol=1e-6)

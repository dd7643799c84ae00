"""Settings, headline, curves and pictures of a card: the facts that its sentences read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from card_claims import RESULT
from card_folders import render_card, write_folder

from zoo import families
from zoo.card import plots, run_record
from zoo.card import settings as card_settings
from zoo.card.loss_plot import draw_loss
from zoo.paragraph_vectors.schedule import Schedule


def settings_of(folder: Path, family: str, **parts: Any) -> dict[str, str]:
    folder = write_folder(folder, family, **parts)
    record = run_record.read(folder)
    spec = families.load_spec(family).model_validate(record.zoo["spec"])
    return dict(card_settings.list_settings(record, spec))


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
    assert not {"training.learning_rate", "training.epochs"} & settings.keys(), "a sentence encoder is not trained"


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
        ("equiangular", {"validation": 0.1}, {"encoder.answer_rate"}, set()),
        ("latent-quantized", {}, {"encoder.levels"}, {"encoder.vectors", "encoder.beta"}),
        ("latent-quantized", {"spec": {"latent": "gaussian"}}, {"encoder.beta"}, {"encoder.levels"}),
        ("vlm2vec", {}, {"encoder.backbone.hidden"}, {"encoder.sub_batch"}),
    ],
)  # fmt: skip
def test_settings_without_effect_are_not_listed(family, parts, present, absent, tmp_path):
    settings = settings_of(tmp_path / "model", family, **parts)
    assert present <= settings.keys()
    assert not absent & settings.keys()


def test_automatic_precision_is_listed_with_what_it_meant(tmp_path):
    assert (
        settings_of(tmp_path / "model", "static", lock={"precision": "bfloat16"})["training.precision"]
        == "auto (bfloat16)"
    )


# -- results and pictures ----------------------------------------------------------------------------------------------


def test_the_headline_of_a_code_model_is_the_score_of_its_codes(tmp_path):
    codes = RESULT | {"value": 0.5, "bytes_per_vector": 16}
    real = RESULT | {"value": 0.75, "bytes_per_vector": 1200, "view": {"real": True}}
    for number, results in enumerate(([codes, real], [real, codes])):
        text = render_card(tmp_path / str(number), "binary-pv", results=results)
        assert "this model scores **0.5000**" in text
        assert "smallest measured cut" not in text


def test_phases_with_different_losses_are_different_curves(tmp_path):
    lines = [{"step": step, "loss": loss, "phase": phase} for step, loss, phase in (
        (1, 9.0, "vectors"), (2, 8.0, "vectors"), (3, 0.0, "settling"), (4, 3.0, "codes"), (5, 2.0, "codes"))]  # fmt: skip
    record = run_record.read(write_folder(tmp_path / "model", "binary-pv", metrics=lines))
    assert record.training == []
    assert {name: [step for step, _ in points] for name, points in record.phases.items()} == {
        "vectors": [1, 2],
        "settling": [3],
        "codes": [4, 5],
    }
    figure = draw_loss(record)
    assert [line.get_label() for line in figure.axes[0].lines if not line.get_label().startswith("_")] == [
        "training of vectors",
        "training of codes",
    ]
    assert figure.axes[0].get_xlabel() == "block of documents"


def test_the_phases_of_a_schedule_have_names():
    schedule = Schedule(documents=4, words=40, epochs=2, settle_epochs=1, code_epochs=1)
    assert [schedule.name_phase(step) for step in range(schedule.steps)] == ["vectors", "vectors", "settling", "codes"]


@pytest.mark.parametrize(
    ("training", "validation", "curves"), [(1, 0, None), (1, 1, None), (1, 2, 1), (2, 1, 1), (2, 2, 2)]
)
def test_a_curve_of_a_single_point_is_not_drawn(training, validation, curves, tmp_path):
    lines = [{"step": i + 1, "loss": 1.0} for i in range(training)]
    lines += [{"step": i + 1, "validation_loss": 1.0} for i in range(validation)]
    figure = draw_loss(run_record.read(write_folder(tmp_path / "model", "static", metrics=lines)))
    assert (figure is None) == (curves is None)
    if figure is not None:
        assert len(figure.axes[0].get_legend().get_texts()) == curves


@pytest.mark.parametrize(("losses", "scores", "panels"), [(0, 1, None), (0, 2, 1), (2, 1, 1), (2, 2, 2)])
def test_the_score_of_validation_tasks_has_a_panel_of_its_own(losses, scores, panels, tmp_path):
    lines = [{"step": i + 1, "loss": 1.0} for i in range(losses)]
    lines += [{"step": i + 1, "validation_score": 1.0} for i in range(scores)]
    figure = draw_loss(run_record.read(write_folder(tmp_path / "model", "static", metrics=lines)))
    assert (figure is None) == (panels is None)
    if figure is not None:
        assert len(figure.axes) == panels


def describe(*values):
    return {"report": {"results": [RESULT | {"details": dict(zip(values[::2], values[1::2], strict=True))}]}}


GRID = [RESULT | {"view": {"layers": layers, "dim": dim}} for layers in (1, 2) for dim in (4, 8)]
MAP = {"labels": [[0, 0], [1, 1]], "documents": [[0, 1, 0], [1, 0, 1]]}
QUERY = {"query": {"text": "a"}, "found": [{"text": "b", "right": True}]}
PICTURES: dict[tuple[str, str], tuple[dict[str, Any], dict[str, Any] | None]] = {
    # the parts with which the picture would be empty or have one point, and those with which it is drawn
    ("static", "grid"): ({"results": [result | {"value": None} for result in GRID[1:]] + GRID[:1]}, {"results": GRID}),
    ("static", "quality-speed"): (
        {"results": [RESULT, RESULT | {"view": {"dim": 4}}]},
        {"results": [RESULT, RESULT | {"view": {"dim": 4}, "sentences_per_second": 20.0}]},
    ),
    ("static", "loss"): (
        {"metrics": [{"step": 1, "loss": 1.0}]},
        {"metrics": [{"step": i, "loss": 1.0} for i in (1, 2)]},
    ),
    ("static", "health"): (
        {"metrics": [{"step": 1, "space": {"rankme": 1.0}}]},
        {"metrics": [{"step": i, "space": {"rankme": 1.0}} for i in (1, 2)]},
    ),
    ("equiangular", "gram"): (
        {"facts": {"gram": [[1, 0], [0, 1]]}},
        {"facts": {"gram": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}},
    ),
    ("equiangular", "confusion"): (
        describe("confusion", [[2]], "classes", ["a"]),
        describe("confusion", [[2, 1], [0, 3]], "classes", ["a", "b"]),
    ),
    ("equiangular", "calibration"): (
        describe("calibration", [[0.9, 1.0, 3]]),
        describe("calibration", [[0.5, 0.5, 3], [0.9, 1.0, 3]]),
    ),
    ("latent-quantized", "nmi"): (
        describe("nmi", [[0.5]], "sources", ["s"], "active", [True]),
        describe("nmi", [[0.5, 0.1]], "sources", ["s"], "active", [True, True]),
    ),
    ("latent-quantized", "codebook"): (
        {"facts": {"values": [[0.5]], "usage": [[1.0]]}},
        {"facts": {"values": [[0.5, 1.0]], "usage": [[0.5, 0.5]]}},
    ),
    ("latent-quantized", "traversal"): ({"facts": {"traversal": ""}}, None),
    ("latent-quantized", "reconstructions"): ({"facts": {"pairs": ""}}, None),
    ("lbl2vec", "topics"): (
        {"facts": {"topics": [{"label": "a"}, {"label": "b"}], "map": MAP | {"documents": [[0, 1, 0]]}}},
        {"facts": {"topics": [{"label": "a"}, {"label": "b"}], "map": MAP}},
    ),
    ("sesa", "deletion"): (
        {"facts": {"deletion": {"explained": [1.0], "random": [1.0]}}},
        {"facts": {"deletion": {"explained": [1.0, 0.5], "random": [1.0, 0.8]}}},
    ),
    ("vlm2vec", "retrieved"): (describe("retrieved", []), describe("retrieved", [QUERY])),
}


@pytest.mark.parametrize(("family", "name"), PICTURES)
def test_a_picture_that_would_be_empty_or_have_one_point_is_not_drawn(family, name, tmp_path):
    point, whole = PICTURES[family, name]
    draw = plots.list_pictures(families.load_spec(family))[name].draw
    for number, parts in enumerate([{}, point]):
        if name != "loss" or parts:
            assert draw(run_record.read(write_folder(tmp_path / str(number), family, **parts))) is None
    if whole is not None:
        assert draw(run_record.read(write_folder(tmp_path / "whole", family, **whole))) is not None


def test_every_picture_of_every_family_is_among_them():
    of_families = {(family, name) for family in families.names() for name in families.load_spec(family).pictures}
    assert of_families <= PICTURES.keys()

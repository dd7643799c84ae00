"""A run of a recipe whose encoder only records its calls."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from zoo import families
from zoo.artefact import model_folder
from zoo.build import builder
from zoo.build.run_folder import RunFolder
from zoo.families.static.spec import Spec
from zoo.recipe.recipe import Recipe

DATA = {"source": "file", "path": "pairs.jsonl"}


class FakeEncoder:
    """An encoder that records its calls."""

    spec = SimpleNamespace(recognises=False, family="static")
    modalities, rows_seen, finish_trains = ("text",), 7, False

    def __init__(self, calls, backbone):
        self.calls = calls
        self.backbone_name, self.backbone_revision = backbone
        self.chosen = {"training.early_stop": None}

    def view(self, **options):
        self.calls.append(("view", options))

    def prepare(self, rows, cache):
        self.calls.append(("prepare", len(rows), cache))

    def fit(self, rows, training, out, **options):
        (out / "checkpoints").mkdir()
        self.calls.append(("fit", len(rows), training, out, options))
        return 2.5

    def finish(self, rows):
        self.calls.append(("finish", len(rows)))


@pytest.fixture
def calls():
    return []


@pytest.fixture
def build(tmp_path, monkeypatch, calls):
    """Return a run of a recipe in a new folder, whose encoder records its calls."""

    class Family:
        backbone = ("", "")

        @classmethod
        def build(cls, spec, **options):
            calls.append(("build", spec.family, options))
            return FakeEncoder(calls, cls.backbone)

    def make(backbone=("", ""), finish_trains=False, training=(), **sections):
        Family.backbone, FakeEncoder.finish_trains = backbone, finish_trains
        recipe = Recipe[Spec](
            name="tiny",
            encoder={"family": "static", "backbone": "backbone"},
            data=DATA,
            training={"seed": 7, "max_steps": 3, "precision": "fp32", **dict(training)},
            evaluation=[{"task": "sts", "data": DATA}],
            **sections,
        )
        recipe._folder = tmp_path / "recipes"
        (tmp_path / "run").mkdir(exist_ok=True)
        return builder._Build(recipe, RunFolder(tmp_path / "run"), calls.append, True, calls.append)

    def save(encoder, folder, **options):
        calls.append(("save", encoder.name, folder, options))

    monkeypatch.setattr(families, "load_encoder", {"static": Family}.get)
    monkeypatch.setattr(model_folder, "save", save)
    return make

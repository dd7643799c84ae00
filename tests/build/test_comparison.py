"""How a reproduction compares scores, versions, machines and data, without any training."""

from __future__ import annotations

import json
import platform
from importlib import metadata

import pytest

from zoo.artefact import manifest
from zoo.build import environment, reproduction
from zoo.build.reproduction import Figure, Reproduction
from zoo.card.run_record import Record
from zoo.core import confinement
from zoo.core.errors import AcceptanceError, ArtefactError, ZooError
from zoo.schema import Training


def make_report(*scores):
    keys = ("task", "view", "metric", "value")
    return {"results": [dict(zip(keys, score, strict=True)) for score in scores]}


def test_scores_are_compared_by_task_view_and_metric():
    there = make_report(
        ("a", {"dim": 8, "layers": 2}, "ap", 0.5), ("a", {}, "ap", 0.7), ("b", {}, "f1", 0.1), ("c", {}, "ap", None)
    )
    here = make_report(("b", {}, "ap", 0.1), ("a", {}, "ap", None), ("a", {"layers": 2, "dim": 8}, "ap", 0.504))
    assert reproduction._compare_scores(there, here, 0.01) == (
        Figure("a", {"dim": 8, "layers": 2}, "ap", 0.5, 0.504, 0.01),
        Figure("a", {}, "ap", 0.7, None, 0.01),
        Figure("b", {}, "f1", 0.1, None, 0.01),
    )


@pytest.mark.parametrize(
    ("here", "tolerance", "within"),
    [
        (0.75, 0.25, True),
        (0.25, 0.25, True),
        (0.7501, 0.25, False),
        (0.2499, 0.25, False),
        (0.5, 0, True),
        (None, 9, False),
    ],
)
def test_scores_agree_within_the_tolerance(here, tolerance, within):
    assert Figure("a", {}, "ap", 0.5, here, tolerance).within is within


def make_reproduction(figures, same_data=True):
    return Reproduction("me/a", "c0ffee", ("torch 1 there, 2 here",), same_data, tuple(figures), same_weights=False)


def test_a_model_is_reproduced_if_data_and_all_scores_agree(tmp_path):
    good, bad = Figure("a", {}, "ap", 0.5, 0.5, 0), Figure("b", {"dim": 8}, "ap", 0.5, 0.6, 0)
    assert make_reproduction([good]).reproduced
    assert not make_reproduction([good, bad]).reproduced
    assert not make_reproduction([good], same_data=False).reproduced
    reproduction._write_summary(make_reproduction([good, bad]), tmp_path / "r.json")
    summary = json.loads((tmp_path / "r.json").read_text())
    assert summary.pop("figures") == [
        {"task": "a", "view": {}, "metric": "ap", "there": 0.5, "here": 0.5, "tolerance": 0, "within": True},
        {"task": "b", "view": {"dim": 8}, "metric": "ap", "there": 0.5, "here": 0.6, "tolerance": 0, "within": False},
    ]
    assert summary == {
        "format": 1,
        "model": "me/a",
        "revision": "c0ffee",
        "differences": ["torch 1 there, 2 here"],
        "same_data": True,
        "same_weights": False,
        "reproduced": False,
    }


def test_other_versions_and_machines_are_listed(monkeypatch):
    host = {"cpu": "x", "cores": 2, "device": "cpu", "memory": 1}
    monkeypatch.setattr(reproduction, "describe_host", lambda: host)
    monkeypatch.setattr(reproduction, "list_packages", lambda: {"torch": "2", "numpy": "1"})
    lock = {
        "packages": {"torch": "2", "numpy": "1" * 50, "gone": "3"},
        "host": {"cpu": "y" * 70, "cores": 2, "device": "cpu"},
    }
    assert list(reproduction._list_environment_differences(lock)) == [
        f"numpy {'1' * 40} there, 1 here",
        "gone 3 there, not installed here",
        f"cpu {'y' * 60} there, x here",
    ]
    assert list(reproduction._list_environment_differences({})) == [
        "cpu None there, x here",
        "cores None there, 2 here",
        "device None there, cpu here",
    ]


def test_other_missing_and_further_data_is_listed_by_name():
    there = {
        "train": {"fingerprint": "a" * 64},
        "gone": {"fingerprint": "b" * 64},
        "same": {"fingerprint": "c"},
        "odd": 3,
    }
    here = {"train": {"fingerprint": "d" * 64}, "more": {"fingerprint": "e" * 64}, "same": {"fingerprint": "c"}}
    assert list(reproduction._list_data_differences(there, here)) == [
        f"data gone: sha256 {'b' * 12} there, None here",
        f"data more: sha256 None there, {'e' * 12} here",
        f"data train: sha256 {'a' * 12} there, {'d' * 12} here",
    ]


@pytest.mark.parametrize(
    ("recipe", "lock", "scores", "message"),
    [
        ("", {}, True, "has no recipe.yaml and no lock.json, so there is nothing"),
        ("name: a", {}, True, "has no lock.json, so there is nothing"),
        ("name: a", {"data": {}}, False, "has no scores in report.json, so there is nothing"),
    ],
)
def test_a_model_without_a_part_of_its_record_is_refused(recipe, lock, scores, message):
    report = make_report(("a", {}, "ap", 0.5 if scores else None))
    record = Record.__new__(Record)
    for name, value in (("recipe_text", recipe), ("lock", lock), ("report", report)):
        object.__setattr__(record, name, value)
    with pytest.raises(ArtefactError, match=f"me/a: {message}"):
        reproduction._check_record(record, "me/a")


@pytest.mark.parametrize("tolerance", [-0.1, float("nan")])
def test_a_tolerance_is_0_or_more(tmp_path, tolerance):
    with pytest.raises(ZooError, match=f"the tolerance is {tolerance}; give a difference of scores, 0 or more"):
        reproduction.reproduce("me/a", tmp_path, tolerance=tolerance)
    assert reproduction.TOLERANCE == 0.005


def test_the_packages_of_a_run_are_listed_with_python_and_those_that_are_missing_are_left_out(monkeypatch):
    packages = environment.list_packages()
    assert packages["python"] == platform.python_version()
    needed = (
        "embedding-zoo torch transformers sentence-transformers datasets mteb numpy tokenizers accelerate safetensors"
    )
    assert packages == {"python": packages["python"]} | {name: metadata.version(name) for name in needed.split()}
    monkeypatch.setattr(environment, "PACKAGES", ("numpy", "no-such-package"))
    assert list(environment.list_packages()) == ["python", "numpy"]


def test_the_training_of_a_reproduction_is_not_published_and_a_missed_score_is_compared(tmp_path, monkeypatch):
    runs, lines = [], []

    def run(recipe, out, **options):
        runs.append((recipe, out, options.pop("say"), options.pop("show_progress")))
        options.pop("before_training")({"train": {"fingerprint": "a" * 64}})
        assert not options
        raise AcceptanceError("too low")

    class FakeRecipe:
        training = Training(seed=7, report=("wandb",))

        def model_copy(self, update):
            return update

    monkeypatch.setattr(reproduction.builder, "run", run)
    monkeypatch.setattr(reproduction, "_list_environment_differences", lambda lock: lock["environment"])
    lock = {"environment": ["torch 1 there, 2 here"], "data": {"train": {"fingerprint": "b" * 64}}}
    found = reproduction._train(FakeRecipe(), tmp_path, lock, lines.append, True)
    data_line = f"data train: sha256 {'b' * 12} there, {'a' * 12} here"
    assert found == (["torch 1 there, 2 here"], [data_line])
    assert lines == ["differs: torch 1 there, 2 here", f"differs: {data_line}"]
    unreported = {"publish": None, "training": Training(seed=7)}
    assert runs == [(unreported, tmp_path, runs[0][2], True)]
    lines.clear()
    same = {"environment": [], "data": {"train": {"fingerprint": "a" * 64}}}
    assert reproduction._train(FakeRecipe(), tmp_path, same, lines.append, False) == ([], [])
    assert lines == ["nothing differs: the same data, versions and kind of machine"]


# -- the whole reproduction, without its training ----------------------------------------------------------------------


def write_model(folder, value, weights=b"weights"):
    """Write the files of a model folder that a reproduction reads."""
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("name: tiny\n")
    (folder / "lock.json").write_text('{"data": {}}')
    (folder / "report.json").write_text(json.dumps(make_report(("a", {}, "ap", value))))
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "notes.json").write_text(str(value))
    manifest.write(folder)
    return folder


@pytest.fixture
def reproduce(tmp_path, monkeypatch):
    """Reproduce a model with a training that gives a score and weights. Return the result and what was passed on."""
    passed = []

    def reproduce_model(reference, value, weights=b"weights", data_differences=(), **options):
        def load(text, **given):
            passed.append((text, given, confinement.get_folder()))
            return "the recipe"

        def train(to_train, out, lock, say, show_progress):
            passed.append((to_train, out, lock, say, show_progress, confinement.get_folder()))
            write_model(out / "model", value, weights)
            (out / "report.json").write_text((out / "model" / "report.json").read_text())
            return ["torch 1 there, 2 here"], list(data_differences)

        passed.clear()
        monkeypatch.setattr(reproduction.recipe, "loads", load)
        monkeypatch.setattr(reproduction, "_train", train)
        out = tmp_path / f"again{len(list(tmp_path.iterdir()))}"
        return reproduction.reproduce(reference, out, data=tmp_path, **options), passed, out

    return reproduce_model


def test_a_folder_is_trained_again_and_its_scores_weights_and_data_are_compared(reproduce, tmp_path):
    model = write_model(tmp_path / "model", 0.5)
    found, passed, out = reproduce(str(model), 0.504)
    assert found.figures == (Figure("a", {}, "ap", 0.5, 0.504, 0.005),)
    assert (found.model, found.revision, found.same_weights, found.same_data) == (str(model), "", True, True)
    assert (found.differences, found.reproduced) == (("torch 1 there, 2 here",), True)
    given = {"folder": tmp_path, "file": f"{model}/recipe.yaml", "confined": False}
    assert passed[0] == ("name: tiny\n", given, None)
    assert passed[1][:3] == ("the recipe", out, {"data": {}})
    assert passed[1][4:] == (False, None)
    assert json.loads((out / "reproduction.json").read_text())["reproduced"] is True
    found, passed, _ = reproduce(
        str(model), 0.52, b"others", ["data a: sha256"], tolerance=0.1, say=print, show_progress=True
    )
    assert (found.same_weights, found.same_data, found.reproduced) == (False, False, False)
    assert found.differences == ("torch 1 there, 2 here", "data a: sha256")
    assert found.figures[0].within
    assert passed[1][3:5] == (print, True)


def test_a_model_of_the_hub_is_fetched_at_its_revision_and_confined_to_the_data(reproduce, tmp_path, monkeypatch):
    fetched = []
    snapshot = write_model(tmp_path / "snapshots" / "c0ffee", 0.5)
    monkeypatch.setattr(reproduction, "fetch", lambda *inputs: fetched.append(inputs) or snapshot)
    found, passed, _ = reproduce("me/tiny", 0.5, revision="main")
    assert fetched == [("me/tiny", "main")]
    assert (found.model, found.revision) == ("me/tiny", "c0ffee")
    given = {"folder": tmp_path, "file": "me/tiny/recipe.yaml", "confined": True}
    assert passed[0] == ("name: tiny\n", given, tmp_path)
    assert passed[1][5] == tmp_path, "also while the data is read"
    assert confinement.get_folder() is None


def test_a_damaged_model_is_not_reproduced(reproduce, tmp_path):
    model = write_model(tmp_path / "model", 0.5)
    (model / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ArtefactError):
        reproduce(str(model), 0.5)

"""A run folder belongs to one recipe, one set of data and one process, and notes what each stage was made from."""

from __future__ import annotations

import errno
import os

import pytest
import tiny
import tiny_run

import zoo
from zoo.build import run_folder
from zoo.build.run_folder import RunFolder, link_weights
from zoo.core import atomic_files
from zoo.core.errors import DataError, ZooError


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run-folder")
    tiny.backbone(folder / "backbone")
    (folder / "pairs.jsonl").write_text('{"a": "the dog", "b": "a cat", "gold": 1}\n')
    tiny_run.recipe(folder)
    return folder


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    return RunFolder(tmp_path / "run")


def claim(place, folder, *overrides):
    recipe = zoo.load_recipe(place / "recipe.yaml", *overrides)
    folder.claim(recipe)
    (folder.path / "recipe.yaml").write_text(recipe.dump())


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("card.summary=Another.", "on_overlap=drop", "publish.repo=me/tiny", "evaluation=[]"),
        ("evaluation.0.name=x",),
    ],
)
def test_a_folder_accepts_its_recipe_with_other_tasks_another_card_and_another_place(place, folder, overrides):
    claim(place, folder)
    claim(place, folder, *overrides)


@pytest.mark.parametrize(
    ("override", "difference"),
    [
        ("training.seed=7", "training.seed: 42 there, 7 here"),
        ("name=other", "name: 'tiny' there, 'other' here"),
        ("encoder.dims=[8]", r"encoder.dims: \[8, 16\] there, \[8\] here"),
        ("data.limit=9", "data.limit: None there, 9 here"),
        ("validation=null", r"validation: 16\S* there, None here"),
    ],
)
def test_a_folder_refuses_another_recipe_and_names_the_first_difference(place, folder, override, difference):
    claim(place, folder)
    with pytest.raises(
        ZooError, match=rf"run holds the run of another recipe \(({difference})\); choose another --out"
    ):
        claim(place, folder, override)


def test_a_recipe_whose_data_is_gone_is_still_compared(place, folder):
    claim(place, folder)
    text = (folder.path / "recipe.yaml").read_text()
    (folder.path / "recipe.yaml").write_text(text.replace("path: pairs.jsonl", "path: gone.jsonl"))
    with pytest.raises(ZooError, match=r"holds the run of another recipe \(data.*gone"):
        claim(place, folder)


def test_only_an_empty_folder_or_one_with_a_lock_and_a_cache_is_taken(place, folder):
    (folder.path / ".lock").touch()
    (folder.path / "cache").mkdir()
    (folder.path / f"{atomic_files.TEMPORARY}report.json").touch()
    recipe = zoo.load_recipe(place / "recipe.yaml")
    folder.claim(recipe)
    assert sorted(path.name for path in folder.path.iterdir()) == [".lock", "cache"], "half a file is removed"
    (folder.path / "notes.txt").touch()
    with pytest.raises(ZooError, match="run is not empty, and zoo did not make it; choose another --out"):
        folder.claim(recipe)


def test_data_with_another_fingerprint_is_refused_and_further_data_is_not(folder):
    def lock(**digits):
        return {name: {"fingerprint": digit * 64} for name, digit in digits.items()}

    folder.check_data(lock(train="a", validation="b"))
    assert atomic_files.read_json(folder.path / "lock.json") == {"format": 1, "data": lock(train="a", validation="b")}
    folder.check_data(lock(train="a", validation="b", sts="c"))
    folder.check_data(lock(train="a"))
    with pytest.raises(
        ZooError, match="the validation data is not what this run began with .sha256 b{12}…, now d{12}…"
    ):
        folder.check_data(lock(train="a", validation="d"))


def test_the_output_of_a_stage_counts_only_if_it_exists_and_was_made_from_the_same_inputs(folder):
    assert not folder.is_made_from("trained", "a")
    folder.note("trained", "a")
    assert not folder.is_made_from("trained", "a"), "its output does not exist"
    (folder.path / "trained").mkdir()
    assert folder.is_made_from("trained", "a")
    assert not folder.is_made_from("trained", "b")
    folder.note("model", "c")
    assert folder.is_made_from("trained", "a"), "a note of another stage changes nothing"
    folder.note("trained", "b")
    assert not folder.is_made_from("trained", "a")
    (folder.path / "stages.json").unlink()
    assert not folder.is_made_from("trained", "b")


def test_one_process_at_a_time_has_the_folder(tmp_path):
    folder = RunFolder(tmp_path / "new" / "run")
    for _ in range(2):
        with folder.lock():
            assert folder.path.is_dir()
            with pytest.raises(ZooError, match="run: another process is working in this run folder"), folder.lock():
                pass


def test_only_errors_of_the_disk_are_explained(folder):
    for error in (OSError(errno.ENOSPC, "full"), RuntimeError("I/O error: full (os error 28)")):
        message = f"{folder.path}: No space left on device: make room .*goes on"
        with pytest.raises(ZooError, match=message), folder.explain_disk_errors():
            raise error
    for error in (KeyError("a"), OSError(errno.ENOENT, "gone"), DataError("row 1")):
        with pytest.raises(type(error)) as caught, folder.explain_disk_errors():
            raise error
        assert caught.value is error


def test_weights_are_linked_and_other_files_and_weights_on_another_disk_are_copied(tmp_path, monkeypatch):
    for name in ("a.safetensors", "a.json"):
        (tmp_path / name).write_text("x")
        link_weights(str(tmp_path / name), str(tmp_path / f"copy-{name}"))
    assert (tmp_path / "copy-a.safetensors").stat().st_ino == (tmp_path / "a.safetensors").stat().st_ino
    assert (tmp_path / "copy-a.json").stat().st_ino != (tmp_path / "a.json").stat().st_ino
    assert (tmp_path / "copy-a.json").read_text() == "x"

    def refuse(source, target):
        raise OSError(errno.EXDEV, "another disk")

    monkeypatch.setattr(os, "link", refuse)
    os.utime(tmp_path / "a.safetensors", (1, 1))
    link_weights(str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors"))
    assert (tmp_path / "b.safetensors").stat().st_ino != (tmp_path / "a.safetensors").stat().st_ino
    assert (tmp_path / "b.safetensors").stat().st_mtime == 1


def test_differences_are_those_of_the_innermost_entries():
    before, now = {"a": {"b": 1, "c": [1]}, "d": {"e": 1}, "f": 2}, {"a": {"b": 1, "c": [2]}, "d": 3, "g": 4}
    assert list(run_folder._compare(before, now, "x")) == [
        "x.a.c: [1] there, [2] here",
        "x.d: {'e': 1} there, 3 here",
        "x.f: 2 there, None here",
        "x.g: None there, 4 here",
    ]

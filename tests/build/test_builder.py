"""A run can be killed at any point and resumed. It refuses another recipe, and does nothing if it is finished."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import full_disks
import pytest
import tiny
from forked_commands import Command
from tiny_run import finish, recipe, train

import zoo
from zoo.build import builder
from zoo.core import atomic_files
from zoo.core.errors import AcceptanceError, ZooError
from zoo.recipe import recipe as recipes


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("builder")
    tiny.backbone(folder / "backbone")
    with (folder / "pairs.jsonl").open("w") as file:
        for i, text in enumerate(tiny.SENTENCES):
            other = tiny.SENTENCES[(i + 1) % 120] if i % 2 else text + " acute"
            file.write(json.dumps({"a": text, "b": other, "gold": float(i % 6)}) + "\n")
    recipe(folder)
    return folder


@pytest.fixture(scope="module")
def whole_run(place) -> Path:
    out = place / "whole"
    finish(train(place / "recipe.yaml", out))
    return out


def wait_for(process: Command, path: Path) -> None:
    """Wait until `path` exists, the process ends or two minutes pass."""
    deadline = time.monotonic() + 120
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)


def test_the_run_folder_has_every_file_that_reproduces_the_model(place, whole_run):
    for name in (
        "recipe.yaml",
        "lock.json",
        "metrics.jsonl",
        "report.json",
        "model/README.md",
        "model/manifest.json",
        "model/modules.json",
    ):
        assert (whole_run / name).is_file(), name
    report = json.loads((whole_run / "report.json").read_text())
    assert [r["view"] for r in report["results"]] == [{"layers": 3, "dim": 32}, {"layers": 2, "dim": 8}]
    assert all(r["baseline"] is not None and r["seconds"] > 0 for r in report["results"])
    lock = json.loads((whole_run / "lock.json").read_text())
    assert lock["data"]["train"]["rows"] == 80
    assert lock["data"]["validation"]["rows"] == 16
    written = (whole_run / "recipe.yaml").read_text()
    assert recipes.loads(written, folder=place).dump() == written
    lines = [json.loads(line) for line in (whole_run / "metrics.jsonl").read_text().splitlines()]
    assert {"loss", "learning_rate", "seconds"} <= set(lines[0])
    assert any("validation_loss" in line for line in lines)


def test_a_run_that_was_killed_three_times_gives_the_same_weights(place, whole_run):
    out = place / "killed"
    signs_of_progress = ["checkpoints/checkpoint-3/complete.json", "checkpoints/checkpoint-12", "trained"]
    for sign in signs_of_progress:
        process = train(place / "recipe.yaml", out)
        wait_for(process, out / sign)
        process.send_signal(signal.SIGKILL)
        process.wait()
    finish(train(place / "recipe.yaml", out))
    for name in ("model.safetensors", "1_Pooling/config.json"):
        assert atomic_files.sha256(out / "model" / name) == atomic_files.sha256(whole_run / "model" / name)
    scores = [[r["value"] for r in json.loads((f / "report.json").read_text())["results"]] for f in (out, whole_run)]
    assert scores[0] == scores[1]
    steps = [[json.loads(x)["step"] for x in (f / "metrics.jsonl").read_text().splitlines()] for f in (out, whole_run)]
    assert steps[0] == steps[1]
    assert not list(out.glob(f"{atomic_files.TEMPORARY}*"))


def test_a_finished_run_changes_no_file_and_says_so(place, whole_run):
    before = {p: p.stat().st_mtime_ns for p in (whole_run / "model").rglob("*")}
    messages: list[str] = []
    builder.run(zoo.load_recipe(place / "recipe.yaml"), whole_run, say=messages.append)
    assert any("nothing to do" in line for line in messages)
    assert before == {p: p.stat().st_mtime_ns for p in (whole_run / "model").rglob("*")}


def test_a_folder_of_another_recipe_or_of_another_program_is_refused(place, whole_run, tmp_path):
    other = zoo.load_recipe(place / "recipe.yaml", "training.epochs=7")
    with pytest.raises(ZooError, match=r"training.epochs: 6.0 there, 7.0 here"):
        zoo.train(other, whole_run)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ZooError, match="zoo did not make it"):
        zoo.train(zoo.load_recipe(place / "recipe.yaml"), tmp_path)
    assert [p.name for p in tmp_path.iterdir() if p.name != ".lock"] == ["thesis.txt"]


def test_a_run_folder_that_a_bad_row_stopped_accepts_the_recipe_that_skips_the_row(place, tmp_path):
    for name in ("pairs.jsonl", "recipe.yaml"):
        (tmp_path / name).write_text((place / name).read_text())
    (tmp_path / "backbone").symlink_to(place / "backbone")
    with (tmp_path / "pairs.jsonl").open("a") as file:
        file.write('{"a": "", "b": "the dog", "gold": 1.0}\n')
    (tmp_path / "more.jsonl").write_text('{"text": "a dog"}\n{"text": ""}\n{"text": "a cat"}\n{"text": "a rash"}\n')
    more = "encoder.teacher={unlabelled: {source: file, path: more.jsonl, on_bad_row: skip}}"
    options = ("training.max_steps=1", "evaluation=[]", "validation=null", more)
    with pytest.raises(ZooError, match=r"row 121.*sentence1: is empty"):
        zoo.train(zoo.load_recipe(tmp_path / "recipe.yaml", *options), tmp_path / "run")
    zoo.train(zoo.load_recipe(tmp_path / "recipe.yaml", *options, "data.on_bad_row=skip"), tmp_path / "run")
    locked = atomic_files.read_json(tmp_path / "run" / "lock.json")["data"]
    assert {name: (entry["rows"], entry["skipped"]) for name, entry in locked.items()} == {
        "train": (96, 1),
        "unlabelled": (3, 1),
    }
    assert atomic_files.read_json(tmp_path / "run" / "report.json")["skipped_rows"] == {"train": 1, "unlabelled": 1}
    (tmp_path / "more.jsonl").write_text('{"text": "another dog"}\n')
    with pytest.raises(ZooError, match="unlabelled data is not what this run began with"):
        zoo.train(zoo.load_recipe(tmp_path / "recipe.yaml", *options, "data.on_bad_row=skip"), tmp_path / "run")


def test_a_missed_at_least_is_an_error_after_everything_is_written(place, whole_run):
    path = recipe(place, "strict.yaml")
    loaded = zoo.load_recipe(path, "evaluation.0.at_least=1.0")
    weights = atomic_files.sha256(whole_run / "trained" / "model.safetensors")
    with pytest.raises(AcceptanceError, match="sts"):
        zoo.train(loaded, whole_run)
    assert atomic_files.sha256(whole_run / "model" / "model.safetensors") == weights, (
        "only the evaluation was done again"
    )
    assert "at_least" in (whole_run / "report.json").read_text()


def test_results_of_a_task_that_left_the_recipe_leave_the_run_folder_and_the_model(place, tmp_path):
    run_folder = tmp_path / "run"
    for name in ("first", "second"):
        options = ("training.max_steps=1", "validation=null", f"evaluation.0.name={name}", "evaluation.0.views=[{}]")
        zoo.train(zoo.load_recipe(place / "recipe.yaml", *options), run_folder)
        for results in (run_folder / "results", run_folder / "model" / "results"):
            assert [path.name for path in results.iterdir()] == [f"{name}__whole.json"]


def test_a_run_refuses_to_resume_on_changed_data(place, tmp_path):
    for name in ("pairs.jsonl", "recipe.yaml"):
        (tmp_path / name).write_text((place / name).read_text())
    (tmp_path / "backbone").symlink_to(place / "backbone")
    loaded = zoo.load_recipe(tmp_path / "recipe.yaml", "training.max_steps=2", "evaluation=[]")
    zoo.train(loaded, tmp_path / "run")
    lines = (tmp_path / "pairs.jsonl").read_text().splitlines()
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines[1:]) + "\n")
    with pytest.raises(ZooError, match="train data is not what this run began with"):
        zoo.train(loaded, tmp_path / "run")


def test_a_loss_that_is_not_finite_stops_the_training_and_names_the_step(place, tmp_path):
    from zoo.families import load_encoder
    from zoo.training import trainer

    loaded = zoo.load_recipe(place / "recipe.yaml")
    family = load_encoder("matryoshka-2d")
    encoder = family.build(loaded.encoder, folder=place)
    compute_loss = encoder.loss
    encoder.loss = lambda batch: compute_loss(batch) * (float("nan") if encoder.step == 4 else 1.0)
    from datasets import Dataset

    rows = Dataset.from_list([{"sentence1": "the dog", "sentence2": "a cat", "score": i / 20} for i in range(40)])
    with pytest.raises(ZooError, match="nan at step 5"):
        trainer.fit(encoder, rows, loaded.training.model_copy(update={"batch_size": 8}), tmp_path)


@pytest.mark.slow
def test_signals_a_second_process_changed_data_and_a_jumping_clock_do_not_change_the_weights(
    place, whole_run, tmp_path
):
    """One run suffers all of these and ends with the weights of the undisturbed run."""
    for name in ("pairs.jsonl", "recipe.yaml"):
        (tmp_path / name).write_text((place / name).read_text())
    (tmp_path / "backbone").symlink_to(place / "backbone")
    out, path = tmp_path / "run", tmp_path / "recipe.yaml"
    for sign, status, mark in ((signal.SIGINT, 130, "checkpoint-3"), (signal.SIGTERM, 143, "checkpoint-9")):
        process = train(path, out)
        wait_for(process, out / "checkpoints" / mark / "complete.json")
        process.send_signal(sign)
        err = process.communicate(timeout=120)[1]
        assert process.returncode == status, err
        assert "the same command goes on from the last checkpoint" in err
        assert "Traceback" not in err
    first = train(path, out)
    wait_for(first, out / "checkpoints" / "checkpoint-15" / "complete.json")
    first.send_signal(signal.SIGSTOP)  # the process is stopped, but still has the lock of the folder
    second = train(path, out)
    assert "another process is working in this run folder" in second.communicate(timeout=120)[1]
    assert second.returncode == 1
    first.send_signal(signal.SIGKILL)
    first.wait()
    original_rows = (tmp_path / "pairs.jsonl").read_text()
    (tmp_path / "pairs.jsonl").write_text(original_rows.replace('"gold": 5.0', '"gold": 4.0'))
    with pytest.raises(ZooError, match="data is not what this run began with"):
        zoo.train(zoo.load_recipe(path), out)
    (tmp_path / "pairs.jsonl").write_text(original_rows)
    finish(train(path, out, clock="jumping"))
    assert atomic_files.sha256(out / "model" / "model.safetensors") == atomic_files.sha256(
        whole_run / "model" / "model.safetensors"
    )
    assert 0 < atomic_files.read_json(out / "lock.json")["training_seconds"] < 3600
    assert all(0 <= r["seconds"] < 3600 for r in atomic_files.read_json(out / "report.json")["results"])


@pytest.fixture(scope="module")
def full_disk_runs(place, tmp_path_factory) -> dict[str, Any]:
    """What happened on disks that are full or read-only, by scenario."""
    if sys.platform != "linux" or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("the system does not allow mounts of one's own here")
    command = [
        "unshare",
        "-rm",
        sys.executable,
        full_disks.__file__,
        place / "recipe.yaml",
        tmp_path_factory.mktemp("disks"),
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


FULL = "No space left on device: make room there"


@pytest.mark.slow
def test_a_full_disk_at_a_checkpoint_keeps_the_earlier_checkpoints(full_disk_runs, whole_run):
    result = full_disk_runs["fill_at_a_checkpoint"]
    assert result["full"]["status"] == 1
    assert FULL in result["full"]["errors"]
    assert "Traceback" not in result["full"]["errors"]
    assert "checkpoints/checkpoint-3" in result["full"]["names"], "one whole checkpoint at least fits"
    assert result["roomy"]["status"] == 0
    assert result["sum"] == atomic_files.sha256(whole_run / "model" / "model.safetensors")


@pytest.mark.slow
def test_a_full_disk_at_the_weights_or_the_model_folder_keeps_the_training(full_disk_runs):
    steps, sums = full_disk_runs["fill_at_the_end"].values()
    for name in ("at the weights", "at the model folder"):
        assert steps[name]["status"] == 1
        assert FULL in steps[name]["errors"]
        assert "Traceback" not in steps[name]["errors"]
    assert "checkpoints/checkpoint-30" in steps["at the weights"]["names"], (
        "the training was saved, and is not done again"
    )
    assert "trained" not in steps["at the weights"]["names"]
    assert "model" not in steps["at the model folder"]["names"]
    assert [steps[name]["status"] for name in ("roomy", "roomy again", "undisturbed")] == [0, 0, 0]
    assert len(sums) == 3
    assert len(set(sums)) == 1, "the weights are those of an undisturbed run"


@pytest.mark.slow
def test_a_read_only_run_folder_is_reported_before_any_work(full_disk_runs):
    result = full_disk_runs["write_read_only"]
    assert result["status"] == 1
    assert re.match(
        r"error: nothing can be written to \S+/run: Read-only file system; ", result["errors"].strip().splitlines()[-1]
    )
    assert "reading the data" not in result["errors"]

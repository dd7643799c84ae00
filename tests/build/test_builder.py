"""A run can be killed at any point and resumed. It refuses another recipe, and does nothing if it is finished."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
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


def wait_for(process: subprocess.Popen, path: Path) -> None:
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
    with pytest.raises(ZooError, match="no run of zoo"):
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


JUMPING = """
import sys, time
real, calls = time.time, iter(range(10**9))
time.time = lambda: real() + (86_400 if next(calls) % 2 else -86_400)
from zoo.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


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
    command = [sys.executable, "-c", JUMPING, "train", str(path), "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert atomic_files.sha256(out / "model" / "model.safetensors") == atomic_files.sha256(
        whole_run / "model" / "model.safetensors"
    )
    assert 0 < atomic_files.read_json(out / "lock.json")["training_seconds"] < 3600
    assert all(0 <= r["seconds"] < 3600 for r in atomic_files.read_json(out / "report.json")["results"])


def run_with_mounts(script: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run a shell script that may mount private file systems. Skip the test if the system does not allow mounts."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("the system does not allow mounts of one's own here")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = ["unshare", "-rm", "sh", "-euc", script, "sh", sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.skipif(sys.platform != "linux", reason="mount namespaces are Linux's")
def test_a_full_disk_at_a_checkpoint_keeps_the_earlier_checkpoints(place, whole_run, tmp_path):
    done = run_with_mounts(
        """
        mount -t tmpfs -o size=1300k tmpfs "$3"
        if "$1" -m zoo.cli train "$2" --out "$3/run"; then exit 9; fi
        ls "$3/run/checkpoints" >&2
        mount -o remount,size=50m "$3"
        "$1" -m zoo.cli train "$2" --out "$3/run"
        sha256sum "$3/run/model/model.safetensors"
        """,
        *(str(place / "recipe.yaml"), str(tmp_path)),
    )
    assert done.returncode == 0, done.stderr
    assert "No space left on device: make room there" in done.stderr
    assert "checkpoint-3" in done.stderr.split(), "one whole checkpoint at least fits"
    assert "Traceback" not in done.stderr
    assert atomic_files.sha256(whole_run / "model" / "model.safetensors") in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="mount namespaces are Linux's")
def test_a_full_disk_at_the_weights_or_the_model_folder_keeps_the_training(place, tmp_path):
    done = run_with_mounts(
        """
        run() { "$1" -m zoo.cli train "$2" --out "$3/run" training.checkpoint_every=1000; }
        mount -t tmpfs -o size=600k tmpfs "$3"
        if run "$@"; then exit 9; fi
        ls "$3/run/checkpoints" >&2
        test ! -e "$3/run/trained"
        mount -o remount,size=50m "$3"
        run "$@"
        rm -r "$3/run/model"
        mount -o remount,size=$(($(du -sk "$3" | cut -f1) + 100))k "$3"
        if run "$@"; then exit 9; fi
        ls "$3/run" >&2
        test ! -e "$3/run/model"
        mount -o remount,size=50m "$3"
        run "$@"
        mv "$3/run" "$3/filled"
        run "$@"
        sha256sum "$3/filled/trained/model.safetensors" "$3/filled/model/model.safetensors" "$3/run/model/model.safetensors"
        """,
        *(str(place / "recipe.yaml"), str(tmp_path)),
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("No space left on device: make room there") == 2
    assert "checkpoint-30" in done.stderr.split(), "the whole training was saved, and is not done again"
    assert "Traceback" not in done.stderr
    sums = [line.split()[0] for line in done.stdout.splitlines() if line.endswith(".safetensors")]
    assert len(sums) == 3
    assert len(set(sums)) == 1, "the weights are those of an undisturbed run"


@pytest.mark.skipif(sys.platform != "linux", reason="mount namespaces are Linux's")
def test_a_read_only_run_folder_is_reported_before_any_work(place, tmp_path):
    done = run_with_mounts(
        'mount -t tmpfs -o ro tmpfs "$3"; "$1" -m zoo.cli train "$2" --out "$3/run"',
        *(str(place / "recipe.yaml"), str(tmp_path)),
    )
    assert done.returncode == 1
    refusal = f"error: nothing can be written to {tmp_path}/run: Read-only file system; "
    assert done.stderr.strip().splitlines()[-1].startswith(refusal)
    assert "reading the data" not in done.stderr

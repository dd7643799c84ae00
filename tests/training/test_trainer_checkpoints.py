"""Which checkpoint a run resumes from, and what its record holds afterwards."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import transformers

from zoo.training.checkpoints import (
    COMPLETE,
    RunRecorder,
    find_newest_checkpoint,
    read_record,
    read_step,
    truncate_metrics,
)


def write_checkpoint(folder, step, *, is_complete=True, seconds=1.5):
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.safetensors").write_bytes(b"12345")
    if is_complete:
        record = {"files": {"model.safetensors": 5}, "seconds": seconds}
        (checkpoint / COMPLETE).write_text(json.dumps(record))
    return checkpoint


def test_the_newest_complete_checkpoint_counts_by_its_number(tmp_path):
    assert find_newest_checkpoint(tmp_path, remove_incomplete=True) == (None, 0.0)
    write_checkpoint(tmp_path, 9, seconds=1.0)
    newest = write_checkpoint(tmp_path, 10, seconds=2.0)
    write_checkpoint(tmp_path, 11, is_complete=False)
    assert find_newest_checkpoint(tmp_path, remove_incomplete=False) == (newest, 2.0)
    assert (read_step(newest), read_step(None)) == (10, 0)


def test_an_incomplete_checkpoint_is_removed_only_by_the_process_that_may_write(tmp_path):
    unmarked = write_checkpoint(tmp_path, 1, is_complete=False)
    shortened, damaged, missing = (write_checkpoint(tmp_path, step) for step in (2, 3, 4))
    (shortened / "model.safetensors").write_bytes(b"123")
    (damaged / COMPLETE).write_text("{")
    (missing / "model.safetensors").unlink()
    assert find_newest_checkpoint(tmp_path, remove_incomplete=False) == (None, 0.0)
    assert all(folder.exists() for folder in (unmarked, shortened, damaged, missing))
    find_newest_checkpoint(tmp_path, remove_incomplete=True)
    assert not any(folder.exists() for folder in (unmarked, shortened, damaged, missing))


@pytest.mark.parametrize(("step", "steps_left"), [(0, []), (1, [1]), (2, [1, 2]), (9, [1, 2, 3])])
def test_metrics_after_the_checkpoint_and_a_line_that_was_cut_short_are_dropped(step, steps_left, tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    truncate_metrics(metrics, step)
    assert not metrics.exists()
    metrics.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    truncate_metrics(metrics, step)
    assert [json.loads(line)["step"] for line in metrics.read_text().splitlines()] == steps_left


def make_state(step=5, max_steps=10, is_main=True):
    return SimpleNamespace(global_step=step, max_steps=max_steps, epoch=1.25, is_world_process_zero=is_main)


@pytest.mark.parametrize(
    ("step", "eval_strategy", "validates"),
    [(9, "steps", False), (10, "steps", True), (10, "no", False)],
)
def test_the_last_step_requests_a_validation(step, eval_strategy, validates, tmp_path):
    control = transformers.TrainerControl()
    arguments = SimpleNamespace(eval_strategy=eval_strategy)
    RunRecorder(tmp_path, False, 0.0).on_step_end(arguments, make_state(step), control)
    assert control.should_evaluate is validates


def test_metrics_leave_out_figures_that_json_cannot_hold_and_other_processes_write_nothing(tmp_path):
    recorder = RunRecorder(tmp_path, False, 100.0)
    logs = {"loss": 0.5, "learning_rate": 1e-3, "grad_norm": float("inf")}
    recorder.on_log(None, make_state(is_main=False), None, logs)
    assert not (tmp_path / "metrics.jsonl").exists()
    recorder.on_log(None, make_state(), None, logs)
    recorder.on_log(None, make_state(), None, {"eval_loss": 0.25})
    recorder.on_log(None, make_state(), None, {"train_runtime": 3.0})
    first, second = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert first.pop("seconds") >= 100.0, "the seconds before the interruption are included"
    assert first == {"step": 5, "epoch": 1.25, "loss": 0.5, "learning_rate": 1e-3}
    assert second == {"step": 5, "epoch": 1.25, "validation_loss": 0.25}


def test_a_saved_checkpoint_is_marked_with_the_sizes_of_all_its_files(tmp_path):
    checkpoint = write_checkpoint(tmp_path, 5, is_complete=False)
    (checkpoint / "part").mkdir()
    (checkpoint / "part" / "a.bin").write_bytes(b"12")
    recorder = RunRecorder(tmp_path, False, 0.0)
    arguments = SimpleNamespace(output_dir=str(tmp_path))
    recorder.on_save(arguments, make_state(is_main=False), None)
    assert not (checkpoint / COMPLETE).exists()
    recorder.on_save(arguments, make_state(), transformers.TrainerControl(should_training_stop=True))
    assert read_record(checkpoint)["finished"]
    assert json.loads((checkpoint / COMPLETE).read_text())["files"] == {"model.safetensors": 5, "part/a.bin": 2}
    assert find_newest_checkpoint(tmp_path, remove_incomplete=True)[0] == checkpoint

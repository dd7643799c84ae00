"""A whole run of a recipe whose `data` is a list: lock, validation rows, overlaps, card, resume, and errors before training."""

from __future__ import annotations

import json
import signal

import pytest
import stored_runs
import tiny
from forked_commands import Command, run_in_processes, run_main
from safetensors.torch import load_file

import zoo
from zoo.build import builder, reproduction, training_data
from zoo.core.errors import DataError, ZooError
from zoo.data import overlap, stored
from zoo.evaluation import prepare
from zoo.recipe import recipe

TEXTS = tiny.SENTENCES


def write_pairs(path, texts, **columns):
    rows = [{"anchor": text, "positive": TEXTS[-1 - i % 120], **columns} for i, text in enumerate(texts)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def folder(tmp_path):
    tiny.backbone(tmp_path / "backbone")
    write_pairs(tmp_path / "short.jsonl", TEXTS[:20])
    write_pairs(tmp_path / "long.jsonl", TEXTS[20:80])
    return tmp_path


def load(folder, *changes, family="static", short=None, **sections):
    encoder = {
        "static": {"family": "static", "backbone": "backbone", "dim": 16, "regression_texts": 0},
        "matryoshka-2d": {"family": "matryoshka-2d", "backbone": "backbone", "dims": [8], "loss": "contrastive"},
    }[family]
    whole = {
        "name": "mixed",
        "encoder": encoder,
        "data": [
            {"source": "file", "path": "short.jsonl", **(short or {})},
            {"source": "file", "path": "long.jsonl"},
        ],
        "training": {"max_steps": 12, "batch_size": 8, "learning_rate": 1e-2, "precision": "fp32", "seed": 1},
    }
    return recipe.loads(json.dumps({**whole, **sections}), *changes, folder=folder)


def read_lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("family", ["static", "matryoshka-2d"])
def test_a_run_has_a_fingerprint_a_loss_and_a_row_of_the_card_for_each_source(family, folder):
    encoder = zoo.train(load(folder, family=family, short={"weight": 3}, validation=16), folder / "run")
    assert encoder.encode(["the cat"]).shape[0] == 1
    lock = json.loads((folder / "run" / "lock.json").read_text())
    assert set(lock["data"]) == {"train/short", "train/long", "validation/short", "validation/long"}
    assert len({entry["fingerprint"] for entry in lock["data"].values()}) == 4
    assert {name: entry["rows"] for name, entry in lock["data"].items()} == {
        "train/short": 16,
        "train/long": 48,
        "validation/short": 4,
        "validation/long": 12,
    }
    assert lock["sources"]["short"] == {"rows": 16, "rows_per_epoch": 48, "share": 0.75, "weight": 3.0, "loss": None}
    assert {name for line in read_lines(folder / "run") for name in line.get("loss_by_source", ())} == {"short", "long"}
    card = (folder / "run" / "model" / "README.md").read_text()
    assert "64 rows of short.jsonl and long.jsonl" in card
    assert "| short | 16 | 3 | 75.0 % |" in card
    saved = recipe.load(folder / "run" / "model" / "recipe.yaml", folder=folder)
    assert saved.sources == load(folder, short={"weight": 3}).sources


def test_one_section_alone_has_the_fingerprint_that_it_has_in_a_list(folder):
    tables = training_data.read_tables(load(folder))
    single = training_data.read_tables(load(folder, data={"source": "file", "path": "short.jsonl"}))
    assert training_data.make_lock(tables)["train/short"] == training_data.make_lock(single)["train"]


def test_validation_rows_are_held_out_of_each_source_in_proportion_and_none_is_trained_on(folder):
    write_pairs(folder / "long.jsonl", [f"the cat {number}" for number in range(60)])
    write_pairs(folder / "short.jsonl", [f"the dog {number}" for number in range(20)])
    for size in (0.25, 20, 3):
        tables = training_data.read_tables(load(folder, validation=size))
        for name, count in (("short", 20), ("long", 60)):
            part = tables["validation"].parts[name]
            assert len(part.rows) == pytest.approx(count * (size if size < 1 else size / 80), abs=0.5)
            sides = [tables[side].parts[name].rows for side in ("train", "validation")]
            assert len({(row["anchor"], row["positive"]) for side in sides for row in side}) == count


def test_validation_groups_are_those_of_the_source(folder):
    write_pairs(folder / "short.jsonl", [TEXTS[i // 4] for i in range(20)])
    short = {"holdout": {"size": 4, "side": "train", "by": "anchor"}}
    tables = training_data.read_tables(load(folder, short=short, validation=0.25))
    sides = [set(tables[name].parts["short"].rows["anchor"]) for name in ("train", "validation")]
    assert sides[1]
    assert not sides[0] & sides[1]


def test_shared_rows_are_dropped_from_their_source(folder):
    data = {"source": "file", "path": "test.jsonl", "columns": {"query": "anchor", "document": "positive"}}
    (folder / "test.jsonl").write_text("".join((folder / "short.jsonl").read_text().splitlines(True)[:5]))
    task = {"task": "retrieval", "name": "t", "data": data}
    dropping = load(folder, evaluation=[task], on_overlap="drop", training={"batch_size": 8})
    tables = training_data.read_tables(dropping)
    tables, _, lines = builder.overlap.settle(dropping, tables, prepare(dropping.evaluation, folder))
    assert {name: len(part.rows) for name, part in tables["train"].parts.items()} == {"short": 15, "long": 60}
    assert "dropped 5 rows of train" in lines
    assert "5 of 5 rows of t are also rows of train/short" in lines


def test_an_interrupted_run_of_several_sources_ends_with_the_same_weights(folder, monkeypatch):
    from zoo.families.static.encoder import Encoder

    settings = {"checkpoint_every": 2, "max_steps": 12, "batch_size": 8, "learning_rate": 1e-2, "precision": "fp32"}
    zoo.train(load(folder, training=settings), folder / "whole")
    true_loss = Encoder.loss

    def interrupt(encoder, batch):
        if encoder.step == 7:
            raise KeyboardInterrupt
        return true_loss(encoder, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "loss", interrupt)
        with pytest.raises(KeyboardInterrupt):
            zoo.train(load(folder, training=settings), folder / "stopped")
    zoo.train(load(folder, training=settings), folder / "stopped")
    whole, again = (load_file(folder / name / "model" / "model.safetensors") for name in ("whole", "stopped"))
    assert all((whole[name] == again[name]).all() for name in whole)


def test_rows_with_different_optional_columns_train_together(folder):
    write_pairs(folder / "short.jsonl", TEXTS[:20], negative=TEXTS[100])
    for family in ("static", "matryoshka-2d"):
        zoo.train(load(folder, family=family), folder / family)
    with pytest.raises(DataError, match="the source long has no negative, and mixed batches need the same columns"):
        zoo.train(load(folder, mixture={"batches": "mixed"}), folder / "mixed")


def test_mixed_batches_train(folder):
    zoo.train(load(folder, mixture={"batches": "mixed", "draw": "equal"}), folder / "run")
    assert not any("loss_by_source" in line for line in read_lines(folder / "run"))
    assert "A batch has rows of all sources." in (folder / "run" / "model" / "README.md").read_text()


def test_a_source_smaller_than_a_batch_is_named_before_training(folder):
    message = "the source short has 20 rows to train on, fewer than training.batch_size, 32"
    for action in (lambda r: zoo.train(r, folder / "run"), lambda r: builder.check_rows(r, print)):
        with pytest.raises(ZooError, match=message):
            action(load(folder, "training.batch_size=32"))
    assert not (folder / "run" / "checkpoints").exists()


def test_a_bad_row_is_named_with_its_file(folder):
    (folder / "long.jsonl").write_text('{"anchor": "a", "positive": ""}\n')
    with pytest.raises(DataError, match=r"long\.jsonl:row 1: positive: is empty"):
        zoo.train(load(folder), folder / "run")


def test_two_processes_have_the_losses_of_one(folder):
    path = folder / "recipe.yaml"
    path.write_text(load(folder).dump())
    curves = {}
    for count in (1, 2):
        run_in_processes(count, run_main, ["train", str(path), "--out", str(folder / f"run-{count}")])
        curves[count] = [line for line in read_lines(folder / f"run-{count}") if "loss" in line]
    for key in ("loss", "loss_by_source"):
        one, two = ([line[key] for line in curves[count]] for count in (1, 2))
        assert len(one) == 12
        for expected, actual in zip(one, two, strict=True):
            assert actual == pytest.approx(expected, rel=1e-4)


def test_a_model_of_several_sources_is_reproduced(folder):
    data = {"source": "file", "path": "short.jsonl", "columns": {"query": "anchor", "document": "positive"}}
    sections = {
        "evaluation": [{"task": "retrieval", "name": "t", "data": data}],
        "training": {"max_steps": 4, "batch_size": 8},
    }
    zoo.train(load(folder, **sections), folder / "run")
    again = reproduction.reproduce(str(folder / "run" / "model"), folder / "again", data=folder)
    assert again.reproduced
    assert again.same_weights
    write_pairs(folder / "long.jsonl", TEXTS[21:81])
    other = reproduction.reproduce(str(folder / "run" / "model"), folder / "other", data=folder)
    assert [line.split(":")[0] for line in other.differences] == ["data train/long"]


def test_a_source_gives_no_single_validation_row_if_the_number_is_chosen(folder):
    write_pairs(folder / "long.jsonl", [TEXTS[i % 120] for i in range(4000)])
    write_pairs(folder / "short.jsonl", TEXTS[:20])
    tables = training_data.read_tables(load(folder, validation="auto", training={"batch_size": 8}))
    assert {name: len(part.rows) for name, part in tables["validation"].parts.items()} == {"short": 2, "long": 200}


# -- rows on disk ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def on_disk(monkeypatch):
    monkeypatch.setattr(stored, "MEMORY_ROWS", 16)
    monkeypatch.setattr(stored, "BLOCK", 4)


@pytest.mark.parametrize("size", [None, 12, 0.3])
def test_rows_on_disk_give_the_lock_and_the_weights_of_rows_in_memory(folder, on_disk, monkeypatch, size):
    single = {"data": {"source": "file", "path": "long.jsonl"}, "validation": size}
    for name, sections in (("one", single), ("several", {"validation": size})):
        runs = {}
        for place, limit in (("memory", 1000), ("disk", 16)):
            monkeypatch.setattr(stored, "MEMORY_ROWS", limit)
            runs[place] = folder / f"{name}-{place}"
            seen = []
            read_tables = training_data.read_tables
            with monkeypatch.context() as patch:
                patch.setattr(training_data, "read_tables", lambda *a, f=read_tables, s=seen: s.append(f(*a)) or s[-1])
                zoo.train(load(folder, **sections), runs[place])
            tables = seen[0]["train"].parts.values() or [seen[0]["train"]]
            assert any(table.folder is not None for table in tables) == (place == "disk")
        locks = [json.loads((run / "lock.json").read_text())["data"] for run in runs.values()]
        assert locks[0] == locks[1]
        weights = [load_file(run / "model" / "model.safetensors") for run in runs.values()]
        assert all((weights[0][key] == weights[1][key]).all() for key in weights[0])
        assert not (runs["disk"] / builder.ROWS).exists(), "the files are removed when the run is finished"


def test_a_killed_run_on_disk_reads_nothing_again_and_ends_with_the_same_weights(folder, on_disk, monkeypatch):
    from zoo.data import selection
    from zoo.families.static.encoder import Encoder

    settings = {"checkpoint_every": 2, "max_steps": 12, "batch_size": 8, "learning_rate": 1e-2, "precision": "fp32"}
    sections = {"training": settings, "validation": 0.25}
    zoo.train(load(folder, **sections), folder / "whole")
    true_loss = Encoder.loss

    def interrupt(encoder, batch):
        if encoder.step == 7:
            raise KeyboardInterrupt
        return true_loss(encoder, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "loss", interrupt)
        with pytest.raises(KeyboardInterrupt):
            zoo.train(load(folder, **sections), folder / "stopped")
    assert list((folder / "stopped" / builder.ROWS).glob("*/rows.json"))
    with monkeypatch.context() as patch:
        patch.setattr(selection, "collect_columns", None)
        zoo.train(load(folder, **sections), folder / "stopped")
    whole, again = (load_file(folder / name / "model" / "model.safetensors") for name in ("whole", "stopped"))
    assert all((whole[name] == again[name]).all() for name in whole)


def test_a_run_on_disk_survives_sigkill_and_runs_in_two_processes(folder):
    settings = {"checkpoint_every": 2, "max_steps": 12, "batch_size": 8, "learning_rate": 1e-2, "precision": "fp32"}
    path = folder / "recipe.yaml"
    path.write_text(load(folder, training=settings, validation=0.25).dump())
    stopped = Command(stored_runs.main, path, folder / "stopped", 7)
    assert stopped.wait() == -signal.SIGKILL
    assert list((folder / "stopped" / builder.ROWS).glob("*/rows.json"))
    runs = {name: Command(stored_runs.main, path, folder / name) for name in ("stopped", "whole")}
    assert [run.wait() for run in runs.values()] == [0, 0]
    run_in_processes(2, stored_runs.main, path, folder / "two")
    whole, again, two = (
        load_file(folder / name / "model" / "model.safetensors") for name in ("whole", "stopped", "two")
    )
    assert all((whole[name] == again[name]).all() for name in whole)
    for name in whole:
        assert (whole[name] - two[name]).abs().max() < 2e-3, name
    assert not any((folder / name / builder.ROWS).exists() for name in ("whole", "stopped", "two"))


def test_shared_rows_on_disk_are_counted_and_dropped_as_in_memory(folder, on_disk, monkeypatch):
    data = {"source": "file", "path": "test.jsonl", "columns": {"query": "anchor", "document": "positive"}}
    (folder / "test.jsonl").write_text("".join((folder / "long.jsonl").read_text().splitlines(True)[5:12]))
    task = {"task": "retrieval", "name": "t", "data": data}
    dropping = load(folder, evaluation=[task], on_overlap="drop", training={"batch_size": 8}, validation=10)
    outcomes = []
    for store in (None, folder / "rows"):
        monkeypatch.setattr(overlap, "BLOCK_ROWS", 1000 if store is None else 9)
        tables = training_data.read_tables(dropping, store)
        tables, overlaps, lines = builder.overlap.settle(dropping, tables, prepare(dropping.evaluation, folder))
        outcomes.append((tables["train"].fingerprint, overlaps, lines))
    assert outcomes[0] == outcomes[1]
    assert any("dropped" in line for line in outcomes[0][2])


def test_the_rows_of_a_finished_run_are_kept_if_asked(folder, on_disk):
    builder.run(load(folder), folder / "run", keep_rows=True)
    assert list((folder / "run" / builder.ROWS).glob("*/rows.json"))

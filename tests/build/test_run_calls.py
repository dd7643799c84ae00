"""What a whole run does and in which order, how it is published, and what its other processes do. Nothing is trained."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import pytest
from datasets import Dataset

from zoo import evaluation, pretrained
from zoo.build import builder, overlap, training_data
from zoo.core import atomic_files
from zoo.core.errors import AcceptanceError, ZooError
from zoo.data import Origin
from zoo.data.table import Table
from zoo.evaluation import Prepared
from zoo.training import distributed


def make_table(*texts):
    return Table(Dataset.from_dict({"text": list(texts)}), "f" * 64, Origin("rows"), roles=("text",), inputs=("text",))


@pytest.mark.parametrize("created", [True, False])
def test_the_right_to_publish_is_checked_and_the_model_is_pushed(build, calls, monkeypatch, created):
    from zoo.hub import push

    pushed = SimpleNamespace(url="https://hub/me/tiny", created=created)
    monkeypatch.setattr(push, "check_write_access", lambda *inputs, **options: calls.append((inputs, options)))
    monkeypatch.setattr(push, "push", lambda *inputs, **options: calls.append((inputs, options)) or pushed)
    run = build(publish={"repo": "me/tiny", "private": True})
    options = {"private": True, "say": run.say}
    run._check_publication()
    assert calls == [(("me/tiny",), options)]
    calls.clear()
    run._publish()
    line = "published: https://hub/me/tiny" if created else "already published: https://hub/me/tiny"
    assert calls == [((run.out / "model", "me/tiny"), options | {"anyway": False}), line]
    calls.clear()
    unpublished = build()
    unpublished._check_publication()
    unpublished._publish()
    assert calls == []


# -- the whole run -----------------------------------------------------------------------------------------------------


def test_a_run_checks_everything_before_it_trains_and_ends_with_the_scores_that_are_too_low(build, calls, monkeypatch):
    run = build(validation=2)
    table, tasks = make_table("a", "b"), Prepared([], {"sts": {"skipped": 0}})
    for name in ("_check_publication", "_run_stages", "_publish"):
        monkeypatch.setattr(builder._Build, name, lambda run, *inputs, name=name: calls.append((name, *inputs)))
    monkeypatch.setattr(run.folder, "claim", lambda recipe: calls.append(("claim", recipe)))
    monkeypatch.setattr(training_data, "read_tables", lambda recipe, store: {"train": table, "validation": table})
    monkeypatch.setattr(
        training_data.objective_checks, "check_rows", lambda *inputs: calls.append(("check_rows", *inputs))
    )
    monkeypatch.setattr(evaluation, "prepare", lambda *inputs: calls.append(("prepare", *inputs)) or tasks)
    monkeypatch.setattr(pretrained, "load", lambda folder: calls.append(("load", folder)) or "the encoder")
    monkeypatch.setattr(evaluation, "list_missed", lambda report: report["missed"])
    atomic_files.write_json(run.out / "report.json", {"missed": []})
    assert run.run() == "the encoder"
    recipe = run.recipe
    entry = {"fingerprint": "f" * 64, "rows": 2, "skipped": 0, "origin": vars(table.origin)}
    locked = {"train": entry, "validation": entry}
    expected = [
        ("claim", recipe),
        ("_check_publication",),
        "reading the data",
        ("check_rows", recipe.encoder, recipe.training, table.rows, table.rows),
        ("prepare", recipe.evaluation, recipe.folder),
        locked | tasks.lock,
        ("_run_stages", {"train": table, "validation": table}, tasks, locked),
        ("load", run.out / "model"),
        ("_publish",),
    ]
    assert calls == expected
    assert (run.out / "recipe.yaml").read_text() == recipe.dump()
    assert atomic_files.read_json(run.out / "lock.json") == {"format": 1, "data": locked}
    atomic_files.write_json(run.out / "report.json", {"missed": ["too low", "also too low"]})
    calls.clear()
    with pytest.raises(AcceptanceError) as caught:
        run.run()
    assert str(caught.value) == str(AcceptanceError("too low", "also too low"))
    assert calls == expected, "the model is published all the same"


def test_rows_are_checked_as_before_a_training(build, calls, monkeypatch):
    recipe = build(validation=2).recipe
    table, tasks = make_table("a"), Prepared([])
    monkeypatch.setattr(training_data, "read_tables", lambda recipe, store: {"train": table})
    monkeypatch.setattr(training_data.objective_checks, "check_rows", lambda *inputs: calls.append(inputs))
    monkeypatch.setattr(evaluation, "prepare", lambda *inputs: calls.append(inputs) or tasks)
    monkeypatch.setattr(overlap, "settle", lambda *inputs: calls.append(inputs) or ({}, [], ["line 1", "line 2"]))
    builder.check_rows(recipe, calls.append)
    assert calls == [
        (recipe.encoder, recipe.training, table.rows, None),
        (recipe.evaluation, recipe.folder),
        (recipe, {"train": table}, tasks, None),
        "line 1",
        "line 2",
    ]


def test_a_run_has_the_folder_for_itself_and_explains_a_full_disk(build, monkeypatch, tmp_path):
    recipe = build().recipe
    built = []

    def run(self):
        with pytest.raises(ZooError, match="another process is working"):
            builder.run(recipe, self.out)
        built.append((self.recipe, self.out, self.show_progress, self.anyway))
        self.say("said")
        self.before_training({})
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(builder._Build, "run", run)
    with pytest.raises(ZooError, match="No space left on device: make room there"):
        builder.run(recipe, tmp_path / "new")
    said = []
    with pytest.raises(ZooError, match="make room there"):
        builder.run(
            recipe, tmp_path / "new", say=said.append, show_progress=True, before_training=said.append, anyway=True
        )
    assert said == ["said", {}]
    assert built == [(recipe, tmp_path / "new", False, False), (recipe, tmp_path / "new", True, True)]


@pytest.mark.parametrize("rank", ["0", "1"])
def test_the_first_process_builds_and_the_others_join(build, monkeypatch, tmp_path, rank):
    recipe = build().recipe
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(builder._Build, "run", lambda self: ("built", self.recipe, self.out, self.finish))
    monkeypatch.setattr(builder, "_join", lambda recipe, out, finish: ("joined", recipe, out, finish))
    for finish in (True, False):
        expected = ("built" if rank == "0" else "joined", recipe, tmp_path / "new", finish)
        assert builder.run(recipe, tmp_path / "new", finish=finish) == expected
    assert builder.run(recipe, tmp_path / "new")[3] is False


@pytest.mark.parametrize(("processes", "is_refused"), [("1", False), ("2", True)])
def test_a_family_that_trains_in_one_process_is_refused_in_several(monkeypatch, processes, is_refused):
    monkeypatch.setenv("WORLD_SIZE", processes)
    one = SimpleNamespace(encoder=SimpleNamespace(trains_in_processes=False, family="alone"))
    builder._check_process_count(SimpleNamespace(encoder=SimpleNamespace(trains_in_processes=True)))
    if not is_refused:
        builder._check_process_count(one)
        return
    with pytest.raises(ZooError, match="alone trains in one process, and this is one of 2: run zoo train without"):
        builder.run(one, "no folder is touched")


def test_another_process_drops_the_rows_that_the_first_one_drops(build, calls, monkeypatch):
    run = build(on_overlap="drop")
    monkeypatch.setattr(distributed, "broadcast_from_main", lambda: True)
    monkeypatch.setattr(training_data, "read_tables", lambda recipe, store: {"train": make_table("a", "b")})
    monkeypatch.setattr(evaluation, "prepare", lambda *inputs: inputs)
    dropped = {"train": make_table("a")}
    built, build_untrained = [], builder.build_untrained
    monkeypatch.setattr(builder, "build_untrained", lambda *inputs: built.append(inputs) or build_untrained(*inputs))
    monkeypatch.setattr(overlap, "settle", lambda *inputs: calls.append(inputs) or (dropped, [], ["a line"]))
    builder._join(run.recipe, run.out, finish=True)
    assert built == [(run.recipe, dropped)]
    assert calls[0][2] == (run.recipe.evaluation, run.recipe.folder)
    assert calls[0][0] == run.recipe
    assert list(calls[0][1]) == ["train"]
    assert calls[2:] == [
        ("prepare", 1, run.out / "cache"),
        ("fit", 1, run.recipe.training, run.out, {"validation": None, "finish": True, "watch": None}),
    ]

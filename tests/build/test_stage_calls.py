"""What each stage of a run passes on, with an encoder that only records its calls. Nothing is trained."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from datasets import Dataset

from zoo import evaluation, pretrained
from zoo.build import builder, health, overlap
from zoo.build.run_folder import RunFolder
from zoo.core import atomic_files
from zoo.core.errors import ZooError
from zoo.core.findings import Finding
from zoo.data import Origin
from zoo.data.table import Table
from zoo.evaluation import Prepared
from zoo.evaluation.task import ReadyTask, TaskSpec
from zoo.spec import ExtraDataset
from zoo.training import distributed, objective_checks

LOCKED = {"train": {"skipped": 2}, "validation": {"skipped": 0}}


def make_table(*texts):
    return Table(Dataset.from_dict({"text": list(texts)}), "f" * 64, Origin("rows"), roles=("text",), inputs=("text",))


def make_ready(name="a", *views, modalities=("text",)):
    spec = TaskSpec(task="kind", name=name, views=views or ({},))
    return ReadyTask(spec, lambda: None, is_official=False, modalities=frozenset(modalities))


def test_the_training_passes_on_rows_settings_and_folders_and_is_locked(build, calls, monkeypatch):
    monkeypatch.setattr(distributed, "broadcast_from_main", lambda: calls.append("broadcast"))
    run = build()
    tables = {"train": make_table("a", "b", "c"), "validation": make_table("d")}
    run._train(tables, Prepared([make_ready("a", {}, {"dim": 4})]), LOCKED, "digest")
    out, recipe = run.out, run.recipe
    (options,) = (call[4] for call in calls if call[0] == "fit")
    validation, say = options.pop("validation"), options.pop("say")
    assert say == run.say
    assert list(validation["text"]) == ["d"]
    assert calls == [
        "training static on 3 rows",
        ("build", "static", {"seed": 7, "folder": recipe.folder}),
        ("view", {}),
        ("view", {"dim": 4}),
        ("prepare", 3, out / "cache"),
        "broadcast",
        ("fit", 3, recipe.training, out, {"show_progress": True, "finish": False, "watch": None}),
        ("finish", 3),
        ("save", "tiny", out / "trained", {"recipe": recipe.fill_in({"training.early_stop": None}).dump_values()}),
    ]
    lock = atomic_files.read_json(out / "lock.json")
    assert (lock["data"], lock["seed"], lock["format"]) == (LOCKED, 7, 1)
    assert lock["training_seconds"] == pytest.approx(2.5, abs=1)
    assert (lock["rows_seen"], lock["finished_early"], lock["backbone"]) == (7, False, None)
    assert atomic_files.read_json(out / "stages.json") == {"trained": "digest"}
    assert not (out / "checkpoints").exists(), "they are not needed any more"


@pytest.mark.parametrize(("kept", "stays"), [(None, False), (2, True), ("all", True)])
def test_checkpoints_stay_after_the_training_if_the_recipe_says_so(build, kept, stays):
    run = build(training={"keep_checkpoints": kept})
    run._train({"train": make_table("a")}, Prepared([]), LOCKED, "digest")
    assert (run.out / "checkpoints").exists() == stays


def test_the_lock_names_the_backbone_and_its_revision(build, calls, monkeypatch):
    run = build(backbone=("me/base", "c0ffee"))
    run._train({"train": make_table("a")}, Prepared([]), LOCKED, "digest")
    backbone = atomic_files.read_json(run.out / "lock.json")["backbone"]
    assert backbone == {"name": "me/base", "revision": "c0ffee"}
    assert calls[-3][4]["validation"] is None


@pytest.mark.parametrize("finish_trains", [True, False])
def test_the_time_of_building_and_preparation_counts_and_that_of_the_end_if_it_trains(
    build, monkeypatch, finish_trains
):
    clock = iter([10.0, 11.5, 20.0, 24.0])
    monkeypatch.setattr(builder.time, "monotonic", lambda: next(clock))
    run = build(finish_trains=finish_trains)
    run._train({"train": make_table("a")}, Prepared([]), LOCKED, "digest")
    seconds = atomic_files.read_json(run.out / "lock.json")["training_seconds"]
    assert seconds == (8.0 if finish_trains else 4.0)


def test_a_training_that_is_finished_early_keeps_its_checkpoints_and_says_so_in_the_lock(build, calls):
    run = build()
    run.finish = True
    run._train({"train": make_table("a")}, Prepared([]), LOCKED, "digest")
    assert next(call for call in calls if call[0] == "fit")[4]["finish"] is True
    assert atomic_files.read_json(run.out / "lock.json")["finished_early"] is True
    assert (run.out / "checkpoints").exists(), "the training may go on from there"


def test_repeated_positives_are_said_before_the_training(build, calls, monkeypatch):
    described = []
    monkeypatch.setattr(
        objective_checks, "describe_repeats", lambda *inputs: described.append(inputs) or "many repeats"
    )
    run, table = build(), make_table("a")
    run._train({"train": table}, Prepared([]), LOCKED, "digest")
    assert calls[:2] == ["training static on 1 rows", "many repeats"]
    assert described == [(run.recipe.encoder, run.recipe.training, table.rows)]


def test_a_task_that_the_encoder_cannot_read_stops_before_the_training(build, calls):
    with pytest.raises(ZooError, match="a: holds image, which tiny does not read"):
        build()._train({"train": make_table("a")}, Prepared([make_ready(modalities=("image",))]), LOCKED, "digest")
    assert calls[-1][0] == "build"


def test_an_untrained_encoder_has_the_name_of_the_recipe_and_the_familys_own_data(build):
    run = build()
    extra = {("encoder", "teacher", "unlabelled"): ExtraDataset(None, {}, use="training")}
    encoder_section = SimpleNamespace(
        family="static", extra_datasets=lambda: extra, reads_training_field=lambda name: True
    )
    recipe = SimpleNamespace(
        encoder=encoder_section, training=run.recipe.training, folder="here", name="mine", sources={}, mixture=None
    )
    encoder = builder.build_untrained(recipe, {"train": make_table("a"), "unlabelled": make_table("b", "c")})
    assert encoder.name == "mine"
    assert {name: list(rows["text"]) for name, rows in encoder.tables.items()} == {"unlabelled": ["b", "c"]}


def test_the_evaluation_opens_the_trained_model_and_replaces_older_results(build, calls, monkeypatch):
    run = build()
    (run.out / "results").mkdir()
    (run.out / "results" / "old.json").touch()
    encoder = SimpleNamespace()
    monkeypatch.setattr(pretrained, "load", lambda folder: calls.append(folder) or encoder)

    def evaluate(encoder, tasks, **options):
        calls.append((encoder, tasks, options, (run.out / "results").exists()))
        return {"results": [], "skipped_rows": {"sts": 1}}

    monkeypatch.setattr(evaluation, "evaluate", evaluate)
    finding = Finding("warning", "it hums", "oil it")
    monkeypatch.setattr(health, "examine", lambda *inputs, **options: seen.append((inputs, options)) or [finding])
    tasks, seen = Prepared([]), []
    atomic_files.write_json(run.out / "lock.json", {"rows_seen": 5, "chosen": {"training.epochs": 3.0}})
    table = make_table("a")
    run._evaluate({"train": table}, tasks, LOCKED, None, "digest")
    options = {"results_folder": run.out / "results", "show_progress": True}
    options |= {
        "free_baselines": "cheap",
        "training_rows": table.rows,
        "training": run.recipe.training.model_copy(update={"epochs": 3.0}),
    }
    options["shared_baselines"], options["kept"] = (), None
    assert calls == [
        "evaluating 1 tasks",
        run.out / "trained",
        (encoder, tasks, options, False),
        "warning: it hums; oil it",
    ]
    assert seen == [((encoder, table.rows), {"lines": [], "rows_seen": 5, "training_rows": 1})]
    assert encoder.folder == run.recipe.folder, "its references start where the recipe's paths start"
    report = atomic_files.read_json(run.out / "report.json")
    skipped = {"sts": 1, "train": 2}
    assert report == {"results": [], "health": [finding._asdict()], "skipped_rows": skipped}
    assert atomic_files.read_json(run.out / "stages.json") == {"report.json": "digest"}


@pytest.fixture
def stages(build, calls, monkeypatch):
    """Return a function that runs the stages of a recipe and the names of those that were run, with their inputs."""
    for name in ("_train", "_evaluate", "_document", "_settle_overlaps"):
        monkeypatch.setattr(builder._Build, name, lambda run, *inputs, name=name: calls.append((name, *inputs)))

    def run_stages(tasks, locked=LOCKED, **sections):
        calls.clear()
        run = build(**sections)
        run._run_stages("tables", tasks, locked)
        return run, list(calls)

    return run_stages


def test_the_stages_receive_rows_tasks_and_locks_and_are_made_from_digests_of_them(stages, monkeypatch):
    tasks = Prepared([], {"sts": {"skipped": 0}})
    run, ran = stages(tasks)
    (settle, train, evaluate, document) = ran
    assert settle == ("_settle_overlaps", "tables", tasks)
    assert train[:4] == ("_train", "tables", tasks, LOCKED)
    assert evaluate[:4] == ("_evaluate", "tables", tasks, LOCKED)
    assert document[:2] == ("_document", LOCKED | tasks.lock)
    digests = {name: inputs[-1] for name, *inputs in ran[1:]}
    sections = run.recipe.model_dump(mode="json")
    changeable = ("evaluation", "baselines", "card", "publish", "on_overlap")
    fixed = {name: section for name, section in sections.items() if name not in changeable}
    fixed["training"] = {name: value for name, value in sections["training"].items() if name != "keep_checkpoints"}
    trained_from = atomic_files.digest([fixed, LOCKED])
    measured = {name: sections[name] for name in ("evaluation", "baselines")}
    report_from = atomic_files.digest([trained_from, measured, tasks.lock])
    card_from = atomic_files.digest([report_from, sections])
    assert list(digests.values()) == [trained_from, report_from, card_from], "trainings of older versions are resumed"
    for output in ("trained", "report.json", "model"):
        (run.out / output).mkdir()
        run.folder.note(output, digests[{"trained": "_train", "report.json": "_evaluate"}.get(output, "_document")])
    assert stages(tasks)[1] == [f"{run.out} is finished: nothing to do (model in {run.out / 'model'})"]
    other = {"train": {"skipped": 3}}
    changes = {
        "data of a task": ({"tasks": Prepared([], {"sts": {"skipped": 1}})}, ["_evaluate", "_document"]),
        "data": ({"tasks": tasks, "locked": other}, ["_train", "_evaluate", "_document"]),
        "card": ({"tasks": tasks, "card": {"summary": "x"}}, ["_document"]),
        "baselines": ({"tasks": tasks, "baselines": "none"}, ["_evaluate", "_document"]),
        "validation": ({"tasks": tasks, "validation": 5}, ["_train", "_evaluate", "_document"]),
    }
    for change, (inputs, expected) in changes.items():
        assert [name for name, *_ in stages(**inputs)[1]] == ["_settle_overlaps", *expected], change
    dropped = [name for name, *_ in stages(tasks, on_overlap="drop")[1]]
    assert dropped == ["_document"], "the overlaps were settled before the rows were locked"


def test_a_training_that_is_finished_early_is_another_one_at_every_checkpoint(stages, monkeypatch):
    tasks, set_finish = Prepared([]), builder._Build.__init__

    def start(run, *inputs):
        set_finish(run, *inputs)
        run.finish = True

    run, ran = stages(tasks)
    whole = ran[1][-1]
    monkeypatch.setattr(builder._Build, "__init__", start)
    digests = []
    for name in ("checkpoint-3", "checkpoint-6"):
        (run.out / "checkpoints" / name).mkdir(parents=True)
        digests.append(stages(tasks)[1][1][-1])
    names = ["checkpoint-3", "checkpoint-6"]
    assert digests == [atomic_files.digest([whole, "finished early", names[:count]]) for count in (1, 2)]
    (run.out / "trained").mkdir()
    run.folder.note("trained", whole)
    assert [name for name, *_ in stages(tasks)[1]] == ["_settle_overlaps", "_evaluate", "_document"], "it is whole"


@pytest.mark.parametrize("trains", [True, False])
def test_the_other_processes_are_told_whether_they_train(stages, monkeypatch, trains):
    announced = []
    monkeypatch.setattr(distributed, "broadcast_from_main", announced.append)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(RunFolder, "is_made_from", lambda folder, name, digest: name == "trained" and not trains)
    _, ran = stages(Prepared([]))
    assert announced == [trains]
    assert ("_train" in [name for name, *_ in ran]) is trains


def test_lines_about_overlaps_are_said_and_the_overlaps_are_kept(build, calls, monkeypatch):
    monkeypatch.setattr(overlap, "settle", lambda *inputs: (calls.append(inputs), ["an overlap"], ["line 1", "line 2"]))
    run = build()
    run._settle_overlaps("tables", "tasks")
    assert calls == [(run.recipe, "tables", "tasks", None), "line 1", "line 2"]
    assert run.overlaps == ["an overlap"]

"""What a run says, writes and passes on, in one process and with a training of one step."""

from __future__ import annotations

import json
import re
import shutil
from types import SimpleNamespace

import pytest
import tiny
import tiny_run

import zoo
from zoo import families, pretrained
from zoo.artefact import manifest, model_folder
from zoo.build import builder, environment, lock
from zoo.core import atomic_files
from zoo.core.errors import AcceptanceError, ZooError
from zoo.core.host import describe_host
from zoo.training import arguments, automatic, distributed

OPTIONS = (
    "training.max_steps=1",
    "evaluation.0.views=[{}]",
    "data.on_bad_row=skip",
    "evaluation.0.data.on_bad_row=skip",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages")
    tiny.backbone(folder / "backbone")
    with (folder / "pairs.jsonl").open("w") as file:
        for i, text in enumerate(tiny.SENTENCES):
            file.write(json.dumps({"a": text, "b": f"{text} acute", "gold": float(i % 6)}) + "\n")
        file.write('{"a": "", "b": "the dog", "gold": 1}\n')
    tiny_run.recipe(folder)
    return folder


def load(place, *overrides):
    return zoo.load_recipe(place / "recipe.yaml", *OPTIONS, *overrides)


@pytest.fixture(scope="module")
def finished(place):
    """A finished run: its folder, the lines that it said, and what it passed on before the training."""
    lines, locked = [], []
    recipe = load(place)
    builder.run(recipe, place / "run", say=lines.append, before_training=locked.append)
    return place / "run", lines, locked


def test_a_run_says_each_stage(finished):
    out, lines, _ = finished
    expected = [
        "reading the data",
        "training matryoshka-2d on 80 rows",
        "evaluating 1 tasks",
        f"model and card: {out / 'model'}",
    ]
    assert [line for line in lines if line in expected] == expected
    (step,) = [line for line in lines if line.startswith("step")]
    assert re.fullmatch(r"step 1 of 1, epoch 0\.20, [\d,]+ rows/s, 0 s left", step)


def test_the_lock_has_data_versions_machine_seed_and_backbone(place, finished):
    out, _, locked = finished
    lock = atomic_files.read_json(out / "lock.json")
    assert locked == [lock["data"]]
    rows = {name: (entry["rows"], entry["skipped"]) for name, entry in lock["data"].items()}
    assert rows == {"train": (80, 1), "validation": (16, 1), "sts": (24, 1)}
    assert {len(entry["fingerprint"]) for entry in lock["data"].values()} == {64}
    assert {entry["origin"]["name"].rpartition("/")[2] for entry in lock["data"].values()} == {"pairs.jsonl"}
    assert (lock["format"], lock["seed"], lock["precision"]) == (1, 42, "float32")
    assert lock["packages"] == environment.list_packages()
    assert lock["host"] == json.loads(json.dumps(describe_host()))
    assert lock["training_seconds"] > 0
    assert (lock["rows_seen"], lock["finished_early"]) == (16, False), "one step"
    filled_in = load(place).fill_in({"training.early_stop": automatic.PATIENCE})
    assert lock["recipe_sha256"] == atomic_files.digest(filled_in.model_dump(mode="json"))
    assert lock["backbone"]["name"].endswith("backbone")
    assert atomic_files.read_json(out / "model" / "lock.json") == lock


def test_the_model_folder_has_the_files_of_the_run(finished):
    out, _, _ = finished
    for name in ("metrics.jsonl", "report.json"):
        assert (out / "model" / name).read_bytes() == (out / name).read_bytes()
    recipe = (out / "recipe.yaml").read_text().replace("early_stop: auto", f"early_stop: {automatic.PATIENCE}")
    assert (out / "model" / "recipe.yaml").read_text() == recipe
    assert [path.name for path in (out / "model" / "results").iterdir()] == ["sts__whole.json"]
    assert not (out / "checkpoints").exists()
    manifest.verify(out / "model")
    weights = [out / part / "model.safetensors" for part in ("trained", "model")]
    assert len({path.stat().st_ino for path in weights}) == 1, "the weights lie on the disk once"
    report = atomic_files.read_json(out / "report.json")
    assert report["skipped_rows"] == {"train": 1, "validation": 1, "sts": 1}
    stages = atomic_files.read_json(out / "stages.json")
    assert stages.keys() == {"trained", "report.json", "model"}
    assert len(set(stages.values())) == 3


@pytest.mark.parametrize(("family", "precision"), [("matryoshka-2d", "bfloat16"), ("binary-pv", "float32")])
def test_the_lock_has_the_precision_that_was_used(family, precision, monkeypatch):
    monkeypatch.setattr(arguments, "resolve_precision_name", lambda settings: "bfloat16")
    encoder = SimpleNamespace(reads_training_field=families.load_spec(family).model_construct().reads_training_field)
    assert lock._describe_precision(SimpleNamespace(encoder=encoder, training=None)) == precision


def test_the_training_time_has_building_and_preparation_and_leaves_out_saving_and_evaluation(
    place, tmp_path, monkeypatch
):
    clock, encoder_class = [0.0], families.load_encoder("matryoshka-2d")
    monkeypatch.setattr(builder, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def take(seconds, owner, name, result=None):
        original = getattr(owner, name)

        def wait(*args, **kwargs):
            clock[0] += seconds
            return original(*args, **kwargs) if result is None else result

        monkeypatch.setattr(owner, name, wait)

    take(7.0, encoder_class, "build")
    take(1.0, encoder_class, "prepare")
    take(20.0, encoder_class, "fit", 300.0)
    take(4000.0, encoder_class, "finish")
    take(50000.0, model_folder, "save")
    take(600000.0, builder.evaluation, "evaluate")
    builder.run(load(place), tmp_path / "run")
    assert atomic_files.read_json(tmp_path / "run" / "lock.json")["training_seconds"] == 308.0
    monkeypatch.setattr(encoder_class, "finish_trains", True)
    builder.run(load(place, "training.seed=1"), tmp_path / "other")
    assert atomic_files.read_json(tmp_path / "other" / "lock.json")["training_seconds"] == 4308.0


def test_a_run_says_that_a_batch_has_few_different_positives(place, tmp_path, monkeypatch):
    lines, settings = [], ("encoder.loss=contrastive", "validation=null", "evaluation=[]")
    (place / "equal.jsonl").write_text(
        '{"anchor": "the dog", "positive": "a dog"}\n{"anchor": "a cat", "positive": "x"}\n' * 8
    )
    recipe = load(place, *settings, "data={source: file, path: equal.jsonl}")
    monkeypatch.setattr(builder, "build_untrained", lambda *_: lines.append("built") or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        builder.run(recipe, tmp_path / "run", say=lines.append)
    assert "a part of 16 rows has 2.0 different positives on average" in lines[-2]


def run_again(place, out, *overrides):
    lines = []
    builder.run(load(place, *overrides), out, say=lines.append)
    return [line.split()[0] for line in lines if line.split()[0] in ("training", "evaluating", "model")]


def test_only_the_stages_whose_inputs_changed_are_run_again(place, finished, tmp_path):
    out = shutil.copytree(finished[0], tmp_path / "run")
    lines = []
    builder.run(load(place), out, say=lines.append)
    assert lines[-1] == f"{out} is finished: nothing to do (model in {out / 'model'})"
    assert run_again(place, out, "card.summary=Other.") == ["model"]
    assert run_again(place, out, "card.summary=Other.", "evaluation.0.name=mine") == ["evaluating", "model"]
    assert [path.name for path in (out / "model" / "results").iterdir()] == ["mine__whole.json"]
    with pytest.raises(AcceptanceError, match="cosine_spearman is"):
        run_again(place, out, "evaluation.0.at_least=1.0")


def test_a_view_that_the_encoder_does_not_have_stops_before_the_training(place, tmp_path):
    with pytest.raises(ZooError, match="99"):
        builder.run(load(place, "evaluation.0.views=[{layers: 99}]"), tmp_path / "run")
    assert not (tmp_path / "run" / "trained").exists()


# -- other processes of a distributed run ------------------------------------------------------------------------------


def test_another_process_opens_what_the_first_one_trained(place, finished, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(distributed, "broadcast_from_main", lambda value=None: False)
    opened = []
    monkeypatch.setattr(pretrained, "load", opened.append)
    builder.run(load(place), finished[0])
    assert opened == [finished[0] / "trained"]


def test_another_process_trains_on_the_same_rows_and_writes_nothing(place, tmp_path, monkeypatch):
    from zoo.families.matryoshka_2d.encoder import Encoder

    calls = []
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(distributed, "broadcast_from_main", lambda value=None: calls.append("broadcast") or True)
    monkeypatch.setattr(Encoder, "prepare", lambda self, rows, cache: calls.append(("prepare", len(rows), cache)))
    monkeypatch.setattr(
        Encoder,
        "fit",
        lambda self, rows, training, out, *, validation, **_: calls.append(
            ("fit", self.name, len(rows), training.max_steps, out, len(validation or ()))
        ),
    )
    out = tmp_path / "run"
    assert builder.run(load(place), out).name == "tiny"
    assert calls == ["broadcast", "broadcast", ("prepare", 80, out / "cache"), ("fit", "tiny", 80, 1, out, 16)]
    calls.clear()
    builder.run(load(place, "validation=null"), out)
    assert calls[-1] == ("fit", "tiny", 96, 1, out, 0)
    assert not out.exists()


def test_the_first_of_several_processes_tells_the_others_whether_they_train(place, finished, monkeypatch):
    told = []
    monkeypatch.setattr(distributed, "broadcast_from_main", told.append)
    builder.run(load(place), finished[0])
    assert told == []
    monkeypatch.setenv("WORLD_SIZE", "2")
    builder.run(load(place), finished[0])
    assert told == [False]

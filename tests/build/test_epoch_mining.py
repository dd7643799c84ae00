"""With `every: epoch` each epoch trains on what the model of that moment mines, and a resumed run equals an uninterrupted one."""

from __future__ import annotations

import json

import pytest
import tiny
import yaml
from contract import read_metrics
from forked_commands import run_in_processes, run_main

import cards
import zoo
from zoo.build import builder, epoch_mining, mining
from zoo.build.epoch_mining import EpochMiner, EpochRows
from zoo.core import atomic_files
from zoo.core.errors import RecipeError, ZooError
from zoo.families.matryoshka_2d.encoder import Encoder

_COUNT = len(tiny.WORDS)
TEXTS = [" ".join(tiny.WORDS[n % _COUNT] for n in (i, i * i + 3, 7 * i // 2, i**3 // 5)) for i in range(80)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("epochs")
    tiny.backbone(folder / "backbone")
    rows = [{"anchor": TEXTS[i], "positive": TEXTS[i + 40]} for i in range(40)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "name": "tiny",
        "encoder": {"family": "matryoshka-2d", "backbone": "backbone", "loss": "contrastive"},
        "data": {"source": "file", "path": "train.jsonl", "mine": {"every": "epoch", "count": 2, "margin": None}},
        "training": {"epochs": 3, "batch_size": 10, "learning_rate": 3e-3, "checkpoint_every": 3},
        "validation": None,
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def load(place, *changes):
    return zoo.load_recipe(place / "recipe.yaml", *changes)


@pytest.fixture(scope="module")
def whole(place):
    """A run without an interruption: its folder, and the fingerprint of the encoder at each mining."""
    fingerprints = []
    make_miner = mining.make_miner

    def record(encoder):
        miner = make_miner(encoder)
        fingerprints.append(miner.fingerprint)
        return miner

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mining, "make_miner", record)
        builder.run(load(place), place / "whole")
    return place / "whole", fingerprints


def hash_weights(folder):
    return atomic_files.sha256(folder / "trained" / "model.safetensors")


def read_epochs(folder):
    return {
        path.name[-6]: atomic_files.read_json(path)["negatives"] for path in (folder / "cache").glob("mined-*.json")
    }


def test_every_epoch_is_mined_by_the_model_of_that_moment(whole):
    folder, fingerprints = whole
    assert len({*fingerprints}) == 3, "before the training, and before the second and the third epoch"
    epochs = read_epochs(folder)
    assert sorted(epochs) == ["1", "2"]
    assert epochs["1"] != epochs["2"]
    assert not [path for path in (folder / "cache").iterdir() if path.is_dir()], "vectors of old weights are removed"


def test_the_lock_and_the_card_say_how_often_it_was_mined(whole):
    folder, _ = whole
    epochs = atomic_files.read_json(folder / "model" / "lock.json")["mining"]["epochs"]
    assert [(entry["epoch"], entry["rows"]) for entry in epochs] == [(2, 40), (3, 40)]
    text = " ".join(cards.render(folder / "model").split())
    assert "They were mined anew with the model in training before 2 later epochs." in text


def test_the_rows_of_an_epoch_are_what_the_loss_reads(place, whole, monkeypatch):
    read: list[dict[str, str]] = []
    collate = Encoder.collate

    def record(self, rows):
        read.extend(rows)
        return collate(self, rows)

    monkeypatch.setattr(Encoder, "collate", record)
    builder.run(load(place), place / "recorded")
    epochs = read_epochs(whole[0])
    for epoch in (1, 2):
        rows = {row["anchor"]: row for row in read[40 * epoch : 40 * epoch + 40]}
        assert len(rows) == 40
        for i, negatives in enumerate(epochs[str(epoch)]):
            assert [rows[TEXTS[i]]["negative"], rows[TEXTS[i]]["negative_1"]] == negatives


@pytest.mark.parametrize("dies_at", ["step 2", "step 5", "step 9", "mining 1", "mining 2"])
def test_a_run_that_is_killed_and_resumed_gives_the_same_model(place, whole, monkeypatch, dies_at):
    kind, number = dies_at.split()
    target = place / f"killed-{kind}-{number}"
    loss, mine = Encoder.loss, EpochMiner._mine

    def die_at_step(self, batch):
        if self.step == int(number):
            raise KeyboardInterrupt
        return loss(self, batch)

    def die_in_mining(self, epoch):
        if epoch == int(number):
            raise KeyboardInterrupt
        mine(self, epoch)

    with monkeypatch.context() as patch:
        if kind == "step":
            patch.setattr(Encoder, "loss", die_at_step)
        else:
            patch.setattr(EpochMiner, "_mine", die_in_mining)
        with pytest.raises(KeyboardInterrupt):
            builder.run(load(place), target)
    builder.run(load(place), target)
    assert hash_weights(target) == hash_weights(whole[0])
    assert read_epochs(target) == read_epochs(whole[0])


def test_two_processes_mine_once_and_train_like_one(place):
    folders = {1: place / "one", 2: place / "two"}
    for count, folder in folders.items():
        arguments = ["train", str(place / "recipe.yaml"), "encoder.dropout=0.0", "--out", str(folder)]
        run_in_processes(count, run_main, arguments)
    one, two = (read_metrics(folder, "loss") for folder in folders.values())
    assert len(one) == 12
    assert two[:4] == pytest.approx(one[:4], rel=1e-3), "rows of the first epoch"
    same = [
        negatives == others
        for epoch, rows in read_epochs(folders[1]).items()
        for negatives, others in zip(rows, read_epochs(folders[2])[epoch], strict=True)
    ]
    assert sum(same) > 0.75 * len(same), "the sums of two processes round otherwise"


def test_a_row_for_which_nothing_is_left_keeps_its_negatives(place, monkeypatch):
    recipe = load(place)
    tables = zoo.build.training_data.read_tables(recipe)
    mined, record = mining.mine_recipe(recipe, tables, None, place / "kept")
    encoder = mining.open_encoder(recipe, "backbone")
    miner = epoch_mining.make_miner(recipe, encoder, mined, None, record, place / "kept")
    assert miner.table.fingerprint == tables["train"].fingerprint
    mine_texts = mining.mine_texts

    def lose_the_first(*arguments, **options):
        result = mine_texts(*arguments, **options)
        result.negatives[0] = []
        return result

    monkeypatch.setattr(mining, "mine_texts", lose_the_first)
    rows = miner.make_rows(1)
    assert (rows[0]["negative"], rows[0]["negative_1"]) == tuple(miner.first[0])


def test_rows_that_are_replaced_are_used_as_a_data_set():
    rows = EpochRows([1, 2], lambda epoch: [10 * epoch, 20 * epoch])
    assert (len(rows), rows[0], rows.count(2)) == (2, 1, 1)
    rows.begin_epoch(0)
    assert rows[0] == 1
    rows.begin_epoch(3)
    assert (rows[1], list(rows)) == (60, [30, 60])
    assert not hasattr(rows, "order")


def test_a_family_or_a_loss_that_cannot_mine_while_it_trains_is_refused(place):
    with pytest.raises(
        RecipeError, match=r"data\.mine\.every: the teacher's answers are computed before .* remove `every`"
    ):
        load(place, "encoder.teacher={weight: 1.0}")
    recipe = load(place, "encoder={family: static, backbone: backbone, dim: 8}")
    tables = zoo.build.training_data.read_tables(recipe)
    with pytest.raises(ZooError, match=r"data\.mine\.every: static encodes with new weights only after the training"):
        mining.mine_recipe(recipe, tables, None, place / "static")

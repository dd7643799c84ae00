"""A recipe with `mine:` trains on mined negatives, keeps the counts, and refuses a corpus that it is tested on."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import tiny
import yaml

import cards
import zoo
from zoo import evaluation
from zoo.build import builder, mined_corpus, mining, training_data
from zoo.core import atomic_files
from zoo.core.errors import DataError, RecipeError, ZooError
from zoo.data.spec import Mine

_COUNT = len(tiny.WORDS)
WORDS = [" ".join(tiny.WORDS[n % _COUNT] for n in (i, i * i + 3, 7 * i // 2, i**3 // 5)) for i in range(120)]
ROLES = ["negative", *(f"negative_{i}" for i in range(1, 33))]
COUNTS = ("found", "known", "above_margin", "near_duplicates", "short_rows", "filled", "empty_rows", "rows", "texts")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return tiny.backbone(tmp_path_factory.mktemp("backbone") / "bert")


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def place(tmp_path, backbone):
    """A recipe on 40 pairs, a task on 6 others, and 20 leaflets."""
    (tmp_path / "backbone").symlink_to(backbone)
    write_lines(tmp_path / "train.jsonl", [{"anchor": WORDS[i], "positive": WORDS[i + 40]} for i in range(40)])
    write_lines(tmp_path / "test.jsonl", [{"query": WORDS[i], "document": WORDS[i + 6]} for i in range(80, 86)])
    write_lines(tmp_path / "leaflets.jsonl", [{"text": text} for text in WORDS[95:115]])
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(make_recipe()))
    return tmp_path


def make_recipe(mine=(), **sections):
    mine = {"count": 2, "margin": None, **dict(mine)}
    return {
        "name": "tiny",
        "encoder": {"family": "matryoshka-2d", "backbone": "backbone", "loss": "contrastive"},
        "data": {"source": "file", "path": "train.jsonl", "mine": mine},
        "training": {"max_steps": 2, "batch_size": 8, "learning_rate": 1e-3},
        "evaluation": [{"task": "retrieval", "name": "find", "data": {"source": "file", "path": "test.jsonl"}}],
        **sections,
    }


def load(place, *changes):
    return zoo.load_recipe(place / "recipe.yaml", *changes)


def mine_in(place, *changes, cache="cache"):
    recipe = load(place, *changes)
    tables = training_data.read_tables(recipe)
    return mining.mine_recipe(recipe, tables, mining.read_corpus(recipe), place / cache)


LEAFLETS = "data.mine.corpus={source: file, path: leaflets.jsonl}"


# -- rows --------------------------------------------------------------------------------------------------------------


def test_the_rows_get_columns_of_negatives_that_the_encoder_ranks_first(place):
    tables, record = mine_in(place)
    rows = tables["train"].rows
    assert rows.column_names == ["anchor", "positive", "negative", "negative_1"]
    encoder = zoo.from_pretrained(place / "backbone")
    positives = list(dict.fromkeys(rows["positive"]))
    scores = encoder.encode(rows["anchor"]) @ encoder.encode(positives).T
    for row, score in zip(rows, scores, strict=True):
        order = [positives[i] for i in np.argsort(-score) if positives[i] not in (row["anchor"], row["positive"])]
        assert row["negative"] in order[:3], "near-duplicates and sentences that chance made alike are left out"
    assert record["rows"] == 40
    assert record["found"] + record["filled"] == 80
    assert tables["train"].inputs[-2:] == ("negative", "negative_1")
    assert len({*WORDS}) == len(WORDS)


def test_negatives_of_the_data_stay_first(place):
    rows = [{"anchor": WORDS[i], "positive": WORDS[i + 40], "negative": WORDS[100 + i % 9]} for i in range(40)]
    write_lines(place / "train.jsonl", rows)
    tables, record = mine_in(place)
    mined = tables["train"].rows
    assert list(mined["negative"]) == [row["negative"] for row in rows]
    assert record["columns"] == ["negative_1", "negative_2"]
    assert all(row["negative"] != row["negative_1"] != row["negative_2"] for row in mined)


def test_a_corpus_of_its_own_is_searched(place):
    tables, record = mine_in(place, LEAFLETS)
    assert {*tables["train"].rows["negative"]} <= {*WORDS[95:115]}
    assert (record["corpus"], record["texts"]) == ("leaflets.jsonl", 20)


def test_pairs_of_the_validation_are_known_too(place):
    write_lines(place / "validation.jsonl", [{"anchor": WORDS[0], "positive": WORDS[i]} for i in range(40, 78)])
    tables, _ = mine_in(place, "validation={source: file, path: validation.jsonl}")
    allowed = {*WORDS[78:80]}
    assert {tables["train"].rows[0][role] for role in ("negative", "negative_1")} <= allowed
    assert "negative" not in tables["validation"].rows.column_names


def test_another_model_than_the_backbone_searches(place):
    tiny.backbone(place / "other", seed=5)
    own, other = mine_in(place), mine_in(place, "data.mine.model=other")
    assert own[0]["train"].fingerprint != other[0]["train"].fingerprint
    assert other[1]["model"]["is_folder"]
    assert not own[1]["model"]["is_folder"]


def test_rows_without_any_negative_are_left_out_and_an_error_if_these_are_all(place):
    write_lines(place / "leaflets.jsonl", [{"text": WORDS[41]}])
    tables, record = mine_in(place, LEAFLETS, "data.mine.count=1")
    assert record["empty_rows"] == 1, "the row whose positive is the only text"
    assert list(tables["train"].rows["anchor"]) == [WORDS[0], *WORDS[2:40]]
    with pytest.raises(DataError, match=r"data\.mine: no row has a candidate .* give a `corpus` with further texts"):
        mining.add_columns(tables["train"], ["negative_2"], [[] for _ in tables["train"].rows])


def test_a_teacher_can_be_handed_to_the_stage(place):
    recipe = load(place)
    table = training_data.read_tables(recipe)["train"]
    asked = []

    def score_pairs(pairs):
        asked.extend(pairs)
        return [float(document == WORDS[50]) for _, document in pairs]

    section = Mine(count=1, margin=0.5)
    mined, record = mining.mine_table(
        section,
        table,
        zoo.from_pretrained(place / "backbone"),
        roles=ROLES,
        cache=place / "cache",
        score_pairs=score_pairs,
        scorer_fingerprint="teacher",
    )
    assert asked
    assert WORDS[50] not in mined.rows["negative"], "the teacher calls it right for every anchor"
    assert record["above_margin"] > 0


def test_the_training_does_not_depend_on_whether_negatives_were_mined_or_read_again(place):
    import torch

    recipe = load(place)
    state = torch.get_rng_state()
    mining.open_encoder(recipe, "backbone")
    assert torch.equal(torch.get_rng_state(), state)


def test_a_cache_of_its_own_is_shared_by_two_runs(place, monkeypatch):
    first, _ = mine_in(place, "data.mine.cache=shared", cache="a")
    monkeypatch.setattr(mining.mine.exact_search, "search", None)
    second, _ = mine_in(place, "data.mine.cache=shared", cache="b")
    assert first["train"].fingerprint == second["train"].fingerprint
    assert not (place / "b").exists()


# -- runs --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory, backbone):
    folder = tmp_path_factory.mktemp("run")
    (folder / "backbone").symlink_to(backbone)
    write_lines(folder / "train.jsonl", [{"anchor": WORDS[i], "positive": WORDS[i + 40]} for i in range(40)])
    write_lines(folder / "leaflets.jsonl", [{"text": text} for text in WORDS[95:115]])
    mine = {"corpus": {"source": "file", "path": "leaflets.jsonl"}, "margin": 0.9, "examples": 3}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(make_recipe(mine, evaluation=[])))
    lines = []
    builder.run(zoo.load_recipe(folder / "recipe.yaml"), folder / "run", say=lines.append)
    return folder, lines


def test_the_lock_and_the_card_hold_the_counts(finished):
    folder, lines = finished
    lock = atomic_files.read_json(folder / "run" / "model" / "lock.json")
    record = lock["mining"]
    assert lock["data"]["mined corpus"]["rows"] == 20
    assert all(isinstance(record[name], int) for name in COUNTS)
    text = " ".join(cards.render(folder / "run" / "model").split())
    assert f"and found {record['found']} for 40 training rows" in text
    assert f"× that of the row's positive: {record['above_margin']}." in text
    assert len(record["examples"]) == 3
    for example in record["examples"]:
        assert f"| {example['anchor']} | {example['positive']} | {example['positive_score']:.4f} |" in text
    assert any(
        re.match(rf"mined {record['found']} negatives; left out {record['known']} known positives", line)
        for line in lines
    )


def test_a_finished_run_is_not_mined_again(finished, monkeypatch):
    folder, _ = finished
    monkeypatch.setattr(mining, "mine_recipe", None)
    builder.run(zoo.load_recipe(folder / "recipe.yaml"), folder / "run")


def test_examples_can_be_left_out(place):
    _, record = mine_in(place, "data.mine.examples=0")
    assert record["examples"] == []


def test_a_run_that_was_killed_while_mining_gives_the_same_model(finished, monkeypatch):
    folder, _ = finished
    recipe = zoo.load_recipe(folder / "recipe.yaml")
    search = mining.mine.exact_search.search

    def die(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(mining.mine.exact_search, "search", die)
    with pytest.raises(KeyboardInterrupt):
        builder.run(recipe, folder / "killed")
    monkeypatch.setattr(mining.mine.exact_search, "search", search)
    builder.run(recipe, folder / "killed")
    whole, killed = (
        atomic_files.sha256(next((folder / name / "trained").glob("**/model.safetensors")))
        for name in ("run", "killed")
    )
    assert whole == killed


# -- test documents ----------------------------------------------------------------------------------------------------


def settle(place, *changes):
    recipe = load(place, *changes)
    train = training_data.read_tables(recipe)["train"]
    return mined_corpus.settle(
        recipe, mining.read_corpus(recipe), train, evaluation.prepare(recipe.evaluation, recipe.folder)
    )


def test_a_corpus_that_equals_the_evaluation_corpus_is_refused_before_training(place):
    write_lines(place / "leaflets.jsonl", [{"text": WORDS[i + 6].upper()} for i in range(80, 86)])
    with pytest.raises(
        DataError, match=r"^data\.mine\.corpus: its 6 texts are the corpus of the task find, so training"
    ):
        builder.run(load(place, LEAFLETS), place / "run")
    with pytest.raises(DataError, match=r"leave `corpus` out, or name other texts$"):
        builder.check_rows(load(place, LEAFLETS), print)
    assert not (place / "run" / "recipe.yaml").exists(), "the recipe can still be changed"


def test_test_documents_in_the_corpus_are_reported_dropped_or_an_error(place):
    write_lines(place / "leaflets.jsonl", [{"text": text} for text in (*WORDS[84:88], *WORDS[95:115])])
    first = "4 of 24 texts of data.mine.corpus are texts of the task find"
    corpus, lines = settle(place, LEAFLETS)
    assert lines == [first, "set on_overlap: drop to mine without these texts"]
    assert len(corpus.rows) == 24
    corpus, lines = settle(place, LEAFLETS, "on_overlap=drop")
    assert lines == [first, "dropped 4 texts of data.mine.corpus"]
    assert list(corpus.rows["text"]) == WORDS[95:115]
    with pytest.raises(DataError, match=rf"^{first}\nremove these texts, or set on_overlap: drop or report$"):
        settle(place, LEAFLETS, "on_overlap=error")


def test_drop_that_leaves_no_texts_is_an_error(place):
    write_lines(place / "leaflets.jsonl", [{"text": text} for text in WORDS[86:88]])
    with pytest.raises(DataError, match=r"on_overlap: drop leaves no texts of data\.mine\.corpus"):
        settle(place, LEAFLETS, "on_overlap=drop")


def test_texts_of_the_training_rows_are_no_leak_and_a_corpus_without_test_texts_is_silent(place):
    assert settle(place, LEAFLETS)[1] == []
    write_lines(place / "test.jsonl", [{"query": WORDS[i], "document": WORDS[i]} for i in range(38, 42)])
    write_lines(place / "leaflets.jsonl", [{"text": text} for text in (WORDS[41], *WORDS[95:115])])
    assert settle(place, LEAFLETS)[1] == []


# -- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (make_recipe({"model": "./nothing"}), r"data\.mine\.model: \./nothing: there is no such folder"),
        (
            make_recipe({"range": [5, 5]}),
            r"data\.mine: range: 5 to 5 has fewer than the 2 candidates that `count` asks",
        ),
        (make_recipe({"range": [0, 5]}), r"data\.mine\.range"),
        (make_recipe({"range": [1, 10_001]}), r"data\.mine\.range"),
        (make_recipe({"corpus": {"source": "file", "path": "train.jsonl"}}), r"corpus\.columns: needs a column 'text'"),
        (make_recipe({"corpus": {"source": "file", "path": "x.csv"}}), r"data\.mine\.corpus\.path: .*x\.csv"),
        (make_recipe({"every": "step"}), r"data\.mine\.every: 'step' is not one of epoch|data\.mine\.every"),
        (
            make_recipe(encoder={"family": "matryoshka-2d", "backbone": "backbone"}),
            r"data\.mine: this loss of matryoshka-2d reads no hard negatives: choose a loss that reads anchor",
        ),
        (
            make_recipe(validation={"source": "file", "path": "train.jsonl", "mine": {}}),
            r"validation\.mine: only training rows get mined negatives; remove it",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(place, sections, message):
    (place / "recipe.yaml").write_text(yaml.safe_dump(sections))
    with pytest.raises(RecipeError, match=message):
        load(place)


def test_more_columns_than_the_loss_reads_are_a_mistake(place):
    row = {"anchor": "a", "positive": "b"} | dict.fromkeys(ROLES[:32], "c")
    write_lines(place / "train.jsonl", [row])
    with pytest.raises(RecipeError, match=r"data\.mine\.count: 2 besides the 32 columns .* more than the 33"):
        load(place)


def test_a_model_that_reads_no_texts_or_is_untrained_is_refused(place, monkeypatch):
    encoder = zoo.from_pretrained(place / "backbone")
    monkeypatch.setattr(mining.pretrained, "from_pretrained", lambda reference: encoder)
    monkeypatch.setattr(type(encoder), "is_usable", lambda self: False)
    with pytest.raises(ZooError, match=r"data\.mine\.model: matryoshka-2d encodes nothing before it is trained"):
        mining.open_encoder(load(place), "me/model")
    monkeypatch.setattr(type(encoder), "is_usable", lambda self: True)
    monkeypatch.setattr(type(encoder), "modalities", ("image",))
    with pytest.raises(ZooError, match=r"data\.mine\.model: me/model reads no texts"):
        mining.open_encoder(load(place), "me/model")

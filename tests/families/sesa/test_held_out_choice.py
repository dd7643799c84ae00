"""What held-out pairs decide before a training of SESA, and the unnamed part of a score."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny
from datasets import Dataset
from test_sesa import LIST, TEXTS, TRAINING, pairs, spec

import zoo
from zoo.artefact import manifest, model_folder
from zoo.build.builder import run
from zoo.core import atomic_files
from zoo.core.errors import ArtefactError
from zoo.encoder import TrainingRun
from zoo.families.sesa import faithfulness, held_out_choice
from zoo.families.sesa.encoder import Encoder
from zoo.families.sesa.towers import Towers
from zoo.schema import Training

OPEN = Training(batch_size=20, learning_rate=0.02)  # without epochs, so that they are chosen


def build(folder, rows, **options) -> Encoder:
    encoder = Encoder.build(spec(folder, **options), seed=3, folder=folder)
    encoder.prepare(rows, folder / "cache")
    return encoder


def fit(folder, rows, training=OPEN, **options) -> tuple[Encoder, list[str]]:
    encoder, said = build(folder, rows, **options), []
    encoder.fit(rows, training, folder / "run", say=said.append)
    return encoder, said


def make_noise(count: int) -> Dataset:
    """Pairs whose texts have nothing to do with each other."""
    rows = pairs(count).to_list()
    order = np.random.default_rng(1).permutation(count)
    return Dataset.from_list(
        [{"anchor": f"{row['anchor']} {i}", "positive": rows[order[i]]["positive"]} for i, row in enumerate(rows)]
    )


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return tiny.backbone(tmp_path_factory.mktemp("backbone") / "bert")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, backbone):
    return fit(tmp_path_factory.mktemp("open"), pairs(200), backbone=backbone)


# -- the unnamed part ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["backbone", "texts"])
@pytest.mark.parametrize("share", [0.25, 0.9])
def test_a_score_is_the_weighted_mean_of_the_cosines_of_concepts_and_of_the_own_vectors(
    kind, share, backbone, tmp_path
):
    options = {"backbone": backbone} if kind == "backbone" else {}
    encoder = build(tmp_path, pairs(), unnamed_share=share, **options)
    encoder.module.eval()
    vectors, named = encoder.encode(TEXTS), encoder.view(active=6).encode(TEXTS)
    if kind == "backbone":
        own = encoder.baseline().encode(TEXTS)
    else:
        own = encoder.towers.encode_queries(TEXTS).numpy()[:, : encoder.towers.own_width]
    own = own / np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-12)
    is_full = (np.linalg.norm(named, axis=1) > 0.5) & (np.linalg.norm(own, axis=1) > 0.5)
    assert is_full.sum() > len(TEXTS) // 2
    expected = (1 - share) * named @ named.T + share * own @ own.T
    np.testing.assert_allclose(
        (vectors @ vectors.T)[np.ix_(is_full, is_full)], expected[np.ix_(is_full, is_full)], atol=1e-5
    )
    assert vectors.shape == (len(TEXTS), encoder.dim)
    assert named.shape == (len(TEXTS), len(LIST))


def test_before_training_the_unnamed_part_ranks_as_the_backbone_does(backbone, tmp_path):
    rows = pairs(60)
    encoder = build(tmp_path, rows, backbone=backbone)
    search = held_out_choice.Search.from_rows(rows, [])
    untrained = encoder.baseline()
    scores = untrained.encode(search.queries) @ untrained.encode(search.documents).T
    found = held_out_choice.measure(encoder, search, (1.0,))[1.0]
    np.testing.assert_allclose(found, search.rate(scores), atol=1e-6)


def test_explanations_name_concepts_alone_and_sum_to_the_score(backbone, tmp_path):
    encoder = build(tmp_path, pairs(), backbone=backbone, unnamed_share=0.5)
    explanation = encoder.explain(*TEXTS[:2], top=100)
    vectors = encoder.encode(TEXTS[:2]).astype(np.float64)
    assert explanation.score == pytest.approx(vectors[0] @ vectors[1], abs=1e-6)
    assert sum(part.value for part in explanation.parts) + explanation.rest == pytest.approx(
        explanation.score, abs=1e-6
    )
    unnamed = vectors[0, len(LIST) :] @ vectors[1, len(LIST) :]
    assert explanation.rest == pytest.approx(unnamed, abs=1e-6), "all concepts are among the parts"
    assert {part.id for part in explanation.parts} <= {row["id"] for row in LIST}


def test_only_concepts_are_deleted_for_the_curves():
    queries = np.array([[0.6, 0.0, 0.8]])
    curves, _ = faithfulness.compute_deletion_curves(queries, queries, 0, concept_count=2)
    assert curves["explained"] == curves["random"] == [1.0, 1.0, 1.0], "the third component stays, alone"


def test_a_share_that_is_none_is_refused(backbone, tmp_path):
    model = model_folder.save(build(tmp_path, pairs(), backbone=backbone, unnamed_share=0.5), tmp_path / "model")
    config = atomic_files.read_json(model / "config.json")
    for wrong in (1.0, -0.1, "0.5", True):
        config["zoo"]["unnamed_share"] = wrong
        atomic_files.write_json(model / "config.json", config)
        manifest.write(model)
        with pytest.raises(ArtefactError, match="unnamed_share is not a share below 1"):
            zoo.from_pretrained(model)


# -- the choice ------------------------------------------------------------------------------------------------------


def test_the_choice_is_printed_recorded_and_saved(trained, tmp_path):
    encoder, said = trained
    choice = encoder.card_facts()["choice"]
    assert choice["queries"] >= held_out_choice.MIN_QUERIES
    assert held_out_choice.Choice(**choice).describe() in said
    assert encoder.chosen["encoder.unnamed_share"] == encoder.unnamed_share == choice["unnamed_share"]
    assert encoder.chosen["encoder.train_concepts"] == choice["trains"]
    model = model_folder.save(encoder, tmp_path / "model")
    opened = zoo.from_pretrained(model)
    np.testing.assert_allclose(opened.encode(TEXTS), encoder.encode(TEXTS), atol=1e-6)
    assert opened.card_facts()["choice"] == choice


def test_explicit_epochs_start_subwords_by_their_frequency_and_open_ones_as_in_tf_idf(tmp_path, monkeypatch):
    asked, initialise = [], Towers.initialise_rarity

    def note(self, texts, *, by_texts=False):
        asked.append(by_texts)
        initialise(self, texts, by_texts=by_texts)

    monkeypatch.setattr(Towers, "initialise_rarity", note)
    fit(tmp_path / "explicit", pairs(60), TRAINING.model_copy(update={"epochs": 1.0}))
    assert asked == [False]
    encoder, _ = fit(tmp_path / "open", pairs(12))
    tower = encoder.towers.get_tower("query")
    texts = list(dict.fromkeys([*pairs(12)["anchor"], *pairs(12)["positive"], *encoder.concept_list.names]))
    counts = np.array([sum(i in ids for ids in tower.tokenize(texts)) for i in range(len(tower.subwords))])
    weights = np.log((len(texts) + 1) / (counts + 0.5))
    expected = np.maximum(weights / weights.max(), 1e-3)
    np.testing.assert_allclose(tower.module.rarity.weight.detach().exp()[:, 0], expected, rtol=1e-4)


@pytest.mark.parametrize(("options", "suggested"), [({}, "`backbone:`"), ({"backbone": "x"}, "`word_dim: 384`")])
def test_a_worse_score_suggests_a_backbone_first(options, suggested, tmp_path):
    assert suggested in spec(tmp_path, **options).suggest_when_worse({"rows": 300})


def test_explicit_epochs_leave_the_training_as_it_was(backbone, tmp_path):
    for number, training in enumerate((TRAINING, TRAINING.model_copy(update={"epochs": None, "max_steps": 3}))):
        encoder, said = fit(tmp_path / str(number), pairs(60), training, backbone=backbone)
        assert encoder.unnamed_share == 0
        assert encoder.dim == len(LIST)
        assert "choice" not in encoder.card_facts()
        assert not any("held-out" in line for line in said)


def test_training_on_noise_does_not_rank_held_out_pairs_below_the_start(backbone, tmp_path):
    rows = make_noise(120)
    encoder, _ = fit(tmp_path, rows, backbone=backbone)
    choice = encoder.card_facts()["choice"]
    assert choice["trains"] == (choice["trained"] > choice["start"])
    assert encoder.unnamed_share >= 0.75, "the geometry of the start is protected"


def test_an_encoder_that_is_not_trained_is_the_start(backbone, tmp_path, monkeypatch):
    stay = held_out_choice.Choice(trains=False, unnamed_share=0.5, queries=20)
    monkeypatch.setattr(held_out_choice, "decide", lambda *_: stay)
    rows = pairs(60)
    encoder, said = fit(tmp_path, rows, backbone=backbone)
    start = build(tmp_path / "start", rows, backbone=backbone, unnamed_share=0.5)
    np.testing.assert_allclose(encoder.encode(TEXTS), start.encode(TEXTS), atol=1e-6)
    assert any("the concepts stay as they were" in line for line in said)
    assert encoder.chosen["encoder.train_concepts"] is False


def test_no_choice_ranks_held_out_pairs_below_the_start_or_far_below_the_best():
    draw = np.random.default_rng(0)
    shares = held_out_choice.SHARES
    for _ in range(50):
        before = {share: draw.random(30) for share in (*shares, 1.0)}
        after = {share: draw.random(30) + draw.normal() / 10 for share in shares}
        choice = held_out_choice.decide(before, after, shares)
        chosen = (after if choice.trains else before)[choice.unnamed_share]
        start = before[held_out_choice.choose_share(before, shares)]
        assert chosen.mean() >= start.mean()
        best = max((after if choice.trains else before).values(), key=lambda values: float(values.mean()))
        if not choice.trains:
            best = max((before[share] for share in shares), key=lambda values: float(values.mean()))
        margin = held_out_choice.MARGIN * held_out_choice.compute_standard_error(best - chosen)
        assert (best - chosen).mean() <= margin + 1e-12


def test_a_clear_gain_is_taken():
    shares = held_out_choice.SHARES
    before = {share: np.linspace(0.2, 0.4, 20) for share in (*shares, 1.0)}
    after = {share: before[share] + (0.3 if share == 0.25 else 0.1) for share in shares}
    choice = held_out_choice.decide(before, after, shares)
    assert (choice.trains, choice.unnamed_share) == (True, 0.25)
    equal = held_out_choice.decide(before, {share: before[share] for share in shares}, shares)
    assert (equal.trains, equal.unnamed_share) == (False, shares[0])


RECIPE = """
name: tiny
encoder: {family: sesa, concepts: {source: file, path: concepts.json}, max_active: 6, OPTIONS}
data: {source: file, path: train.jsonl}
training: {batch_size: 20, seed: 3}
evaluation:
  - task: retrieval
    data: {source: file, path: train.jsonl, columns: {query: anchor, document: positive}}
baselines: none
"""


@pytest.mark.parametrize("kind", ["backbone", "texts"])
def test_the_recipe_of_a_model_folder_gives_the_same_model_and_chooses_nothing(kind, backbone, tmp_path):
    (tmp_path / "concepts.json").write_text(json.dumps(LIST))
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs(100).to_list()))
    options = {"backbone": f"backbone: {backbone}", "texts": "vocab_size: 120, dim: 12, hidden: 8"}[kind]
    (tmp_path / "r.yaml").write_text(RECIPE.replace("OPTIONS", options))
    first = run(zoo.load_recipe(tmp_path / "r.yaml"), tmp_path / "first")
    saved = (tmp_path / "first" / "model" / "recipe.yaml").read_text()
    (tmp_path / "again.yaml").write_text(saved)
    said: list[str] = []
    second = run(zoo.load_recipe(tmp_path / "again.yaml"), tmp_path / "second", say=said.append)
    assert not any("held-out" in line for line in said)
    assert first.unnamed_share == second.unnamed_share > 0
    np.testing.assert_array_equal(first.encode(TEXTS), second.encode(TEXTS))


def test_rows_with_the_same_anchor_stay_together():
    rows = Dataset.from_list([{"anchor": f"a{i % 37}", "positive": f"p{i}"} for i in range(200)])
    kept, held_out = held_out_choice.split(rows, 0)
    assert not set(kept["anchor"]) & set(held_out["anchor"])
    assert sorted([*kept["positive"], *held_out["positive"]]) == sorted(rows["positive"])
    assert 0 < len(held_out) <= max(held_out_choice.MIN_HELD_OUT, held_out_choice.HELD_OUT_SHARE * len(rows))


def test_too_few_pairs_stay_at_the_start(backbone, tmp_path):
    encoder, said = fit(tmp_path, pairs(12), backbone=backbone)
    assert encoder.unnamed_share == held_out_choice.SHARES[0]
    assert any("too few pairs to hold any out" in line for line in said)


def test_an_interrupted_run_goes_on_with_its_choice(backbone, tmp_path, monkeypatch):
    rows = pairs(60)
    choice = held_out_choice.Choice(trains=False, unnamed_share=0.75, queries=11)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / held_out_choice.FILE).write_text(json.dumps(vars(choice)))
    encoder = build(tmp_path, rows, backbone=backbone)
    assert held_out_choice.choose(encoder, TrainingRun(rows, OPEN, tmp_path / "run")) == choice


def test_a_query_is_rated_by_the_ranks_of_all_its_documents():
    rows = Dataset.from_list([{"anchor": "a", "positive": "p"}, {"anchor": "a", "positive": "q"}])
    search = held_out_choice.Search.from_rows(rows, ["r", "a"])
    assert search.documents == ["p", "q", "r", "a"]
    ideal = 1 + 1 / np.log2(3)
    assert search.rate(np.array([[3.0, 2.0, 1.0, 9.0]]))[0] == pytest.approx(1), "the query itself does not count"
    assert search.rate(np.array([[3.0, 1.0, 2.0, 9.0]]))[0] == pytest.approx((1 + 1 / 2) / ideal)

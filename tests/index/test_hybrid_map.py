"""Both scores of a hybrid search become one probability, by a map that is fitted to judged queries."""

from __future__ import annotations

import json
import random
import shutil

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from tiny_rows import make_rows

import zoo
from zoo.cli.main import main
from zoo.core.errors import ArtefactError, ZooError
from zoo.index import candidates, changes, hybrid_fit, hybrid_map

QUESTIONS = 90


@pytest.fixture(scope="session")
def questions(rows):
    """Some words of a row in another order, and words of no row. The row is the answer."""
    draw = random.Random(1)
    chosen = []
    for row in draw.sample(rows, QUESTIONS):
        words = row["text"].split()
        chosen.append({"text": " ".join([*draw.sample(words, -(-len(words) // 2)), "zzz"]), "relevant": [row["id"]]})
    return chosen


@pytest.fixture(scope="session")
def fitted_folder(encoder, rows, questions, tmp_path_factory):
    path = tmp_path_factory.mktemp("hybrid") / "index"
    changes.build(encoder, rows, path, changes.BuildRequest(shard_rows=120))
    facts = zoo.Index.open(path, encoder).fit_hybrid(questions)
    assert facts["queries"] == len({question["text"] for question in questions}) or facts["queries"] == QUESTIONS
    return path


@pytest.fixture
def fitted(fitted_folder, encoder, tmp_path):
    shutil.copytree(fitted_folder, tmp_path / "fitted")
    return zoo.Index.open(tmp_path / "fitted", encoder)


def test_every_candidate_has_both_scores(fitted, encoder, rows):
    queries = ["fever and cough", "zzz", "the red cat"]
    vectors = fitted.row_encoder.encode_queries(queries)
    where = "year >= 2018"
    found = candidates.collect(fitted, queries, vectors, fitted.find_rows(where), 20)
    texts = [row["text"] for row in rows]
    allowed = np.array([(row["year"] or 0) >= 2018 for row in rows])
    products = vectors @ encoder.encode_document(texts).T
    for query, text in enumerate(queries):
        words = fitted.lexical.compute_scores(text)
        own = found.numbers[query][found.numbers[query] >= 0]
        assert len(np.unique(own)) == len(own)
        np.testing.assert_allclose(found.products[query][: len(own)], products[query][own], atol=1e-5)
        np.testing.assert_allclose(found.words[query][: len(own)], words[own])
        best = [np.argsort(-np.where(allowed, scores, -1), kind="stable")[:20] for scores in (products[query], words)]
        wanted = {*best[0], *(number for number in best[1] if words[number] > 0)}
        assert set(own.tolist()) >= {*map(int, best[0])}
        assert len(own) == len(wanted) or text != "zzz"  # equal scores of BM25 leave open which of them come
        assert allowed[own].all()


def test_a_better_score_never_lowers_the_probability(fitted, encoder):
    rng = np.random.default_rng(0)
    queries = rng.standard_normal((40, encoder.dim)).astype(np.float32)
    products = rng.uniform(-1, 1, (40, 60)).astype(np.float32)
    words = np.maximum(rng.uniform(-5, 9, (40, 60)), 0).astype(np.float32)
    mapped = fitted.hybrid_map.apply(queries, queries, products, words, None)
    higher = (products[:, :, None] >= products[:, None]) & (words[:, :, None] >= words[:, None])
    assert (mapped[:, :, None] >= mapped[:, None])[higher].all()
    assert mapped.min() >= 0
    assert mapped.max() <= 1


def test_the_noisy_or_is_that_of_the_probabilities():
    rng = np.random.default_rng(0)
    products, words = rng.normal(0, 4, (2, 5, 7))
    features = hybrid_map.join_features(products, words)
    np.testing.assert_allclose(expit(features[..., 2]), 1 - (1 - expit(products)) * (1 - expit(words)), rtol=1e-9)
    assert np.isfinite(hybrid_map.join_features(np.full((1, 1), 700.0), np.full((1, 1), -700.0))).all()


def test_the_weights_are_those_of_logistic_regression_and_not_negative():
    rng = np.random.default_rng(0)
    features = np.column_stack([rng.normal(0, 2, (20_000, 3)), np.ones(20_000)])
    right = rng.uniform(size=20_000) < expit(features @ [0.4, 0.9, 0.2, -1.0])
    expected = LogisticRegression(C=np.inf, fit_intercept=False).fit(features, right).coef_[0]
    np.testing.assert_allclose(hybrid_fit.fit_weights(features, right), expected, atol=1e-3)
    right = rng.uniform(size=20_000) < expit(features @ [0.4, -0.9, 0.0, -1.0])
    weights = hybrid_fit.fit_weights(features, right)
    assert weights[1] == 0
    assert weights[0] > 0.2


def test_hits_come_by_their_probability_before_and_after_opening_and_changes(fitted, encoder, questions):
    (question, *_) = questions
    (hits,) = fitted.search([question["text"]], 10, hybrid="relevance")
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert all(hit.score == hit.probability for hit in hits)
    assert zoo.Index.open(fitted.path, encoder).search([question["text"]], 10, hybrid="relevance") == [hits]
    (cut,) = fitted.search([question["text"]], 10, hybrid="relevance", relevant=True)
    assert cut == [hit for hit in hits if hit.probability >= fitted.hybrid_map.threshold]
    fitted.add([{**row, "id": f"more-{row['id']}", "text": "zzz zzz"} for row in make_rows(2)])
    fitted.remove([hits[0].id])
    fitted.compact()
    (again,) = fitted.search([question["text"]], 5, hybrid="relevance")
    assert hits[0].id not in [hit.id for hit in again]


def test_the_map_is_above_each_ranking_alone_on_its_queries(fitted):
    scores = fitted.hybrid_map.facts["ndcg@10"]
    assert scores["relevance"] > scores["encoder"]
    assert scores["relevance"] >= scores["rank"] - 0.05


def test_a_model_with_a_step_gives_the_probabilities_of_its_scores(index, encoder, questions, monkeypatch):
    class Step:
        """Stands for a step `relevance`."""

        spec, threshold, top = "halves", 0.5, 20

        def __init__(self, offset):
            self.offset = offset

        def map_scores(self, queries, scores):
            return np.where(np.isfinite(scores), expit(8 * scores + self.offset), 0).astype(np.float32)

        def state(self):
            return {"offset": self.offset}

        def tensors(self):
            return {}

    from zoo.after.step import ScoreStep

    kind = type("Kind", (Step, ScoreStep), {})
    steps = [kind(-4.0)]
    monkeypatch.setattr(type(encoder), "steps", property(lambda self: tuple(steps)))
    index.fit_hybrid(questions)
    opened = index.hybrid_map
    assert opened.products is None
    vectors = index.row_encoder.encode_queries(["fever"])
    found = candidates.collect(index, ["fever"], vectors, index.find_rows())
    log_odds = hybrid_map.compute_log_odds(steps[0].map_scores, vectors, found.products)
    np.testing.assert_allclose(log_odds, logit(expit(8 * found.products.astype(float) - 4)), atol=1e-3)
    assert index.search(["fever"], 3, hybrid="relevance")[0]
    steps[0] = kind(-3.0)
    with pytest.raises(ArtefactError, match="the step `relevance` of the model is another one; run --fit-hybrid again"):
        zoo.Index.open(index.path, encoder).search(["fever"], 3, hybrid="relevance")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda own: own[:40], "at least 50 different queries"),
        (lambda own: [{**one, "relevant": ["absent"]} for one in own], "there is no row with the id 'absent'"),
        (
            lambda own: [{**one, "text": f"zzz {n}", "relevant": ["r0"]} for n, one in enumerate(own)],
            "right rows are among",
        ),
    ],
)
def test_questions_that_teach_nothing_are_refused(index, questions, change, message, monkeypatch):
    monkeypatch.setattr(candidates.lexical, "DEPTH", 1)
    monkeypatch.setattr(hybrid_fit, "MIN_PAIRS", 200)
    with pytest.raises(ZooError, match=message):
        index.fit_hybrid(change(questions))


def test_words_that_find_nothing_are_said(index, questions):
    with pytest.raises(ZooError, match="BM25 finds only 0 right rows among the first 50 of all queries"):
        index.fit_hybrid([{**question, "text": f"zzz{number}"} for number, question in enumerate(questions * 3)])


def test_a_map_that_is_missing_or_damaged_is_said(index, fitted, encoder):
    with pytest.raises(ZooError, match="has no map for hybrid searches; fit one with zoo index DIR --fit-hybrid"):
        index.search(["fever"], hybrid="relevance")
    with pytest.raises(ZooError, match="hybrid: 'relevanse' is not one of rank, relevance; did you mean relevance"):
        index.search(["fever"], hybrid="relevanse")
    path = fitted.path / fitted.manifest.parts["hybrid"]
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ArtefactError, match=r"hybrid-00002\.safetensors: its sha256 is not the manifest's"):
        zoo.Index.open(fitted.path, encoder).search(["fever"], hybrid="relevance")
    path.write_bytes(b"nothing")
    with pytest.raises(ArtefactError, match="cannot be read .*; run --fit-hybrid again"):
        hybrid_map.open_map(path)


def test_the_commands_fit_and_search(encoder, backbone, fitted_folder, questions, tmp_path, capsys):
    shutil.copytree(fitted_folder, tmp_path / "index")
    (tmp_path / "q.jsonl").write_text("".join(f"{json.dumps(question)}\n" for question in questions))
    folder = str(tmp_path / "index")
    assert main(["index", folder, "--fit-hybrid", str(tmp_path / "q.jsonl"), "--model", backbone]) == 0
    assert "nDCG@10 of 90 queries, held out: encoder" in capsys.readouterr().out
    text = "fever and cough"
    for words, mode in (
        ([text, "--hybrid", "relevance"], "relevance"),
        ([text, "--hybrid"], "rank"),
        (["--hybrid", text], "rank"),
    ):
        assert main(["search", folder, *words, "--model", backbone, "--json"]) == 0
        (answer,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert answer["query"] == "fever and cough"
        (hits,) = zoo.Index.open(folder, encoder).search(["fever and cough"], hybrid=mode)
        assert [hit["id"] for hit in answer["hits"]] == [hit.id for hit in hits]

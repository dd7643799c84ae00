"""Mined negatives are the best candidates that are neither known nor probable positives; what was computed is kept."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.core.errors import ZooError
from zoo.data.overlap import normalise_text
from zoo.mining import mine, vectors
from zoo.mining.mine import Miner, Rows, Settings

NO_FILTER = Settings(margin=None)


def encode(texts):
    """Give each text a vector by its hash."""
    seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) for text in texts]
    return np.array([np.random.default_rng(seed).standard_normal(8) for seed in seeds], np.float32)


class Encoder:
    """Counts the texts that it encodes, and can be killed after some of them."""

    def __init__(self, dies_after=None, function=encode):
        self.count, self.dies_after, self.function = 0, dies_after, function

    def __call__(self, texts):
        self.count += len(texts)
        if self.dies_after is not None and self.count > self.dies_after:
            raise KeyboardInterrupt
        return self.function(texts)


def make_miner(encoder=encode, **options):
    return Miner(encoder, encoder, "model", **options)


def in_plane(angles):
    """Encode texts as directions in the plane, by their angle in degrees."""

    def encode_by_angle(texts):
        turns = np.radians([angles[text] for text in texts])
        return np.stack([np.cos(turns), np.sin(turns)], axis=1).astype(np.float32)

    return encode_by_angle


ANGLES = {"q": 0, "right answer": 20, "a": 5, "b": 18, "c": 30, "d": 45, "e": 80}
PLANE = make_miner(in_plane(ANGLES))
ONE_ROW = Rows(["q"], ["right answer"])
CORPUS = ["right answer", *"abcde"]


@pytest.fixture
def run(tmp_path):
    def mine_here(rows=ONE_ROW, corpus=CORPUS, miner=PLANE, known_pairs=(), **options):
        return mine.mine(rows, corpus, miner, Settings(**options), tmp_path / "cache", known_pairs=known_pairs)

    return mine_here


# -- which texts -------------------------------------------------------------------------------------------------------


def test_the_best_texts_of_a_naive_sort_are_mined(run):
    texts = [f"text {i}" for i in range(200)]
    mined = run(Rows(texts[:30], texts[30:60]), texts, make_miner(), margin=None, count=5, last=20)
    all_vectors = encode(texts)
    all_vectors /= np.linalg.norm(all_vectors, axis=1, keepdims=True)
    scores = all_vectors[:30] @ all_vectors.T
    for row in range(30):
        scores[row, [row, 30 + row]] = -2
        assert mined.negatives[row] == [texts[i] for i in np.argsort(-scores[row], kind="stable")[:5]]
        assert mined.scores[row] == pytest.approx(np.sort(scores[row])[::-1][:5], abs=1e-5)


def test_a_candidate_above_the_margin_is_dropped(run):
    """The positive has cos 20° = .940; .95 of it is .893, which 30° (.866) is below and 18° (.951) is above."""
    mined = run(count=2, margin=0.95)
    assert mined.negatives == [["c", "d"]]
    assert mined.counts["above_margin"] == 2
    assert run(count=2, margin=None).negatives == [["a", "b"]]
    assert run(count=2, margin=0.9).negatives == [["d", "e"]], "30° is above .9 × .940 = .846"


def test_the_limit_of_a_positive_with_a_negative_score_is_below_its_score(run):
    miner = make_miner(in_plane({"q": 0, "right answer": 120, "a": 118, "b": 125}))
    assert run(ONE_ROW, ["a", "b"], miner, margin=0.9).negatives == [["b"]]


def test_ranks_are_those_after_the_known_positives(run):
    assert run(first=2, last=3, margin=None, count=2).negatives == [["b", "c"]]


def test_a_teacher_decides_what_is_a_probable_positive_and_is_asked_once(run):
    asked = []

    def score_pairs(pairs):
        asked.extend(pairs)
        return [{"a": 0.1, "b": 0.99, "right answer": 1.0}.get(document, 0.5) for _, document in pairs]

    miner = PLANE._replace(score_pairs=score_pairs, scorer_fingerprint="cross-encoder")
    for _ in range(2):
        mined = run(miner=miner, count=2)
        assert mined.negatives == [["a", "c"]]
        assert mined.positive_scores == [1.0]
        assert len(asked) == 6


def test_a_near_duplicate_of_a_positive_is_dropped(run):
    positive = "Acute pain of the left arm"
    alike = ["acute  pain of the LEFT arm", "left arm: the acute pain of", "acute pain of the right arm"]
    miner = make_miner(in_plane({"q": 0, positive: 30, alike[0]: 31, alike[1]: 32, alike[2]: 33}))
    mined = run(Rows(["q"], [positive]), [positive, *alike], miner, margin=None)
    assert mined.negatives == [[alike[2]]]
    assert mined.counts["near_duplicates"] == 1, "equal words in another order; equal texts are known positives"
    assert mined.counts["known"] == 2


def test_texts_that_a_row_has_already_are_not_mined_again(run):
    mined = run(Rows(["q"], ["right answer"], [("A",)]), margin=None, count=2)
    assert mined.negatives == [["b", "c"]]
    assert mined.counts["repeated"] == 1


def test_random_candidates_depend_on_the_seed_and_the_row_alone(run):
    texts = [f"text {i}" for i in range(100)]
    rows = Rows(texts[:10], texts[10:20])
    draws = [run(rows, texts, make_miner(), sample="random", seed=seed, count=3).negatives for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    shorter = run(Rows(texts[:5], texts[10:15]), texts, make_miner(), sample="random", seed=1, count=3, margin=None)
    longer = run(rows, texts, make_miner(), sample="random", seed=1, count=3, margin=None)
    assert shorter.negatives == longer.negatives[:5]


def test_a_row_with_too_few_candidates_is_filled_with_random_texts_that_have_no_score(run):
    mined = run(last=3, count=2)
    assert mined.negatives[0][0] == "c"
    assert mined.negatives[0][1] in ("d", "e")
    assert mined.scores[0][1] is None
    assert (mined.counts["short_rows"], mined.counts["filled"], mined.counts["found"]) == (1, 1, 1)


def test_a_row_is_filled_by_repeats_if_no_text_is_left_and_is_empty_without_any(run):
    assert run(count=5).negatives == [["c", "d", "e", "c", "d"]]
    mined = run(corpus=["right answer", "a"])
    assert mined.negatives == [[]]
    assert mined.counts["empty_rows"] == 1


# -- known positives ---------------------------------------------------------------------------------------------------

PAIRS = st.lists(st.tuples(st.integers(0, 9), st.integers(5, 14)), min_size=1, max_size=25)


@settings(max_examples=80, deadline=None)
@given(pairs=PAIRS, count=st.integers(1, 4), sample=st.sampled_from(["top", "random"]))
def test_a_known_positive_is_never_mined(tmp_path_factory, pairs, count, sample):
    """The reference follows pairs in both directions, up to the positives of an anchor with an equal positive."""
    names = [f"word{i}" for i in range(15)]
    spellings = [lambda text: text, str.upper, lambda text: f" {text} "]
    anchors, positives = ([spellings[i % 3](names[pair[side]]) for i, pair in enumerate(pairs)] for side in (0, 1))
    corpus = [*positives, *names, *map(str.upper, names)]
    mined = mine.mine(
        Rows(anchors, positives),
        corpus,
        make_miner(),
        Settings(margin=None, count=count, sample=sample, last=8),
        tmp_path_factory.mktemp("cache"),
    )
    partners = {name: {names[b] for a, b in pairs if names[a] == name} for name in names}
    for name in names:
        partners[name] |= {names[a] for a, b in pairs if names[b] == name}
    for anchor, negatives in zip(anchors, mined.negatives, strict=True):
        name = normalise_text(anchor)
        known = {name} | partners[name]
        for _ in range(2):
            known |= set().union(*(partners[text] for text in known - {name}))
        assert not known & {normalise_text(text) for text in negatives}
        assert len(negatives) in (0, count)


def test_further_known_pairs_are_never_mined(run):
    assert run(margin=None, known_pairs=[("Q", "A")]).negatives == [["b"]]


# -- kept results ------------------------------------------------------------------------------------------------------


def test_nothing_is_encoded_or_searched_twice(run, monkeypatch):
    encoder = Encoder()
    texts = [f"text {i}" for i in range(40)]
    rows = Rows(texts[:20], texts[20:])
    first = run(rows, texts, make_miner(encoder), count=2)
    assert encoder.count == 60
    monkeypatch.setattr(mine.exact_search, "search", None)
    assert run(rows, texts, make_miner(encoder), count=2) == first
    assert run(rows, texts, make_miner(encoder), count=3).counts["found"] > 0
    assert encoder.count == 60


def test_another_model_or_other_texts_are_encoded_anew(run):
    encoder = Encoder()
    run(miner=make_miner(encoder), rows=Rows(["a"], ["b"]), corpus=["c"])
    count = encoder.count
    run(miner=make_miner(encoder)._replace(fingerprint="other"), rows=Rows(["a"], ["b"]), corpus=["c"])
    assert encoder.count == 2 * count
    run(miner=make_miner(encoder), rows=Rows(["a"], ["b"]), corpus=["d"])
    assert encoder.count == 3 * count - 1, "the anchors are the same"


@pytest.mark.parametrize("dies_after", [0, 1, 7, 25, 44, 59])
def test_a_killed_mining_goes_on_with_the_block_that_it_was_at(tmp_path, monkeypatch, dies_after):
    monkeypatch.setattr(vectors, "BLOCK", 8)
    texts = [f"text {i}" for i in range(40)]
    rows = Rows(texts[:20], texts[20:])

    def run_in(folder, encoder):
        return mine.mine(rows, texts, make_miner(encoder), Settings(count=2), tmp_path / folder)

    whole, killed, resumed = run_in("whole", encode), Encoder(dies_after), Encoder()
    with pytest.raises(KeyboardInterrupt):
        run_in("killed", killed)
    assert run_in("killed", resumed) == whole
    assert resumed.count <= 60 - dies_after + 8, "at most a block is encoded again"
    assert not list((tmp_path / "killed").glob("*.part"))
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert names == {path.name for path in (tmp_path / "killed").iterdir()}


def test_a_search_that_is_killed_goes_on_with_the_next_block(run, monkeypatch):
    monkeypatch.setattr(mine, "BLOCK", 8)
    texts = [f"text {i}" for i in range(40)]
    rows = Rows(texts[:20], texts[20:])
    searched = []
    search = mine.exact_search.search

    def search_twice(queries, *arguments, **options):
        if len(searched) == 2:
            raise KeyboardInterrupt
        searched.append(len(queries))
        return search(queries, *arguments, **options)

    monkeypatch.setattr(mine.exact_search, "search", search_twice)
    with pytest.raises(KeyboardInterrupt):
        run(rows, texts, make_miner())
    blocks = []
    monkeypatch.setattr(mine.exact_search, "search", lambda q, *a, **o: blocks.append(len(q)) or search(q, *a, **o))
    resumed = run(rows, texts, make_miner())
    assert (searched, blocks) == ([8, 8], [4])
    monkeypatch.setattr(mine, "BLOCK", 1024)
    assert run(rows, texts, make_miner()).negatives == resumed.negatives


def test_a_vector_that_is_not_finite_is_an_error(run):
    with pytest.raises(ZooError, match=r"NaN or infinity; name another model in `mine\.model`"):
        run(miner=make_miner(lambda texts: np.full((len(texts), 2), np.nan)))

"""An encoder scored with codes has the scores of its decoded vectors, and float queries stay float vectors."""

from __future__ import annotations

import after_steps
import numpy as np
import pytest
import tiny
from scipy import stats

import zoo
from zoo.after.material import Material
from zoo.evaluation import coded, prepare, scoring
from zoo.evaluation.kept_vectors import KeptVectors
from zoo.recipe import task_arguments

STEPS = [("int8", {}), ("binary", {}), ("binary", {"query": "signs"}), ("binary", {"rescore": "int8", "candidates": 1})]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coded")
    tiny.backbone(folder / "backbone")
    texts = tiny.SENTENCES
    (folder / "pairs.csv").write_text("query,document\n" + "".join(f"{a},{a} acute\n" for a in texts[:60]))
    scored = (f"{texts[i]},{texts[(i * 7) % 50]},{i % 5}\n" for i in range(50))
    (folder / "sts.csv").write_text("sentence1,sentence2,score\n" + "".join(scored))
    return folder


@pytest.fixture(scope="module")
def encoder(place):
    return zoo.from_pretrained(str(place / "backbone"))


def make_task(place, kind, path):
    return prepare([task_arguments.make_task(kind, ["data.source=file", f"data.path={place / path}"])]).tasks


@pytest.mark.parametrize(("name", "fields"), STEPS)
def test_a_retrieval_ranks_by_the_scores_of_the_step(place, encoder, name, fields):
    vectors = encoder.prepare_vectors(encoder.encode(tiny.SENTENCES))
    step = after_steps.fit(name, Material(vectors), **fields)
    encoder.attach_steps([step])
    (entry,) = coded.score_codes(encoder, step, make_task(place, "retrieval", "pairs.csv"), [])
    queries = list(dict.fromkeys(tiny.SENTENCES[:60]))
    documents = [f"{text} acute" for text in queries]
    scores = encoder.scores(queries, encoder.codes(documents))
    ranks = (scores > np.diag(scores)[:, None]).sum(1)
    upper = np.where(ranks < 10, 1 / np.log2(ranks + 2), 0).mean()
    tied = (scores >= np.diag(scores)[:, None]).sum(1) - 1
    lower = np.where(tied < 10, 1 / np.log2(tied + 2), 0).mean()
    assert lower - 1e-4 <= entry["value"] <= upper + 1e-4
    assert entry["float_value"] > 0
    assert (entry["bytes_per_vector"], entry["first_bytes"]) == (step.bytes_per_vector, step.first_bytes)


def test_both_texts_of_a_scored_pair_are_coded(place, encoder):
    step = after_steps.fit("binary", Material(encoder.prepare_vectors(encoder.encode(tiny.SENTENCES))))
    encoder.attach_steps([step])
    (entry,) = coded.score_codes(encoder, step, make_task(place, "sts", "sts.csv"), [])
    pairs = [(tiny.SENTENCES[i], tiny.SENTENCES[(i * 7) % 50]) for i in range(50)]
    left, right = (encoder.decode(encoder.codes(list(texts))) for texts in zip(*pairs, strict=True))
    cosines = (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
    assert entry["value"] == pytest.approx(stats.spearmanr(cosines, [i % 5 for i in range(50)])[0], abs=1e-4)


def test_a_score_of_the_whole_encoder_is_taken_from_the_report(place, encoder):
    step = after_steps.fit("int8", Material(encoder.prepare_vectors(encoder.encode(tiny.SENTENCES))))
    encoder.attach_steps([step])
    tasks = make_task(place, "sts", "sts.csv")
    results = [
        {"task": "sts", "view": {"layers": 2}, "value": 0.1},
        {"task": "sts", "view": {"layers": 3, "dim": 32}, "value": 0.25},
    ]
    assert coded.score_codes(encoder, step, tasks, results)[0]["float_value"] == 0.25
    assert coded.find_whole_score(encoder, "sts", results[:1]) is None


@pytest.mark.parametrize(("kind", "path"), [("retrieval", "pairs.csv"), ("sts", "sts.csv")])
def test_texts_are_encoded_once_for_both_scores(place, encoder, kind, path, monkeypatch, tmp_path):
    step = after_steps.fit("binary", Material(encoder.prepare_vectors(encoder.encode(tiny.SENTENCES))))
    encoder.attach_steps([step])
    tasks, counts, encode = make_task(place, kind, path), [], type(encoder).encode

    def count(self, inputs, **options):
        counts.append(len(inputs))
        return encode(self, inputs, **options)

    monkeypatch.setattr(type(encoder), "encode", count)
    with KeptVectors(tmp_path / "kept") as kept:
        plain = scoring.score(encoder, tasks[0], "fp32", False, kept)
        before = list(counts)
        (entry,) = coded.score_codes(encoder, step, tasks, [plain.entry | {"view": {}}], kept=kept)
        assert before
        assert counts == before
    assert not list((tmp_path / "kept").iterdir())
    (again,) = coded.score_codes(encoder, step, tasks, [plain.entry | {"view": {}}])
    assert sum(counts) == 2 * sum(before)
    assert {**entry, "seconds": 0} == {**again, "seconds": 0}


def test_vectors_are_kept_by_texts_and_options():
    with KeptVectors() as kept:
        kept.keep(["a", "b"], ["fp32", None], np.ones((2, 3)))
        assert kept.find(["a", "b"], ["fp32", None]).tolist() == np.ones((2, 3)).tolist()
        for inputs, options in (
            (["b", "a"], ["fp32", None]),
            (["a", "b"], ["fp32", "query"]),
            (["ab"], ["fp32", None]),
        ):
            assert kept.find(inputs, options) is None
        kept.keep([b"an image"], ["fp32", None], np.ones((1, 3)))
        assert kept.find([b"an image"], ["fp32", None]) is None

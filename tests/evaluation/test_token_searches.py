"""A search with token vectors is scored by MaxSim; all other tasks get one vector for each text."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import tiny_late
from pydantic import TypeAdapter

from zoo.core.errors import ZooError
from zoo.evaluation import evaluate
from zoo.evaluation.mteb_model import MtebModel
from zoo.evaluation.spec import Task
from zoo.ops.maxsim import compute_maxsim
from zoo.pretrained import from_pretrained

QUERIES, DOCUMENTS = tiny.SENTENCES[:12], list(dict.fromkeys(tiny.SENTENCES[12:]))[:30]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return tiny_late.build(tmp_path_factory.mktemp("late"))


def make_task(folder, kind, **parts):
    """A task whose right document of each query is the one that the encoder ranks third by MaxSim."""
    fields = {}
    for name, rows in parts.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        fields[name] = {"source": "file", "path": f"{name}.jsonl"}
    return TypeAdapter(Task).validate_python({"task": kind, **fields})


def rank(encoder):
    queries, documents = encoder.encode_tokens(QUERIES, "query"), encoder.encode_tokens(DOCUMENTS, "document")
    return np.argsort(-compute_maxsim(queries, documents), axis=1, kind="stable")


def list_parts(encoder):
    right = rank(encoder)[:, 2].tolist()
    return {
        "queries": [{"id": i, "text": text} for i, text in enumerate(QUERIES)],
        "corpus": [{"id": i, "text": text} for i, text in enumerate(DOCUMENTS)],
        "qrels": [{"query_id": i, "document_id": number, "score": 1} for i, number in enumerate(right)],
    }


def test_a_retrieval_is_scored_by_maxsim_of_the_token_vectors(encoder, tmp_path):
    task = make_task(tmp_path, "retrieval", **list_parts(encoder))
    (entry,) = evaluate(encoder, [task], folder=tmp_path, baseline=False)["results"]
    assert entry["value"] == pytest.approx(0.5)  # a single right document at place 3: 1 / log2(4)
    _, offsets = encoder.encode_tokens(DOCUMENTS, "document")
    assert entry["bytes_per_vector"] == round(offsets[-1] / len(DOCUMENTS) * 12 * 4)


def test_a_reranking_sorts_its_candidates_by_maxsim(encoder, tmp_path):
    order = rank(encoder)
    ranked = [{"query_id": i, "document_ids": row[[7, 2, 0, 1]].tolist()} for i, row in enumerate(order)]
    task = make_task(tmp_path, "reranking", **list_parts(encoder), top_ranked=ranked)
    report = evaluate(encoder, [task], folder=tmp_path, baseline=False)
    assert report["results"][0]["value"] == pytest.approx(1 / 3, abs=1e-4)


def test_views_are_scored_by_their_own_vectors(encoder, tmp_path):
    task = make_task(tmp_path, "retrieval", **list_parts(encoder))
    views = [{"scoring": "mean"}, {"scoring": "fixed-dimensional", "repetitions": 4, "bits": 2, "project": 8}]
    task = task.model_copy(update={"views": views})
    entries = evaluate(encoder, [task], folder=tmp_path, baseline=False)["results"]
    assert [entry["bytes_per_vector"] for entry in entries] == [48, 4 * 4 * 4 * 8]


def test_other_tasks_get_the_mean_of_the_token_vectors(encoder):
    metadata = SimpleNamespace(name="T", type="STS")
    batches = [{"text": QUERIES}]
    model = MtebModel(encoder, "fp32")
    vectors = model.encode(batches, task_metadata=metadata, hf_split="test", hf_subset="default")
    np.testing.assert_allclose(vectors, encoder.encode(QUERIES), atol=1e-6)


def test_a_family_without_token_vectors_says_so(tmp_path):
    with pytest.raises(ZooError, match="has no vectors of tokens"):
        from_pretrained(tiny.backbone(tmp_path / "bert")).encode_tokens(["a"])


def test_codes_are_scored_beside_the_vectors_that_they_stand_for(encoder, tmp_path):
    from zoo.after import load_spec, load_step
    from zoo.after.material import Material
    from zoo.evaluation.coded import score_codes
    from zoo.evaluation.prepare import prepare

    step = load_step("int8").fit(load_spec("int8")(step="int8"), Material(encoder.encode_document(DOCUMENTS)))
    task = make_task(tmp_path, "retrieval", **list_parts(encoder)).model_copy(update={"views": [{"scoring": "mean"}]})
    report = evaluate(encoder, [task], folder=tmp_path, baseline=False)
    (entry,) = score_codes(encoder, step, prepare([task], tmp_path).tasks, report["results"])
    assert entry["float_value"] == pytest.approx(report["results"][0]["value"])
    assert entry["bytes_per_vector"] == 12

"""Late interaction: token vectors, their training by MaxSim, views, and the folder that MultiVectorEncoder opens."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
import tiny_dense
import tiny_late
import torch
from contract import Contract

import zoo
from zoo.artefact import model_folder
from zoo.core.errors import ArtefactError, DataError, ZooError
from zoo.data.data_source import DataSource
from zoo.families.late_interaction import stock_check
from zoo.families.late_interaction.encoder import Encoder
from zoo.families.late_interaction.spec import Spec
from zoo.ops import fixed_dimensional
from zoo.ops.maxsim import compute_maxsim
from zoo.ops.token_sets import compute_mean_vectors, split_token_sets
from zoo.schema import Training

TEXTS = [*tiny.SENTENCES[:12], "the dog", "fever , cough .", " ".join(tiny.WORDS[:30])]
TRAINING = Training(epochs=2, batch_size=16, learning_rate=3e-3, early_stop=None, precision="fp32")
LORA = {"rank": 4, "alpha": 8.0}
EXPANSION = {"length": 8}


def contract(folder) -> Contract:
    view = {"scoring": "fixed-dimensional", "repetitions": 2, "bits": 2, "project": 4}
    return Contract(tiny_late.make_spec(folder, dropout=0.0), tiny_dense.rows(n=48), TRAINING, TEXTS, view, folder)


def write_punctuation(folder: Path) -> str:
    """Write a tiny backbone that has a comma and a full stop in place of two words."""
    path = Path(tiny.backbone(folder / "bert"))
    text = (path / "tokenizer.json").read_text(encoding="utf-8")
    text = text.replace('"guitar"', '","').replace('"eats"', '"."')
    (path / "tokenizer.json").unlink()
    (path / "tokenizer.json").write_text(text, encoding="utf-8")
    return str(path)


def train(encoder: Encoder, rows, folder, settings: Training = TRAINING) -> list[float]:
    """Train, and return the losses of the log."""
    encoder.prepare(rows, folder / "cache")
    encoder.fit(rows, settings, folder / "run")
    encoder.finish(rows)
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.mark.parametrize("loss", ["contrastive", "kl"])
@pytest.mark.parametrize("options", [{}, {"query_expansion": EXPANSION, "lora": LORA}, {"dim": None, "freeze": 1}])
def test_every_loss_falls_in_training(loss, options, tmp_path):
    encoder = tiny_late.build(tmp_path, loss=loss, **options)
    values = train(encoder, tiny_dense.rows(loss), tmp_path, TRAINING.model_copy(update={"epochs": 6.0}))
    assert np.mean(values[-4:]) < np.mean(values[:4])


def test_the_contrastive_loss_is_the_cross_entropy_of_mean_maxsim(tmp_path):
    encoder = tiny_late.build(tmp_path, query_expansion=EXPANSION)
    rows = list(tiny_dense.rows(n=6))
    anchors = encoder.encode_tokens([row["anchor"] for row in rows], "query")
    texts = [row[column] for column in ("positive", "negative") for row in rows]
    scores = compute_maxsim(anchors, encoder.encode_tokens(texts, "document")) / np.diff(anchors[1])[:, None]
    right = {(row["anchor"], row["positive"]) for row in rows}
    is_right = np.array([[(row["anchor"], text) in right for text in texts] for row in rows])
    is_right[np.arange(6), np.arange(6)] = False
    logits = torch.from_numpy(scores / encoder.spec.temperature).masked_fill(torch.from_numpy(is_right), -torch.inf)
    expected = torch.nn.functional.cross_entropy(logits, torch.arange(6))
    encoder.module.eval()
    torch.testing.assert_close(encoder.loss(encoder.collate(rows)).detach().double(), expected, atol=1e-4, rtol=1e-4)


def test_the_distilled_loss_compares_the_candidates_of_a_row_with_the_scores_of_a_teacher(tmp_path):
    encoder = tiny_late.build(tmp_path, loss="kl")
    rows = list(tiny_dense.rows("kl", n=5))
    anchors = encoder.encode_tokens([row["anchor"] for row in rows], "query")
    sides = [encoder.encode_tokens([row[name] for row in rows], "document") for name in ("positive", "negative")]
    own = [np.diagonal(compute_maxsim(anchors, side)) / np.diff(anchors[1]) / 0.05 for side in sides]
    target = torch.softmax(torch.tensor([3.0, -2.0]), 0)
    expected = (target * (target.log() - torch.log_softmax(torch.from_numpy(np.stack(own, 1)), 1))).sum(1).mean()
    encoder.module.eval()
    torch.testing.assert_close(
        encoder.loss(encoder.collate(rows)).detach(), expected, atol=1e-4, rtol=1e-4, check_dtype=False
    )


@pytest.mark.parametrize("kind", ["bert", "qwen3"])
def test_chunks_give_the_loss_and_the_gradients_of_the_whole_batch(kind, tmp_path):
    rows = list(tiny_dense.rows(n=12))
    gradients = []
    for chunk in (None, 3):
        encoder = tiny_late.build(tmp_path, kind, chunk=chunk, dropout=0.0)
        encoder.module.train()
        loss = encoder.loss(encoder.collate(rows))
        loss.backward()
        gradients.append((loss.detach(), [p.grad for p in encoder.module.parameters() if p.grad is not None]))
    torch.testing.assert_close(gradients[0][0], gradients[1][0])
    for whole, chunked in zip(gradients[0][1], gradients[1][1], strict=True):
        torch.testing.assert_close(whole, chunked, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["encoder", "columns"])
def test_scores_come_from_a_teacher_or_from_columns(kind, tmp_path):
    rows = tiny_dense.rows("kl", n=8)
    teacher = tiny.backbone(tmp_path / "teacher", seed=5)
    options = {"teacher": {"model": teacher, "kind": "encoder"}} if kind == "encoder" else {}
    encoder = tiny_late.build(tmp_path, loss="kl", **options)
    encoder.prepare(rows, tmp_path / "cache")
    found = encoder.collate(list(rows))["scores"]
    if kind == "columns":
        assert found.tolist() == [[3.0, -2.0]] * 8
        return
    vectors = zoo.from_pretrained(teacher)
    for row, scores in zip(rows, found, strict=True):
        anchor, *candidates = vectors.encode([row["anchor"], row["positive"], row["negative"]])
        np.testing.assert_allclose(scores, np.stack(candidates) @ anchor, atol=1e-5)


def test_scores_that_are_missing_are_refused_before_training(tmp_path):
    encoder = tiny_late.build(tmp_path, loss="kl")
    with pytest.raises(DataError, match="score"):
        encoder.prepare(tiny_dense.rows(n=8), tmp_path / "cache")


def test_sources_have_their_own_loss_and_prompts(tmp_path):
    encoder = tiny_late.build(tmp_path)
    encoder.sources = {"a": DataSource("a", prompts={"query": "red "}), "b": DataSource("b", loss="kl")}
    first = [{**row, "source": "a"} for row in tiny_dense.rows(n=4)]
    second = [{**row, "source": "b"} for row in tiny_dense.rows("kl", n=6)]
    encoder.module.eval()
    mixed = encoder.collate([*first, *second])
    assert [part["loss_name"] for part in mixed["parts"]] == ["contrastive", "kl"]
    alone = [encoder.loss(encoder.collate(rows)) for rows in (first, second)]
    torch.testing.assert_close(encoder.loss(mixed), (4 * alone[0] + 6 * alone[1]) / 10)
    ids = [list(filter(None, row)) for row in mixed["parts"][0]["queries"]["chunks"][0]["input_ids"].tolist()]
    assert encoder.backbone.tokenize(["red " + first[0]["anchor"]])[0] in ids


def test_the_first_head_keeps_inner_products_better_than_a_random_one(tmp_path):
    rows = tiny_dense.rows(n=64)
    whole, encoder = tiny_late.build(tmp_path, dim=None), tiny_late.build(tmp_path, dim=12)
    expected = compute_maxsim(whole.encode_tokens(TEXTS, "query"), whole.encode_tokens(TEXTS, "document"))

    def measure() -> float:
        found = compute_maxsim(encoder.encode_tokens(TEXTS, "query"), encoder.encode_tokens(TEXTS, "document"))
        return float(np.corrcoef(found.ravel(), expected.ravel())[0, 1])

    random = measure()
    encoder.prepare(rows, tmp_path / "cache")
    assert measure() > random
    weight = encoder.head.weight.detach()
    torch.testing.assert_close(weight @ weight.T, torch.eye(12), atol=1e-5, rtol=0)


# -- encoding --------------------------------------------------------------------------------------------------------


def test_token_vectors_have_unit_norm_and_encode_gives_their_mean(tmp_path):
    encoder = tiny_late.build(tmp_path)
    tokens, offsets = encoder.encode_tokens(TEXTS, "document")
    assert (tokens.dtype, tokens.shape[1], len(offsets)) == (np.float32, 12, len(TEXTS) + 1)
    np.testing.assert_allclose(np.linalg.norm(tokens, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_document(TEXTS), compute_mean_vectors(tokens, offsets), atol=1e-5)
    half, _ = encoder.encode_tokens(TEXTS, "document", dtype=np.float16)
    assert half.dtype == np.float16


def test_token_vectors_of_a_text_do_not_depend_on_the_other_texts(tmp_path):
    encoder = tiny_late.build(tmp_path, query_expansion=EXPANSION)
    for role in ("query", "document", None):
        together = split_token_sets(*encoder.encode_tokens(TEXTS, role))
        for text, expected in zip(TEXTS, together, strict=True):
            np.testing.assert_allclose(encoder.encode_tokens([text], role)[0], expected, atol=1e-5)


def test_punctuation_counts_in_queries_alone(tmp_path):
    for skips, expected in ((True, 4), (False, 6)):
        encoder = tiny_late.build(tmp_path, backbone=write_punctuation(tmp_path), skip_punctuation=skips)
        assert np.diff(encoder.encode_tokens(["fever , cough ."], "document")[1]) == [expected]
        assert np.diff(encoder.encode_tokens(["fever , cough ."], "query")[1]) == [6]


def test_short_queries_are_filled_up_and_documents_are_not(tmp_path):
    encoder, plain = tiny_late.build(tmp_path, query_expansion=EXPANSION), tiny_late.build(tmp_path)
    lengths = np.array([len(row) for row in encoder.backbone.tokenize(TEXTS)])
    assert np.diff(encoder.encode_tokens(TEXTS, "query")[1]).tolist() == np.maximum(lengths, 8).tolist()
    np.testing.assert_array_equal(
        encoder.encode_tokens(TEXTS, "document")[1], plain.encode_tokens(TEXTS, "document")[1]
    )
    own = split_token_sets(*plain.encode_tokens(["the dog"], "query"))[0]
    filled = split_token_sets(*encoder.encode_tokens(["the dog"], "query"))[0]
    np.testing.assert_allclose(filled[: len(own)], own, atol=1e-5)  # the words do not see the mask tokens


def test_an_expansion_beyond_the_limit_is_refused(tmp_path):
    with pytest.raises(ZooError, match=r"query_expansion.length: 99 is more than the 24 tokens"):
        tiny_late.build(tmp_path, query_expansion={"length": 99})


def test_views_score_by_tokens_by_their_mean_or_by_fixed_dimensional_encodings(tmp_path):
    encoder = tiny_late.build(tmp_path)
    assert encoder.searches_by_tokens
    assert not encoder.view(scoring="mean").searches_by_tokens
    fixed = encoder.view(scoring="fixed-dimensional", repetitions=3, bits=2, project=5)
    assert (fixed.dim, fixed.similarity_fn_name, fixed.searches_by_tokens) == (60, "dot", False)
    cells = fixed_dimensional.draw_cells(12, repetitions=3, bits=2, project=5)
    for role, encode in (("query", fixed_dimensional.encode_queries), ("document", fixed_dimensional.encode_documents)):
        expected = encode(*encoder.encode_tokens(TEXTS, role), cells)
        np.testing.assert_allclose(fixed.encode(TEXTS, prompt_name=role), expected, atol=1e-5)
    assert fixed.view(scoring="mean").dim == 12


def test_options_of_encodings_are_refused_beside_another_scoring(tmp_path):
    with pytest.raises(ZooError, match="bits: is an option of scoring: fixed-dimensional"):
        tiny_late.build(tmp_path).view(bits=3)


def test_a_view_merges_the_tokens_of_documents(tmp_path):
    encoder = tiny_late.build(tmp_path)
    pooled = encoder.view(pool_factor=2)
    lengths = np.diff(encoder.encode_tokens(TEXTS, "document")[1])
    assert np.diff(pooled.encode_tokens(TEXTS, "document")[1]).tolist() == [1 + (n - 1) // 2 for n in lengths]
    np.testing.assert_array_equal(pooled.encode_tokens(TEXTS, "query")[0], encoder.encode_tokens(TEXTS, "query")[0])


# -- model folder ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bert", "modernbert", "distilbert", "qwen3"])
@pytest.mark.parametrize("options", [{}, {"dim": None, "skip_punctuation": False}, {"query_expansion": EXPANSION}])
def test_multi_vector_encoder_opens_the_folder_with_equal_token_vectors(kind, options, tmp_path):
    encoder = tiny_late.build(tmp_path, kind, prompts={"query": "the ", "document": "a "}, **options)
    folder = model_folder.save(encoder, tmp_path / "model")
    stock, loaded = stock_check.open_stock(folder), zoo.from_pretrained(folder)
    for role, encode in (("query", stock.encode_query), ("document", stock.encode_document)):
        own = split_token_sets(*encoder.encode_tokens(TEXTS, role))
        for found, reopened, expected in zip(
            encode(TEXTS, convert_to_numpy=True), split_token_sets(*loaded.encode_tokens(TEXTS, role)), own, strict=True
        ):
            np.testing.assert_allclose(found, expected, atol=1e-5)
            np.testing.assert_allclose(reopened, expected, atol=1e-6)
    scores = stock.similarity(stock.encode_query(TEXTS[:3]), stock.encode_document(TEXTS)).numpy()
    found = compute_maxsim(encoder.encode_tokens(TEXTS[:3], "query"), encoder.encode_tokens(TEXTS, "document"))
    np.testing.assert_allclose(found, scores, atol=1e-4)


def test_punctuation_is_left_out_by_the_stock_library_too(tmp_path):
    encoder = tiny_late.build(tmp_path, backbone=write_punctuation(tmp_path))
    folder = model_folder.save(encoder, tmp_path / "model")
    own = encoder.encode_tokens(["fever , cough ."], "document")[0]
    np.testing.assert_allclose(
        stock_check.open_stock(folder).encode_document("fever , cough .").numpy(), own, atol=1e-5
    )


def test_a_trained_adapter_is_merged_into_the_folder(tmp_path):
    encoder = tiny_late.build(tmp_path, lora=LORA)
    train(encoder, tiny_dense.rows(n=32), tmp_path)
    tokens = encoder.encode_tokens(TEXTS, "document")[0]
    folder = model_folder.save(encoder, tmp_path / "model")
    assert not list(folder.rglob("adapter_*"))
    np.testing.assert_allclose(zoo.from_pretrained(folder).encode_tokens(TEXTS, "document")[0], tokens, atol=1e-5)


def test_a_folder_with_other_token_vectors_is_refused(tmp_path):
    encoder = tiny_late.build(tmp_path)
    folder = model_folder.save(encoder, tmp_path / "model")
    queries, documents = (split_token_sets(*encoder.encode_tokens(TEXTS, role)) for role in ("query", "document"))
    stock_check.check(folder, TEXTS, queries, documents)
    with pytest.raises(ArtefactError, match="the token vectors of the document"):
        stock_check.check(folder, TEXTS, queries, [-own for own in documents])


def test_a_head_of_another_width_is_refused(tmp_path):
    folder = model_folder.save(tiny_late.build(tmp_path), tmp_path / "model")
    spec = Spec(family="late-interaction", backbone="x", dim=11)
    with pytest.raises(ArtefactError, match=r"linear.weight has shape \(12, 32\), not \(11, 32\)"):
        Encoder.load(spec, folder, {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lora": {"keep": "adapter"}}, "holds all weights"),
        ({"lora": {}, "freeze": 1}, "leave `freeze` out"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Spec(family="late-interaction", backbone="x", **options)

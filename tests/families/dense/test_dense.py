"""The training of dense encoders: losses, adapters, widths, exact chunks."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny
import tiny_dense
import torch
from contract import Contract
from datasets import Dataset
from joined_rows import join

import zoo
from zoo.artefact import model_folder
from zoo.core.errors import ArtefactError, DataError, ZooError
from zoo.data.data_source import DataSource
from zoo.data.joined import find_spans
from zoo.encoder import TrainingRun
from zoo.families.dense import backbone_options
from zoo.families.dense.class_batches import ROWS_OF_A_CLASS, ClassBatches
from zoo.families.dense.encoder import Encoder
from zoo.families.dense.spec import Spec
from zoo.ops import losses
from zoo.ops.loss_names import LOSS_COLUMNS
from zoo.schema import Training
from zoo.text import lora

TEXTS = tiny.SENTENCES[:20]
TRAINING = Training(epochs=2, batch_size=16, learning_rate=3e-3, early_stop=None, precision="fp32")
LORA = {"rank": 4, "alpha": 8.0}


def contract(folder) -> Contract:
    spec = Spec(family="dense", backbone=tiny.backbone(folder / "bert"), dims=(8, 16), dropout=0.0)
    return Contract(spec, tiny_dense.rows(n=48), TRAINING, TEXTS, {"dim": 8}, folder)


def train(encoder: Encoder, rows, folder, settings: Training = TRAINING) -> list[float]:
    """Train, and return the losses of the log."""
    encoder.prepare(rows, folder / "cache")
    encoder.fit(rows, settings, folder / "run")
    encoder.finish(rows)
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.mark.parametrize("loss", LOSS_COLUMNS)
def test_every_loss_falls_in_training(loss, tmp_path):
    encoder = tiny_dense.build(tmp_path, loss=loss, margin=0.8)
    values = train(encoder, tiny_dense.rows(loss), tmp_path, TRAINING.model_copy(update={"epochs": 8.0}))
    assert np.mean(values[-4:]) < np.mean(values[:4])


def test_the_loss_is_the_mean_over_the_widths(tmp_path):
    rows = tiny_dense.rows(n=8)
    whole, cut = tiny_dense.build(tmp_path / "a"), tiny_dense.build(tmp_path / "b", dims=(8,))
    batch = whole.collate(list(rows))
    table = whole._embed(batch["chunks"], False)[batch["cells"]]
    at_8 = losses.compute_contrastive_loss(table[0, :, :8], table[1:, :, :8].flatten(0, 1))
    torch.testing.assert_close(cut.loss(cut.collate(list(rows))), (whole.loss(batch) + at_8) / 2)


@pytest.mark.parametrize("kind", ["bert", "qwen3"])
def test_chunks_give_the_loss_and_the_gradients_of_the_whole_batch(kind, tmp_path):
    rows = list(tiny_dense.rows(n=12))
    gradients = []
    for chunk in (None, 3):
        encoder = tiny_dense.build(tmp_path, kind, chunk=chunk, dropout=0.0)
        encoder.module.train()
        loss = encoder.loss(encoder.collate(rows))
        loss.backward()
        gradients.append((loss.detach(), [p.grad for p in encoder.module.parameters() if p.grad is not None]))
    torch.testing.assert_close(gradients[0][0], gradients[1][0])
    for whole, chunked in zip(gradients[0][1], gradients[1][1], strict=True):
        torch.testing.assert_close(whole, chunked, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("kind", ["bert", "qwen3", "gpt2-free"])
def test_merged_and_unmerged_vectors_agree(kind, dora, tmp_path):
    kind = "llama" if kind == "gpt2-free" else kind
    encoder = tiny_dense.build(tmp_path, kind, lora={**LORA, "dora": dora, "keep": "adapter"})
    before = encoder.encode(TEXTS)
    train(encoder, tiny_dense.rows(n=32), tmp_path)
    unmerged = encoder.encode(TEXTS)
    assert np.abs(unmerged - before).max() > 1e-3
    folder = model_folder.save(encoder, tmp_path / "model")
    np.testing.assert_allclose(zoo.from_pretrained(folder).encode(TEXTS), unmerged, atol=1e-6)
    lora.merge_adapter(encoder.backbone.model)
    encoder._forget_engines()
    np.testing.assert_allclose(encoder.encode(TEXTS), unmerged, atol=1e-5)


def test_the_vectors_of_a_trained_adapter_are_new_before_finish_too(tmp_path):
    """The fused optimiser changes the matrices of an adapter without a trace that an engine could see."""
    encoder = tiny_dense.build(tmp_path, "llama", lora=LORA)
    before = encoder.encode(TEXTS)
    rows = tiny_dense.rows(n=32)
    encoder.prepare(rows, tmp_path / "cache")
    encoder.fit(rows, Training(max_steps=3, batch_size=16, learning_rate=1e-2, precision="fp32"), tmp_path / "run")
    assert np.abs(encoder.encode(TEXTS) - before).max() > 1e-3


def test_an_adapter_is_trained_alone_and_merged_into_a_whole_model(tmp_path):
    encoder = tiny_dense.build(tmp_path, lora={**LORA, "targets": ["query", "value"]})
    trained = {name.split(".")[-3] for name, p in encoder.module.named_parameters() if p.requires_grad}
    assert trained <= {"lora_A", "lora_B"} or trained <= {"query", "value"}
    assert encoder.chosen_names == ("query", "value")
    train(encoder, tiny_dense.rows(n=32), tmp_path)
    vectors = encoder.encode(TEXTS)
    folder = model_folder.save(encoder, tmp_path / "model")
    assert not list(folder.rglob("adapter_*"))
    np.testing.assert_allclose(zoo.from_pretrained(folder).encode(TEXTS), vectors, atol=1e-6)


def test_the_layers_that_got_an_adapter_are_chosen_for_the_saved_recipe(tmp_path):
    encoder = tiny_dense.build(tmp_path, "qwen3", lora=LORA)
    train(encoder, tiny_dense.rows(n=16), tmp_path)
    assert encoder.chosen["encoder.lora.targets"] == [
        "down_proj",
        "gate_proj",
        "k_proj",
        "o_proj",
        "q_proj",
        "up_proj",
        "v_proj",
    ]


def test_a_target_that_matches_no_layer_is_refused_with_the_nearest_names(tmp_path):
    with pytest.raises(
        ZooError, match=r"lora.targets: the backbone has no linear map called q_pro; did you mean `?q_proj"
    ):
        tiny_dense.build(tmp_path, "qwen3", lora={"targets": ["q_pro"]})


def test_an_adapter_refuses_another_version_of_its_backbone(tmp_path):
    encoder = tiny_dense.build(tmp_path, lora={**LORA, "keep": "adapter"})
    folder = model_folder.save(encoder, tmp_path / "model")
    assert not (folder / "model.safetensors").exists()
    block = json.loads((folder / "config.json").read_text())["zoo"]
    assert block["base"]["sha256"] == encoder.backbone_revision
    tiny.backbone(tmp_path / "bert", seed=9)
    with pytest.raises(ArtefactError, match="trained on another version of its backbone"):
        zoo.from_pretrained(folder)


def test_a_guide_masks_candidates_that_it_finds_as_similar_as_the_positive(tmp_path):
    rows = tiny_dense.rows(n=16)
    guide = tiny.backbone(tmp_path / "guide", seed=5)
    encoder = tiny_dense.build(tmp_path, guide={"model": guide, "margin": 0.5})
    encoder.prepare(rows, tmp_path / "cache")
    encoder.module.train()
    batch = encoder.collate(list(rows))
    mask = encoder._find_mask(batch["text_keys"], batch["guide_rows"])
    vectors = torch.from_numpy(
        zoo.from_pretrained(guide).encode([*rows["anchor"], *rows["positive"], *rows["negative"]])
    )
    cosines = vectors[:16] @ vectors[16:].T
    expected = cosines > 0.5 * cosines.diagonal()[:, None]
    expected.fill_diagonal_(False)
    known = encoder._find_mask(batch["text_keys"], None)
    assert (mask == (expected | known)).float().mean() > 0.99
    assert mask.sum() > known.sum()


@pytest.mark.parametrize("loss", ["margin-mse", "kl"])
def test_a_teacher_gives_the_scores_of_training_and_validation_rows(loss, tmp_path):
    rows, held = tiny_dense.rows(n=32), tiny_dense.rows(n=48).select(range(32, 48))
    teacher = tiny.backbone(tmp_path / "teacher", seed=5)
    encoder = tiny_dense.build(tmp_path, loss=loss, teacher={"model": teacher, "kind": "encoder"})
    encoder.prepare(rows, tmp_path / "cache")
    vectors = zoo.from_pretrained(teacher)
    expected = []
    for row in rows.select(range(5)):
        anchor, *candidates = vectors.encode([row["anchor"], row["positive"], row["negative"]])
        expected.append(vectors.similarity(anchor[None], np.stack(candidates))[0].tolist())
    np.testing.assert_allclose(encoder.collate(list(rows.select(range(5))))["scores"], expected, atol=1e-5)
    encoder.fit(rows, TRAINING, tmp_path / "run", validation=held)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert "validation_loss" in lines


def test_a_source_has_its_own_loss_and_prompts(tmp_path):
    encoder = tiny_dense.build(tmp_path, prompts={"query": "the "})
    encoder.sources = {
        "pairs": DataSource("pairs", prompts={"query": "red "}),
        "scores": DataSource("scores", loss="cosent"),
    }
    pairs = [{**row, "source": "pairs"} for row in tiny_dense.rows(n=6)]
    scores = [{**row, "source": "scores"} for row in tiny_dense.rows("cosent", n=10)]
    mixed = encoder.collate([*pairs, *scores])
    assert [part["loss_name"] for part in mixed["parts"]] == ["contrastive", "cosent"]
    ids = {tuple(i for i in row if i) for chunk in mixed["parts"][0]["chunks"] for row in chunk["input_ids"].tolist()}
    assert tuple(encoder.backbone.tokenize(["red " + pairs[0]["anchor"]])[0]) in ids
    alone = [encoder.loss(encoder.collate(rows)) for rows in (pairs, scores)]
    torch.testing.assert_close(encoder.loss(mixed), (6 * alone[0] + 10 * alone[1]) / 16)


def test_the_teacher_scores_mined_candidates_too(tmp_path):
    teacher = tiny.backbone(tmp_path / "teacher", seed=5)
    spec = Spec(family="dense", backbone="x", loss="kl", teacher={"model": teacher, "kind": "encoder"})
    scorer = Encoder.open_scorer(spec, tmp_path)
    vectors = zoo.from_pretrained(teacher).encode(["the dog", "a cat"])
    np.testing.assert_allclose(scorer.score([("the dog", "a cat")]), [vectors[0] @ vectors[1]], atol=1e-6)
    assert Encoder.open_scorer(spec.model_copy(update={"teacher": None}), tmp_path) is None


def test_a_batch_of_a_class_loss_has_several_rows_of_each_class():
    rows = Dataset.from_list([{"text": text, "label": i % 5} for i, text in enumerate(tiny.SENTENCES)])
    order = ClassBatches(rows).order(seed=1, epoch=0).tolist()
    assert sorted(order) == list(range(120))
    assert order != ClassBatches(rows).order(seed=1, epoch=1).tolist()
    labels = [rows[i]["label"] for i in order]
    runs = [len(set(labels[i : i + ROWS_OF_A_CLASS])) for i in range(0, 12, ROWS_OF_A_CLASS)]
    assert runs == [1, 1, 1]


def test_rows_of_a_class_follow_one_another_in_a_source_with_a_class_loss(tmp_path):
    encoder = tiny_dense.build(tmp_path)
    encoder.sources = {"pairs": DataSource("pairs"), "classes": DataSource("classes", loss="icnn")}
    classes = Dataset.from_list([{"text": text, "label": str(i % 5)} for i, text in enumerate(tiny.SENTENCES)])
    joined = join(pairs=tiny_dense.rows(n=64), classes=classes)
    settings = TRAINING.model_copy(update={"batch_size": 8})
    spans = find_spans(joined.rows)
    mixed = encoder._mix_sources(TrainingRun(joined.rows, settings, tmp_path, spans=spans)).rows
    order = mixed.order(seed=1, epoch=0).tolist()
    assert sorted(order) == list(range(184))
    batches = [order[i : i + 8] for i in range(0, len(order), 8)]
    labels = [[mixed[i]["label"] for i in batch] for batch in batches if batch[0] in spans["classes"]]
    assert len(labels) == 15
    assert all(len(set(batch)) <= 8 // ROWS_OF_A_CLASS for batch in labels)
    assert mixed.order(seed=1, epoch=0).tolist() == order != mixed.order(seed=1, epoch=1).tolist()


def test_missing_columns_of_a_loss_are_named(tmp_path):
    pairs = tiny_dense.rows(n=8).remove_columns("negative")
    for loss, message in (("triplet", "add a column `negative`"), ("kl", "add a column `negative`")):
        with pytest.raises(DataError, match=message):
            tiny_dense.build(tmp_path, loss=loss).prepare(pairs, tmp_path)
    with pytest.raises(DataError, match="add a column `score_positive`, or name a model in `teacher`"):
        tiny_dense.build(tmp_path, loss="margin-mse").prepare(tiny_dense.rows(n=8), tmp_path)


def test_a_score_out_of_range_for_its_loss_is_named_with_its_row(tmp_path):
    rows = [*tiny_dense.rows("margin-mse", n=4), {**tiny_dense.rows("margin-mse", n=5)[4], "score_positive": 90.0}]
    encoder = tiny_dense.build(tmp_path, loss="margin-mse")
    with pytest.raises(
        DataError, match=r"the training data, row 5: score_positive: margin-mse: the margin 90 - -2 = 92"
    ):
        encoder.prepare(Dataset.from_list(rows), tmp_path)


def test_quantised_weights_need_a_gpu(tmp_path, monkeypatch):
    spec = Spec(family="dense", backbone=tiny.backbone(tmp_path / "bert"), quantize="4bit", lora={"keep": "adapter"})
    assert "needs bitsandbytes" in str(spec.find_mistakes(tmp_path))
    with pytest.raises(ZooError, match="on a GPU, and there is none here"):
        backbone_options.make_model_options(spec)
    with pytest.raises(ValueError, match="cannot be trained"):
        Spec(family="dense", backbone="x", quantize="4bit")


def test_gradient_checkpointing_gives_the_same_weights(tmp_path):
    vectors = []
    for on in (False, True):
        encoder = tiny_dense.build(tmp_path / str(on), "qwen3", gradient_checkpointing=on)
        train(encoder, tiny_dense.rows(n=32), tmp_path / str(on))
        vectors.append(encoder.encode(TEXTS))
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)


def test_prompts_stand_before_the_texts_of_their_role_in_training(tmp_path):
    encoder = tiny_dense.build(tmp_path, prompts={"query": "the ", "document": "a "})
    batch = encoder.collate([{"anchor": "dog", "positive": "cat", "negative": "man"}])
    ids = [row for chunk in batch["chunks"] for row in chunk["input_ids"].tolist()]
    expected = encoder.backbone.tokenize(["the dog", "a cat", "a man"])
    assert sorted(ids) == sorted(expected)


def test_a_view_is_the_first_components_renormalised(tmp_path):
    encoder = tiny_dense.build(tmp_path, dims=(8,))
    cut = encoder.encode(TEXTS)[:, :8]
    expected = cut / np.linalg.norm(cut, axis=1, keepdims=True)
    view = encoder.view(dim=8)
    np.testing.assert_allclose(view.encode(TEXTS), expected, atol=1e-6)
    np.testing.assert_allclose(zoo.from_pretrained(view.save(tmp_path / "cut")).encode(TEXTS), expected, atol=1e-6)
    with pytest.raises(ZooError, match=r"dim: 33 is outside 1…32"):
        encoder.view(dim=33)


def test_a_projection_is_a_further_map_that_the_folder_keeps(tmp_path):
    encoder = tiny_dense.build(tmp_path, projection=12)
    train(encoder, tiny_dense.rows(n=32), tmp_path)
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (20, 12)
    np.testing.assert_allclose(zoo.from_pretrained(encoder.save(tmp_path / "model")).encode(TEXTS), vectors, atol=1e-6)

"""2D Matryoshka: every corner is an encoder, exports are those corners, and training really makes shallow corners better."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from contract import Contract
from datasets import Dataset
from tiny_matryoshka import build, rows

import zoo
from zoo.artefact import model_folder
from zoo.core.errors import ArtefactError, ZooError
from zoo.families.matryoshka_2d.encoder import Encoder, Spec
from zoo.families.matryoshka_2d.teacher import TeacherSpec
from zoo.ops import losses
from zoo.schema import Training
from zoo.text import truncatable

KINDS = ["bert", "roberta", "xlm-roberta", "mpnet", "modernbert", "distilbert"]


def contract(folder) -> Contract:
    spec = Spec(
        family="matryoshka-2d", backbone=tiny.backbone(folder / "bert"), dims=(8, 16), loss="contrastive", teacher={}
    )
    training = Training(epochs=1, batch_size=16, learning_rate=1e-3)
    return Contract(spec, rows(48), training, tiny.SENTENCES[:20], {"layers": 2, "dim": 8}, folder)


@pytest.mark.parametrize("objective", ["elastic", "2dmse"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_export_equals_its_view_and_the_deeper_layers_are_gone(kind, objective, tmp_path):
    from safetensors import safe_open
    from sentence_transformers import SentenceTransformer
    from transformers import AutoConfig

    encoder = build(tmp_path, kind, objective=objective)
    for layers, dim in ((2, 16), (1, 32), (3, 32)):
        view = encoder.truncate(layers, dim)
        expected = view.encode(tiny.SENTENCES[:20])
        np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1.0, atol=1e-6)
        out = model_folder.save(view, tmp_path / f"{layers}-{dim}")
        np.testing.assert_allclose(
            SentenceTransformer(str(out), device="cpu").encode(tiny.SENTENCES[:20]), expected, atol=1e-6
        )
        again = zoo.from_pretrained(out)
        np.testing.assert_allclose(again.encode(tiny.SENTENCES[:20]), expected, atol=1e-6)
        config = AutoConfig.from_pretrained(out)
        assert config.num_hidden_layers == layers
        with safe_open(out / "model.safetensors", "pt") as file:
            assert not [k for k in file.keys() if f"layer.{layers}." in k or f"layers.{layers}." in k]  # noqa: SIM118
        if layers == 2:
            np.testing.assert_allclose(
                again.truncate(1, 8).encode(["the dog"]), encoder.truncate(1, 8).encode(["the dog"]), atol=1e-6
            )


def test_a_view_is_cheap_and_leaves_the_encoder_alone(tmp_path):
    encoder = build(tmp_path)
    before = encoder.encode(tiny.SENTENCES[:5])
    view = encoder.truncate(layers=1, dim=8)
    assert view.encode(tiny.SENTENCES[:5]).shape == (5, 8)
    assert view.module is encoder.module
    assert (encoder.layers, encoder.dim, view.bytes_per_vector) == (3, 32, 32)
    np.testing.assert_array_equal(encoder.encode(tiny.SENTENCES[:5]), before)
    for bad in ({"layers": 4}, {"dim": 33}, {"layers": 0}):
        with pytest.raises(ZooError, match="outside 1"):
            encoder.truncate(**bad)
    with pytest.raises(ZooError, match="bits"):
        encoder.view(bits=3)


def test_views_together_give_the_vectors_of_each_alone_from_one_pass(tmp_path, monkeypatch):
    encoder = build(tmp_path)
    views = [{}, {"layers": 2, "dim": 8}, {"layers": 1}]
    alone = [encoder.view(**view).encode(tiny.SENTENCES[:40]) for view in views]
    passes = []
    whole = type(encoder).encode_layers
    monkeypatch.setattr(
        type(encoder), "encode_layers", lambda self, texts: passes.append(len(texts)) or whole(self, texts)
    )
    twins = encoder.views_sharing_a_pass(views)
    for twin, expected in zip(twins, alone, strict=True):
        np.testing.assert_allclose(twin.encode(tiny.SENTENCES[:40], precision="fp32"), expected, atol=1e-6)
    assert passes == [len(set(tiny.SENTENCES[:40]))]
    assert twins[1].encode([], precision="fp32").shape == (0, 8)
    with pytest.raises(ZooError, match="None"):
        twins[0].encode([None], precision="fp32")
    monkeypatch.setattr(truncatable._Pass, "LIMIT", 0)
    np.testing.assert_allclose(
        encoder.views_sharing_a_pass(views)[1].encode(["the dog"], precision="fp32"),
        encoder.view(**views[1]).encode(["the dog"]),
        atol=1e-6,
    )
    assert len(passes) == 1


def test_heads_leave_every_cosine_of_the_whole_as_it_was_and_lift_the_shallow_ones(tmp_path):
    plain, headed = build(tmp_path, objective="2dmse"), build(tmp_path)
    texts = tiny.SENTENCES[:40]
    whole = plain.encode(texts) @ plain.encode(texts).T
    turned = headed.encode(texts)
    np.testing.assert_allclose(turned @ turned.T, whole, atol=1e-5)

    def distance(encoder, layers, dim):
        vectors = encoder.truncate(layers, dim).encode(texts)
        return float(np.abs(vectors @ vectors.T - whole).mean())

    for corner in ((1, 32), (2, 32)):
        assert distance(headed, *corner) < distance(plain, *corner)


def test_several_hard_negatives_are_candidates_of_every_row(tmp_path):
    encoder = build(tmp_path)
    some = [dict(row) | {"negative_2": f"{row['negative']} no"} for row in rows(6)]
    batch = encoder.collate(some)
    assert batch["cells"].shape == (4, 6)
    seen = encoder._layers(batch, [3])[3]
    for column, name in zip(seen, ("anchor", "positive", "negative", "negative_2"), strict=True):
        expected = encoder.truncate(3, 32).encode([row[name] for row in some])
        found = torch.nn.functional.normalize(column, dim=-1).detach().numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)
    unit = torch.nn.functional.normalize(seen, dim=-1)
    logits = 20 * unit[0] @ torch.cat(list(unit[1:])).T
    by_hand = (logits.logsumexp(1) - logits.diagonal()).mean()
    assert losses.compute_sentence_loss(seen, None, "contrastive", 20.0).item() == pytest.approx(
        by_hand.item(), rel=1e-5
    )


def test_columns_that_the_loss_has_no_use_for_are_left_alone_whatever_they_are_called(tmp_path):
    path = tiny.backbone(tmp_path / "bert")
    pairs = [
        {"sentence1": a, "sentence2": b, "score": 0.5}
        for a, b in zip(tiny.SENTENCES[:20], tiny.SENTENCES[9:29], strict=True)
    ]
    triplets = [dict(row) for row in rows(20)]
    for loss, given, other in (
        ("cosent", pairs, {"anchor": "x", "positive": "y", "negative": None}),
        ("contrastive", triplets, {"sentence1": 3, "sentence2": "y", "score": "high"}),
    ):
        encoder = Encoder.build(Spec(family="matryoshka-2d", backbone=path, dims=(8,), loss=loss))
        expected = encoder.loss(encoder.collate(given))
        assert torch.equal(encoder.loss(encoder.collate([row | other for row in given])), expected), loss


PROMPTS = {"query": "the man ", "document": "a red "}


def prompted(tmp_path, **pooling) -> str:
    """A backbone as those of E5's kind are published."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling

    stock = SentenceTransformer(tiny.backbone(tmp_path / "bert"), device="cpu", prompts=PROMPTS)
    stock[1] = Pooling(32, pooling_mode="mean", **pooling)
    stock.save_pretrained(str(tmp_path / "prompted"), create_model_card=False)
    return str(tmp_path / "prompted")


def test_a_backbones_prompts_stand_before_queries_and_documents_as_in_sentence_transformers(tmp_path):
    from sentence_transformers import SentenceTransformer

    path = prompted(tmp_path)
    encoder = Encoder.build(Spec(family="matryoshka-2d", backbone=path, dims=(8,)))
    model_folder.save(encoder, tmp_path / "saved")
    model_folder.save(encoder.truncate(2, 8), tmp_path / "cut")
    for ours, folder in (
        (encoder, path),
        (zoo.from_pretrained(tmp_path / "saved"), tmp_path / "saved"),
        (encoder.truncate(2, 8), tmp_path / "cut"),
    ):
        stock = SentenceTransformer(str(folder), device="cpu")
        for role, theirs in ((None, stock.encode), ("query", stock.encode_query), ("document", stock.encode_document)):
            expected = theirs(tiny.SENTENCES[:9])
            np.testing.assert_allclose(ours.encode(tiny.SENTENCES[:9], prompt_type=role), expected, atol=1e-6)
            streamed = np.concatenate(list(ours.stream(iter(tiny.SENTENCES[:9]), prompt_type=role)))
            np.testing.assert_allclose(streamed, expected, atol=1e-6)
    with pytest.raises(ZooError, match="input 1 is None"):
        encoder.encode(["a", None], prompt_type="query")
    with pytest.raises(ZooError, match="'passage' is not one of query, document"):
        encoder.encode(["a"], prompt_type="passage")


def test_training_sees_the_prompts_and_a_recipe_may_set_others_or_none(tmp_path):
    path = prompted(tmp_path)
    own = Encoder.build(Spec(family="matryoshka-2d", backbone=path, dims=(8,), loss="contrastive"))
    written = rows(8).map(
        lambda row: {name: PROMPTS["query" if name == "anchor" else "document"] + text for name, text in row.items()}
    )
    without = Encoder.build(Spec(family="matryoshka-2d", backbone=path, dims=(8,), loss="contrastive", prompts={}))
    same = Encoder.build(Spec(family="matryoshka-2d", backbone=str(tmp_path / "bert"), dims=(8,), prompts=PROMPTS))
    assert (own.prompts, without.prompts, same.prompts) == (PROMPTS, {}, PROMPTS)
    given, expected = own.collate(list(rows(8))), without.collate(list(written))
    assert torch.equal(given["cells"], expected["cells"])
    for ours, theirs in zip(given["chunks"], expected["chunks"], strict=True):
        assert torch.equal(ours["input_ids"], theirs["input_ids"])
    for encoder, data in ((own, rows(64)), (without, written)):
        encoder.prepare(data.select(range(8)), tmp_path / "cache")
    assert torch.equal(own.heads["1"].weight, without.heads["1"].weight), "the heads are fitted on what will be encoded"


def test_a_pooling_that_leaves_prompts_out_is_refused_where_there_are_any(tmp_path):
    path = prompted(tmp_path, include_prompt=False)
    with pytest.raises(ZooError, match="leaves prompts out of its pooling"):
        Encoder.build(Spec(family="matryoshka-2d", backbone=path))
    Encoder.build(Spec(family="matryoshka-2d", backbone=path, prompts={}))


def test_one_width_for_both_layers_and_true_blocks_only(tmp_path, monkeypatch):
    encoder = build(tmp_path, layers="sampled", objective="2dmse")
    asked, widths = [], []
    states = type(encoder.backbone).compute_states
    monkeypatch.setattr(
        type(encoder.backbone),
        "compute_states",
        lambda self, batch, layers: asked.append(tuple(layers)) or states(self, batch, layers),
    )
    honest = losses.compute_sentence_loss
    monkeypatch.setattr(
        losses,
        "compute_sentence_loss",
        lambda columns, *rest: widths.append(columns.shape[-1]) or honest(columns, *rest),
    )
    encoder.module.train()
    batch = encoder.collate([rows()[i] for i in range(8)])
    for encoder.step in range(40):
        widths.clear()
        encoder.loss(batch)
        assert sorted(widths)[2:] == [32, 32], "full width always"
        assert widths[1] == widths[3], "one m for both layers"
    assert {a[0] for a in asked} == {1, 2}
    assert {a[1] for a in asked} == {3}


def test_a_large_batch_in_chunks_has_the_gradient_of_the_whole_even_under_dropout(tmp_path):
    gradients = []
    for chunk in (None, 4):
        encoder = build(tmp_path, chunk=chunk)
        encoder.module.train()
        encoder.loss(encoder.collate([rows()[i] for i in range(24)])).backward()
        gradients.append([p.grad.clone() for p in encoder.backbone.model.parameters() if p.grad is not None])
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    encoder = build(tmp_path, chunk=4, dropout=0.3, objective="2dmse", detach=False)
    encoder.module.train()
    batch = encoder.collate([rows()[i] for i in range(24)])
    parameter = encoder.backbone.model.get_input_embeddings().weight
    direction = torch.randn_like(parameter)

    def value() -> float:
        torch.manual_seed(5)
        return encoder.loss(batch).item()

    torch.manual_seed(5)
    encoder.loss(batch).backward()
    slope = (parameter.grad * direction).sum().item()
    with torch.no_grad():
        parameter += 1e-3 * direction
        up = value()
        parameter -= 2e-3 * direction
        down = value()
    assert slope == pytest.approx((up - down) / 2e-3, rel=0.05)


@pytest.mark.parametrize("loss", ["cosent", "angle"])
def test_scored_pairs_train(loss, tmp_path):
    from zoo.training import trainer

    encoder = build(tmp_path, loss="contrastive")
    scored = Dataset.from_list(
        [
            {"sentence1": a, "sentence2": a if i % 2 else tiny.SENTENCES[-i - 1], "score": float(i % 2)}
            for i, a in enumerate(tiny.SENTENCES[:48])
        ]
    )
    encoder = Encoder.build(encoder.spec.model_copy(update={"loss": loss}), seed=3)
    encoder.prepare(scored, tmp_path)
    batch = encoder.collate([scored[i] for i in range(48)])
    encoder.module.eval()
    before = encoder.loss(batch).item()
    trainer.fit(encoder, scored, Training(epochs=8, batch_size=16, learning_rate=1e-3), tmp_path / "run")
    assert encoder.loss(batch).item() < before


def test_paper_in_miniature_training_lifts_the_shallow_corner_above_the_untrained_one(tmp_path):
    """Section 4: shallow layers of an untrained encoder are poor sentence encoders; after 2DMSE training they are not."""
    from zoo.training import trainer

    def rank_one(encoder: Encoder) -> float:
        held = rows(120).select(range(64, 120))
        a, b = encoder.encode(held["anchor"]), encoder.encode(held["positive"])
        return float(((a @ b.T).argmax(1) == np.arange(len(a))).mean())

    trained, untrained = build(tmp_path, objective="2dmse"), build(tmp_path, objective="2dmse")
    trainer.fit(trained, rows(), Training(epochs=40, batch_size=32, learning_rate=2e-3), tmp_path / "run")
    assert rank_one(trained.truncate(1, 8)) > rank_one(untrained.truncate(1, 8))


def test_a_frozen_teacher_on_unlabelled_text_draws_the_shallow_cuts_to_its_similarities(tmp_path):
    from zoo.training import trainer

    teacher = {"weight": 5.0, "texts_per_step": 32}
    more = Dataset.from_dict({"text": [f"{t} has no" for t in tiny.SENTENCES[:60]]})
    spec = {"objective": "2dmse", "layers": "all", "align": 0.0, "weights": (0.0, 0.0), "dropout": 0.0}
    plain = build(tmp_path, **spec)
    texts = [f"{t} has no" for t in tiny.SENTENCES[60:110]]
    target = plain.encode(texts) @ plain.encode(texts).T

    def distance(encoder):
        vectors = encoder.truncate(1, 16).encode(texts)
        return float(np.abs(vectors @ vectors.T - target).mean())

    before = distance(plain)
    taught = Encoder.build(plain.spec.model_copy(update={"teacher": TeacherSpec(**teacher)}), seed=3)
    taught.tables = {"unlabelled": more}
    taught.prepare(rows(), tmp_path / "cache")
    trainer.fit(taught, rows(), Training(epochs=60, batch_size=32, learning_rate=2e-3), tmp_path / "run")
    assert distance(taught) < 0.7 * before
    assert len(list((tmp_path / "cache").glob("teacher-*.npy"))) == 1


def test_a_teacher_leaves_validation_to_the_task_and_the_encoder_with_its_heads(tmp_path):
    from zoo.training import trainer

    encoder = build(tmp_path, teacher={})
    assert not np.allclose(encoder.encode(["the dog"]), build(tmp_path, objective="2dmse").encode(["the dog"]))
    held = rows(120).select(range(64, 120))
    settings = Training(epochs=2, batch_size=32, learning_rate=1e-3)
    trainer.fit(encoder, rows(), settings, tmp_path / "run", validation=held)
    assert "validation_loss" in (tmp_path / "run" / "metrics.jsonl").read_text()


def test_altered_weights_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    from zoo.artefact import manifest

    encoder = build(tmp_path)
    out = model_folder.save(encoder, tmp_path / "model")
    tensors = load_file(out / "model.safetensors")
    name = "encoder.layer.0.output.dense.weight"
    for change, message in (
        ({k: v for k, v in tensors.items() if k != name}, "missing tensor"),
        (tensors | {"surplus": torch.ones(1)}, "extra tensor surplus"),
        (tensors | {name: torch.full_like(tensors[name], float("nan"))}, "NaN"),
        (tensors | {name: tensors[name][:4].clone()}, "shape|size"),
    ):
        save_file(change, out / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ArtefactError, match=r"sha256|bytes"):
            zoo.from_pretrained(out)
        manifest.write(out)
        with pytest.raises(ZooError, match=message):
            zoo.from_pretrained(out)

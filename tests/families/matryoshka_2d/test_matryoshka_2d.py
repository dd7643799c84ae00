"""2D Matryoshka: every view is an encoder, a saved view equals it, and training makes shallow views better."""

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
from zoo.families.matryoshka_2d import objectives
from zoo.families.matryoshka_2d.encoder import Encoder
from zoo.families.matryoshka_2d.spec import Spec, TeacherSpec
from zoo.ops import losses
from zoo.schema import Training
from zoo.text import truncatable

KINDS = ["bert", "roberta", "xlm-roberta", "mpnet", "modernbert", "distilbert", "llama", "qwen3", "gemma3_text", "phi3"]


def contract(folder) -> Contract:
    spec = Spec(
        family="matryoshka-2d", backbone=tiny.backbone(folder / "bert"), dims=(8, 16), loss="contrastive", teacher={}
    )
    training = Training(epochs=1, batch_size=16, learning_rate=1e-3)
    return Contract(spec, rows(48), training, tiny.SENTENCES[:20], {"layers": 2, "dim": 8}, folder)


@pytest.mark.parametrize("objective", ["elastic", "2dmse"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_view_equals_the_view_and_holds_no_deeper_layers(kind, objective, tmp_path):
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
        loaded = zoo.from_pretrained(out)
        np.testing.assert_allclose(loaded.encode(tiny.SENTENCES[:20]), expected, atol=1e-6)
        config = AutoConfig.from_pretrained(out)
        assert config.num_hidden_layers == layers
        with safe_open(out / "model.safetensors", "pt") as file:
            assert not [k for k in file.keys() if f"layer.{layers}." in k or f"layers.{layers}." in k]  # noqa: SIM118
        if layers == 2:
            np.testing.assert_allclose(
                loaded.truncate(1, 8).encode(["the dog"]), encoder.truncate(1, 8).encode(["the dog"]), atol=1e-6
            )


def test_a_view_shares_the_tensors_and_leaves_the_encoder_unchanged(tmp_path):
    encoder = build(tmp_path)
    before = encoder.encode(tiny.SENTENCES[:5])
    view = encoder.truncate(layers=1, dim=8)
    assert view.encode(tiny.SENTENCES[:5]).shape == (5, 8)
    assert view.module is encoder.module
    assert (encoder.layers, encoder.dim, view.bytes_per_vector) == (3, 32, 32)
    np.testing.assert_array_equal(encoder.encode(tiny.SENTENCES[:5]), before)
    for size in ({"layers": 4}, {"dim": 33}, {"layers": 0}):
        with pytest.raises(ZooError, match="outside 1|must be greater than or equal to 1"):
            encoder.truncate(**size)
    with pytest.raises(ZooError, match="bits: the family matryoshka-2d has no such view option"):
        encoder.view(bits=3)


def test_views_sharing_a_pass_give_the_vectors_of_separate_views(tmp_path, monkeypatch):
    encoder = build(tmp_path)
    views = [{}, {"layers": 2, "dim": 8}, {"layers": 1}]
    expected = [encoder.view(**view).encode(tiny.SENTENCES[:40]) for view in views]
    passes = []
    encode_layers = type(encoder).encode_layers
    monkeypatch.setattr(
        type(encoder), "encode_layers", lambda self, texts: passes.append(len(texts)) or encode_layers(self, texts)
    )
    encoders = encoder.views_sharing_a_pass(views)
    for view, vectors in zip(encoders, expected, strict=True):
        np.testing.assert_allclose(view.encode(tiny.SENTENCES[:40], precision="fp32"), vectors, atol=1e-6)
    assert passes == [len(set(tiny.SENTENCES[:40]))]
    assert encoders[1].encode([], precision="fp32").shape == (0, 8)
    with pytest.raises(ZooError, match="None"):
        encoders[0].encode([None], precision="fp32")
    monkeypatch.setattr(truncatable._SharedPass, "LIMIT", 0)
    np.testing.assert_allclose(
        encoder.views_sharing_a_pass(views)[1].encode(["the dog"], precision="fp32"),
        encoder.view(**views[1]).encode(["the dog"]),
        atol=1e-6,
    )
    assert len(passes) == 1, "texts beyond the limit are encoded by the engine"


def test_an_encoder_uses_new_heads_at_once(tmp_path):
    encoder = build(tmp_path, objective="2dmse")
    before = encoder.encode(["the dog"])
    head = torch.nn.Linear(32, 32)
    encoder.set_heads({3: head})
    expected = torch.nn.functional.normalize(head(torch.from_numpy(before) * 0 + pooled(encoder, "the dog")), dim=-1)
    np.testing.assert_allclose(encoder.encode(["the dog"]), expected.detach(), atol=1e-5)


def pooled(encoder, text) -> torch.Tensor:
    ((chunk, _),) = encoder.backbone.iterate_batches([text], 1)
    with torch.no_grad():
        return encoder.backbone.compute_states(chunk, [3])[0]


def test_the_backbones_pooler_is_not_trained(tmp_path):
    encoder = build(tmp_path)
    frozen = {name for name, p in encoder.backbone.model.named_parameters() if not p.requires_grad}
    assert frozen == {"pooler.dense.weight", "pooler.dense.bias"}


def test_an_encoder_whose_backbone_is_gone_has_no_baseline(tmp_path):
    encoder = build(tmp_path)
    assert encoder.baseline() is not None
    (tmp_path / "bert").rename(tmp_path / "gone")
    assert encoder.baseline() is None


def test_fitted_heads_keep_the_cosines_of_the_last_layer_and_draw_shallow_layers_to_them(tmp_path):
    plain, headed = build(tmp_path, objective="2dmse"), build(tmp_path, shallow_grad_scale=0.3)
    texts = tiny.SENTENCES[:40]
    whole = plain.encode(texts) @ plain.encode(texts).T
    vectors = headed.encode(texts)
    np.testing.assert_allclose(vectors @ vectors.T, whole, atol=1e-5)

    def distance(encoder, layers, dim):
        vectors = encoder.truncate(layers, dim).encode(texts)
        return float(np.abs(vectors @ vectors.T - whole).mean())

    for layers in (1, 2):
        assert distance(headed, layers, 32) < distance(plain, layers, 32)


def test_heads_run_in_float32_under_autocast(tmp_path):
    encoder = build(tmp_path, shallow_grad_scale=0.3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embeddings = encoder._embed_layers(encoder.collate(list(rows(4))), [1, 3])
    assert {layer.dtype for layer in embeddings.values()} == {torch.float32}


def test_the_gradient_is_scaled_and_the_value_is_not():
    vectors = torch.randn(3, 4, requires_grad=True)
    scaled = objectives.scale_gradient(vectors, 0.25)
    torch.testing.assert_close(scaled, vectors)
    scaled.sum().backward()
    torch.testing.assert_close(vectors.grad, torch.full((3, 4), 0.25))


def test_several_hard_negatives_are_candidates_of_every_row(tmp_path):
    encoder = build(tmp_path)
    batch_rows = [dict(row) | {"negative_2": f"{row['negative']} no"} for row in rows(6)]
    batch = encoder.collate(batch_rows)
    assert batch["cells"].shape == (4, 6)
    embeddings = encoder._embed_layers(batch, [3])[3]
    for column, name in zip(embeddings, ("anchor", "positive", "negative", "negative_2"), strict=True):
        expected = encoder.truncate(3, 32).encode([row[name] for row in batch_rows])
        vectors = torch.nn.functional.normalize(column, dim=-1).detach().numpy()
        np.testing.assert_allclose(vectors, expected, atol=1e-5)
    unit = torch.nn.functional.normalize(embeddings, dim=-1)
    logits = 20 * unit[0] @ torch.cat(list(unit[1:])).T
    expected = (logits.logsumexp(1) - logits.diagonal()).mean()
    assert losses.compute_sentence_loss(embeddings, None, "contrastive", 20.0).item() == pytest.approx(
        expected.item(), rel=1e-5
    )


def test_columns_that_the_loss_does_not_read_are_ignored_whatever_their_names_are(tmp_path):
    path = tiny.backbone(tmp_path / "bert")
    pairs = [
        {"sentence1": a, "sentence2": b, "score": 0.5}
        for a, b in zip(tiny.SENTENCES[:20], tiny.SENTENCES[9:29], strict=True)
    ]
    triplets = [dict(row) for row in rows(20)]
    for loss, used_rows, other_columns in (
        ("cosent", pairs, {"anchor": "x", "positive": "y", "negative": None}),
        ("contrastive", triplets, {"sentence1": 3, "sentence2": "y", "score": "high"}),
    ):
        encoder = Encoder.build(Spec(family="matryoshka-2d", backbone=path, dims=(8,), loss=loss))
        expected = encoder.loss(encoder.collate(used_rows))
        batch = encoder.collate([row | other_columns for row in used_rows])
        assert torch.equal(encoder.loss(batch), expected), loss


PROMPTS = {"query": "the man ", "document": "a red "}


def save_backbone_with_prompts(tmp_path, **pooling) -> str:
    """A backbone with prompts for queries and documents, as E5 is published."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling

    stock = SentenceTransformer(tiny.backbone(tmp_path / "bert"), device="cpu", prompts=PROMPTS)
    stock[1] = Pooling(32, pooling_mode="mean", **pooling)
    stock.save_pretrained(str(tmp_path / "prompted"), create_model_card=False)
    return str(tmp_path / "prompted")


def test_a_backbones_prompts_precede_queries_and_documents_as_in_sentence_transformers(tmp_path):
    from sentence_transformers import SentenceTransformer

    path = save_backbone_with_prompts(tmp_path)
    encoder = Encoder.build(Spec(family="matryoshka-2d", backbone=path, dims=(8,)))
    model_folder.save(encoder, tmp_path / "saved")
    model_folder.save(encoder.truncate(2, 8), tmp_path / "cut")
    for ours, folder in (
        (encoder, path),
        (zoo.from_pretrained(tmp_path / "saved"), tmp_path / "saved"),
        (encoder.truncate(2, 8), tmp_path / "cut"),
    ):
        stock = SentenceTransformer(str(folder), device="cpu")
        for role, stock_encode in (
            (None, stock.encode),
            ("query", stock.encode_query),
            ("document", stock.encode_document),
        ):
            expected = stock_encode(tiny.SENTENCES[:9])
            np.testing.assert_allclose(ours.encode(tiny.SENTENCES[:9], prompt_type=role), expected, atol=1e-6)
            streamed = np.concatenate(list(ours.stream(iter(tiny.SENTENCES[:9]), prompt_type=role)))
            np.testing.assert_allclose(streamed, expected, atol=1e-6)
    with pytest.raises(ZooError, match="input 1 is None"):
        encoder.encode(["a", None], prompt_type="query")
    with pytest.raises(ZooError, match="'passage' is not one of query, document"):
        encoder.encode(["a"], prompt_type="passage")


def test_training_texts_get_the_prompts_of_the_backbone_or_of_the_recipe(tmp_path):
    path = save_backbone_with_prompts(tmp_path)
    fields = {"family": "matryoshka-2d", "dims": (8,), "loss": "contrastive", "shallow_grad_scale": 0.3}
    with_prompts = Encoder.build(Spec(backbone=path, **fields))
    written_out = rows(8).map(
        lambda row: {name: PROMPTS["query" if name == "anchor" else "document"] + text for name, text in row.items()}
    )
    without = Encoder.build(Spec(backbone=path, prompts={}, **fields))
    from_recipe = Encoder.build(
        Spec(family="matryoshka-2d", backbone=str(tmp_path / "bert"), dims=(8,), prompts=PROMPTS)
    )
    assert (with_prompts.prompts, without.prompts, from_recipe.prompts) == (PROMPTS, {}, PROMPTS)
    batch, expected = with_prompts.collate(list(rows(8))), without.collate(list(written_out))
    assert torch.equal(batch["cells"], expected["cells"])
    for chunk, expected_chunk in zip(batch["chunks"], expected["chunks"], strict=True):
        assert torch.equal(chunk["input_ids"], expected_chunk["input_ids"])
    for encoder, data in ((with_prompts, rows(64)), (without, written_out)):
        encoder.prepare(data.select(range(8)), tmp_path / "cache")
    weights = [encoder.heads["1"].weight for encoder in (with_prompts, without)]
    assert torch.equal(*weights), "heads are fitted on texts with their prompts"


def test_a_pooling_that_leaves_prompts_out_is_refused_if_there_are_prompts(tmp_path):
    path = save_backbone_with_prompts(tmp_path, include_prompt=False)
    with pytest.raises(ZooError, match="leaves prompts out of its pooling"):
        Encoder.build(Spec(family="matryoshka-2d", backbone=path))
    Encoder.build(Spec(family="matryoshka-2d", backbone=path, prompts={}))


def test_a_step_of_2dmse_uses_one_shallow_layer_and_one_width_for_both_layers(tmp_path, monkeypatch):
    encoder = build(tmp_path, layers="sampled", objective="2dmse")
    layers_by_call, widths = [], []
    states, sentence = type(encoder.backbone).compute_states, losses.compute_sentence_loss
    monkeypatch.setattr(
        type(encoder.backbone),
        "compute_states",
        lambda self, batch, layers: layers_by_call.append(tuple(layers)) or states(self, batch, layers),
    )
    monkeypatch.setattr(
        losses,
        "compute_sentence_loss",
        lambda columns, *rest: widths.append(columns.shape[-1]) or sentence(columns, *rest),
    )
    encoder.module.train()
    batch = encoder.collate([rows()[i] for i in range(8)])
    widths_by_step = []
    for step in [*range(40), *range(40)]:
        encoder.step = step
        widths.clear()
        encoder.loss(batch)
        assert sorted(widths)[2:] == [32, 32], "the full width is always used"
        assert widths[1] == widths[3], "both layers share one m"
        widths_by_step.append(widths[1])
    assert {layers[0] for layers in layers_by_call} == {1, 2}
    assert {layers[1] for layers in layers_by_call} == {3}
    assert set(widths_by_step) == {8, 16}
    assert widths_by_step[:40] == widths_by_step[40:], "the step decides what is drawn"
    assert layers_by_call[: len(layers_by_call) // 2] == layers_by_call[len(layers_by_call) // 2 :]


def test_a_batch_in_chunks_has_the_gradient_of_the_whole_batch(tmp_path):
    gradients = []
    for chunk in (None, 4):
        encoder = build(tmp_path, chunk=chunk, shallow_grad_scale=0.3)
        encoder.module.train()
        encoder.loss(encoder.collate([rows()[i] for i in range(24)])).backward()
        gradients.append([p.grad.clone() for p in encoder.backbone.model.parameters() if p.grad is not None])
    for whole, chunked in zip(*gradients, strict=True):
        assert torch.allclose(whole, chunked, atol=1e-6)


def test_a_chunk_that_is_computed_again_in_the_backward_pass_repeats_its_dropout(tmp_path):
    encoder = build(tmp_path, chunk=4, dropout=0.3, objective="2dmse", detach=False)
    encoder.module.train()
    batch = encoder.collate([rows()[i] for i in range(24)])
    parameter = encoder.backbone.model.get_input_embeddings().weight
    direction = torch.randn_like(parameter)

    def compute_loss() -> float:
        torch.manual_seed(5)
        return encoder.loss(batch).item()

    torch.manual_seed(5)
    encoder.loss(batch).backward()
    slope = (parameter.grad * direction).sum().item()
    with torch.no_grad():
        parameter += 1e-3 * direction
        loss_above = compute_loss()
        parameter -= 2e-3 * direction
        loss_below = compute_loss()
    assert slope == pytest.approx((loss_above - loss_below) / 2e-3, rel=0.05)


@pytest.mark.parametrize("loss", ["cosent", "angle"])
def test_training_on_scored_pairs_lowers_the_loss(loss, tmp_path):
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


def test_paper_in_miniature_training_makes_a_shallow_narrow_view_better(tmp_path):
    """Section 4: shallow layers of an untrained encoder are poor sentence encoders; after 2DMSE training they are not."""
    from zoo.training import trainer

    def compute_accuracy(encoder: Encoder) -> float:
        test_rows = rows(120).select(range(64, 120))
        anchors, positives = encoder.encode(test_rows["anchor"]), encoder.encode(test_rows["positive"])
        return float(((anchors @ positives.T).argmax(1) == np.arange(len(anchors))).mean())

    trained, untrained = build(tmp_path, objective="2dmse"), build(tmp_path, objective="2dmse")
    trainer.fit(trained, rows(), Training(epochs=40, batch_size=32, learning_rate=2e-3), tmp_path / "run")
    assert compute_accuracy(trained.truncate(1, 8)) > compute_accuracy(untrained.truncate(1, 8))


@pytest.mark.slow
def test_a_teacher_on_unlabelled_texts_draws_shallow_views_to_its_similarities(tmp_path):
    from zoo.training import trainer

    teacher = {"weight": 5.0, "texts_per_step": 32}
    unlabelled = Dataset.from_dict({"text": [f"{t} has no" for t in tiny.SENTENCES[:60]]})
    spec = {"objective": "2dmse", "layers": "all", "align": 0.0, "weights": (0.0, 0.0), "dropout": 0.0}
    plain = build(tmp_path, **spec)
    texts = [f"{t} has no" for t in tiny.SENTENCES[60:110]]
    target = plain.encode(texts) @ plain.encode(texts).T

    def distance(encoder):
        vectors = encoder.truncate(1, 16).encode(texts)
        return float(np.abs(vectors @ vectors.T - target).mean())

    before = distance(plain)
    student = Encoder.build(plain.spec.model_copy(update={"teacher": TeacherSpec(**teacher)}), seed=3)
    student.tables = {"unlabelled": unlabelled}
    student.prepare(rows(), tmp_path / "cache")
    trainer.fit(student, rows(), Training(epochs=60, batch_size=32, learning_rate=2e-3), tmp_path / "run")
    assert distance(student) < 0.7 * before
    assert len(list((tmp_path / "cache").glob("vectors-*.npy"))) == 1
    draws = [student._teacher.draw_texts(3, step) for step in (7, 8, 7)]
    assert draws[0] == draws[2] != draws[1]
    with pytest.raises(KeyError, match="never seen"):
        student._teacher.find_rows(["never seen"])


def test_validation_works_without_the_teacher_and_a_teacher_does_not_replace_the_heads(tmp_path):
    from zoo.training import trainer

    encoder = build(tmp_path, teacher={})
    assert not np.allclose(encoder.encode(["the dog"]), build(tmp_path, objective="2dmse").encode(["the dog"]))
    validation = rows(120).select(range(64, 120))
    settings = Training(epochs=2, batch_size=32, learning_rate=1e-3)
    trainer.fit(encoder, rows(), settings, tmp_path / "run", validation=validation)
    assert "validation_loss" in (tmp_path / "run" / "metrics.jsonl").read_text()


def test_altered_weights_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    from zoo.artefact import manifest

    encoder = build(tmp_path)
    out = model_folder.save(encoder, tmp_path / "model")
    tensors = load_file(out / "model.safetensors")
    name = "encoder.layer.0.output.dense.weight"
    for altered, message in (
        ({k: v for k, v in tensors.items() if k != name}, f"lack 1 tensor .*{name}"),
        (tensors | {"surplus": torch.ones(1)}, "extra tensor surplus"),
        (tensors | {name: torch.full_like(tensors[name], float("nan"))}, "NaN"),
        (tensors | {name: tensors[name][:4].clone()}, "shape|size"),
    ):
        save_file(altered, out / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ArtefactError, match=r"sha256|bytes"):
            zoo.from_pretrained(out)
        manifest.write(out)
        with pytest.raises(ZooError, match=message):
            zoo.from_pretrained(out)


def test_equal_positives_in_one_batch_are_no_negatives_of_each_other(tmp_path):
    encoder = build(tmp_path, objective="2dmse", align=0.0)
    different = [{"anchor": "the dog", "positive": "a cat"}, {"anchor": "red arm", "positive": "blue leg"}]
    equal = [different[0], {"anchor": "red arm", "positive": "a cat"}]
    assert encoder.loss(encoder.collate(different)).item() > 0.01
    assert encoder.loss(encoder.collate(equal)).item() == 0

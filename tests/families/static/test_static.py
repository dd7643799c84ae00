"""Static embeddings: the closed form is PCA and SIF, a text is the mean of its tokens, and encoding needs no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from contract import Contract
from datasets import Dataset
from pydantic import TypeAdapter
from safetensors.numpy import load_file, save_file
from scipy.sparse import random as sparse_random

import zoo
from zoo import evaluation, families
from zoo.artefact import manifest, model_folder
from zoo.core.errors import ArtefactError, ZooError
from zoo.evaluation import baselines
from zoo.evaluation.baselines import TrainingRows
from zoo.evaluation.spec import Task
from zoo.families.static import distillation, regression, token_bag
from zoo.families.static.encoder import Encoder
from zoo.families.static.spec import Spec
from zoo.schema import Training
from zoo.text import backbone as backbones

DIM = 16
UNKNOWN = 1  # its id in tiny backbones


def make_rows(count: int) -> Dataset:
    """Sentences, the same words in another order, and a negative that shares one word."""
    anchors = tiny.SENTENCES[:count]
    positives = [" ".join(reversed(text.split())) + " the" for text in anchors]
    negatives = [f"{text.split()[0]} no not" for text in anchors]
    return Dataset.from_dict({"anchor": anchors, "positive": positives, "negative": negatives})


def contract(folder: Path) -> Contract:
    spec = Spec(family="static", backbone=tiny.backbone(folder / "bert"), dim=DIM, dims=(8,), removed_components=1)
    training = Training(epochs=20, batch_size=48, learning_rate=3e-2, warmup=0.0)
    return Contract(spec, make_rows(48), training, [*tiny.SENTENCES[:18], "unheard words", ""], {"dim": 8}, folder)


@pytest.fixture(scope="module")
def body(tmp_path_factory) -> backbones.Backbone:
    return backbones.load(tiny.backbone(tmp_path_factory.mktemp("backbone") / "bert"))


@pytest.fixture
def encoder(body) -> Encoder:
    return Encoder.build(Spec(family="static", backbone=body.name, dim=DIM))


# -- distillation ------------------------------------------------------------------------------------------------------


def test_a_backbone_is_distilled_once_in_a_row_and_again_once_a_weight_changes(body, monkeypatch):
    token_ids = distillation.list_token_ids(body)
    vectors = distillation.compute_token_vectors(body, token_ids)
    with monkeypatch.context() as patch:
        patch.setattr(type(body), "pool", None)  # so that nothing can be computed
        np.testing.assert_array_equal(distillation.compute_token_vectors(body, token_ids), vectors)
    weight = next(body.model.parameters())
    with torch.no_grad():
        weight.mul_(2)
    changed = distillation.compute_token_vectors(body, token_ids)
    with torch.no_grad():
        weight.div_(2)
    assert not np.allclose(changed, vectors)


def test_a_token_vector_is_what_the_backbone_gives_the_token_as_a_text(body):
    token_ids = distillation.list_token_ids(body)
    assert [body.tokenizer.convert_ids_to_tokens(id_) for id_ in token_ids] == tiny.WORDS
    vectors = distillation.compute_token_vectors(body, token_ids)
    body.model.eval()
    with torch.inference_mode():
        expected = body.compute_states(body.pad(body.tokenize(tiny.WORDS)), [body.depth])[0]
    np.testing.assert_allclose(vectors, expected.numpy(), atol=1e-5)


def test_principal_components_equal_those_of_scikit_learn_up_to_their_signs():
    from sklearn.decomposition import PCA

    vectors = np.random.default_rng(0).normal(size=(200, 24)) * np.linspace(3, 1, 24) + 5
    coordinates, axes = distillation.project_on_principal_components(vectors, 10, removed=2)
    expected = PCA(12, svd_solver="full").fit_transform(vectors)[:, 2:]
    np.testing.assert_allclose(np.abs(coordinates), np.abs(expected), atol=1e-4)
    np.testing.assert_allclose((vectors - vectors.mean(axis=0)) @ axes, coordinates, atol=1e-4)
    assert (axes[np.abs(axes).argmax(axis=0), range(10)] > 0).all()
    with pytest.raises(ZooError, match="principal components"):
        distillation.project_on_principal_components(vectors, 20, removed=5)


def test_frequent_tokens_weigh_less_by_zipfs_law_and_by_counts():
    frequencies = distillation.estimate_zipf_frequencies(3)
    np.testing.assert_allclose(frequencies, np.array([1 / 2, 1 / 3, 1 / 4]) / (13 / 12))
    np.testing.assert_allclose(distillation.compute_sif_weights(np.array([0.1, 0.3]), 0.1), [0.5, 0.25])
    np.testing.assert_array_equal(distillation.compute_sif_weights(frequencies, None), np.ones(3))


def test_a_table_is_the_projection_times_the_weights_and_zeros_for_special_tokens(body, encoder):
    token_ids = distillation.list_token_ids(body)
    vectors = distillation.compute_token_vectors(body, token_ids)
    coordinates, _ = distillation.project_on_principal_components(vectors, DIM)
    weights = 1e-4 / (1e-4 + distillation.estimate_zipf_frequencies(len(token_ids)))
    np.testing.assert_allclose(encoder.bag.table[token_ids], coordinates * weights[:, None], rtol=1e-5)
    special = np.delete(np.arange(len(encoder.bag.table)), token_ids)
    assert len(special) == 5
    assert not encoder.bag.table[special].any()


def test_counted_frequencies_replace_those_of_zipfs_law(body, tmp_path):
    spec = Spec(family="static", backbone=body.name, dim=DIM, sif_coefficient=1e-2, regression_texts=0)
    zipf = Encoder.build(spec)
    counted = Encoder.build(spec.model_copy(update={"frequencies": "counted"}))
    rows = Dataset.from_dict({"anchor": ["the the the dog"], "positive": ["the cat"]})
    counted.prepare(rows, tmp_path)
    token_ids = distillation.list_token_ids(body)
    counts = np.full(len(token_ids), 0.5)
    for word in ("the", "the", "the", "dog", "the", "cat"):
        counts[tiny.WORDS.index(word)] += 1
    ratio = (1e-2 / (1e-2 + counts / counts.sum())) / (
        1e-2 / (1e-2 + distillation.estimate_zipf_frequencies(len(token_ids)))
    )
    np.testing.assert_allclose(
        counted.bag.table[token_ids], zipf.bag.table[token_ids] * ratio[:, None], rtol=1e-4, atol=1e-12
    )


def test_the_regression_equals_the_solution_of_the_normal_equations():
    generator = np.random.default_rng(0)
    design = sparse_random(60, 20, density=0.2, rng=generator, format="csr")
    targets = generator.normal(size=(60, 5))
    expected = np.linalg.solve((design.T @ design).toarray() + 0.3 * np.eye(20), design.T @ targets)
    np.testing.assert_allclose(regression.solve_ridge(design, targets, 0.3), expected, atol=1e-8)


def test_fitted_token_vectors_are_nearer_to_the_backbone_and_strangers_stay(body, tmp_path):
    spec = Spec(family="static", backbone=body.name, dim=DIM, ridge=1e-2)
    texts = [text for text in tiny.SENTENCES[:40] if "guitar" not in text]
    rows = Dataset.from_dict({"anchor": texts, "positive": texts})
    plain, fitted = Encoder.build(spec), Encoder.build(spec)
    fitted.prepare(rows, tmp_path)
    targets = distillation.compute_text_vectors(body, texts, tmp_path)
    targets = targets - targets.mean(axis=0)
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)

    def compute_distance(encoder: Encoder) -> float:
        vectors = encoder.encode(texts)
        return float(np.abs(vectors @ vectors.T - targets @ targets.T).mean())

    assert compute_distance(fitted) < 0.5 * compute_distance(plain)
    assert not fitted.bag.table[UNKNOWN].any()
    whole = distillation.distil(body, spec).bag.table
    guitar = 5 + tiny.WORDS.index("guitar")
    assert np.linalg.norm(fitted.bag.table[guitar]) <= np.linalg.norm(whole[guitar]) * (1 + 1e-6)


def test_fitted_components_are_sorted_by_what_they_tell_about_the_texts(body, tmp_path):
    encoder = Encoder.build(Spec(family="static", backbone=body.name, dim=DIM))
    encoder.prepare(make_rows(40), tmp_path)
    texts = [text for column in ("anchor", "positive", "negative") for text in make_rows(40)[column]]
    energy = (encoder.encode(list(dict.fromkeys(texts))) ** 2).sum(axis=0)
    assert energy[0] > energy[DIM // 2] > energy[-1]


def test_vectors_of_texts_are_computed_once(body, tmp_path, monkeypatch):
    first = distillation.compute_text_vectors(body, ["red dog"], tmp_path)
    monkeypatch.setattr(distillation.engine, "Engine", None)
    np.testing.assert_array_equal(distillation.compute_text_vectors(body, ["red dog"], tmp_path), first)
    with pytest.raises(TypeError, match="NoneType"):
        distillation.compute_text_vectors(body, ["red cat"], tmp_path)


def test_an_opened_encoder_is_not_distilled_again(encoder, tmp_path):
    opened = zoo.from_pretrained(model_folder.save(encoder, tmp_path / "model"))
    table = opened.bag.table
    opened.prepare(make_rows(8), tmp_path)
    assert opened.bag.table is table


# -- encoding ----------------------------------------------------------------------------------------------------------


def test_a_text_is_the_mean_of_its_token_vectors_normalised(encoder):
    row = {word: encoder.bag.table[5 + tiny.WORDS.index(word)] for word in ("red", "dog", "runs")}
    mean = (2 * row["red"] + row["dog"] + row["runs"]) / 4
    expected = mean / np.linalg.norm(mean)
    np.testing.assert_allclose(encoder.encode(["red dog runs red"])[0], expected, atol=1e-6)


def test_unknown_words_change_nothing_and_a_text_without_known_words_is_zeros(encoder):
    vectors = encoder.encode(["red dog", "red unheard dog", "unheard", "", "[SEP]"])
    np.testing.assert_allclose(vectors[1], vectors[0], atol=1e-7)
    assert not vectors[2:].any()
    assert vectors.dtype == np.float32


def test_only_the_first_max_length_tokens_are_read(body):
    spec = Spec(family="static", backbone=body.name, dim=DIM, max_length=2)
    short, whole = Encoder.build(spec), Encoder.build(spec.model_copy(update={"max_length": None}))
    np.testing.assert_array_equal(short.encode(["red dog runs"]), short.encode(["red dog"]))
    long_text = "red dog runs " * 100
    assert len(whole.bag.tokenize([long_text])[0]) == 300


def test_text_with_halves_of_surrogate_pairs_is_encoded(encoder):
    assert encoder.encode(["red \ud835 dog"]).any()


def test_a_view_is_the_first_components_renormalised(encoder):
    whole = encoder.encode(tiny.SENTENCES[:20])
    narrow = whole[:, :8] / np.linalg.norm(whole[:, :8], axis=1, keepdims=True)
    view = encoder.view(dim=8)
    np.testing.assert_allclose(view.encode(tiny.SENTENCES[:20]), narrow, atol=1e-6)
    assert (view.dim, view.bytes_per_vector, encoder.dim) == (8, 32, DIM)
    for dim in (0, DIM + 1):
        with pytest.raises(ZooError, match="outside 1…16|must be greater than or equal to 1"):
            encoder.view(dim=dim)
    with pytest.raises(ZooError, match="layers: the family static has no such view option"):
        encoder.view(layers=1)


def test_an_unknown_precision_is_refused(encoder):
    with pytest.raises(ZooError, match="fp7"):
        encoder.encode(["red"], precision="fp7")


def test_vectors_that_are_not_finite_are_refused(encoder):
    encoder.bag.table[:] = 3e38
    with pytest.raises(ZooError, match="NaN or infinity"):
        encoder.encode(["red dog runs"])


# -- training ----------------------------------------------------------------------------------------------------------


def test_training_lowers_the_loss_and_leaves_the_unknown_token_at_zero(encoder, tmp_path):
    rows = make_rows(40)  # no sentence twice
    batch = encoder.collate(list(rows))
    encoder.module.eval()
    before = encoder.loss(batch).item()
    encoder.fit(rows, Training(epochs=10, batch_size=16, learning_rate=5e-2), tmp_path)
    assert encoder.loss(batch).item() < before / 4
    assert not encoder.bag.table[UNKNOWN].any()


def test_the_loss_is_the_mean_over_the_trained_widths(body):
    spec = Spec(family="static", backbone=body.name, dim=DIM, dims=(8,))
    rows = list(make_rows(12))
    both = Encoder.build(spec)
    losses = []
    for dim in (8, DIM):
        one = Encoder.build(spec.model_copy(update={"dims": ()})).view(dim=dim)
        losses.append(one.loss(one.collate(rows)).item())
    assert both.loss(both.collate(rows)).item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_encoding_after_training_uses_the_trained_vectors(encoder, tmp_path):
    before = encoder.encode(["red dog"])
    encoder.fit(make_rows(32), Training(max_steps=3, batch_size=16, learning_rate=1e-1), tmp_path)
    after = encoder.encode(["red dog"])
    assert np.abs(after - before).max() > 1e-3
    with torch.inference_mode():
        ids, ends = encoder.bag.tokenize(["red dog"])
        mean = encoder.module["embedding"](torch.from_numpy(ids), torch.from_numpy(ends[:-1]))
    np.testing.assert_allclose(after, torch.nn.functional.normalize(mean, dim=-1).numpy(), atol=1e-6)


# -- model folder ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", [{}, {"dim": 8}])
def test_sentence_transformers_gives_the_same_vectors(encoder, view, tmp_path):
    from sentence_transformers import SentenceTransformer

    texts = [*tiny.SENTENCES[:20], "unheard red", "unheard", "", "red " * 600]
    expected = encoder.view(**view).encode(texts)
    folder = model_folder.save(encoder.view(**view), tmp_path / "model")
    np.testing.assert_allclose(SentenceTransformer(str(folder), device="cpu").encode(texts), expected, atol=1e-6)
    opened = zoo.from_pretrained(folder)
    np.testing.assert_array_equal(opened.encode(texts), expected)
    assert opened.dim == expected.shape[1]


def test_opening_and_encoding_import_no_torch(encoder, tmp_path):
    folder = model_folder.save(encoder, tmp_path / "model")
    code = (
        "import sys, zoo; e = zoo.from_pretrained(sys.argv[1]); e.view(dim=8).encode(['red dog']);"
        "assert not {'torch', 'transformers', 'sentence_transformers', 'datasets'} & set(sys.modules);"
        "print(e.encode(['red dog']).tolist())"
    )
    result = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(json.loads(result.stdout), encoder.encode(["red dog"]), atol=1e-6)


@pytest.fixture
def alter(encoder, tmp_path):
    """Save a model folder, and change its tensors before it is opened."""
    folder = model_folder.save(encoder, tmp_path / "model")

    def change(**tensors) -> Path:
        path = folder / "model.safetensors"
        save_file(load_file(path) | tensors, path)
        manifest.write(folder)
        return folder

    return change


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.full((48, DIM), np.inf, np.float32), "finite float32"),
        (np.zeros((48, DIM), np.float16), "finite float32"),
        (np.zeros((47, DIM), np.float32), "shape"),
        (np.zeros((48, DIM + 1), np.float32), "shape"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(alter, value, message):
    with pytest.raises(ArtefactError, match=message):
        zoo.from_pretrained(alter(**{"embedding.weight": value}))


def test_a_surplus_tensor_is_refused(alter):
    with pytest.raises(ArtefactError, match="extra tensor surplus"):
        zoo.from_pretrained(alter(surplus=np.zeros(1, np.float32)))


@pytest.mark.parametrize("dim", [0, 17, "16", True])
def test_a_width_that_is_none_is_refused(alter, dim):
    folder = alter()
    config = json.loads((folder / "config.json").read_text())
    config["zoo"]["dim"] = dim
    (folder / "config.json").write_text(json.dumps(config))
    manifest.write(folder)
    with pytest.raises(ArtefactError, match="dim"):
        zoo.from_pretrained(folder)


def test_a_tokenizer_with_more_tokens_than_the_table_is_refused(alter):
    folder = alter()
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["surplus"] = 48
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    manifest.write(folder)
    with pytest.raises(ArtefactError, match="shape"):
        zoo.from_pretrained(folder)


@pytest.mark.parametrize("text", ["{}", "[", '{"model": null}'])
def test_what_is_no_tokenizer_is_refused(alter, text):
    folder = alter()
    (folder / "tokenizer.json").write_text(text)
    manifest.write(folder)
    with pytest.raises(ZooError, match="tokenizer"):
        zoo.from_pretrained(folder)


# -- recipe ------------------------------------------------------------------------------------------------------------


def test_a_section_with_widths_that_do_not_exist_says_so(body, tmp_path):
    fields = {"family": "static", "backbone": body.name}
    assert Spec(**fields, dim=32).find_mistakes(tmp_path) == []
    assert Spec(**fields, dim=31, removed_components=2).find_mistakes(tmp_path)[0][0] == ("dim",)
    assert Spec(**fields, dim=8, dims=(16,)).find_mistakes(tmp_path)[0][0] == ("dims",)
    assert Spec(family="static", backbone="./nowhere").find_mistakes(tmp_path)[0][0] == ("backbone",)
    assert "outside 1…8" in str(Spec(**fields, dim=8).find_view_mistake({"dim": 9}, tmp_path))
    with pytest.raises(ValueError, match="ascend"):
        Spec(**fields, dims=(16, 8))


def test_the_unknown_token_is_found_in_every_kind_of_tokenizer():
    from tokenizers import Tokenizer, models

    assert token_bag.find_unknown_id(Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))) == 0
    assert token_bag.find_unknown_id(Tokenizer(models.Unigram([("a", 0.0), ("<unk>", 0.0)], unk_id=1))) == 1
    assert token_bag.find_unknown_id(Tokenizer(models.BPE({"a": 0}, []))) is None


def test_equal_positives_in_one_batch_are_no_negatives_of_each_other(encoder):
    different = [{"anchor": "the dog", "positive": "a cat"}, {"anchor": "red arm", "positive": "blue leg"}]
    equal = [different[0], {"anchor": "red arm", "positive": "a cat"}]
    assert encoder.loss(encoder.collate(different)).item() > 0
    assert encoder.loss(encoder.collate(equal)).item() == 0


def test_token_vectors_of_a_backbone_are_the_static_encoder_without_training(tmp_path):
    """The free baseline of other families: the same vectors, so the same ranking."""
    tiny.backbone(tmp_path / "backbone")
    rows = [{"query": tiny.SENTENCES[i], "document": tiny.SENTENCES[i + 1]} for i in range(10)]
    (tmp_path / "search.jsonl").write_text("\n".join(map(json.dumps, rows)))
    entry = {"task": "retrieval", "data": {"source": "file", "path": "search.jsonl"}}
    prepared = evaluation.prepare([TypeAdapter(Task).validate_python(entry)], tmp_path)
    section = {"family": "static", "backbone": "backbone", "dim": 16}
    untrained = Encoder.build(Spec.model_validate(section), folder=tmp_path)
    other = SimpleNamespace(
        spec=SimpleNamespace(family="other", backbone="backbone", modalities=("text",), free_baselines=()),
        folder=tmp_path,
        dim=16,
    )
    (baseline_class,) = families.load_shared_baselines()
    (score,) = baseline_class(TrainingRows(other, None)).measure(prepared.tasks[0])
    report = evaluation.evaluate(untrained, prepared, baseline=False, free_baselines="none")
    assert score.value == pytest.approx(report["results"][0]["value"])
    levels = [
        baselines.measure(other, prepared.tasks, None, level, None, [baseline_class]) for level in ("cheap", "full")
    ]
    assert [len(scores[prepared.tasks[0].name]) for scores in levels] == [0, 1]
    own = SimpleNamespace(spec=untrained.spec, folder=tmp_path)
    assert not baseline_class(TrainingRows(own, None)).suits(prepared.tasks[0])

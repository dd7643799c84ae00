"""A model folder is opened again before it is published, and must give the tokens and the vectors of its encoder."""

from __future__ import annotations

import json

import golden
import numpy as np
import pytest
import tiny
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

import zoo
from zoo import families
from zoo.artefact import model_folder, reopening
from zoo.core.errors import ArtefactError
from zoo.families.matryoshka_2d.encoder import Encoder
from zoo.families.matryoshka_2d.spec import Spec

SMALL_SHARD = 1 << 11


def edit_json(path, **entries) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def build(folder) -> Encoder:
    return Encoder.build(Spec(family="matryoshka-2d", backbone=str(folder), dims=(8,)))


@pytest.mark.parametrize("family", families.names())
def test_sharded_weights_of_every_family_give_the_same_vectors(family, tmp_path):
    inputs, _ = golden.read(family)
    encoder = zoo.from_pretrained(golden.GOLDEN / family / "model")
    folder = model_folder.save(encoder, tmp_path / "model", max_shard_size=SMALL_SHARD)
    count = len(load_file(golden.GOLDEN / family / "model" / "model.safetensors"))
    assert count == 1 or len(list(folder.glob("model-*.safetensors"))) > 1
    np.testing.assert_allclose(zoo.from_pretrained(folder).encode(inputs), encoder.encode(inputs), atol=1e-6)


def test_lower_case_of_the_backbone_is_kept_by_zoo_and_by_sentence_transformers(tmp_path):
    """sentence-transformers reads `do_lower_case` from the folder of a backbone but does not save it."""
    tiny.backbone(tmp_path / "b")
    edit_json(tmp_path / "b" / "sentence_bert_config.json", do_lower_case=True)
    folder = model_folder.save(build(tmp_path / "b"), tmp_path / "model")
    for opened in (zoo.from_pretrained(folder), SentenceTransformer(str(folder), device="cpu")):
        upper, lower = opened.encode(["THE DOG", "the dog"])
        np.testing.assert_allclose(upper, lower, atol=1e-6)


def test_a_setting_that_is_lost_is_an_error_and_nothing_is_published(tmp_path):
    from tokenizers.normalizers import Lowercase

    tiny.backbone(tmp_path / "b")
    encoder = build(tmp_path / "b")
    written = encoder.backbone.tokenizer.backend_tokenizer
    written.normalizer = Lowercase()
    save = encoder.write_weights

    def save_without_normaliser(folder) -> None:
        save(folder)
        edit_json(folder / "tokenizer.json", normalizer=None)

    encoder.write_weights = save_without_normaliser
    with pytest.raises(
        ArtefactError, match=r"not what was trained: opened in zoo, 'THE UPPER CASE.* becomes other tokens"
    ):
        model_folder.save(encoder, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir() if "model" in path.name] == []


def test_vectors_that_only_sentence_transformers_computes_otherwise_are_an_error(tmp_path):
    tiny.backbone(tmp_path / "b")
    encoder = build(tmp_path / "b")
    save = encoder.write_weights

    def save_without_normalize(folder) -> None:
        save(folder)
        modules = json.loads((folder / "modules.json").read_text())
        (folder / "modules.json").write_text(json.dumps(modules[:-1]))

    encoder.write_weights = save_without_normalize
    with pytest.raises(ArtefactError, match=r"opened in sentence-transformers, the vector of .* differs by"):
        model_folder.save(encoder, tmp_path / "model")


def test_a_folder_that_does_not_open_again_is_not_published(tmp_path):
    tiny.backbone(tmp_path / "b")
    encoder = build(tmp_path / "b")
    save = encoder.write_weights

    def save_with_prompt(folder) -> None:
        save(folder)
        prompts = {"prompts": {"all": "red blue "}, "default_prompt_name": "all"}
        edit_json(folder / "config_sentence_transformers.json", **prompts)

    encoder.write_weights = save_with_prompt
    with pytest.raises(ArtefactError, match="does not open again: .*prompt 'all' before every text"):
        model_folder.save(encoder, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_other_weights_are_an_error(tmp_path):
    tiny.backbone(tmp_path / "b")
    encoder = build(tmp_path / "b")
    save = encoder.write_weights

    def save_other_weights(folder) -> None:
        save(folder)
        weights = load_file(folder / "model.safetensors")
        weights["encoder.layer.0.attention.self.query.weight"] *= 2
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    encoder.write_weights = save_other_weights
    with pytest.raises(ArtefactError, match=r"opened in zoo, the vector of .* differs by"):
        model_folder.save(encoder, tmp_path / "model")


def test_sentence_transformers_opens_the_folder_without_network_and_without_code_of_the_model(tmp_path, monkeypatch):
    import sentence_transformers
    from transformers.utils import logging

    opened = []

    class Stock:
        def __init__(self, folder, **options):
            assert not logging.is_progress_bar_enabled()
            opened.append((folder, options))

        def encode(self, texts, **options):
            opened.append((texts, options))
            return np.ones((len(texts), 2))

    monkeypatch.setattr(sentence_transformers, "SentenceTransformer", Stock)
    were_shown = logging.is_progress_bar_enabled()
    try:
        for is_shown in (True, False):
            (logging.enable_progress_bar if is_shown else logging.disable_progress_bar)()
            opened.clear()
            reopening._check_stock(tmp_path, ("a", "b"), np.ones((2, 2)), "cpu", 0.1)
            assert logging.is_progress_bar_enabled() is is_shown
    finally:
        (logging.enable_progress_bar if were_shown else logging.disable_progress_bar)()
    assert opened == [
        (str(tmp_path), {"device": "cpu", "local_files_only": True, "trust_remote_code": False}),
        (["a", "b"], {"show_progress_bar": False, "batch_size": 1}),
    ]
    with pytest.raises(
        ArtefactError, match=r"opened in sentence-transformers, the vector of 'b' differs by 0\.5, more than"
    ):
        reopening._check_stock(tmp_path, ("a", "b"), np.array([[1, 1], [1, 0.5]]), "cpu", 0.1)


@pytest.mark.parametrize(("error", "is_named"), [(ImportError("no torchvision"), False), (KeyError("x" * 300), True)])
def test_a_folder_that_the_stock_library_cannot_open_is_named_unless_a_package_is_missing(
    tmp_path, monkeypatch, error, is_named
):
    import sentence_transformers

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(sentence_transformers, "SentenceTransformer", fail)
    if not is_named:
        reopening._check_stock(tmp_path, ("a",), np.ones((1, 2)), "cpu", 0.1)
        return
    with pytest.raises(ArtefactError, match="does not open in sentence-transformers: KeyError: 'x{199}; nothing was"):
        reopening._check_stock(tmp_path, ("a",), np.ones((1, 2)), "cpu", 0.1)


class Echo:
    """An encoder that is reopened as itself and gives each text its length."""

    spec = type("Spec", (), {"model_validate": classmethod(lambda cls, spec: ("validated", spec))})()

    def __init__(self, events=None):
        self.events = [] if events is None else events
        self.module = self

    def to(self, device):
        self.events.append(("to", device))

    def make_probes(self):
        return ["a", np.zeros((2, 2)), "abc", "ab"]

    def encode(self, probes):
        return np.array([[len(probe), 1.0] for probe in probes])

    def list_token_ids(self, texts):
        self.events.append(("ids", texts))

    def find_stock_folder(self, folder):
        return folder / "stock"

    def is_read_by_stock(self, probe):
        return probe != "abc"


@pytest.mark.parametrize("device", [None, "cuda:1"])
def test_a_folder_is_opened_by_the_class_on_the_device_and_in_the_stock_library_if_it_reads_the_texts(
    tmp_path, monkeypatch, device
):
    encoder = Echo()
    block = {"spec": {"a": 1}}
    loaded, compared, stock = [], [], []
    monkeypatch.setattr(reopening, "_find_device", lambda encoder: device)
    monkeypatch.setattr(reopening, "_find_tolerance", lambda encoder: 0.5)
    monkeypatch.setattr(reopening, "_compare_vectors", lambda *inputs: compared.append(inputs[2:]))
    monkeypatch.setattr(reopening, "_check_stock", lambda *inputs: stock.append(inputs))
    monkeypatch.setattr(Echo, "load", lambda *inputs: loaded.append(inputs) or Echo(encoder.events), raising=False)
    reopening.check(encoder, tmp_path, block)
    assert loaded == [(("validated", {"a": 1}), tmp_path, block)]
    moves = [("to", device)] if device else []
    assert encoder.events == [*moves, ("ids", ["a", "abc", "ab"]), ("ids", ["a", "abc", "ab"])]
    assert [inputs[1:] for inputs in compared] == [(0.5, "zoo")]
    ((folder, texts, vectors, stock_device, tolerance),) = stock
    assert (folder, texts, stock_device, tolerance) == (tmp_path / "stock", ["a", "ab"], device or "cpu", 0.5)
    assert vectors.tolist() == [[1, 1], [2, 1]], "those of the texts, not of the image between them"
    stock.clear()
    monkeypatch.setattr(Echo, "is_read_by_stock", lambda self, probe: False)
    reopening.check(encoder, tmp_path, block)
    monkeypatch.setattr(Echo, "is_read_by_stock", lambda self, probe: True)
    monkeypatch.setattr(Echo, "find_stock_folder", lambda self, folder: None)
    reopening.check(encoder, tmp_path, block)
    assert stock == []


def test_a_folder_that_the_class_cannot_open_is_an_error(tmp_path, monkeypatch):
    def refuse(*_):
        raise ArtefactError("no weights")

    monkeypatch.setattr(Echo, "load", refuse, raising=False)
    with pytest.raises(ArtefactError, match="the model folder does not open again: no weights; nothing was published"):
        reopening.check(Echo(), tmp_path, {"spec": {}})


def test_tokens_and_vectors_are_compared_up_to_the_tolerance():
    reopening._compare_ids([[1, 2], [3]], [[1, 2], [3]], ["a", "b"], "zoo")
    reopening._compare_ids(None, None, ["a"], "zoo")
    with pytest.raises(ArtefactError, match=f"opened in zoo, '{'b' * 40}' becomes other tokens"):
        reopening._compare_ids([[1, 2], [3]], [[1, 2], [4]], ["a", "b" * 50], "zoo")
    expected, image = np.zeros((3, 2)), np.zeros((4, 5, 3))
    probes = ["a", "b" * 50, image]
    reopening._compare_vectors(expected, expected + 0.1, probes, 0.1, "zoo")
    for row, name in ((1, f"'{'b' * 40}'"), (2, r"an image of \(4, 5, 3\)")):
        stored = expected.copy()
        stored[row, 1], stored[0, 0] = -0.2, 0.15
        with pytest.raises(ArtefactError, match=f"the vector of {name} differs by 0.2, more than 0.1; nothing"):
            reopening._compare_vectors(expected, stored, probes, 0.1, "zoo")
    with pytest.raises(ArtefactError, match=r"vectors have the shape \(3,\) instead of \(2,\)"):
        reopening._compare_vectors(expected, np.zeros((3, 3)), probes, 0.1, "zoo")
    with pytest.raises(ArtefactError, match="differs by nan"):
        reopening._compare_vectors(expected, np.full((3, 2), np.nan), probes, 0.1, "zoo")


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 2e-2), ("float16", 2e-2)])
def test_half_precision_has_a_larger_tolerance(dtype, tolerance):
    import torch

    class Owner:
        pass

    encoder = Owner()
    assert (reopening._find_tolerance(encoder), reopening._find_device(encoder)) == (1e-5, None)
    encoder.module = torch.nn.Linear(2, 2, dtype=getattr(torch, dtype))
    assert (reopening._find_tolerance(encoder), reopening._find_device(encoder)) == (tolerance, None)
    encoder.module = torch.nn.Linear(2, 2, device="meta")
    assert str(reopening._find_device(encoder)) == "meta"


def test_the_images_are_noise_a_gradient_in_colours_and_a_grey_one():
    noise, gradient, grey = reopening.make_images()
    assert [(image.shape, image.dtype) for image in (noise, gradient, grey)] == [
        ((37, 53, 3), np.uint8),
        ((64, 64, 3), np.uint8),
        ((37, 53), np.uint8),
    ]
    assert gradient[1, 1].tolist() == [2, 3, 4]
    assert gradient[63, 63].tolist() == [126, 189, 252]
    assert len(np.unique(noise)) > 200
    assert grey.flags["C_CONTIGUOUS"]


def test_the_probes_hold_capitals_accents_spaces_long_texts_emoji_and_images():
    joined = "".join(reopening.TEXTS)
    assert reopening.TEXTS[0].split()[1].isupper()
    assert {"é", "\u0301", "  ", "\t", "\n", "😀", "漢"} <= {part for part in (*joined, "  ") if part in joined}
    assert max(map(len, reopening.TEXTS)) > 3000  # 600 words
    images = reopening.make_images()
    assert {image.ndim for image in images} == {2, 3}
    np.testing.assert_array_equal(images[0], reopening.make_images()[0])

"""Graphs of token vectors, of packed bits, of words and labels, and of images between constant tokens."""

from __future__ import annotations

import json
import shutil
import sys
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import tiny_documents
import tiny_late
import tinyvlm
from datasets import Dataset
from safetensors.numpy import load_file, save_file

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import zoo
from zoo.artefact import manifest
from zoo.cli.main import main
from zoo.core.errors import ArtefactError, ZooError
from zoo.deploy import probe_inputs, write
from zoo.families.binary_pv.encoder import Encoder as BinaryPV
from zoo.families.binary_pv.spec import Spec as BinarySpec
from zoo.families.late_interaction.encoder import Encoder as LateInteraction
from zoo.families.lbl2vec.encoder import Encoder as Lbl2Vec
from zoo.families.lbl2vec.spec import Spec as LabelSpec
from zoo.families.vlm2vec.encoder import Encoder as Vlm2Vec
from zoo.families.vlm2vec.spec import Spec as VlmSpec
from zoo.families.vlm2vec.spec import VLMSpec
from zoo.ops import codes
from zoo.paragraph_vectors import step_graph, vocabulary, word_tokenizer
from zoo.runtime import PackError, open_model
from zoo.schema import Training

GOLDEN = Path(__file__).parents[1] / "golden"
EXACT = 1e-5
LABELS = {"first": tuple(tiny_documents.TOPICS[0][:3]), "second": tuple(tiny_documents.TOPICS[1][:3])}


def export(encoder, target: Path, **options):
    return write.write(Path("nowhere"), encoder, target, write.Options(**options))


# -- token vectors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expansion", [None, {"length": 8}, {"length": 8, "attend": True}])
def test_tokens_and_means_of_each_role_are_those_of_the_encoder(expansion, tmp_path):
    encoder = LateInteraction.build(tiny_late.make_spec(tmp_path, query_expansion=expansion))
    encoder.rules = replace(encoder.rules, skipped_ids=tuple(range(10, 20)))  # the tiny vocabulary has no punctuation
    encoder.module.eval()
    assert export(encoder, tmp_path / "out").deviation.largest_difference < EXACT
    model = open_model(tmp_path / "out")
    texts = [*tiny.SENTENCES[:9], "", " ".join(tiny.WORDS[:30])]
    for role in (None, "query", "document"):
        tokens, offsets = model.encode_tokens(texts, prompt_name=role)
        exact, expected = encoder.encode_tokens(texts, role)
        assert np.array_equal(offsets, expected)
        assert np.abs(tokens - exact).max() < EXACT
        assert np.abs(model.encode(texts, prompt_name=role) - encoder.encode(texts, prompt_name=role)).max() < EXACT
    lengths = np.diff(model.encode_tokens(texts, prompt_name="query")[1])
    assert lengths.min() == (8 if expansion else 2)
    tokens, offsets = model.encode_tokens([])
    assert tokens.shape == (0, encoder.token_dim)
    assert offsets.tolist() == [0]


def test_a_token_graph_in_int8_says_the_loss_of_tokens_too(tmp_path):
    encoder = LateInteraction.build(tiny_late.make_spec(tmp_path))
    encoder.module.eval()
    written = export(encoder, tmp_path / "out", is_int8=True, texts=tiny.SENTENCES[:20], max_loss=0.2)
    model, texts = open_model(tmp_path / "out"), tiny.SENTENCES[:30]
    assert model.verify().is_same
    assert "unit vectors of tokens, of 12 components" in (tmp_path / "out" / "README.md").read_text()
    left, right = model.encode_tokens(texts)[0], encoder.encode_tokens(texts)[0]
    assert 0 < 1 - (left * right).sum(1).mean() < 2 * written.deviation.loss + 0.01


def test_a_graph_whose_other_tokens_count_is_not_written(tmp_path, monkeypatch):
    encoder = LateInteraction.build(tiny_late.make_spec(tmp_path))
    encoder.module.eval()
    monkeypatch.setattr("zoo.runtime.batches.mark_tokens", lambda ids, mask, *_, **__: (ids, mask, mask * (ids != 2)))
    with pytest.raises(ArtefactError, match="nothing was written"):
        export(encoder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [{"pool_factor": 2}, {"scoring": "fixed-dimensional"}])
def test_vectors_computed_from_token_vectors_have_no_graph(options):
    with pytest.raises(ZooError, match="leave `pool_factor` and `scoring` out"):
        zoo.from_pretrained(GOLDEN / "late-interaction" / "model").view(**options).make_graph()


def test_a_model_of_single_vectors_has_no_token_vectors(tmp_path):
    export(zoo.from_pretrained(GOLDEN / "static" / "model"), tmp_path / "out")
    with pytest.raises(PackError, match="has no vectors of tokens"):
        open_model(tmp_path / "out").encode_tokens(["a"])


def test_malformed_rules_of_tokens_are_refused(tmp_path):
    export(zoo.from_pretrained(GOLDEN / "late-interaction" / "model"), tmp_path / "out")
    path = tmp_path / "out" / "runtime.json"
    content = json.loads(path.read_text())
    for change in ({"dim": -1}, {"unknown": 1}, {"skipped_ids": ["a"]}):
        path.write_text(json.dumps(content | {"token_sets": content["token_sets"] | change}))
        manifest.write(tmp_path / "out")
        with pytest.raises(PackError, match=r"runtime\.json"):
            open_model(tmp_path / "out")


# -- words and packed bits ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def binary(tmp_path_factory):
    folder = tmp_path_factory.mktemp("binary")
    spec = BinarySpec(family="binary-pv", variant="real-binary", dim=24, bits=21, sample=1e-2, inference_epochs=12)
    encoder = BinaryPV.build(spec)
    rows = Dataset.from_dict({"text": tiny_documents.texts(90)})
    encoder.fit(rows, Training(epochs=4, learning_rate=0.05), folder / "run")
    export(encoder, folder / "codes")
    export(encoder.view(real=True), folder / "real")
    return encoder, folder


TEXTS = [*tiny_documents.texts(40, seed=3), "", "nothing known", "taba", "Taba, taba! taba_taba2taba"]


def test_codes_are_those_of_the_gradient_steps(binary):
    encoder, folder = binary
    model, expected = open_model(folder / "codes"), encoder.encode(TEXTS)
    found = model.encode(TEXTS)
    assert (found.dtype, found.shape) == (np.uint8, (len(TEXTS), 3))
    assert np.array_equal(found, expected)
    assert not found[-3].any()
    card = (folder / "codes" / "README.md").read_text()
    assert "to packed codes of 21 bits" in card
    assert "mean share of equal bits 1.00000, lowest 1.00000" in card
    assert model.encode([]).shape == (0, 3)
    assert model.verify().is_same
    state = encoder.model.state
    starts = (encoder.view(real=True).encode(TEXTS) - state["middle"].numpy()) @ state["projection"].numpy()
    assert (np.unpackbits(codes.pack(starts), axis=1) != np.unpackbits(expected, axis=1)).mean() > 0.02


def test_real_vectors_are_those_of_the_encoder(binary):
    encoder, folder = binary
    model = open_model(folder / "real")
    assert np.abs(model.encode(TEXTS) - encoder.view(real=True).encode(TEXTS)).max() < EXACT


def test_another_space_of_bits_is_found_by_the_canaries(binary, tmp_path):
    copied = Path(shutil.copytree(binary[1] / "codes", tmp_path / "out"))
    path = copied / "canaries" / "vectors.safetensors"
    save_file({"vectors": load_file(path)["vectors"] ^ np.uint8(1)}, path)
    manifest.write(copied)
    found = open_model(copied).verify()
    assert not found.is_same
    assert found.mean_cosine == pytest.approx(1 - 1 / 8)


def test_a_graph_with_other_random_numbers_is_not_written(binary, tmp_path, monkeypatch):
    draw = step_graph.kernels.draw_shared_numbers
    monkeypatch.setattr(step_graph.kernels, "draw_shared_numbers", lambda seed, *rest: draw(seed + 1, *rest))
    with pytest.raises(ArtefactError, match="of the bits are those of the model; nothing was written"):
        export(binary[0], tmp_path / "out")


def test_windows_of_words_give_the_codes_of_the_encoder(tmp_path):
    spec = BinarySpec(family="binary-pv", variant="dm", dim=24, bits=21, window=4, sample=1e-2, inference_epochs=2)
    encoder = BinaryPV.build(spec)
    with pytest.raises(ZooError, match="has not been trained"):
        encoder.make_graph()
    rows = Dataset.from_dict({"text": tiny_documents.texts(90)})
    encoder.fit(rows, Training(epochs=4, learning_rate=0.05), tmp_path / "run")
    export(encoder, tmp_path / "out")
    expected = encoder.encode(TEXTS)
    assert np.unpackbits(open_model(tmp_path / "out").encode(TEXTS) ^ expected).mean() < 1e-3
    state = encoder.model.state
    starts = encoder.model.infer(TEXTS) - state["middle"].numpy()
    assert np.unpackbits(codes.pack(starts @ state["projection"].numpy()) ^ expected).mean() > 0.005


def test_gradient_steps_are_not_computed_in_8_bits(binary, tmp_path):
    with pytest.raises(ZooError, match="--int8 is for models that read texts with a Transformer or a table"):
        export(binary[0], tmp_path / "out", is_int8=True)


def test_the_tokenizer_file_reads_the_same_words():
    tokenizer = word_tokenizer.make_tokenizer(vocabulary.Vocabulary(("ab",), (1,)), 5)

    def read_words(text: str) -> list[str]:
        normal = tokenizer.normalizer.normalize_str(text)
        return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal)]

    texts = [
        "ΟΔΟΣ ΣΑΣ Σ",
        "İstanbul STRASSE ẞ",
        "x²y Ⅷab ½kg",
        "a" * 95,
        "foo_bar12baz ab-cd",
        "e\u0301te cafe\u0301s 東京は",
    ]
    letters = [chr(code) for code in range(0, sys.maxunicode, 7) if unicodedata.category(chr(code)) not in ("Cn", "Cs")]
    texts += [f"ab{letter}cd {letter}{letter}" for letter in letters]
    wrong = [text for text in texts if read_words(text) != vocabulary.tokenise(text)]
    assert not wrong
    assert tokenizer.encode("ab cd ab ab cd ab ab").ids == [0, 1, 0, 0, 1]


def test_vectors_of_words_and_labels_are_those_of_the_encoder(tmp_path):
    spec = LabelSpec(
        family="lbl2vec", labels=LABELS, dim=24, keyword_evidence=0, min_count=1, reject_below=0.6, min_num_docs=3
    )
    encoder, rows = Lbl2Vec.build(spec), Dataset.from_dict({"text": tiny_documents.texts(60)})
    encoder.fit(rows, Training(epochs=6, learning_rate=0.05), tmp_path / "run")
    encoder.finish(rows)
    written = export(encoder, tmp_path / "out")
    assert written.deviation.inputs == probe_inputs.COUNT + word_tokenizer.PROBES + len(LABELS)
    model, texts = open_model(tmp_path / "out"), [*TEXTS, "first", "First", "second"]
    assert np.abs(model.encode(texts) - encoder.encode(texts)).max() < EXACT
    found, expected = model.predict(texts[:-3]), encoder.predict(texts[:-3])
    assert [entry.label for entry in found] == [entry.label for entry in expected]
    assert {None, *LABELS} == {entry.label for entry in found}
    plain = encoder.encode(texts)
    encoder.keyword_evidence = 4.0
    export(encoder, tmp_path / "keywords")
    found, first = open_model(tmp_path / "keywords").encode(texts), LABELS["first"][0]
    assert np.abs(found - encoder.encode(texts)).max() < EXACT
    assert np.abs(found - plain).max() > 0.01
    glued = [
        f"{first}",
        f"{first}_{first} {first}1 1{first}",
        f"{first}-{first}",
        f"x {first} y",
        f"{first} {first}bado" * 3,
    ]
    assert np.abs(open_model(tmp_path / "keywords").encode(glued) - encoder.encode(glued)).max() < EXACT


def test_phrases_and_unknown_keywords_count_as_in_the_encoder(tmp_path):
    words = tiny_documents.TOPICS[0]
    labels = {
        "first": (f"{words[0]} {words[1]}", "zzunknown", words[2]),
        "second": (words[2], tiny_documents.TOPICS[1][0]),
    }
    spec = LabelSpec(family="lbl2vec", labels=labels, dim=24, min_count=1, min_num_docs=3, keyword_evidence=3)
    encoder, rows = Lbl2Vec.build(spec), Dataset.from_dict({"text": tiny_documents.texts(60)})
    encoder.fit(rows, Training(epochs=3, learning_rate=0.05), tmp_path / "run")
    encoder.finish(rows)
    export(encoder, tmp_path / "out")
    one, two, three = words[:3]
    texts = [
        f"{one} {two}",
        f"{one}, {two}! {one} {one} {two}",
        f"{one}_{two} {one} x {two}",
        "Zzunknown 1 a",
        f"{three} and {three}",
    ]
    assert np.abs(open_model(tmp_path / "out").encode(texts) - encoder.encode(texts)).max() < EXACT
    encoder.spec = spec.model_copy(update={"labels": {**labels, "second": ("vitamin b", "b12")}})
    with pytest.raises(ZooError, match="with the keyword '(b12|vitamin b)', because"):
        encoder.make_graph()


# -- images ------------------------------------------------------------------------------------------------------------


def build_vlm(folder: Path, kind: str, size: int | None = 28) -> Vlm2Vec:
    backbone = VLMSpec(model=tinyvlm.write_backbone(folder / kind, kind), size=size)
    encoder = Vlm2Vec.build(VlmSpec(family="vlm2vec", backbone=backbone, instructions={"document": "A picture."}))
    encoder.module.eval()
    return encoder


@pytest.mark.parametrize("kind", ["idefics3", "smolvlm", "llava"])
def test_images_have_the_vectors_of_the_whole_model(kind, tmp_path):
    encoder = build_vlm(tmp_path, kind)
    for number, view in enumerate((encoder, encoder.view(role="document"))):
        export(view, tmp_path / f"out-{number}")
        model = open_model(tmp_path / f"out-{number}")
        images = probe_inputs.make_inputs(view.make_graph())[:5]
        images += [np.zeros((28, 28, 3), np.uint8), np.full((28, 28, 3), 255, np.uint8)]
        assert np.abs(model.encode(images) - view.encode(images)).max() < EXACT
        assert model.verify().is_same
        with pytest.raises(PackError, match="resize and crop the image first"):
            model.encode([np.zeros((30, 28, 3), np.uint8)])


@pytest.mark.parametrize("kind", ["llava_next", "qwen2_vl"])
def test_an_architecture_whose_tokens_follow_the_image_says_so(kind, tmp_path):
    with pytest.raises(ZooError, match=f"with {kind}: the tokens of an image follow its shape"):
        build_vlm(tmp_path, kind, None).make_graph()


def test_an_image_processor_that_cuts_images_into_tiles_says_what_to_set(tmp_path):
    with pytest.raises(ZooError, match=r"set `encoder\.backbone\.size: 28` and train again"):
        build_vlm(tmp_path, "idefics3", None).make_graph()


# -- the command line --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["binary-pv", "late-interaction", "lbl2vec", "vlm2vec"])
def test_pack_takes_every_family(family, tmp_path):
    assert main(["pack", str(GOLDEN / family / "model"), str(tmp_path / "out")]) == 0
    assert open_model(tmp_path / "out").verify().is_same

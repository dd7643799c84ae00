"""Binary paragraph vectors as a family: codes, their real part, artefact, card, search."""

from __future__ import annotations

import numpy as np
import pytest
from contract import Contract
from datasets import Dataset
from tiny_documents import SMALL, texts

import zoo
from zoo.artefact import model_folder
from zoo.core import atomic_files
from zoo.core.errors import ArtefactError, ZooError
from zoo.families.binary_pv.encoder import Encoder, Spec
from zoo.ops import codes
from zoo.paragraph_vectors.model import Paragraphs, Settings
from zoo.paragraph_vectors.vocabulary import Vocabulary
from zoo.schema import Training


def contract(folder) -> Contract:
    spec = Spec(family="binary-pv", variant="real-binary", dim=24, bits=21, min_count=1, sample=0.0)
    training = Training(epochs=4, learning_rate=0.05)
    return Contract(spec, Dataset.from_dict({"text": texts()}), training, texts(12, seed=2), {"real": True}, folder)


def test_hamming_on_packed_bits_equals_that_on_unpacked():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((7, 37)), rng.standard_normal((5, 37))
    expected = ((a[:, None] > 0) != (b[None] > 0)).sum(-1)
    assert codes.pack(a).shape == (7, 5)
    np.testing.assert_array_equal(codes.compute_hamming_distances(codes.pack(a), codes.pack(b)), expected)


def test_what_cannot_be_trained_on_is_refused():
    with pytest.raises(ZooError, match="iterator"):
        Paragraphs(Settings()).fit(iter(texts()))
    with pytest.raises(ZooError, match="text 2 is int"):
        Paragraphs(Settings(min_count=1)).fit(["a b ab", 3], vocabulary=Vocabulary(("ab",), (1,)))
    with pytest.raises(ValueError, match="as many components"):
        Spec(family="binary-pv", bits=64, dim=32)


@pytest.mark.parametrize("variant", ["dbow", "dm", "real-binary"])
def test_an_artefact_encodes_as_the_encoder_that_was_saved(variant, tmp_path):
    spec = Spec(family="binary-pv", variant=variant, bits=21, min_count=1, sample=0.0)
    encoder = Encoder.build(spec)
    rows = Dataset.from_dict({"text": texts()})
    encoder.fit(rows, Training(epochs=4, learning_rate=0.05), tmp_path / "run")
    found = encoder.encode(texts(20, seed=2))
    assert (found.shape, found.dtype, encoder.bytes_per_vector) == ((20, 3), np.uint8, 3)
    model_folder.save(encoder, tmp_path / "model")
    again = zoo.from_pretrained(tmp_path / "model")
    np.testing.assert_array_equal(again.encode(texts(20, seed=2)), found)
    np.testing.assert_array_equal(np.concatenate(list(again.stream(iter(texts(20, seed=2))))), found)
    assert again.encode([]).shape == (0, 3)
    if variant == "real-binary":
        real = again.view(real=True)
        vectors = real.encode(texts(20, seed=2))
        assert (vectors.shape, real.similarity, again.similarity) == ((20, 300), "cosine", "hamming")
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        np.testing.assert_array_equal(again.encode(texts(20, seed=2), real=True), vectors)
        asked, held = texts(3, seed=5), texts(20, seed=2)
        places, cosines = again.rank(asked, held, top=4, candidates=9)
        near = codes.compute_hamming_distances(again.encode(asked), again.encode(held))
        for query, row, scores in zip(asked, places, cosines, strict=True):
            candidates = np.argsort(near[asked.index(query)], kind="stable")[:9]
            likeness = vectors[candidates] @ real.encode([query])[0]
            assert list(row) == list(candidates[np.argsort(-likeness, kind="stable")[:4]])
            np.testing.assert_allclose(scores, np.sort(likeness)[::-1][:4], atol=1e-6)
    else:
        with pytest.raises(ZooError, match="real-binary"):
            again.encode(["a"], real=True)
    with pytest.raises(ZooError, match=r"\[text\]"):
        again.encode("one text")
    with pytest.raises(ZooError, match="input 1 is None"):
        again.encode(["a", None])
    (tmp_path / "model" / "vocabulary.json").write_text("{}")
    with pytest.raises(ArtefactError):
        zoo.from_pretrained(tmp_path / "model")


def test_a_real_part_beside_them_changes_no_code(tmp_path):
    found = []
    for variant in ("dbow", "real-binary"):
        encoder = Encoder.build(
            Spec(family="binary-pv", variant=variant, bits=13, dim=20, min_count=1, sample=0.0), seed=5
        )
        encoder.fit(Dataset.from_dict({"text": texts()}), Training(epochs=2, seed=5), tmp_path / variant)
        found.append(encoder.encode(texts(20, seed=2)))
    np.testing.assert_array_equal(*found)


def test_a_recipe_trains_is_scored_by_hamming_and_writes_its_card(tmp_path):
    from zoo.build.builder import run

    lines = "".join(f'{{"text": "{t}", "label": "topic {i % 3}"}}\n' for i, t in enumerate(texts()))
    (tmp_path / "texts.jsonl").write_text(lines)
    recipe = """\
name: miniature
encoder: {family: binary-pv, bits: 24, min_count: 1, sample: 0.0}
data: {source: file, path: texts.jsonl}
training: {epochs: 10, learning_rate: 0.05}
evaluation:
  - task: clustering
    data: {source: file, path: texts.jsonl}
    at_least: 0.8
"""
    (tmp_path / "r.yaml").write_text(recipe)
    run(zoo.load_recipe(tmp_path / "r.yaml"), tmp_path / "run")
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert "IndexBinaryFlat" in card
    assert "| Bits | 24 |" in card
    assert atomic_files.read_json(tmp_path / "run" / "report.json")["results"][0]["bytes_per_vector"] == 3


def test_faiss_finds_the_codes_that_hamming_does():
    faiss = pytest.importorskip("faiss")
    model = Paragraphs(Settings(**{**SMALL, "bits": 24})).fit(texts())
    documents, asked = model.document_codes, model.infer_codes(texts(9, seed=3))
    index = faiss.IndexBinaryFlat(24)
    index.add(documents)
    distances, _ = index.search(asked, 5)
    np.testing.assert_array_equal(distances, np.sort(codes.compute_hamming_distances(asked, documents), axis=1)[:, :5])

"""Binary paragraph vectors as a family: codes, real vectors, model folder, card, search."""

from __future__ import annotations

import numpy as np
import pytest
from contract import Contract
from datasets import Dataset
from safetensors.numpy import load_file
from tiny_documents import SMALL, texts

import zoo
from zoo.artefact import model_folder
from zoo.core import atomic_files
from zoo.core.errors import ArtefactError, ZooError
from zoo.families.binary_pv.encoder import Encoder
from zoo.families.binary_pv.spec import Spec
from zoo.ops import codes
from zoo.paragraph_vectors.model import ParagraphVectors, Settings
from zoo.paragraph_vectors.vocabulary import Vocabulary
from zoo.schema import Training


def contract(folder) -> Contract:
    spec = Spec(family="binary-pv", variant="real-binary", dim=24, bits=21, min_count=1, sample=0.0)
    training = Training(epochs=4, learning_rate=0.05)
    return Contract(spec, Dataset.from_dict({"text": texts()}), training, texts(12, seed=2), {"real": True}, folder)


def test_hamming_distance_of_packed_bits_equals_that_of_unpacked_bits():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((7, 37)), rng.standard_normal((5, 37))
    expected = ((a[:, None] > 0) != (b[None] > 0)).sum(-1)
    assert codes.pack(a).shape == (7, 5)
    np.testing.assert_array_equal(codes.compute_hamming_distances(codes.pack(a), codes.pack(b)), expected)


def test_an_iterator_a_number_and_too_few_components_are_refused():
    with pytest.raises(ZooError, match="iterator"):
        ParagraphVectors(Settings()).fit(iter(texts()))
    with pytest.raises(ZooError, match="text 2 is int"):
        ParagraphVectors(Settings(min_count=1)).fit(["a b ab", 3], vocabulary=Vocabulary(("ab",), (1,)))
    with pytest.raises(ValueError, match="as many components"):
        Spec(family="binary-pv", bits=64, dim=32)


@pytest.mark.parametrize("variant", ["dbow", "dm", "real-binary"])
def test_a_loaded_model_encodes_as_the_saved_encoder(variant, tmp_path):
    spec = Spec(family="binary-pv", variant=variant, bits=21, min_count=1, sample=0.0)
    encoder = Encoder.build(spec)
    rows = Dataset.from_dict({"text": texts()})
    encoder.fit(rows, Training(epochs=4, learning_rate=0.05), tmp_path / "run")
    inputs = texts(20, seed=2)
    vectors = encoder.encode(inputs)
    assert (vectors.shape, vectors.dtype, encoder.bytes_per_vector) == ((20, 3), np.uint8, 3)
    model_folder.save(encoder, tmp_path / "model")
    loaded = zoo.from_pretrained(tmp_path / "model")
    np.testing.assert_array_equal(loaded.encode(inputs), vectors)
    np.testing.assert_array_equal(np.concatenate(list(loaded.stream(iter(inputs)))), vectors)
    assert loaded.encode([]).shape == (0, 3)
    if variant != "real-binary":
        with pytest.raises(ZooError, match="real-binary"):
            loaded.encode(["a"], real=True)
    with pytest.raises(ZooError, match=r"\[text\]"):
        loaded.encode("one text")
    with pytest.raises(ZooError, match="input 1 is None"):
        loaded.encode(["a", None])
    with pytest.raises(ZooError, match="has no such view option; its view options are: real"):
        loaded.view(dim=3)
    stored = load_file(tmp_path / "model" / "model.safetensors")
    assert not [name for name in stored if name.endswith("documents")], "training documents are not published"
    (tmp_path / "model" / "vocabulary.json").write_text("{}")
    with pytest.raises(ArtefactError, match="vocabulary.json"):
        zoo.from_pretrained(tmp_path / "model")


@pytest.fixture(scope="module")
def real_binary(tmp_path_factory) -> Encoder:
    encoder = Encoder.build(Spec(family="binary-pv", variant="real-binary", bits=21, min_count=1, sample=0.0))
    rows = Dataset.from_dict({"text": texts()})
    encoder.fit(rows, Training(epochs=4, learning_rate=0.05), tmp_path_factory.mktemp("run"))
    return encoder


def test_the_real_view_gives_unit_vectors_compared_by_cosine(real_binary):
    real = real_binary.view(real=True)
    vectors = real.encode(texts(20, seed=2))
    assert (vectors.shape, real.similarity_fn_name, real_binary.similarity_fn_name) == ((20, 300), "cosine", "hamming")
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(real_binary.encode(texts(20, seed=2), real=True), vectors)


def test_rank_sorts_the_nearest_codes_by_the_cosine_of_the_real_vectors(real_binary):
    queries, documents = texts(3, seed=5), texts(20, seed=2)
    positions, cosines = real_binary.rank(queries, documents, top=4, candidates=9)
    distances = codes.compute_hamming_distances(real_binary.encode(queries), real_binary.encode(documents))
    query_vectors, vectors = (real_binary.encode(inputs, real=True) for inputs in (queries, documents))
    for i in range(len(queries)):
        candidates = np.argsort(distances[i], kind="stable")[:9]
        similarities = vectors[candidates] @ query_vectors[i]
        assert list(positions[i]) == list(candidates[np.argsort(-similarities, kind="stable")[:4]])
        np.testing.assert_allclose(cosines[i], np.sort(similarities)[::-1][:4], atol=1e-6)
    assert real_binary.rank(queries, documents[:2])[0].shape == (3, 2)


def test_an_untrained_encoder_cannot_be_saved(tmp_path):
    with pytest.raises(ZooError, match="has not been trained"):
        Encoder.build(Spec(family="binary-pv")).save(tmp_path)


def test_real_vectors_do_not_change_the_codes(tmp_path):
    vectors = []
    for variant in ("dbow", "real-binary"):
        encoder = Encoder.build(
            Spec(family="binary-pv", variant=variant, bits=13, dim=20, min_count=1, sample=0.0), seed=5
        )
        encoder.fit(Dataset.from_dict({"text": texts()}), Training(epochs=2, seed=5), tmp_path / variant)
        vectors.append(encoder.encode(texts(20, seed=2)))
    np.testing.assert_array_equal(*vectors)


def test_a_recipe_trains_an_encoder_scores_its_codes_and_writes_the_card(tmp_path):
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


def test_faiss_finds_the_same_distances_as_hamming():
    faiss = pytest.importorskip("faiss")
    model = ParagraphVectors(Settings(**{**SMALL, "bits": 24})).fit(texts())
    documents, queries = model.document_codes, model.infer_codes(texts(9, seed=3))
    index = faiss.IndexBinaryFlat(24)
    index.add(documents)
    distances, _ = index.search(queries, 5)
    np.testing.assert_array_equal(
        distances, np.sort(codes.compute_hamming_distances(queries, documents), axis=1)[:, :5]
    )

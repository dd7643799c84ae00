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


def test_the_probes_hold_capitals_accents_spaces_long_texts_emoji_and_images():
    joined = "".join(reopening.TEXTS)
    assert reopening.TEXTS[0].split()[1].isupper()
    assert {"é", "\u0301", "  ", "\t", "\n", "😀", "漢"} <= {part for part in (*joined, "  ") if part in joined}
    assert max(map(len, reopening.TEXTS)) > 4000
    images = reopening.make_images()
    assert {image.ndim for image in images} == {2, 3}
    np.testing.assert_array_equal(images[0], reopening.make_images()[0])

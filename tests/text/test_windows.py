"""Windows of long texts: their places, their vectors, and what `long` of a dense encoder does."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import tiny_dense
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo
from zoo.core.errors import ZooError
from zoo.text import windows

LONG = " ".join(tiny.WORDS[:30])
TEXTS = [LONG, "the dog", " ".join(reversed(tiny.WORDS))]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return tiny_dense.build(tmp_path_factory.mktemp("windows"), long="windows", max_length=8)


@settings(max_examples=30, deadline=None)
@given(words=st.lists(st.sampled_from(tiny.WORDS), max_size=40), gap=st.sampled_from([" ", "  ", "\n"]))
def test_windows_follow_each_other_and_hold_every_word_once(encoder, words, gap):
    text = gap.join(words)
    split = windows.split_text(encoder.backbone, text)
    parts = [text[slice(*window.characters)].split() for window in split]
    assert [word for part in parts for word in part] == words
    assert all(len(encoder.backbone.tokenize([" ".join(part)])[0]) <= 8 for part in parts)
    assert all(len(part) == 6 for part in parts[:-1])


def test_a_window_keeps_the_link_to_its_text_and_has_the_vector_of_its_words(encoder):
    found = encoder.encode_windows(TEXTS)
    assert found.texts.tolist() == [0] * 5 + [1] + [2] * len(windows.split_text(encoder.backbone, TEXTS[2]))
    parts = [TEXTS[text][start:end] for text, (start, end) in zip(found.texts, found.spans, strict=True)]
    cut = tiny_dense.Encoder(encoder.spec.model_copy(update={"long": "cut"}), encoder.backbone)
    np.testing.assert_allclose(found.vectors, cut.encode(parts), atol=1e-6)


@pytest.mark.parametrize("mode", ["mean", "late"])
def test_the_vector_of_a_long_text_is_the_mean_of_its_windows(encoder, mode):
    own = tiny_dense.Encoder(encoder.spec.model_copy(update={"windows": mode}), encoder.backbone)
    found = own.encode_windows(TEXTS, mode=mode)
    mean = found.vectors[found.texts == 0].mean(0)
    np.testing.assert_allclose(own.encode(TEXTS)[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_late_windows_pool_the_tokens_of_one_pass_over_the_whole_text(encoder):
    import torch

    backbone = encoder.backbone
    text = " ".join(tiny.WORDS[:20])
    ids = backbone.tokenizer(text, truncation=False)["input_ids"]
    states = backbone.model(**backbone.pad([ids])).last_hidden_state[0, 1:-1]
    expected = torch.nn.functional.normalize(torch.stack([states[i : i + 6].mean(0) for i in range(0, 20, 6)]), dim=-1)
    found = encoder.encode_windows([text], mode="late")
    np.testing.assert_allclose(found.vectors, expected.detach().numpy(), atol=1e-6)


def test_a_text_beyond_the_positions_takes_several_passes(encoder):
    text = " ".join(tiny.WORDS * 3)
    found = encoder.encode_windows([text], mode="late")
    assert len(found.vectors) == len(windows.split_text(encoder.backbone, text)) > 40 // 6
    assert np.isfinite(found.vectors).all()


def test_a_long_text_is_refused_with_its_place_and_its_length(tmp_path):
    strict = tiny_dense.build(tmp_path, long="error", max_length=8)
    assert strict.encode(["the dog", "a cat"]).shape == (2, 32)
    with pytest.raises(ZooError, match=r"input 2 has 32 tokens, and 8 are read: split it, raise `max_length`, or set"):
        strict.encode(["the dog", LONG])


def test_a_saved_encoder_reads_long_texts_in_the_same_way(encoder, tmp_path):
    opened = zoo.from_pretrained(encoder.save(tmp_path / "model"))
    np.testing.assert_allclose(opened.encode(TEXTS), encoder.encode(TEXTS), atol=1e-6)
    np.testing.assert_allclose(np.concatenate(list(opened.stream(iter(TEXTS)))), encoder.encode(TEXTS), atol=1e-6)

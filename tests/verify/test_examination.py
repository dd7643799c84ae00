"""Each way of breaking a server is named rightly, and an intact one passes in fp32, bf16 and int8.

The broken encoders are modules of sentence-transformers, so the code under test does not compute its own oracle.
"""

from __future__ import annotations

import golden
import numpy as np
import pytest
import tiny
import tiny_dense
import tiny_matryoshka
import torch
from broken_models import encode_with, list_breakages, quantise_weights, set_pooling
from embedding_servers import FunctionSource
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Dense, Pooling

import zoo
from zoo.core.errors import ZooError
from zoo.verify.examination import examine
from zoo.verify.hypotheses import Expectation
from zoo.verify.verdict import RefusedInputError

MAX_LENGTH = 64
"""Tokens that the fixtures `minilm` and `stock` read."""


def judge(expected, encode, **options):
    return examine(expected, FunctionSource(encode), **options)


def find_causes(verdict):
    assert not verdict.is_same
    return [fault.cause for fault in verdict.faults]


@pytest.mark.parametrize("breakage", list_breakages(MAX_LENGTH), ids=lambda breakage: breakage.break_model.__name__)
def test_a_broken_server_is_named(breakage, stock, expected):
    verdict = judge(expected, breakage.break_model(stock))
    assert find_causes(verdict) == [breakage.cause]
    assert breakage.detail in verdict.faults[0].detail
    assert verdict.faults[0].advice


def test_a_prompt_that_nobody_knows_gets_no_false_name_and_the_search_changes_nothing(stock, expected, minilm):
    tokens = minilm.list_token_ids(expected.inputs)
    verdict = judge(expected, encode_with(stock, prompt="Say: "))
    assert find_causes(verdict) in (["revision"], ["model"], ["unknown"])
    assert minilm.list_token_ids(expected.inputs) == tokens
    np.testing.assert_array_equal(minilm.encode(expected.inputs), expected.vectors.astype(np.float32))


def test_two_faults_are_both_named(stock, expected):
    stock[1] = Pooling(384, "cls")
    del stock[2]
    assert find_causes(judge(expected, encode_with(stock, truncate_dim=64))) == [
        "pooling",
        "dimension",
        "normalisation",
    ]


# -- intact ones -------------------------------------------------------------------------------------------------------


def test_an_intact_server_passes_and_is_asked_once(stock, expected):
    source = FunctionSource(encode_with(stock))
    verdict = examine(expected, source, coarsest="fp32")
    assert (verdict.is_same, verdict.precision, verdict.notes, source.calls) == (True, "fp32", (), 1)
    assert verdict.lowest_cosine > 1 - 1e-9


def test_an_intact_server_in_bf16_passes_with_a_note(stock, expected):
    stock.to(torch.bfloat16)
    verdict = judge(expected, lambda texts: stock.encode(texts, convert_to_tensor=True).float().numpy())
    assert (verdict.is_same, verdict.precision, verdict.faults) == (True, "bf16", ())
    assert "about as fine as bf16" in verdict.notes[0]


def test_an_intact_server_in_int8_passes_with_a_note(stock, expected):
    verdict = judge(expected, encode_with(quantise_weights(stock)))
    assert (verdict.is_same, verdict.precision) == (True, "int8")
    assert "about as fine as int8" in verdict.notes[0]


def test_a_fault_of_an_int8_server_is_still_found(stock, expected):
    quantise_weights(stock)
    verdict = judge(expected, set_pooling("cls")(stock))
    assert find_causes(verdict) == ["pooling"]
    assert verdict.precision == "int8"


# -- answers that are no space -------------------------------------------------------------------------------------------


def test_a_long_text_that_is_refused_is_left_out_and_noted(minilm, expected):
    def encode(texts):
        if any(len(text) > 600 for text in texts):
            raise RefusedInputError("413: too long")
        return minilm.encode(texts)

    verdict = judge(expected, encode)
    assert (verdict.is_same, verdict.count) == (True, len(expected.inputs) - 1)
    assert "413: too long" in verdict.notes[0]


def test_every_input_refused_is_an_error(expected):
    def encode(texts):
        raise RefusedInputError("400: no")

    with pytest.raises(RefusedInputError, match="400: no"):
        judge(expected, encode)


@pytest.mark.parametrize(
    ("encode", "message"),
    [
        (lambda texts: np.full((len(texts), 384), np.nan), "NaN or infinity"),
        (lambda texts: np.ones((len(texts) + 1, 384)), "not one vector each"),
        (lambda texts: np.random.default_rng(0).standard_normal((len(texts), 300 + len(texts))), "different numbers"),
    ],
)
def test_vectors_that_cannot_be_compared_are_an_error(encode, message, expected):
    with pytest.raises(ZooError, match=message):
        judge(expected, encode)


def test_other_components_that_are_no_cut_are_another_model(expected):
    verdict = judge(expected, lambda texts: [np.cos(np.arange(100) * (len(text) + 1)) for text in texts])
    assert find_causes(verdict) == ["model"]
    assert "100 components instead of 384" in verdict.faults[0].detail


# -- tiny models of other kinds ------------------------------------------------------------------------------------------

SENTENCES = [*tiny.SENTENCES[:10], " ".join(tiny.WORDS)]


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    """A decoder whose vector is the state of its last token, with a prompt for queries."""
    folder = tmp_path_factory.mktemp("decoder")
    prompts = {"query": "the red ", "document": ""}
    return tiny_dense.build(folder, "qwen3", pooling="last", prompts=prompts)


@pytest.fixture
def stock_decoder(decoder, tmp_path):
    return SentenceTransformer(str(decoder.save(tmp_path / "model")), device="cpu")


def test_faults_of_a_decoder_are_named(decoder, stock_decoder):
    expected = Expectation(decoder, SENTENCES)
    assert judge(expected, encode_with(stock_decoder)).is_same
    last, stock_decoder[1] = stock_decoder[1], Pooling(32, "mean")
    assert find_causes(judge(expected, encode_with(stock_decoder))) == ["pooling"]
    stock_decoder[1] = last

    def take_padding(features, **_):
        return {**features, "sentence_embedding": features["token_embeddings"][:, -1]}

    whole, last.forward = last.forward, take_padding
    assert find_causes(judge(expected, encode_with(stock_decoder))) == ["padding"]
    last.forward = whole
    model = stock_decoder[0].auto_model
    model.layers = model.layers[:2]
    assert find_causes(judge(expected, encode_with(stock_decoder))) == ["layer"]


def test_prompts_of_a_role_are_missed_doubled_and_mixed_up(decoder, stock_decoder):
    expected = Expectation(decoder, SENTENCES, "query")

    def name_fault(prompt):
        verdict = judge(expected, encode_with(stock_decoder, prompt=prompt))
        return None if verdict.is_same else (verdict.faults[0].cause, verdict.faults[0].detail)

    assert name_fault("the red ") is None
    assert name_fault("") == ("prompt", "the prompt 'the red ' is missing")
    assert name_fault("the red the red ") == ("prompt", "the prompt 'the red ' stands before each text twice")
    sent = Expectation(decoder, SENTENCES, "query", has_prompt=True)
    assert judge(sent, encode_with(stock_decoder, prompt="")).is_same
    verdict = judge(sent, encode_with(stock_decoder, prompt="the red "))
    assert "twice" in verdict.faults[0].detail


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    """A text model with a Dense module after its pooling."""
    folder = tmp_path_factory.mktemp("dense")
    model = SentenceTransformer(tiny.backbone(folder / "b"), device="cpu")
    torch.manual_seed(0)
    parts = [model[0], model[1], Dense(32, 16), model[2]]
    SentenceTransformer(modules=parts, device="cpu").save(str(folder / "mapped"), create_model_card=False)
    return folder / "mapped"


def test_a_missing_dense_module_is_named(mapped):
    """TEI once ignored the Dense modules of local models."""
    encoder = zoo.from_pretrained(mapped)
    model = SentenceTransformer(str(mapped), device="cpu")
    expected = Expectation(encoder, SENTENCES)
    assert judge(expected, encode_with(model)).is_same
    del model[2]
    assert find_causes(judge(expected, encode_with(model))) == ["head"]
    model[1] = Pooling(32, "cls")
    assert find_causes(judge(expected, encode_with(model))) == ["pooling and head"]


def test_a_view_is_told_from_the_whole_model_and_from_other_views(tmp_path):
    encoder = tiny_matryoshka.build(tmp_path)
    view = encoder.truncate(2, 16)
    expected = Expectation(view, SENTENCES)
    assert judge(expected, encoder.truncate(2, 16).encode).is_same
    verdict = judge(expected, encoder.truncate(3, 16).encode)
    assert (find_causes(verdict), "3 layers instead of 2" in verdict.faults[0].detail) == (["layer"], True)
    assert find_causes(judge(expected, encoder.truncate(2, 32).encode)) == ["dimension"]
    assert find_causes(judge(expected, encoder.truncate(2, 8).encode)) == ["dimension"]
    assert find_causes(judge(expected, encoder.encode)) == ["layer", "dimension"]


def test_a_family_without_a_transformer_is_compared_too():
    encoder = zoo.from_pretrained(golden.GOLDEN / "static" / "model")
    expected = Expectation(encoder, golden.read("static")[0])
    assert expected.states is None
    assert judge(expected, encoder.encode).is_same
    assert find_causes(judge(expected, lambda texts: encoder.encode(texts) * 2)) == ["normalisation"]
    assert not judge(expected, lambda texts: encoder.encode([f"the dog {text}" for text in texts])).is_same


def test_an_arithmetic_that_is_too_coarse_is_refused():
    encoder = zoo.from_pretrained(golden.GOLDEN / "static" / "model")
    expected = Expectation(encoder, golden.read("static")[0])
    noise = np.random.default_rng(0).standard_normal(expected.vectors.shape[1]) * 0.02

    def encode(texts):
        return encoder.encode(texts) + noise

    assert judge(expected, encode).precision == "int8"
    assert find_causes(judge(expected, encode, coarsest="bf16")) == ["precision"]


def test_codes_are_compared_as_the_values_that_they_stand_for():
    encoder = zoo.from_pretrained(golden.GOLDEN / "binary-pv" / "model")
    expected = Expectation(encoder, golden.read("binary-pv")[0])
    assert judge(expected, lambda texts: encoder.as_float_vectors(encoder.encode(texts))).is_same
    assert not judge(expected, lambda texts: encoder.as_float_vectors(encoder.encode(texts))[:, ::-1]).is_same


def test_inputs_that_have_one_vector_are_noted():
    encoder = zoo.from_pretrained(golden.GOLDEN / "static" / "model")
    unknown = Expectation(encoder, ["zebra", "xylophone", "yacht"])
    assert "1 different vectors" in judge(unknown, encoder.encode).notes[0]

"""Each way of breaking a server is named rightly, and an intact one passes in fp32, bf16 and int8.

The broken encoders are modules of sentence-transformers, so the code under test does not compute its own oracle.
"""

from __future__ import annotations

import json

import golden
import numpy as np
import pytest
import tiny
import tiny_dense
import tiny_matryoshka
import torch
from embedding_servers import FunctionSource
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Dense, Pooling

import zoo
from zoo.core.errors import ZooError
from zoo.verify.examination import RefusedInputError, examine
from zoo.verify.hypotheses import Expectation


def encode_stock(model, **options):
    return lambda texts: model.encode(texts, show_progress_bar=False, **options)


def judge(expected, encode, **options):
    return examine(expected, FunctionSource(encode), **options)


def find_causes(verdict):
    assert not verdict.is_same
    return [fault.cause for fault in verdict.faults]


# -- ways of breaking --------------------------------------------------------------------------------------------------


def pool_first(model):
    model[1] = Pooling(384, "cls")
    return encode_stock(model)


def pool_maximum(model):
    model[1] = Pooling(384, "max")
    return encode_stock(model)


def pool_last(model):
    model[1] = Pooling(384, "lasttoken")
    return encode_stock(model)


def cut_layers(model):
    transformer = model[0].auto_model
    transformer.encoder.layer = transformer.encoder.layer[:4]
    return encode_stock(model)


def cut_texts_early(model):
    model.max_seq_length = 40
    return encode_stock(model)


def cut_texts_late(model):
    model.max_seq_length = 100
    return encode_stock(model)


def cut_characters(model):
    return lambda texts: model.encode([text[:128] for text in texts])


def put_prompt(model):
    return encode_stock(model, prompt="query: ")


def put_own_prompt(model):
    return encode_stock(model, prompt="Say: ")


def keep_case(model):
    backend = json.loads(model.tokenizer.backend_tokenizer.to_str())
    backend["normalizer"]["lowercase"] = False
    from tokenizers import Tokenizer

    model.tokenizer._tokenizer = Tokenizer.from_str(json.dumps(backend))
    return encode_stock(model)


def leave_out_special_tokens(model):
    def encode(texts):
        rows = [model.tokenizer(text, add_special_tokens=False, truncation=True, max_length=64) for text in texts]
        vectors = []
        for row in rows:
            batch = {name: torch.tensor([values]) for name, values in row.items()}
            with torch.inference_mode():
                states = model[0].auto_model(**batch).last_hidden_state
            vectors.append(torch.nn.functional.normalize(states.mean(1)[0], dim=-1).numpy())
        return np.stack(vectors)

    return encode


def leave_out_normalize(model):
    del model[2]
    return encode_stock(model)


def cut_components(model):
    return encode_stock(model, truncate_dim=128, normalize_embeddings=True)


def count_padding(model):
    pooling = model[1]
    forward = pooling.forward

    def pool_all(features, **options):
        ones = torch.ones_like(features["attention_mask"])
        return {**features, **forward({**features, "attention_mask": ones}, **options)}

    pooling.forward = pool_all
    return encode_stock(model)


def shuffle(model):
    def encode(texts):
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        return model.encode([texts[place] for place in order])

    return encode


def quantise_vectors(model):
    return lambda texts: np.rint(model.encode(texts) * 127 / 0.2)


def change_weights(model):
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data += torch.randn(parameter.shape, generator=generator) * parameter.std() * 0.2
    return encode_stock(model)


def serve_another_model(model):
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data = parameter.data[torch.randperm(len(parameter), generator=torch.Generator().manual_seed(1))]
    return encode_stock(model)


BROKEN = [
    (pool_first, "pooling", "first token"),
    (pool_maximum, "pooling", "maximum"),
    (pool_last, "pooling", "last token"),
    (cut_layers, "layer", "4 layers instead of 6"),
    (cut_texts_early, "truncation", "after 40 tokens instead of 64"),
    (cut_texts_late, "truncation", "after 100 tokens instead of 64"),
    (cut_characters, "truncation", "after 128 characters"),
    (put_prompt, "prompt", "'query: ' before each text"),
    (keep_case, "lower-casing", "no longer makes texts lower case"),
    (leave_out_special_tokens, "special tokens", "no special tokens"),
    (leave_out_normalize, "normalisation", "instead of 1"),
    (cut_components, "dimension", "128 components instead of 384"),
    (count_padding, "padding", "changes with the other inputs"),
    (shuffle, "order", "place of another input"),
    (quantise_vectors, "quantised vectors", "whole"),
    (change_weights, "revision", "other weights"),
    (serve_another_model, "model", "nothing in common"),
]


@pytest.mark.parametrize(("break_model", "cause", "detail"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_server_is_named(break_model, cause, detail, stock, expected):
    verdict = judge(expected, break_model(stock))
    assert find_causes(verdict) == [cause]
    assert detail in verdict.faults[0].detail
    assert verdict.faults[0].advice


def test_a_prompt_that_nobody_knows_is_no_false_name(stock, expected):
    verdict = judge(expected, put_own_prompt(stock))
    assert find_causes(verdict) in (["revision"], ["model"], ["unknown"])


def test_two_faults_are_both_named(stock, expected):
    stock[1] = Pooling(384, "cls")
    del stock[2]
    assert find_causes(judge(expected, encode_stock(stock, truncate_dim=64))) == [
        "pooling",
        "dimension",
        "normalisation",
    ]


# -- intact ones -------------------------------------------------------------------------------------------------------


def quantise_weights(model):
    """Round the weights of all linear layers to int8 per row, and their inputs to uint8 per tensor, as dynamic int8 does."""

    def round_input(_, values):
        low, high = min(values[0].min().item(), 0), max(values[0].max().item(), 0)
        step = (high - low) / 255
        return (((values[0] - low) / step).round() * step + low,)

    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            step = module.weight.data.abs().amax(1, keepdim=True) / 127
            module.weight.data = (module.weight.data / step).round() * step
            module.register_forward_pre_hook(round_input)
    return model


def test_an_intact_server_passes_and_is_asked_once(stock, expected):
    source = FunctionSource(encode_stock(stock))
    verdict = examine(expected, source, coarsest="fp32")
    assert (verdict.is_same, verdict.precision, verdict.notes, source.calls) == (True, "fp32", (), 1)
    assert verdict.lowest_cosine > 1 - 1e-9


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_an_intact_server_in_half_precision_passes_with_a_note(dtype, stock, expected):
    stock.to(torch.bfloat16 if dtype == "bf16" else torch.float16)
    verdict = judge(expected, lambda texts: stock.encode(texts, convert_to_tensor=True).float().numpy())
    assert (verdict.is_same, verdict.precision, verdict.faults) == (True, dtype, ())
    assert f"about as fine as {dtype}" in verdict.notes[0]


def test_int8_passes_with_a_note_and_can_be_refused(stock, expected):
    encode = encode_stock(quantise_weights(stock))
    verdict = judge(expected, encode)
    assert (verdict.is_same, verdict.precision) == (True, "int8")
    assert "about as fine as int8" in verdict.notes[0]
    assert find_causes(judge(expected, encode, coarsest="bf16")) == ["precision"]


def test_a_fault_of_an_int8_server_is_still_found(stock, expected):
    quantise_weights(stock)
    verdict = judge(expected, pool_first(stock))
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
    assert judge(expected, encode_stock(stock_decoder)).is_same
    last, stock_decoder[1] = stock_decoder[1], Pooling(32, "mean")
    assert find_causes(judge(expected, encode_stock(stock_decoder))) == ["pooling"]
    stock_decoder[1] = last

    def take_padding(features, **_):
        return {**features, "sentence_embedding": features["token_embeddings"][:, -1]}

    whole, last.forward = last.forward, take_padding
    assert find_causes(judge(expected, encode_stock(stock_decoder))) == ["padding"]
    last.forward = whole
    model = stock_decoder[0].auto_model
    model.layers = model.layers[:2]
    assert find_causes(judge(expected, encode_stock(stock_decoder))) == ["layer"]


def test_prompts_of_a_role_are_missed_doubled_and_mixed_up(decoder, stock_decoder):
    expected = Expectation(decoder, SENTENCES, "query")

    def name_fault(prompt):
        verdict = judge(expected, encode_stock(stock_decoder, prompt=prompt))
        return None if verdict.is_same else (verdict.faults[0].cause, verdict.faults[0].detail)

    assert name_fault("the red ") is None
    assert name_fault("") == ("prompt", "the prompt 'the red ' is missing")
    assert name_fault("the red the red ") == ("prompt", "the prompt 'the red ' stands before each text twice")
    sent = Expectation(decoder, SENTENCES, "query", has_prompt=True)
    assert judge(sent, encode_stock(stock_decoder, prompt="")).is_same
    verdict = judge(sent, encode_stock(stock_decoder, prompt="the red "))
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
    assert judge(expected, encode_stock(model)).is_same
    del model[2]
    assert find_causes(judge(expected, encode_stock(model))) == ["head"]
    model[1] = Pooling(32, "cls")
    assert find_causes(judge(expected, encode_stock(model))) == ["pooling and head"]


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


def test_codes_are_compared_as_the_values_that_they_stand_for():
    encoder = zoo.from_pretrained(golden.GOLDEN / "binary-pv" / "model")
    expected = Expectation(encoder, golden.read("binary-pv")[0])
    assert judge(expected, lambda texts: encoder.as_float_vectors(encoder.encode(texts))).is_same
    assert not judge(expected, lambda texts: encoder.as_float_vectors(encoder.encode(texts))[:, ::-1]).is_same


def test_inputs_that_have_one_vector_are_noted():
    encoder = zoo.from_pretrained(golden.GOLDEN / "static" / "model")
    unknown = Expectation(encoder, ["zebra", "xylophone", "yacht"])
    assert "1 different vectors" in judge(unknown, encoder.encode).notes[0]


def test_the_search_leaves_the_encoder_as_it_was(minilm, expected, stock):
    tokens = minilm.list_token_ids(expected.inputs)
    judge(expected, change_weights(stock))
    assert minilm.list_token_ids(expected.inputs) == tokens
    np.testing.assert_array_equal(minilm.encode(expected.inputs), expected.vectors.astype(np.float32))

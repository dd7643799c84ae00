"""Any text model of transformers becomes a dense encoder, and opens in stock sentence-transformers with the same vectors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
import transformers
from sentence_transformers import SentenceTransformer

import zoo
from zoo.artefact import model_folder
from zoo.core.errors import ZooError
from zoo.families.dense.encoder import Encoder
from zoo.families.dense.spec import Spec
from zoo.text import trained_parts

ENCODERS = [
    "bert",
    "roberta",
    "xlm-roberta",
    "mpnet",
    "electra",
    "deberta-v2",
    "distilbert",
    "modernbert",
    "nomic_bert",
    "t5",
]
DECODERS = ["gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma3_text", "phi3", "smollm3"]
TEXTS = [*tiny.SENTENCES[:9], "the dog", " ".join(tiny.WORDS[:30])]


def write_bare(folder: Path, kind: str) -> str:
    """Write a model without the files of sentence-transformers, as language models are published."""
    torch.manual_seed(0)
    config = tiny.make_config(kind, 2, 32)
    has_own_class = kind == "t5"
    model = transformers.T5EncoderModel(config) if has_own_class else transformers.AutoModel.from_config(config)
    model.save_pretrained(folder)
    tiny.make_tokenizer().save_pretrained(folder)
    return str(folder)


def build(folder: Path, kind: str, **options) -> Encoder:
    return Encoder.build(Spec(family="dense", backbone=write_bare(folder / kind, kind), **options), seed=3)


@pytest.mark.parametrize("kind", [*ENCODERS, *DECODERS, "embedding_gemma"])
def test_a_saved_encoder_gives_the_same_vectors_here_and_in_the_stock_library(kind, tmp_path):
    encoder = build(tmp_path, kind)
    vectors = encoder.encode(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    folder = model_folder.save(encoder, tmp_path / "model")
    np.testing.assert_allclose(zoo.from_pretrained(folder).encode(TEXTS), vectors, atol=1e-6)
    stock = SentenceTransformer(str(folder), device="cpu")
    np.testing.assert_allclose(stock.encode(TEXTS), vectors, atol=1e-6)


@pytest.mark.parametrize("kind", [*ENCODERS, *DECODERS, "embedding_gemma"])
def test_a_decoder_is_pooled_at_its_last_token_and_an_encoder_by_the_mean(kind, tmp_path):
    expected = "last" if kind in DECODERS else "mean"
    assert build(tmp_path, kind).card_facts()["pooling"] == expected


@pytest.mark.parametrize("pooling", ["mean", "cls", "last", "weighted"])
@pytest.mark.parametrize("kind", ["bert", "qwen3", "gpt2"])
def test_right_and_left_padding_give_the_same_vectors(kind, pooling, tmp_path):
    path = Path(write_bare(tmp_path / kind, kind))
    settings = json.loads((path / "tokenizer_config.json").read_text()) | {"padding_side": "left"}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    encoder = Encoder.build(Spec(family="dense", backbone=str(path), pooling=pooling))
    stock = SentenceTransformer(str(model_folder.save(encoder, tmp_path / "model")), device="cpu")
    has_absolute_positions = kind != "qwen3"
    assert stock.tokenizer.padding_side == ("right" if has_absolute_positions else "left")
    np.testing.assert_allclose(stock.encode(TEXTS, batch_size=4), encoder.encode(TEXTS), atol=1e-5)


def test_poolings_are_those_of_their_names(tmp_path):
    path = write_bare(tmp_path / "bare", "qwen3")
    names = ("mean", "cls", "last", "weighted")
    encoders = {name: Encoder.build(Spec(family="dense", backbone=path, pooling=name)) for name in names}
    backbone = encoders["mean"].backbone
    ids = backbone.tokenize(["the dog plays"])
    states = backbone.model(**backbone.pad(ids)).last_hidden_state[0].detach()
    weights = torch.arange(1, len(states) + 1.0)[:, None]
    expected = {
        "mean": states.mean(0),
        "cls": states[0],
        "last": states[-1],
        "weighted": (states * weights).sum(0) / weights.sum(),
    }
    for name, vector in expected.items():
        unit = torch.nn.functional.normalize(vector, dim=0).numpy()
        np.testing.assert_allclose(encoders[name].encode(["the dog plays"])[0], unit, atol=1e-6, err_msg=name)


def test_a_folder_of_sentence_transformers_is_taken_as_it_is(tmp_path):
    from sentence_transformers.models import Dense, Pooling, Transformer

    torch.manual_seed(1)
    modules = [
        Transformer(write_bare(tmp_path / "bare", "bert"), max_seq_length=24),
        Pooling(32, pooling_mode="cls"),
        Dense(32, 16, activation_function=torch.nn.Tanh()),
        Dense(16, 8, bias=False, activation_function=torch.nn.Identity()),
    ]
    own = SentenceTransformer(
        modules=modules,
        device="cpu",
        prompts={"query": "the ", "document": "a ", "other": "red "},
        default_prompt_name="other",
        similarity_fn_name="dot",
    )
    own.save_pretrained(str(tmp_path / "own"), create_model_card=False)
    encoder = Encoder.build(Spec(family="dense", backbone=str(tmp_path / "own")))
    assert (encoder.dim, encoder.similarity_fn_name) == (8, "dot")
    np.testing.assert_allclose(encoder.encode(TEXTS), own.encode(TEXTS), atol=1e-6)
    np.testing.assert_allclose(encoder.encode_query(TEXTS), own.encode_query(TEXTS), atol=1e-6)
    np.testing.assert_allclose(
        encoder.similarity(encoder.encode(TEXTS[:2]), encoder.encode(TEXTS)),
        own.similarity(own.encode(TEXTS[:2]), own.encode(TEXTS)),
        atol=1e-6,
    )
    folder = model_folder.save(encoder, tmp_path / "model")
    again = SentenceTransformer(str(folder), device="cpu")
    np.testing.assert_allclose(again.encode_document(TEXTS), own.encode_document(TEXTS), atol=1e-6)
    assert again.prompts == own.prompts
    assert (again.default_prompt_name, again.similarity_fn_name) == ("other", "dot")
    np.testing.assert_allclose(zoo.from_pretrained(folder).encode(TEXTS), own.encode(TEXTS), atol=1e-6)


def test_a_decoder_without_padding_token_pads_with_the_token_that_ends_a_text(tmp_path):
    path = Path(write_bare(tmp_path / "bare", "qwen3"))
    whole = Encoder.build(Spec(family="dense", backbone=str(path))).encode(TEXTS)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (path / name).exists():
            content = json.loads((path / name).read_text())
            content.pop("pad_token", None)
            (path / name).write_text(json.dumps(content | {"eos_token": "[SEP]"}))
    encoder = Encoder.build(Spec(family="dense", backbone=str(path)))
    assert encoder.backbone.tokenizer.pad_token == "[SEP]"
    np.testing.assert_allclose(encoder.encode(TEXTS), whole, atol=1e-6)
    content = json.loads((path / "tokenizer_config.json").read_text())
    content.pop("eos_token")
    (path / "tokenizer_config.json").write_text(json.dumps(content))
    with pytest.raises(ZooError, match="no padding token and no token that ends a text.*set `pad_token`"):
        Encoder.build(Spec(family="dense", backbone=str(path)))


def test_a_text_ends_with_the_end_token_if_the_tokenizer_says_so(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    path = Path(write_bare(tmp_path / "bare", "llama"))
    plain = Tokenizer(models.WordLevel(tiny.VOCABULARY, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=plain, model_max_length=8, **names).save_pretrained(path)
    settings = json.loads((path / "tokenizer_config.json").read_text())
    words = [tiny.VOCABULARY["the"], tiny.VOCABULARY["dog"]]
    for says_so, end in ((False, []), (True, [tiny.VOCABULARY["[SEP]"]])):
        (path / "tokenizer_config.json").write_text(json.dumps(settings | {"add_eos_token": says_so}))
        encoder = Encoder.build(Spec(family="dense", backbone=str(path)))
        assert encoder.list_token_ids(["the dog"]) == [[*words, *end]]
        folder = model_folder.save(encoder, tmp_path / str(says_so))
        assert zoo.from_pretrained(folder).list_token_ids(["the dog"]) == [[*words, *end]]
    long = encoder.list_token_ids([" ".join(tiny.WORDS)])[0]
    assert (len(long), long[-1]) == (8, tiny.VOCABULARY["[SEP]"])


@pytest.mark.parametrize("kind", ["bert", "qwen3", "t5", "gpt2", "mpnet"])
def test_freezing_keeps_the_embeddings_and_the_first_blocks(kind, tmp_path):
    encoder = build(tmp_path, kind)
    trained_parts.freeze(encoder.backbone, 1)
    path, _ = trained_parts.find_blocks(encoder.backbone.model)
    trained = {name for name, parameter in encoder.backbone.model.named_parameters() if parameter.requires_grad}
    assert not [name for name in trained if name.startswith((f"{path}.0.", "shared")) or "embed" in name]
    assert [name for name in trained if name.startswith(f"{path}.1.")]
    with pytest.raises(ZooError, match=r"freeze: 3 is outside 0…2"):
        trained_parts.freeze(encoder.backbone, 3)


@pytest.mark.parametrize(("kind", "family"), [("qwen3", "matryoshka-2d"), ("gpt2", "dense"), ("t5", "dense")])
def test_a_plain_model_opens_untrained_as_the_family_that_can_use_it(kind, family, tmp_path):
    encoder = zoo.from_pretrained(write_bare(tmp_path / kind, kind))
    assert encoder.spec.family == family
    assert encoder.encode(TEXTS).shape == (11, 32)


def test_a_chat_template_changes_no_text(tmp_path):
    """sentence-transformers would write each text as a message, so that what is written is not what was trained."""
    path = write_bare(tmp_path / "chat", "llama")
    template = "{% for message in messages %}<chat> {{ message['content'] }} </chat>{% endfor %}"
    (Path(path) / "chat_template.jinja").write_text(template)
    encoder = Encoder.build(Spec(family="dense", backbone=path))
    folder = model_folder.save(encoder, tmp_path / "model")
    stock = SentenceTransformer(str(folder), device="cpu")
    np.testing.assert_allclose(stock.encode(TEXTS), encoder.encode(TEXTS), atol=1e-6)
    asks_for_messages = SentenceTransformer(path, device="cpu")
    asks_for_messages.save(str(tmp_path / "messages"))
    with pytest.raises(ZooError, match="writes each text as a chat message.*take `message` out of modality_config"):
        Encoder.build(Spec(family="dense", backbone=str(tmp_path / "messages")))

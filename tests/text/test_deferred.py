"""A text model is read without sentence-transformers, encodes as it does, and is opened by it when that is needed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import transformers
from safetensors.torch import load_file, save_file

import zoo
from zoo.core.errors import ZooError
from zoo.families.dense.encoder import Encoder as DenseEncoder
from zoo.families.dense.spec import Spec as DenseSpec
from zoo.families.matryoshka_2d.encoder import Encoder
from zoo.families.matryoshka_2d.spec import Spec
from zoo.ops import int8_linear
from zoo.text import light_folder, table_export

TEXTS = [*tiny.SENTENCES[:12], "", "the \U0001f415 dog", "the dog " * 40, "[CLS] dog [MASK]"]
HAS_INT8 = int8_linear.can_multiply()
HEAVY = ("sentence_transformers", "transformers", "sklearn", "pandas", "torch._dynamo", "datasets", "scipy", "peft")


def open_stock(folder: str) -> Encoder:
    return Encoder.build(Spec(family="matryoshka-2d", backbone=folder))


def write_head(encoder: Encoder) -> None:
    torch.manual_seed(5)
    encoder.set_heads({layer: torch.nn.Linear(32, 32, bias=False) for layer in (2, 3)})


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> str:
    return tiny.backbone(tmp_path_factory.mktemp("deferred") / "bert")


@pytest.fixture(scope="module")
def trained(plain, tmp_path_factory) -> Path:
    """A folder of zoo with heads and prompts."""
    spec = Spec(family="matryoshka-2d", backbone=plain, prompts={"query": "the dog ", "document": ""})
    encoder = Encoder.build(spec)
    write_head(encoder)
    return encoder.save(tmp_path_factory.mktemp("trained") / "model")


@pytest.fixture(scope="module")
def coded(trained, tmp_path_factory) -> Path:
    """The same with a token table in int4."""
    encoder = table_export.code_table(zoo.from_pretrained(trained), "int4")
    return encoder.save(tmp_path_factory.mktemp("coded") / "model")


@pytest.fixture(scope="module")
def dense(plain, tmp_path_factory) -> Path:
    """A folder of the family `dense`, with a prompt."""
    spec = DenseSpec(family="dense", backbone=plain, prompts={"query": "the dog ", "document": ""})
    return DenseEncoder.build(spec).save(tmp_path_factory.mktemp("dense") / "model")


def test_encoding_imports_only_torch_tokenizers_and_safetensors(plain, trained, coded, dense):
    code = (
        "import sys, zoo\n"
        f"for folder in ({plain!r}, {str(trained)!r}, {str(coded)!r}, {str(dense)!r}):\n"
        "    encoder = zoo.from_pretrained(folder)\n"
        "    encoder.encode(['the dog']); encoder.encode_query(['the dog'], precision='bf16')\n"
        "    encoder.view(dim=16).encode(['a cat']); list(encoder.stream(['a cat']))\n"
        f"print([name for name in {HEAVY} if name in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split("\n")[0] == "[]"


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta", "mpnet", "distilbert", "electra"])
def test_vectors_and_tokens_are_those_of_the_open_model(kind, tmp_path):
    folder = tiny.backbone(tmp_path / kind, kind)
    encoder, stock = zoo.from_pretrained(folder), open_stock(folder)
    assert encoder._deferred is not None
    assert encoder.list_token_ids(TEXTS) == stock.list_token_ids(TEXTS)
    for layers, dim in ((3, 32), (1, 9)):
        expected = stock.truncate(layers, dim).encode(TEXTS)
        np.testing.assert_allclose(encoder.truncate(layers, dim).encode(TEXTS), expected, atol=1e-6)
    assert encoder._deferred is not None
    assert (encoder.dim, encoder.layers, encoder.backbone_revision) == (
        stock.dim,
        stock.layers,
        stock.backbone_revision,
    )
    assert encoder.backbone.max_length == stock.backbone.max_length
    assert encoder._deferred is None
    np.testing.assert_allclose(encoder.encode(TEXTS), stock.encode(TEXTS), atol=1e-6)


def test_heads_and_prompts_are_those_of_the_open_model(trained):
    encoder, stock = zoo.from_pretrained(trained), zoo.from_pretrained(trained)
    assert encoder._deferred is not None
    assert stock.backbone is not None
    assert stock._deferred is None
    for layers in (1, 2, 3):
        views = [each.truncate(layers, 16) for each in (encoder, stock)]
        for role in ("query", "document"):
            vectors, expected = (view.encode(TEXTS, prompt_name=role) for view in views)
            np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert encoder._deferred is not None


@pytest.mark.parametrize("name", ["coded", "dense"])
def test_coded_tables_and_dense_encoders_encode_as_the_open_model(name, request):
    folder = request.getfixturevalue(name)
    encoder, stock = zoo.from_pretrained(folder), zoo.from_pretrained(folder)
    stock._open_backbone()
    assert encoder.dim == stock.dim
    for role in (None, "query", "document"):
        for dim in (32, 9):
            vectors, expected = (
                each.view(dim=dim).encode(TEXTS, **({"prompt_name": role} if role else {})) for each in (encoder, stock)
            )
            np.testing.assert_allclose(vectors, expected, atol=1e-6)
    for precision in ("bf16", "int8") if HAS_INT8 else ("bf16",):
        vectors, expected = (each.encode(TEXTS, precision=precision) for each in (encoder, stock))
        np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert encoder._deferred is not None
    assert encoder.card_facts() == stock.card_facts()
    np.testing.assert_allclose(encoder.encode(TEXTS), stock.encode(TEXTS), atol=1e-6)


@pytest.mark.parametrize("fields", [{"normalize": False}, {"projection": 8}, {"pooling": "cls"}, {"max_length": 9}])
def test_a_dense_folder_with_other_modules_encodes_alike(fields, plain, tmp_path):
    encoder = DenseEncoder.build(DenseSpec(family="dense", backbone=plain, **fields))
    folder = encoder.save(tmp_path / "model")
    opened = zoo.from_pretrained(folder)
    assert (opened._deferred is not None) == ("pooling" in fields or "max_length" in fields)
    assert opened.max_length == encoder.max_length
    np.testing.assert_allclose(opened.encode(TEXTS), encoder.encode(TEXTS), atol=1e-6)


def test_a_training_after_the_opening_reaches_every_view(plain):
    encoder = zoo.from_pretrained(plain)
    view = encoder.truncate(2, 16)
    before = view.encode(TEXTS)
    parameters = [parameter for parameter in encoder.module.parameters() if parameter.requires_grad]
    assert view.backbone.model is encoder.backbone.model
    assert not any(name.startswith("pooler.") and p.requires_grad for name, p in view.backbone.model.named_parameters())
    with torch.no_grad():
        for parameter in parameters:
            parameter.mul_(0.7)
    assert not np.allclose(view.encode(TEXTS), before, atol=1e-3)
    np.testing.assert_allclose(view.encode(TEXTS), encoder.truncate(2, 16).encode(TEXTS), atol=1e-6)


@pytest.mark.parametrize("name", ["trained", "coded"])
def test_a_folder_that_is_gone_or_changed_opens_as_it_was(name, request, tmp_path):
    for change in ("gone", "changed"):
        folder = tmp_path / change
        shutil.copytree(request.getfixturevalue(name), folder)
        encoder = zoo.from_pretrained(folder)
        expected = encoder.truncate(1, 16).encode(TEXTS)
        (folder / "tokenizer_config.json").unlink()
        if change == "gone":
            for path in sorted(folder.rglob("*.json")):
                path.unlink(missing_ok=True)
            for stem in ("model",) if name == "trained" else ("network", "table"):
                (folder / f"{stem}.safetensors").unlink()
        np.testing.assert_allclose(encoder.truncate(1, 16).encode(TEXTS), expected, atol=1e-6)
        assert encoder.save(tmp_path / f"copy-{change}")
        np.testing.assert_allclose(encoder.truncate(1, 16).encode(TEXTS), expected, atol=1e-6)


def test_a_plain_backbone_whose_weights_have_changed_is_refused(plain, tmp_path):
    folder = shutil.copytree(plain, tmp_path / "changed")
    encoder = zoo.from_pretrained(folder)
    shutil.rmtree(folder)
    tiny.backbone(folder, seed=9)
    with pytest.raises(ZooError, match="have changed since the model was opened"):
        _ = encoder.backbone


# -- tokenizers ----------------------------------------------------------------------------------------------------


def test_a_bert_tokenizer_gives_the_tokens_of_transformers(plain, tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "dog", "##s", "é", "e", "中", "a", "A", ".", "caf", "##e"]
    texts = ["Dogs. café CAFÉ 中a\tdog\x00s", "", "[MASK] dog [SEP]", "a " * 60, "\u0301e \u200b a", "dog" * 50]
    for options in ({}, {"do_lower_case": False}, {"strip_accents": False}, {"tokenize_chinese_chars": False}):
        folder = shutil.copytree(plain, tmp_path / "-".join(["bert", *options]))
        vocabulary = {word: number for number, word in enumerate(words)}
        tokenizer = transformers.BertTokenizer(vocab=vocabulary, model_max_length=24, **options)
        tokenizer.save_pretrained(folder)
        encoder = zoo.from_pretrained(folder)
        assert encoder._deferred is not None, options
        assert encoder.list_token_ids(texts) == open_stock(str(folder)).list_token_ids(texts)


# -- folders that are left to sentence-transformers ----------------------------------------------------------------


def edit(name: str, **changes: Any):
    def change(folder: Path) -> None:
        path = folder / name
        content = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(content | changes))

    return change


def edit_tensors(change):
    def apply(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        (folder / "model.safetensors").unlink()
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return apply


def put_nan(tensors):
    tensors["embeddings.LayerNorm.weight"] = torch.full((32,), float("nan"))


def halve(tensors):
    tensors["embeddings.LayerNorm.weight"] = tensors["embeddings.LayerNorm.weight"].half()


UNKNOWN = {
    "another pooling": edit("1_Pooling/config.json", include_prompt=False),
    "an unknown pooling mode": edit("1_Pooling/config.json", pooling_mode="median"),
    "a default prompt": edit("config_sentence_transformers.json", default_prompt_name="query", prompts={"query": "a "}),
    "an unknown setting": edit("config_sentence_transformers.json", truncate_dim=8),
    "lower case by sentence-transformers": edit("sentence_bert_config.json", do_lower_case=True),
    "a decoder": edit("config.json", is_decoder=True),
    "another activation": edit("config.json", hidden_act="silu"),
    "half precision": edit("config.json", dtype="bfloat16"),
    "a tokenizer of another class": edit("tokenizer_config.json", tokenizer_class="XLMRobertaTokenizer"),
    "an end token": edit("tokenizer_config.json", add_eos_token=True),
    "truncation on the left": edit("tokenizer_config.json", truncation_side="left"),
    "a special token without an entry": edit("tokenizer_config.json", bos_token="[BOS]"),
    "a missing tensor": edit_tensors(lambda tensors: tensors.pop("embeddings.LayerNorm.weight")),
    "an extra tensor": edit_tensors(lambda tensors: tensors.update(extra=torch.ones(1))),
    "a tensor that is not finite": edit_tensors(put_nan),
    "a tensor in half precision": edit_tensors(halve),
    "fewer layers": edit("config.json", num_hidden_layers=2),
}


@pytest.mark.parametrize("change", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_a_folder_with_anything_unknown_is_left_to_sentence_transformers(change, plain, tmp_path):
    folder = Path(shutil.copytree(plain, tmp_path / "changed"))
    assert light_folder.read(folder, is_model_folder=False) is not None
    change(folder)
    assert light_folder.read(folder, is_model_folder=False) is None


def test_a_model_folder_must_have_exactly_its_own_tensors(plain, tmp_path):
    folder = Path(shutil.copytree(plain, tmp_path / "changed"))
    assert light_folder.read(folder, is_model_folder=True) is not None
    edit_tensors(lambda tensors: tensors.pop("pooler.dense.weight"))(folder)
    edit_tensors(lambda tensors: tensors.pop("pooler.dense.bias"))(folder)
    assert light_folder.read(folder, is_model_folder=True) is None
    assert light_folder.read(folder, is_model_folder=False) is not None


@pytest.mark.parametrize("fault", ["not finite", "another shape", "no network", "no such row"])
def test_a_coded_table_that_is_not_right_is_left_to_sentence_transformers(fault, coded, tmp_path):
    folder = Path(shutil.copytree(coded, tmp_path / "changed"))
    entry = json.loads((folder / "config.json").read_text())["zoo"]["table"]
    assert light_folder.read(folder, is_model_folder=True, table=entry) is not None
    parts = load_file(folder / "table.safetensors")
    if fault == "not finite":
        parts["kept_rows"][0, 0] = torch.nan
    elif fault == "no such row":
        parts["kept_ids"][-1] = entry["rows"]
    elif fault == "another shape":
        parts["scales"] = parts["scales"][:-1].contiguous()
    else:
        (folder / "network.safetensors").unlink()
    (folder / "table.safetensors").unlink()
    save_file(parts, folder / "table.safetensors", metadata={"format": "pt"})
    assert light_folder.read(folder, is_model_folder=True, table=entry) is None
    with pytest.raises(ZooError):
        zoo.from_pretrained(folder)

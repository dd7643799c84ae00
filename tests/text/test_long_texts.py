"""Texts that are longer than an encoder reads are counted with its own tokenizer, and nothing else is loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest
import tiny

from zoo import families
from zoo.spec import TextLimit
from zoo.text import backbone as backbones
from zoo.text import long_texts
from zoo.text.long_texts import LongTexts, list_texts, open_counter

TEXTS = ["a dog", "dog " * 22, "cat " * 23, "ü " * 30, "x" * 500]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return tiny.backbone(tmp_path_factory.mktemp("backbone") / "tiny", layers=1, hidden=16)


@pytest.mark.parametrize("max_length", [None, 12, 40])
def test_the_count_is_that_of_the_encoder_s_tokenizer(tmp_path, backbone, max_length):
    counter = open_counter(TextLimit(backbone, None, max_length), tmp_path)
    loaded = backbones.load(backbone, max_length=max_length)
    lengths = [len(ids) for ids in loaded.tokenizer(TEXTS)["input_ids"]]
    long = [length for length in lengths if length > loaded.max_length]
    expected = LongTexts("x", 5, 5, len(long), max(long, default=0), loaded.max_length)
    assert counter.count("x", TEXTS) == expected


def test_special_tokens_count_only_if_they_are_read(tmp_path, backbone):
    text = "dog " * 24
    assert open_counter(TextLimit(backbone), tmp_path).count("x", [text]).excess == 2
    assert open_counter(TextLimit(backbone, None, 24, special_tokens=False), tmp_path).count("x", [text]).long == 0


def test_many_texts_are_drawn_and_the_draw_is_always_the_same(tmp_path, backbone, monkeypatch):
    monkeypatch.setattr(long_texts, "MOST_TEXTS", 10)
    counter = open_counter(TextLimit(backbone), tmp_path)
    texts = ["dog " * number for number in range(1, 60)]
    first, second = (counter.count("train", texts) for _ in range(2))
    assert first == second
    assert (first.counted, first.texts) == (10, 59)
    assert str(first).startswith(
        f"train: {first.long} of 10 texts (drawn of 59) are longer than 24 tokens, the longest by "
    )


def test_the_cure_is_a_field_only_if_it_helps(tmp_path, backbone):
    counter = open_counter(TextLimit(backbone), tmp_path)
    assert "raise encoder.max_length, up to 40, or split" in counter.advise("max_length")
    assert "split the texts, or choose a backbone" in counter.advise(None)
    assert "up to 40, or set encoder.long: windows" in counter.advise("max_length", has_windows=True)
    assert "split the texts, or set encoder.long: windows" in counter.advise(None, has_windows=True)
    assert "choose a backbone" in open_counter(TextLimit(backbone, None, 40), tmp_path).advise("max_length")


@pytest.mark.usefixtures("hub")
def test_a_backbone_that_is_not_here_cannot_be_counted(tmp_path):
    assert open_counter(TextLimit("me/nowhere"), tmp_path) == (
        "the tokenizer of me/nowhere is on the Hub and not on this machine yet"
    )


def test_a_damaged_tokenizer_cannot_be_counted(tmp_path, backbone):
    folder = tmp_path / "other"
    tiny.backbone(folder, layers=1, hidden=16)
    (folder / "tokenizer.json").write_text("{}")
    assert "cannot be opened" in open_counter(TextLimit(str(folder)), tmp_path)
    (folder / "tokenizer.json").unlink()
    assert "has no tokenizer.json" in open_counter(TextLimit(str(folder)), tmp_path)


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"family": "matryoshka-2d", "backbone": "b", "max_length": 9}, ("b", "max_length", 9)),
        ({"family": "equiangular", "backbone": "b"}, ("b", "max_length", None)),
        ({"family": "equiangular", "backbone": {"build": "resnet"}}, None),
        ({"family": "static", "backbone": "b"}, ("b", "max_length", 512)),
        ({"family": "static", "backbone": "b", "max_length": None}, None),
        ({"family": "lbl2vec", "backbone": "b", "labels": {"a": ["x"], "b": ["y"]}}, ("b", None, None)),
        ({"family": "lbl2vec", "labels": {"a": ["x"], "b": ["y"]}}, None),
        ({"family": "binary-pv"}, None),
    ],
)
def test_families_with_a_tokenizer_have_a_limit(section, expected):
    limit = families.load_spec(section["family"]).model_validate(section).text_limit
    assert (limit and (limit.backbone, limit.field, limit.max_length)) == expected


def test_a_title_is_read_with_its_text():
    assert list_texts({"title": ["a", None], "text": ["b", "c"]}, {}) == ["a b", "c"]
    assert list_texts({"query": ["q"], "positive": [["a", "b"]], "n": [1]}, {}) == ["q", "a", "b"]


def test_a_prompt_is_counted_with_its_text(tmp_path):
    prompts = {"query": "Q: ", "document": "D: "}
    columns = {"anchor": ["a"], "positive": ["b"], "negative_2": ["c"], "sentence1": ["d"], "text": ["e"]}
    assert list_texts(columns, prompts) == ["Q: a", "D: b", "D: c", "d", "e"]
    assert list_texts({"text": ["e"]}, prompts, "retrieval/corpus") == ["D: e"]
    assert list_texts({"text": ["e"]}, prompts, "retrieval.queries") == ["Q: e"]


def test_the_prompts_are_those_of_the_encoder(tmp_path):
    import json

    folder = tmp_path / "other"
    tiny.backbone(folder, layers=1, hidden=16)
    config = json.loads((folder / "config_sentence_transformers.json").read_text())
    config["prompts"] = {"query": "fever ", "document": "cough ", "passage": "x"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(config))
    counter = open_counter(TextLimit(str(folder), prompts=None), tmp_path)
    assert counter.prompts == backbones.load(str(folder)).prompts == {"query": "fever ", "document": "cough "}
    assert open_counter(TextLimit(str(folder)), tmp_path).prompts == {}


def test_no_torch_is_imported(backbone):
    code = (
        "import sys; from pathlib import Path; from zoo.spec import TextLimit; from zoo.text.long_texts import open_counter;"
        f"assert open_counter(TextLimit({backbone!r}), Path()).count('x', ['dog ' * 30]).long == 1;"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

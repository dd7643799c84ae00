"""Paragraph vectors: steps are gradients, runs repeat and resume, threads agree, near vectors and codes are near topics."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import torch
from datasets import Dataset
from tiny_documents import SMALL, TOPICS, texts

from zoo.core.errors import ArtefactError, ZooError
from zoo.ops import codes
from zoo.paragraph_vectors import kernels, negative_sampling
from zoo.paragraph_vectors import model as paragraph_model
from zoo.paragraph_vectors import vocabulary as words
from zoo.paragraph_vectors.checkpoints import Runlog
from zoo.paragraph_vectors.corpus import cut
from zoo.paragraph_vectors.model import Paragraphs, Settings
from zoo.paragraph_vectors.sampling import alias
from zoo.paragraph_vectors.vocabulary import Vocabulary, tokenise

KINDS = [
    {},
    {"words": True, "window": 3},
    {"mode": "dm", "window": 3},
    {"bits": 20},
    {"bits": 20, "mode": "dm", "window": 3},
]


def bias(*shapes, generator):
    return tuple(torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes)


def test_the_kernel_is_the_gradient_that_autograd_finds():
    generator = torch.Generator().manual_seed(0)
    inputs, targets, noise = (
        torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in ((5, 3, 8), (5, 4, 8), (6, 8))
    )
    constants = bias((5, 4), (6,), generator=generator)
    pairs = (torch.rand(5, 3, 4, generator=generator) < 0.6).double()
    negative_sampling.loss(inputs, targets, noise, pairs, 5 / 6, constants).backward()
    found = negative_sampling.gradients(inputs.detach(), targets.detach(), noise.detach(), pairs, 5 / 6, constants)
    for tensor, ours in zip((inputs, targets, noise), found, strict=True):
        torch.testing.assert_close(ours, -tensor.grad)


@pytest.mark.parametrize("count", [1, 3, 8, 9])
def test_a_compiled_step_is_the_gradient_that_autograd_finds(count):
    rng = np.random.default_rng(count)
    inputs, outputs = (rng.normal(size=(n, 37)).astype(np.float32) / 3 for n in (count, 20))
    constants, rows = rng.normal(size=20).astype(np.float32), np.array([3, 19, 0, 7, 3, 5, 11])
    held, out = (torch.tensor(array, dtype=torch.float64, requires_grad=True) for array in (inputs, outputs))
    signs = torch.tensor([1.0, 1.0, -1.0, -1.0, -1.0, -1.0, -1.0])
    logits = held @ out[rows].T + torch.tensor(constants[rows])
    losses = -torch.nn.functional.logsigmoid(signs * logits).sum(1)
    losses.sum().backward()
    before, change, gates = outputs.copy(), np.empty_like(inputs), np.empty((count + 3, 7), np.float32)
    roomy = np.concatenate((inputs, np.full((3, 37), np.nan, np.float32)))
    loss = kernels._steps(roomy, count, outputs, constants, rows, 2, np.float32(0.1), True, True, gates, change)
    assert loss == pytest.approx(losses[0].item(), rel=2e-3)
    # the sigmoid is read from a table of 4,096 places
    np.testing.assert_allclose(change, -0.1 * held.grad.numpy(), atol=1e-3)
    np.testing.assert_allclose(outputs - before, -0.1 * out.grad.numpy(), atol=1e-3)


def test_noise_is_drawn_as_often_as_its_weight_says():
    weights = np.array([8.0, 1.0, 0.5, 3.0, 0.1])
    chance, other = alias(weights)
    drawn = (np.bincount(other, 1.0 - chance, minlength=5) + chance) / 5
    np.testing.assert_allclose(drawn, weights / weights.sum(), atol=1e-6)
    state = np.array([88172645463325252], np.uint64)
    seen = np.bincount([kernels._noise(state, chance, other) for _ in range(20_000)], minlength=5) / 20_000
    np.testing.assert_allclose(seen, weights / weights.sum(), atol=0.02)


def test_noise_follows_the_counts_to_the_power_of_three_quarters_and_frequent_words_are_seen_less():
    vocabulary = Vocabulary(("a", "b", "c"), (1600, 81, 16))
    np.testing.assert_allclose(vocabulary.noise(), np.array([1600**0.75, 27, 8]) / (1600**0.75 + 35))
    sample = 1e-2
    frequency = np.array(vocabulary.counts) / sum(vocabulary.counts)
    keep = vocabulary.keep(sample)
    np.testing.assert_allclose(keep, np.minimum(1, (np.sqrt(frequency / sample) + 1) * sample / frequency), rtol=1e-6)
    tokens, state, into = np.zeros(20_000, np.int32), np.array([7], np.uint64), np.empty(20_001, np.int64)
    assert kernels._kept(tokens, 0, 20_000, keep, state, into) / 20_000 == pytest.approx(keep[0], abs=0.01)
    assert (vocabulary.keep(0) == 1).all()


def test_a_word_sees_the_nearer_ones_more_often_as_its_reach_is_drawn():
    size, window, times = 9, 3, 3000
    tokens, ends = np.tile(np.arange(size, dtype=np.int32), times), np.arange(1, times + 1) * size
    inputs, outputs = np.eye(size, dtype=np.float32), np.zeros((size, size), np.float32)
    rate, none = 1e-4, np.zeros(size, np.float32)
    draws = (np.ones(size, np.float32), none, np.zeros(size, np.int32), none)
    batch = (tokens, ends - size, ends, np.arange(times), np.arange(times))
    documents = np.zeros((times, size), np.float32)
    rest = (0, window, np.array([[rate, rate]]), 1, False, True, np.float32(0), False)
    kernels.predict_in_windows(*batch, documents, inputs, np.arange(size), outputs, *draws, *rest)
    apart = np.abs(np.arange(size)[:, None] - np.arange(size))
    expected = np.where(apart > 0, np.maximum(0, window + 1 - apart) / window, 0)
    # without noise, each time that word j predicts word i adds half a rate to place j of output i
    np.testing.assert_allclose(outputs / (times * rate / 2), expected, atol=0.12)


def test_copies_are_added_up():
    rng = np.random.default_rng(0)
    base, changes = rng.normal(size=(6, 3)), rng.normal(size=(4, 6, 3))
    copies, expected = base + changes, base + changes.sum(0)
    kernels.merge(base, copies, 0, 6)
    np.testing.assert_allclose(base, expected)
    np.testing.assert_allclose(copies, np.stack([expected] * 4))
    rows = np.array([1, 3, 4])
    partial = expected[rows] + changes[0, :3]
    kernels.subtract(partial, base, rows)
    np.testing.assert_allclose(partial, changes[0, :3])
    kernels.add(base, rows, partial)
    np.testing.assert_allclose(base[rows], expected[rows] + changes[0, :3])


def test_rounding_passes_the_gradient_of_the_sigmoid():
    logits, scale = torch.randn(4, 9, dtype=torch.float64, requires_grad=True), 0.7
    above = torch.randn(4, 9, dtype=torch.float64)
    (2 * scale * (2 * torch.sigmoid(logits / scale) - 1) * above).sum().backward()
    torch.testing.assert_close(codes.compute_straight_through_gradient(logits.detach(), above, scale), logits.grad)
    documents, moved = logits.detach().float().numpy().copy(), above.float().numpy()
    kernels._move(documents[2], np.float32(scale), moved[2])
    np.testing.assert_allclose(documents[2], logits.detach()[2] + logits.grad[2], rtol=1e-5)


def test_a_turn_loses_less_by_rounding_than_the_axes_it_starts_from():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(400, 12, generator=generator, dtype=torch.float64) * torch.linspace(0.2, 2, 12)
    turn = codes.fit_iterative_quantisation(rows, 6, 0)
    torch.testing.assert_close(turn.T @ turn, torch.eye(6, dtype=torch.float64))
    leading = torch.linalg.svd(rows - rows.mean(0))[2][:6].T

    def lost(axes):
        found = rows @ axes
        return (found - torch.sign(found) * found.abs().mean()).square().sum()

    assert lost(turn) < 0.9 * lost(leading)


def test_a_window_reaches_as_far_as_drawn_and_never_into_padding():
    chunk = torch.tensor([[4, 5, 6, 7, -1]])
    seen = negative_sampling.window(chunk, torch.tensor([[1, 2, 1, 3, 4]]))[0]
    assert seen.int().tolist() == [[0, 1, 0, 0, 0], [1, 0, 1, 1, 0], [0, 1, 0, 1, 0], [1, 1, 1, 0, 0], [0] * 5]


@pytest.mark.parametrize("offset", [0, 3])
def test_chunks_hold_every_word_once_in_order(offset):
    lengths = np.array([5, 0, 9, 1, 4])
    tokens = np.arange(lengths.sum())
    chunks, owner = cut(tokens, lengths, 4, np.full(5, offset))
    np.testing.assert_array_equal(chunks[chunks >= 0], tokens)
    np.testing.assert_array_equal(np.bincount(owner, (chunks >= 0).sum(1), minlength=5), lengths)


def test_a_vocabulary_is_counted_saved_and_strictly_loaded(tmp_path):
    found = Vocabulary.count(["The dog, the DOG 7", "the cat. Ähre"], min_count=1)
    assert (found.words, found.counts) == (("the", "dog", "cat", "ähre"), (3, 2, 1, 1))
    assert found.encode("a cat the cow") == [2, 0]
    found.save(tmp_path / "v.json")
    assert Vocabulary.load(tmp_path / "v.json") == found
    (tmp_path / "v.json").write_text('{"format": 1, "words": ["a", "a"], "counts": [1, 1]}')
    with pytest.raises(ArtefactError, match="vocabulary"):
        Vocabulary.load(tmp_path / "v.json")
    with pytest.raises(ZooError, match="min_count"):
        Vocabulary.count(["a b"], min_count=2)
    assert tokenise("well-known 4th_A I'd") == ["well", "known", "th"]
    assert tokenise("Well-known 4th_A I'd ÄHRE") == ["well", "known", "th", "ähre"]
    assert tokenise("x" * 41 + " " + "é" * 41) == ["x" * 40, "é" * 40]


@pytest.mark.parametrize("device", [None, "cpu"], ids=["loops", "matrix products"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_seed_gives_the_same_tensors_and_a_killed_run_too(kind, device, tmp_path, monkeypatch):
    monkeypatch.setattr(paragraph_model, "BLOCK", 1500)
    monkeypatch.setattr(paragraph_model, "_accelerator", lambda: device)
    settings = Settings(**{**SMALL, "epochs": 3, **kind})
    whole = Paragraphs(settings).fit(texts())
    saves = []
    save = Runlog.save

    def killed(self, state):
        save(self, state)
        saves.append(self.step)
        if len(saves) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Runlog, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            Paragraphs(settings).fit(texts(), folder=tmp_path, checkpoint_every=2)
    again = Paragraphs(settings).fit(texts(), folder=tmp_path, checkpoint_every=2)
    assert len(saves) == 2
    for name, tensor in whole.state.items():
        assert torch.equal(tensor, again.state[name]), name
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 13 + 9 * bool(whole.settings.bits)))
    linear = np.linspace(settings.learning_rate, settings.last_learning_rate, 10)[:-1]
    np.testing.assert_allclose([line["learning_rate"] for line in lines[:9]], linear)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_paper_in_miniature_a_topic_is_nearer_than_others_also_when_unseen(kind):
    model = Paragraphs(Settings(**{**SMALL, **kind})).fit(texts())
    unseen = model.infer(texts(60, seed=1))
    topic = np.arange(150) % 3
    packed = bool(model.settings.bits)
    near = (
        -codes.compute_hamming_distances(model.infer_codes(texts(60, seed=1)), model.document_codes)
        if packed
        else unseen @ (model.documents / np.linalg.norm(model.documents, axis=1, keepdims=True)).T
    )
    mine = topic[:60, None] == topic[None]
    best = np.argsort(-near, axis=1, kind="stable")[:, :10]
    assert (topic[best] == topic[:60, None]).mean() > 0.95  # chance is a third
    assert near[mine].mean() > near[~mine].mean()


def test_an_inferred_training_document_lies_near_its_trained_vector_whatever_lies_beside_it():
    model = Paragraphs(Settings(**{**SMALL, "epochs": 30})).fit(texts())

    def unit(rows):
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    trained, inferred = unit(model.documents), unit(model.infer(texts()))
    own = (trained * inferred).sum(1)
    assert own.mean() > 0.8
    assert own.mean() > np.median(trained @ inferred.T) + 0.2
    np.testing.assert_array_equal(model.infer(texts()[:40:3], batch=4), model.infer(texts())[:40:3])
    assert not model.infer(["", "unheard"]).any()


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_matrix_products_as_a_gpu_has_them_learn_the_same_topics(kind, monkeypatch):
    monkeypatch.setattr("zoo.paragraph_vectors.gpu_engine.WORDS", 256)
    monkeypatch.setattr(paragraph_model, "_accelerator", lambda: "cpu")
    test_paper_in_miniature_a_topic_is_nearer_than_others_also_when_unseen(kind)


def test_threads_share_the_work_and_give_the_same_tensors_every_time(monkeypatch):
    monkeypatch.setattr("zoo.paragraph_vectors.cpu_engine.LEAST", 100)
    monkeypatch.setattr("zoo.paragraph_vectors.cpu_engine.TOGETHER", 700)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    settings = Settings(**{**SMALL, "words": True, "window": 3})
    one, two = (Paragraphs(settings).fit(texts()) for _ in range(2))
    assert all(torch.equal(one.state[name], two.state[name]) for name in one.state)
    inferred = one.infer(texts(20, seed=1))
    topic = np.arange(150) % 3
    near = inferred @ (one.documents / np.linalg.norm(one.documents, axis=1, keepdims=True)).T
    assert (topic[np.argsort(-near, axis=1)[:, :10]] == topic[:20, None]).mean() > 0.95
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    np.testing.assert_array_equal(one.infer(texts(20, seed=1)), inferred)


def test_words_of_a_topic_are_near_each_other():
    model = Paragraphs(Settings(**{**SMALL, "words": True, "window": 5})).fit(texts())
    unit = model.words / np.linalg.norm(model.words, axis=1, keepdims=True)
    topic = np.array([next(t for t, known in enumerate(TOPICS) if w in known) for w in model.vocabulary.words])
    near, same = unit @ unit.T, topic[:, None] == topic[None]
    assert near[same].mean() > near[~same].mean() + 0.3


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_vector_of_a_training_text_is_what_its_text_is_inferred_to(kind, monkeypatch):
    monkeypatch.setattr(paragraph_model, "BLOCK", 1500)
    model = Paragraphs(Settings(**{**SMALL, "epochs": 3, **kind, "bits": 0})).fit(texts())
    np.testing.assert_array_equal(model.documents, model.infer(texts()))


class Read:
    """Texts that can be read again, and how often they were."""

    def __init__(self, made):
        self.made, self.times = made, 0

    def __iter__(self):
        self.times += 1
        return self.made()


def test_texts_are_read_twice_and_a_stream_of_a_data_set_trains_as_a_list_does():
    settings, read = Settings(**{**SMALL, "epochs": 2}), Read(lambda: iter(texts()))
    found = Paragraphs(settings).fit(read)
    assert read.times == 2
    stream = Dataset.from_dict({"text": texts()}).to_iterable_dataset()["text"]
    np.testing.assert_array_equal(Paragraphs(settings).fit(stream).documents, found.documents)


def test_memory_does_not_grow_with_the_words_of_a_corpus(monkeypatch):
    monkeypatch.setattr(paragraph_model, "BLOCK", 4000)
    known = [word for topic in TOPICS for word in topic]

    def peak(length):
        def made():
            rng = np.random.default_rng(0)
            return (" ".join(rng.choice(known, length)) for _ in range(200))

        model = Paragraphs(Settings(**{**SMALL, "epochs": 1}), threads=1)  # of more, what is there at once is by chance
        tracemalloc.start()
        model.fit(Read(made))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(30)
    assert peak(600) < 1.2 * peak(30)


def test_of_too_many_different_words_the_rarest_are_forgotten(monkeypatch):
    monkeypatch.setattr(words, "DISTINCT", 40)
    numbered = [f"w{a}{b}" for a in "abcdefghij" for b in "abcdefghij"]
    found = Vocabulary.count([f"often again often {word}" for word in numbered], min_count=2)
    assert (found.words, found.counts) == (("often", "again"), (200, 100))


def test_progress_says_words_a_second_and_the_time_left(capsys):
    Paragraphs(Settings(**{**SMALL, "epochs": 1})).fit(texts(), show_progress=True)
    shown = capsys.readouterr().err
    assert "words/s" in shown
    assert "left" in shown


def test_training_and_inference_on_a_cpu_do_not_import_torch(tmp_path):
    script = f"""
import sys
from pathlib import Path
from zoo.documents.paragraphs import Paragraphs, Settings
model = Paragraphs(Settings(dim=4, min_count=1, sample=0.0, words=True)).fit(["a b ab cd"] * 9, folder=Path({str(tmp_path)!r}))
assert model.infer(["ab"]).any()
assert not {{"torch", "transformers", "datasets", "pandas", "sklearn", "matplotlib"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert list(tmp_path.glob("checkpoints/*"))

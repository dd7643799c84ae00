"""The trainer: runs repeat and resume, threads agree, and vectors and codes of one topic are near each other."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.numpy import load_file
from tiny_documents import SMALL, TOPICS, texts

from zoo import families
from zoo.core.errors import RunWarning, ZooError
from zoo.ops import codes
from zoo.paragraph_vectors import cpu_engine, gpu_engine, schedule
from zoo.paragraph_vectors import model as paragraph_model
from zoo.paragraph_vectors.checkpoints import RunLog
from zoo.paragraph_vectors.corpus import Corpus
from zoo.paragraph_vectors.model import ParagraphVectors, Settings
from zoo.paragraph_vectors.schedule import Schedule
from zoo.paragraph_vectors.vocabulary import Vocabulary
from zoo.schema import Training

VARIANTS = [
    {},
    {"words": True, "window": 3},
    {"mode": "dm", "window": 3},
    {"bits": 20},
    {"bits": 20, "mode": "dm", "window": 3},
]
DEVICES = pytest.mark.parametrize("device", [None, "cpu"], ids=["compiled loops", "matrix products"])


def normalise(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@DEVICES
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_a_seed_gives_the_same_tensors_also_after_an_interruption(variant, device, tmp_path, monkeypatch):
    monkeypatch.setattr(schedule, "TOKENS_PER_BLOCK", 1500)
    monkeypatch.setattr(paragraph_model, "_find_gpu", lambda: device)
    settings = Settings(**{**SMALL, "epochs": 3, **variant})
    uninterrupted = ParagraphVectors(settings).fit(texts())
    saved_steps = []
    save_checkpoint = RunLog.save_checkpoint

    def interrupt_after_two(self, arrays):
        save_checkpoint(self, arrays)
        saved_steps.append(self.step)
        if len(saved_steps) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "save_checkpoint", interrupt_after_two)
        with pytest.raises(KeyboardInterrupt):
            ParagraphVectors(settings).fit(texts(), folder=tmp_path, checkpoint_every=2)
    resumed = ParagraphVectors(settings).fit(texts(), folder=tmp_path, checkpoint_every=2)
    assert saved_steps == [2, 4]
    for name, tensor in uninterrupted.state.items():
        assert torch.equal(tensor, resumed.state[name]), name
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 13 + 9 * bool(settings.bits)))
    phases = ["vectors"] * 9 + ["settling"] * 3 + ["codes"] * (9 * bool(settings.bits))
    assert [line["phase"] for line in lines] == phases, "the card draws each as a curve of its own"
    linear = np.linspace(settings.learning_rate, settings.last_learning_rate, 10)[:-1]
    np.testing.assert_allclose([line["learning_rate"] for line in lines[:9]], linear)


def test_a_run_is_finished_from_its_newest_checkpoint_once_that_has_all_tensors(tmp_path, monkeypatch):
    monkeypatch.setattr(schedule, "TOKENS_PER_BLOCK", 1500)
    settings = Settings(**{**SMALL, "epochs": 3, "bits": 8})

    def interrupt(at):
        def record_and_stop(self, step, **figures):
            record_step(self, step, **figures)
            if step == at:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(RunLog, "record_step", record_and_stop)
            with pytest.raises(KeyboardInterrupt):
                ParagraphVectors(settings).fit(texts(), folder=tmp_path, checkpoint_every=1)

    record_step = RunLog.record_step
    with pytest.raises(ZooError, match="no checkpoint yet"):
        ParagraphVectors(settings).fit(texts(), folder=tmp_path, finish=True)
    interrupt(at=5)
    with pytest.raises(ZooError, match="train on until codes are learned"):
        ParagraphVectors(settings).fit(texts(), folder=tmp_path, finish=True)
    interrupt(at=16)
    finished = ParagraphVectors(settings).fit(texts(), folder=tmp_path, finish=True)
    checkpoint = load_file(tmp_path / "checkpoints" / "checkpoint-15" / "state.safetensors")
    assert checkpoint.keys() == finished.state.keys()
    for name, tensor in finished.state.items():
        np.testing.assert_array_equal(tensor.numpy(), checkpoint[name])


def test_a_resumed_run_has_the_threads_that_it_began_with_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(schedule, "TOKENS_PER_BLOCK", 1500)
    monkeypatch.setattr(cpu_engine, "MIN_WORDS_PER_THREAD", 100)
    monkeypatch.setattr(cpu_engine, "MIN_WORDS_BETWEEN_MERGES", 700)
    settings = Settings(**{**SMALL, "epochs": 2, "settle": False})
    whole, other = (ParagraphVectors(settings, threads=threads).fit(texts()) for threads in (3, 1))
    assert not torch.equal(whole.state["outputs"], other.state["outputs"]), "the number of threads decides the result"
    save_checkpoint = RunLog.save_checkpoint

    def interrupt(self, arrays):
        save_checkpoint(self, arrays)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "save_checkpoint", interrupt)
        with pytest.raises(KeyboardInterrupt):
            ParagraphVectors(settings, threads=3).fit(texts(), folder=tmp_path, checkpoint_every=2)
    with pytest.warns(RunWarning, match="continues with 3 threads, the number that it began with, not with 1"):
        resumed = ParagraphVectors(settings, threads=1).fit(texts(), folder=tmp_path, checkpoint_every=2)
    assert all(torch.equal(tensor, resumed.state[name]) for name, tensor in whole.state.items())


def test_each_pass_of_a_schedule_takes_every_document_once_in_a_new_order(monkeypatch):
    monkeypatch.setattr(schedule, "TOKENS_PER_BLOCK", 300)
    plan = Schedule(documents=10, words=1000, epochs=2, settle_epochs=2, code_epochs=1)
    assert (plan.block_size, plan.blocks, plan.settle_start, plan.code_start, plan.steps) == (3, 4, 8, 12, 16)
    assert plan.total_words == 5000
    passes = [[plan.select_documents(step, seed=0) for step in range(first, first + 4)] for first in (0, 4)]
    for blocks in passes:
        assert sorted(np.concatenate(blocks)) == list(range(10))
    assert not np.array_equal(passes[0][0], passes[1][0])
    assert [step for step in range(16) if plan.settles(step)] == [8, 9, 10, 11]
    assert [plan.compute_progress(step) for step in (0, 7)] == [(0, 1 / 8), (7 / 8, 1)]
    assert [plan.compute_progress(step) for step in (12, 15)] == [(0, 1 / 4), (3 / 4, 1)]


@pytest.fixture
def slow_parts(monkeypatch):
    """Let a clock stand still except while parts of the training run, and return the seconds that each takes."""
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def slow_down(owner, name, seconds):
        original = getattr(owner, name)

        def wait(*arguments, **options):
            clock[0] += seconds
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, wait)

    slow_down(Vocabulary, "count", 1000.0)
    slow_down(ParagraphVectors, "_start", 100.0)
    slow_down(Corpus, "read", 1.0)


def test_the_training_time_has_counting_words_the_start_and_reading(slow_parts):
    assert ParagraphVectors(Settings(**SMALL)).fit(texts()).seconds == 1100 + SMALL["epochs"] + 1


@pytest.mark.parametrize("family", ["binary-pv", "lbl2vec"])
def test_the_training_time_of_an_encoder_has_counting_words_and_the_start(slow_parts, family, tmp_path):
    labels = {"labels": {"a": [TOPICS[0][0]], "b": [TOPICS[1][0]]}} if family == "lbl2vec" else {"bits": 21}
    spec = families.load_spec(family).model_validate({"family": family, **labels})
    encoder = families.load_encoder(family).build(spec)
    seconds = encoder.fit(Dataset.from_dict({"text": texts()}), Training(epochs=2, learning_rate=0.05), tmp_path)
    assert 1100 < seconds < 1110


def test_a_checkpoint_keeps_an_array_that_is_not_contiguous(tmp_path):
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3).T
    with RunLog(tmp_path, 2, 100, show_progress=False) as log:
        log.resume()
        log.record_step(1, words=50, epoch=0.5, loss=1.0, learning_rate=0.1, seconds=2.0)
        log.save_checkpoint({"matrix": matrix})
    with RunLog(tmp_path, 2, 100, show_progress=False) as log:
        np.testing.assert_array_equal(log.resume()["matrix"], matrix)
        assert (log.step, log.words, log.seconds) == (1, 50, 2.0)


def test_a_resumed_run_ignores_a_partial_checkpoint_and_metrics_after_the_checkpoint(tmp_path):
    with RunLog(tmp_path, 3, 100, show_progress=False) as log:
        log.resume()
        for step in (1, 2):
            log.record_step(step, words=10, epoch=step / 3, loss=1.0, learning_rate=0.1, seconds=1.0)
            if step == 1:
                log.save_checkpoint({"vector": np.ones(2, np.float32)})
    partial = tmp_path / "checkpoints" / ".partial-1-checkpoint-2"
    partial.mkdir()
    (partial / "state.safetensors").write_bytes(b"half")
    with RunLog(tmp_path, 3, 100, show_progress=False) as log:
        assert list(log.resume()) == ["vector"]
        assert log.step == 1
    assert not partial.exists()
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_paper_in_miniature_texts_of_a_topic_are_near_each_other_also_if_unseen(variant):
    model = ParagraphVectors(Settings(**{**SMALL, **variant})).fit(texts())
    unseen, topic = texts(60, seed=1), np.arange(150) % 3
    if model.settings.bits:
        similarities = -codes.compute_hamming_distances(model.infer_codes(unseen), model.document_codes)
    else:
        similarities = model.infer(unseen) @ normalise(model.document_vectors).T
    same_topic = topic[:60, None] == topic[None]
    nearest = np.argsort(-similarities, axis=1, kind="stable")[:, :10]
    assert (topic[nearest] == topic[:60, None]).mean() > 0.95  # chance is a third
    assert similarities[same_topic].mean() > similarities[~same_topic].mean()


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_matrix_products_learn_the_same_topics_as_compiled_loops(variant, monkeypatch):
    monkeypatch.setattr(gpu_engine, "WORDS_PER_STEP", 256)
    monkeypatch.setattr(paragraph_model, "_find_gpu", lambda: "cpu")
    test_paper_in_miniature_texts_of_a_topic_are_near_each_other_also_if_unseen(variant)


def test_vectors_of_a_tiny_vocabulary_stay_small_with_matrix_products(monkeypatch):
    """A step of 2,048 words sums hundreds of gradients of each of thirty words, which made vectors of 1e8."""
    monkeypatch.setattr(paragraph_model, "_find_gpu", lambda: "cpu")
    model = ParagraphVectors(Settings(**{**SMALL, "epochs": 3, "words": True, "window": 3})).fit(texts())
    assert np.abs(model.infer(texts())).max() < 5


def test_an_inferred_training_document_is_near_its_trained_vector():
    model = ParagraphVectors(Settings(**{**SMALL, "epochs": 30, "settle": False})).fit(texts())
    trained, inferred = normalise(model.document_vectors), normalise(model.infer(texts()))
    cosines = (trained * inferred).sum(1)
    assert cosines.mean() > 0.8
    assert cosines.mean() > np.median(trained @ inferred.T) + 0.2


@DEVICES
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_an_inferred_vector_does_not_depend_on_the_other_texts(variant, device, monkeypatch):
    monkeypatch.setattr(paragraph_model, "_find_gpu", lambda: device)
    if device and variant == {"mode": "dm", "window": 3}:
        pytest.skip("matrix products draw the reach of words for a whole step")
    model = ParagraphVectors(Settings(**{**SMALL, "epochs": 3, "sample": 1e-2, **variant})).fit(texts())
    vectors = model.infer(texts())
    tolerance = 0 if device is None and not model.settings.bits else 1e-5
    np.testing.assert_allclose(model.infer(texts()[:40:3], batch_size=4), vectors[:40:3], rtol=0, atol=tolerance)
    repeated = model.infer([texts()[0], texts()[1] * 2, texts()[0]])
    np.testing.assert_allclose(repeated[[0, 2]], vectors[[0, 0]], rtol=0, atol=tolerance)


@DEVICES
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_a_text_without_a_known_word_gets_zeros_and_no_texts_give_an_empty_array(variant, device, monkeypatch):
    monkeypatch.setattr(paragraph_model, "_find_gpu", lambda: device)
    model = ParagraphVectors(Settings(**{**SMALL, "epochs": 1, **variant})).fit(texts())
    assert not model.infer(["", "unheard"]).any()
    assert model.infer([]).shape == (0, 24)
    if model.settings.bits:
        assert not model.infer_codes(["", "unheard"]).any()


def test_one_number_of_threads_gives_the_same_tensors_every_time(monkeypatch):
    monkeypatch.setattr(cpu_engine, "MIN_WORDS_PER_THREAD", 100)
    monkeypatch.setattr(cpu_engine, "MIN_WORDS_BETWEEN_MERGES", 700)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    settings = Settings(**{**SMALL, "words": True, "window": 3})
    first, second = (ParagraphVectors(settings).fit(texts()) for _ in range(2))
    assert all(torch.equal(first.state[name], second.state[name]) for name in first.state)
    inferred, topic = first.infer(texts(20, seed=1)), np.arange(150) % 3
    similarities = inferred @ normalise(first.document_vectors).T
    assert (topic[np.argsort(-similarities, axis=1)[:, :10]] == topic[:20, None]).mean() > 0.95
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    np.testing.assert_array_equal(first.infer(texts(20, seed=1)), inferred)


def test_words_of_a_topic_are_near_each_other():
    model = ParagraphVectors(Settings(**{**SMALL, "words": True, "window": 5})).fit(texts())
    unit = normalise(model.word_vectors)
    topic_of = {word: number for number, words in enumerate(TOPICS) for word in words}
    topic = np.array([topic_of[word] for word in model.vocabulary.words])
    cosines, same_topic = unit @ unit.T, topic[:, None] == topic[None]
    assert cosines[same_topic].mean() > cosines[~same_topic].mean() + 0.3


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_a_settled_training_text_has_the_vector_that_is_inferred_for_it(variant, monkeypatch):
    monkeypatch.setattr(schedule, "TOKENS_PER_BLOCK", 1500)
    model = ParagraphVectors(Settings(**{**SMALL, "epochs": 3, **variant, "bits": 0})).fit(texts())
    np.testing.assert_array_equal(model.document_vectors, model.infer(texts()))


def test_a_loss_that_is_not_finite_stops_the_training(monkeypatch):
    monkeypatch.setattr(cpu_engine.CpuEngine, "train", lambda *_: float("nan"))
    with pytest.raises(ZooError, match="the loss is nan in block 1: lower the learning rate"):
        ParagraphVectors(Settings(**SMALL)).fit(texts())


class CountingTexts:
    """Texts that can be read again and count how often they were read."""

    def __init__(self, make_iterator):
        self.make_iterator, self.times_read = make_iterator, 0

    def __iter__(self):
        self.times_read += 1
        return self.make_iterator()


def test_a_block_in_which_nothing_is_predicted_has_no_loss(tmp_path):
    said = []
    settings = Settings(**SMALL | {"epochs": 1}, bits=8, code_epochs=1)
    ParagraphVectors(settings).fit(texts(), folder=tmp_path, say=said.append)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["phase"] for line in lines] == ["vectors", "settling", "codes"]
    assert ["loss" in line for line in lines] == [True, False, True]
    assert ["loss" in line for line in said] == [True, False, True]
    assert all(line["loss"] > 0.1 for line in lines if "loss" in line)


def test_texts_are_read_twice_and_a_streamed_column_trains_like_a_list():
    settings, counting_texts = Settings(**{**SMALL, "epochs": 2}), CountingTexts(lambda: iter(texts()))
    model = ParagraphVectors(settings).fit(counting_texts)
    assert counting_texts.times_read == 2
    stream = Dataset.from_dict({"text": texts()}).to_iterable_dataset()["text"]
    streamed_model = ParagraphVectors(settings).fit(stream)
    np.testing.assert_array_equal(streamed_model.document_vectors, model.document_vectors)


def test_memory_does_not_grow_with_the_words_of_a_corpus(monkeypatch):
    monkeypatch.setattr(schedule, "TOKENS_PER_BLOCK", 4000)
    all_words = [word for topic in TOPICS for word in topic]

    def measure_peak(words_per_text):
        def make_texts():
            rng = np.random.default_rng(0)
            return (" ".join(rng.choice(all_words, words_per_text)) for _ in range(200))

        # one thread: with more threads, the peak depends on chance
        model = ParagraphVectors(Settings(**{**SMALL, "epochs": 1}), threads=1)
        tracemalloc.start()
        model.fit(CountingTexts(make_texts))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    measure_peak(30)  # the first call also allocates what stays
    growth = measure_peak(600) - measure_peak(30)
    # A word that is kept costs at least the 4 bytes of its number; a coverage tool may add some bytes per block.
    assert growth < 0.5 * 4 * 200 * (600 - 30)


def test_progress_shows_words_a_second_and_the_time_left(capsys):
    ParagraphVectors(Settings(**{**SMALL, "epochs": 1})).fit(texts(), show_progress=True)
    output = capsys.readouterr().err
    assert "words/s" in output
    assert "left" in output
    assert re.search(r"loss \d\.\d{4}", output)
    assert "loss 0.0000" not in output, "there is no loss before the first block"


def test_training_and_inference_on_a_cpu_do_not_import_torch(tmp_path):
    script = f"""
import sys
from pathlib import Path
from zoo.paragraph_vectors.model import ParagraphVectors, Settings
settings = Settings(dim=4, min_count=1, sample=0.0, words=True)
model = ParagraphVectors(settings).fit(["a b ab cd"] * 9, folder=Path({str(tmp_path)!r}))
assert model.infer(["ab"]).any()
assert not {{"torch", "transformers", "datasets", "pandas", "sklearn", "matplotlib"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert list(tmp_path.glob("checkpoints/*"))


def test_looking_at_a_model_does_not_import_the_compiler():
    script = """
import sys
from zoo.paragraph_vectors.model import ParagraphVectors, Settings
model = ParagraphVectors(Settings())
model.initialise(3)
assert model.document_vectors.shape == (3, 100)
assert "numba" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)

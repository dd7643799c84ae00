"""An encoder as a model of mteb: what it receives, what it returns, and what is measured around it."""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from types import SimpleNamespace

import datasets
import numpy as np
import pytest

from zoo.core.errors import ZooError
from zoo.encoder import Encoder as Base
from zoo.evaluation import mteb_isolation, mteb_model
from zoo.evaluation.mteb_model import MtebModel, PeakMemory


class Echo(Base):
    """Returns (n, 10): ten times the number that each input ends with, or its bits."""

    dim = 10
    modalities, accepts_mixed_inputs = ("text", "image"), True

    def __init__(self, similarity="cosine", revision="", view_options=None):
        super().__init__()
        self.similarity_fn_name, self.revision, self.name = similarity, revision, "echo"
        self.view_options = view_options or {}
        self.calls = []

    def encode(self, inputs, *, show_progress_bar=False, precision="auto"):
        self.calls.append((list(inputs), show_progress_bar, precision))
        numbers = np.array([[int(str(item)[-1])] * self.dim for item in inputs])
        bits = (numbers >> np.arange(self.dim)) & 1
        return np.packbits(bits, axis=1) if self.similarity_fn_name == "hamming" else numbers.astype(np.float32)


class Prompted(Echo):
    has_roles = True

    def encode(self, inputs, *, show_progress_bar=False, precision="auto", prompt_type=None):
        self.calls.append(prompt_type)
        return super().encode(inputs, show_progress_bar=show_progress_bar, precision=precision)


def encode(model, *batches, kind="STS", prompt_type=None):
    metadata = SimpleNamespace(name="T", type=kind)
    return model.encode(batches, task_metadata=metadata, hf_split="test", hf_subset="default", prompt_type=prompt_type)


def test_inputs_come_in_order_with_precision_and_progress():
    model = MtebModel(Echo(), "bf16", show_progress=True)
    vectors = encode(model, {"text": ["a1", "a2"], "id": [1, 2]}, {"text": ["a3"]})
    assert model.model.calls == [(["a1", "a2", "a3"], True, "bf16")]
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors[:, 0], [1, 2, 3])
    encode(model, {"text": ["a1"]})
    assert model.input_count == 4
    assert model.vectors == {}
    assert MtebModel(Echo(), "fp32").options == {"precision": "fp32", "show_progress_bar": False}


def test_the_time_of_the_encoder_adds_up(monkeypatch):
    clock = iter([10.0, 10.5, 20.0, 22.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    model = MtebModel(Echo(), "fp32")
    encode(model, {"text": ["a1"]})
    encode(model, {"text": ["a1"]})
    assert model.seconds == 2.5


def test_vectors_are_kept_by_prompt_type_on_demand():
    model = MtebModel(Prompted(), "fp32", keep_vectors=True)
    for prompt_type, text in (
        ("query", "a1"),
        (SimpleNamespace(value="document"), "a2"),
        ("query", "a3"),
        (None, "a4"),
    ):
        encode(model, {"text": [text]}, prompt_type=prompt_type)
    assert {name: [block[0, 0] for block in blocks] for name, blocks in model.vectors.items()} == {
        "query": [1, 3],
        "document": [2],
        "None": [4],
    }
    assert [call for call in model.model.calls if not isinstance(call, tuple)] == ["query", "document", "query", None]


@pytest.mark.parametrize("kind", ["Retrieval", "Any2AnyRetrieval", "Reranking", "InstructionReranking"])
def test_codes_stay_packed_for_a_search_and_are_signs_elsewhere(kind):
    model = MtebModel(Echo("hamming"), "fp32")
    packed = encode(model, {"text": ["a5", "a2"]}, kind=kind)
    assert (packed.shape, packed.dtype) == ((2, 2), np.uint8)
    signs = encode(model, {"text": ["a5"]}, kind="Clustering")
    assert (signs.tolist(), signs.dtype) == ([[1, -1, 1] + [-1] * 7], np.float32)


@pytest.mark.parametrize(("similarity", "function"), [("hamming", "custom"), ("cosine", "cosine")])
def test_mteb_knows_the_model_by_name_revision_and_width(similarity, function):
    meta = MtebModel(Echo(similarity, "c0ffee", {"dim": 10}), "fp32").mteb_model_meta
    assert (meta.name, meta.revision, meta.embed_dim) == ("zoo/echo", "c0ffee", 10)
    assert meta.similarity_fn_name.value == function
    assert (meta.modalities, meta.framework, meta.experiment_kwargs) == (["text", "image"], ["PyTorch"], {"dim": 10})
    untrained = MtebModel(Echo(similarity), "fp32").mteb_model_meta
    assert (untrained.revision, untrained.experiment_kwargs) == ("untrained", None)


def test_an_input_of_text_and_image_is_one_and_the_image_may_be_missing():
    model = MtebModel(Echo(), "fp32")
    items = model._list_inputs({"text": ["a1", "a2"], "image": [None, 7]}, "T")
    assert items == ["a1", {"image": 7, "text": "a2"}]
    assert model._list_inputs({"image": [7], "id": [0]}, "T") == [7]


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"audio": [1]}, "T: an input holds audio; echo reads text or image. Choose another"),
        ({"text": ["a"], "video": [1]}, "T: an input holds text and video; echo"),
        ({"id": [1]}, "T: an input holds nothing; echo"),
    ],
)
def test_inputs_that_the_encoder_does_not_read_are_named(batch, message):
    with pytest.raises(ZooError, match=message):
        encode(MtebModel(Echo(), "fp32"), batch)


def test_vectors_that_are_not_finite_are_counted(monkeypatch):
    encoder = Echo(view_options={"dim": 10})
    monkeypatch.setattr(encoder, "encode", lambda items, **_: np.array([[1, np.nan], [np.inf, np.nan], [1, 1]]))
    with pytest.raises(ZooError, match="T at {'dim': 10}: 2 of 3 vectors are not finite.*retrain it"):
        encode(MtebModel(encoder, "fp32"), {"text": ["a", "b", "c"]})
    encoder.view_options = {}
    with pytest.raises(ZooError, match="T at the whole encoder: 2 of 3"):
        encode(MtebModel(encoder, "fp32"), {"text": ["a", "b", "c"]})


def test_peak_memory_is_the_largest_sample_in_megabytes(monkeypatch):
    samples = [2e6, 7e6, 5e6]
    process = SimpleNamespace(
        memory_info=lambda: SimpleNamespace(rss=samples.pop(0) if len(samples) > 1 else samples[0])
    )
    monkeypatch.setattr(mteb_model.psutil, "Process", lambda: process)
    monkeypatch.setattr(mteb_model, "SAMPLING_SECONDS", 0.001)
    with PeakMemory() as memory:
        assert memory._thread.daemon
        while len(samples) > 1:
            time.sleep(0.001)
    assert memory.megabytes == 7
    assert not memory._thread.is_alive()


# -- isolation ---------------------------------------------------------------------------------------------------------


def test_logs_warnings_and_progress_bars_are_silent_inside_the_block_only():
    loggers = {name: logging.getLogger(name) for name in ("mteb", "datasets")}
    levels = {name: logger.level for name, logger in loggers.items()}
    shows_bars = datasets.is_progress_bar_enabled()
    try:
        for logger in loggers.values():
            logger.setLevel(logging.INFO)
        for is_enabled in (True, False):
            (datasets.enable_progress_bars if is_enabled else datasets.disable_progress_bars)()
            with contextlib.suppress(OSError), mteb_isolation.silence_mteb():
                assert {logger.level for logger in loggers.values()} == {logging.ERROR}
                assert not datasets.is_progress_bar_enabled()
                raise OSError
            assert {logger.level for logger in loggers.values()} == {logging.INFO}
            assert datasets.is_progress_bar_enabled() is is_enabled
    finally:
        for name, level in levels.items():
            loggers[name].setLevel(level)
        (datasets.enable_progress_bars if shows_bars else datasets.disable_progress_bars)()


@pytest.mark.parametrize(
    ("module", "is_silent"),
    [("mteb.x", True), ("datasets", True), ("sklearn.metrics", True), ("scipy.stats", True), ("numpy", False)],
)
def test_warnings_of_mteb_and_of_the_libraries_that_it_calls_are_ignored(module, is_silent):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with mteb_isolation.silence_mteb():
            warnings.warn_explicit("careful", UserWarning, f"{module}.py", 1, module=module)
            silent_inside = not caught
        warnings.warn_explicit("careful", UserWarning, f"{module}.py", 2, module=module)
    assert silent_inside or not is_silent
    if not is_silent:
        assert len(caught) >= 1

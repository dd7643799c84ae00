"""Engines encode alike behind the same `encode`; `auto` stays within its loss; what the cache holds is checked, or made again."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import zoo
from zoo.artefact import canaries
from zoo.cli.main import main
from zoo.core.errors import ZooError
from zoo.deploy import engine_choice, engine_names, engines, graph_cache, write
from zoo.deploy.engine_choice import EXACT, Candidate, Measurement
from zoo.families.matryoshka_2d.encoder import Encoder
from zoo.families.matryoshka_2d.spec import Spec
from zoo.ops import int8_linear
from zoo.runtime.model import Model

needs_vnni = pytest.mark.skipif(not int8_linear.can_multiply(), reason="the processor has no VNNI instructions")

GOLDEN = Path(__file__).parents[1] / "golden"
TEXTS = [*tiny.SENTENCES[:12], "", "the \U0001f415 dog", "the dog " * 40, tiny.SENTENCES[0]]
GRAPHS = [
    "onnx",
    pytest.param("openvino", marks=pytest.mark.skipif(not engine_names.is_installed("openvino"), reason="extra")),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    parent = tmp_path_factory.mktemp("engines")
    spec = Spec(family="matryoshka-2d", backbone=tiny.backbone(parent / "b"), prompts={"query": "the ", "document": ""})
    encoder = Encoder.build(spec)
    torch.manual_seed(5)
    encoder.set_heads({layer: torch.nn.Linear(32, 32, bias=False) for layer in (2, 3)})
    return encoder.save(parent / "model")


@pytest.fixture(scope="module")
def graphs(tmp_path_factory) -> Path:
    """A cache that the tests of this file share, so that a graph is made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def cache(graphs, monkeypatch) -> Path:
    monkeypatch.setenv(graph_cache.VARIABLE, str(graphs))
    return graphs


@pytest.fixture
def empty_cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(graph_cache.VARIABLE, str(tmp_path / "empty"))
    return tmp_path / "empty"


def refuse(*_, **__):
    raise AssertionError("nothing may be made or measured now")


def measured(
    loss: float, speed: float, engine: str = "torch", precision: str = "int8", single: float = 1.0
) -> Measurement:
    return Measurement(engine, precision, loss, speed, single)


# -- graphs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_gives_the_vectors_of_torch_in_every_view_and_role(name, folder):
    exact, encoder = zoo.from_pretrained(folder), zoo.from_pretrained(folder, engine=name)
    assert np.abs(encoder.encode(TEXTS) - exact.encode(TEXTS)).max() < 1e-5
    assert np.abs(encoder.encode_query(TEXTS) - exact.encode_query(TEXTS)).max() < 1e-5
    assert np.abs(encoder.view(dim=9).encode(TEXTS) - exact.view(dim=9).encode(TEXTS)).max() < 1e-5
    assert np.abs(np.concatenate(list(encoder.stream(TEXTS))) - exact.encode(TEXTS)).max() < 1e-5
    assert encoder.encode([]).shape == (0, 32)
    assert encoder.is_deferred, "the graph is made of a copy, so that the encoder stays light"


def test_views_of_other_depths_have_graphs_of_their_own_and_cuts_share_one(folder, cache):
    exact, encoder = zoo.from_pretrained(folder), zoo.from_pretrained(folder, engine="onnx")
    encoder.encode(TEXTS[:1])
    before = len(list((cache / "engines" / "graphs").iterdir()))
    encoder.view(dim=4).encode(TEXTS[:1])
    assert len(list((cache / "engines" / "graphs").iterdir())) == before
    vectors = encoder.view(layers=2, dim=8).encode(TEXTS)
    assert np.abs(vectors - exact.view(layers=2, dim=8).encode(TEXTS)).max() < 1e-5
    assert len(list((cache / "engines" / "graphs").iterdir())) == before + 1


def test_a_graph_is_made_once_and_read_without_transformers(folder, cache):
    zoo.from_pretrained(folder, engine="onnx").encode(TEXTS[:1])
    code = (
        "import sys, zoo\n"
        f"zoo.from_pretrained({str(folder)!r}, engine='onnx').encode(['the dog'])\n"
        "print([name for name in ('transformers', 'sentence_transformers', 'onnx') if name in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
    assert "making the graph" not in result.stderr


@pytest.mark.parametrize("damage", ["a byte", "a file"])
def test_a_damaged_graph_is_made_again(damage, folder, empty_cache, capsys):
    exact = zoo.from_pretrained(folder, engine="onnx").encode(TEXTS)
    (entry,) = (empty_cache / "engines" / "graphs").iterdir()
    graph = entry / "model.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.unlink()
    if damage == "a byte":
        graph.write_bytes(bytes(content))
    capsys.readouterr()
    np.testing.assert_array_equal(zoo.from_pretrained(folder, engine="onnx").encode(TEXTS), exact)
    lines = capsys.readouterr().err
    assert "the graph in the cache is not used, and is made again" in lines
    assert "model.onnx" in lines


def test_threads_that_ask_at_once_make_one_graph_and_get_the_same_vectors(folder, empty_cache, monkeypatch):
    made, write_graph = [], write.write
    monkeypatch.setattr(write, "write", lambda *arguments: made.append(1) or write_graph(*arguments))
    encoder, exact = zoo.from_pretrained(folder, engine="onnx"), zoo.from_pretrained(folder)
    other = zoo.from_pretrained(folder, engine="onnx")  # as another process would open it
    views = [encoder, encoder.view(dim=9), other, other.view(dim=9)] * 3
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda view: view.encode(TEXTS), views))
    assert len(made) == 1
    for view, vectors in zip(views, results, strict=True):
        assert np.abs(vectors - exact.view(dim=view.dim).encode(TEXTS)).max() < 1e-5


def test_another_model_in_the_same_folder_has_another_graph(folder, tmp_path):
    other = Encoder.build(Spec(family="matryoshka-2d", backbone=tiny.backbone(tmp_path / "b", seed=7)))
    encoder = zoo.from_pretrained(other.save(tmp_path / "model"), engine="onnx")
    assert np.abs(encoder.encode(TEXTS) - other.encode(TEXTS)).max() < 1e-5


def test_weights_that_were_changed_are_refused_and_so_is_a_training(folder):
    encoder = zoo.from_pretrained(folder, engine="onnx")
    encoder.encode(TEXTS[:1])
    assert encoder.backbone is not None
    encoder.encode(TEXTS[:1])
    with torch.no_grad():
        encoder.backbone.model.embeddings.LayerNorm.weight.mul_(0.7)
    with pytest.raises(ZooError, match="weights were changed or moved since the model was opened"):
        encoder.encode(TEXTS[:1])
    with pytest.raises(ZooError, match="open it without `engine`"):
        encoder.train(None)


def test_an_encoder_is_saved_with_exact_vectors_whatever_its_engine(folder, few_candidates, monkeypatch, tmp_path):
    monkeypatch.setattr(engine_choice, "measure", give_figures)
    monkeypatch.setattr(graph_cache, "open_graph", lambda *_, **__: FakeGraph())
    encoder = zoo.from_pretrained(folder, engine="auto", max_loss=0.0)
    np.testing.assert_array_equal(encoder.encode(TEXTS), FakeGraph.compute_all(len(TEXTS)))
    saved = encoder.save(tmp_path / "model")
    exact = zoo.from_pretrained(folder)
    assert np.abs(zoo.from_pretrained(saved).encode(TEXTS) - exact.encode(TEXTS)).max() < 1e-6
    assert np.abs(canaries.read(saved).vectors - canaries.read(folder).vectors).max() < 1e-6


def test_a_frozen_encoder_makes_no_graph_and_torch_computes_the_rest(folder, monkeypatch):
    encoder = zoo.from_pretrained(folder, engine="onnx")
    encoder.encode(TEXTS[:1])
    engines.freeze(encoder)
    monkeypatch.setattr(write, "write", refuse)
    exact = zoo.from_pretrained(folder)
    for view in ({}, {"dim": 9}, {"layers": 1}):
        assert np.abs(encoder.view(**view).encode(TEXTS) - exact.view(**view).encode(TEXTS)).max() < 1e-5
    np.testing.assert_array_equal(encoder.encode(TEXTS, precision="bf16"), exact.encode(TEXTS, precision="bf16"))


# -- what is refused -----------------------------------------------------------------------------------------------


def test_an_extra_that_is_missing_is_named_in_one_line(folder, monkeypatch, capsys):
    monkeypatch.setattr(engine_names.util, "find_spec", lambda name: None)
    for name, package in (("onnx", "onnxruntime"), ("openvino", "openvino")):
        with pytest.raises(ZooError) as caught:
            zoo.from_pretrained(folder, engine=name)
        line = f"engine: {name} needs {package}, which is not installed: pip install 'embedding-zoo[{name}]'"
        assert str(caught.value) == line
    assert main(["encode", str(folder), "--engine", "onnx"]) == 1
    assert "embedding-zoo[onnx]" in capsys.readouterr().err


def test_unknown_names_and_families_without_engines_are_refused(folder):
    with pytest.raises(ZooError, match="engine: 'onx' is not one of torch, onnx.*did you mean onnx"):
        zoo.from_pretrained(folder, engine="onx")
    with pytest.raises(ZooError, match="max_loss: 2 is not a number from 0 to 1"):
        zoo.from_pretrained(folder, engine="auto", max_loss=2)
    with pytest.raises(ZooError, match="precision: 'fp16': the engine onnx has fp32, int8 and auto"):
        zoo.from_pretrained(folder, engine="onnx").encode(TEXTS, precision="fp16")
    for family in ("sesa", "late-interaction"):
        with pytest.raises(ZooError, match=f"the family {family} encodes with torch only"):
            zoo.from_pretrained(GOLDEN / family / "model", engine="onnx")
    assert zoo.from_pretrained(GOLDEN / "sesa" / "model", engine="auto").encode(["the dog"]).shape[0] == 1


def test_nothing_changes_if_nobody_asks(folder, monkeypatch):
    monkeypatch.setattr(engines, "Engines", refuse)
    encoder = zoo.from_pretrained(folder)
    assert encoder.engines is None
    np.testing.assert_array_equal(encoder.encode(TEXTS), encoder.encode(TEXTS, precision="fp32"))


# -- auto ----------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.floats(0, 0.01), st.floats(1, 1000)), min_size=1, max_size=8),
    st.floats(0, 0.01),
)
def test_the_choice_is_within_the_loss_and_nothing_within_it_is_clearly_faster(figures, max_loss):
    entries = [measured(loss, speed, precision=str(number)) for number, (loss, speed) in enumerate(figures)]
    allowed = [entry for entry in entries if entry.loss <= max_loss]
    if not allowed:
        with pytest.raises(ZooError, match="no engine loses at most"):
            engine_choice.choose(entries, max_loss)
        return
    choice = engine_choice.choose(entries, max_loss)
    assert choice in allowed
    assert max(entry.texts_per_second for entry in allowed) <= engine_choice.LEVEL * choice.texts_per_second * 1.0001
    assert engine_choice.choose(entries[::-1], max_loss) == choice


@given(st.lists(st.tuples(st.floats(0, 0.01), st.floats(1, 1000), st.floats(1, 1000)), min_size=1, max_size=8))
def test_few_texts_have_an_engine_of_their_own_only_if_it_is_clearly_faster(figures):
    entries = [
        measured(loss, *speeds[:1], precision=str(n), single=speeds[1]) for n, (loss, *speeds) in enumerate(figures)
    ]
    allowed = [entry for entry in entries if entry.loss <= 0.005]
    if allowed:
        best = engine_choice.choose(entries, 0.005)
        choice = engine_choice.choose_for_few(entries, 0.005, best)
        fastest = max(entry.queries_per_second for entry in allowed)
        assert choice in allowed
        assert fastest <= engine_choice.LEVEL_FEW * choice.queries_per_second
        assert (choice == best) == (fastest <= engine_choice.LEVEL_FEW * best.queries_per_second)


def test_a_loss_is_that_of_the_cosine():
    exact = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    assert engine_choice.compute_loss(exact, exact) == 0
    turned = np.array([[3.0, 3.0], [0.0, 5.0], [0.0, 0.0]])
    assert abs(engine_choice.compute_loss(turned, exact) - (1 - 0.5**0.5) / 3) < 1e-12


FIGURES = {EXACT: (0.0, 1.0), Candidate("torch", "bf16"): (1e-4, 2.0), Candidate("onnx", "fp32"): (0.0, 1.5)}


def give_figures(encoders, exact, texts):
    """Figures of a machine on which everything lossy is fast."""
    entries = {name: FIGURES.get(name, (0.004, 9.0)) for name in encoders}
    return [measured(loss, speed, name.engine, name.precision) for name, (loss, speed) in entries.items()]


@pytest.fixture
def few_candidates(monkeypatch):
    """Leave out what takes long to make."""
    names = [EXACT, Candidate("torch", "bf16"), Candidate("torch", "int8"), Candidate("onnx", "fp32")]
    monkeypatch.setattr(
        engine_names,
        "list_candidates",
        lambda _, precision: [name for name in names if precision in ("auto", name.precision)],
    )


@pytest.mark.parametrize(("max_loss", "expected"), [(0.001, "torch bf16"), (0.0, "onnx fp32")])
def test_auto_takes_the_fastest_within_the_loss_once_and_prints_it_once(
    max_loss, expected, folder, few_candidates, monkeypatch, capsys, empty_cache
):
    monkeypatch.setattr(engine_choice, "measure", give_figures)
    monkeypatch.setattr(graph_cache, "open_graph", lambda *_, **__: FakeGraph())
    encoder = zoo.from_pretrained(folder, engine="auto", max_loss=max_loss)
    expected_vectors = FakeGraph.compute_all(len(TEXTS))
    if expected == "torch bf16":
        expected_vectors = zoo.from_pretrained(folder).encode(TEXTS, precision="bf16")
    np.testing.assert_array_equal(encoder.encode(TEXTS), expected_vectors)
    lines = capsys.readouterr().err
    assert lines.count(f"engine: auto takes {expected} for") == 1
    monkeypatch.setattr(engine_choice, "measure", refuse)
    again = zoo.from_pretrained(folder, engine="auto", max_loss=max_loss)
    np.testing.assert_array_equal(again.encode(TEXTS), expected_vectors)
    assert capsys.readouterr().err == ""


class FakeGraph(Model):
    """A graph whose vectors are all alike."""

    def __init__(self) -> None:
        pass

    def view(self, *, layers=None, dim=None):
        return self

    def compute(self, batch):
        return self.compute_all(len(batch["input_ids"]))

    @staticmethod
    def compute_all(count):
        return np.full((count, 32), 32**-0.5, np.float32)


def test_a_precision_that_is_asked_for_leaves_only_its_own_candidates(folder, few_candidates, monkeypatch, empty_cache):
    monkeypatch.setattr(engine_choice, "measure", give_figures)
    monkeypatch.setattr(graph_cache, "open_graph", lambda *_, **__: FakeGraph())
    encoder, exact = zoo.from_pretrained(folder, engine="auto"), zoo.from_pretrained(folder)
    bf16 = exact.encode(TEXTS, precision="bf16")
    np.testing.assert_array_equal(encoder.encode(TEXTS, precision="bf16"), bf16)
    np.testing.assert_array_equal(encoder.encode(TEXTS, precision="fp32"), FakeGraph.compute_all(len(TEXTS)))


@needs_vnni
def test_a_precision_that_loses_too_much_is_refused_with_the_loss(folder, few_candidates, monkeypatch, empty_cache):
    monkeypatch.setattr(engine_choice, "measure", give_figures)
    with pytest.raises(ZooError, match=r"no engine loses at most 0.001 .*int8 loses 0.00400"):
        zoo.from_pretrained(folder, engine="auto").encode(TEXTS, precision="int8")


def test_a_damaged_choice_is_measured_again(folder, few_candidates, monkeypatch, empty_cache):
    calls = []
    monkeypatch.setattr(engine_choice, "measure", lambda *arguments: calls.append(1) or give_figures(*arguments))
    monkeypatch.setattr(graph_cache, "open_graph", lambda *_, **__: FakeGraph())
    zoo.from_pretrained(folder, engine="auto").encode(TEXTS)
    (entry,) = (empty_cache / "engines" / "choices").iterdir()
    damaged = ["{", "[]", '{"choice": "torch bf16"}', '{"choice": {"many": "torch bf16"}}']
    damaged += [
        '{"choice": {"many": "torch bf16", "few": "gpu int2"}}',
        '{"choice": {"many": ["torch"], "few": "torch bf16"}}',
    ]
    for content in damaged:
        entry.write_text(content)
        zoo.from_pretrained(folder, engine="auto").encode(TEXTS)
    assert len(calls) == 1 + len(damaged)


def test_a_few_short_texts_are_encoded_by_the_engine_that_is_fastest_for_them(
    folder, few_candidates, monkeypatch, capsys, empty_cache
):
    def give_figures_of_queries(encoders, exact, texts):
        figures = give_figures(encoders, exact, texts)
        return [replace(entry, queries_per_second=5.0 if entry.engine == "onnx" else 2.0) for entry in figures]

    monkeypatch.setattr(engine_choice, "measure", give_figures_of_queries)
    monkeypatch.setattr(graph_cache, "open_graph", lambda *_, **__: FakeGraph())
    exact = zoo.from_pretrained(folder)
    for _ in range(2):  # measured, and read
        encoder = zoo.from_pretrained(folder, engine="auto")
        few, long = TEXTS[:8], ["the dog " * 60]
        for texts in ([], few[:1], few, tuple(few)):
            np.testing.assert_array_equal(encoder.encode(texts), FakeGraph.compute_all(len(texts)))
        for texts in (TEXTS, long):
            np.testing.assert_array_equal(encoder.encode(texts), exact.encode(texts, precision="bf16"))
        np.testing.assert_array_equal(encoder.encode(iter(few)), exact.encode(few, precision="bf16"))
        (block,) = encoder.stream(few)
        np.testing.assert_array_equal(block, exact.encode(few, precision="bf16"))
        with pytest.raises(ZooError, match="input 1"):
            encoder.encode(["the dog", 3])
    lines = capsys.readouterr().err
    assert "onnx fp32 encodes a few short texts, 2.5 times as fast as torch bf16 does" in lines
    assert lines.count("engine: auto takes torch bf16") == 1


def test_the_real_measurement_gives_a_choice_within_the_loss(folder, few_candidates, monkeypatch):
    monkeypatch.setattr(engine_choice, "SECONDS", 0.0)
    encoder, exact = zoo.from_pretrained(folder, engine="auto", max_loss=0.001), zoo.from_pretrained(folder)
    texts = engine_choice.list_texts()
    assert engine_choice.compute_loss(encoder.encode(texts), exact.encode(texts)) <= 0.001


def test_the_command_encodes_with_an_engine(folder, tmp_path):
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(tiny.SENTENCES[:5]) + "\n")
    options = ["--input", str(lines), "--out", str(tmp_path / "out.npy"), "--precision", "fp32"]
    assert not main(["encode", str(folder), "--engine", "onnx", *options])
    exact = zoo.from_pretrained(folder).encode(tiny.SENTENCES[:5])
    assert np.abs(np.load(tmp_path / "out.npy") - exact).max() < 1e-5

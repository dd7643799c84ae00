"""A model that opens without sentence-transformers is served without it; an engine is chosen when the server starts."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import tiny

import zoo
from zoo.core.errors import ZooError
from zoo.deploy import graph_cache, write
from zoo.serve import token_ids
from zoo.serve.errors import RequestError
from zoo.serve.model import Operation, ServedModel
from zoo.serve.settings import Settings

TEXTS = ["the dog", "a cat runs", "no fever " * 30, "unknownword dog"]
SERVE = """
import sys
from zoo.serve import abilities
from zoo.serve.model import Operation, ServedModel, TokenIds
from zoo.serve.settings import Settings

model = ServedModel.open(sys.argv[1], Settings((sys.argv[1],)))
(ids,) = model.encoder.list_token_ids(["the dog"])
inputs, tokens = model.prepare([TokenIds(tuple(ids)), "the dog " * 40])
assert inputs[0] == "the dog" and tokens == [4, 24], (inputs, tokens)
for view in ((), model.check_view(2, 8)):
    model.run(Operation("embed", view), inputs)
abilities.describe_model(model)
print([name for name in ("sentence_transformers", "transformers", "sklearn", "datasets") if name in sys.modules])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return tiny.backbone(tmp_path_factory.mktemp("light") / "b")


def test_serving_imports_neither_sentence_transformers_nor_transformers(folder):
    run = subprocess.run([sys.executable, "-c", SERVE, folder], capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "[]", run.stderr[-2000:]


def test_token_ids_and_counts_are_those_of_the_open_model(folder):
    light, stock = zoo.from_pretrained(folder), zoo.from_pretrained(folder)
    assert stock.backbone is not None
    rows = stock.list_token_ids(TEXTS)
    assert token_ids.count_tokens(light, TEXTS) == token_ids.count_tokens(stock, TEXTS) == list(map(len, rows))
    assert token_ids.list_special_ids(light.tokenizer) == token_ids.list_special_ids(stock.tokenizer)
    for row in rows[:3]:
        for ids in (row, row[1:-1]):
            assert token_ids.decode_token_ids(light, ids) == token_ids.decode_token_ids(stock, ids)
    for ids in ([5, 1_000_000], [2, 3], [2**40]):
        for encoder in (light, stock):
            with pytest.raises(RequestError, match="not the tokens of a text"):
                token_ids.decode_token_ids(encoder, ids)
    assert light.is_deferred


def test_a_served_engine_makes_its_graph_at_the_start_and_none_later(folder, tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv(graph_cache.VARIABLE, str(tmp_path))
    model, exact = ServedModel.open(folder, Settings((folder,), engine="onnx")), zoo.from_pretrained(folder)
    monkeypatch.setattr(write, "write", None)  # a call would fail
    assert model.precision == "fp32"
    for view in ((), model.check_view(None, 8), model.check_view(2, 8)):
        vectors = model.run(Operation("embed", view), TEXTS)
        assert np.abs(vectors - exact.view(**dict(view)).encode(TEXTS)).max() < 1e-5
    with pytest.raises(ZooError, match="engine: 'tensorrt' is not one of"):
        ServedModel.open(folder, Settings((folder,), engine="tensorrt"))


def test_without_a_precision_a_server_has_that_of_the_model(folder):
    assert ServedModel(zoo.from_pretrained(folder), Settings((folder,))).precision == "fp32"
    auto = zoo.from_pretrained(folder, engine="auto")
    assert ServedModel(auto, Settings((folder,))).precision == "auto"
    assert ServedModel(auto, Settings((folder,), precision="bf16")).precision == "bf16"

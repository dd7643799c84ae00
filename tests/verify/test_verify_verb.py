"""`zoo verify` over HTTP, on a broken folder of sentence-transformers, on an ONNX graph, and on its own canaries."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import threading
import time
from contextlib import contextmanager

import golden
import numpy as np
import pytest
import tiny_dense
from embedding_servers import make_answer, serve
from safetensors.numpy import load_file, save_file

import zoo
from zoo.artefact import canaries, manifest
from zoo.cli.main import main
from zoo.core.errors import ZooError
from zoo.verify.server import Server


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of a tiny encoder with a prompt for queries."""
    folder = tmp_path_factory.mktemp("verify")
    encoder = tiny_dense.build(folder, prompts={"query": "the red ", "document": ""})
    encoder.name = "tiny"
    return encoder.save(folder / "model")


@pytest.fixture(scope="module")
def encoder(model):
    return zoo.from_pretrained(model)


def verify(capsys, *words):
    """Run the verb. Return its status, and the parsed answer or the lines of stdout and stderr."""
    status = main(["verify", *map(str, words)])
    captured = capsys.readouterr()
    is_json = "--json" in words and captured.out
    return status, json.loads(captured.out) if is_json else captured.out + captured.err


# -- its own canaries ----------------------------------------------------------------------------------------------------


def test_a_saved_model_gives_its_own_canaries(model, capsys):
    status, answer = verify(capsys, model, "--json")
    assert (status, answer["is_same"]) == (0, True)
    assert [(check["of"], check["count"], check["precision"]) for check in answer["checks"]] == [
        ("texts", 26, "fp32"),
        ("queries", 3, "fp32"),
        ("documents", 3, "fp32"),
    ]


def test_canaries_that_are_not_those_of_the_model_are_told(model, tmp_path, capsys):
    changed = shutil.copytree(model, tmp_path / "changed")
    vectors = load_file(changed / canaries.VECTORS)["vectors"]
    save_file({"vectors": vectors * np.float32(2)}, changed / canaries.VECTORS)
    status, output = verify(capsys, changed)
    assert (status, "its sha256 is not the manifest's" in output) == (1, True)
    manifest.write(changed)
    status, output = verify(capsys, changed)
    assert (status, "texts: NOT the same space" in output, "normalisation" in output) == (1, True, True)


def test_a_folder_of_an_older_version_says_so_and_is_compared_with_a_server(model, encoder, capsys):
    old = golden.GOLDEN / "matryoshka-2d" / "model"
    status, output = verify(capsys, old)
    assert (status, "has no canaries" in output) == (1, True)
    with serve(make_answer(zoo.from_pretrained(old).encode)) as url:
        assert verify(capsys, old, "--url", url)[0] == 0


# -- servers -------------------------------------------------------------------------------------------------------------


@contextmanager
def run_zoo_serve(model):
    """Serve a model with the application of `zoo serve`, in a thread of this process."""
    uvicorn = pytest.importorskip("uvicorn")
    from zoo.serve.app import create_app
    from zoo.serve.settings import Settings

    server = uvicorn.Server(uvicorn.Config(create_app(Settings((str(model),))), port=0, log_config=None))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        thread.join(60)


def test_a_server_of_zoo_is_the_same_space_for_each_role_and_view(model, capsys):
    with run_zoo_serve(model) as url:
        assert verify(capsys, model, "--url", url)[0] == 0
        status, output = verify(capsys, model, "--url", url, "--prompt", "query")
        assert (status, "prompt: the prompt 'the red ' is missing" in output) == (1, True)
        assert verify(capsys, model, "--url", url, "--prompt", "query", "--field", "input_type=query")[0] == 0
        assert verify(capsys, model, "--url", url, "--prompt", "query", "--send-prompt")[0] == 0
        assert verify(capsys, model, "--url", url, "--dim", "8", "--field", "dimensions=8")[0] == 0
        status, output = verify(capsys, model, "--url", url, "--dim", "8")
        assert (status, "dimension: 32 components instead of 8" in output) == (1, True)
        status, output = verify(capsys, model, "--url", url, "--model", "other")
        (line,) = [
            line for line in output.splitlines() if not line.startswith("{")
        ]  # the server logs to the same stream
        assert (status, "answered 404: there is no model 'other'" in line) == (1, True)


def test_a_broken_server_is_named_over_http(model, encoder, capsys):
    def forget_order(texts):
        return encoder.encode(sorted(texts))

    with serve(make_answer(forget_order)) as url:
        status, answer = verify(capsys, model, "--url", url, "--json")
    assert (status, answer["is_same"]) == (1, False)
    assert [fault["cause"] for fault in answer["checks"][0]["faults"]] == ["order"]
    assert answer["checks"][0]["faults"][0]["advice"].startswith("return the vectors in the order")


def test_answers_with_indices_and_base64_are_read(encoder):
    def answer(body, _):
        vectors = encoder.encode(body["input"]).astype("<f4")
        data = [
            {"index": number, "embedding": base64.b64encode(vector.tobytes()).decode()}
            for number, vector in enumerate(vectors)
        ]
        return 200, {"data": data[::-1]}

    texts = ["the cat", "a dog runs", "fever"]
    with serve(answer) as url:
        np.testing.assert_allclose(Server(url, "m").embed(texts), encoder.encode(texts), atol=1e-7)


def test_the_key_and_the_fields_are_sent_and_the_key_is_never_shown(model, encoder, capsys, monkeypatch):
    seen = []

    def answer(body, headers):
        seen.append((headers["authorization"], body["model"], body.get("dimensions"), body.get("user")))
        return make_answer(encoder.encode)(body, headers)

    monkeypatch.setenv("KEY_OF_A_TEST", "very-secret")
    options = ("--model", "m", "--api-key-env", "KEY_OF_A_TEST", "--field", "dimensions=32", "--field", "user=me")
    with serve(answer) as url:
        status, output = verify(capsys, model, "--url", url, *options)
        assert (status, seen) == (0, [("Bearer very-secret", "m", 32, "me")])
        status, refused = verify(capsys, model, "--url", url.replace("/v1/embeddings", "/%0a"), *options)
    assert "very-secret" not in output + refused


@pytest.mark.parametrize(
    ("status", "content", "message"),
    [
        (
            401,
            {"error": {"message": "no key"}},
            "answered 401: no key; the server asks for a key: name the environment",
        ),
        (500, b"<html>oops</html>", "answered 500: <html>oops</html>"),
        (302, b"", "answered 302"),
        (404, {"detail": "Not Found"}, "answered 404: Not Found; check the path"),
        (413, {"error": "too many tokens"}, "answered 413: too many tokens"),
        (200, b"<html>", "the answer is not JSON"),
        (200, [], "no list `data`"),
        (200, {"data": [{"index": 0}]}, "no list `data`"),
        (200, {"data": [{"embedding": [1, 2]}] * 3}, "answered 3 vectors for 2 inputs"),
        (200, {"data": [{"embedding": [1, 2]}, {"embedding": [1]}]}, "their lengths differ"),
        (200, {"data": [{"embedding": "&&"}] * 2}, "not a list of numbers"),
        (200, {"data": [{"embedding": [None]}] * 2}, "not a list of numbers"),
        (200, {"data": [{"embedding": [[1.0], [2.0]]}] * 2}, "not one list of numbers"),
    ],
)
def test_an_answer_that_cannot_be_used_is_an_error_of_one_line(status, content, message):
    with serve(lambda body, headers: (status, content)) as url, pytest.raises(ZooError) as caught:
        Server(url, "m").embed(["a", "b"])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://127.0.0.1/v1", "http://", "http://a b/v1", "http://[::1/v1"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ZooError, match=r"is not an address; write it as http://127\.0\.0\.1:8000/v1/embeddings"):
        Server(url, "m")


def test_a_server_that_is_down_is_an_error_of_one_line(model, capsys):
    status, output = verify(capsys, model, "--url", "http://127.0.0.1:9/v1")
    assert (status, output.count("\n")) == (1, 1)
    assert "http://127.0.0.1:9/v1/embeddings: cannot be reached" in output


# -- conversions ---------------------------------------------------------------------------------------------------------


def test_a_folder_of_sentence_transformers_that_was_changed_is_named(model, tmp_path, capsys):
    assert verify(capsys, model, "--folder", model)[0] == 0
    broken = shutil.copytree(model, tmp_path / "broken")
    pooling = broken / "1_Pooling" / "config.json"
    pooling.write_text(pooling.read_text().replace('"mean"', '"cls"'))
    status, output = verify(capsys, model, "--folder", broken)
    assert (status, "pooling: the vectors come from the first token" in output) == (1, True)
    assert verify(capsys, model, "--folder", model, "--prompt", "query")[0] == 0
    status, output = verify(capsys, model, "--folder", tmp_path / "none")
    assert (status, "there is no such folder" in output) == (1, True)


@pytest.fixture(scope="module")
def graph(model, tmp_path_factory):
    """An ONNX graph of the tiny model, and one without its pooling."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    import torch

    backbone = zoo.from_pretrained(model).backbone

    class Whole(torch.nn.Module):
        def __init__(self, pools):
            super().__init__()
            self.model, self.pools = backbone.model, pools

        def forward(self, input_ids, attention_mask):
            states = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            mask = attention_mask.unsqueeze(-1)
            mean = (states * mask).sum(1) / mask.sum(1)
            return torch.nn.functional.normalize(mean, dim=-1) if self.pools else states

    folder = tmp_path_factory.mktemp("graph")
    batch = backbone.pad(backbone.tokenize(["the cat runs", "fever"]))
    for name, pools in (("model", True), ("states", False)):
        torch.onnx.export(
            Whole(pools),
            (batch["input_ids"], batch["attention_mask"]),
            folder / f"{name}.onnx",
            input_names=["input_ids", "attention_mask"],
            output_names=["out"],
            dynamic_axes={"input_ids": {0: "n", 1: "t"}, "attention_mask": {0: "n", 1: "t"}},
            dynamo=False,
        )
    return folder


def test_an_onnx_graph_is_compared(model, graph, tmp_path, capsys):
    assert verify(capsys, model, "--onnx", graph / "model.onnx")[0] == 0
    status, output = verify(capsys, model, "--onnx", graph / "states.onnx")
    assert (status, "so the pooling is missing" in output) == (1, True)
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    status, output = verify(capsys, model, "--onnx", tmp_path / "broken.onnx")
    assert (status, "cannot be opened" in output) == (1, True)


def test_the_tokenizer_beside_a_graph_is_used(model, graph, tmp_path, capsys):
    shutil.copy(graph / "model.onnx", tmp_path / "model.onnx")
    description = json.loads((model / "tokenizer.json").read_text())
    description["post_processor"] = None
    (tmp_path / "tokenizer.json").write_text(json.dumps(description))
    status, output = verify(capsys, model, "--onnx", tmp_path / "model.onnx")
    assert (status, "special tokens: no special tokens are added" in output) == (1, True)


# -- the command line ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--url", "http://127.0.0.1/v1", "--onnx", "x"), "give one of --url, --onnx and --folder"),
        (("--send-prompt",), "say which prompt"),
        (("--api-key-env", "NO_SUCH_VARIABLE"), "this environment variable is not set"),
        (("--field", "dimensions"), "write KEY=VALUE"),
        (("--field", "input=x"), "neither model nor input"),
        (("--dim", "8"), "leave the view out"),
    ],
)
def test_a_wrong_command_is_an_error_of_one_line(words, message, model, capsys):
    status, output = verify(capsys, model, *words)
    assert (status, output.count("\n")) == (1, 1)
    assert message in output


def test_a_model_of_images_is_served_as_data_urls(capsys, tmp_path):
    images = golden.GOLDEN / "equiangular" / "model"
    with run_zoo_serve(images) as url:
        assert verify(capsys, images, "--url", url)[0] == 0
    status, output = verify(capsys, images, "--folder", tmp_path)
    assert (status, "compare texts only" in output) == (1, True)

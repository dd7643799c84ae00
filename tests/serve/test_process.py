"""A real server: faulty clients among good ones, the drain at SIGTERM, and worker processes."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import struct
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import serving
import tiny

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

import zoo
from zoo.cli.main import main
from zoo.core.errors import RunWarning, ZooError
from zoo.serve import process
from zoo.serve.settings import Settings

MODEL = "golden-matryoshka-2d"
TOLERANCE = 1e-6
BODY_BYTES, BODY_SECONDS = 100_000, 1.0
REQUESTS, THREADS, BROKEN_SHARE = 320, 16, 0.05


@pytest.fixture(scope="module")
def expected():
    """The vector of each sentence."""
    vectors = zoo.from_pretrained(serving.find_model("matryoshka-2d")).encode(tiny.SENTENCES)
    return dict(zip(tiny.SENTENCES, vectors, strict=True))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    command = serving.make_limited_command(
        [serving.find_model("matryoshka-2d")], body_bytes=BODY_BYTES, body_seconds=BODY_SECONDS
    )
    with serving.start_server(tmp_path_factory.mktemp("server"), command) as started:
        yield started
        assert started.stop() == 0


def test_an_idle_connection_outlives_those_of_proxies_and_a_slow_body():
    settings = Settings(("model",))
    config = process.make_config(None, settings)
    assert config.timeout_keep_alive > max(60, settings.limits.body_seconds)


def make_request(texts, length=None):
    """Return the bytes of a request for vectors, with a Content-Length of its own if `length` is given."""
    body = json.dumps({"model": MODEL, "input": texts}).encode()
    head = f"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length or len(body)}\r\n\r\n"
    return head.encode() + body


def read_answer(connection):
    """Return the status and the parsed body of an answer."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += receive(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:])
    while len(body) < int(fields["content-length"]):
        body += receive(connection)
    return int(head.split()[1]), json.loads(body)


def receive(connection):
    data = connection.recv(65536)
    assert data, "the server closed the connection before the end of its answer"
    return data


def check_vectors(answer, texts, expected):
    vectors = [entry["embedding"] for entry in answer["data"]]
    np.testing.assert_allclose(vectors, [expected[text] for text in texts], atol=TOLERANCE)


# -- faulty clients ------------------------------------------------------------------------------------------------


def send_invalid_json(server):
    status, answer = server.request("POST", "/v1/embeddings", b'{"model": "golden')
    assert (status, answer["error"]["code"]) == (400, "invalid_json")


def send_too_much(server):
    status, answer = server.embed(["cat"] * BODY_BYTES, model=MODEL)
    assert (status, answer["error"]["code"]) == (413, "body_too_large")


def cut_the_body(server):
    with server.connect() as connection:
        connection.sendall(make_request(["cat"], length=5000))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close by a reset


def cut_while_waiting(server):
    with server.connect() as connection:
        connection.sendall(make_request(tiny.SENTENCES))


def send_slowly(server):
    with server.connect() as connection:
        connection.sendall(make_request(["cat"], length=5000))
        status, answer = read_answer(connection)
    assert (status, answer["error"]["code"]) == (408, "body_timeout")


BROKEN = (send_invalid_json, send_too_much, cut_the_body, cut_while_waiting, send_slowly)


def test_no_vector_is_wrong_or_lost_among_broken_requests(server, expected):
    generator = random.Random(0)
    works = []
    for number in range(REQUESTS):
        is_broken = generator.random() < BROKEN_SHARE
        works.append(BROKEN[number % len(BROKEN)] if is_broken else generator.choices(tiny.SENTENCES, k=number % 9 + 1))

    def send(work):
        if callable(work):
            work(server)
            return 0
        status, answer = server.embed(work, model=MODEL)
        assert status == 200, answer
        check_vectors(answer, work, expected)
        return 1

    with ThreadPoolExecutor(THREADS) as pool:
        answered = sum(pool.map(send, works))
    assert answered == sum(not callable(work) for work in works)
    assert {work for work in works if callable(work)} == set(BROKEN)


def test_a_request_whose_client_has_gone_is_given_up(server):
    for _ in range(3):
        cut_while_waiting(server)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if any(entry.get("status") == 499 for entry in server.read_log()):
            return
        time.sleep(0.1)
    raise AssertionError("the log has no request that was given up")


def test_a_slow_client_does_not_delay_others(server, expected):
    with server.connect() as slow:
        slow.sendall(make_request(["cat"], length=5000))
        status, answer = server.embed(tiny.SENTENCES[:3], model=MODEL)
        assert status == 200
        check_vectors(answer, tiny.SENTENCES[:3], expected)
        assert read_answer(slow)[0] == 408


def test_a_connection_serves_several_requests(server, expected):
    with server.connect() as connection:
        for text in tiny.SENTENCES[:5]:
            connection.sendall(make_request([text]))
            status, answer = read_answer(connection)
            assert status == 200
            check_vectors(answer, [text], expected)


# -- the end -------------------------------------------------------------------------------------------------------


def wait_until_refused(server):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            server.connect().close()
        except ConnectionRefusedError:
            return
        time.sleep(0.05)
    raise AssertionError("the server still takes connections")


def test_sigterm_answers_what_was_begun_and_refuses_the_rest(tmp_path, expected):
    command = serving.make_command([serving.find_model("matryoshka-2d")])
    with serving.start_server(tmp_path, command) as server:
        texts = tiny.SENTENCES[:20]
        content = make_request(texts)
        begun = [server.connect() for _ in range(4)]
        for connection in begun:
            connection.sendall(content[:-10])
        while server.request("GET", "/health")[0] != 200:  # by then the server has read the heads
            pass
        server.process.send_signal(signal.SIGTERM)
        wait_until_refused(server)
        for connection in begun:
            connection.sendall(content[-10:])
        for connection in begun:
            status, answer = read_answer(connection)
            assert status == 200
            check_vectors(answer, texts, expected)
            connection.close()
        assert server.process.wait(60) == 0
        assert server.read_log()[-1]["event"] == "stopped"


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_the_drain_loses_nothing(tmp_path, expected):
    command = serving.make_command([serving.find_model("matryoshka-2d")], "--workers", "2")
    with serving.start_server(tmp_path, command) as server:

        def wait_for_workers(count):
            deadline = time.monotonic() + 180
            while time.monotonic() < deadline:
                ready = [entry["process"] for entry in server.read_log() if entry["event"] == "ready"]
                if len(ready) >= count:
                    return ready
                time.sleep(0.2)
            raise AssertionError(server.log.read_text())

        first = wait_for_workers(2)
        os.kill(first[0], signal.SIGKILL)
        assert len(set(wait_for_workers(3))) == 3
        for number in range(20):
            status, answer = server.embed(tiny.SENTENCES[number : number + 2], model=MODEL)
            assert status == 200
            check_vectors(answer, tiny.SENTENCES[number : number + 2], expected)
        page = server.request("GET", "/metrics")[1]  # of all workers together
        lines = [line for line in page.splitlines() if line.startswith("zoo_inputs_total")]
        assert sum(float(line.split()[-1]) for line in lines) == 40
        assert server.stop() == 0


@pytest.mark.slow
def test_workers_that_cannot_open_the_model_end_the_server(tmp_path):
    log = tmp_path / "log.txt"
    with log.open("w") as stream:
        command = serving.make_command([str(tmp_path / "no-model")], "--workers", "2")
        status = subprocess.run(command, stderr=stream, timeout=200, check=False).returncode
    assert status == 1
    assert "error: " in log.read_text()


# -- before the start ----------------------------------------------------------------------------------------------


def test_a_port_in_use_is_told_before_models_are_opened(capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["serve", "no-such-model-folder/", "--port", str(port)]) == 1
    assert f"--port {port}: Address already in use" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--port", "99999"], ["--host", "no.such.host.invalid"], ["--workers", "0"]])
def test_an_address_or_a_number_that_cannot_be_is_one_line(capsys, words):
    assert main(["serve", "model", *words]) == 1
    *warning, line = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert words[0] in line
    assert len(warning) == (words[0] == "--host")


def test_a_wide_address_without_a_key_is_warned_about(monkeypatch):
    with pytest.warns(RunWarning, match="api-key-env"):
        process.check_exposure(Settings(("model",), host="0.0.0.0"))
    monkeypatch.setenv("ZOO_TEST_KEY", "key")
    process.check_exposure(Settings(("model",), host="0.0.0.0", api_key_variable="ZOO_TEST_KEY"))
    for host in ("127.0.0.1", "::1", "localhost"):
        process.check_exposure(Settings(("model",), host=host))
    monkeypatch.delenv("ZOO_TEST_KEY")
    with pytest.raises(ZooError, match="ZOO_TEST_KEY"):
        process.check_exposure(Settings(("model",), api_key_variable="ZOO_TEST_KEY"))

"""A push with a fault at every request: the branch holds the old version or the new one, and another push finishes it."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import subprocess

import hub_server
import pytest
from published import PUSH, read_folder, read_repo, write_next_version

from zoo.core.errors import HubError
from zoo.hub.fetch import fetch
from zoo.hub.push import check_write_access, push


def test_an_interrupted_push_leaves_main_as_it_was_or_complete_and_another_finishes_it(hub, folder, tmp_path):
    next_version = write_next_version(folder, tmp_path)
    push(folder, "me/count")
    hub.requests.clear()
    push(next_version, "me/count", tag="v2")
    requests = list(hub.requests)
    assert any(path.startswith("/cdn/") for _, path in requests), "requests to the storage fail too"
    for fault in (500, "drop", "lose"):
        for number in range(1, len(requests) + 1):
            name = f"me/{fault}-{number}"
            hub.blobs.clear()
            push(folder, name)
            hub.blobs.clear()
            hub.fail(fault, at=number, times=None)
            with contextlib.suppress(HubError):
                push(next_version, name, tag="v2")
            hub.heal()
            is_whole = read_repo(hub, name) in (read_folder(folder), read_folder(next_version))
            assert is_whole, (fault, requests[number - 1])
            push(next_version, name, tag="v2")
            assert read_repo(hub, name) == read_folder(next_version)
            assert len(hub.list_messages(name)) == 3
            assert hub.repos[name].refs["v2"] == hub.repos[name].refs["main"]


@pytest.mark.parametrize("fault", [500, "drop", "lose", "cut"])
def test_an_interrupted_push_to_a_new_repo_leaves_no_file_or_all_and_another_finishes_it(hub, folder, fault):
    push(folder, "me/count")
    for number in range(1, len(hub.requests) + 1):
        name = f"me/{fault}-{number}"
        hub.blobs.clear()
        hub.fail(fault, at=number, times=None)
        with contextlib.suppress(HubError):
            push(folder, name, private=True)
        hub.heal()
        assert name not in hub.repos or read_repo(hub, name) in ({}, read_folder(folder)), number
        push(folder, name, private=True)
        assert read_repo(hub, name) == read_folder(folder)
        assert hub.list_messages(name) == ["initial commit", "Upload run with zoo"]
        assert hub.repos[name].private


def test_a_client_that_is_killed_during_a_request_leaves_main_as_it_was_or_complete(hub, folder, tmp_path):
    next_version = write_next_version(folder, tmp_path)
    for number, path in enumerate(("/cdn/", "/commit/")):
        name = f"me/killed-{number}"
        push(folder, name)
        process = subprocess.Popen([*PUSH, str(next_version), name], stderr=subprocess.PIPE)
        hub.fail(process.kill, path=path)  # the Hub has the whole request, but its sender is dead
        process.communicate(timeout=120)
        hub.heal()
        assert process.returncode == -signal.SIGKILL
        assert read_repo(hub, name) in (read_folder(folder), read_folder(next_version))
        push(next_version, name)
        assert read_repo(hub, name) == read_folder(next_version)
        assert len(hub.list_messages(name)) == 3


@pytest.mark.parametrize("status", [401, 403, 404, 409, 413])
def test_a_refusal_of_any_request_is_one_line_and_leaves_main_as_it_was_or_complete(hub, folder, tmp_path, status):
    next_version = write_next_version(folder, tmp_path)
    push(folder, "me/count")
    hub.requests.clear()
    push(next_version, "me/count", tag="v1")
    messages = []
    for number in range(1, len(hub.requests) + 1):
        name = f"me/{status}-{number}"
        hub.blobs.clear()
        push(folder, name)
        hub.blobs.clear()
        hub.fail(status, at=number, times=None)
        try:
            push(next_version, name, tag="v1")
        except HubError as error:
            messages.append(str(error))
        hub.heal()
        assert read_repo(hub, name) in (read_folder(folder), read_folder(next_version))
    assert messages
    for message in messages:
        assert message.startswith("push to me/")
        assert "\n" not in message
        assert "hf_" not in message.replace("`hf auth login`", "").replace("HF_TOKEN", "")


@pytest.mark.slow
def test_a_push_survives_one_temporary_fault_at_any_request_with_one_commit(hub, folder):
    push(folder, "me/count", tag="v1")
    count = len(hub.requests)
    for fault in (429, 500, 502, 503, "drop", "lose", "cut", "html", "empty", "garbage"):
        for number in range(1, count + 1):
            name = f"me/{fault}-{number}"
            hub.blobs.clear()
            hub.fail(fault, at=number)
            assert push(folder, name, tag="v1").files
            hub.heal()
            assert len(hub.list_messages(name)) == 2, (fault, number)
            assert read_repo(hub, name, "v1") == read_folder(folder)


@pytest.mark.parametrize(("fault", "words"), [("circle", "redirects in a circle"), ("portal", "login page")])
def test_an_answer_of_something_between_here_and_the_hub_is_put_into_words(hub, folder, fault, words):
    hub.fail(fault, times=None)
    for use in (lambda: push(folder, "me/tiny"), lambda: check_write_access("me/tiny"), lambda: fetch("me/tiny")):
        with pytest.raises(HubError, match=words) as error:
            use()
        assert "\n" not in str(error.value)


def test_the_loser_of_two_equal_pushes_is_told_that_its_files_are_there(hub, folder):
    """Both look at the branch, and the other one commits the same files first."""
    push(folder, "me/other")
    said = []

    def push_first():
        hub.heal()
        push(folder, "me/tiny")

    hub.fail(push_first, path="me/tiny/commit/")
    result = push(folder, "me/tiny", say=said.append)
    assert not result.created
    assert result.commit == hub.repos["me/tiny"].refs["main"]
    assert len(hub.list_messages("me/tiny")) == 2
    assert "same files" in said[-1]


def test_a_push_that_loses_against_other_files_is_refused(hub, folder, tmp_path):
    next_version = write_next_version(folder, tmp_path)

    def push_first():
        hub.heal()
        push(next_version, "me/tiny")

    hub.fail(push_first, path="me/tiny/commit/")
    with pytest.raises(HubError, match="somebody else changed the repo"):
        push(folder, "me/tiny")
    assert read_repo(hub, "me/tiny") == read_folder(next_version)


def test_a_commit_whose_answer_was_lost_is_found(hub, folder):
    hub.fail("lose", path="/commit/")
    result = push(folder, "me/tiny")
    assert result.created
    assert result.commit == hub.repos["me/tiny"].refs["main"]
    assert sum("/commit/" in path for _, path in hub.requests) == 1


def test_a_second_attempt_does_not_upload_files_again(hub, folder):
    hub.fail(503, path="/commit/")
    push(folder, "me/tiny")
    assert sum("/commit/" in path for _, path in hub.requests) == 2
    assert sum(path.endswith("/objects/batch") for _, path in hub.requests) == 1


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (401, "hf auth login"),
        (403, "write access"),
        (404, "no such repo"),
        (409, "push again"),
        (412, "push again"),
        (413, "storage limits"),
    ],
)
def test_a_refusal_is_one_line_with_advice_and_is_not_retried(hub, folder, status, advice):
    hub.fail(status, path="/commit/")
    with pytest.raises(HubError, match=advice) as caught:
        push(folder, "me/tiny")
    assert "\n" not in str(caught.value)
    assert hub_server.TOKEN not in str(caught.value)
    assert sum("/commit/" in path for _, path in hub.requests) == 1
    assert hub.list_messages("me/tiny") == ["initial commit"]


def test_a_push_waits_for_a_storage_that_fails_longer_than_the_client_waits(hub, folder):
    lines: list[str] = []
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    hub.fail(503, path=weights, times=8)  # the client gives up after six and raises a plain RuntimeError
    push(folder, "me/tiny", say=lines.append)
    assert any("503; trying again" in line for line in lines)
    assert read_repo(hub, "me/tiny") == read_folder(folder)


def test_a_push_waits_as_long_as_the_hub_asks_for_and_says_so(hub, folder, monkeypatch):
    waits: list[float] = []
    lines: list[str] = []
    monkeypatch.setattr("time.sleep", waits.append)
    hub.fail(429, path="/api/repos/create", headers={"Retry-After": "40"})
    hub.fail(429, path="/commit/", headers={"RateLimit": '"api";r=0;t=70'})
    push(folder, "me/tiny", say=lines.append)
    assert [wait for wait in waits if wait >= 10] == [40, 70]
    announced = [line for line in lines if "429" in line]
    assert announced == [f"the Hub answers 429; trying again in {wait} s" for wait in (40, 70)]


def test_no_message_shows_the_signature_of_an_address(hub, folder):
    hub.fail(403, path="/cdn/", times=None)
    with pytest.raises(HubError, match=r"^push to me/tiny: .*403") as caught:
        push(folder, "me/tiny")
    assert "Signature" not in str(caught.value)


def test_no_log_of_the_client_shows_a_token_at_any_level(hub, folder, caplog):
    caplog.set_level("DEBUG")
    push(folder, "me/tiny", tag="v1")
    fetch("me/tiny")
    hub.fail(403, path="/cdn/", times=None)
    with pytest.raises(HubError, match="403"):
        push(folder, "me/other")
    assert caplog.records
    assert hub_server.TOKEN not in caplog.text

"""The right to write to a repository is checked before training."""

from __future__ import annotations

import contextlib
import json
from types import SimpleNamespace

import hub_server
import numpy as np
import pytest
import tiny

import zoo
from zoo.core.errors import HubError
from zoo.hub.push import _fetch_account, check_write_access, push
from zoo.hub.retries import MisreadAnswerError


def test_the_right_to_write_is_checked_without_writing(hub, monkeypatch):
    hub.orgs.update(ours="write", theirs="read", closed="no_access")
    check_write_access("me/new")
    check_write_access("ours/new")
    for repo, words in (
        ("theirs/new", "may not write to theirs"),
        ("closed/new", "may not write to closed"),
        ("somebody/else", "may not write to somebody"),
        ("me/a b", "a b"),
    ):
        with pytest.raises(HubError, match=words):
            check_write_access(repo)
    for token, words in (
        (hub_server.READ_ONLY, "may only read"),
        ("hf_" + "x" * 34, "hf auth login"),
        ("", "no token"),
    ):
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(HubError, match=words) as caught:
            check_write_access("me/new")
        assert "xxxx" not in str(caught.value)
    assert {method for method, _ in hub.requests} == {"GET"}


def test_a_fine_grained_token_may_write_only_where_it_says_so(hub, monkeypatch, folder):
    monkeypatch.setenv("HF_TOKEN", hub_server.FINE_GRAINED)
    for name, permissions, may_write in (
        ("me", ["repo.content.read", "repo.write"], True),
        ("me/new", ["repo.write"], True),
        ("me", ["repo.content.read"], False),
        ("me/other", ["repo.write"], False),
    ):
        scope = {"entity": {"name": name}, "permissions": permissions}
        hub.tokens[hub_server.FINE_GRAINED] = {"role": "fineGrained", "fineGrained": {"scoped": [scope]}}
        with contextlib.nullcontext() if may_write else pytest.raises(HubError, match="may only read"):
            check_write_access("me/new")
        with contextlib.nullcontext() if may_write else pytest.raises(HubError, match="write access"):
            push(folder, "me/new")
        hub.repos.clear()


@pytest.mark.parametrize("answer", [[], "me", {}, {"name": None}, {"name": 3}, {"names": "me"}])
def test_an_answer_that_names_no_user_is_one_that_cannot_be_read(answer):
    api = SimpleNamespace(whoami=lambda: answer)
    with pytest.raises(MisreadAnswerError, match="the answer names no user"):
        _fetch_account(api)
    account = {"name": "me", "orgs": []}
    assert _fetch_account(SimpleNamespace(whoami=lambda: account)) is account


def test_a_wait_is_announced(hub, monkeypatch):
    waits: list[float] = []
    lines: list[str] = []
    monkeypatch.setattr("time.sleep", waits.append)
    hub.fail(429, path="/api/whoami-v2", headers={"Retry-After": "20"})
    check_write_access("me/tiny", say=lines.append)
    assert lines == ["the Hub answers 429; trying again in 20 s"]
    assert waits == [20]
    hub.fail(429, path="/api/models/me/tiny", headers={"Retry-After": "30"})
    check_write_access("me/tiny", private=True, say=lines.append)
    assert lines[1:] == ["the Hub answers 429; trying again in 30 s"]


def test_a_recipe_that_publishes_fails_before_training_without_the_right(hub, monkeypatch, tmp_path):
    tiny.backbone(tmp_path / "backbone")
    rows = [json.dumps({"anchor": sentence, "positive": sentence[::-1]}) for sentence in tiny.SENTENCES]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    (tmp_path / "r.yaml").write_text(
        "name: p\nencoder: {family: matryoshka-2d, backbone: backbone, loss: contrastive, dims: [8]}\n"
        "data: {source: file, path: rows.jsonl}\ntraining: {max_steps: 2}\npublish: {repo: me/published}\n"
    )
    monkeypatch.setenv("HF_TOKEN", hub_server.READ_ONLY)
    with pytest.raises(HubError, match="may only read"):
        zoo.train(tmp_path / "r.yaml", tmp_path / "run")
    assert not (tmp_path / "run" / "trained").exists()
    monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)
    encoder = zoo.train(tmp_path / "r.yaml", tmp_path / "run")
    expected_files = {"README.md", "recipe.yaml", "lock.json", "metrics.jsonl", "model.safetensors"}
    assert expected_files <= set(hub.read_files("me/published"))
    np.testing.assert_array_equal(zoo.from_pretrained("me/published").encode(["the dog"]), encoder.encode(["the dog"]))

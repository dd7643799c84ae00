"""Push through the real client to a Hub on loopback, with faults at every request."""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import subprocess

import hub_server
import numpy as np
import pytest
import tiny
import xet_store
from published import PUSH, content, on_hub, other_version

import zoo
from zoo.artefact import allowed_files, manifest
from zoo.cli.main import main
from zoo.core.errors import ArtefactError, HubError
from zoo.hub import push as zoo_hub
from zoo.hub import retries

# -- push: one commit, exactly the folder ------------------------------------------------------------------------------


def test_a_push_is_one_commit_with_exactly_the_folder_and_a_second_adds_none(hub, folder):
    pushed = zoo_hub.push(folder, "me/tiny", private=True)
    assert pushed.created
    assert hub.repos["me/tiny"].private
    assert hub.commits("me/tiny") == ["initial commit", "Upload run with zoo"]
    assert on_hub(hub, "me/tiny") == content(folder)
    assert dict(pushed.files) == {name: len(content) for name, content in content(folder).items()}
    assert pushed.commit == hub.repos["me/tiny"].refs["main"]
    assert not any(hub.cdn_tokens), "the token goes to the Hub alone"
    again = zoo_hub.push(folder, "me/tiny", private=True)
    assert (again.created, again.commit) == (False, pushed.commit)
    assert len(hub.commits("me/tiny")) == 2


def test_stale_files_go_in_the_same_commit_and_files_of_other_kinds_stay(hub, folder, tmp_path):
    zoo_hub.push(other_version(folder, tmp_path), "me/tiny")
    hub.repos["me/tiny"].add("theirs", {**hub.files("me/tiny"), "demo.ipynb": b"{}", ".eval_results/T.yaml": b"a: 1"})
    said: list[str] = []
    zoo_hub.push(folder, "me/tiny", say=said.append)
    assert on_hub(hub, "me/tiny") == {**content(folder), "demo.ipynb": b"{}", ".eval_results/T.yaml": b"a: 1"}
    assert len(hub.commits("me/tiny")) == 4
    assert any("notes.md" in line for line in said), "what is removed is told"


def test_a_branch_leaves_main_alone_and_a_tag_names_the_commit(hub, folder):
    pushed = zoo_hub.push(folder, "me/tiny", branch="next", tag="v1")
    refs = hub.repos["me/tiny"].refs
    assert refs["next"] == refs["v1"] == pushed.commit != refs["main"]
    assert not zoo_hub.push(folder, "me/tiny", branch="next", tag="v1").created
    zoo_hub.push(folder, "me/tiny", branch="next", tag="v1-also")
    assert refs["v1-also"] == pushed.commit


def test_a_tag_of_another_commit_is_refused_before_anything_is_sent(hub, folder, tmp_path):
    pushed = zoo_hub.push(folder, "me/tiny", tag="v1")
    with pytest.raises(HubError, match="v1 already names"):
        zoo_hub.push(other_version(folder, tmp_path), "me/tiny", tag="v1")
    assert hub.repos["me/tiny"].refs["main"] == hub.repos["me/tiny"].refs["v1"] == pushed.commit


def test_a_pull_request_leaves_main_alone_and_is_made_once(hub, folder):
    zoo_hub.push(folder, "me/before")
    hub.fail("lose", path="/commit/")
    asked = zoo_hub.push(folder, "me/tiny", create_pr=True)
    assert (asked.created, asked.url) == (True, f"{hub.endpoint}/me/tiny/discussions/1")
    assert on_hub(hub, "me/tiny") == {}
    assert on_hub(hub, "me/tiny", asked.commit) == content(folder)
    again = zoo_hub.push(folder, "me/tiny", create_pr=True)
    assert (again.created, again.url, again.commit) == (False, asked.url, asked.commit)
    assert len(hub.commits("me/tiny")) == 2
    with pytest.raises(HubError, match="leave branch and tag out"):
        zoo_hub.push(folder, "me/tiny", create_pr=True, tag="v1")


def test_what_should_be_private_is_not_sent_to_a_public_repo(hub, folder):
    hub.repos["me/open"] = hub_server.Repo()
    hub.repos["me/open"].add("initial commit", {})
    with pytest.raises(HubError, match="is public"):
        zoo_hub.push(folder, "me/open", private=True)
    with pytest.raises(HubError, match="is public"):
        zoo_hub.check_write_access("me/open", private=True)
    zoo_hub.check_write_access("me/open")
    zoo_hub.check_write_access("me/not-yet", private=True)
    assert hub.commits("me/open") == ["initial commit"]
    assert hub.blobs == {}


def test_a_change_by_somebody_else_is_not_overwritten(hub, folder, tmp_path):
    zoo_hub.push(folder, "me/tiny")
    for moment in ("/preupload/", "/commit/"):
        hub.fail(
            lambda m=moment: hub.repos["me/tiny"].add(m, {**hub.files("me/tiny"), "theirs.txt": b"x"}), path=moment
        )
        with pytest.raises(HubError, match="somebody else"):
            zoo_hub.push(other_version(folder, tmp_path / moment.strip("/")), "me/tiny")
        assert hub.commits("me/tiny")[-1] == moment


def test_dry_run_talks_to_nobody(hub, folder):
    listed = zoo_hub.push(folder, "me/tiny", dry_run=True)
    assert dict(listed.files) == {name: len(content) for name, content in content(folder).items()}
    assert hub.requests == []


def test_every_option_of_the_command_reaches_the_hub(hub, folder, capsys):
    assert main(["push", str(folder), "me/tiny", "--private", "--branch", "next", "--tag", "v1"]) == 0
    told = capsys.readouterr()
    repo = hub.repos["me/tiny"]
    assert repo.private
    assert repo.refs["next"] == repo.refs["v1"] != repo.refs["main"]
    assert repo.refs["v1"] in told.out
    assert "sending 7 files" in told.err
    assert "model.safetensors" in told.err or "LFS files: 100%" in told.err, "a bar of the upload"
    assert main(["push", str(folder), "me/other", "--create-pr"]) == 0
    assert "discussions/1" in capsys.readouterr().out
    assert on_hub(hub, "me/other") == {}
    assert main(["push", str(folder), "me/other", "--dry-run"]) == 0


# -- push: what may leave the machine ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        ".env",
        "optimizer.pt",
        "checkpoints/1/model.safetensors",
        "optimizer.safetensors",
        ".cache-2/a.json",
        "run.py",
        "x.npy",
    ],
)
def test_only_a_model_leaves_the_machine(hub, folder, name):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("x")
    manifest.write(folder)
    with pytest.raises(HubError, match="kind of file"):
        zoo_hub.push(folder, "me/tiny")
    assert hub.requests == []


@pytest.mark.parametrize(
    "name", ["pairs.jsonl", "pairs.csv", "corpus.txt", "data/pairs.yaml", "pairs.parquet", "pairs.json"]
)
def test_training_data_beside_the_model_stays_here(hub, folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("{}")
    with pytest.raises(ArtefactError, match="extra"):
        zoo_hub.push(folder, "me/tiny")
    if not name.endswith(".json"):  # that is what models themselves are made of: here the manifest decides
        manifest.write(folder)
        with pytest.raises(HubError, match="kind of file"):
            zoo_hub.push(folder, "me/tiny")
    assert hub.requests == []


def test_a_symlink_is_not_followed(hub, folder, tmp_path):
    (tmp_path / "secret.txt").write_text("x")
    (folder / "notes.md").symlink_to(tmp_path / "secret.txt")
    manifest.write(folder)
    with pytest.raises(HubError, match="kind of file"):
        zoo_hub.push(folder, "me/tiny")
    assert hub.requests == []


@pytest.mark.parametrize("name", ["lock.json", "model.safetensors", "README.md", "LICENSE"])
def test_a_file_with_a_token_is_not_sent_nor_shown(hub, folder, name):
    (folder / name).write_bytes(b"x" * ((1 << 20) - 7) + hub_server.TOKEN.encode())  # across two chunks
    manifest.write(folder)
    with pytest.raises(HubError, match="access token") as caught:
        zoo_hub.push(folder, "me/tiny")
    assert hub_server.TOKEN not in str(caught.value)
    assert hub.requests == []


@pytest.mark.parametrize(
    "token",
    [
        "hf_" + "a" * 34,
        "api_org_" + "a" * 34,
        "hf_oauth_" + "aB3-_." * 8,
        "hf_jwt_" + "aB3-_." * 8,
        "of-a-private-hub-1",
    ],
)
def test_a_token_of_any_form_is_found(hub, folder, monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", "of-a-private-hub-1")
    (folder / "config.json").write_text(json.dumps({"zoo": {"format": 1}, "author": f"me:{token}"}))
    manifest.write(folder)
    with pytest.raises(HubError, match="access token") as caught:
        zoo_hub.push(folder, "me/tiny")
    assert token not in str(caught.value)
    assert allowed_files.token_at(f"é{token}") == 1
    monkeypatch.setenv("HF_TOKEN", "config")  # too short to be one: it would be found everywhere
    (folder / "config.json").write_text("config")
    manifest.write(folder)
    assert zoo_hub.listing(folder)


def test_a_folder_that_is_not_what_its_manifest_says_is_not_sent(hub, folder):
    path = folder / "model.safetensors"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(ArtefactError, match=r"model\.safetensors: its sha256"):
        zoo_hub.push(folder, "me/tiny")
    assert hub.requests == []


def test_a_licence_travels_along(hub, folder):
    (folder / "LICENSE").write_text("Apache")
    manifest.write(folder)
    zoo_hub.push(folder, "me/tiny")
    assert on_hub(hub, "me/tiny")["LICENSE"] == b"Apache"


@pytest.mark.parametrize("name", ["../a.json", "/a.json", "a/../../b.json", "a\\b.json", ""])
def test_no_name_leaves_the_folder(name):
    assert not allowed_files.belongs(name)
    assert "leaves the folder" in str(allowed_files.why_not_open(["model.safetensors", name]))


# -- push: faults ------------------------------------------------------------------------------------------------------


def test_a_push_that_dies_at_any_request_leaves_main_as_it_was_or_complete_and_is_finished_by_another(
    hub, folder, tmp_path
):
    other = other_version(folder, tmp_path)
    zoo_hub.push(folder, "me/count")
    hub.requests.clear()
    zoo_hub.push(other, "me/count", tag="v2")
    requests = list(hub.requests)
    assert any(path.startswith("/cdn/") for _, path in requests), "the storage is one of those that may fail"
    for fault in (500, "drop", "lose"):
        for dying in range(1, len(requests) + 1):
            name = f"me/{fault}-{dying}"
            hub.blobs.clear()
            zoo_hub.push(folder, name)
            hub.blobs.clear()
            hub.fail(fault, at=dying, times=None)
            with contextlib.suppress(HubError):
                zoo_hub.push(other, name, tag="v2")
            hub.heal()
            assert on_hub(hub, name) in (content(folder), content(other)), (fault, requests[dying - 1])
            zoo_hub.push(other, name, tag="v2")
            assert on_hub(hub, name) == content(other)
            assert len(hub.commits(name)) == 3
            assert hub.repos[name].refs["v2"] == hub.repos[name].refs["main"]


@pytest.mark.parametrize("fault", [500, "drop", "lose", "cut"])
def test_a_push_that_makes_the_repo_and_dies_at_any_request_leaves_no_file_or_all_and_is_finished_by_another(
    hub, folder, fault
):
    zoo_hub.push(folder, "me/count")
    for dying in range(1, len(hub.requests) + 1):
        name = f"me/{fault}-{dying}"
        hub.blobs.clear()
        hub.fail(fault, at=dying, times=None)
        with contextlib.suppress(HubError):
            zoo_hub.push(folder, name, private=True)
        hub.heal()
        assert name not in hub.repos or on_hub(hub, name) in ({}, content(folder)), dying
        zoo_hub.push(folder, name, private=True)
        assert on_hub(hub, name) == content(folder)
        assert hub.commits(name) == ["initial commit", "Upload run with zoo"]
        assert hub.repos[name].private


def test_a_client_that_is_killed_in_the_midst_of_a_request_leaves_main_as_it_was_or_complete(hub, folder, tmp_path):
    other = other_version(folder, tmp_path)
    for number, path in enumerate(("/cdn/", "/commit/")):
        name = f"me/killed-{number}"
        zoo_hub.push(folder, name)
        process = subprocess.Popen([*PUSH, str(other), name], stderr=subprocess.PIPE)
        hub.fail(process.kill, path=path)  # the request has arrived whole, and its sender is gone
        process.communicate(timeout=120)
        hub.heal()
        assert process.returncode == -signal.SIGKILL
        assert on_hub(hub, name) in (content(folder), content(other))
        zoo_hub.push(other, name)
        assert on_hub(hub, name) == content(other)
        assert len(hub.commits(name)) == 3


@pytest.mark.parametrize("status", [401, 403, 404, 409, 413])
def test_a_refusal_of_any_request_is_one_line_and_leaves_main_as_it_was_or_complete(hub, folder, tmp_path, status):
    other = other_version(folder, tmp_path)
    zoo_hub.push(folder, "me/count")
    hub.requests.clear()
    zoo_hub.push(other, "me/count", tag="v1")
    told = []
    for dying in range(1, len(hub.requests) + 1):
        name = f"me/{status}-{dying}"
        hub.blobs.clear()
        zoo_hub.push(folder, name)
        hub.blobs.clear()
        hub.fail(status, at=dying, times=None)
        try:
            zoo_hub.push(other, name, tag="v1")
        except HubError as error:
            told.append(str(error))
        hub.heal()
        assert on_hub(hub, name) in (content(folder), content(other))
    assert told
    for line in told:
        assert line.startswith("push to me/")
        assert "\n" not in line
        assert "hf_" not in line.replace("`hf auth login`", "").replace("HF_TOKEN", "")


def test_one_passing_fault_at_any_request_is_survived_with_one_commit(hub, folder):
    zoo_hub.push(folder, "me/count", tag="v1")
    count = len(hub.requests)
    for fault in (429, 500, 502, 503, "drop", "lose", "cut", "html"):
        for failing in range(1, count + 1):
            name = f"me/{fault}-{failing}"
            hub.blobs.clear()
            hub.fail(fault, at=failing)
            assert zoo_hub.push(folder, name, tag="v1").files
            hub.heal()
            assert len(hub.commits(name)) == 2, (fault, failing)
            assert on_hub(hub, name, "v1") == content(folder)


def test_a_commit_whose_answer_was_lost_is_recognised(hub, folder):
    hub.fail("lose", path="/commit/")
    pushed = zoo_hub.push(folder, "me/tiny")
    assert pushed.created
    assert pushed.commit == hub.repos["me/tiny"].refs["main"]
    assert sum("/commit/" in path for _, path in hub.requests) == 1


def test_a_wait_is_announced_and_as_long_as_the_hub_asks_for(hub, folder, monkeypatch):
    slept: list[float] = []
    said: list[str] = []
    monkeypatch.setattr("time.sleep", slept.append)
    hub.fail(429, path="/api/repos/create", headers={"Retry-After": "40"})
    hub.fail(429, path="/commit/", headers={"RateLimit": '"api";r=0;t=70'})
    hub.fail(429, path="/api/whoami-v2", headers={"Retry-After": "20"})
    zoo_hub.check_write_access("me/tiny", say=said.append)
    assert said.pop() == "the Hub answers 429; trying again in 20 s"
    assert slept.pop() == 20
    zoo_hub.push(folder, "me/tiny", say=said.append)
    assert [wait for wait in slept if wait >= 10] == [40, 70]
    assert [line for line in said if "429" in line] == [f"the Hub answers 429; trying again in {n} s" for n in (40, 70)]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "hf auth login"),
        (403, "write access"),
        (404, "no such repo"),
        (409, "push again"),
        (412, "push again"),
        (413, "storage limits"),
    ],
)
def test_a_refusal_is_one_line_with_what_to_do_and_is_not_tried_again(hub, folder, status, words):
    hub.fail(status, path="/commit/")
    with pytest.raises(HubError, match=words) as caught:
        zoo_hub.push(folder, "me/tiny")
    assert "\n" not in str(caught.value)
    assert hub_server.TOKEN not in str(caught.value)
    assert sum("/commit/" in path for _, path in hub.requests) == 1
    assert hub.commits("me/tiny") == ["initial commit"]


def test_a_storage_that_fails_for_longer_than_the_client_waits_is_waited_for(hub, folder):
    said: list[str] = []
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    hub.fail(503, path=weights, times=8)  # the client itself gives up after six, and hides why in a RuntimeError
    zoo_hub.push(folder, "me/tiny", say=said.append)
    assert any("503; trying again" in line for line in said)
    assert on_hub(hub, "me/tiny") == content(folder)


def test_no_message_shows_a_token_or_a_signature(hub, folder, monkeypatch):
    hub.fail(403, path="/cdn/", times=None)
    with pytest.raises(HubError, match=r"^push to me/tiny: .*403"):
        zoo_hub.push(folder, "me/tiny")
    monkeypatch.setenv("HF_TOKEN", "a-token-of-a-private-hub")
    error = RuntimeError(f"a-token-of-a-private-hub and\n{hub_server.TOKEN} at https://cdn.x/a?X-Amz-Signature=secret")
    assert retries.one_line(error) == "hf_*** and hf_*** at https://cdn.x/a"


def test_no_log_of_the_client_shows_a_token_whatever_its_level(hub, folder, caplog):
    caplog.set_level("DEBUG")
    zoo_hub.push(folder, "me/tiny", tag="v1")
    zoo_hub.fetch("me/tiny")
    hub.fail(403, path="/cdn/", times=None)
    with pytest.raises(HubError):
        zoo_hub.push(folder, "me/other")
    assert caplog.records
    assert hub_server.TOKEN not in caplog.text


def test_a_card_that_the_hub_refuses_is_told_before_anything_is_sent(hub, folder):
    (folder / "README.md").write_text("---\nlicense: [\n---\n")
    with pytest.raises(HubError, match='"license" must be a string'):
        zoo_hub.push(folder, "me/tiny")
    assert hub.blobs == {}


def test_a_bug_keeps_its_traceback():
    with pytest.raises(KeyError), retries.as_hub_error("x", {}):
        raise KeyError("a")


# -- the right to write ------------------------------------------------------------------------------------------------


def _scoped(name, *permissions):
    return {
        "role": "fineGrained",
        "fineGrained": {"scoped": [{"entity": {"name": name}, "permissions": [*permissions]}]},
    }


def test_the_right_to_write_is_known_before_training(hub, monkeypatch):
    hub.orgs.update(ours="write", theirs="read")
    zoo_hub.check_write_access("me/new")
    zoo_hub.check_write_access("ours/new")
    for repo, words in (
        ("theirs/new", "may not write to theirs"),
        ("somebody/else", "may not write to somebody"),
        ("me/a b", "a b"),
    ):
        with pytest.raises(HubError, match=words):
            zoo_hub.check_write_access(repo)
    for token, words in (
        (hub_server.READ_ONLY, "may only read"),
        ("hf_" + "x" * 34, "hf auth login"),
        ("", "no token"),
    ):
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(HubError, match=words) as caught:
            zoo_hub.check_write_access("me/new")
        assert "xxxx" not in str(caught.value)
    assert {method for method, _ in hub.requests} == {"GET"}, "nothing was made while asking"


def test_a_fine_grained_token_may_write_where_it_says_so(hub, monkeypatch, folder):
    monkeypatch.setenv("HF_TOKEN", hub_server.FINE_GRAINED)
    for name, permissions, may in (
        ("me", ["repo.content.read", "repo.write"], True),
        ("me/new", ["repo.write"], True),
        ("me", ["repo.content.read"], False),
        ("me/other", ["repo.write"], False),
    ):
        hub.tokens[hub_server.FINE_GRAINED] = _scoped(name, *permissions)
        with contextlib.nullcontext() if may else pytest.raises(HubError, match="may only read"):
            zoo_hub.check_write_access("me/new")
        with contextlib.nullcontext() if may else pytest.raises(HubError, match="write access"):
            zoo_hub.push(folder, "me/new")
        hub.repos.clear()


def test_a_recipe_that_publishes_fails_before_training_without_the_right(hub, monkeypatch, tmp_path):
    tiny.backbone(tmp_path / "backbone")
    rows = [json.dumps({"anchor": t, "positive": t[::-1]}) for t in tiny.SENTENCES]
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
    assert {"README.md", "recipe.yaml", "lock.json", "metrics.jsonl", "model.safetensors"} <= set(
        hub.files("me/published")
    )
    np.testing.assert_array_equal(zoo.from_pretrained("me/published").encode(["the dog"]), encoder.encode(["the dog"]))


# -- what the Hub makes of it ------------------------------------------------------------------------------------------


def test_the_weights_are_read_back_from_their_storage_by_range_after_a_push(hub, folder):
    zoo_hub.push(folder, "me/tiny")
    sent = [path for method, path in hub.requests if method == "POST" and "/commit/" in path]
    after = hub.requests[max(i for i, (_, path) in enumerate(hub.requests) if path == sent[-1]) :]
    assert any(method == "GET" and path.startswith("/cdn/") for method, path in after)
    hub.repos.clear()
    hub.served.clear()
    hub.damage = 1
    with pytest.raises(HubError, match=r"does not hold what was sent: model\.safetensors"):
        zoo_hub.push(folder, "me/tiny")


def test_a_card_that_the_hub_reads_otherwise_is_told(hub, folder, monkeypatch):
    monkeypatch.setattr(hub, "card", lambda readme: {"license": "gpl"})
    with pytest.raises(HubError, match=r"reads license 'gpl' from the card, not 'apache-2\.0'"):
        zoo_hub.push(folder, "me/tiny")


def test_weights_that_are_none_are_not_sent(hub, folder):
    (folder / "model.safetensors").write_bytes(b"x" * 100)
    manifest.write(folder)
    with pytest.raises(ArtefactError, match="cannot be read as safetensors"):
        zoo_hub.push(folder, "me/tiny")
    assert hub.requests == []


def test_with_xet_a_push_is_still_one_commit_on_the_head_that_was_looked_at(hub, folder, monkeypatch, tmp_path):
    """The real hf_xet moves the bytes of large files; the commit that names them is the same one."""
    pytest.importorskip("hf_xet")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    with xet_store.beside(hub):
        zoo_hub.push(folder, "me/tiny")
        assert sum(path.startswith("/v1/xorbs/") for _, path in hub.requests) > 0
        assert not any(path.endswith("/objects/batch") for _, path in hub.requests), "and nothing went through LFS"
        assert hub.commits("me/tiny") == ["initial commit", "Upload run with zoo"]
        assert on_hub(hub, "me/tiny") == content(folder)
        assert not zoo_hub.push(folder, "me/tiny").created
        hub.fail(lambda: hub.repos["me/tiny"].add("meanwhile", {}), path="/v1/shards")
        with pytest.raises(HubError, match="somebody else changed the repo"):
            zoo_hub.push(other_version(folder, tmp_path), "me/tiny")
        assert hub.commits("me/tiny")[-1] == "meanwhile"
        for path in ("/v1/xorbs/", "/v1/shards", "/xet-write-token/", "/commit/"):
            hub.fail(403, path=path, times=None)
            with pytest.raises(HubError) as caught:
                zoo_hub.push(other_version(folder, tmp_path / path.strip("/"), seed=len(path)), "me/tiny")
            assert "\n" not in str(caught.value)
            assert hub.commits("me/tiny")[-1] == "meanwhile", path
            hub.heal()
    told = {token for token in hub.cdn_tokens if token}
    assert told == {f"Bearer {xet_store.TOKEN}"}, "the Hub's own token is for the Hub alone"

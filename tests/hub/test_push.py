"""Push through the real client to the test Hub: one commit, after which the repository holds exactly the folder."""

from __future__ import annotations

import json
import re
import shutil

import hub_server
import pytest
import xet_store
from published import read_folder, read_repo, write_next_version

from zoo.artefact import manifest
from zoo.cli.main import main
from zoo.core.errors import HubError
from zoo.hub import commit as hub_commit
from zoo.hub.push import check_write_access, push


def test_a_push_is_one_commit_with_exactly_the_folder_and_a_second_push_adds_none(hub, folder):
    result = push(folder, "me/tiny", private=True)
    assert result.created
    assert hub.repos["me/tiny"].private
    assert hub.list_messages("me/tiny") == ["initial commit", "Upload run with zoo"]
    assert read_repo(hub, "me/tiny") == read_folder(folder)
    assert dict(result.files) == {name: len(content) for name, content in read_folder(folder).items()}
    assert result.commit == hub.repos["me/tiny"].refs["main"]
    assert not any(hub.cdn_tokens), "the token goes to the Hub alone"
    second = push(folder, "me/tiny", private=True)
    assert (second.created, second.commit) == (False, result.commit)
    assert len(hub.list_messages("me/tiny")) == 2


def test_the_commit_is_named_after_the_run_or_after_the_folder(hub, folder, tmp_path):
    push(shutil.copytree(folder, tmp_path / "my-model"), "me/tiny")
    assert hub.list_messages("me/tiny")[-1] == "Upload my-model with zoo"


def test_stale_files_go_in_the_same_commit_and_files_of_other_kinds_stay(hub, folder, tmp_path):
    push(write_next_version(folder, tmp_path), "me/tiny")
    (folder / "vocab.txt").write_bytes(b"x" * 2_300_000)
    manifest.write(folder)
    other_files = {"demo.ipynb": b"{}", ".eval_results/T.yaml": b"a: 1"}
    hub.repos["me/tiny"].add("other files", {**hub.read_files("me/tiny"), **other_files})
    lines: list[str] = []
    push(folder, "me/tiny", say=lines.append)
    assert read_repo(hub, "me/tiny") == {**read_folder(folder), **other_files}
    assert len(hub.list_messages("me/tiny")) == 4
    assert lines == ["sending 4 files, 2.3 MB, removing notes.md of an older version"]
    push(folder, "me/other", say=lines.append)
    assert lines[1:] == [f"sending {len(read_folder(folder))} files, 2.3 MB"]


def test_a_branch_leaves_main_alone_and_a_tag_names_the_commit(hub, folder):
    result = push(folder, "me/tiny", branch="next", tag="v1")
    refs = hub.repos["me/tiny"].refs
    assert refs["next"] == refs["v1"] == result.commit != refs["main"]
    assert not push(folder, "me/tiny", branch="next", tag="v1").created
    push(folder, "me/tiny", branch="next", tag="v1-also")
    assert refs["v1-also"] == result.commit


def test_a_tag_of_another_commit_is_refused_before_anything_is_sent(hub, folder, tmp_path):
    result = push(folder, "me/tiny", tag="v1")
    hub.requests.clear()
    with pytest.raises(HubError, match="v1 already names"):
        push(write_next_version(folder, tmp_path), "me/tiny", tag="v1")
    assert hub.repos["me/tiny"].refs["main"] == hub.repos["me/tiny"].refs["v1"] == result.commit
    assert not any("preupload" in path or "/cdn/" in path for _, path in hub.requests)


def test_a_pull_request_leaves_main_alone_and_is_opened_once(hub, folder):
    push(folder, "me/before")
    hub.fail("lose", path="/commit/")
    result = push(folder, "me/tiny", create_pr=True)
    assert (result.created, result.url) == (True, f"{hub.endpoint}/me/tiny/discussions/1")
    assert read_repo(hub, "me/tiny") == {}
    assert read_repo(hub, "me/tiny", result.commit) == read_folder(folder)
    second = push(folder, "me/tiny", create_pr=True)
    assert (second.created, second.url, second.commit) == (False, result.url, result.commit)
    assert len(hub.list_messages("me/tiny")) == 2
    with pytest.raises(HubError, match="leave branch and tag out"):
        push(folder, "me/tiny", create_pr=True, tag="v1")


def test_only_the_newest_pull_requests_are_searched(hub, folder, tmp_path, monkeypatch):
    push(folder, "me/tiny", create_pr=True)
    push(write_next_version(folder, tmp_path), "me/tiny", create_pr=True)
    assert not push(folder, "me/tiny", create_pr=True).created
    monkeypatch.setattr(hub_commit, "MAX_PULL_REQUESTS", 1)
    assert push(folder, "me/tiny", create_pr=True).created


def test_a_private_model_is_not_sent_to_a_public_repo(hub, folder):
    hub.repos["me/open"] = hub_server.Repo()
    hub.repos["me/open"].add("initial commit", {})
    with pytest.raises(HubError, match=r"me/open: is public"):
        push(folder, "me/open", private=True)
    with pytest.raises(HubError, match=r"me/open: is public"):
        check_write_access("me/open", private=True)
    check_write_access("me/open")
    check_write_access("me/not-yet", private=True)
    assert hub.list_messages("me/open") == ["initial commit"]
    assert hub.blobs == {}


def test_a_push_without_private_leaves_the_choice_to_the_organisation(hub, folder, monkeypatch):
    from huggingface_hub import HfApi

    arguments = {}
    create_repo = HfApi.create_repo
    monkeypatch.setattr(
        HfApi, "create_repo", lambda api, repo, **kw: arguments.update(kw) or create_repo(api, repo, **kw)
    )
    push(folder, "me/tiny")
    assert arguments["private"] is None, "False would make the repository public against the organisation's default"


def test_a_change_by_somebody_else_is_not_overwritten(hub, folder, tmp_path):
    push(folder, "me/tiny")
    for moment in ("/preupload/", "/commit/"):

        def push_by_somebody_else(moment=moment):
            hub.repos["me/tiny"].add(moment, {**hub.read_files("me/tiny"), "theirs.txt": b"x"})

        hub.fail(push_by_somebody_else, path=moment)
        with pytest.raises(HubError, match="somebody else"):
            push(write_next_version(folder, tmp_path / moment.strip("/")), "me/tiny")
        assert hub.list_messages("me/tiny")[-1] == moment


def test_a_dry_run_sends_no_request(hub, folder):
    result = push(folder, "me/tiny", dry_run=True)
    assert dict(result.files) == {name: len(content) for name, content in read_folder(folder).items()}
    assert (result.url, result.commit, result.created) == (f"{hub.endpoint}/me/tiny", "", False)
    assert hub.requests == []


def test_every_option_of_the_command_reaches_the_hub(hub, folder, capsys):
    assert main(["push", str(folder), "me/tiny", "--private", "--branch", "next", "--tag", "v1"]) == 0
    output = capsys.readouterr()
    repo = hub.repos["me/tiny"]
    assert repo.private
    assert repo.refs["next"] == repo.refs["v1"] != repo.refs["main"]
    assert repo.refs["v1"] in output.out
    assert "sending 7 files" in output.err
    assert "model.safetensors" in output.err or "LFS files: 100%" in output.err, "a progress bar of the upload"
    assert main(["push", str(folder), "me/other", "--create-pr"]) == 0
    assert "discussions/1" in capsys.readouterr().out
    assert read_repo(hub, "me/other") == {}
    assert main(["push", str(folder), "me/other", "--dry-run"]) == 0


# -- verification of the commit ----------------------------------------------------------------------------------------


def test_the_headers_of_the_weights_are_read_back_from_the_storage(hub, folder):
    push(folder, "me/tiny")
    commit = max(number for number, (_, path) in enumerate(hub.requests) if "/commit/" in path)
    assert any(method == "GET" and path.startswith("/cdn/") for method, path in hub.requests[commit:])
    hub.repos.clear()
    hub.downloads.clear()
    hub.damage = 2  # also when it is looked at again
    with pytest.raises(HubError, match=r"does not hold what was sent: model\.safetensors"):
        push(folder, "me/tiny")


def test_a_commit_in_which_a_file_differs_is_an_error(hub, folder, monkeypatch):
    add = hub_server.Repo.add

    def add_other_files(repo, message, tree, branch="main"):
        return add(repo, message, {**tree, "config.json": b"{}"} if message.startswith("Upload") else tree, branch)

    monkeypatch.setattr(hub_server.Repo, "add", add_other_files)
    with pytest.raises(HubError, match=r"does not hold what was sent: config\.json; push again"):
        push(folder, "me/tiny")


def test_a_card_that_the_hub_reads_differently_is_an_error(hub, folder, monkeypatch):
    monkeypatch.setattr(hub, "read_card", lambda readme: {"license": "gpl"})
    with pytest.raises(HubError, match=r"reads license 'gpl' from the card, not 'apache-2\.0'"):
        push(folder, "me/tiny")


@pytest.mark.parametrize("key", ["license", "library_name", "pipeline_tag", "base_model", "language", "tags"])
def test_every_entry_of_the_card_by_which_the_hub_lists_a_model_is_compared(hub, folder, monkeypatch, key):
    card = {
        "license": "mit",
        "library_name": "zoo",
        "pipeline_tag": "x",
        "base_model": "a/b",
        "language": "en",
        "tags": [],
    }
    text = "".join(f"{name}: {json.dumps(value)}\n" for name, value in card.items())
    (folder / "README.md").write_text(f"---\n{text}---\n")
    monkeypatch.setattr(hub, "read_card", lambda readme: card | {"arxiv": "1", key: "other"})
    with pytest.raises(
        HubError, match=rf"the Hub reads {key} \S*other\S* from the card, not {re.escape(repr(card[key]))}"
    ):
        push(folder, "me/tiny")


def test_a_card_that_the_hub_has_not_read_yet_is_not_an_error(hub, folder, monkeypatch):
    monkeypatch.setattr(hub, "read_card", lambda readme: {})
    assert push(folder, "me/tiny").created


def test_a_card_entry_may_be_one_value_or_a_list_of_one(hub, folder, monkeypatch):
    (folder / "README.md").write_text("---\nlicense: apache-2.0\nlanguage: en\n---\n")
    monkeypatch.setattr(hub, "read_card", lambda readme: {"license": "apache-2.0", "language": ["en"]})
    assert push(folder, "me/tiny").created


def test_a_card_that_the_hub_refuses_is_reported_before_anything_is_sent(hub, folder):
    (folder / "README.md").write_text("---\nlicense: [mit]\n---\n")
    with pytest.raises(HubError, match='"license" must be a string'):
        push(folder, "me/tiny")
    assert hub.blobs == {}


def test_the_id_of_a_file_is_a_blob_id_or_a_sha256_and_an_empty_id_matches_no_file(tmp_path):
    (tmp_path / "empty").touch()
    blob_id = hub_server.compute_blob_id(b"")
    sha256 = hub_server.describe_file("a.safetensors", b"")["lfs"]["sha256"]
    ids = (blob_id, sha256, "", blob_id[::-1], sha256[::-1])
    assert [hub_commit.has_id(tmp_path / "empty", object_id) for object_id in ids] == [True, True, False, False, False]
    assert not hub_commit.has_id(tmp_path / "missing", ""), "a file that the Hub does not have is not read"


# -- addresses and requests of the client ------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ["", "http://hub.test", "http://hub.test/"])
def test_the_client_talks_to_hf_endpoint(monkeypatch, endpoint):
    from huggingface_hub import constants

    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert hub_commit.create_api().endpoint == (endpoint.rstrip("/") or constants.ENDPOINT)


def test_a_commit_and_its_files_come_from_one_request(hub, folder):
    push(folder, "me/tiny")
    hub.requests.clear()
    tree = hub_commit.fetch_tree(hub_commit.create_api(), "me/tiny", None)
    assert tree.commit == hub.repos["me/tiny"].refs["main"]
    assert set(tree.ids) == set(hub.read_files("me/tiny"))
    assert len(hub.requests) == 1


def test_with_xet_a_push_is_one_commit_on_the_head_that_it_was_planned_on(hub, folder, monkeypatch, tmp_path):
    """The real hf_xet moves the bytes of large files. The commit that names them is the same."""
    pytest.importorskip("hf_xet")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    with xet_store.attach(hub):
        push(folder, "me/tiny")
        assert any(path.startswith("/v1/xorbs/") for _, path in hub.requests)
        assert not any(path.endswith("/objects/batch") for _, path in hub.requests), "nothing goes through LFS"
        assert hub.list_messages("me/tiny") == ["initial commit", "Upload run with zoo"]
        assert read_repo(hub, "me/tiny") == read_folder(folder)
        assert not push(folder, "me/tiny").created
        hub.fail(lambda: hub.repos["me/tiny"].add("meanwhile", {}), path="/v1/shards")
        with pytest.raises(HubError, match="somebody else changed the repo"):
            push(write_next_version(folder, tmp_path), "me/tiny")
        assert hub.list_messages("me/tiny")[-1] == "meanwhile"
        for path in ("/v1/xorbs/", "/v1/shards", "/xet-write-token/", "/commit/"):
            hub.fail(403, path=path, times=None)
            with pytest.raises(HubError, match="^push to me/tiny: ") as caught:
                push(write_next_version(folder, tmp_path / path.strip("/"), seed=len(path)), "me/tiny")
            assert "\n" not in str(caught.value)
            assert hub.list_messages("me/tiny")[-1] == "meanwhile", path
            hub.heal()
    tokens = {token for token in hub.cdn_tokens if token}
    assert tokens == {f"Bearer {xet_store.TOKEN}"}, "the Hub's own token is for the Hub alone"


def test_a_licence_is_part_of_the_model(hub, folder):
    (folder / "LICENSE").write_text("Apache")
    push(folder, "me/unlisted")
    assert read_repo(hub, "me/unlisted")["LICENSE"] == b"Apache", "people may add it without a new manifest"
    manifest.write(folder)
    push(folder, "me/listed")
    assert read_repo(hub, "me/listed")["LICENSE"] == b"Apache"


def test_a_dead_model_is_not_sent_unless_it_is_wanted_anyway(hub, folder):
    report = json.loads((folder / "report.json").read_text()) if (folder / "report.json").exists() else {"results": []}
    report["health"] = [{"level": "dead", "message": "all codes are equal", "advice": "lower the decay"}]
    (folder / "report.json").write_text(json.dumps(report))
    manifest.write(folder)
    with pytest.raises(HubError, match="push to me/dead: the model is dead: all codes are equal; .* --anyway"):
        push(folder, "me/dead")
    assert main(["push", str(folder), "me/dead"]) == 1
    assert "me/dead" not in hub.repos
    assert main(["push", str(folder), "me/dead", "--anyway"]) == 0
    assert "me/dead" in hub.repos

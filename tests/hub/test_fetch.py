"""Fetch through the real client from the test Hub: one commit, every byte verified, complete or an error."""

from __future__ import annotations

import contextlib
from pathlib import Path

import hub_server
import numpy as np
import pytest
import tiny
from published import read_folder, write_next_version

import zoo
from zoo.artefact import model_folder, preflight
from zoo.core.errors import ArtefactError, HubError
from zoo.hub.fetch import fetch
from zoo.hub.push import push
from zoo.text import backbone


def create_repo(hub: hub_server.Hub, name: str, files: dict[str, bytes]) -> str:
    """Create a repository with one commit and return the commit's id."""
    hub.repos[name] = hub_server.Repo()
    return hub.repos[name].add("c", files)


def test_a_pushed_model_loads_from_an_empty_cache_with_zoo_and_with_sentence_transformers(hub, model, tmp_path):
    from sentence_transformers import SentenceTransformer

    push(model, "me/tiny", tag="v1")
    expected = zoo.from_pretrained(model).encode(tiny.SENTENCES[:9])
    np.testing.assert_array_equal(zoo.from_pretrained("me/tiny", revision="v1").encode(tiny.SENTENCES[:9]), expected)
    other_library = SentenceTransformer("me/tiny", device="cpu", cache_folder=str(tmp_path / "st"))
    np.testing.assert_allclose(other_library.encode(tiny.SENTENCES[:9]), expected, atol=1e-6)
    assert not any(hub.cdn_tokens), "the token goes to the Hub alone"


def test_an_encoder_pushes_itself(hub, model):
    encoder = zoo.from_pretrained(model)
    assert encoder.push_to_hub("me/itself", private=True).startswith(f"{hub.endpoint}/me/itself/tree/")
    assert hub.list_messages("me/itself")[-1] == "Upload tiny with zoo"
    np.testing.assert_array_equal(zoo.from_pretrained("me/itself").encode(["the dog"]), encoder.encode(["the dog"]))


def test_weights_in_shards_are_pushed_and_load_with_zoo_and_with_sentence_transformers(hub, model, tmp_path):
    from sentence_transformers import SentenceTransformer

    encoder = zoo.from_pretrained(model)
    folder = model_folder.save(encoder, tmp_path / "sharded", max_shard_size=20_000)
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert not (folder / "model.safetensors").exists()
    push(folder, "me/sharded")
    expected = encoder.encode(tiny.SENTENCES[:9])
    np.testing.assert_allclose(zoo.from_pretrained("me/sharded").encode(tiny.SENTENCES[:9]), expected, atol=1e-6)
    other_library = SentenceTransformer(str(fetch("me/sharded")), device="cpu")
    np.testing.assert_allclose(other_library.encode(tiny.SENTENCES[:9]), expected, atol=1e-6)
    shards[0].unlink()
    with pytest.raises(ArtefactError, match=f"{shards[0].name}: missing"):
        zoo.from_pretrained(folder)


def test_all_files_are_of_one_commit_and_only_those_of_a_model_are_downloaded(hub, folder, tmp_path):
    first = push(folder, "me/tiny")
    hub.repos["me/tiny"].add(
        "other files", {**hub.read_files("me/tiny"), "evil.py": b"x", "a.bin": b"x", ".eval_results/T.yaml": b"x"}
    )
    # Somebody pushes during the download. None of these files may be mixed with those of the older commit.
    hub.fail(lambda: push(write_next_version(folder, tmp_path), "me/tiny"), path="/resolve/")
    assert read_folder(fetch("me/tiny")) == read_folder(folder)
    assert "notes.md" in read_folder(fetch("me/tiny"))
    assert read_folder(fetch("me/tiny", first.commit)) == read_folder(folder)
    assert not any(name in path for _, path in hub.requests for name in ("evil.py", "a.bin", ".eval_results"))


def test_a_local_folder_is_returned_as_it_is(hub, folder):
    assert fetch(str(folder)) == folder
    assert hub.requests == []


# -- damage and faults -------------------------------------------------------------------------------------------------


def test_a_damaged_download_is_repeated_once(hub, folder):
    push(folder, "me/tiny")
    hub.damage = 1  # of every file, the manifest included
    assert read_folder(fetch("me/tiny")) == read_folder(folder)


def test_the_repeated_download_is_of_the_same_commit(hub, folder, tmp_path):
    push(folder, "me/tiny", tag="v1")
    before = read_folder(folder)
    push(write_next_version(folder, tmp_path), "me/tiny")
    hub.damage = 1
    assert read_folder(fetch("me/tiny", "v1")) == before


def test_a_download_that_is_damaged_twice_is_refused(hub, folder):
    push(folder, "me/tiny")
    hub.damage = 2
    with pytest.raises(HubError, match="arrived damaged twice"):
        fetch("me/tiny")
    hub.damage = 0
    assert read_folder(fetch("me/tiny")) == read_folder(folder), "the damaged file is not taken from the cache"


def test_a_repo_that_does_not_agree_with_its_manifest_is_refused(hub, folder):
    push(folder, "me/tiny")
    size = (folder / "model.safetensors").stat().st_size
    hub.repos["me/tiny"].add("by hand", {**hub.read_files("me/tiny"), "model.safetensors": bytes(size)})
    with pytest.raises(ArtefactError, match="altered"):
        fetch("me/tiny")


@pytest.mark.slow
@pytest.mark.parametrize("fault", [503, "drop"])
def test_a_fetch_with_a_fault_at_any_request_is_complete_or_an_error_and_another_finishes_it(hub, folder, fault):
    push(folder, "me/count")
    hub.requests.clear()
    fetch("me/count")
    for number in range(1, len(hub.requests) + 1):
        for times in (1, None):
            name = f"me/{number}-{times}"
            hub.repos[name] = hub.repos["me/count"]  # under another name, so that the cache is empty
            hub.fail(fault, at=number, times=times)
            with pytest.raises(HubError, match=name) if times is None else contextlib.nullcontext():
                fetch(name)
            with contextlib.suppress(HubError):  # still without the Hub: an incomplete download is not a model
                assert read_folder(fetch(name)) == read_folder(folder)
            hub.heal()
            assert read_folder(fetch(name)) == read_folder(folder)


# -- the cache ---------------------------------------------------------------------------------------------------------


def test_without_the_hub_the_files_come_from_the_cache(hub, folder, tmp_path, monkeypatch):
    from huggingface_hub import constants

    push(folder, "me/tiny", tag="v1")
    push(write_next_version(folder, tmp_path), "me/tiny")
    tagged, newest = fetch("me/tiny", "v1"), fetch("me/tiny")
    assert tagged != newest
    for reason in ("no network", "HF_HUB_OFFLINE"):
        if reason == "HF_HUB_OFFLINE":
            monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        else:
            hub.fail("drop", times=None)
        assert fetch("me/tiny") == newest
        assert fetch("me/tiny", "v1") == fetch("me/tiny", tagged.name) == tagged
        for reference, revision in (("me/never-seen", None), ("me/tiny", "v2")):
            with pytest.raises(HubError, match="the cache does not hold"):
                fetch(reference, revision)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        push(folder, "me/tiny")


def test_a_model_that_was_deleted_from_the_hub_does_not_come_from_the_cache(hub, folder):
    push(folder, "me/tiny")
    fetch("me/tiny")
    del hub.repos["me/tiny"]
    with pytest.raises(HubError, match="check the name"):
        fetch("me/tiny")


def test_a_fetch_by_the_id_of_a_commit_records_no_name_for_it(hub, folder):
    commit = push(folder, "me/tiny").commit
    cache = fetch("me/tiny", commit).parents[1]
    assert not (cache / "refs" / commit).exists()
    fetch("me/tiny")
    assert (cache / "refs" / "main").read_text() == commit


def test_an_altered_cache_is_refused_offline_and_repaired_online(hub, folder):
    push(folder, "me/tiny")
    weights = fetch("me/tiny") / "model.safetensors"
    weights.resolve().write_bytes(bytes(weights.stat().st_size))
    hub.fail("drop", times=None)
    with pytest.raises(ArtefactError, match=r"model\.safetensors: its sha256"):
        fetch("me/tiny")
    hub.heal()
    assert read_folder(fetch("me/tiny")) == read_folder(folder)


def test_files_that_no_model_has_and_the_state_of_a_training_are_not_downloaded(hub):
    from zoo.artefact import allowed_files

    files = {"config.json": b"{}", "model.safetensors": b"x", "vocab.txt": b"a", "1_Pooling/config.json": b"{}"}
    others = ("train.py", "rows.jsonl", "notes.txt", ".hidden.json", "a/.b.json", "checkpoint-3/model.safetensors")
    others += ("a/optimizer.safetensors", "trainer_state.json", ".eval_results/zoo-STS12.yaml")
    create_repo(hub, "me/full", files | dict.fromkeys(others, b"{}"))
    folder = fetch("me/full")
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == files.keys()
    assert not any(allowed_files.is_allowed(name) for name in others)


def test_a_pickle_that_another_client_left_in_the_cache_is_not_opened(hub):
    from huggingface_hub import HfApi

    create_repo(hub, "me/pickle", {"pytorch_model.bin": b"x", "config.json": b"{}"})
    HfApi(endpoint=hub.endpoint).snapshot_download("me/pickle")
    hub.fail("drop", times=None)
    with pytest.raises(ArtefactError, match="pickles"):
        fetch("me/pickle")


def test_a_link_in_the_cache_to_a_file_of_this_machine_is_refused(hub, folder, tmp_path):
    files = {name: content for name, content in read_folder(folder).items() if name != "manifest.json"}
    create_repo(hub, "me/tiny", files)
    snapshot = fetch("me/tiny")  # its own files are links into the cache's store
    (tmp_path / "secret.json").write_text("{}")
    (snapshot / "more.json").symlink_to(tmp_path / "secret.json")
    hub.fail("drop", times=None)
    with pytest.raises(ArtefactError, match="link that leaves the folder"):
        fetch("me/tiny")


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_a_model_that_must_not_be_opened_is_refused_with_the_reason_before_a_download(hub):
    for name, files, words in (
        ("me/pickle", {"pytorch_model.bin": b"x", "config.json": b"{}"}, "pickles"),
        ("me/empty", {"config.json": b"{}"}, "no safetensors"),
        ("me/climber", {"../../evil.safetensors": b"x"}, "leaves the folder"),
    ):
        create_repo(hub, name, files)
        with pytest.raises(ArtefactError, match=words):
            fetch(name)
    assert not any("/resolve/" in path for _, path in hub.requests)


def test_a_missing_private_or_gated_repo_is_one_line_with_advice(hub, folder, monkeypatch):
    push(folder, "me/secret", private=True)
    push(folder, "me/gated")
    hub.repos["me/gated"].gated = True
    for repo, revision, token, words in (
        ("me/nowhere", None, hub_server.TOKEN, "check the name"),
        ("me/gated", "v9", hub_server.TOKEN, "check the name"),
        ("me/secret", None, "", "hf auth login"),
        ("me/gated", None, hub_server.TOKEN, r"not in the authorized list.*; ask for access"),
        ("me/gated", None, "hf_" + "x" * 34, "hf auth login"),
        ("not a name", None, hub_server.TOKEN, "not a name"),
    ):
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(HubError, match=words) as caught:
            fetch(repo, revision)
        assert "\n" not in str(caught.value)
        assert "hf_" not in str(caught.value)


def test_a_manifest_that_is_too_large_is_refused_before_it_is_read(hub, folder, monkeypatch):
    monkeypatch.setitem(preflight.LARGE, "manifest.json", 10)
    create_repo(hub, "me/huge", read_folder(folder))
    with pytest.raises(ArtefactError, match="more than such a file can need"):
        fetch("me/huge")


def test_a_backbone_of_the_hub_comes_from_one_commit_and_is_checked_before_it_is_opened(hub, tmp_path):
    files = read_folder(Path(tiny.backbone(tmp_path / "b")))
    commit = create_repo(hub, "me/backbone", files)
    opened = backbone.load("me/backbone")
    assert (opened.name, opened.revision) == ("me/backbone", commit)
    hub.repos["me/backbone"].add("next", {**files, "config.json": b'{"auto_map": {"AutoModel": "evil.Model"}}'})
    with pytest.raises(ArtefactError, match="auto_map"):
        backbone.load("me/backbone")
    assert backbone.load("me/backbone", revision=commit).revision == commit

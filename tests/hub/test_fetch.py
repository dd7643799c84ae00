"""Fetch through the real client from a Hub on loopback: one commit, every byte checked, whole or an error."""

from __future__ import annotations

import contextlib
from pathlib import Path

import hub_server
import numpy as np
import pytest
import tiny
from published import content, other_version

import zoo
from zoo.artefact import manifest, model_folder, preflight
from zoo.core.errors import ArtefactError, HubError
from zoo.hub import push as zoo_hub
from zoo.text import backbone


def test_what_was_pushed_loads_from_a_clean_cache_with_zoo_and_with_sentence_transformers(hub, model, tmp_path):
    from sentence_transformers import SentenceTransformer

    zoo_hub.push(model, "me/tiny", tag="v1")
    expected = zoo.from_pretrained(model).encode(tiny.SENTENCES[:9])
    np.testing.assert_array_equal(zoo.from_pretrained("me/tiny", revision="v1").encode(tiny.SENTENCES[:9]), expected)
    plain = SentenceTransformer("me/tiny", device="cpu", cache_folder=str(tmp_path / "st"))
    np.testing.assert_allclose(plain.encode(tiny.SENTENCES[:9]), expected, atol=1e-6)
    assert not any(hub.cdn_tokens), "the token goes to the Hub alone"


def test_an_encoder_pushes_itself(hub, model):
    encoder = zoo.from_pretrained(model)
    assert encoder.push_to_hub("me/itself", private=True).startswith(f"{hub.endpoint}/me/itself/tree/")
    assert hub.commits("me/itself")[-1] == "Upload tiny with zoo"
    np.testing.assert_array_equal(zoo.from_pretrained("me/itself").encode(["the dog"]), encoder.encode(["the dog"]))


def test_a_fetch_is_of_one_commit_and_takes_only_what_belongs_to_a_model(hub, folder, tmp_path):
    first = zoo_hub.push(folder, "me/tiny")
    hub.repos["me/tiny"].add(
        "more", {**hub.files("me/tiny"), "evil.py": b"x", "a.bin": b"x", ".eval_results/T.yaml": b"x"}
    )
    # While the files are on their way, somebody pushes: none of theirs may come along.
    hub.fail(lambda: zoo_hub.push(other_version(folder, tmp_path), "me/tiny"), path="/resolve/")
    assert content(zoo_hub.fetch("me/tiny")) == content(folder)
    assert "notes.md" in content(zoo_hub.fetch("me/tiny"))
    assert content(zoo_hub.fetch("me/tiny", first.commit)) == content(folder)
    assert not any(name in path for _, path in hub.requests for name in ("evil.py", "a.bin", ".eval_results"))
    assert zoo_hub.fetch(str(folder)) == folder


def test_a_damaged_download_is_fetched_again_once(hub, folder):
    zoo_hub.push(folder, "me/tiny")
    hub.damage = 1  # the first copy of every file, the manifest's too
    assert content(zoo_hub.fetch("me/tiny")) == content(folder)


def test_a_download_that_is_damaged_twice_is_refused(hub, folder):
    zoo_hub.push(folder, "me/tiny")
    hub.damage = 2
    with pytest.raises(HubError, match="arrived damaged twice"):
        zoo_hub.fetch("me/tiny")
    hub.damage = 0
    assert content(zoo_hub.fetch("me/tiny")) == content(folder), "and not taken from the cache afterwards"


def test_a_repo_that_is_not_what_its_manifest_says_is_refused(hub, folder):
    zoo_hub.push(folder, "me/tiny")
    size = (folder / "model.safetensors").stat().st_size
    hub.repos["me/tiny"].add("by hand", {**hub.files("me/tiny"), "model.safetensors": bytes(size)})
    with pytest.raises(ArtefactError, match="altered"):
        zoo_hub.fetch("me/tiny")


@pytest.mark.parametrize("fault", [503, "drop"])
def test_a_fetch_that_dies_at_any_request_is_whole_or_an_error_and_is_finished_by_another(hub, folder, fault):
    zoo_hub.push(folder, "me/count")
    hub.requests.clear()
    zoo_hub.fetch("me/count")
    for dying in range(1, len(hub.requests) + 1):
        for times in (1, None):
            name = f"me/{dying}-{times}"
            hub.repos[name] = hub.repos["me/count"]  # another name: nothing of it is in the cache
            hub.fail(fault, at=dying, times=times)
            with pytest.raises(HubError) if times is None else contextlib.nullcontext():
                zoo_hub.fetch(name)
            with contextlib.suppress(HubError):  # without a network, what has come so far is no model
                assert content(zoo_hub.fetch(name)) == content(folder)
            hub.heal()
            assert content(zoo_hub.fetch(name)) == content(folder)


def test_offline_from_the_cache(hub, folder, tmp_path, monkeypatch):
    from huggingface_hub import constants

    zoo_hub.push(folder, "me/tiny", tag="v1")
    zoo_hub.push(other_version(folder, tmp_path), "me/tiny")
    tagged, newest = zoo_hub.fetch("me/tiny", "v1"), zoo_hub.fetch("me/tiny")
    assert tagged != newest
    for way in ("no network", "HF_HUB_OFFLINE"):
        if way == "HF_HUB_OFFLINE":
            monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        else:
            hub.fail("drop", times=None)
        assert zoo_hub.fetch("me/tiny") == newest
        assert zoo_hub.fetch("me/tiny", "v1") == zoo_hub.fetch("me/tiny", tagged.name) == tagged
        for ref, revision in (("me/never-seen", None), ("me/tiny", "v2")):
            with pytest.raises(HubError, match="the cache does not hold"):
                zoo_hub.fetch(ref, revision)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        zoo_hub.push(folder, "me/tiny")


def test_a_cache_that_was_altered_is_refused_offline_and_mended_online(hub, folder):
    zoo_hub.push(folder, "me/tiny")
    weights = zoo_hub.fetch("me/tiny") / "model.safetensors"
    weights.resolve().write_bytes(bytes(weights.stat().st_size))
    hub.fail("drop", times=None)
    with pytest.raises(ArtefactError, match=r"model\.safetensors: its sha256"):
        zoo_hub.fetch("me/tiny")
    hub.heal()
    assert content(zoo_hub.fetch("me/tiny")) == content(folder)


def test_what_must_not_be_opened_is_refused_with_the_reason_before_a_download(hub):
    for name, tree, words in (
        ("me/pickle", {"pytorch_model.bin": b"x", "config.json": b"{}"}, "pickles"),
        ("me/empty", {"config.json": b"{}"}, "no safetensors"),
        ("me/climber", {"../../evil.safetensors": b"x"}, "leaves the folder"),
    ):
        hub.repos[name] = hub_server.Repo()
        hub.repos[name].add("c", tree)
        with pytest.raises(ArtefactError, match=words):
            zoo_hub.fetch(name)
    assert not any("/resolve/" in path for _, path in hub.requests)


def test_a_pickle_that_another_client_left_in_the_cache_is_not_opened(hub):
    from huggingface_hub import HfApi

    hub.repos["me/pickle"] = hub_server.Repo()
    hub.repos["me/pickle"].add("c", {"pytorch_model.bin": b"x", "config.json": b"{}"})
    HfApi(endpoint=hub.endpoint).snapshot_download("me/pickle")
    hub.fail("drop", times=None)
    with pytest.raises(ArtefactError, match="pickles"):
        zoo_hub.fetch("me/pickle")


def test_missing_private_and_gated_are_one_line_with_what_to_do(hub, folder, monkeypatch):
    zoo_hub.push(folder, "me/secret", private=True)
    zoo_hub.push(folder, "me/gated")
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
            zoo_hub.fetch(repo, revision)
        assert "\n" not in str(caught.value)
        assert "hf_" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b'{"format": 2, "files": {}}',
        b'{"format": 1, "files": {"a": 1}}',
        b'{"format": 1, "files": {"../a": {}}}',
    ],
)
def test_a_manifest_that_is_none_is_an_artefact_error(folder, content):
    (folder / manifest.NAME).write_bytes(content)
    with pytest.raises(ArtefactError):
        manifest.verify(folder)


def test_the_manifest_names_what_is_missing_extra_and_altered(folder):
    manifest.verify(folder)
    (folder / "metrics.jsonl").unlink()
    (folder / "more.json").write_text("{}")
    (folder / "config.json").write_text("{}")
    path = folder / "model.safetensors"
    path.write_bytes(bytes(path.stat().st_size))
    found = manifest.faults(folder)
    assert {name: what.split()[0] for name, what in found.items()} == {
        "metrics.jsonl": "missing",
        "more.json": "extra:",
        "config.json": "has",
        "model.safetensors": "its",
    }


def test_a_backbone_of_the_hub_comes_from_one_commit_and_is_looked_at_before_it_is_opened(hub, tmp_path):
    there = hub.repos["me/backbone"] = hub_server.Repo()
    commit = there.add("c", content(Path(tiny.backbone(tmp_path / "b"))))
    body = backbone.load("me/backbone")
    assert (body.name, body.revision) == ("me/backbone", commit)
    there.add("next", {**there.commits[-1][2], "config.json": b'{"auto_map": {"AutoModel": "evil.Model"}}'})
    with pytest.raises(ArtefactError, match="auto_map"):
        backbone.load("me/backbone")
    assert backbone.load("me/backbone", revision=commit).revision == commit


def test_a_manifest_that_no_model_needs_is_refused_before_it_is_read(hub, folder, monkeypatch):
    monkeypatch.setitem(preflight.LARGE, "manifest.json", 10)
    hub.repos["me/huge"] = hub_server.Repo()
    hub.repos["me/huge"].add("c", content(folder))
    with pytest.raises(ArtefactError, match="more than such a file can need"):
        zoo_hub.fetch("me/huge")


def test_weights_larger_than_a_shard_are_split_saved_pushed_and_loaded_the_same(hub, model, tmp_path):
    from sentence_transformers import SentenceTransformer

    encoder = zoo.from_pretrained(model)
    folder = model_folder.save(encoder, tmp_path / "sharded", max_shard_size=20_000)
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert not (folder / "model.safetensors").exists()
    assert all(path.stat().st_size < 30_000 for path in shards)
    zoo_hub.push(folder, "me/sharded")
    expected = encoder.encode(tiny.SENTENCES[:9])
    np.testing.assert_allclose(zoo.from_pretrained("me/sharded").encode(tiny.SENTENCES[:9]), expected, atol=1e-6)
    stock = SentenceTransformer(str(zoo_hub.fetch("me/sharded")), device="cpu").encode(tiny.SENTENCES[:9])
    np.testing.assert_allclose(stock, expected, atol=1e-6)
    shards[0].unlink()
    with pytest.raises(ArtefactError, match=f"{shards[0].name}: missing"):
        zoo.from_pretrained(folder)

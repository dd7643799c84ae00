"""Push and fetch through the real client against a Hub on loopback, with faults at every request."""

from __future__ import annotations

import contextlib
import json

import hub_server
import numpy as np
import pytest
import tiny

import zoo
from zoo import artefact, manifest
from zoo import hub as zoo_hub
from zoo.errors import ArtefactError, HubError
from zoo.families.matryoshka_2d import Encoder, Spec


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    base = tmp_path_factory.mktemp("hub")
    encoder = Encoder.build(Spec(family="matryoshka-2d", backbone=tiny.backbone(base / "bert"), dims=(8, 16)))
    encoder.name = "tiny"
    return artefact.save(encoder, base / "model")


def test_a_push_is_one_commit_with_exactly_the_folder_and_a_second_adds_none(hub, folder):
    said: list[str] = []
    pushed = zoo_hub.push(folder, "me/tiny", private=True, say=said.append)
    assert pushed.created
    assert hub.repos["me/tiny"].private
    assert len(hub.commits("me/tiny")) == 2, "the repo's own first commit and ours"
    sent = hub.files("me/tiny")
    sent.pop(".gitattributes")
    assert sent == {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    again = zoo_hub.push(folder, "me/tiny")
    assert not again.created
    assert again.commit == pushed.commit
    assert len(hub.commits("me/tiny")) == 2


def test_what_was_pushed_loads_from_a_clean_cache_with_zoo_and_with_sentence_transformers(hub, folder, tmp_path):
    from sentence_transformers import SentenceTransformer

    zoo_hub.push(folder, "me/tiny", tag="v1")
    expected = zoo.from_pretrained(folder).encode(tiny.SENTENCES[:9])
    np.testing.assert_array_equal(zoo.from_pretrained("me/tiny", revision="v1").encode(tiny.SENTENCES[:9]), expected)
    plain = SentenceTransformer("me/tiny", device="cpu", cache_folder=str(tmp_path / "st"))
    np.testing.assert_allclose(plain.encode(tiny.SENTENCES[:9]), expected, atol=1e-6)
    assert not any(hub.cdn_tokens), "the token goes to the Hub alone"


@pytest.mark.parametrize("fault", [500, "drop", "lose"])
def test_a_push_that_dies_at_any_request_leaves_main_as_it_was_and_is_finished_by_another(hub, folder, fault):
    zoo_hub.push(folder, "me/count")
    count = len(hub.requests)
    for dying in range(1, count + 1):
        name = f"me/{fault}-{dying}"
        hub.requests.clear()
        hub.fault = lambda method, path, number, d=dying: fault if number >= d else None
        with contextlib.suppress(HubError):
            zoo_hub.push(folder, name)
        hub.fault = lambda method, path, number: None
        before = hub.commits(name) if name in hub.repos else []
        assert len(before) <= 2
        if len(before) == 2:
            assert set(hub.files(name)) >= set(manifest.read(folder)), "whole or not at all"
        zoo_hub.push(folder, name)
        assert len(hub.commits(name)) == 2


@pytest.mark.parametrize("status", [429, 503, "drop"])
def test_a_passing_fault_is_retried_with_a_word(hub, folder, status):
    said: list[str] = []
    hub.fault = lambda method, path, number: status if number == 2 else None
    assert zoo_hub.push(folder, "me/tiny", say=said.append).created
    assert any("trying again" in line for line in said)


def test_a_commit_whose_answer_was_lost_is_recognised(hub, folder):
    lost = []
    hub.fault = lambda method, path, number: "lose" if "/commit/" in path and not lost and not lost.append(1) else None
    zoo_hub.push(folder, "me/tiny")
    assert lost
    assert len(hub.commits("me/tiny")) == 2


def test_a_change_by_somebody_else_is_not_overwritten(hub, folder, tmp_path):
    zoo_hub.push(folder, "me/tiny")

    def meanwhile(method, path, number):
        if "/preupload/" in path:
            hub.repos["me/tiny"].add("theirs", {**hub.files("me/tiny"), "theirs.txt": b"x"})
            hub.fault = lambda *a: None

    hub.fault = meanwhile
    other = _changed(folder, tmp_path)
    with pytest.raises(HubError, match="somebody else"):
        zoo_hub.push(other, "me/tiny")
    assert hub.commits("me/tiny")[-1] == "theirs"


def _changed(folder, tmp_path):
    import shutil

    other = shutil.copytree(folder, tmp_path / "other")
    (other / "notes.txt").write_text("new")
    manifest.write(other)
    return other


def test_stale_files_go_in_the_same_commit(hub, folder, tmp_path):
    zoo_hub.push(_changed(folder, tmp_path), "me/tiny")
    zoo_hub.push(folder, "me/tiny")
    assert "notes.txt" not in hub.files("me/tiny")
    assert len(hub.commits("me/tiny")) == 3


def test_only_a_model_leaves_the_machine(hub, folder, tmp_path):
    other = _changed(folder, tmp_path)
    for name, content, words in (
        (".env", "A=1", "extra|kind of file"),
        ("optimizer.pt", "x", "kind of file"),
        ("notes.txt", hub_server.TOKEN, "token"),
    ):
        path = other / name
        path.write_text(content)
        manifest.write(other)
        with pytest.raises((HubError, ArtefactError), match=words) as caught:
            zoo_hub.push(other, "me/tiny")
        assert hub_server.TOKEN not in str(caught.value)
        path.unlink()
    assert hub.repos == {}


def test_dry_run_talks_to_nobody(hub, folder):
    listed = zoo_hub.push(folder, "me/tiny", dry_run=True)
    assert ("model.safetensors", (folder / "model.safetensors").stat().st_size) in listed.files
    assert hub.requests == []


def test_the_right_to_write_is_known_before_training(hub, monkeypatch):
    zoo_hub.may_write("me/new")
    with pytest.raises(HubError, match="may not write to somebody"):
        zoo_hub.may_write("somebody/else")
    monkeypatch.setenv("HF_TOKEN", hub_server.READ_ONLY)
    with pytest.raises(HubError, match="may only read"):
        zoo_hub.may_write("me/new")
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 34)
    with pytest.raises(HubError, match="hf auth login") as caught:
        zoo_hub.may_write("me/new")
    assert "xxxx" not in str(caught.value)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match="no token"):
        zoo_hub.may_write("me/new")


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


def test_a_damaged_download_is_fetched_again_once(hub, folder):
    zoo_hub.push(folder, "me/tiny")
    for oid in list(hub.blobs):
        hub.corrupt.add(oid)
    found = zoo_hub.fetch("me/tiny")
    assert manifest.faults(found) == {}


def test_offline_from_the_cache(hub, folder, monkeypatch):
    zoo_hub.push(folder, "me/tiny")
    online = zoo_hub.fetch("me/tiny")
    hub.fault = lambda method, path, number: "drop"
    assert zoo_hub.fetch("me/tiny") == online
    with pytest.raises(HubError, match=r"cannot be reached|connection"):
        zoo_hub.fetch("me/never-seen")


def test_what_must_not_be_opened_is_refused_with_the_reason(hub):
    for name, tree, words in (
        ("me/pickle", {"pytorch_model.bin": b"x", "config.json": b"{}"}, "pickles"),
        ("me/empty", {"config.json": b"{}"}, "no safetensors"),
        ("me/climber", {"../../evil.safetensors": b"x"}, "leaves the folder"),
    ):
        hub.repos[name] = hub_server.Repo()
        hub.repos[name].add("c", tree)
        with pytest.raises(ArtefactError, match=words):
            zoo_hub.fetch(name)
    with pytest.raises(HubError, match="no such repo"):
        zoo_hub.fetch("me/nowhere")

"""Which files may leave the machine: a model, but no training data, no working state, and no access token."""

from __future__ import annotations

import json

import hub_server
import pytest

from zoo.artefact import manifest
from zoo.core.errors import ArtefactError, HubError
from zoo.hub.push import list_files, push


@pytest.mark.parametrize(
    "name",
    [
        ".env",
        "optimizer.pt",
        "checkpoints/1/model.safetensors",
        "optimizer.safetensors",
        "2/scheduler.json",
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
        push(folder, "me/tiny")
    assert hub.requests == []


@pytest.mark.parametrize(
    "name", ["pairs.jsonl", "pairs.csv", "corpus.txt", "data/pairs.yaml", "pairs.parquet", "pairs.json"]
)
def test_training_data_beside_the_model_is_not_sent(hub, folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("{}")
    with pytest.raises(ArtefactError, match="extra"):
        push(folder, "me/tiny")
    if not name.endswith(".json"):  # models have JSON files too, so only the manifest can exclude pairs.json
        manifest.write(folder)
        with pytest.raises(HubError, match="kind of file"):
            push(folder, "me/tiny")
    assert hub.requests == []


def test_a_symlink_is_not_followed(hub, folder, tmp_path):
    (tmp_path / "secret.txt").write_text("x")
    (folder / "notes.md").symlink_to(tmp_path / "secret.txt")
    manifest.write(folder)
    with pytest.raises(HubError, match="kind of file"):
        push(folder, "me/tiny")
    assert hub.requests == []


@pytest.mark.parametrize("name", ["lock.json", "model.safetensors", "README.md", "LICENSE"])
def test_a_file_with_a_token_is_neither_sent_nor_shown(hub, folder, name):
    (folder / name).write_bytes(b"x" * ((1 << 20) - 7) + hub_server.TOKEN.encode())  # across two chunks
    manifest.write(folder)
    with pytest.raises(HubError, match="access token") as caught:
        push(folder, "me/tiny")
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
def test_a_token_of_any_format_is_found(hub, folder, monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", "of-a-private-hub-1")
    (folder / "config.json").write_text(json.dumps({"zoo": {"format": 1}, "author": f"me:{token}"}))
    manifest.write(folder)
    with pytest.raises(HubError, match="access token") as caught:
        push(folder, "me/tiny")
    assert token not in str(caught.value)


def test_weights_that_are_not_safetensors_are_not_sent(hub, folder):
    (folder / "model.safetensors").write_bytes(b"x" * 100)
    manifest.write(folder)
    with pytest.raises(ArtefactError, match="cannot be read as safetensors"):
        push(folder, "me/tiny")
    assert hub.requests == []


def test_a_folder_that_does_not_agree_with_its_manifest_is_not_sent(hub, folder):
    path = folder / "model.safetensors"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(ArtefactError, match=r"model\.safetensors: its sha256"):
        push(folder, "me/tiny")
    assert hub.requests == []


def test_results_for_the_leaderboards_are_sent_but_no_other_file_beside_them(hub, folder):
    (folder / ".eval_results").mkdir()
    for name in ("zoo-STS17.yaml", "mine.yaml"):
        (folder / ".eval_results" / name).write_text("- value: 1")
    names = list_files(folder)
    assert names == sorted(names)
    assert [name for name in names if name.startswith(".")] == [".eval_results/zoo-STS17.yaml"]
    push(folder, "me/tiny")
    assert hub.read_files("me/tiny").keys() - {".gitattributes"} == set(names)


@pytest.mark.parametrize("front_matter", [b"license: [", b"a: \xa6", b"a: \0", b"- a list", b"a: {b: 1", b"x"])
def test_a_card_whose_front_matter_cannot_be_read_is_not_sent(hub, folder, front_matter):
    (folder / "README.md").write_bytes(b"---\n" + front_matter + b"\n---\n# A model\n")
    for dry_run in (True, False):
        with pytest.raises(HubError, match=r"README\.md: the front matter cannot be read \(.*correct it"):
            push(folder, "me/tiny", dry_run=dry_run)
    assert hub.requests == []


def test_what_is_about_to_be_sent_and_removed_is_said(tmp_path):
    from zoo.hub.commit import Target

    (tmp_path / "a").write_bytes(bytes(1_250_000))
    (tmp_path / "b").write_bytes(bytes(100_000))
    target = Target.__new__(Target)
    for name, value in (("folder", tmp_path), ("changed_files", ["a", "b"]), ("removed_files", ["c", "d"])):
        object.__setattr__(target, name, value)
    assert target.describe() == "sending 2 files, 1.4 MB, removing c, d of an older version"
    object.__setattr__(target, "removed_files", [])
    assert target.describe() == "sending 2 files, 1.4 MB"


def test_an_adapter_of_a_local_base_is_not_sent(hub, folder):
    adapter = {"base_model_name_or_path": "/home/me/base", "revision": "a" * 64}  # the sha256 of local weights
    (folder / "adapter_config.json").write_text(json.dumps(adapter))
    manifest.write(folder)
    with pytest.raises(HubError, match=r"base is /home/me/base, a folder that others do not have.*keep: merged"):
        push(folder, "me/tiny")
    assert hub.requests == []
    (folder / "adapter_config.json").write_text(json.dumps({**adapter, "revision": "a" * 40}))
    manifest.write(folder)
    assert "adapter_config.json" in list_files(folder)

"""The manifest lists every file of a model folder, and verification names each one that differs."""

from __future__ import annotations

import json

import pytest

from zoo.artefact import manifest, model_folder
from zoo.core.errors import ArtefactError


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b"[]", "format None"),
        (b'{"format": 1, "files": []}', "format 1"),
        (b'{"format": 2, "files": {}}', "format 2, only format 1; update embedding-zoo"),
        (b'{"format": 1, "files": {"a": 1}}', "a: an entry must have `sha256` and `size`"),
        (b'{"format": 1, "files": {"../a": {}}}', "a: an entry must have `sha256` and `size`"),
        (b'{"format": 1, "files": {"a": {"sha256": "", "size": 1, "more": 1}}}', "and nothing else"),
    ],
)
def test_a_malformed_manifest_is_an_error(folder, content, message):
    (folder / manifest.NAME).write_bytes(content)
    with pytest.raises(ArtefactError, match=message):
        manifest.verify(folder)


def test_a_missing_manifest_is_an_error(folder):
    (folder / manifest.NAME).unlink()
    with pytest.raises(ArtefactError, match=r"has no manifest\.json"):
        manifest.verify(folder)


def test_a_run_folder_is_named_as_such(folder):
    run = folder.parent
    assert folder.name == "model"
    for read in (manifest.read, model_folder.read_config):
        with pytest.raises(ArtefactError, match=rf"run: is a run folder, .*; the model is in {folder}$"):
            read(run)


def test_the_manifest_lists_every_other_file(folder):
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert manifest.read(folder).keys() == files - {manifest.NAME}


def test_each_missing_extra_and_altered_file_is_named(folder):
    manifest.verify(folder)
    (folder / "metrics.jsonl").unlink()
    (folder / "more.json").write_text("{}")
    (folder / "config.json").write_text("{}")
    path = folder / "model.safetensors"
    path.write_bytes(bytes(path.stat().st_size))
    assert manifest.find_problems(folder) == {
        "metrics.jsonl": "missing",
        "more.json": "extra: the manifest does not list it",
        "config.json": "has 2 bytes, not 22",
        "model.safetensors": "its sha256 is not the manifest's: the file was altered or damaged",
    }
    with pytest.raises(ArtefactError, match=r"more\.json: extra.*\(and 1 more\)(\n|$)"):
        manifest.verify(folder)


@pytest.mark.parametrize("path", ["/etc/passwd", "../other/config.json", "a/../../config.json"])
def test_a_path_that_leaves_the_folder_is_not_read(folder, path):
    content = json.loads((folder / manifest.NAME).read_text())
    content["files"][path] = {"sha256": "0" * 64, "size": 1}
    (folder / manifest.NAME).write_text(json.dumps(content))
    assert manifest.find_problems(folder) == {path: "its path leaves the folder"}


def test_files_for_people_may_be_edited_or_added_but_not_removed(folder):
    (folder / "README.md").write_text("edited")
    (folder / "LICENSE").write_text("added")
    manifest.verify(folder)
    (folder / "README.md").unlink()
    assert manifest.find_problems(folder) == {"README.md": "missing"}


@pytest.mark.parametrize("name", [".git/config", ".cache/huggingface/x", ".gitattributes", "1_Pooling/.cache/x"])
def test_files_of_git_and_of_the_hubs_client_are_ignored(folder, name):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("x")
    manifest.verify(folder)
    manifest.write(folder)
    assert name not in manifest.read(folder)


@pytest.mark.parametrize(
    "text",
    [
        '{"format": true, "files": {}}',
        '{"format": 1.0, "files": {}}',
        '{"format": "1", "files": {}}',
        '{"format": 99, "format": 1, "files": {}}',
        '{"format": 1, "files": {"a": {"sha256": "0", "size": 1}}, "files": {}}',
        '{"format": 1, "files": {"a": {"sha256": "0", "size": 1, "size": 2}}}',
    ],
)
def test_a_format_is_an_integer_and_no_key_is_there_twice(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ArtefactError, match="cannot read format|is there twice"):
        manifest.read(tmp_path)


@pytest.mark.parametrize("name", [".cache", ".git", ".eval_results"])
def test_no_module_and_no_shard_lies_where_the_manifest_does_not_look(tmp_path, name):
    import shutil

    import golden

    import zoo

    folder = shutil.copytree(golden.GOLDEN / "matryoshka-2d" / "model", tmp_path / "model")
    shutil.copytree(folder / "1_Pooling", folder / name / "1_Pooling")
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["path"] = f"{name}/1_Pooling"
    (folder / "modules.json").write_text(json.dumps(modules))
    manifest.write(folder)
    with pytest.raises(ArtefactError, match=rf"'{name}/1_Pooling' is hidden"):
        zoo.from_pretrained(folder)

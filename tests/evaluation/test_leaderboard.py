"""Official results reach the Hub's leaderboards, and nothing else does."""

from __future__ import annotations

import json

import pytest
import yaml
from huggingface_hub import parse_eval_result_entries
from published import read_folder, read_repo

from zoo.artefact import manifest
from zoo.evaluation import leaderboard, mteb_catalogue
from zoo.hub import push as zoo_hub
from zoo.hub.fetch import fetch


@pytest.fixture(scope="module")
def pinned():
    return mteb_catalogue.get_task("STSBenchmark").metadata.dataset["revision"]


def report(folder, *results):
    (folder / "report.json").write_text(json.dumps({"format": 1, "results": list(results)}))
    written = leaderboard.write(folder)
    manifest.write(folder)
    return [path.relative_to(folder).as_posix() for path in written]


def result(**values):
    known = {
        "task": "STSBenchmark",
        "type": "STS",
        "official": True,
        "metric": "cosine_spearman",
        "view": {},
        "value": 0.8,
    }
    return {**known, **values}


def test_an_official_result_of_the_whole_model_is_an_entry_that_the_client_reads(folder, pinned):
    assert report(folder, result(data_revision=pinned, value=0.82031)) == [".eval_results/zoo-STSBenchmark.yaml"]
    text = (folder / ".eval_results" / "zoo-STSBenchmark.yaml").read_text()
    (entry,) = parse_eval_result_entries(yaml.safe_load(text))
    assert (entry.task_id, entry.value, entry.dataset_revision) == ("STSBenchmark", 82.031, pinned)
    assert entry.dataset_id == mteb_catalogue.get_task("STSBenchmark").metadata.dataset["path"]


@pytest.mark.parametrize(
    "change",
    [
        {"official": False},
        {"task": "STSBenchmark (local)"},
        {"view": {"layers": 3}},
        {"data_revision": "another"},
        {"value": None},
        {"task": "my sts"},
    ],
)
def test_what_is_not_official_is_not_claimed(folder, pinned, change):
    assert report(folder, result(**{"data_revision": pinned, **change})) == []
    assert not list(folder.glob(".eval_results/*"))


def test_they_are_pushed_go_with_their_version_and_leave_those_of_others(hub, folder, pinned):
    report(folder, result(data_revision=pinned))
    zoo_hub.push(folder, "me/tiny")
    assert read_repo(hub, "me/tiny") == read_folder(folder)
    assert not zoo_hub.push(folder, "me/tiny").created
    theirs = {".eval_results/T.yaml": b"a: 1"}
    hub.repos["me/tiny"].add("theirs", {**hub.read_files("me/tiny"), **theirs})
    assert (fetch("me/tiny") / "model.safetensors").exists(), "and they are no part of what is opened"
    assert report(folder, result(official=False)) == []
    zoo_hub.push(folder, "me/tiny")
    assert read_repo(hub, "me/tiny") == read_folder(folder) | theirs

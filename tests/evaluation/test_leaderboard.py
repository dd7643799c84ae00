"""Official results, and only these, are written for the Hub's leaderboards."""

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
def pinned_revision():
    return mteb_catalogue.get_task("STSBenchmark").metadata.dataset["revision"]


def write_report(folder, *results):
    (folder / "report.json").write_text(json.dumps({"format": 1, "results": list(results)}))
    written = leaderboard.write(folder)
    manifest.write(folder)
    return [path.relative_to(folder).as_posix() for path in written]


def make_result(**values):
    defaults = {
        "task": "STSBenchmark",
        "type": "STS",
        "official": True,
        "metric": "cosine_spearman",
        "view": {},
        "value": 0.8,
    }
    return {**defaults, **values}


def test_the_hub_client_reads_the_entry_of_an_official_result(folder, pinned_revision):
    assert write_report(folder, make_result(data_revision=pinned_revision, value=0.82031)) == [
        ".eval_results/zoo-STSBenchmark.yaml"
    ]
    text = (folder / ".eval_results" / "zoo-STSBenchmark.yaml").read_text()
    (entry,) = parse_eval_result_entries(yaml.safe_load(text))
    assert (entry.task_id, entry.value, entry.dataset_revision) == ("STSBenchmark", 82.031, pinned_revision)
    assert entry.dataset_id == mteb_catalogue.get_task("STSBenchmark").metadata.dataset["path"]
    assert entry.notes == "cosine_spearman, test"


def test_a_score_is_written_in_per_cent_with_five_decimals(folder, pinned_revision):
    write_report(folder, make_result(data_revision=pinned_revision, value=0.123456789))
    text = (folder / ".eval_results" / "zoo-STSBenchmark.yaml").read_text()
    (entry,) = yaml.safe_load(text)
    assert entry["value"] == 12.34568
    assert next(iter(entry)) == "dataset", "the order of the Hub's client is kept"


def test_the_score_is_that_of_the_model_as_it_is_loaded_among_several_views(folder, pinned_revision):
    views = [
        make_result(data_revision=pinned_revision, view=view, value=value)
        for view, value in (({"dim": 8}, 0.5), ({}, 0.7))
    ]
    assert write_report(folder, *views, make_result(task="mine", official=False)) == [
        ".eval_results/zoo-STSBenchmark.yaml"
    ]
    (entry,) = yaml.safe_load((folder / ".eval_results" / "zoo-STSBenchmark.yaml").read_text())
    assert entry["value"] == 70


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
def test_a_result_that_is_not_official_has_no_entry(folder, pinned_revision, change):
    assert write_report(folder, make_result(**{"data_revision": pinned_revision, **change})) == []
    assert not list(folder.glob(".eval_results/*"))


def test_a_push_replaces_the_entries_of_zoo_and_keeps_those_of_others(hub, folder, pinned_revision):
    write_report(folder, make_result(data_revision=pinned_revision))
    zoo_hub.push(folder, "me/tiny")
    assert read_repo(hub, "me/tiny") == read_folder(folder)
    assert not zoo_hub.push(folder, "me/tiny").created
    foreign_files = {".eval_results/T.yaml": b"a: 1"}
    hub.repos["me/tiny"].add("theirs", {**hub.read_files("me/tiny"), **foreign_files})
    assert (fetch("me/tiny") / "model.safetensors").exists(), "a fetch ignores the entries"
    assert write_report(folder, make_result(official=False)) == []
    zoo_hub.push(folder, "me/tiny")
    assert read_repo(hub, "me/tiny") == read_folder(folder) | foreign_files

"""The files that people expect of a project agree with the code."""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

import zoo
from zoo.cli.parser import build_parser

ROOT = Path(__file__).parents[1]
YAML_FILES = [
    "CITATION.cff",
    ".pre-commit-config.yaml",
    *(str(path.relative_to(ROOT)) for path in sorted((ROOT / ".github").rglob("*.yml"))),
]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", YAML_FILES)
def test_yaml_files_can_be_parsed(name):
    assert isinstance(yaml.safe_load(read(name)), dict)


def test_the_citation_and_the_changelog_are_of_this_version():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["version"] == zoo.__version__
    assert citation["license"] == tomllib.loads(read("pyproject.toml"))["project"]["license"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    headings = re.findall(r"^## \[(.*?)\]", read("CHANGELOG.md"), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert zoo.__version__ in headings
    released = [tuple(map(int, heading.split("."))) for heading in headings[1:]]
    assert released == sorted(released, reverse=True)


def test_sections_of_the_changelog_are_those_of_keep_a_changelog():
    kinds = set(re.findall(r"^### (.*)$", read("CHANGELOG.md"), re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_hooks_run_the_checks_of_continuous_integration():
    hooks = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"][0]["hooks"]
    for hook in hooks:
        assert hook["language"] == "system"
        program = " ".join(shlex.split(hook["entry"])[:2]).removesuffix(" --fix")
        assert program in read(".ci/run")


def test_the_workflow_runs_the_checks_on_the_oldest_and_a_new_python_and_a_smoke_test_elsewhere():
    jobs = yaml.safe_load(read(".github/workflows/ci.yml"))["jobs"]
    checks, quickstart = jobs["checks"], jobs["quickstart"]
    assert checks["strategy"]["matrix"]["python"] == ["3.11", "3.13"]
    assert {"run": ".ci/run"} in checks["steps"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert set(quickstart["strategy"]["matrix"]["os"]) == {"macos-latest", "windows-latest"}
    declared = tomllib.loads(read("pyproject.toml"))["project"]["classifiers"]
    for python in checks["strategy"]["matrix"]["python"]:
        assert f"Programming Language :: Python :: {python}" in declared


def test_commands_of_the_workflow_and_of_the_pages_exist():
    jobs = yaml.safe_load(read(".github/workflows/ci.yml"))["jobs"]
    lines = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("zoo ")]
    assert commands
    for words in commands:
        build_parser(words).parse_args(words)


def test_the_deprecation_policy_is_the_same_in_both_places():
    policies = [
        re.search(r"## Deprecation policy\n\n((?:.+\n){2})", read(n)) for n in ("CONTRIBUTING.md", "docs/upgrading.md")
    ]
    first, second = (policy[1] for policy in policies)
    assert first == second


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"])
def test_links_and_files_that_are_named_exist(name):
    text = read(name)
    links = re.findall(r"\]\(([^)#\s]+)\)", text)
    missing = [link for link in links if not link.startswith("https://") and not (ROOT / link).exists()]
    paths = re.findall(r"`((?:zoo|tests|docs|cards|recipes|benchmarks|\.ci)/[\w./-]*)`", text)
    missing += [path for path in paths if "NAME" not in path and not (ROOT / path).exists()]
    assert [path for path in missing if path not in WRITTEN_ELSEWHERE] == []


WRITTEN_ELSEWHERE = ("docs/add-a-family.md",)

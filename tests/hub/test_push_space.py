"""`zoo push --space` publishes a Space that serves one commit of the model, and its Dockerfile does what it says."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys

import hub_server
import pytest
import serving
import yaml

import zoo
from zoo import pretrained
from zoo.cli.main import main
from zoo.cli.parser import build_parser
from zoo.core.errors import HubError
from zoo.hub import space
from zoo.hub.push import push

COMMIT = "ab" * 20
SPACE = "spaces/me/tiny"


@pytest.fixture
def pushed(hub, folder):
    """A model folder whose model is on the Hub, and the commit."""
    return folder, push(folder, "me/tiny").commit


def read_front_matter(readme: bytes):
    return yaml.safe_load(readme.decode().split("---\n")[1])


def find_line(dockerfile: bytes, start: str) -> str:
    """Return an instruction of a Dockerfile, with lines that go on joined."""
    text = dockerfile.decode().replace("\\\n", "")
    return next(line for line in text.splitlines() if line.startswith(start))


def test_the_front_matter_says_what_a_docker_space_needs(folder):
    entries = read_front_matter(space.make_files(folder, "me/tiny", COMMIT)["README.md"])
    assert entries["sdk"] == "docker"
    assert entries["app_port"] == space.PORT
    assert entries["models"] == ["me/tiny"]
    assert entries["license"] == "apache-2.0"
    assert len(entries["short_description"]) <= 60  # the Hub's limit


def test_the_command_of_the_space_is_one_of_zoo_at_the_port_of_its_readme(folder):
    command = json.loads(find_line(space.make_files(folder, "me/tiny", COMMIT)["Dockerfile"], "CMD")[4:])
    assert command[0] == "zoo"
    arguments = build_parser(command[1:]).parse_args(command[1:])
    assert (arguments.models, arguments.host, arguments.port) == (["model"], "0.0.0.0", space.PORT)
    assert not arguments.no_page


def test_the_space_installs_this_version_with_the_extras_of_the_family(folder):
    extras = pretrained.read_spec(serving.GOLDEN / "vlm2vec" / "model").extras
    dockerfile = space.make_files(folder, "me/tiny", COMMIT, extras)["Dockerfile"]
    requirement = shlex.split(find_line(dockerfile, "RUN pip"))[-1]
    names, version = re.fullmatch(r"embedding-zoo\[(.*)\]==(.*)", requirement).groups()
    assert names.split(",") == ["serve", *extras]
    assert version == zoo.__version__


def test_the_download_of_the_dockerfile_gets_the_pinned_commit(hub, tmp_path):
    source = serving.GOLDEN / "static" / "model"
    commit = push(source, "me/tiny").commit
    hub.repos["me/tiny"].add("a later commit", {"config.json": b"{}"})
    line = find_line(space.make_files(source, "me/tiny", commit)["Dockerfile"], "RUN --mount")
    program = shlex.split(line)[-3:]
    assert program[:2] == ["python", "-c"]
    subprocess.run([sys.executable, *program[1:]], cwd=tmp_path, check=True)
    assert pretrained.load(tmp_path / "model").name == "golden-static"


def test_a_space_is_one_commit_and_a_second_push_adds_none(hub, pushed):
    folder, commit = pushed
    files = space.make_files(folder, "me/tiny", commit)
    result = space.push_space("me/tiny", files, private=True)
    assert result.created
    assert hub.repos[SPACE].private
    assert hub.list_messages(SPACE) == ["initial commit", "Show the model with zoo"]
    stored = hub.read_files(SPACE)
    assert {name: stored[name] for name in files} == files
    assert not space.push_space("me/tiny", files).created
    assert len(hub.list_messages(SPACE)) == 2


def test_a_file_that_the_user_added_to_the_space_stays(hub, pushed):
    folder, commit = pushed
    space.push_space("me/tiny", space.make_files(folder, "me/tiny", commit))
    hub.repos[SPACE].add("mine", {**hub.read_files(SPACE), "notes.txt": b"mine"})
    space.push_space("me/tiny", space.make_files(folder, "me/tiny", COMMIT))
    assert hub.read_files(SPACE)["notes.txt"] == b"mine"
    assert COMMIT in hub.read_files(SPACE)["Dockerfile"].decode()


def test_a_lost_answer_is_followed_by_no_second_commit(hub, pushed):
    folder, commit = pushed
    hub.fail("lose", path="/commit/")
    assert space.push_space("me/tiny", space.make_files(folder, "me/tiny", commit)).created
    assert len(hub.list_messages(SPACE)) == 2


def test_a_public_space_is_refused_if_private_was_asked_for(hub, pushed):
    folder, commit = pushed
    files = space.make_files(folder, "me/tiny", commit)
    space.push_space("me/tiny", files)
    with pytest.raises(HubError, match="is public"):
        space.push_space("me/tiny", files, private=True)


def test_a_token_that_may_only_read_is_told(hub, pushed, monkeypatch):
    folder, commit = pushed
    monkeypatch.setenv("HF_TOKEN", hub_server.READ_ONLY)
    with pytest.raises(HubError, match="token"):
        space.push_space("me/tiny", space.make_files(folder, "me/tiny", commit))


@pytest.mark.parametrize(
    ("repo", "commit"),
    [
        ("me/tiny", "main"),
        ("me/tiny", ""),
        ("me/tiny", "$(ls)"),
        ("me/tiny", COMMIT[:8]),
        ("me/$(ls)", COMMIT),
        ("tiny", COMMIT),
    ],
)
def test_only_names_and_ids_are_written_into_the_dockerfile(folder, repo, commit):
    with pytest.raises(HubError, match="commit" if repo == "me/tiny" else "space"):
        space.make_files(folder, repo, commit)


def test_the_command_pushes_the_model_and_its_space(hub, capsys):
    model = str(serving.GOLDEN / "static" / "model")
    assert main(["push", model, "me/tiny", "--space", "--dry-run"]) == 0
    assert not hub.repos
    assert "FROM python" in capsys.readouterr().out
    assert main(["push", model, "me/tiny", "--space"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{hub.endpoint}/spaces/me/tiny"
    assert hub.repos["me/tiny"].refs["main"] in hub.read_files(SPACE)["Dockerfile"].decode()
    assert main(["push", model, "me/tiny", "--space"]) == 0
    assert "nothing had changed" in capsys.readouterr().out.splitlines()[-1]
    assert main(["push", model, "me/tiny", "--space", "--create-pr"]) == 1

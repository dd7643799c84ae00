"""Mistakes on the command line: each ends in one line that says what is wrong and where, never in a traceback."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from pathlib import Path

import pytest
import tiny
import tiny_run
from devices import make_full_device

from zoo.artefact import model_folder
from zoo.cli.main import main
from zoo.families.matryoshka_2d.encoder import Encoder
from zoo.families.matryoshka_2d.spec import Spec

LONG = "n" * 400
SURROGATE = "a\udcffb"  # a byte of a file name that is not UTF-8
ESCAPE = "\x1b[31mred"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with a model and with files that are no recipe, no text or no folder."""
    base = tmp_path_factory.mktemp("edge")
    encoder = Encoder.build(Spec(family="matryoshka-2d", backbone=tiny.backbone(base / "backbone"), dims=(8, 16)))
    encoder.name = "tiny"
    model_folder.save(encoder, base / "model")
    (base / "pairs.jsonl").write_text(json.dumps({"a": "x", "b": "y", "gold": 1}) + "\n")
    tiny_run.recipe(base, "tiny.yaml")
    (base / "lines").write_text("the dog\n")
    (base / "folder").mkdir()
    (base / "empty").write_text("")
    (base / "binary").write_bytes(bytes(range(256)) * 4)
    (base / "list.yaml").write_text("- 1\n")
    (base / "open.yaml").write_text("a: [\n")
    (base / "loop").symlink_to("loop")
    return base


def run(words, workplace, monkeypatch, stdin=b"the dog\n"):
    """Run a command in `workplace`, and return status, stdout and stderr."""
    monkeypatch.chdir(workplace)
    out, err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    try:
        status = main(words)
    except SystemExit as stop:  # argparse
        status = stop.code
    out.flush()
    return status, out.buffer.getvalue(), err.getvalue()


MODELS = {
    "missing": "me/missing",
    "empty-name": "",
    "long": LONG,
    "nul": "a\0b",
    "surrogate": SURROGATE,
    "file": "lines",
    "no-model": "folder",
    "device": "/dev/null",
    "deep": "a/b/c",
    "unknown-user": "~nobody-here/x",
    "package": "package:x",
    "address": "https://example.org/x",
    "dash": "-",
    "markup": "[bold]x",
    "escape": ESCAPE,
}
MODEL_VERBS = {
    "encode": ["encode", "MODEL", "--input", "lines", "--out", "o.npy"],
    "export": ["export", "MODEL", "out"],
    "pack": ["pack", "MODEL", "out"],
    "card": ["card", "MODEL"],
    "push": ["push", "MODEL", "me/x", "--dry-run"],
    "evaluate": ["evaluate", "MODEL", "STSBenchmark"],
    "reproduce": ["reproduce", "MODEL", "--out", "run"],
    "explain": ["explain", "MODEL", "a", "b"],
    "verify": ["verify", "MODEL"],
}
RECIPES = [
    "missing.yaml",
    LONG,
    SURROGATE,
    "",
    "folder",
    "binary",
    "empty",
    "list.yaml",
    "open.yaml",
    "loop",
    "[x]",
    ESCAPE,
]
OVERRIDES = [
    "x",
    "=",
    "a=",
    ".=1",
    "training.epochs=[",
    "training=1",
    "training.epochs.x=1",
    "evaluation.99999=1",
    f"training.epochs={'9' * 5000}",
    "training.epochs=1e999",
    "evaluation.²=1",
    f"evaluation.{'9' * 50}=1",
    "name=\udcff",
    f"name={ESCAPE}",
]
VALUES = ["x", "[", "0", "-1", "1.5", "true", "1e3", "9" * 30, "{", "[1]", "0x2", "²", '"2"', "\udcff", "lines: 2"]
BAD_FILES = ["lines/x", "/proc/x", LONG, "folder", ".", "loop", "a\0b"]
BAD_FOLDERS = ["lines/x", "/proc/x", LONG, "lines", "loop", "a\0b"]
REPOSITORIES = [
    "a",
    "a/b/c",
    "me/my repo",
    f"me/{LONG}",
    "me/..",
    "me/-x",
    "me/x.git",
    "me/a--b",
    "me/\udcff",
    "https://x/y",
]

CASES = [
    *([word.replace("MODEL", name) for word in words] for words in MODEL_VERBS.values() for name in MODELS.values()),
    *([verb, name] for verb in ("check", "show", "train") for name in RECIPES),
    *(["copy", name, "x.yaml"] for name in RECIPES[:4]),
    *(["evaluate", "model", name] for name in RECIPES),
    *(["show", "quickstart", change] for change in OVERRIDES),
    *(["encode", "model", "--layers", value, "--input", "lines", "--out", "o.npy"] for value in VALUES),
    *(["export", "model", "--view", f"dim={value}", "cut"] for value in VALUES),
    *(["encode", "model", "--input", "lines", "--out", name] for name in BAD_FILES),
    *(["copy", "quickstart", name] for name in BAD_FILES if name not in ("folder", ".")),
    *(["export", "model", name] for name in BAD_FOLDERS),
    *(["train", "tiny.yaml", "--out", name] for name in BAD_FOLDERS),
    *(["reproduce", "model", "--out", name] for name in BAD_FOLDERS),
    *(["encode", "model", "--input", name, "--out", "o.npy"] for name in ("missing", "folder", "binary", LONG, "loop")),
    *(["push", "model", name, "--dry-run"] for name in REPOSITORIES),
    ["evaluate", "model", "data.x=1"],
    ["evaluate", "model"],
    ["evaluate", "model", "sts", "data=["],
    ["reproduce", "model", "--out", "r", "--tolerance", "nan"],
    ["reproduce", "model", "--out", "r"],
    ["push", "folder", "me/x", "--dry-run"],
    ["push", "model", "me/x", "--create-pr", "--branch", "b", "--dry-run"],
    ["train", "quickstart", "--out", "r", "training.epochs=x"],
    ["encode", "model", "--view", "layers", "--input", "lines"],
    ["export", "model", "out", "--int8"],
    ["export", "model", "out", "--to", "onnx", "--int8", "--max-loss", "2"],
    ["pack", "model", "out", "--depths", "x"],
    ["pack", "model", "out", "--max-loss", "nan"],
    ["encode", "model", "--view", "=2", "--input", "lines"],
]
USAGE = [
    [],
    ["nothing"],
    ["list", "x"],
    ["show"],
    ["check"],
    ["train"],
    ["encode"],
    ["encode", "model", "--prompt", "x"],
    ["encode", "model", "--precision", "x"],
    ["encode", "model", "--out", ""],
    ["encode", "model", "--input", ""],
    ["train", "tiny.yaml", "--out", ""],
    ["export", "model", ""],
    ["export", "model", "out", "--to", "x"],
    ["pack", "model", ""],
    ["copy", "quickstart", ""],
    ["explain", "model", "a", "b", "--top", "x"],
    ["reproduce", "model", "--out", "r", "--tolerance", "x"],
    ["card", "model", ESCAPE],
]


def name_case(words):
    return " ".join(words).encode("ascii", "backslashreplace").decode()[:60].replace("\0", "NUL").replace("\x1b", "ESC")


def test_more_than_two_hundred_mistakes_are_tried():
    assert len(CASES) + len(USAGE) >= 200


@pytest.mark.parametrize("words", CASES, ids=name_case)
def test_a_mistake_ends_in_one_line(words, workplace, monkeypatch):
    before = sorted(workplace.rglob("*"))
    status, out, err = run(words, workplace, monkeypatch)
    assert status == 1, err
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert "fault in zoo" not in err
    assert err.count("\n") == 1
    assert len(err) > len("error: ") + 12
    assert all(character.isprintable() for character in err.rstrip("\n"))
    assert not out
    assert sorted(workplace.rglob("*")) == before, "files appeared or vanished"


@pytest.mark.parametrize("words", USAGE, ids=name_case)
def test_a_wrong_command_line_shows_the_usage(words, workplace, monkeypatch):
    status, out, err = run(words, workplace, monkeypatch)
    assert status == 2
    assert err.startswith("usage: ")
    assert "Traceback" not in err
    assert "\x1b" not in err
    assert not out


@pytest.mark.parametrize(
    ("words", "words_of_the_error"),
    [
        (["encode", "MODEL", "--input", "missing"], ["missing", "No such file", "check the path"]),
        (["encode", "MODEL", "--input", "folder"], ["folder", "one text per line"]),
        (["encode", "MODEL", "--input", "lines", "--out", "lines/x"], ["lines", "a part of the path is a file"]),
        (["encode", "MODEL", "--input", "lines", "--out", "folder"], ["folder", "name a file"]),
        (["export", "MODEL", "lines/x"], ["lines", "a part of the path is a file"]),
        (["train", "tiny.yaml", "--out", "lines"], ["lines", "choose another path"]),
    ],
)
def test_inputs_and_outputs_are_tried_before_the_model_is_opened(words, words_of_the_error, workplace, monkeypatch):
    monkeypatch.setattr("zoo.pretrained.from_pretrained", lambda *_, **__: pytest.fail("the model was opened"))
    monkeypatch.setattr("zoo.build.builder.run", lambda *_, **__: pytest.fail("the training was begun"))
    status, _, err = run([word.replace("MODEL", "model") for word in words], workplace, monkeypatch)
    assert status == 1
    for part in words_of_the_error:
        assert part in err


def test_the_line_of_an_input_that_is_not_utf_8_is_named(workplace, monkeypatch):
    status, _, err = run(["encode", "model"], workplace, monkeypatch, b"the dog\nthe \xff\n")
    assert status == 1
    assert err == (
        "error: input:2: byte 5 of the line is not UTF-8; convert the file, for example with `iconv -t UTF-8` "
        "(see `zoo help troubleshooting#not-utf-8`)\n"
    )


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
@pytest.mark.parametrize("closed", [None, io.StringIO()])
@pytest.mark.parametrize("words", [["encode", "model"], ["list"], ["evaluate", "model", "STSBenchmrk"]])
def test_a_closed_stream_is_an_error_and_not_a_traceback(stream, closed, words, workplace, monkeypatch):
    """Python sets a standard stream to None if a process is started without it."""
    if closed is not None:
        closed.close()
    monkeypatch.chdir(workplace)
    error = io.StringIO()
    streams = {"stdin": io.TextIOWrapper(io.BytesIO(b"x\n")), "stdout": io.TextIOWrapper(io.BytesIO()), "stderr": error}
    for name, value in (streams | {stream: closed}).items():
        monkeypatch.setattr(sys, name, value)
    needs_stream = (stream == "stdin" and words == ["encode", "model"]) or (stream == "stdout" and len(words) < 3)
    assert main(words) == (1 if needs_stream or len(words) == 3 else 0)
    if needs_stream:
        assert error.getvalue().startswith(f"error: {stream} is closed; ")


def test_a_full_device_as_output_is_an_error_and_stays_a_device(workplace, monkeypatch, tmp_path):
    full = make_full_device(tmp_path)
    status, _, err = run(["encode", "model", "--input", "lines", "--out", str(full)], workplace, monkeypatch)
    assert status == 1
    assert err.startswith(f"error: {full}: No space left on device; ")
    assert err.count("\n") == 1
    assert full.is_char_device()


class FullDisk(io.StringIO):
    def flush(self):
        raise OSError(28, "No space left on device")


def test_a_full_disk_behind_stdout_is_an_error(workplace, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", FullDisk())
    assert main(["list"]) == 1
    assert "No space left on device; make room" in capsys.readouterr().err


def test_a_missing_folder_for_temporary_files_is_an_error(workplace, monkeypatch):
    def refuse(*_, **__):
        raise FileNotFoundError(2, "No usable temporary directory found in ['/nowhere']")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    status, _, err = run(["encode", "model"], workplace, monkeypatch)
    assert status == 1
    assert "No usable temporary directory" in err
    assert err.count("\n") == 1


def test_a_fault_of_zoo_keeps_its_traceback_and_asks_for_a_report(monkeypatch, capsys):
    def fail(*_):
        raise KeyError("a mistake in the code \x1b[31m")

    monkeypatch.setattr("zoo.families.names", fail)
    assert main(["list"]) == 1
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert "in fail" in err
    assert "\x1b" not in err
    report = err.splitlines()[-1]
    assert report.startswith("error: this is a fault in zoo")
    assert "report it" in report
    for name in ("embedding-zoo", "torch", "transformers", "Python"):
        assert name in report


def test_verbose_shows_the_traceback_of_a_mistake_too(capsys):
    assert main(["show", "-v", "nowhere.yaml"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("error: nowhere.yaml: there is no such recipe")


def test_the_handler_of_sigterm_is_put_back():
    before = signal.getsignal(signal.SIGTERM)
    assert main(["list"]) == 0
    assert main(["show", "nowhere.yaml"]) == 1
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
@pytest.mark.parametrize("words", [["encode", "model", "--input", "secret"], ["check", "secret"]])
def test_a_file_without_permission_is_an_error(words, workplace, monkeypatch):
    secret = Path(workplace, "secret")
    secret.write_text("x")
    secret.chmod(0)
    status, _, err = run(words, workplace, monkeypatch)
    secret.unlink()
    assert status == 1
    assert "Permission denied" in err

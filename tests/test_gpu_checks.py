"""The script for a GPU runs on a CPU, and every check that a CPU can run is met there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import gpu

    return gpu


def run(gpu, monkeypatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gpu.py", *words])
    return gpu.main()


def test_every_check_that_a_cpu_can_run_is_met(gpu, monkeypatch, tmp_path, capsys):
    model = str(ROOT / "tests" / "golden" / "matryoshka-2d" / "model")
    page = tmp_path / "gpu.md"
    code = run(gpu, monkeypatch, "--device", "cpu", "--quick", "--model", model, "--write", str(page))
    lines = json.loads(capsys.readouterr().out.splitlines()[-1])["lines"]
    assert code == 0, [line for line in lines if line["is_right"] is False]
    assert {line["check"] for line in lines} == {check.title for check in gpu.CHECKS}
    needing = {line["check"] for line in lines if line["figure"] == "left out: it needs a card"}
    assert needing == {check.title for check in gpu.CHECKS if check.needs_card}
    assert sum(line["is_right"] is True for line in lines) >= 12
    assert "a CPU, to try the script" in page.read_text()


def test_a_check_that_fails_or_begins_too_late_is_a_line_of_the_table(gpu, monkeypatch):
    def fail(bench):
        raise RuntimeError("no kernel image\nis available")
        yield

    class Bench:
        has_card = False

    monkeypatch.setattr(gpu, "CHECKS", (gpu.Check("broken", fail), gpu.Check("next", lambda bench: iter(()))))
    (line,) = gpu.run_checks(Bench(), started=gpu.time.monotonic())
    assert line["figure"] == "FAILED: RuntimeError: no kernel image"
    assert line["is_right"] is False
    late = gpu.run_checks(Bench(), started=gpu.time.monotonic() - gpu.LAST_START - 1)
    assert [line["figure"] for line in late] == [f"left out: {gpu.LAST_START} s are over"] * 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_it_says_what_to_do(gpu, monkeypatch):
    with pytest.raises(SystemExit, match="--device cpu --quick"):
        run(gpu, monkeypatch)

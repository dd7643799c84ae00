"""Hostile data files are refused, whatever Pillow, numpy, h5py or pyarrow raise, within a second and little memory."""

from __future__ import annotations

import json
import subprocess
import sys

import hostile_data
import pytest

MEGABYTES = 200


@pytest.mark.slow
def test_every_hostile_data_file_is_refused_in_little_memory(tmp_path):
    run = subprocess.run(
        [sys.executable, hostile_data.__file__, str(tmp_path)], capture_output=True, text=True, timeout=300, check=True
    )
    results = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(results) >= 200
    assert [(name, outcome) for name, outcome, *_ in results if not outcome.startswith("refused")] == []
    assert [(name, megabytes) for name, _, megabytes, _ in results if megabytes > MEGABYTES] == []
    reasons = [outcome.removeprefix(f"refused: {tmp_path}/hostile/") for _, outcome, *_ in results]
    assert [reason for reason in reasons if len(reason.splitlines()[0]) < 20] == []  # each says what is wrong

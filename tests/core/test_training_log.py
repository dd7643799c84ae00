"""A log without a terminal says how far a training is: at every tenth of it, and at least every half minute."""

from __future__ import annotations

import re

import pytest

from zoo.core import training_log
from zoo.core.training_log import TrainingLog, format_seconds
from zoo.paragraph_vectors.checkpoints import RunLog


@pytest.fixture
def clock(monkeypatch):
    times = [100.0]
    monkeypatch.setattr(training_log.time, "monotonic", lambda: times[-1])
    return times


def test_a_line_has_step_epoch_loss_rate_and_time_left(clock):
    lines = []
    log = TrainingLog(lines.append, total=20, first=10)
    clock.append(110.0)
    log.record(12, 640, epoch=1.5, loss=0.25)
    assert lines == ["step 12 of 20, epoch 1.50, loss 0.2500, 64 rows/s, 40 s left"]
    log.record(13, 640, epoch=1.6, loss=None)
    assert len(lines) == 1, "less than a tenth of the run later"
    clock.append(141.0)
    log.record(13, 640, epoch=1.6, loss=None)
    assert lines[1].startswith("step 13 of 20, epoch 1.60, 47 rows/s, "), "half a minute later"


def test_the_last_step_is_said_and_without_a_listener_nothing_is(clock):
    lines = []
    TrainingLog(lines.append, total=300).record(300, 10, 1.0, 0.1)
    assert lines[0].endswith("0 s left")
    TrainingLog(None, total=1).record(1, 10, 1.0, 0.1)


@pytest.mark.parametrize(("seconds", "text"), [(7.6, "8 s"), (60, "1 min"), (600, "10 min"), (3660, "1 h 1 min")])
def test_seconds_in_words(seconds, text):
    assert format_seconds(seconds) == text


def test_documents_say_blocks_and_words_unless_there_is_a_bar(tmp_path):
    lines = []
    with RunLog(tmp_path, 2, 100, show_progress=False, say=lines.append) as log:
        log.resume()
        log.record_step(1, words=50, epoch=0.5, loss=1.0, learning_rate=0.1, seconds=2.0)
    assert re.fullmatch(r"block 1 of 2, epoch 0\.50, loss 1\.0000, [\d,]+ words/s, .* left", lines[0])

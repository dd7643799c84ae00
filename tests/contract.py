"""What `test_families.py` needs to know of a family: its test file gives one as `contract(folder)`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset

from zoo.schema import EncoderSpec, Training


class Contract(NamedTuple):
    """A tiny encoder of the family: its section, training rows, a short training, inputs, and one view of it (or none)."""

    spec: EncoderSpec
    rows: Dataset
    training: Training
    inputs: list[Any]
    view: dict[str, Any]
    folder: Path

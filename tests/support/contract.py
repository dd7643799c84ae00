"""What `test_families.py` needs to know of a family: its test file gives one as `contract(folder)`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset

from zoo import families
from zoo.encoder import Encoder
from zoo.schema import Training
from zoo.spec import EncoderSpec


class Contract(NamedTuple):
    """A tiny encoder of the family: its section, training rows, a short training, inputs, and one view of it (or none)."""

    spec: EncoderSpec
    rows: Dataset
    training: Training
    inputs: list[Any]
    view: dict[str, Any]
    folder: Path


def load_contract(family: str, folder: Path) -> Contract:
    """The contract that the family's own test file gives, tests/families/NAME/test_NAME.py, made in `folder`."""
    name = family.replace("-", "_")
    place = str(Path(__file__).parents[1] / "families" / name)
    if place not in sys.path:
        sys.path.insert(0, place)
    return importlib.import_module(f"test_{name}").contract(folder)


def train(contract: Contract, folder: Path) -> Encoder:
    """The trained encoder of a contract; `folder` receives its cache and its checkpoints."""
    encoder = families.load_encoder(contract.spec.family).build(
        contract.spec, seed=contract.training.seed, folder=contract.folder
    )
    encoder.prepare(contract.rows, folder / "cache")
    encoder.fit(contract.rows, contract.training, folder)
    encoder.finish(contract.rows)
    return encoder

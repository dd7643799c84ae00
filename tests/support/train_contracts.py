"""Train the contract of every family in this process, or in each process of a distributed run: `train_contracts.py FOLDER`.

One start of Python serves all families, because most of the time of a launched test goes into imports.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tiny_vlm2vec
import torch
from contract import Contract, load_contract

from zoo import families
from zoo.training import distributed


def _load_in_bf16(folder: Path) -> Contract:
    contract = load_contract("matryoshka-2d", folder)
    # The padding of a text changes its bf16 vector in the eighth bit.
    training = contract.training.model_copy(update={"precision": "bf16"})
    return contract._replace(training=training, process_tolerance=2e-2)


def list_cases() -> dict[str, Callable[[Path], Contract]]:
    """List the trainings by name: a function that makes the contract in a folder."""
    names = [family for family in families.names() if families.load_spec(family).trains_in_processes]
    cases: dict[str, Callable[[Path], Contract]] = {
        name: lambda folder, name=name: load_contract(name, folder)  # type: ignore[misc]
        for name in names
    }
    return cases | {"bf16": _load_in_bf16, "uneven-images": tiny_vlm2vec.make_uneven_contract}


def main(folder: Path) -> None:
    """Train every case in a subfolder of its name; the main process writes vectors.npy there."""
    torch.set_num_threads(1)
    for name, make_contract in list_cases().items():
        case = folder / name
        case.mkdir(parents=True, exist_ok=True)
        for _ in take_turns():
            contract = make_contract(case)
        train(contract, case)


def take_turns() -> Iterator[None]:
    """Yield once in every process: first in the main process, then in the others. It ends when all are done."""
    if distributed.is_main_process():
        yield
    distributed.broadcast_from_main()
    if not distributed.is_main_process():
        yield
    distributed.broadcast_from_main()


def train(contract: Contract, folder: Path) -> None:
    """Train as the builder does: the main process prepares first, and alone writes the result."""
    spec = contract.spec_without_chance or contract.spec
    precision = "fp32" if contract.training.precision == "auto" else contract.training.precision
    training = contract.training.model_copy(update={"max_steps": 8, "epochs": None, "precision": precision})
    encoder = families.load_encoder(spec.family).build(spec, seed=training.seed, folder=contract.folder)
    for _ in take_turns():
        encoder.prepare(contract.rows, folder / "cache")
    encoder.fit(contract.rows, training, folder)
    encoder.finish(contract.rows)
    if distributed.is_main_process():
        np.save(folder / "vectors.npy", encoder.encode(contract.inputs))
    distributed.broadcast_from_main()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

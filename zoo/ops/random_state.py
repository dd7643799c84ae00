"""Random numbers that depend on the seed and the optimiser step alone."""

from __future__ import annotations

import hashlib

import torch

PRIME = 1_000_003


def step_seed(seed: int, step: int) -> int:
    """Return a seed for one optimiser step; equal for all processes and for a resumed run."""
    return (seed + 1) * PRIME + step


def step_generator(seed: int, step: int) -> torch.Generator:
    """Return a CPU generator for one optimiser step, so that a resumed run draws the same numbers."""
    return torch.Generator().manual_seed(step_seed(seed, step))


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Return a CPU generator for the order of the rows in one epoch."""
    return torch.Generator().manual_seed(seed * PRIME + epoch)


def source_generator(seed: int, number: int, cycle: int) -> torch.Generator:
    """Return a CPU generator for the order in which the source `number` is read for the time `cycle`."""
    digest = hashlib.blake2b(f"{seed} {number} {cycle}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest) >> 1)

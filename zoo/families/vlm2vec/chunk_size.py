"""Choose how many inputs run through the model at once, from the memory that a few of them need."""

from __future__ import annotations

from collections.abc import Sequence

import psutil
import torch

from zoo.families.vlm2vec.dataset import LazyInput
from zoo.families.vlm2vec.vlm import VLM
from zoo.ops import gradcache

MEMORY_SHARE = 0.25  # of the memory that is free now; gradients and optimiser states are not allocated yet
MAX_CHUNK_SIZE = 32  # larger chunks are not faster, because every input is padded to the longest one


def choose_chunk_size(vlm: VLM, sample: Sequence[LazyInput], count: int) -> tuple[int, bool]:
    """Choose the chunks of a training step with `count` inputs that are like those of `sample`.

    Return the inputs of a chunk, and whether GradCache must run the chunks twice because the activations of all of them do
    not fit into memory. The state of torch's random generator stays the same.
    """
    with torch.random.fork_rng(devices=[]):
        batch = vlm.prepare_batch(
            [lazy_input.open_parts() for lazy_input in sample], [lazy_input.instruction for lazy_input in sample]
        )
        bytes_per_input = gradcache.measure_activation_bytes(vlm.compute_features, batch) / len(sample)
    budget = MEMORY_SHARE * measure_free_memory(vlm.device)
    if bytes_per_input * count <= budget:
        return MAX_CHUNK_SIZE, False
    inputs_in_budget = max(1, int(budget // max(bytes_per_input, 1)))
    largest_power_of_two = 1 << (inputs_in_budget.bit_length() - 1)
    return min(MAX_CHUNK_SIZE, largest_power_of_two), True


def measure_free_memory(device: torch.device) -> int:
    """Return the free memory in bytes: of a CUDA device, or of the machine for any other device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)

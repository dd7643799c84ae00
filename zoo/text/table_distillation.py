"""Distil a token table of the product quantiser: its words learn to give the float model's vectors, its codes stay.

The target is the vector itself, so texts need no labels. Codes that stay and words that are trained on the task are the second
half of Zhu, Zhou and Zhong, "Learning Low-Rank Representations for Model Compression", arXiv 2211.11397, section 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from zoo.text.coded_table import CodedEmbedding
from zoo.text.text_encoder import TextEncoder

BATCH = 16
RATE = 5e-4
"""Learning rate of Adam. It falls to 0 as a half cosine. Higher rates undo what k-means has found."""


def distil(
    teacher: TextEncoder,
    student: TextEncoder,
    table: CodedEmbedding,
    texts: Sequence[str],
    *,
    steps: int,
    rate: float = RATE,
    seed: int = 42,
) -> None:
    """Train the words of `table`, which `student` uses, for 1 - cosine to the vectors of `teacher`.

    Every other weight stays as it is. At the end, the words are rounded to float16, as they are stored.

    Args:
        teacher: the encoder with the float table.
        student: the same encoder with the coded table.
        table: the table, whose codec is pq.
        texts: unlabelled texts; they are drawn in rounds, each of them once in a round.
        steps: optimiser steps of BATCH texts.
        rate: the highest learning rate.
        seed: of the order of the texts.
    """
    generator = np.random.default_rng(seed)
    rounds = -(-steps * BATCH // len(texts))
    order = np.concatenate([generator.permutation(len(texts)) for _ in range(rounds)])[: steps * BATCH]
    drawn = [texts[number] for number in order]
    targets = torch.from_numpy(np.asarray(teacher.encode(drawn), np.float32))
    module = student._make_engine().module.eval()
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in parameters:  # gradients of the network would be computed and thrown away
        parameter.requires_grad_(False)
    words = table.get_buffer("words").float().requires_grad_()
    table.words = words
    optimizer = torch.optim.Adam([words], lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    try:
        for start in range(0, len(drawn), BATCH):
            ids = student.list_token_ids(drawn[start : start + BATCH])
            loss = _compute_loss(module, student.backbone.pad(ids), targets[start : start + BATCH].to(words.device))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    finally:
        table.words = words.detach().half()
        for parameter in parameters:
            parameter.requires_grad_(True)


def _compute_loss(module: Any, batch: dict[str, torch.Tensor], targets: torch.Tensor) -> torch.Tensor:
    vectors = module({name: values.to(targets.device) for name, values in batch.items()})
    return 1 - torch.nn.functional.cosine_similarity(vectors, targets).mean()

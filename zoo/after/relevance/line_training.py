"""The training of the networks of `zoo.after.relevance.lines`.

The networks start at zero, so that all queries begin with one common line, which is the calibrated baseline. Each network leaves
out a fold of the queries. Its own early stop is judged there, and so are the predictions from which the cut-off is chosen.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from zoo.after.relevance.lines import FOLDS, HIDDEN, Floats, Lines

EPOCHS = 30
BATCH_SIZE = 64
MAX_STEPS = 4000
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.02
DROPOUT = 0.2


class _Trainer(torch.nn.Module):
    """All networks at once."""

    def __init__(self, width: int, features: int, slope: float, offset: float) -> None:
        super().__init__()

        def make(*shape: int) -> torch.nn.Parameter:
            return torch.nn.Parameter(torch.zeros(FOLDS, *shape))

        inputs = width + features
        self.skip, self.outer = make(features, 2), make(HIDDEN, 2)
        self.inner, self.inner_bias = make(inputs, HIDDEN), make(1, HIDDEN)
        torch.nn.init.normal_(self.inner, std=inputs**-0.5)
        start = torch.tensor([np.log(np.expm1(slope)) if slope < 30 else slope, offset], dtype=torch.float32)
        self.common = torch.nn.Parameter(start.expand(FOLDS, 1, 2).clone())

    def forward(self, inputs: torch.Tensor, width: int, evidence: torch.Tensor) -> torch.Tensor:
        """Return log-odds (FOLDS, n, k)."""
        hidden = functional.dropout(functional.relu(inputs @ self.inner + self.inner_bias), DROPOUT, self.training)
        output = inputs[:, width:] @ self.skip + hidden @ self.outer + self.common
        return functional.softplus(output[..., :1]) * evidence + output[..., 1:]


def fit_lines(
    whitened: Floats,
    features: Floats,
    evidence: Floats,
    labels: npt.NDArray[np.bool_],
    folds: npt.NDArray[np.int64],
    line: tuple[float, float],
    seed: int,
) -> Lines:
    """Fit the networks by binary cross-entropy on lists.

    Args:
        whitened: (n, w) whitened queries.
        features: (n, f) standardised features.
        evidence: (n, k) the baseline that is mapped.
        labels: (n, k) whether a row answers its query.
        folds: (n,) the network that leaves a query out.
        line: slope > 0 and offset of the common line.
        seed: the seed of first weights, order and dropout.
    """
    inputs = torch.from_numpy(np.concatenate([whitened, features], axis=1).astype(np.float32))
    scores, answers = (torch.from_numpy(array.astype(np.float32)) for array in (evidence, labels))
    number = torch.from_numpy(folds)
    width, count = whitened.shape[1], len(inputs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        trainer = _Trainer(width, features.shape[1], *line)
        optimizer = torch.optim.AdamW(trainer.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        batches = -(-count // BATCH_SIZE)
        epochs = max(1, min(EPOCHS, MAX_STEPS // batches))
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=epochs * batches)
        best = _Best(trainer)
        best.update(_compute_losses(trainer, inputs, width, scores, answers, number))
        for _ in range(epochs):
            trainer.train()
            for rows in torch.split(torch.randperm(count), BATCH_SIZE):
                losses = functional.binary_cross_entropy_with_logits(
                    trainer(inputs[rows], width, scores[rows]), answers[rows].expand(FOLDS, -1, -1), reduction="none"
                )
                is_used = (number[rows] != torch.arange(FOLDS)[:, None]).float()
                optimizer.zero_grad()
                torch.autograd.backward((losses.mean(2) * is_used).sum() / len(rows))
                optimizer.step()
                schedule.step()
            best.update(_compute_losses(trainer, inputs, width, scores, answers, number))
    return Lines(**{name: best.weights[name].numpy() for name in Lines.NAMES})


class _Best:
    """The weights of each network at its lowest loss on its own fold."""

    def __init__(self, trainer: _Trainer) -> None:
        self._trainer = trainer
        self._losses = torch.full((FOLDS,), torch.inf)
        self.weights = {name: value.detach().clone() for name, value in trainer.named_parameters()}

    def update(self, losses: torch.Tensor) -> None:
        """Take the present weights of the networks whose loss fell."""
        is_lower = losses < self._losses
        self._losses = torch.where(is_lower, losses, self._losses)
        for name, value in self._trainer.named_parameters():
            self.weights[name][is_lower] = value.detach()[is_lower]


def _compute_losses(
    trainer: _Trainer,
    inputs: torch.Tensor,
    width: int,
    scores: torch.Tensor,
    answers: torch.Tensor,
    number: torch.Tensor,
) -> torch.Tensor:
    """Return the mean loss (FOLDS,) of each network on the fold that it leaves out."""
    trainer.eval()
    losses = torch.zeros(FOLDS)
    with torch.no_grad():
        for fold in range(FOLDS):
            rows = (number == fold).nonzero()[:, 0]
            logits = trainer(inputs[rows], width, scores[rows])[fold]
            losses[fold] = functional.binary_cross_entropy_with_logits(logits, answers[rows])
    return losses

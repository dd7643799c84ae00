"""The gradient of negative sampling with noise words that a whole batch shares, and the inputs it is applied to.

Source: Mikolov et al., "Distributed Representations of Words and Phrases", arXiv 1310.4546, equation 4. Its k negatives of
each pair are here N words drawn once for the batch, each weighted k/N: the same expectation, and matrix products instead
of scattered rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.core.lazy import lazy

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch")


Bias = tuple["torch.Tensor", "torch.Tensor"]


def loss(
    inputs: torch.Tensor, targets: torch.Tensor, noise: torch.Tensor, pairs: torch.Tensor, share: float, bias: Bias
) -> torch.Tensor:
    """Scalar -sum pairs log s(x.o + b) - share sum_n log s(-x.n - b), the noise once a pair; arguments as in `gradients`."""
    log = torch.nn.functional.logsigmoid
    against = log(-inputs @ noise.T - bias[1]).sum(-1) * pairs.sum(-1) * share
    return -(log(inputs @ targets.mT + bias[0][:, None, :]) * pairs).sum() - against.sum()


def gradients(
    inputs: torch.Tensor, targets: torch.Tensor, noise: torch.Tensor, pairs: torch.Tensor, share: float, bias: Bias
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The negative gradients of `loss` with respect to inputs, targets and noise, in their shapes.

    Args:
        inputs: (M, I, d) vectors that predict.
        targets: (M, K, d) output vectors of the words of each chunk.
        noise: (N, d) output vectors of the noise words.
        pairs: (M, I, K), 1 where the input predicts the word, 0 elsewhere.
        share: k / N, the weight of one noise word.
        bias: constants of the targets (M, K) and of the noise (N,).
    """
    positive = pairs * torch.sigmoid(-(inputs @ targets.mT) - bias[0][:, None, :])
    flat = inputs.flatten(0, 1)
    negative = torch.sigmoid(flat @ noise.T + bias[1]) * (pairs.sum(-1).view(-1, 1) * -share)
    towards = torch.bmm(positive, targets)
    towards.view_as(flat).addmm_(negative, noise)
    return towards, torch.bmm(positive.mT, inputs), negative.T @ flat


def window(words: torch.Tensor, reach: torch.Tensor) -> torch.Tensor:
    """(M, K, K) float: 1 where the word in the row sees that in the column, at most `reach` (M, K) places away and not
    itself. `words` is (M, K), -1 where a chunk has no more."""
    places = torch.arange(words.shape[1], device=words.device)
    apart = (places[:, None] - places[None, :]).abs()
    near = (apart <= reach[:, :, None]) & (apart > 0)
    there = words >= 0
    return (near & there[:, None, :] & there[:, :, None]).float()

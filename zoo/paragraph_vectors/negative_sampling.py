"""Loss and gradients of negative sampling with noise words that a whole batch shares.

Source: Mikolov et al., "Distributed Representations of Words and Phrases", arXiv 1310.4546, equation 4. The paper draws k
noise words for each pair. Here N noise words are drawn once for the batch, each with weight k/N: the expectation is the
same, and matrix products replace scattered rows.
"""

from __future__ import annotations

import torch

Bias = tuple[torch.Tensor, torch.Tensor]


def compute_loss(
    inputs: torch.Tensor,
    targets: torch.Tensor,
    noise: torch.Tensor,
    pairs: torch.Tensor,
    noise_weight: float,
    bias: Bias,
) -> torch.Tensor:
    """Compute the scalar loss -sum over pairs of [log s(x.o + b) + noise_weight sum_n log s(-x.n - b)].

    Arguments are those of `compute_gradients`.
    """
    log_sigmoid = torch.nn.functional.logsigmoid
    noise_terms = log_sigmoid(-inputs @ noise.T - bias[1]).sum(-1) * pairs.sum(-1) * noise_weight
    return -(log_sigmoid(inputs @ targets.mT + bias[0][:, None, :]) * pairs).sum() - noise_terms.sum()


def compute_gradients(
    inputs: torch.Tensor,
    targets: torch.Tensor,
    noise: torch.Tensor,
    pairs: torch.Tensor,
    noise_weight: float,
    bias: Bias,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute the negative gradients of `compute_loss` for inputs, targets and noise, each in its own shape.

    Args:
        inputs: (M, I, d) vectors that predict.
        targets: (M, K, d) output vectors of the words of each chunk.
        noise: (N, d) output vectors of the noise words.
        pairs: (M, I, K), 1 if the input predicts the word, else 0.
        noise_weight: k / N, the weight of one noise word.
        bias: constants of the targets (M, K) and of the noise (N,).
    """
    positive = pairs * torch.sigmoid(-(inputs @ targets.mT) - bias[0][:, None, :])
    flat_inputs = inputs.flatten(0, 1)
    negative = torch.sigmoid(flat_inputs @ noise.T + bias[1]) * (pairs.sum(-1).view(-1, 1) * -noise_weight)
    input_gradients = torch.bmm(positive, targets)
    input_gradients.view_as(flat_inputs).addmm_(negative, noise)
    return input_gradients, torch.bmm(positive.mT, inputs), negative.T @ flat_inputs


def compute_window_mask(chunks: torch.Tensor, reach: torch.Tensor) -> torch.Tensor:
    """Compute which words of a chunk see each other: (M, K, K) float, 1 if the word of the row sees that of the column.

    A word sees the others at most `reach` (M, K) places away. `chunks` is (M, K), padded with -1.
    """
    places = torch.arange(chunks.shape[1], device=chunks.device)
    distance = (places[:, None] - places[None, :]).abs()
    is_near = (distance <= reach[:, :, None]) & (distance > 0)
    is_word = chunks >= 0
    return (is_near & is_word[:, None, :] & is_word[:, :, None]).float()

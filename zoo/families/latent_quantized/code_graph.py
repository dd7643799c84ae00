"""`CodeGraph`: what an autoencoder computes from inputs to codes, as one module that can be exported."""

from __future__ import annotations

from typing import Any

import torch


class CodeGraph(torch.nn.Module):
    """Raw pixels or vectors to codes (batch, latents) int64, or to float32 latents.

    Args:
        network: the encoder network.
        bottleneck: one of `quantizers`.
        mean, scale: by which vectors are standardised; None for pixels, which are divided by 255.
        is_discrete: whether latents are indices.
        looks_up: whether the values of the indices are returned.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        bottleneck: Any,
        mean: torch.Tensor | None,
        scale: torch.Tensor | None,
        *,
        is_discrete: bool,
        looks_up: bool,
    ) -> None:
        super().__init__()
        self.network, self.bottleneck = network, bottleneck
        self.mean: Any = mean
        self.scale: Any = scale
        self.is_discrete, self.looks_up = is_discrete, looks_up

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the codes, or the values."""
        is_standardised = self.mean is not None and self.scale is not None
        values = (inputs - self.mean) / self.scale if is_standardised else inputs.float() / 255
        outputs = self.network(values).float()
        if not self.is_discrete:
            latents: torch.Tensor = self.bottleneck.take_mean(outputs)
            return latents
        codes: torch.Tensor = self.bottleneck.find_nearest(outputs)
        return self.bottleneck.look_up(codes).float() if self.looks_up else codes

"""A small residual network for images, and the wrappers around any image network.

Source of the blocks: He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385, sections 3.3 and 4.2.
The names of attributes are part of the tensor names in model folders.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn


class NormalizedInput(nn.Module):
    """Scales pixels to mean 0 and standard deviation 1 by channel, then applies `body`."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, body: nn.Module, channels: int) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("std", torch.ones(1, channels, 1, 1))

    def set_statistics(self, mean: Any, std: Any) -> None:
        """Set mean and standard deviation by channel, in units of 255, from a pretrained model's config.

        A value that is not a list with one number per channel is ignored.
        """
        for buffer, values in ((self.mean, mean), (self.std, std)):
            if isinstance(values, list | tuple) and len(values) == buffer.numel():
                buffer.copy_(torch.tensor(values, dtype=torch.float32).view_as(buffer))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (n, channels, h, w) of 0 to 255, uint8 or float, to features (n, width) float."""
        scaled = (pixels.float() / 255 - self.mean) / self.std
        features: torch.Tensor = self.body(scaled.contiguous(memory_format=torch.channels_last))
        return features


class MeanPooling(nn.Module):
    """Averages the last hidden states of a vision model of transformers over its patches or pixels."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    @property
    def config(self) -> Any:
        """The model's config."""
        return self.model.config

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, channels, h, w) to (n, width)."""
        states: torch.Tensor = self.model(pixel_values=pixels).last_hidden_state
        return states.mean((2, 3)) if states.ndim == 4 else states.mean(1)


class ResidualBlock(nn.Module):
    """Two 3 × 3 convolutions with a shortcut around them; halves the side if `stride` is 2."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(out_channels)
        self.second = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(out_channels)
        self.past: nn.Module = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            self.past = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, in_channels, h, w) to (n, out_channels, h / stride, w / stride)."""
        inner = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(self.past(x) + self.second_norm(self.second(inner)))


def build_resnet(channels: int, width: int, blocks: Sequence[int]) -> nn.Sequential:
    """Build a residual network from (n, channels, h, w) float to (n, width · 2^(stages - 1)).

    It consists of a convolution, `blocks[i]` residual blocks in stage i, and the mean over all pixels. The weights start as
    PyTorch draws them, from its global generator: other starts were worse in short trainings (docs/measured/defaults-images.md).
    """
    widths = [width, *(width << i for i in range(len(blocks)))]
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    for stage, (count, (in_channels, out_channels)) in enumerate(zip(blocks, pairwise(widths), strict=True)):
        layers.append(ResidualBlock(in_channels, out_channels, 2 if stage else 1))
        layers += [ResidualBlock(out_channels, out_channels, 1) for _ in range(count - 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())

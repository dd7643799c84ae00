"""A small residual network for images, and what stands around any image backbone.

Source of the blocks: He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385, sections 3.3 and 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn


class Scaled(nn.Module):
    """Pixels of 0 to 255, uint8 or float (n, channels, h, w), to the features of `body`, which sees mean 0 and spread 1."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, body: nn.Module, channels: int) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("std", torch.ones(1, channels, 1, 1))

    def scale(self, mean: Any, std: Any) -> None:
        """Take mean and spread by channel, in units of 255, from a pretrained model's own settings, where it has some."""
        for buffer, given in ((self.mean, mean), (self.std, std)):
            if isinstance(given, list | tuple) and len(given) == buffer.numel():
                buffer.copy_(torch.tensor(given, dtype=torch.float32).view_as(buffer))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, width) float."""
        scaled = (pixels.float() / 255 - self.mean) / self.std
        return self.body(scaled.contiguous(memory_format=torch.channels_last))


class Pooled(nn.Module):
    """A vision model of transformers, (n, channels, h, w) to the mean (n, width) of its last states, over patches or places."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    @property
    def config(self) -> Any:
        """The model's own."""
        return self.model.config

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, width)."""
        states = self.model(pixel_values=pixels).last_hidden_state
        return states.mean((2, 3)) if states.ndim == 4 else states.mean(1)


class Residual(nn.Module):
    """Two convolutions of 3 × 3 around which the input goes on; halves the side where `stride` is 2."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outside)
        self.second = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outside)
        nn.init.zeros_(self.second_norm.weight)  # every block begins as the identity
        self.past: nn.Module = nn.Identity()
        if stride > 1 or inside != outside:
            self.past = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, outside, h / stride, w / stride)."""
        inner = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(self.past(x) + self.second_norm(self.second(inner)))


def network(channels: int, width: int, blocks: Sequence[int]) -> nn.Sequential:
    """(n, channels, h, w) float to (n, width · 2^(stages - 1)): a convolution, `blocks[i]` residual blocks in stage i, the mean
    over all places. Weights are drawn from torch's generator."""
    widths = [width, *(width << i for i in range(len(blocks)))]
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    for stage, (count, (inside, outside)) in enumerate(zip(blocks, pairwise(widths), strict=True)):
        layers.append(Residual(inside, outside, 2 if stage else 1))
        layers += [Residual(outside, outside, 1) for _ in range(count - 1)]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
    return net

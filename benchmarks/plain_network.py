"""A small residual network with a softmax head in plain PyTorch: what a user writes in thirty lines instead of a recipe.

The layers are those of zoo's `build: resnet` of width 16 with three stages. Weights start as PyTorch draws them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn


class Block(nn.Module):
    """Two 3 × 3 convolutions around a shortcut, written without zoo."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inner, outer, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outer),
            nn.ReLU(),
            nn.Conv2d(outer, outer, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outer),
        )
        self.past: nn.Module = nn.Identity()
        if inner != outer:
            self.past = nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.past(x) + self.body(x))


def move_images(images: torch.Tensor, crop: int, flip: bool) -> torch.Tensor:
    """Shift each image of (n, channels, side, side) by up to `crop` pixels, and mirror half of them if `flip`."""
    side = images.shape[-1]
    padded = nn.functional.pad(images, (crop,) * 4)
    corners = torch.randint(0, 2 * crop + 1, (len(images), 2)).tolist()
    moved = [image[:, a : a + side, b : b + side] for image, (a, b) in zip(padded, corners, strict=True)]
    if flip:
        is_mirrored = (torch.rand(len(moved)) < 0.5).tolist()
        moved = [image.flip(-1) if mirror else image for image, mirror in zip(moved, is_mirrored, strict=True)]
    return torch.stack(moved)


def train_plain_network(
    x: torch.Tensor,
    y: torch.Tensor,
    tests: torch.Tensor,
    epochs: float,
    seed: int,
    *,
    batch: int = 64,
    crop: int = 0,
    flip: bool = False,
    weight_decay: float = 0.01,
) -> np.ndarray:
    """Train on images (n, channels, side, side) uint8 and labels (n,) int64. Returns the logits (m, classes) of `tests`."""
    torch.manual_seed(seed)
    x, tests = x.float() / 255, tests.float() / 255
    mean, std = x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), keepdim=True)
    x, tests = ((part - mean) / std for part in (x, tests))
    network = nn.Sequential(
        nn.Conv2d(x.shape[1], 16, 3, 1, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        *(Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, int(y.max()) + 1),
    ).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=weight_decay)
    steps = round(epochs) * (len(x) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(round(epochs)):
        for chosen in torch.randperm(len(x))[: len(x) // batch * batch].view(-1, batch):
            images = move_images(x[chosen], crop, flip) if crop or flip else x[chosen]
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = nn.functional.cross_entropy(network(images).float(), y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()
    with torch.inference_mode():
        logits: np.ndarray = torch.cat([network(part) for part in tests.split(256)]).numpy()
    return logits

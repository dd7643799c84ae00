"""Random changes of training images, as tensor operations that draw from a generator: the same draws on every process.

Sources: crops and flips as in He et al., arXiv 1512.03385, section 4.2; mixup: Zhang et al., arXiv 1710.09412; CutMix: Yun et
al., arXiv 1905.04899.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

Mixed = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Images, where the partner of each stands in the batch, and the share (n,) that is its own."""


def changed(
    pixels: torch.Tensor, seed: int, *, crop: int, flip: bool, mixup: float, cutmix: float
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """Images (n, c, h, w) of 0 to 255 moved, turned and mixed as `seed` draws, as float, with partners and shares where mixed."""
    draw = torch.Generator().manual_seed(seed)
    images = moved(pixels.float(), crop, draw)
    return mixed(flipped(images, draw) if flip else images, mixup, cutmix, draw)


def moved(images: torch.Tensor, margin: int, draw: torch.Generator) -> torch.Tensor:
    """Each of (n, c, h, w) float moved by up to `margin` pixels each way; its edge goes on into what was outside."""
    if not margin:
        return images
    n, _, height, width = images.shape
    down, right = (torch.randint(2 * margin + 1, (n, 1), generator=draw).to(images.device) for _ in range(2))
    around = F.pad(images, (margin, margin, margin, margin), mode="replicate")
    rows = down + torch.arange(height, device=images.device)
    columns = right + torch.arange(width, device=images.device)
    every = torch.arange(n, device=images.device)[:, None, None]
    return around.permute(0, 2, 3, 1)[every, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def flipped(images: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """Half of the images (n, c, h, w), drawn, with left and right exchanged."""
    turned = (torch.rand(len(images), generator=draw) < 0.5).to(images.device)
    return torch.where(turned[:, None, None, None], images.flip(3), images)


def mixed(
    images: torch.Tensor, blend: float, paste: float, draw: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """One of `blended` with alpha `blend` and `pasted` with alpha `paste`, drawn where neither is 0; none where both are."""
    ways = [(way, alpha) for way, alpha in ((blended, blend), (pasted, paste)) if alpha]
    if not ways:
        return images, None, None
    way, alpha = ways[int(torch.randint(len(ways), (1,), generator=draw))]
    return way(images, alpha, draw)


def blended(images: torch.Tensor, alpha: float, draw: torch.Generator) -> Mixed:
    """Each image (n, c, h, w) float blended with another of the batch, its own share drawn from Beta(alpha, alpha)."""
    partner, share = _partner(len(images), images.device, draw), _beta(alpha, draw)
    return (
        share * images + (1 - share) * images[partner],
        partner,
        torch.full((len(images),), share, device=images.device),
    )


def pasted(images: torch.Tensor, alpha: float, draw: torch.Generator) -> Mixed:
    """A rectangle of each image (n, c, h, w) replaced by that of another; the share that is kept, drawn from
    Beta(alpha, alpha), is afterwards what the rectangle, cut at the borders, left."""
    height, width = images.shape[2:]
    partner, side = _partner(len(images), images.device, draw), (1 - _beta(alpha, draw)) ** 0.5
    middle = torch.rand(2, generator=draw)
    top, bottom = _span(float(middle[0]), side, height)
    left, right = _span(float(middle[1]), side, width)
    out = images.clone()
    out[:, :, top:bottom, left:right] = images[partner][:, :, top:bottom, left:right]
    kept = 1 - (bottom - top) * (right - left) / (height * width)
    return out, partner, torch.full((len(images),), kept, device=images.device)


def _partner(count: int, device: torch.device, draw: torch.Generator) -> torch.Tensor:
    return torch.randperm(count, generator=draw).to(device)


def _beta(alpha: float, draw: torch.Generator) -> float:
    """From Beta(alpha, alpha): torch has none that takes a generator."""
    import numpy as np

    seed = int(torch.randint(2**31 - 1, (1,), generator=draw))
    return float(np.random.default_rng(seed).beta(alpha, alpha))


def _span(middle: float, side: float, length: int) -> tuple[int, int]:
    half = round(side * length) // 2
    at = int(middle * length)
    return max(0, at - half), min(length, at + half)

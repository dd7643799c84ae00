"""Random augmentation of training images. All draws come from a generator, so every process makes the same ones.

Sources: crops and flips as in He et al., arXiv 1512.03385, section 4.2; mixup: Zhang et al., arXiv 1710.09412; CutMix: Yun et
al., arXiv 1905.04899.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

MixedBatch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Images (n, c, h, w); the position (n,) of each image's partner in the batch; the weight (n,) of the image itself."""


def augment(
    pixels: torch.Tensor, seed: int, *, crop: int, flip: bool, mixup: float, cutmix: float
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """Shift, mirror and mix images (n, c, h, w) of 0 to 255, as `seed` draws.

    The arguments are the fields of the recipe with the same names. Returns float images, and the partners (n,) and weights
    (n,) of `MixedBatch`; both are None if the images were not mixed.
    """
    generator = torch.Generator().manual_seed(seed)
    images = apply_crop(pixels.float(), crop, generator)
    if flip:
        images = apply_flip(images, generator)
    return mix_images(images, mixup, cutmix, generator)


def apply_crop(images: torch.Tensor, margin: int, generator: torch.Generator) -> torch.Tensor:
    """Shift each of (n, c, h, w) float images by up to `margin` pixels in both directions. Edge pixels fill the gap."""
    if not margin:
        return images
    n, _, height, width = images.shape
    down, right = (torch.randint(2 * margin + 1, (n, 1), generator=generator).to(images.device) for _ in range(2))
    padded = F.pad(images, (margin, margin, margin, margin), mode="replicate")
    rows = down + torch.arange(height, device=images.device)
    columns = right + torch.arange(width, device=images.device)
    numbers = torch.arange(n, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[numbers, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def apply_flip(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mirror about half of the images (n, c, h, w), left to right."""
    is_flipped = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)
    return torch.where(is_flipped[:, None, None, None], images.flip(3), images)


def mix_images(
    images: torch.Tensor, mixup: float, cutmix: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """Apply mixup or CutMix with these alphas. An alpha of 0 turns a method off; of two methods, one is drawn."""
    methods = [(method, alpha) for method, alpha in ((apply_mixup, mixup), (apply_cutmix, cutmix)) if alpha]
    if not methods:
        return images, None, None
    method, alpha = methods[int(torch.randint(len(methods), (1,), generator=generator))]
    return method(images, alpha, generator)


def apply_mixup(images: torch.Tensor, alpha: float, generator: torch.Generator) -> MixedBatch:
    """Blend each image (n, c, h, w) float with another of the batch. Its own weight is drawn from Beta(alpha, alpha)."""
    partners, weight = _draw_partners(len(images), images.device, generator), _draw_beta(alpha, generator)
    blended = weight * images + (1 - weight) * images[partners]
    return blended, partners, torch.full((len(images),), weight, device=images.device)


def apply_cutmix(images: torch.Tensor, alpha: float, generator: torch.Generator) -> MixedBatch:
    """Replace a rectangle of each image (n, c, h, w) by that of another image.

    The weight of an image is drawn from Beta(alpha, alpha). The weight that is returned is the share of pixels that the
    rectangle leaves, because the image's borders may cut the rectangle.
    """
    height, width = images.shape[2:]
    partners, side = _draw_partners(len(images), images.device, generator), (1 - _draw_beta(alpha, generator)) ** 0.5
    middle = torch.rand(2, generator=generator)
    top, bottom = _span(float(middle[0]), side, height)
    left, right = _span(float(middle[1]), side, width)
    pasted = images.clone()
    pasted[:, :, top:bottom, left:right] = images[partners][:, :, top:bottom, left:right]
    weight = 1 - (bottom - top) * (right - left) / (height * width)
    return pasted, partners, torch.full((len(images),), weight, device=images.device)


def _draw_partners(count: int, device: torch.device, generator: torch.Generator) -> torch.Tensor:
    return torch.randperm(count, generator=generator).to(device)


def _draw_beta(alpha: float, generator: torch.Generator) -> float:
    """Draw from Beta(alpha, alpha) with numpy, because torch's Beta takes no generator."""
    seed = int(torch.randint(2**31 - 1, (1,), generator=generator))
    return float(np.random.default_rng(seed).beta(alpha, alpha))


def _span(middle: float, side: float, length: int) -> tuple[int, int]:
    """Return start and stop of an interval of about `side` · `length` pixels around `middle` · `length`, cut at the border."""
    half = round(side * length) // 2
    centre = int(middle * length)
    return max(0, centre - half), min(length, centre + half)

"""Encoders and decoders: convolutional ones of images, dense ones of vectors; after Hsu et al., arXiv 2305.18378, appendix B."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import nn

from zoo.families.latent_quantized import quantizers
from zoo.families.latent_quantized.spec import Network, Spec


def autoencoder(spec: Spec, components: int | None = None) -> nn.ModuleDict:
    """`encoder`, `latent` and `decoder`, drawn from torch's generator, of images or of vectors of so many components; and the
    buffers `low` and `high` (what the decoder takes,), of vectors `mean` (components,) and `scale` ()."""
    between = _latent(spec)
    out = nn.ModuleDict({"latent": between})
    if spec.modality == "image":
        out["encoder"] = image_encoder(spec.layers, spec.channels, spec.size, between.inputs)
        out["decoder"] = image_decoder(spec.layers, spec.channels, spec.size, between.outputs)
    else:
        assert components is not None  # told by the data, or by the folder
        out["encoder"] = dense((components, *spec.layers.dense), between.inputs)
        out["decoder"] = dense((between.outputs, *reversed(spec.layers.dense)), components)
        out.register_buffer("mean", torch.zeros(components))
        out.register_buffer("scale", torch.ones(()))
    out.register_buffer("low", torch.full((between.outputs,), -0.5))
    out.register_buffer("high", torch.full((between.outputs,), 0.5))
    return out


def _latent(
    spec: Spec,
) -> quantizers.ScalarQuantizer | quantizers.VectorQuantizer | quantizers.Gaussian | quantizers.Identity:
    if spec.latent == "quantized":
        return quantizers.ScalarQuantizer(spec.sizes)
    if spec.latent == "vector":
        return quantizers.VectorQuantizer(spec.latents, spec.vectors, spec.vector_dim)
    return quantizers.Gaussian(spec.latents) if spec.latent == "gaussian" else quantizers.Identity(spec.latents)


def image_encoder(net: Network, channels: int, size: int, out: int) -> nn.Module:
    """From (n, channels, size, size) of 0 to 1 to (n, out). `size` must be a multiple of `net.shrinks`."""
    layers: list[nn.Module] = [_patches(net, channels)] if net.patch > 1 else []
    width = net.widths[0] if net.patch > 1 else channels
    for wide in net.widths:
        for k in range(net.blocks):
            halves = k == net.blocks - 1
            layers += [nn.Conv2d(width, wide, 4, 2, 1) if halves else nn.Conv2d(width, wide, 3, 1, 1)]
            layers += _after(net, wide)
            width = wide
    side = size // net.shrinks
    return nn.Sequential(*layers, nn.Flatten(), dense((width * side**2, *net.dense), out))


def image_decoder(net: Network, channels: int, size: int, given: int) -> nn.Module:
    """From (n, given) to logits (n, channels, size, size)."""
    side, widest = size // net.shrinks, net.widths[-1]
    if net.decoder == "style":
        return Styled(net, channels, side, given)
    layers: list[nn.Module] = [dense((given, *reversed(net.dense)), widest * side**2), nn.ReLU()]
    layers += [_Maps(1, (widest, side, side))]
    for convolution, wide in _growing(net, widest):
        layers += [convolution, *_after(net, wide)]
    return nn.Sequential(*layers, _last(net, channels))


class _Maps(nn.Unflatten):
    """In the layout in which convolutions are fast."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).contiguous(memory_format=torch.channels_last)


class Styled(nn.Module):
    """A learned map that blocks of convolutions enlarge; what the latents do is to set gain and offset of every channel after
    its normalisation (Karras et al., arXiv 1812.04948, as Nie et al., arXiv 2003.03461, use it)."""

    def __init__(self, net: Network, channels: int, side: int, given: int) -> None:
        super().__init__()
        widest = net.widths[-1]
        self.start = nn.Parameter(torch.full((1, widest, side, side), 0.1))
        self.style = dense((given, *net.dense[:-1]), net.dense[-1]) if net.dense else nn.Identity()
        width = net.dense[-1] if net.dense else given
        growing = list(_growing(net, widest))
        self.blocks = nn.ModuleList(convolution for convolution, _ in growing)
        self.styles = nn.ModuleList(nn.Linear(width, 2 * wide) for _, wide in growing)
        self.last = _last(net, channels)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        style = torch.relu(self.style(latents))
        x = self.start.expand(len(latents), -1, -1, -1)
        for block, to_style in zip(self.blocks, self.styles, strict=True):
            gain, offset = to_style(style)[..., None, None].chunk(2, dim=1)
            x = nn.functional.instance_norm(nn.functional.leaky_relu(block(x), 0.01), eps=1e-6) * gain + offset
        return self.last(x)


def dense(widths: Sequence[int], out: int) -> nn.Sequential:
    """Linear layers with ReLU between them; none after the last one."""
    sizes = [*widths, out]
    layers: list[nn.Module] = []
    for k, (a, b) in enumerate(itertools.pairwise(sizes)):
        layers += [nn.Linear(a, b)] if k == len(sizes) - 2 else [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers)


def _patches(net: Network, channels: int) -> nn.Module:
    # a convolution as wide as its stride, but faster
    cut = nn.PixelUnshuffle(net.patch)
    return nn.Sequential(cut, nn.Conv2d(channels * net.patch**2, net.widths[0], 1), nn.LeakyReLU(0.01))


def _growing(net: Network, width: int) -> list[tuple[nn.Module, int]]:
    """The convolutions of a decoder and the channels that each puts out."""
    out: list[tuple[nn.Module, int]] = []
    narrower = [*reversed(net.widths[:-1]), net.widths[0]]
    for wide, following in zip(reversed(net.widths), narrower, strict=True):
        for k in range(net.blocks):
            doubles = k == net.blocks - 1
            to = following if doubles and net.blocks == 1 else wide
            out.append((nn.ConvTranspose2d(width, to, 4, 2, 1) if doubles else nn.Conv2d(width, to, 3, 1, 1), to))
            width = to
    return out


def _last(net: Network, channels: int) -> nn.Module:
    if net.patch > 1:
        return nn.Sequential(nn.Conv2d(net.widths[0], channels * net.patch**2, 1), nn.PixelShuffle(net.patch))
    return nn.Conv2d(net.widths[0], channels, 3, 1, 1)


def _after(net: Network, width: int) -> list[nn.Module]:
    """What follows a convolution."""
    norm: list[nn.Module] = [nn.InstanceNorm2d(width, affine=True)] if net.norm == "instance" else []
    return [*norm, nn.LeakyReLU(0.01)]

"""Encoder and decoder networks: convolutional for images, dense for vectors (Hsu et al., arXiv 2305.18378, appendix B)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import nn

from zoo.families.latent_quantized import quantizers
from zoo.families.latent_quantized.spec import Network, Spec

LEAK = 0.01  # negative slope of every LeakyReLU


def build_autoencoder(spec: Spec, components: int | None = None) -> nn.ModuleDict:
    """Build `encoder`, `latent` and `decoder` with weights from torch's global generator.

    The result has the buffers `low` and `high` (output_dim of the bottleneck,): the range of each latent. For vectors it also
    has `mean` (components,) and `scale` (): the training rows' mean and spread.

    Args:
        components: components of an input vector; only for `modality: vector`.
    """
    bottleneck = _build_bottleneck(spec)
    modules = nn.ModuleDict({"latent": bottleneck})
    if spec.modality == "image":
        modules["encoder"] = build_image_encoder(spec.layers, spec.channels, spec.size, bottleneck.input_dim)
        modules["decoder"] = build_image_decoder(spec.layers, spec.channels, spec.size, bottleneck.output_dim)
    else:
        assert components is not None  # the caller knows it from the data or from the model folder
        modules["encoder"] = build_dense_layers((components, *spec.layers.dense), bottleneck.input_dim)
        modules["decoder"] = build_dense_layers((bottleneck.output_dim, *reversed(spec.layers.dense)), components)
        modules.register_buffer("mean", torch.zeros(components))
        modules.register_buffer("scale", torch.ones(()))
    modules.register_buffer("low", torch.full((bottleneck.output_dim,), -0.5))
    modules.register_buffer("high", torch.full((bottleneck.output_dim,), 0.5))
    return modules


def _build_bottleneck(spec: Spec) -> quantizers.Bottleneck:
    if spec.latent == "quantized":
        return quantizers.ScalarQuantizer(spec.sizes)
    if spec.latent == "vector":
        return quantizers.VectorQuantizer(spec.latents, spec.vectors, spec.vector_dim)
    if spec.latent == "gaussian":
        return quantizers.Gaussian(spec.latents)
    return quantizers.Identity(spec.latents)


def build_image_encoder(network: Network, channels: int, size: int, output_dim: int) -> nn.Module:
    """A network from (n, channels, size, size) with values from 0 to 1 to (n, output_dim).

    `size` must be a multiple of `network.downscaling`.
    """
    layers: list[nn.Module] = []
    width = channels
    if network.patch > 1:
        layers.append(_build_patch_layer(network, channels))
        width = network.widths[0]
    for stage_width in network.widths:
        for block in range(network.blocks):
            halves_the_side = block == network.blocks - 1
            kernel, stride = (4, 2) if halves_the_side else (3, 1)
            layers.append(nn.Conv2d(width, stage_width, kernel, stride, 1))
            layers += _build_norm_and_activation(network, stage_width)
            width = stage_width
    side = size // network.downscaling
    return nn.Sequential(*layers, nn.Flatten(), build_dense_layers((width * side**2, *network.dense), output_dim))


def build_image_decoder(network: Network, channels: int, size: int, input_dim: int) -> nn.Module:
    """A network from (n, input_dim) to logits (n, channels, size, size)."""
    side, width = size // network.downscaling, network.widths[-1]
    if network.decoder == "style":
        return StyleDecoder(network, channels, side, input_dim)
    layers: list[nn.Module] = [
        build_dense_layers((input_dim, *reversed(network.dense)), width * side**2),
        nn.ReLU(),
        UnflattenChannelsLast(1, (width, side, side)),
    ]
    for convolution, out_channels in _build_upsampling(network, width):
        layers += [convolution, *_build_norm_and_activation(network, out_channels)]
    return nn.Sequential(*layers, _build_output_layer(network, channels))


class UnflattenChannelsLast(nn.Unflatten):
    """Unflatten into the channels-last memory layout, in which convolutions are fast."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).contiguous(memory_format=torch.channels_last)


class StyleDecoder(nn.Module):
    """A learned feature map that convolutions enlarge, with gains and offsets of every channel set by the latents (AdaIN).

    Source: Karras et al., arXiv 1812.04948, as used by Nie et al., arXiv 2003.03461.
    """

    def __init__(self, network: Network, channels: int, side: int, input_dim: int) -> None:
        super().__init__()
        widest = network.widths[-1]
        self.start = nn.Parameter(torch.full((1, widest, side, side), 0.1))
        style_dim = input_dim
        self.style: nn.Module = nn.Identity()
        if network.dense:
            style_dim = network.dense[-1]
            self.style = build_dense_layers((input_dim, *network.dense[:-1]), style_dim)
        upsampling = _build_upsampling(network, widest)
        self.blocks = nn.ModuleList(convolution for convolution, _ in upsampling)
        self.styles = nn.ModuleList(nn.Linear(style_dim, 2 * out_channels) for _, out_channels in upsampling)
        self.last = _build_output_layer(network, channels)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        style = torch.relu(self.style(latents))
        x = self.start.expand(len(latents), -1, -1, -1)
        for block, to_style in zip(self.blocks, self.styles, strict=True):
            gain, offset = to_style(style)[..., None, None].chunk(2, dim=1)
            x = nn.functional.instance_norm(nn.functional.leaky_relu(block(x), LEAK), eps=1e-6) * gain + offset
        logits: torch.Tensor = self.last(x)
        return logits


def build_dense_layers(widths: Sequence[int], output_dim: int) -> nn.Sequential:
    """Linear layers with ReLU between them and none after the last one."""
    layers: list[nn.Module] = []
    for in_features, out_features in itertools.pairwise([*widths, output_dim]):
        layers += [nn.Linear(in_features, out_features), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _build_patch_layer(network: Network, channels: int) -> nn.Module:
    # This equals a convolution whose kernel is as wide as its stride, but it is faster.
    patches = nn.PixelUnshuffle(network.patch)
    return nn.Sequential(patches, nn.Conv2d(channels * network.patch**2, network.widths[0], 1), nn.LeakyReLU(LEAK))


def _build_upsampling(network: Network, in_channels: int) -> list[tuple[nn.Module, int]]:
    """The convolutions of a decoder, each with its number of output channels.

    The last convolution of a stage doubles the side.
    """
    convolutions: list[tuple[nn.Module, int]] = []
    width = in_channels
    next_widths = [*reversed(network.widths[:-1]), network.widths[0]]
    for stage_width, next_width in zip(reversed(network.widths), next_widths, strict=True):
        for block in range(network.blocks):
            doubles_the_side = block == network.blocks - 1
            out_channels = next_width if doubles_the_side and network.blocks == 1 else stage_width
            convolution: nn.Module = (
                nn.ConvTranspose2d(width, out_channels, 4, 2, 1)
                if doubles_the_side
                else nn.Conv2d(width, out_channels, 3, 1, 1)
            )
            convolutions.append((convolution, out_channels))
            width = out_channels
    return convolutions


def _build_output_layer(network: Network, channels: int) -> nn.Module:
    if network.patch > 1:
        convolution = nn.Conv2d(network.widths[0], channels * network.patch**2, 1)
        return nn.Sequential(convolution, nn.PixelShuffle(network.patch))
    return nn.Conv2d(network.widths[0], channels, 3, 1, 1)


def _build_norm_and_activation(network: Network, channels: int) -> list[nn.Module]:
    norm: list[nn.Module] = [nn.InstanceNorm2d(channels, affine=True)] if network.norm == "instance" else []
    return [*norm, nn.LeakyReLU(LEAK)]

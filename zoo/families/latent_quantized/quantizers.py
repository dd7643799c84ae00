"""The bottleneck between encoder and decoder: scalars from a grid, vectors from a codebook, a Gaussian, or nothing.

Each bottleneck takes the encoder's output (n, input_dim) and returns a `Latent`: the decoder's input, and the terms that
training adds to the reconstruction error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch


class Latent(NamedTuple):
    """The result of one pass through a bottleneck.

    Attributes:
        decoder_input: (n, output_dim). A rounding passes its gradient straight through.
        codebook_loss: scalar; it moves the codewords towards the encoder's outputs that are rounded to them.
        commitment_loss: scalar; it moves the encoder's outputs towards their codewords.
        kl: (n,), KL divergence from the standard normal distribution, in nats.
    """

    decoder_input: torch.Tensor
    codebook_loss: torch.Tensor | None = None
    commitment_loss: torch.Tensor | None = None
    kl: torch.Tensor | None = None


def apply_straight_through(inputs: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
    """Return `rounded` with the gradient of `inputs` (Bengio et al., arXiv 1308.3432)."""
    return inputs + (rounded - inputs).detach()


def _build_latent(inputs: torch.Tensor, rounded: torch.Tensor) -> Latent:
    """The straight-through input of the decoder and both losses.

    Only the codebook loss gives the codewords a gradient, and only the other two terms give one to `inputs`.
    """
    codebook_loss = (inputs.detach() - rounded).square().mean()
    commitment_loss = (inputs - rounded.detach()).square().mean()
    return Latent(apply_straight_through(inputs, rounded), codebook_loss, commitment_loss)


class ScalarQuantizer(torch.nn.Module):
    """Latent quantization (Hsu et al., arXiv 2305.18378, section 3): latent j takes the nearest of its own learnable scalars.

    Attributes:
        values: a parameter (sizes[j],) for each latent, initially evenly spaced from -1/2 to 1/2.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.input_dim = self.output_dim = len(self.sizes)
        self.values = torch.nn.ParameterList(torch.linspace(-0.5, 0.5, size) for size in self.sizes)

    def build_table(self) -> torch.Tensor:
        """(latents, largest size): one row of scalars for each latent, filled up with infinity."""
        largest = max(self.sizes)
        pad = torch.nn.functional.pad
        return torch.stack([pad(scalars, (0, largest - len(scalars)), value=torch.inf) for scalars in self.values])

    def find_nearest(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, latents) int64 indices of the scalars nearest to (n, latents) inputs."""
        return (inputs.unsqueeze(-1) - self.build_table().detach()).abs().argmin(-1)

    def look_up(self, codes: torch.Tensor) -> torch.Tensor:
        """(n, latents) scalars, with their gradient, for (n, latents) int64 indices."""
        return self.build_table().gather(1, codes.T).T

    def forward(self, inputs: torch.Tensor) -> Latent:
        return _build_latent(inputs, self.look_up(self.find_nearest(inputs)))


class VectorQuantizer(torch.nn.Module):
    """Vector quantization (van den Oord et al., arXiv 1711.00937): `count` vectors take their nearest of one codebook.

    Attributes:
        codebook: a parameter (size, dim) that all latents share.
    """

    def __init__(self, count: int, size: int, dim: int) -> None:
        super().__init__()
        self.sizes = (size,) * count
        self.input_dim = self.output_dim = count * dim
        bound = (3 / dim) ** 0.5
        self.codebook = torch.nn.Parameter(torch.empty(size, dim).uniform_(-bound, bound))

    def find_nearest(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, count) int64 indices of the codewords nearest to (n, count · dim) inputs."""
        vectors = inputs.reshape(-1, self.codebook.shape[1])
        return torch.cdist(vectors, self.codebook.detach()).argmin(-1).view(-1, len(self.sizes))

    def look_up(self, codes: torch.Tensor) -> torch.Tensor:
        """(n, count · dim) concatenated codewords, with their gradient, for (n, count) int64 indices."""
        return torch.nn.functional.embedding(codes, self.codebook).flatten(1)

    def forward(self, inputs: torch.Tensor) -> Latent:
        return _build_latent(inputs, self.look_up(self.find_nearest(inputs)))


class Identity(torch.nn.Module):
    """The latents of a plain autoencoder: the encoder's outputs, unchanged."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.input_dim = self.output_dim = count

    def take_mean(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, count): the inputs themselves."""
        return inputs

    def forward(self, inputs: torch.Tensor) -> Latent:
        return Latent(inputs)


class Gaussian(torch.nn.Module):
    """A diagonal Gaussian with a standard normal prior (Kingma and Welling, arXiv 1312.6114).

    Its input (n, 2 · count) holds the means and then the log-variances.

    Attributes:
        generator: draws the noise of training; None uses torch's own generator.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.input_dim, self.output_dim = 2 * count, count
        self.generator: torch.Generator | None = None

    def take_mean(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, count): the means."""
        return inputs[:, : self.output_dim]

    def forward(self, inputs: torch.Tensor) -> Latent:
        """Return a sample in training mode, and the means in evaluation mode."""
        mean, log_variance = inputs.chunk(2, dim=1)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
        if not self.training:
            return Latent(mean, kl=kl)
        noise = torch.randn(mean.shape, generator=self.generator).to(mean)
        return Latent(mean + noise * (0.5 * log_variance).exp(), kl=kl)


Quantizer = ScalarQuantizer | VectorQuantizer
Bottleneck = Quantizer | Gaussian | Identity
